"""What an embedded server is told in its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskq.errors import ConfigError

_FSYNC = ("always", "everysec", "no")


@dataclass(frozen=True, slots=True)
class Settings:
    """What stays the same over all starts of a server; see :class:`taskq.embedded.EmbeddedRedis`.

    Raises:
        ConfigError: a value that cannot be used.
    """

    port: int | None
    unix_socket: bool
    appendonly: bool
    appendfsync: str
    password: str | None

    def __post_init__(self) -> None:
        if self.appendfsync not in _FSYNC:
            raise ConfigError(f"appendfsync: {self.appendfsync!r} is none of {', '.join(_FSYNC)}")
        if self.unix_socket and self.port is not None:
            raise ConfigError("an embedded server listens on a port or on a unix socket, not both")
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigError(f"port: {self.port!r} is not a TCP port")
        if self.password == "":
            raise ConfigError("password: empty; leave it out for a server without one")

    def text(self, directory: Path, port: int, socket: Path) -> bytes:
        """Return the server's configuration file.

        Args:
            directory: of its data.
            port: on which it listens, 0 for none.
            socket: on which it listens, if it is to have a unix socket.
        """
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "daemonize": "no",
            "dir": str(directory),
            "save": "",
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": self.appendfsync,
            "maxmemory-policy": "noeviction",
        }
        if self.unix_socket:
            settings |= {"unixsocket": str(socket), "unixsocketperm": "700"}
        if self.password:
            settings["requirepass"] = self.password
        return "".join(f"{name} {quoted(value)}\n" for name, value in settings.items()).encode()


def quoted(value: str) -> str:
    r"""Return a value in the server's own quoting: printable ASCII, everything else as ``\xHH``."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in value.encode())
    return f'"{"".join(plain)}"'
