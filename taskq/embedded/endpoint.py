"""Where a server listens, and what it answers there."""

from __future__ import annotations

import contextlib
import random
import re
import socket

from taskq.embedded.settings import quoted

# Below the range from which Linux and macOS take the ports of outgoing connections. Within it, a client that
# reconnects while the server is down may be given the server's own port, and keep the server from returning.
PORTS = range(20_000, 32_768)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def ask(address: str | tuple[str, int], password: str | None) -> bytes:
    """Return the raw replies to PING and INFO; empty while nobody listens.

    Args:
        address: path of a unix socket, or host and port.
        password: the server's, if it has one.
    """
    login = f"AUTH {quoted(password)}\r\n" if password else ""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(address)
            connection.sendall(f"{login}PING\r\nINFO server\r\nQUIT\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return b""


def version_of(info: bytes) -> str:
    """Return the version in an INFO reply; for Valkey its own, not the Redis version it stands in for."""
    found = dict(re.findall(r"^(valkey|redis)_version:(\S+)", info.decode(errors="replace"), re.MULTILINE))
    return str(found.get("valkey") or found.get("redis", ""))
