"""What Redis's own settings can lose: kill -9, and the power cut that comes nearest to one on a machine that stays up.

After kill -9 of Redis the kernel still has all that was written. A power cut takes what was written and not synced
with it. So Redis runs with ``fsync`` and ``fdatasync`` replaced by functions that do the same, and then note how long
the file was that is now on the disk. After the kill the append-only file is cut to the last such length, which is
the most that a power cut may take from it, and Redis is started on what is left.

Not shown: a disk that says "synced" and is not, and a file system that loses more than the end of a file.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from support.preload import preloaded

from taskq import TaskQ
from taskq.embedded import EmbeddedRedis, find_server
from taskq.errors import BrokerError
from taskq.values.message import decode

SYNC = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sync_and_note(long call, int fd) {
  struct stat before;
  char link[64], path[1024], line[1200];
  int known = fstat(fd, &before) == 0, done = syscall(call, fd);
  if (done || !known) return done;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  int log = open(getenv("TEST_SYNCED"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  int size = snprintf(line, sizeof line, "%lld %s\\n", (long long)before.st_size, path);
  if (log >= 0 && write(log, line, size) == size) close(log);
  return 0;
}

int fsync(int fd) { return sync_and_note(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_and_note(SYS_fdatasync, fd); }
"""
QUEUE = "durable"


@dataclass(frozen=True)
class Trial:
    """One kill."""

    accepted: int
    lost_by_kill: int
    lost_by_power_cut: int
    window: float
    """Seconds before the kill at which the first lost message had been accepted; 0 without any."""
    in_order: bool
    """Whether what was lost are the last messages and no others."""


HEADER = (
    "| appendfsync | kills | accepted | lost by kill -9 | lost by a power cut | in the worst | window, s "
    "|\n|---|---:|---:|---:|---:|---:|---:|"
)


def row(appendfsync: str, trials: list[Trial]) -> str:
    """For the table of the documentation."""
    worst = max(trial.lost_by_power_cut for trial in trials)
    return (
        f"| {appendfsync} | {len(trials)} | {sum(trial.accepted for trial in trials)} "
        f"| {sum(trial.lost_by_kill for trial in trials)} | {sum(trial.lost_by_power_cut for trial in trials)} "
        f"| {worst} | {max(trial.window for trial in trials):.2f} |"
    )


def trial(folder: Path, appendfsync: str, seconds: float) -> Trial:
    """Send to a new Redis for some seconds, kill it, and see what is left, twice.

    Args:
        folder: an empty directory.
        appendfsync: Redis's setting.
        seconds: how long messages are sent before the kill.
    """
    notes = folder / "synced.txt"
    program = preloaded(find_server(), SYNC, {"TEST_SYNCED": str(notes)}, folder)
    options = ("--auto-aof-rewrite-percentage", "0", "--save", "")
    server = EmbeddedRedis(folder / "data", binary=program, appendfsync=appendfsync, extra_args=options)
    with server:
        accepted, killed_at = _send_until_killed(server, seconds)
        written = {path: path.read_bytes() for path in _files(server)}
        after_kill = _present(server)
        server.kill()
        for path, content in written.items():
            path.write_bytes(content[: _synced(notes, path)])
        after_cut = _present(server)
    times = [at for at, task_id in accepted if task_id not in after_cut]
    kept = [task_id in after_cut for _, task_id in accepted]
    return Trial(
        accepted=len(accepted),
        lost_by_kill=sum(task_id not in after_kill for _, task_id in accepted),
        lost_by_power_cut=len(times),
        window=killed_at - times[0] if times else 0.0,
        in_order=all(before >= after for before, after in pairwise(kept)),
    )


def trials(folder: Path, appendfsync: str, kills: int, seed: int) -> list[Trial]:
    """So many kills, each at a drawn time."""
    draw = random.Random(f"{seed}/{appendfsync}")
    found = []
    for number in range(kills):
        scratch = folder / f"kill-{number}"
        scratch.mkdir()
        found.append(trial(scratch, appendfsync, draw.uniform(1.0, 3.0)))
    return found


def _send_until_killed(server: EmbeddedRedis, seconds: float) -> tuple[list[tuple[float, str]], float]:
    """When each message was accepted, with its id; and when Redis was killed."""
    app = TaskQ("sender", broker_url=server.url, broker_deadline=0.3)
    accepted: list[tuple[float, str]] = []

    def send() -> None:
        try:
            while True:
                result = app.send_task("any", (len(accepted),), queue=QUEUE)
                accepted.append((time.monotonic(), result.id))
        except BrokerError:
            app.close()

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(seconds)
    killed_at = time.monotonic()
    server.kill()
    sender.join()
    return accepted, killed_at


def _files(server: EmbeddedRedis) -> list[Path]:
    return [*server.directory.glob("appendonlydir/*.incr.aof"), *server.directory.glob("appendonly.aof")]


def _synced(notes: Path, path: Path) -> int:
    """How much of a file is on the disk for certain."""
    sizes = [line.partition(" ") for line in notes.read_text().splitlines()] if notes.exists() else []
    return max((int(size) for size, _, name in sizes if name == str(path)), default=0)


def _present(server: EmbeddedRedis) -> set[str]:
    """The ids of all messages, after a restart."""
    server.restart()
    app = TaskQ("reader", broker_url=server.url)
    found: set[str] = set()
    try:
        last = b"-"
        stream = app.keys.queue(QUEUE).stream(5)
        while entries := app.sync_broker.execute("XRANGE", stream, last, "+", "COUNT", 5000):
            found |= {decode(fields[1]).task_id for _, fields in entries}
            last = b"(" + entries[-1][0]
    finally:
        app.close()
    return found
