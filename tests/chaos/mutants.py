"""Broken variants of taskq, each a mistake that a real task queue has made. The checker must call every one invalid.

A mutant lives in the processes whose environment names it (``CHAOS_MUTANT``); the code on disk is whole. One that
changes a script names the text it replaces, so that it fails loudly, rather than pass silently, when that text moves.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from taskq.broker import scripts
from taskq.broker.calls import Script
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import schedules as schedule_scripts
from taskq.broker.scripts import settling
from taskq.broker.scripts.settling import COMPLETE, Release, Retry
from taskq.errors import BrokerError
from taskq.values.delivery import Delivery
from taskq.worker.admission.arrivals import Arrivals
from taskq.worker.admission.intake import Intake
from taskq.worker.exchange.fetcher import Fetcher
from taskq.worker.exchange.reader import Reader
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import DONE, Outcome
from taskq.worker.running.executors import processes, threads
from taskq.worker.services.promoter import Promoter


class Mutant(NamedTuple):
    """One broken variant."""

    broken: str
    """What is wrong with it, for the documentation."""
    scenario: str
    """The one of ``scenarios.py`` that shows it."""
    caught_by: tuple[str, ...]
    """The checks of which at least one must object."""
    apply: Callable[[], None]


def apply(name: str) -> None:
    """Turn this process into the mutant *name*.

    Raises:
        KeyError: there is no such mutant.
        LookupError: what it changes is not there any more.
    """
    MUTANTS[name].apply()


def _edit(name: str, *changes: tuple[str, str]) -> None:
    """Replace parts of the script ``<name>``."""
    home, script = _find(name)
    text = script.text
    for old, new in changes:
        if old not in text:
            raise LookupError(f"{script.name}.lua has no {old!r} any more")
        text = text.replace(old, new)
    _put(home, name, text)


def _function(name: str, function: str, body: str) -> None:
    """Give the Lua function of this name in the script ``<name>`` another body."""
    home, script = _find(name)
    head = rf"^( *)((?:local )?function {re.escape(function)}\([^)]*\))"
    text, found = re.subn(rf"{head}(?:.*?^\1end| .* end)$", rf"\1\2 {body} end", script.text, flags=re.M | re.S)
    if found != 1:
        raise LookupError(f"{script.name}.lua has {found} functions {function!r}")
    _put(home, name, text)


def _find(name: str) -> tuple[Any, Script]:
    home: Any = next(module for module in (scripts, schedule_scripts, settling) if hasattr(module, name))
    return home, getattr(home, name)


def _put(home: Any, name: str, text: str) -> None:
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    setattr(home, name, Script(getattr(home, name).name, text, sha))


def _die_once() -> None:
    """SIGKILL ourselves, if no process has done so before."""
    try:
        os.close(os.open(os.path.join(os.environ["CHAOS_HISTORY"], "died"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


_FENCE = "if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end"
_OWNER = "if all_ours or redis.call('XDEL', stream, ids[n]) == 1 then"
_NO_OWNER = "redis.call('XDEL', stream, ids[n]) if true then"


def _ack_before_run() -> None:
    from .workload import app

    for task in app.tasks.values():
        object.__setattr__(task.settings, "at_most_once", True)


def _no_fence() -> None:
    _edit("SETTLE", (_FENCE, ""), (_OWNER, _NO_OWNER))
    Fetcher.lease_lost = lambda self, consumer: None  # type: ignore[method-assign]


def _heartbeat_adds() -> None:
    _edit("HEARTBEAT", ("'XX', 'CH', deadline", "'CH', deadline"))
    _edit("SETTLE", (_OWNER, _NO_OWNER))


def _recover_copies() -> None:
    _edit(
        "RECOVER",
        ("redis.call('XACK', KEYS[i], 'taskq', row[1])", ""),
        ("redis.call('XDEL', KEYS[i], row[1])", ""),
        ("if moved >= page then return {moved, 1, 0, who} end", ""),
        ("redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], 'taskq', who)", ""),
    )
    _edit("SETTLE", (_FENCE, ""))
    Fetcher.lease_lost = lambda self, consumer: None  # type: ignore[method-assign]


def _recover_keeps_name() -> None:
    _edit("RECOVER", ("redis.call('ZREM', KEYS[1], mark)\nlocal next", "local next"))


def _no_dedup() -> None:
    for name in ("ENQUEUE", "DELAY"):
        _edit(name, ("if seen and (tonumber(seen) or 0) >= tonumber(ARGV[1]) then return false end", ""))


def _group_at_end() -> None:
    _edit("REGISTER", ("'taskq', '0'", "'taskq', '$'"))


def _no_xdel() -> None:
    _edit(
        "SETTLE",
        ("redis.call('XDEL', item.stream, item.id)", ""),
        ("redis.call('XDEL', stream, unpack(ids))", "stream = stream"),
        ("redis.call('XDEL', stream, unpack(ARGV, at + 2, at + 1 + n))", ""),
    )


def _promote_in_steps() -> None:
    async def look(self: Promoter) -> float:
        keys, run = self._link.keys, self._run.__self__.execute  # type: ignore[attr-defined]
        seconds, micros = await run("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        due = await run("ZRANGEBYSCORE", keys.delayed, "-inf", now)
        if due:
            await run("ZREM", keys.delayed, *due)
            _die_once()
            for member in due:
                await run("XADD", keys.stream_prefix + member[:1], "*", "m", member[1:])
        return 0.02

    Promoter._look = look  # type: ignore[method-assign]


def _retry_in_steps() -> None:
    whole = Fetcher._exchange

    async def exchange(self: Fetcher, link: QueueLink, want: int) -> None:
        later = [outcome.end for _, outcome, _ in link.ended if isinstance(outcome.end, Retry)]
        for at, (delivery, outcome, took) in enumerate(link.ended):
            if isinstance(outcome.end, Retry):
                link.ended[at] = (delivery, outcome._replace(end=COMPLETE), took)
        await whole(self, link, want)
        if later:
            _die_once()
        for retry in later:
            seconds, micros = await self._connection.execute("TIME")
            due = int(seconds) * 1000 + int(micros) // 1000 + retry.wait_ms
            await self._connection.execute("ZADD", link.keys.delayed, due, retry.member)

    Fetcher._exchange = exchange  # type: ignore[method-assign]


def _outcomes_dropped() -> None:
    whole = Fetcher._exchange

    async def exchange(self: Fetcher, link: QueueLink, want: int) -> None:
        try:
            await whole(self, link, want)
        except BrokerError:
            link.ended.clear()
            raise

    Fetcher._exchange = exchange  # type: ignore[method-assign]


def _result_outside() -> None:
    from .workload import app

    whole = threads.finish
    broker = SyncBroker(app.address, 5, 5)

    def finish(delivery: Delivery, outcome: Outcome, runtime: float) -> None:
        if outcome.stored:
            key = delivery.link.keys.result(delivery.message.task_id)
            broker.execute("SET", key, outcome.stored, "PX", outcome.ttl_ms)
        whole(delivery, outcome._replace(stored=b""), runtime)

    threads.finish = finish  # type: ignore[attr-defined]


def _never_reclaims() -> None:
    async def reclaim(self: Arrivals, link: QueueLink) -> bool:
        link.reclaim = False
        link.hot = True
        return True

    Arrivals.reclaim = reclaim  # type: ignore[method-assign]


def _fire_unchecked() -> None:
    _edit("FIRE", ("if tonumber(fired) >= tonumber(ARGV[2]) then return {0, fired} end", ""))


def _unknown_dropped() -> None:
    def unknown(self: Intake, delivery: Delivery) -> None:
        outcomes_of = delivery.link.ended
        outcomes_of.append((delivery, DONE, 0.0))

    Intake._unknown = unknown  # type: ignore[method-assign]


def _stop_drops() -> None:
    gone = "redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], 'taskq', ARGV[1])"
    start = "local page = tonumber(ARGV[3])"
    drop = (
        f"if ARGV[1] ~= '' then for i = 2, #KEYS do {gone} end "
        "redis.call('ZREM', KEYS[1], ARGV[1]) return {0, 0, -1, ARGV[1]} end\n"
    )
    _edit("RECOVER", (start, drop + start))


def _no_heartbeat() -> None:
    _edit("HEARTBEAT", ("redis.call('ZADD', KEYS[1], 'XX', 'CH', deadline, ARGV[1])", "1"))


def _no_grace() -> None:
    _edit("HEARTBEAT", ("if not at or math.abs(now - at) > patience then", "if false then"))
    _edit("RECOVER", ("not somebody_renews()", "false"))


def _crash_uncounted() -> None:
    whole = processes.ProcessExecutor._verdict

    def verdict(self: Any, delivery: Delivery, *known: Any) -> Outcome:
        outcome = whole(self, delivery, *known)
        return outcome._replace(end=Release(0)) if isinstance(outcome.end, Release) else outcome

    processes.ProcessExecutor._verdict = verdict  # type: ignore[method-assign]


def _promote_early() -> None:
    _edit("PROMOTE", ("'-inf', string.format('%.0f', now), 'LIMIT'", "'-inf', '+inf', 'LIMIT'"))


def _dead_dropped() -> None:
    _function("SETTLE", "bury", "")


def _blind_block() -> None:
    """The first blocking read of a worker that returns anything loses it."""
    whole = Reader._by_link
    lost: list[bool] = []

    def by_link(self: Reader, reply: Any) -> Any:
        if reply and not lost:
            lost.append(True)
            return []
        return whole(self, reply)

    Reader._by_link = by_link  # type: ignore[method-assign]


_NOT_ENDED = ("lost", "stuck")

MUTANTS: dict[str, Mutant] = {
    "ack-before-run": Mutant("the entry is acknowledged before the task runs", "kill", _NOT_ENDED, _ack_before_run),
    "no-fence": Mutant("settle asks neither for the lease nor for the owner", "pause", ("second commit",), _no_fence),
    "heartbeat-steals-back": Mutant(
        "a renewal adds the lost lease again (the twin of XCLAIM with idle 0)",
        "pause",
        ("second commit",),
        _heartbeat_adds,
    ),
    "recover-copies": Mutant(
        "recovery puts a copy into the queue and leaves the old delivery", "pause", ("second commit",), _recover_copies
    ),
    "recover-keeps-name": Mutant(
        "recovery does not forget the dead consumer", "kill", ("left behind",), _recover_keeps_name
    ),
    "no-dedup": Mutant("enqueue does not look at the sequence number", "lost replies", ("second commit",), _no_dedup),
    "group-at-end": Mutant(
        "the consumer group begins at `$`: what was sent before is never read", "early bird", _NOT_ENDED, _group_at_end
    ),
    "no-xdel": Mutant(
        "settle acknowledges and does not delete: the stream grows for ever", "plain", ("left behind",), _no_xdel
    ),
    "promote-in-steps": Mutant(
        "promotion removes first and adds later, in two calls", "delayed", _NOT_ENDED, _promote_in_steps
    ),
    "retry-in-steps": Mutant(
        "a retry acknowledges first and is written later, in two calls", "retry", _NOT_ENDED, _retry_in_steps
    ),
    "outcomes-dropped": Mutant(
        "outcomes under way when the connection breaks are forgotten", "cut settle", _NOT_ENDED, _outcomes_dropped
    ),
    "result-outside-fence": Mutant(
        "the result is written by the task's thread, before the settle", "pause", ("second commit",), _result_outside
    ),
    "never-rereads": Mutant(
        "own pending entries are not read again after a lost reply", "cut fetch", _NOT_ENDED, _never_reclaims
    ),
    "blind-block": Mutant("one blocking read's answer is lost inside the worker", "plain", _NOT_ENDED, _blind_block),
    "fire-unchecked": Mutant(
        "beat enqueues without looking at the last fire time", "beats", ("second commit",), _fire_unchecked
    ),
    "unknown-dropped": Mutant(
        "a message whose task the worker does not know is acknowledged", "old release", _NOT_ENDED, _unknown_dropped
    ),
    "stop-drops": Mutant(
        "a stopping worker deletes its consumer with what is pending (XGROUP DELCONSUMER)",
        "hurry",
        _NOT_ENDED,
        _stop_drops,
    ),
    "no-heartbeat": Mutant(
        "the lease is never renewed: a long task runs twice, or is a dead letter that killed nobody",
        "long",
        ("unexplained run", "innocent dead lettered", *_NOT_ENDED),
        _no_heartbeat,
    ),
    "no-grace": Mutant(
        "leases run out while Redis is away: whoever comes back first takes over from all others",
        "outage",
        ("unexplained run",),
        _no_grace,
    ),
    "crash-uncounted": Mutant(
        "a child's death is not counted: poison runs for ever", "poison", ("over the limit", "stuck"), _crash_uncounted
    ),
    "promote-early": Mutant(
        "delayed messages are promoted before they are due", "delayed", ("too early",), _promote_early
    ),
    "dead-dropped": Mutant(
        "a final failure is recorded, its dead letter is not", "doomed", ("unexpected end",), _dead_dropped
    ),
}
