"""The image's health check: asks the endpoint that the container's command serves, if it serves one.

A container whose command serves none is healthy as long as it runs.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

METRICS_PORT = "9818"
TIMEOUT = 4.0


def endpoint(command: Sequence[str]) -> str | None:
    """What to ask, given the command line of the container's first process."""
    if port := _option(command, "--health-port"):
        return f"http://127.0.0.1:{port}/live"
    if "metrics" in command:
        return f"http://127.0.0.1:{_option(command, '--port') or METRICS_PORT}/metrics"
    return None


def _option(command: Sequence[str], name: str) -> str | None:
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def healthy(url: str) -> bool:
    """Whether *url* answers with a success."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT):  # noqa: S310 - our own address
            return True
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    found = endpoint(Path("/proc/1/cmdline").read_text().split("\0"))
    sys.exit(0 if found is None or healthy(found) else 1)
