"""``python -m tests.chaos``: exit code 0 valid, 1 invalid, 2 unknown."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# helpers are imported as support.<module> and chaos.<module>, as pytest and the child processes do
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("CHAOS_HISTORY", tempfile.gettempdir())

from chaos import durability, troubles
from chaos.nemesis import KILLS, OTHERS
from chaos.poison import HEADER, POOLS, compare
from chaos.report import write
from chaos.run import Settings, run
from chaos.scenarios import SCENARIOS, play


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="load, faults drawn from a seed, verdict")
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--minutes", type=float, default=1.0, help="how long the load lasts")
    one.add_argument("--tasks", type=int, default=20_000)
    one.add_argument("--kills", type=int, default=20)
    one.add_argument("--redis-kills", type=int, default=-1, help="default: one for every ten kills")
    one.add_argument("--only", choices=(*KILLS, *OTHERS, "redis kill"), default="", help="one kind of fault")
    one.add_argument("--lease", type=float, default=2.0)
    one.add_argument("--appendfsync", choices=("always", "everysec", "no"), default="always")
    one.add_argument("--folder", type=Path, help="keeps everything here; default: a temporary directory")
    small = commands.add_parser("play", help="one directed scenario, whole or with a mutant")
    small.add_argument("scenario", choices=SCENARIOS)
    small.add_argument("--mutant", default="")
    toxic = commands.add_parser("poison", help="the cost of messages that kill their process, for all others")
    toxic.add_argument("--pool", choices=POOLS, required=True)
    toxic.add_argument("--tasks", type=int, default=2000)
    toxic.add_argument("--seconds", type=float, default=0.02, help="how long each of the others takes")
    toxic.add_argument("--percent", type=float, default=1.0, help="how much of the load is poison")
    toxic.add_argument("--lease", type=float, default=15.0)
    disk = commands.add_parser("durability", help="what Redis's settings lose in a crash, and in a power cut")
    disk.add_argument("--appendfsync", choices=("always", "everysec", "no"), required=True)
    disk.add_argument("--kills", type=int, default=20)
    disk.add_argument("--seed", type=int, default=1)
    trouble = commands.add_parser("troubles", help="a worker while Redis is in trouble of every kind")
    trouble.add_argument("--seconds", type=float, default=3.0, help="how long each lasts")
    given = vars(parser.parse_args())
    command, folder = given.pop("command"), given.pop("folder", None)
    if command == "play":
        with tempfile.TemporaryDirectory() as scratch:
            found = play(given["scenario"], Path(scratch) / "play", given["mutant"])
        print(found.verdict.name, found.text, sep="\n")
        return found.verdict
    if command == "poison":
        with tempfile.TemporaryDirectory() as scratch:
            compared = compare(Path(scratch), **given)
        print(HEADER, compared.row(), compared.poisoned.judgement.text, sep="\n")
        return int(not compared.contained)
    if command == "durability":
        with tempfile.TemporaryDirectory() as scratch:
            kills = durability.trials(Path(scratch), **given)
        print(durability.HEADER, durability.row(given["appendfsync"], kills), sep="\n")
        return int(not all(kill.in_order for kill in kills))
    if command == "troubles":
        with tempfile.TemporaryDirectory() as scratch:
            borne = list(troubles.play(Path(scratch), **given))
        print(troubles.HEADER, *(each.row() for each in borne), sep="\n")
        return max(each.judgement.verdict for each in borne)
    folder = folder or Path(tempfile.mkdtemp(prefix="taskq-chaos-"))
    outcome = run(Settings(**given), folder, lambda text: print(text, flush=True))
    print(write(outcome, folder).read_text())
    print(f"everything is in {folder}")
    return outcome.judgement.verdict


if __name__ == "__main__":
    raise SystemExit(main())
