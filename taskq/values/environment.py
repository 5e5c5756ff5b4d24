"""``TASKQ_*`` in the environment: what is set, and what is probably a mistake."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping

from taskq.errors import ConfigError

logger = logging.getLogger("taskq.config")

PREFIX = "TASKQ_"
_BESIDE = (
    *("APP", "LOG_LEVEL", "LOG_FORMAT", "DATABASE_URL", "ALLOWED_HOSTS", "COMPLETE"),
    *("FAILPOINT", "FAILPOINT_ONCE", "WRITE_PANELS"),
)
"""Those that are not settings of an app."""
_OTHERS = re.compile(r"DASHBOARD_|TEST_|DEMO_|.*SERVICE_(HOST|PORT)|.*PORT(_\d+_(TCP|UDP))?(_[A-Z]+)?$")
"""Those of one part alone, and what Kubernetes tells of a service that is called taskq."""
_warned: set[str] = set()


def text_of(environ: Mapping[str, str], name: str) -> str | None:
    """The value of *name* without blanks around it; None when it is not set, or empty as a compose file leaves it.

    Raises:
        ConfigError: it stands in quotes, which only a shell would take away.
    """
    text = environ.get(name, "").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ConfigError(f"{name} must stand without the quotes around it: only a shell takes them away")
    return text or None


def warn_of_unknown(environ: Mapping[str, str], settings: Collection[str]) -> None:
    """Say, once for each, which ``TASKQ_*`` nobody reads, and which one was probably meant.

    Args:
        environ: the environment.
        settings: the names of all settings.
    """
    for name in environ:
        rest = name.removeprefix(PREFIX)
        if rest == name or name in _warned or rest.lower() in settings or rest in _BESIDE or _OTHERS.match(rest):
            continue
        _warned.add(name)
        meant = _meant(rest.lower(), settings)
        hint = f"; did you mean {PREFIX}{meant.upper()}?" if meant else ""
        logger.warning("%s in the environment is not a setting, and is ignored%s", name, hint)


def _meant(name: str, settings: Collection[str]) -> str | None:
    import difflib  # only a mistake needs it

    if longer := sorted((known for known in settings if name in known.split("_") or known.endswith(name)), key=len):
        return longer[0]
    close = difflib.get_close_matches(name, settings, n=1)
    return close[0] if close else None
