"""Templates: every value is escaped, and shown the same way on all pages."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from taskq import __version__
from taskq.dashboard.cookies import THEME
from taskq.values.escaping import escaped
from taskq.values.redaction import redact_text
from taskq.values.serialization import to_json

if TYPE_CHECKING:
    from taskq.dashboard.view import View

HERE = Path(__file__).parent
STATIC = HERE / "static"
THEMES = ("auto", "light", "dark")
NONE = "\N{EN DASH}"
"""Shown where there is no value."""
LINE = 300
SHOWN = 20_000
"""Characters of one value that are shown."""


class Templates:
    """The templates of the dashboard."""

    def __init__(self) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_printable,
        )
        filters = (short, age, rate, ago, clock, size, line, pretty, redact_text, spark)
        environment.filters.update({"num": number, **{function.__name__: function for function in filters}})
        environment.globals.update(version=__version__, assets=self.assets)
        self._environment = environment

    @cached_property
    def assets(self) -> str:
        """Changes with any static file, so that browsers may keep them for ever."""
        digest = hashlib.sha256()
        for file in sorted(path for path in STATIC.rglob("*") if path.is_file()):
            digest.update(file.read_bytes())
        return digest.hexdigest()[:12]

    def render(self, template: str, view: View, values: Mapping[str, Any]) -> str:
        """The text of a template."""
        site, request = view.site, view.request
        note, note_is_bad = site.note(request)
        theme = request.cookies.get(THEME, "auto")
        return self._environment.get_template(template).render(
            view=view,
            url=view.url,
            site=site,
            page=view.endpoint.page,
            csrf=view.csrf,
            may_act=view.may_act,
            note=note,
            note_is_bad=note_is_bad,
            theme=theme if theme in THEMES else "auto",
            now=time.time(),
            **values,
        )


def number(value: float | None) -> str:
    """``1,234,567``; a dash for None."""
    return NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """``987``, ``12.3k``, ``4.5M``."""
    if value is None:
        return NONE
    for unit, size_ in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size_ * 0.99995:
            return f"{value / size_:.3g}{unit}"
    return f"{value:.0f}"


def age(seconds: float | None) -> str:
    """``240 ms``, ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``; a dash for None."""
    if seconds is None:
        return NONE
    if 0 < seconds < 0.0005:
        return "< 1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def rate(value: float) -> str:
    """A number per second: ``0``, ``0.4``, ``12``, ``3.2k``."""
    if value < 0.005:
        return "0"
    return f"{value:.2g}" if value < 10 else short(value)


def ago(milliseconds: float | None) -> Markup | str:
    """A moment as its distance from now, with the exact time in the title."""
    if not milliseconds:
        return NONE
    distance = time.time() - milliseconds / 1000
    text = f"{age(distance)} ago" if distance >= 0 else f"in {age(-distance)}"
    return _time(milliseconds, text)


def clock(milliseconds: float | None) -> Markup | str:
    """A moment in UTC, to the second: all times of the dashboard are in that zone, and say so."""
    if not milliseconds:
        return NONE
    return _time(milliseconds, f"{_moment(milliseconds):%Y-%m-%d %H:%M:%S} UTC")


def size(value: float | None) -> str:
    """Bytes: ``512 B``, ``3.4 MB``."""
    if value is None:
        return NONE
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if value >= length:
            return f"{value / length:.1f} {unit}"
    return f"{value:.0f} B"


def pretty(value: object) -> str:
    """A value as indented JSON; what JSON cannot hold as its repr; cut at :data:`SHOWN` characters."""
    text = to_json(value, indent=2)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… ({len(text):,} characters)"


def line(value: object) -> str:
    """A value as JSON on one line, shortened."""
    text = to_json(value)
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"


def spark(values: Iterable[float], label: str = "") -> Markup:
    """A small line chart of *values*, drawn to its own scale."""
    points = list(values)[-90:]
    highest = max(points, default=0) or 1
    step = 100 / max(len(points) - 1, 1)
    line = " ".join(f"{n * step:.1f},{22 - 20 * value / highest:.1f}" for n, value in enumerate(points))
    if len(points) < 2:
        line = "0,22 100,22"
    return Markup(
        '<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polygon points="0,24 {} 100,24"/><polyline points="{}"/></svg>'
    ).format(label or "recent course", line, line)


def _time(milliseconds: float, text: str) -> Markup:
    moment = _moment(milliseconds)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(timespec="milliseconds"), f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}", text
    )


def _moment(milliseconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _printable(value: object) -> object:
    """Text without control and direction-changing characters: names and errors come from anywhere."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return escaped(value, keep="\n\t")
    return value
