"""The recipes of docs/observability.md, run as they stand there; and passwords that must not show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.process import ROOT
from support.worker import running_worker

from taskq import Secret, TaskQ
from taskq.cli import main
from taskq.errors import BrokerError

CARD = "tok-5f1c9b"
"""No local variable, and far from the lines that Sentry shows: those are the only places where it may leak."""


def recipe(heading: str) -> dict[str, Any]:
    """What the first Python block below *heading* defines."""
    text = (ROOT / "docs" / "observability.md").read_text().split(f"\n{heading}\n", 1)[1]
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match
    names: dict[str, Any] = {}
    exec(compile(match[1], heading, "exec"), names)
    return names


def test_a_trace_goes_on_in_the_worker(app: TaskQ) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    shop = recipe("## OpenTelemetry")
    shop["tracer"] = provider.get_tracer("shop")

    def pay(order: int) -> int:
        return order

    task = app.task(shop["traced"](pay), name="shop.pay")
    with running_worker(app), shop["tracer"].start_as_current_span("checkout"):
        result = task.options(headers=shop["trace_headers"]()).delay(42)
        assert result.get(timeout=30) == 42
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans["shop.pay"].parent.span_id == spans["checkout"].context.span_id
    assert spans["shop.pay"].kind is trace.SpanKind.CONSUMER
    assert dict(spans["shop.pay"].attributes) == {
        "taskq.task_id": result.id, "taskq.queue": "default", "taskq.attempt": 1
    }  # fmt: skip


def test_sentry_gets_dead_letters_with_their_task(app: TaskQ) -> None:
    sentry_sdk = pytest.importorskip("sentry_sdk")
    from sentry_sdk.transport import Transport

    events: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            events.extend(filter(None, (item.get_event() for item in envelope.items)))

    @app.task(name="pay", max_retries=0)
    def pay(card: Secret[str]) -> None:
        raise ValueError("declined")

    recipe("## Sentry")["start_sentry"](dsn="http://key@localhost:1/1", transport=Kept, auto_session_tracking=False)
    try:
        with running_worker(app):
            result = pay.delay(Secret(CARD))
            result.get(timeout=30, propagate=False)
        away = TaskQ("away", broker_url="redis://127.0.0.1:1/0", broker_deadline=0.1)
        try:
            away.send_task("pay", [Secret(CARD)], queue="pay")
        except BrokerError as error:
            sentry_sdk.capture_exception(error)
        event, unsent = events
        assert unsent["exception"]["values"][-1]["type"] == "BrokerUnavailableError"
        away.close()
    finally:
        sentry_sdk.init()
    assert event["tags"] == {"task_id": result.id, "task": "pay", "queue": "default", "attempt": 1}
    assert event["exception"]["values"][-1]["value"] == "declined"
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["vars"]["card"] == "***"
    assert CARD not in str(events)
    app.dlq.purge()


def test_a_logging_configuration_of_ones_own() -> None:
    import logging.config

    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        logging.config.dictConfig(recipe("### With a configuration of your own")["LOGGING"] | {"incremental": False})
        assert root.handlers[-1].filters
    finally:
        root.handlers[:], root.level = before[0], before[1]


@pytest.mark.parametrize(
    "command", [["queues"], ["doctor"], ["tasks", "list", "q"], ["workers"], ["pause", "q"], ["bench", "--yes"]]
)
def test_the_password_of_the_broker_shows_nowhere(command: list[str], tmp_path: Path) -> None:
    from click.testing import CliRunner

    for url in (
        "redis://app:hidden-pw@localhost:1/0",
        "redis://app:hidden-pw@localhost:port/0",
        "wrong://a:hidden-pw@b",
    ):
        environment = {"TASKQ_BROKER_DEADLINE": "0.05", "TASKQ_BROKER_CONNECTION_TIMEOUT": "0.05"}
        result = CliRunner().invoke(main, [*command, "-b", url], env=environment)
        assert result.exit_code in (2, 69), result.output
        assert "hidden-pw" not in result.output
        assert "hidden-pw" not in repr(result.exception)


def test_an_app_does_not_show_its_password() -> None:
    app = TaskQ("shop", "redis://app:hidden-pw@localhost:1/0")
    assert "hidden-pw" not in f"{app!r} {app} {app.address!r} {app.address} {app.config!r}"
