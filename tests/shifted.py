"""Runs tests under another clock: another day, a night in which clocks change, another time zone.

    python -m tests.shifted                                   every moment below, with the tests that know of time
    python -m tests.shifted leap-day berlin-spring            some of them
    python -m tests.shifted leap-day -- -n 2 tests            the same with other arguments for pytest
    python -m tests.shifted --at 2027-02-28T23:59 --tz Asia/Seoul

The clock of every process that the tests start is shifted by the same amount, the Redis server's too, and goes on from
there. So what is tested is the calendar, and nothing else: no process differs from another. Only the wall clock is
shifted; what measures durations is as it was.

It needs a C compiler (``cc``), Linux and glibc: a small library is put in front of the C library (LD_PRELOAD). It does
what libfaketime does, and less. Debian's Redis hangs at its start under libfaketime.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("-q", "-n", "2", "tests/unit", "tests/fundamentals", "tests/beat", "tests/project/test_examples.py")
OFFSET = "CLOCK_SHIFTED_BY"
"""Seconds, for the library. Not TASKQ_...: tests start processes without those."""

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset(void) {
    static int known;
    static time_t seconds;
    if (!known) {
        const char *text = getenv("CLOCK_SHIFTED_BY");
        seconds = text ? atol(text) : 0;
        known = 1;
    }
    return seconds;
}

/* System calls, not the functions of the C library: to look those up takes memory, and an allocator may ask for the
   time before it is ready. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = syscall(SYS_clock_gettime, clock, now);
    if (!answer && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int answer = syscall(SYS_gettimeofday, now, zone);
    if (!answer && now) now->tv_sec += offset();
    return answer;
}

time_t time(time_t *stored) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stored) *stored = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

/* Waits until an instant of the shifted clock. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    int (*wait)(sem_t *, const struct timespec *) = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec real = *until;
    real.tv_sec -= offset();
    return wait(semaphore, &real);
}
"""


class Moment(NamedTuple):
    """Where a run begins: local time in a zone, which is also that of the processes (TZ)."""

    local: str
    zone: str = "UTC"

    @property
    def instant(self) -> datetime:
        return datetime.fromisoformat(self.local).replace(tzinfo=ZoneInfo(self.zone))


MOMENTS = {
    "leap-day": Moment("2028-02-29T12:00:00"),
    "year-end": Moment("2027-12-31T23:58:30"),
    "sunday": Moment("2026-08-02T10:00:00", "America/Los_Angeles"),
    "berlin-spring": Moment("2027-03-28T01:58:30", "Europe/Berlin"),
    "new-york-autumn": Moment("2026-11-01T00:58:30", "America/New_York"),
    "kiritimati": Moment("2027-01-31T23:58:30", "Pacific/Kiritimati"),
}
"""Two of them begin just before the clock changes, the others around a change of day, month or year."""


def main(arguments: list[str] | None = None) -> int:
    """Run the tests at each moment asked for; 0 when all passed."""
    given = sys.argv[1:] if arguments is None else arguments
    at = given.index("--") if "--" in given else len(given)
    own, for_pytest = given[:at], given[at + 1 :] or list(TESTS)
    parser = argparse.ArgumentParser(prog="python -m tests.shifted", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("moments", nargs="*", metavar="MOMENT", help=f"of {', '.join(MOMENTS)}; default: all")
    parser.add_argument("--at", metavar="TIME", help="another moment, such as 2027-02-28T23:59")
    parser.add_argument("--tz", metavar="ZONE", default="UTC", help="its zone, and that of the processes")
    options = parser.parse_args(own)
    if unknown := [name for name in options.moments if name not in MOMENTS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(MOMENTS)}")
    chosen = {name: MOMENTS[name] for name in options.moments or ([] if options.at else MOMENTS)}
    if options.at:
        chosen[options.at] = Moment(options.at, options.tz)
        try:
            assert chosen[options.at].instant
        except (ValueError, LookupError) as error:
            parser.error(f"--at {options.at} --tz {options.tz}: {error}")
    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        parser.error("this needs Linux and a C compiler named cc (Debian: apt-get install gcc libc6-dev)")
    with tempfile.TemporaryDirectory(prefix="taskq-shifted-") as folder:
        library = _compiled(Path(folder))
        failed = [name for name, moment in chosen.items() if _run(name, moment, library, for_pytest)]
    print(f"shifted: {len(chosen) - len(failed)} of {len(chosen)} passed", *failed, sep="\n  failed: ")
    return 1 if failed else 0


def _compiled(folder: Path) -> Path:
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(LIBRARY)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def _run(name: str, moment: Moment, library: Path, for_pytest: list[str]) -> int:
    offset = round((moment.instant - datetime.now(UTC)).total_seconds())
    print(f"shifted: {name}: {moment.local} in {moment.zone}", flush=True)
    environment = os.environ | {"LD_PRELOAD": str(library), OFFSET: str(offset), "TZ": moment.zone}
    # its cache says which tests failed last, of runs by the true clock
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *for_pytest]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
