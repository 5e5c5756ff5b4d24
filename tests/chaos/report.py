"""The report of a run: Markdown, with a plot of unseen tasks over time as SVG."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from .checker import CHECKS, Facts, Recovery
from .history import NOBODY, TICKS, Fault, Kind, by_task
from .run import Outcome, Settings

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _LANES = 900, 260, 50, 30, 90
_POINTS = 300
_SECOND = 1e9
_COLORS = {"kill": "#c0392b", "pause": "#e67e22", "redis": "#8e44ad", "proxy": "#2980b9"}
_OTHER = "#7f8c8d"


def write(outcome: Outcome, folder: Path) -> Path:
    """Write ``report.md`` and ``unseen.svg``; the path of the former."""
    path = folder / "report.md"
    path.write_text(markdown(outcome))
    if outcome.facts is not None:
        (folder / "unseen.svg").write_text(plot(outcome.facts))
    return path


def markdown(outcome: Outcome) -> str:
    """The report."""
    settings, judged = outcome.settings, outcome.judgement
    lines = [
        f"# Chaos run, seed {settings.seed}: {judged.verdict.name.lower()}",
        "",
        f"`{command(settings)}`",
        "",
        f"{len(settings.workers)} workers, {settings.producers} producers, {settings.beats} beats, "
        f"lease {settings.lease:g} s, appendfsync {settings.appendfsync}; "
        f"load {outcome.load_seconds:.1f} s, drain {outcome.drain_seconds:.1f} s.",
        "",
    ]
    if outcome.trouble:
        lines += [f"Nothing is known: {outcome.trouble}", ""]
    lines += ["| count | |", "|---|---:|", *(f"| {name} | {count} |" for name, count in judged.counts.items()), ""]
    lines += ["| check | violations |", "|---|---:|"]
    names = [*CHECKS, "fire time", "left behind", "stuck"]
    lines += [f"| {name} | {len(judged.violations.get(name, ()))} |" for name in names]
    lines += ["", *recovery_table(outcome.facts.faults if outcome.facts else (), outcome.recoveries)]
    if judged.violations:
        lines += ["", "```", judged.text, "```"]
    lines += ["", "![unseen tasks over time](unseen.svg)", "", "For the table of results:", "", row(outcome), ""]
    return "\n".join(lines)


def command(settings: Settings) -> str:
    """What to type for this run again."""
    words = ["python -m tests.chaos run", f"--seed {settings.seed}", f"--minutes {settings.minutes:g}"]
    words += [f"--tasks {settings.tasks}", f"--kills {settings.kills}"]
    if settings.only:
        words.append(f"--only '{settings.only}'")
    usual = Settings(seed=0)
    if settings.lease != usual.lease:
        words.append(f"--lease {settings.lease:g}")
    if settings.appendfsync != usual.appendfsync:
        words.append(f"--appendfsync {settings.appendfsync}")
    if settings.redis_kills != usual.redis_kills:
        words.append(f"--redis-kills {settings.redis_kills}")
    return " ".join(words)


def row(outcome: Outcome) -> str:
    """The run as a line of the table of results in ``docs/chaos.md``."""
    counts, found = outcome.judgement.counts, outcome.judgement.violations
    faults = len(outcome.facts.faults) if outcome.facts else 0
    commits = sum(len(found.get(name, ())) for name in ("second commit", "stale commit"))
    words = command(outcome.settings).removeprefix("python -m tests.chaos ")
    return (
        f"| | `{words}` | {counts['tasks']:,} | {faults} | {len(found.get('lost', ()))} "
        f"| {len(found.get('unexplained run', ()))} | {commits} | {outcome.judgement.verdict.name.lower()} |"
    )


def recovery_table(faults: Sequence[Fault], found: Sequence[Recovery]) -> list[str]:
    """How long each kind of fault was felt."""
    times: dict[str, list[float]] = defaultdict(list)
    broken: dict[str, int] = defaultdict(int)
    for recovery in found:
        times[recovery.kind].append(recovery.seconds)
        broken[recovery.kind] += recovery.tasks
    lines = ["| fault | times | runs broken off | recovery p50, s | max, s |", "|---|---:|---:|---:|---:|"]
    for kind in sorted({fault.kind for fault in faults}):
        count = sum(fault.kind == kind for fault in faults)
        spells = times.get(kind)
        shown = (f"{median(spells):.3f}", f"{max(spells):.3f}") if spells else ("-", "-")
        lines.append(f"| {kind} | {count} | {broken.get(kind, 0)} | {shown[0]} | {shown[1]} |")
    return lines


def unseen(facts: Facts) -> tuple[list[int], list[int]]:
    """When tasks were accepted, and when they first began, each in order."""
    accepted: list[int] = []
    begun: list[int] = []
    for task, records in by_task(facts.packed):
        if task >= TICKS or task == NOBODY:
            continue
        accepted += (record.at for record in records if record.kind == Kind.OK)
        begun += [record.at for record in records if record.kind == Kind.BEGIN][:1]
    return sorted(accepted), sorted(begun)


def plot(facts: Facts) -> str:
    """Accepted tasks that have not begun yet, over time, with a bar for every fault."""
    accepted, begun = unseen(facts)
    if not accepted or not begun:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    start, end = accepted[0], max(accepted[-1], begun[-1])
    moments = [start + (end - start) * n // _POINTS for n in range(_POINTS + 1)]
    waiting = [max(bisect.bisect_right(accepted, moment) - bisect.bisect_right(begun, moment), 0) for moment in moments]
    top = max([*waiting, 1])

    def across(at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * (at - start) / max(end - start, 1)

    def up(count: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 15) * count / top

    line = " ".join(f"{across(moment):.1f},{up(count):.1f}" for moment, count in zip(moments, waiting, strict=True))
    kinds = sorted({fault.kind for fault in facts.faults})
    lane = {kind: _HEIGHT + 6 + at * (_LANES - 10) / max(len(kinds), 1) for at, kind in enumerate(kinds)}
    thick = max((_LANES - 10) / max(len(kinds), 1) - 1, 2)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT + _LANES}' "
        "font-family='sans-serif' font-size='10'>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT + _LANES}' fill='white'/>",
        f"<text x='{_LEFT}' y='11'>accepted tasks that have not begun (most: {top})</text>",
    ]
    for fault in facts.faults:
        left, width = across(max(fault.begin, start)), max(across(fault.end) - across(fault.begin), 1.5)
        color = next((color for word, color in _COLORS.items() if word in fault.kind), _OTHER)
        spot = f"x='{left:.1f}' width='{width:.1f}' fill='{color}'"
        parts.append(f"<rect {spot} y='15' height='{_HEIGHT - _BOTTOM - 15}' opacity='0.12'/>")
        parts.append(f"<rect {spot} y='{lane[fault.kind]:.1f}' height='{thick:.1f}'><title>{fault.kind}</title></rect>")
    parts += [f"<text x='0' y='{y + thick:.1f}' font-size='6'>{kind}</text>" for kind, y in lane.items()]
    parts.append(f"<polyline points='{line}' fill='none' stroke='#2c3e50' stroke-width='1.5'/>")
    for tick in range(6):
        at = start + (end - start) * tick / 5
        parts.append(
            f"<text x='{across(at):.1f}' y='{_HEIGHT - 14}' text-anchor='middle'>{(at - start) / _SECOND:.0f} s</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
