"""Where Redis is and how to greet it: the parsed broker URL."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from taskq.errors import ConfigError, suggestion

_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_OPTIONS = ("db", "ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "client_name")


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis server. ``str()`` of it never shows the password."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    """A unix socket instead of host and port."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}?db={self.db}"
        user = f"{self.username}@" if self.username else ""
        return f"{'rediss' if self.tls else 'redis'}://{user}{self.host}:{self.port}/{self.db}"

    def greeting(self, client_name: str) -> list[tuple[str, ...]]:
        """The commands that open a connection: authenticate, choose the database, give a name."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("CLIENT", "SETNAME", client_name))
        return commands

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings, None for a plain connection.

        Raises:
            ConfigError: a certificate or key file that cannot be read.
        """
        if not self.tls:
            return None
        options = dict(self.tls_options)
        try:
            context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
            if "ssl_certfile" in options:
                context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"broker_url: a TLS certificate or key cannot be read: {error}") from error
        mode = _CERT_REQS[options.get("ssl_cert_reqs", "required")]
        if mode is ssl.CERT_NONE or options.get("ssl_check_hostname", "true").lower() in ("false", "0", "no"):
            context.check_hostname = False
        context.verify_mode = mode
        return context


def parse(url: str) -> Address:
    """The address in *url*: ``redis://``, ``rediss://`` (TLS) or ``unix://``.

    Raises:
        ConfigError: not such a URL; the text never holds the password.
    """
    if not isinstance(url, str):
        raise ConfigError(f"broker_url must be text such as redis://localhost:6379/0, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # what a look-up would do, and fail to with no error of ours
    except ValueError as error:
        raise ConfigError(f"broker_url {redact(url)!r} cannot be read: its port or host is wrong") from error
    if any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        # whatever stands before that @ may be a piece of the password: say nothing of it
        raise ConfigError("broker_url: write / ? # and @ of a user name or password as %2F %3F %23 and %40")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError(
            f"broker_url {redact(url)!r} must begin with redis://, rediss:// or unix://, "
            "for example redis://localhost:6379/0"
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"broker_url: unknown option {name!r}; {suggestion(name, _OPTIONS)}")
    if options.get("ssl_cert_reqs", "required") not in _CERT_REQS:
        raise ConfigError("broker_url: ssl_cert_reqs must be none, optional or required")
    database = options.get("db") or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
    if not database.isdigit():
        raise ConfigError(f"broker_url: the database must be a number, not {database!r}")
    return Address(
        host=parts.hostname or "localhost",
        port=port or 6379,
        path=unquote(parts.path) if parts.scheme == "unix" else None,
        db=int(database),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
        tls=parts.scheme == "rediss",
        tls_options=tuple((k, v) for k, v in options.items() if k.startswith("ssl_")),
    )


def redact(url: str) -> str:
    """*url* without anything that may be a password: what stands before its last ``@``, and its query."""
    return re.sub(r"\?.*", "", re.sub(r"^([^:/@]*://)?.*@", r"\1***@", url, flags=re.DOTALL), flags=re.DOTALL)
