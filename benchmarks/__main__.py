"""``python -m benchmarks``: see README.md in this folder."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import breakdown, comparison, contenders, environments, fifo, modes, report, results
from benchmarks.bench import say
from benchmarks.measures import MEASURES
from benchmarks.scaling import study
from benchmarks.sizes import FULL, QUICK, SMOKE

RUN, SCALING, BREAKDOWN = (results.DIRECTORY / f"{name}.json" for name in ("run", "scaling", "breakdown"))


def main() -> None:
    """Parse the command line and do what it says."""
    # by default SIGTERM ends Python at once, and the workers and servers under measurement would live on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = parser().parse_args()
    given.command(given)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = top.add_subparsers(required=True)

    run = commands.add_parser("run", help="taskq, the bare loops and rivals, side by side")
    size = run.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one turn, small sizes, no rivals: under a minute")
    size.add_argument("--smoke", action="store_true", help="the smallest sizes: does everything work?")
    run.add_argument("--reps", type=int, help="turns; default 5 (1 with --quick)")
    run.add_argument("--only", nargs="+", default=[], metavar="NAME", help="taskq, bare, or a rival's name")
    run.add_argument(
        "--rivals",
        metavar="A,B",
        help=f"which rivals: all, none, or of {', '.join(contenders.rival_names())}; default all, none with --quick",
    )
    run.add_argument("--measures", metavar="A,B", default=",".join(MEASURES), help="default: %(default)s")
    run.add_argument(
        "--json", type=Path, metavar="FILE", help="where to save; default results/run.json, nowhere for small sizes"
    )
    run.add_argument("--work", type=Path, help="where rivals are installed; default: the user's cache directory")
    run.set_defaults(command=run_comparison)

    scaling = commands.add_parser("scaling", help="cost per task against backlog, payload, workers and more")
    scaling.add_argument("--full", action="store_true", help="also ten million tasks")
    scaling.add_argument("--smoke", action="store_true", help="the smallest sizes: does everything work?")
    scaling.add_argument("--only", nargs="+", default=[], metavar="CURVE", help=f"of {', '.join(study.CURVES)}")
    scaling.add_argument(
        "--sizes", nargs="+", type=int, default=[], metavar="N", help="of the curves in --only, these sizes alone"
    )
    scaling.add_argument("--reps", type=int, help="samples per point; default 3")
    scaling.add_argument(
        "--json", type=Path, metavar="FILE", help="where to save; default results/scaling.json, nowhere for --smoke"
    )
    scaling.set_defaults(command=run_scaling)

    parts = commands.add_parser("breakdown", help="where the time of one task goes")
    parts.add_argument("--smoke", action="store_true", help="the smallest sizes: does everything work?")
    parts.add_argument("--json", type=Path, default=BREAKDOWN, metavar="FILE")
    parts.set_defaults(command=run_breakdown)

    ways = commands.add_parser("modes", help="what at-least-once, at-most-once, once, the outbox and others cost")
    ways.add_argument("--count", type=int, default=20_000, help="tasks per sample; a tenth of it with a database")
    ways.add_argument("--turns", type=int, default=5)
    ways.add_argument("--database", action="append", default=[], metavar="URL", help="besides SQLite; repeatable")
    ways.add_argument("--write", action="store_true", help="write the table into docs/idempotency.md")
    ways.set_defaults(command=lambda given: modes.run(given.count, given.turns, given.database, given.write))

    items = commands.add_parser("fifo", help="put, get and acknowledge in a FIFO, next to the bare commands")
    items.add_argument("--count", type=int, default=20_000, help="items per sample")
    items.add_argument("--turns", type=int, default=5)
    items.set_defaults(command=lambda given: fifo.run(given.count, given.turns))

    written = commands.add_parser("report", help="write docs/performance.md again from the saved results")
    written.set_defaults(command=lambda given: write_report())
    return top


def run_comparison(given: argparse.Namespace) -> None:
    """``run``"""
    sizes = SMOKE if given.smoke else QUICK if given.quick else FULL
    small = sizes is not FULL
    rivals = named(given.rivals or ("none" if small else "all"), contenders.rival_names(), "rival")
    measures = named(given.measures, list(MEASURES), "measure")
    path = given.json or (None if small else RUN)
    before = results.load(path) if path else {}

    def keep(found: dict[str, Any]) -> None:
        if path is not None:
            results.save(path, results.merged(before, found))

    found = comparison.compare(
        sizes=sizes,
        reps=given.reps or (1 if small else 5),
        measures=measures,
        rivals=[*rivals, *(name for name in given.only if name in contenders.rival_names() and name not in rivals)],
        only=given.only,
        cache=given.work.absolute() if given.work else environments.default_directory(),
        keep=keep,
    )
    say(report.comparison_tables(found))
    if path is None:
        say("not saved: give --json FILE to keep small sizes")
    if path == RUN:
        write_report()


def run_scaling(given: argparse.Namespace) -> None:
    """``scaling``"""
    if given.sizes and not given.only:
        raise SystemExit("--sizes needs --only CURVE: a number means something else for each curve")
    curves = named(",".join(given.only) or "all", list(study.CURVES), "curve")
    size = study.SMOKE if given.smoke else study.FULL if given.full else study.NORMAL
    path = given.json or (None if given.smoke else SCALING)
    before = results.load(path) if path else {}

    def keep(found: dict[str, Any]) -> None:
        if path is not None:
            results.save(path, study.merged(before, found))

    found = study.run(curves, size, given.reps or (1 if given.smoke else 3), given.sizes, keep)
    say(report.scaling_tables(found))
    if path == SCALING:
        write_report()


def run_breakdown(given: argparse.Namespace) -> None:
    """``breakdown``"""
    found = breakdown.run(smoke=given.smoke)
    say(report.breakdown_tables(found))
    results.save(given.json, found)
    if given.json == BREAKDOWN:
        write_report()


def write_report() -> None:
    """Write the page in docs/ and the plots it shows."""
    for path in report.write(results.load(RUN), results.load(SCALING), results.load(BREAKDOWN)):
        say(f"wrote {path.relative_to(contenders.ROOT)}")


def named(text: str, known: list[str], what: str) -> list[str]:
    """A list of names, ``all`` or ``none``."""
    if text in ("all", "none"):
        return known if text == "all" else []
    wanted = text.split(",")
    for name in wanted:
        if name not in known:
            raise SystemExit(f"no {what} {name!r}: there are {', '.join(known)}")
    return wanted


if __name__ == "__main__":
    main()
