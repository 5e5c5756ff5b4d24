"""Asking an ASGI application as a server would, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode


@dataclass(slots=True)
class Answer:
    """What the application said."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        """The value of a header; empty when it is missing."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it set."""
        pairs = [value.partition(";")[0].partition("=") for key, value in self.headers if key == "set-cookie"]
        return {name: value.strip('"') for name, _, value in pairs}


def ask(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    root: str = "",
    client: str = "127.0.0.1",
) -> Answer:
    """Send one request; an answer that never ends is left after its first piece."""
    given = {"host": "127.0.0.1:8000", "accept": "text/html", **(headers or {})}
    if cookies:
        given["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    body = urlencode(form).encode() if form is not None else b""
    if form is not None:
        given["content-type"] = "application/x-www-form-urlencoded"
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": root + raw_path,
        "raw_path": (root + raw_path).encode(),
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": (client, 50000),
        "server": ("127.0.0.1", 8000),
    }
    return asyncio.run(_ask(app, scope, body))


async def _ask(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    answer, begun, sent = Answer(), asyncio.Event(), False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            answer.body += message.get("body", b"")
            begun.set()

    await app(scope, receive, send)
    return answer
