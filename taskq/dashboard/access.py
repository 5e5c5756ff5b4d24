"""Who may do what: roles, credentials, and sessions that are kept in a signed cookie and nowhere else."""

from __future__ import annotations

import base64
import hmac
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from pathlib import Path

from taskq.dashboard.attempts import Attempts
from taskq.dashboard.proxies import grouped
from taskq.errors import ConfigError

SHORTEST_SECRET = 12
SESSION_SECONDS = 12 * 3600
KNOWN_SECONDS = 180 * 86400
"""How long a browser is known by which somebody signed in."""
_MOST_ENDED = 10_000
"""Sessions that were signed out, which are remembered."""


class TooManyAttemptsError(Exception):
    """Too many wrong passwords lately: this one was not looked at."""


class Role(IntEnum):
    """What somebody may do; each role may do what those below it may."""

    NOBODY = 0
    VIEWER = 1
    """Look at everything."""
    OPERATOR = 2
    """Change things: pause, cancel, retry, edit, replay, purge."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A name with its password or token."""

    name: str
    role: Role
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request."""

    name: str
    role: Role
    by_header: bool = False
    """Known by an Authorization header, which no browser sends by itself."""


NOBODY = Identity("", Role.NOBODY)
REFUSED = Identity("", Role.NOBODY)
"""Whoever gives a token where too many were wrong lately: it was not looked at."""
LOCAL = Identity("local", Role.OPERATOR)
"""Everybody, where no credential is configured."""


def load_credentials(environ: Mapping[str, str], users: str | None = None) -> tuple[Credential, ...]:
    """The credentials from the environment and from a file.

    Args:
        environ: ``TASKQ_DASHBOARD_PASSWORD`` lets an operator in, ``TASKQ_DASHBOARD_VIEWER_PASSWORD`` a viewer.
        users: path of a file with a line ``role name secret`` for each person, readable by its owner alone.

    Raises:
        ConfigError: a secret is too short, or the file cannot be used; the text never has a secret in it.
    """
    found = []
    for name, variable, role in (
        ("operator", "TASKQ_DASHBOARD_PASSWORD", Role.OPERATOR),
        ("viewer", "TASKQ_DASHBOARD_VIEWER_PASSWORD", Role.VIEWER),
    ):
        if environ.get(variable):
            found.append(_credential(name, role, environ[variable], variable))
    if users is not None:
        found += _from_file(Path(users))
    if len({credential.secret for credential in found}) != len(found):
        raise ConfigError("two dashboard users have the same password; who is who could not be told")
    return tuple(found)


def _from_file(path: Path) -> list[Credential]:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} can be read by others; write: chmod 600 {path}")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the dashboard's users: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        role, _, rest = line.strip().partition(" ")
        name, _, secret = rest.strip().partition(" ")
        if role not in ("viewer", "operator") or not secret.strip():
            raise ConfigError(f"{path}, line {number}: write 'viewer NAME SECRET' or 'operator NAME SECRET'")
        found.append(_credential(name, Role[role.upper()], secret.strip(), f"{path}, line {number}"))
    if len({credential.name for credential in found}) != len(found):
        raise ConfigError(f"{path} has a name twice")
    if not found:
        raise ConfigError(f"{path} names no user")
    return found


def _credential(name: str, role: Role, secret: str, where: str) -> Credential:
    if len(secret) < SHORTEST_SECRET:
        raise ConfigError(f"{where}: a password or token needs at least {SHORTEST_SECRET} characters")
    return Credential(name, role, secret)


class Access:
    """Knows people by their secret, and signs what their browsers keep.

    Args:
        credentials: who may come in; empty: everybody, as an operator.
        key: signs sessions. None: random, so sessions end with the process.
    """

    def __init__(self, credentials: Sequence[Credential] = (), key: bytes | None = None) -> None:
        self._credentials = tuple(credentials)
        self._key = key or secrets.token_bytes(32)
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._attempts = Attempts()

    @property
    def open(self) -> bool:
        """Whether nobody needs to sign in."""
        return not self._credentials

    def by_secret(self, given: str, address: str, known: str = "") -> Credential | None:
        """Whose secret that is; None for a wrong one, which is counted. Takes as long for it as for a right one.

        Args:
            given: the password or token.
            address: where it comes from.
            known: the cookie of :meth:`known_browser`, if the browser has one.

        Raises:
            TooManyAttemptsError: too many were wrong lately.
        """
        attempt = self._attempts.begin(grouped(address), self._browser(known))
        if attempt is None:
            raise TooManyAttemptsError
        digest = _digest(given)
        found = None
        for credential in self._credentials:
            if hmac.compare_digest(digest, _digest(credential.secret)):
                found = credential
        if found is not None:
            self._attempts.succeeded(attempt)
        return found

    def known_browser(self, credential: Credential) -> str:
        """A cookie value that says that somebody signed in with this browser; it lets nobody in."""
        text = secrets.token_urlsafe(12)
        return f"{text}.{self._known_signature(text, credential)}"

    def _browser(self, cookie: str) -> str:
        """What a browser is counted by; empty for one that is not known, or of a password that has changed."""
        text, _, signature = cookie.partition(".")
        given = signature.encode("utf-8", "replace")
        right = [self._known_signature(text, one).encode() for one in self._credentials]
        return text if any(hmac.compare_digest(given, one) for one in right) else ""

    def _known_signature(self, text: str, credential: Credential) -> str:
        return self.sign("known", f"{text}\n{credential.name}\n{_digest(credential.secret).hex()}")

    def session(self, credential: Credential) -> str:
        """A cookie value that says who somebody is for the next hours."""
        payload = f"{credential.name}\n{int(time.time()) + SESSION_SECONDS}\n{secrets.token_urlsafe(12)}"
        text = base64.urlsafe_b64encode(payload.encode()).decode()
        return f"{text}.{self._signature(text, credential)}"

    def by_session(self, cookie: str) -> Identity:
        """Who a session cookie belongs to; NOBODY for one that is forged, old, signed out or of another password."""
        text, _, signature = cookie.partition(".")
        try:
            name, expires, _ = base64.urlsafe_b64decode(text).decode().split("\n")
            in_time = int(expires) > time.time()
        except ValueError:
            return NOBODY
        credential = next((one for one in self._credentials if one.name == name), None)
        if credential is None or not hmac.compare_digest(
            signature.encode(), self._signature(text, credential).encode()
        ):
            return NOBODY
        if not in_time or signature in self._ended:
            return NOBODY
        return Identity(name, credential.role)

    def end(self, cookie: str) -> None:
        """Sign out: the cookie is worth nothing from now on, in this process."""
        if self.by_session(cookie) is not NOBODY:
            self._ended[cookie.partition(".")[2]] = time.time()
            while len(self._ended) > _MOST_ENDED:
                self._ended.popitem(last=False)

    def sign(self, purpose: str, text: str) -> str:
        """A signature of *text* that only this access can make."""
        return hmac.new(self._key, f"{purpose}\n{text}".encode(), sha256).hexdigest()

    def signed(self, purpose: str, text: str, signature: str) -> bool:
        """Whether *signature* is that of *text*."""
        return hmac.compare_digest(self.sign(purpose, text).encode(), signature.encode("utf-8", "replace"))

    def _signature(self, text: str, credential: Credential) -> str:
        # with the secret in it, a changed password ends its sessions
        return self.sign("session", f"{text}\n{_digest(credential.secret).hex()}")


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
