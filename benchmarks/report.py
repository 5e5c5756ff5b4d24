"""``docs/performance.md`` from the saved results: nothing in it is typed by hand but the reasons in ``notes.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import HERE, ROOT
from benchmarks.scaling import plot
from benchmarks.targets import TARGETS, Results, shown

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
Saved = Mapping[str, Any]

COLUMNS: dict[str, tuple[str, tuple[tuple[str, str, int], ...]]] = {
    "throughput": (
        "No-op tasks per second",
        (
            ("rate", "tasks/s", 0),
            ("cpu_us", "worker CPU µs", 1),
            ("redis_us", "Redis CPU µs", 1),
            ("commands", "commands a task", 2),
        ),
    ),
    "enqueue": ("Calls sent per second", (("rate", "calls/s", 0), ("cpu_us", "CPU µs a call", 1))),
    "latency": (
        "Send to start on an idle worker",
        (("p50_ms", "p50 ms", 2), ("p99_ms", "p99 ms", 2), ("max_ms", "max ms", 1)),
    ),
    "waiting": ("2,000 tasks of 50 ms, concurrency 100", (("seconds", "seconds (least: 1.00)", 3),)),
    "round_trip": ("Send and wait for the result, one caller", (("rate", "round trips/s", 0),)),
    "memory": (
        "Redis memory, 100-byte argument",
        (
            ("bytes_per_task", "bytes a queued task", 0),
            ("left_bytes", "bytes left of the tasks", 0),
            ("left_keys", "keys left of the tasks", 0),
            ("fixed_bytes", "bytes that stay", 0),
            ("fixed_keys", "keys that stay", 0),
        ),
    ),
    "idle": (
        "A worker with nothing to do",
        (
            ("ready_s", "spawn to first task s", 2),
            ("commands_per_s", "commands/s", 2),
            ("cpu_percent", "CPU %", 2),
            ("rss_mb", "RSS MB", 1),
            ("processes", "processes", 0),
        ),
    ),
    "window": (
        "Events read by a window job",
        (("rate", "events/s", 0), ("rss_growth_mb", "growth of the worker's memory MB", 1)),
    ),
    "inserts": ("Rows inserted into PostgreSQL per second", (("rate", "rows/s", 0), ("cpu_us", "worker CPU µs", 1))),
    "dead_letters": (
        "100,000 dead letters replayed",
        (("rate", "messages/s", 0), ("groups_ms", "their overview ms", 1)),
    ),
    "metrics": (
        "What metrics cost",
        (
            ("ratio", "throughput on / off", 3),
            ("cpu_ratio", "worker CPU on / off", 3),
            ("on", "tasks/s on", 0),
            ("off", "tasks/s off", 0),
            ("scrape_ms", "one scrape ms", 1),
            ("worst_ms", "slowest scrape ms", 1),
            ("round_trips", "round trips", 0),
        ),
    ),
    "publishing": (
        "Events published and handled",
        (("rate", "events (or calls) a second", 0), ("us", "µs each", 2), ("cpu_us", "CPU µs", 1)),
    ),
}
INTRODUCTION = """\
# Performance

Written by `python -m benchmarks`, from the results in `benchmarks/results/`; how they are measured stands in
[`benchmarks/README.md`](../benchmarks/README.md). Figures are medians with (min - max). Rows of one table were taken
in turns, so their ratios hold although the machine may be faster or slower at another time.
"""


def write(run: Saved, scaling: Saved, breakdown: Saved) -> list[Path]:
    """Write the page and its plots; what was written."""
    notes = tomllib.loads((HERE / "notes.toml").read_text())
    images = plot.draw(scaling.get("measures", {}), IMAGES)
    parts = [INTRODUCTION]
    if run:
        parts += [
            machine_lines(run),
            target_table(run, notes.get("targets", {})),
            comparison_tables(run),
            versions_table(run),
        ]
    if scaling:
        parts += [scaling_tables(scaling, notes.get("scaling", {}), existing_images())]
    if breakdown:
        parts += [breakdown_tables(breakdown, notes.get("breakdown", {}))]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(part.rstrip() + "\n" for part in parts))
    return [PAGE, *images]


def existing_images() -> list[str]:
    """The plots there are, drawn now or before."""
    return [path.name for path in sorted(IMAGES.glob("*.svg")) if path.stem in ("scaling", "worker-memory")]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
        )
        + "\n"
    )


def machine_lines(saved: Saved) -> str:
    """What it was measured on."""
    machine = saved["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, {machine['system']}; "
        f"{machine['implementation']}. {versions}.\n"
    )


def target_table(saved: Saved, reasons: Mapping[str, str]) -> str:
    """What has to be reached, and whether it is."""
    results, rows = Results(saved), []
    for target in TARGETS:
        parts = target.parts(results)
        verdict = "not measured" if not parts else "yes" if all(part.met for part in parts) else "**no**"
        text = "<br>".join(part.text if part.met else f"**{part.text}**" for part in parts)
        reason = reasons.get(target.key, "") if verdict == "**no**" else ""
        rows.append((target.figure, target.wanted, text or "-", verdict, reason))
    return "## Targets\n\n" + table(("figure", "target", "measured", "met", "why not"), rows)


def comparison_tables(saved: Saved) -> str:
    """Every row of every measure."""
    parts = []
    for name, (title, columns) in COLUMNS.items():
        measure = saved.get("measures", {}).get(name)
        if measure is None:
            continue
        rows = []
        for row_name, row in measure["rows"].items():
            figures = row.get("figures", {})
            cells = [shown(figures[key], digits) if key in figures else "-" for key, _, digits in columns]
            rows.append((row_name, *cells, how(row)))
        heads = ("row", *(head for _, head, _ in columns), "how")
        parts.append(f"## {title}\n\n{runs_of(measure['rows'])}\n" + table(heads, rows))
    return "\n".join(parts)


def runs_of(rows: Mapping[str, Saved]) -> str:
    """When and how the rows of a measure were taken: a line for each run that they come from."""
    runs: dict[str, list[str]] = {}
    for name, row in rows.items():
        if "taken" in row:
            contenders = runs.setdefault(taken_line(row["taken"]), [])
            contenders += [name.split("/")[0]] if name.split("/")[0] not in contenders else []
    if len(runs) == 1:
        return next(iter(runs)) + "\n"
    return "".join(f"* {', '.join(contenders)}: {line}\n" for line, contenders in runs.items())


def taken_line(taken: Saved) -> str:
    """One run of a measure."""
    speed = shown(taken["machine_speed"], 1) if taken["machine_speed"] else "not noted"
    return (
        f"{taken['date']}, {taken['turns']} turns, {taken['sizes']} sizes, machine speed {speed}, "
        f"taskq source {taken['source']}"
    )


def how(row: Saved) -> str:
    """What was run, or why there are no figures; and a warning where tasks ran twice."""
    if "error" in row:
        return f"failed: {row['error'][:80]}"
    surplus = row.get("figures", {}).get("surplus", {}).get("max", 0)
    warning = f" **up to {surplus:,.0f} of {row['count']:,} tasks ran twice**" if surplus else ""
    return f"`{row['command']}`{warning}"


def versions_table(saved: Saved) -> str:
    """What took part, and in which version."""
    rows = [
        (one["title"], one["version"] or saved["machine"]["versions"].get(name, ""), one.get("notes", ""))
        for name, one in saved.get("contenders", {}).items()
    ]
    rows += [(name, "absent", why[:120]) for name, why in saved.get("absent", {}).items()]
    return "## Versions and settings\n\n" + table(("queue", "version", "settings"), rows)


def scaling_tables(saved: Saved, reasons: Mapping[str, str] | None = None, images: Sequence[str] = ()) -> str:
    """The curves as tables, and which are flat."""
    parts = [
        "## Scaling\n\nWhat one task costs while something else grows; flat: the dearest size costs at most "
        "15 % more than the cheapest.\n"
    ]
    parts += [f"![{name}](images/{name})\n" for name in images]
    summary, tables = [], []
    for name, curve in saved.get("measures", {}).items():
        if name == "worker_memory":
            points = [(f"{point['tasks']:,}", f"{point['rss_mb']:.1f}") for point in curve["points"]]
            tables.append(f"### Worker memory, MB\n\n{curve['date']}\n\n" + table(("tasks run", "RSS MB"), points))
            continue
        grown = ", ".join(f"{figure} x {value:.2f}" for figure, value in curve["growth"].items())
        summary.append((curve["title"], grown, "yes" if curve["flat"] else "**no**", (reasons or {}).get(name, "")))
        head = (curve["axis"], "wall µs", "worker CPU µs", "Redis CPU µs", "tasks/s", "taken")
        rows = []
        for point in curve["points"]:
            if "skipped" in point:
                rows.append((f"{point['size']:,}", point["skipped"], "-", "-", "-", "-"))
                continue
            figures = point["figures"]
            cells = (shown(figures[key]) if key in figures else "-" for key in ("us", "cpu_us", "redis_us"))
            rows.append((f"{point['size']:,}", *cells, shown(figures["rate"], 0), point["taken"]["date"]))
        codes = ", ".join(dict.fromkeys(point["taken"]["source"] for point in curve["points"] if "taken" in point))
        tables.append(f"### {curve['title'].capitalize()}\n\ntaskq source {codes}\n\n" + table(head, rows))
    if summary:
        parts.append(table(("grows", "dearest over cheapest", "flat", "why not"), summary))
    return "\n".join([*parts, *tables])


def breakdown_tables(saved: Saved, reasons: Mapping[str, str] | None = None) -> str:
    """Where the time goes."""
    head = ("side", "phase", "what", "Python µs", "Redis µs")
    rows = [
        (p["side"], p["phase"], p["what"], microseconds(p["python_us"]), microseconds(p["redis_us"]))
        for p in saved["phases"]
    ]
    whole = [
        (name, *(f"{row[key]:.2f}" for key in ("us", "cpu_us", "redis_us"))) for name, row in saved["whole"].items()
    ]
    notes = "".join(f"* {name}: {text}\n" for name, text in (reasons or {}).items())
    return "\n".join(
        (
            "## Where the time goes\n\nMicroseconds per task: the real function of each phase, called alone; "
            f"Redis's part by its own accounting. {saved['date']}, machine speed {saved['machine_speed']}, "
            f"taskq source {saved['source']}.\n",
            table(head, rows),
            "A whole run, for comparison; what it costs beyond the sum is the event loop, sockets and the kernel.\n",
            table(("run", "wall µs", "worker CPU µs", "Redis CPU µs"), whole),
            notes,
        )
    )


def microseconds(value: float | None) -> str:
    """A cell."""
    return "" if value is None else f"{value:.2f}"
