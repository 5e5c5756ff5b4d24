"""The child of the processes pool: reads messages from its parent, runs them one after the other, answers outcomes.

Frames are four bytes of length and a MessagePack value: a list of messages to run, or a mapping that says which of
those sent before must not start. The *slate* is a few numbers in shared memory: what the parent knows of a child that
died without a word, and how the child knows that it has been told something.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from taskq import failpoints, logs
from taskq.client.app import TaskQ
from taskq.client.loading import load_app
from taskq.errors import ExitCode, TaskqError
from taskq.values.delivery import BatchDelivery, Delivery, limits_of
from taskq.values.message import decode
from taskq.worker.partition.settling import Outcome
from taskq.worker.running import forked
from taskq.worker.running.batch_runner import runner_of
from taskq.worker.running.exit import exit_with
from taskq.worker.running.limits import SOFT, limit_error, within_limits
from taskq.worker.running.runner import Runner

FLUSH = 0.001
"""Seconds of finished work that may wait for company before it is sent."""

RUNNING, SINCE, MEMORY, TOLD = range(4)
"""The slate: number of the message that runs (below 0: of the last one that ended), ``time.monotonic()`` when it began,
bytes of memory in use, and how many times the parent has said that something must not start."""
SLATE_SIZE = 4

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_length = struct.Struct("!I")


def pack_frame(value: Any) -> bytes:
    """*value* as one frame."""
    body = _encode(value)
    return _length.pack(len(body)) + body


def take_frames(buffer: bytearray, most: int = 1 << 32) -> list[Any]:
    """The complete frames at the start of *buffer*, which are removed from it.

    Raises:
        ValueError: what is there is not a frame, or one of *most* bytes.
    """
    frames, at = [], 0
    while len(buffer) - at >= 4:
        (size,) = _length.unpack_from(buffer, at)
        if size >= most:
            raise ValueError(f"a frame of {size} bytes")
        if len(buffer) - at - 4 < size:
            break
        frames.append(_decode(memoryview(buffer)[at + 4 : at + 4 + size]))
        at += 4 + size
    if at:
        del buffer[:at]
    return frames


class _Inbox:
    """What the parent sends: messages to run, and word that one of them must not start.

    Args:
        sock: to the parent.
        slate: shared with it.
    """

    def __init__(self, sock: socket.socket, slate: Any) -> None:
        self._sock = sock
        self._slate = slate
        self._buffer = bytearray()
        self._work: deque[list[Any]] = deque()
        self._heard = 0
        self._stopped: dict[int, set[int]] = {}

    def next_frame(self) -> list[Any] | None:
        """The next messages to run; None when the parent has closed the connection."""
        while not self._work:
            if not self._receive():
                return None
        return self._work.popleft()

    def heed(self, number: int, delivery: Delivery) -> None:
        """Mark what of *delivery* must not start.

        To be called when the slate says that it runs: from then on the parent knows that its word may be too late.

        Raises:
            SystemExit: the parent has gone meanwhile.
        """
        while self._heard < self._slate[TOLD]:
            if not self._receive():
                raise SystemExit
        for member in self._stopped.pop(number, ()):
            (delivery if delivery.members is None else delivery.members[member]).cancelled = "revoked"

    @property
    def quiet(self) -> bool:
        """Whether the parent has said nothing that :meth:`heed` must look at."""
        return self._heard == self._slate[TOLD] and not self._stopped

    def _receive(self) -> bool:
        data = self._sock.recv(1 << 18)
        self._buffer += data
        for frame in take_frames(self._buffer):
            if isinstance(frame, dict):
                self._heard += 1
                for number, member in frame.items():
                    self._note(number, member)
            else:
                self._work.append(frame)
        return bool(data)

    def _note(self, number: int, member: int) -> None:
        if number > abs(self._slate[RUNNING]) or number == self._slate[RUNNING]:  # else it has begun before
            self._stopped.setdefault(number, set()).add(member)


class ChildQueue:
    """Stands where a delivery's link is: the child only knows the queue's name, and for some tasks the consumer's."""

    __slots__ = ("consumer", "queue")

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.consumer = b""


def main(
    app_path: str,
    worker: str,
    connection: Connection,
    lifeline: Connection,
    slate: Any,
    logging_as: tuple[str, str, Sequence[str]] | None,
) -> None:
    """Serve until the parent closes the connection. *logging_as* is the parent's :func:`taskq.logs.active`."""
    forked.claim()
    _set_apart()
    logs.write_lines()
    if logging_as is not None:
        logs.setup(*logging_as)
    ending = threading.Event()
    threading.Thread(target=_die_with_parent, args=(lifeline, ending), daemon=True).start()
    app = load_app(app_path)
    app.load()
    runner = runner_of(app, f"{worker}/{os.getpid()}")
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        connection.close()
        sock.sendall(pack_frame([]))  # ready
        inbox = _Inbox(sock, slate)
        while (frame := inbox.next_frame()) is not None:
            _serve(sock, inbox, app, runner, slate, frame)
    ending.set()
    os.killpg(0, signal.SIGTERM)  # what tasks started and left behind; it does not end us
    exit_with(ExitCode.OK)


def _set_apart() -> None:
    """Be in a process group with the programs that tasks start, and leave it to the parent when to stop.

    So a signal to the worker's group, such as Ctrl-C, does not come here, and they can be killed together. One that is
    sent here all the same meets a handler that does nothing: unlike "ignore", programs do not inherit it.
    """
    os.setpgid(0, 0)
    for number in forked.STOPPING:
        signal.signal(number, _stay)
        signal.siginterrupt(number, False)


def _stay(signum: int, frame: Any) -> None: ...


def _serve(sock: socket.socket, inbox: _Inbox, app: TaskQ, runner: Runner, slate: Any, frame: list[Any]) -> None:
    if failpoints.ARMED:
        failpoints.hit("child.received")
    answers: list[Any] = []
    flushed = time.monotonic()
    frame.reverse()
    while frame:  # what has ended is let go of
        number, queue, what = frame.pop()
        delivery = _unpacked(app, ChildQueue(queue), what)
        del what
        delivery.started = time.monotonic()
        slate[SINCE] = delivery.started
        slate[MEMORY] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        slate[RUNNING] = number
        if not inbox.quiet:
            inbox.heed(number, delivery)
        if failpoints.ARMED:
            failpoints.hit("child.begin")
        outcome = _call(runner, delivery)
        if failpoints.ARMED:
            failpoints.hit("child.end")
        slate[RUNNING] = -number
        now = time.monotonic()
        answers.append((number, now - delivery.started, *outcome))
        if now - flushed > FLUSH:
            sock.sendall(pack_frame(answers))
            answers, flushed = [], now
    if failpoints.ARMED:
        failpoints.hit("child.answer")
    if answers:
        sock.sendall(pack_frame(answers))
    if failpoints.ARMED:
        failpoints.hit("child.answered")


def _unpacked(app: TaskQ, queue: ChildQueue, what: list[Any]) -> Delivery:
    """One delivery as :func:`taskq.worker.running.executors.processes._packed` has packed it, or a batch of such."""
    if isinstance(what[0], list):
        return BatchDelivery(queue, [_unpacked(app, queue, member) for member in what])
    data, crashes, settled, permit, cancelled, owner = what
    message = decode(data)
    stream, entry, consumer = owner or (b"", b"", b"")
    queue.consumer = consumer
    delivery = Delivery(queue, (stream, entry), data, message, app.tasks[message.task], crashes)
    delivery.settled = settled
    delivery.permit = permit
    delivery.cancelled = cancelled
    return delivery


def _call(runner: Runner, delivery: Delivery) -> Outcome:
    if delivery.task.is_async:
        return _acall(runner, delivery)
    soft, _ = limits_of(delivery)  # the hard limit is the parent's: it kills
    if soft is None:
        return runner.context.copy().run(runner.call, delivery)
    alarm = _Alarm(soft, limit_error(delivery, SOFT))
    return runner.context.copy().run(runner.call, delivery, partial(within_limits, alarm.set, alarm.unset))


class _Alarm:
    """Raises the soft time limit in the main thread, once."""

    def __init__(self, seconds: float, error: TaskqError) -> None:
        self._seconds = seconds
        self._error = error
        self._armed = False

    def set(self) -> None:
        """Raise it after its seconds, wherever the thread is then."""
        signal.signal(signal.SIGALRM, self._strike)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 1e-6))  # 0 would be never

    def unset(self) -> None:
        """Raise it no more."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _strike(self, signum: int, frame: Any) -> None:
        if self._armed:  # else the alarm rang while it was taken back
            self._armed = False
            raise self._error


def _acall(runner: Runner, delivery: Delivery) -> Outcome:
    """Run an async task: only suspects come here, see :mod:`taskq.worker.running.executors.isolation`."""
    try:
        return _event_loop().run(_within_soft_limit(runner, delivery), context=runner.context.copy())
    except BaseException as error:  # a task that it left on the loop has raised SystemExit, say
        _event_loop.cache_clear()
        return runner.failed(delivery, error)


async def _within_soft_limit(runner: Runner, delivery: Delivery) -> Outcome:
    soft, _ = limits_of(delivery)
    if soft is None:
        return await runner.acall(delivery)
    task = asyncio.current_task()
    assert task is not None

    def strike() -> None:
        delivery.cancelled = SOFT
        task.cancel()

    timer = asyncio.get_running_loop().call_later(soft, strike)
    try:
        return await runner.acall(delivery)
    finally:
        timer.cancel()


@cache
def _event_loop() -> asyncio.Runner:
    """One for all tasks of this child: what they keep for their event loop stays good."""
    return asyncio.Runner()


def _die_with_parent(lifeline: Connection, ending: threading.Event) -> None:
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        if not ending.is_set():
            os.killpg(0, signal.SIGKILL)
