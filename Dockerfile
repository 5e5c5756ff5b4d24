# syntax=docker/dockerfile:1
# One image for all: its command says what it runs, such as "worker -A shop:app". See docs/operations.md.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY taskq taskq
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-compile '.[uvloop,dashboard]' \
    && /venv/bin/pip uninstall --yes pip

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin taskq
COPY docker/healthcheck.py /usr/local/lib/taskq/healthcheck.py
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER taskq
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "/usr/local/lib/taskq/healthcheck.py"]
ENTRYPOINT ["taskq"]
CMD ["--help"]
