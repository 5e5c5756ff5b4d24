"""The ``run`` command: taskq, the bare loops and rivals, side by side in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine
from benchmarks.bench import Bench, Rows, say
from benchmarks.contenders import Contender
from benchmarks.measures import MEASURES
from benchmarks.server import Server
from benchmarks.sizes import Sizes


def compare(
    *,
    sizes: Sizes,
    reps: int,
    measures: Sequence[str],
    rivals: Sequence[str],
    only: Sequence[str],
    cache: Path,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Take *measures* of taskq, the bare loops and *rivals* (of *only* these, when given).

    Args:
        sizes, reps, measures, rivals, only: what to take, and how often.
        cache: where rivals are installed.
        keep: gets what there is after each turn of a measure, so that an interrupted run loses nothing.

    Returns:
        The machine, and per measure its rows; a rival that cannot be installed is named with the reason.
    """
    absent: dict[str, str] = {}
    taking_part = installed([n for n in ("taskq", *rivals) if not only or n in only], cache, absent)
    with tempfile.TemporaryDirectory(prefix="taskq-benchmarks-") as scratch, Server(Path(scratch) / "redis") as server:
        found: dict[str, Any] = {
            "machine": machine.describe(server.version),
            "contenders": {one.name: about(one) for one in taking_part},
            "absent": absent,
            "measures": {},
        }
        bench = Bench(sizes, reps, server, Path(scratch), taking_part, bare=not only or "bare" in only)
        for name in measures:
            say(f"{name}:")

            def keep_rows(rows: Rows, name: str = name) -> None:
                found["measures"][name] = {"rows": rows}
                keep(found)

            bench.take_in_turns(list(MEASURES[name](bench)), keep_rows)
            for snapshot in bench.scratch.glob("*.rdb"):
                snapshot.unlink()
    return found


def installed(names: Sequence[str], cache: Path, absent: dict[str, str]) -> list[Contender]:
    """The contenders with their environments in place; those that fail go to *absent*."""
    ready: list[Contender] = []
    for name in names:
        contender = contenders.own(cache) if name == "taskq" else contenders.rival(name, cache)
        try:
            contender.install()
        except Exception as error:  # no index, no node: the others can still be measured
            absent[name] = f"{type(error).__name__}: {error}"
            say(f"{name} cannot be installed: {error}")
        else:
            ready.append(contender)
    return ready


def about(contender: Contender) -> dict[str, Any]:
    """What the report says of a contender."""
    return {
        "title": contender.title,
        "language": contender.language,
        "version": contender.version,
        "versions": contender.versions,
        "notes": contender.adapter.get("notes", ""),
    }
