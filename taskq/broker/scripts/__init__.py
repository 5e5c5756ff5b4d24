"""A typed builder for every script in ``lua/``: it returns a :class:`Call`, and sends nothing.

The contract of a script stands in its header; a builder only orders keys and arguments. The drivers
(:mod:`taskq.broker.link.sync`, :mod:`taskq.broker.link.aio`) run calls; no logic lives twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskq.broker.calls import Arg, Call, load
from taskq.broker.keys import FRONT, QueueKeys
from taskq.values.message import DEFAULT_PRIORITY
from taskq.values.rates import RateLimit

PRODUCER_TTL_MS = 3_600_000
"""How long a producer's last sequence number is kept: far longer than any client retries."""
WAITING_TTL_MS = 3_600_000
SENT_TTL_MS = 86_400_000
"""How long a task id given by the user counts as used, after its message was due."""
LATEST_TTL_MS = 86_400_000
LATEST_KEPT = 200
"""Messages that ended, of one kind, that are kept of a queue for views."""
RUN_TTL_MS = 30 * 86_400_000
"""How long the record of a replay is kept."""
GUARD_MS = 1000
"""How long after it was given a permit may be used. Costs nothing, as it counts from the start once that is known."""
HOLD_MS = 60_000
"""How long a permit waits for a message that was moved back into its queue."""
MAX_PER_CALL = 1000
"""Most messages in one call: Lua's ``unpack`` fails near 8,000 values, and a call must stay short."""
PICK_WINDOW, PICK_BYTES = 128, 1024 * 1024
"""Entries, and bytes of them, that are looked at for some that can start while others cannot."""
MAX_DELAYED_PER_CALL = 250
"""Most messages in one call that puts them aside."""


ENQUEUE = load("enqueue")
ENQUEUE_ORDERED = load("enqueue_ordered")
DELAY = load("delay")
REGISTER = load("register")
HEARTBEAT = load("heartbeat")
PICK = load("pick")
RECOVER = load("recover")
MARK = load("mark")
ADOPT = load("adopt")
PROMOTE = load("promote")
REVOKE = load("revoke")
WAIT = load("wait")
REPLAY = load("replay")
BEGIN = load("begin")
DISCARD = load("discard")
RESTORE = load("restore")
EVICT = load("evict")
CLAIM = load("claim")
PERMIT = load("permit")
UNPARK = load("unpark")
STARTED = load("started")
RELAY = load("relay")
PAUSE = load("pause")
RESUME = load("resume")
PURGE = load("purge")
FORGET = load("forget")
FIND = load("find")
COUNT = load("count")
STATS = load("stats")


def _announce(level: int) -> str:
    return "" if level == DEFAULT_PRIORITY else str(level)


def enqueue(
    keys: QueueKeys, producer: bytes, sequence: int, level: int, messages: Sequence[bytes], unique_id: str | None = None
) -> Call:
    """Messages of one level into their stream; answers the last entry id, or None when nothing was written."""
    all_keys = [keys.producer(producer), keys.stream(level), keys.levels]
    if unique_id is not None:
        all_keys.append(keys.sent(unique_id))
    return Call(ENQUEUE, all_keys, (sequence, PRODUCER_TTL_MS, _announce(level), keys.wake, SENT_TTL_MS, *messages))


def enqueue_ordered(
    keys: QueueKeys, producer: bytes, sequence: int, level: int, pairs: Sequence[Arg], unique_id: str | None = None
) -> Call:
    """Messages of one level into their lanes; *pairs* alternates ordering key and message."""
    all_keys = [keys.producer(producer), keys.prefix, keys.levels]
    if unique_id is not None:
        all_keys.append(keys.sent(unique_id))
    return Call(
        ENQUEUE_ORDERED, all_keys, (sequence, PRODUCER_TTL_MS, _announce(level), keys.wake, SENT_TTL_MS, level, *pairs)
    )


def delay(
    keys: QueueKeys, producer: bytes, sequence: int, members: Sequence[Arg], unique_id: str | None = None
) -> Call:
    """Messages aside until their time; *members* alternates due (``"+ms"`` or epoch ms) and :func:`member`."""
    all_keys = [keys.producer(producer), keys.delayed]
    if unique_id is not None:
        all_keys.append(keys.sent(unique_id))
    return Call(DELAY, all_keys, (sequence, PRODUCER_TTL_MS, keys.wake, SENT_TTL_MS, *members))


def member(level: int, message: bytes) -> bytes:
    """What the delayed set holds: the level's digit, then the message."""
    return b"%d%b" % (level, message)


def routed(level: int, message: bytes, ordering_key: str | None) -> tuple[str, bytes]:
    """Level and message as scripts take them that put messages into a queue: ``A`` to ``J`` with an ordering key."""
    if ordering_key is None:
        return str(level), message
    return chr(ord("A") + level), ordering_key.encode() + b"\n" + message


def split_member(stored: bytes) -> tuple[int, bytes]:
    """Level and message of a member of the delayed set, also of one with an ordering key before the message."""
    digit, message = stored[:1], stored[1:]
    if digit.isdigit():
        return int(digit), message
    return max(digit[0] - ord("A"), 0) if digit else 0, message.partition(b"\n")[2]


def register(keys: QueueKeys, consumer: bytes, lease_ms: int, streams: Sequence[bytes]) -> Call:
    """A lease for *consumer*, with streams and groups in place; answers its deadline in ms, and numbers of streams that
    cannot be read since their key holds another type."""
    return Call(REGISTER, (keys.consumers, *streams), (consumer, lease_ms))


def heartbeat(keys: QueueKeys, consumer: bytes, lease_ms: int) -> Call:
    """Renew the lease; answers ``[1, ms until there is something to take over]``, or ``[0, 0]`` when it is lost."""
    return Call(HEARTBEAT, (keys.consumers, keys.renewed), (consumer, lease_ms))


def pick(
    keys: QueueKeys,
    streams: Sequence[bytes],
    consumer: bytes,
    known: bytes,
    rooms: Sequence[int],
    places: Sequence[Arg],
    window: tuple[int, int] = (PICK_WINDOW, PICK_BYTES),
) -> Call:
    """Take what there is room for, past what must stay; see ``lua/pick.lua`` for the answer.

    *known* is the state of the last answer that had nothing. *rooms* are those of the places; *places* gives for each
    task its name, the number of its place from 1 and that of its place for a suspect. *window* limits how many entries,
    and how many bytes of them, are looked at.
    """
    return Call(
        PICK,
        (keys.consumers, keys.revoked, keys.paused, *streams),
        (consumer, *window, known, len(rooms), *rooms, *places),
    )


def recover(keys: QueueKeys, streams: Sequence[bytes], consumer: bytes, charge: int, page: int = 200) -> Call:
    """Take over one worker's deliveries; *consumer* ``b""`` means any whose lease ran out while others renewed."""
    return Call(RECOVER, (keys.consumers, keys.renewed, *streams), (consumer, charge, page))


def adopt(keys: QueueKeys, streams: Sequence[bytes]) -> Call:
    """Mark for recovery who holds deliveries without a lease; answers how many."""
    return Call(ADOPT, (keys.consumers, *streams), ())


def mark(keys: QueueKeys, stream: bytes, consumer: bytes, entry: bytes, isolated: bool = False) -> Call:
    """Write down that a suspect is about to run; answers 1, or 0 when it is not ours any more."""
    return Call(MARK, (keys.consumers, stream), (consumer, entry, int(isolated)))


def promote(keys: QueueKeys, page: int = 250) -> Call:
    """Due delayed messages into their streams; answers ``[moved, ms to the next]``."""
    return Call(PROMOTE, (keys.delayed, keys.levels, keys.prefix), (page, keys.wake, str(DEFAULT_PRIORITY)))


def revoke(keys: QueueKeys, task_id: str, remember_ms: int) -> Call:
    """Mark a message as revoked; answers 1, or 0 when it has ended."""
    return Call(REVOKE, (keys.result(task_id), keys.revoked), (task_id, remember_ms, keys.wake))


def wait(keys: QueueKeys, task_id: str, channel: bytes) -> Call:
    """The outcome, or None and a promise to publish it on *channel* (``b""`` only reads)."""
    return Call(WAIT, (keys.result(task_id), keys.waiting), (task_id, channel, WAITING_TTL_MS))


def replay(keys: QueueKeys, fives: Sequence[Arg], run: str | None = None, most: int | None = None) -> Call:
    """Dead letters back into their queue; answers how many moved. See ``lua/replay.lua`` for *fives*.

    *run* is where they are counted, *most* how many of one fingerprint that run may put back in all.
    """
    counted = () if run is None else (keys.dead_run(run),)
    return Call(
        REPLAY,
        (keys.dead, keys.prefix, keys.levels, keys.result_prefix, *counted),
        (keys.wake, str(DEFAULT_PRIORITY), "" if most is None else most, RUN_TTL_MS, *fives),
    )


def begin(keys: QueueKeys, run: str, now_ms: int, kept: int, fields: Sequence[Arg]) -> Call:
    """The record of a run of replays that begins; answers 1, or 0 when it had begun before."""
    return Call(BEGIN, (keys.dead_run(run), keys.dead_runs), (run, now_ms, RUN_TTL_MS, kept, *fields))


def discard(keys: QueueKeys, triples: Sequence[Arg], run: str | None = None, *, with_results: bool = False) -> Call:
    """Dead letters deleted, named by entry id, group and task id; answers how many. *run* is where they count."""
    counted = () if run is None else (keys.dead_run(run),)
    return Call(DISCARD, (keys.dead, *counted), (keys.result_prefix if with_results else b"", RUN_TTL_MS, *triples))


def restore(keys: QueueKeys, sixes: Sequence[Arg]) -> Call:
    """Exported dead letters brought back, each once; see ``lua/restore.lua`` for *sixes*; answers how many were new."""
    return Call(RESTORE, (keys.dead, keys.sent_prefix), (SENT_TTL_MS, *sixes))


def evict(keys: QueueKeys, most_ms: int | None, most: int | None, page: int = 200) -> Call:
    """The oldest dead letters deleted, beyond an age or a number; answers how many for each, and whether to go on."""
    limits = ("" if limit is None else limit for limit in (most_ms, most))
    return Call(EVICT, (keys.dead,), (*limits, page))


def claim(keys: QueueKeys, consumer: bytes, ttl_ms: int, claims: Sequence[tuple[bytes, str]]) -> Call:
    """Idempotency keys for messages about to start; *claims* are :meth:`QueueKeys.claim` and task id."""
    return Call(
        CLAIM,
        (keys.consumers, *(key for key, _ in claims)),
        (consumer, ttl_ms, keys.result_prefix, *(task_id for _, task_id in claims)),
    )


def relay(keys: QueueKeys, quads: Sequence[Arg]) -> Call:
    """Messages with ids that may come again, each once by its task id; answers how many were new.

    *quads* are task id, level (it and the message as :func:`routed` gives them), due (epoch ms, ``+ms`` from now, or
    ``""`` for at once) and message, for at most :data:`MAX_PER_CALL`.
    """
    return Call(
        RELAY,
        (keys.delayed, keys.levels, keys.prefix, keys.sent_prefix),
        (SENT_TTL_MS, keys.wake, str(DEFAULT_PRIORITY), *quads),
    )


def pause(keys: QueueKeys) -> Call:
    """Deliver nothing more of the queue; answers 1, or 0 when it was paused before."""
    return Call(PAUSE, (keys.paused,), (keys.wake,))


def resume(keys: QueueKeys) -> Call:
    """Deliver the queue's messages again; answers 1, or 0 when it was not paused."""
    return Call(RESUME, (keys.paused,), (keys.wake,))


def purge(keys: QueueKeys, streams: Sequence[bytes], ttl_ms: int, outcome: bytes, fives: Sequence[Arg]) -> Call:
    """Drop messages that no worker has, with *outcome*; answers how many.

    *fives* are the number in *streams* from 1 (negative for a list of parked messages, 0: the delayed set, ``lane``,
    ``held:`` and a schedule), entry id or member, task id, claim, and the ordering key of what has its place in a lane.
    """
    return Call(
        PURGE, (keys.waiting, keys.delayed, keys.limited, *streams), (keys.result_prefix, ttl_ms, outcome, *fives)
    )


def count(
    keys: QueueKeys,
    consumer: bytes,
    sequence: int,
    sums: Sequence[int],
    fields: Sequence[Arg],
    lives: Sequence[int],
    latest: tuple[Sequence[Arg], Sequence[Arg]] = ((), ()),
) -> Call:
    """Ended deliveries into totals, history and the lists of the latest; answers 1, or 0 when counted before.

    *fields* alternates name and increment; *lives* are the TTLs of totals and history in ms, and its minutes;
    *latest* are rows of what succeeded and of what ended otherwise (:mod:`taskq.broker.views.ended`).
    """
    well, otherwise = latest
    return Call(
        COUNT,
        (keys.producer(consumer), keys.totals, keys.history, keys.ended_well, keys.ended_otherwise),
        (
            *(sequence, PRODUCER_TTL_MS, *lives, LATEST_TTL_MS, LATEST_KEPT, len(sums), *sums),
            *(len(well), *well, len(otherwise), *otherwise, *fields),
        ),
    )


def forget(keys: QueueKeys, stream: bytes, consumer: bytes) -> Call:
    """Remove a consumer without lease and deliveries; answers 1, or 0 when it is not that."""
    return Call(FORGET, (keys.consumers, stream), (consumer,))


def stats(keys: QueueKeys, history_minutes: int) -> Call:
    """The counts of a queue, for views; see ``lua/stats.lua`` for the answer."""
    return Call(
        STATS,
        (
            *(keys.consumers, keys.delayed, keys.dead, keys.paused, keys.history, keys.levels, keys.stream_prefix),
            *(keys.limited, keys.parked_prefix, keys.holding, keys.held_prefix),
        ),
        (history_minutes, str(DEFAULT_PRIORITY)),
    )


def find(
    keys: QueueKeys, task_id: str, needle: bytes, most: int, around_ms: Sequence[int], held: Sequence[bytes] = ()
) -> Call:
    """Where a message is, and its outcome; see ``lua/find.lua`` for the answer.

    *needle* is its id as it stands in a message, *around_ms* when it may have come into its queue or may be due, *held*
    lists of messages that schedules hold back.
    """
    return Call(
        FIND,
        (keys.result(task_id), keys.revoked, keys.delayed, keys.levels, keys.limited, keys.prefix, *held),
        (task_id, needle, most, str(DEFAULT_PRIORITY), SENT_TTL_MS, *around_ms),
    )


def permit(
    keys: QueueKeys,
    streams: Sequence[bytes],
    consumer: bytes,
    task: str,
    limit: RateLimit,
    most: int,
    triples: Sequence[Arg],
) -> Call:
    """Permits for at most *most* of these messages; *triples* are stream number, entry id and task id of each."""
    return Call(
        PERMIT,
        (keys.consumers, keys.permits(task), keys.parked(task), keys.limited, *streams),
        (
            *(consumer, limit.count, limit.window_ms, GUARD_MS, most, _permits_ttl(limit), keys.wake, HOLD_MS, task),
            *triples,
        ),
    )


def unpark(keys: QueueKeys, caller: bytes, task: str, limit: RateLimit, page: int = 200) -> Call:
    """Parked messages of *task* back into the queue; answers ``[moved, ms to the next]``."""
    return Call(
        UNPARK,
        (keys.permits(task), keys.parked(task), keys.mover(task), keys.stream(FRONT), keys.limited),
        (caller, limit.count, limit.window_ms, GUARD_MS, HOLD_MS, page, _permits_ttl(limit), task),
    )


def started(keys: QueueKeys, task: str, pairs: Sequence[Arg]) -> Call:
    """When messages of *task* have started; *pairs* are a permit and the start's ms, or ``""`` to give it back."""
    return Call(STARTED, (keys.permits(task), keys.mover(task)), (keys.wake, *pairs))


def _permits_ttl(limit: RateLimit) -> int:
    return 2 * (limit.window_ms + GUARD_MS + HOLD_MS)


def streams_of(keys: QueueKeys, levels: Sequence[int]) -> list[bytes]:
    """The streams of a queue in the order they are read: the front, then priorities from high to low."""
    return [keys.stream(FRONT), *(keys.stream(level) for level in sorted({*levels, DEFAULT_PRIORITY}, reverse=True))]
