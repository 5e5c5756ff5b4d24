"""Sync tasks in child processes: true parallelism, and isolation from crashes.

A child that dies takes one message with it: the one that ran is charged with a crash and put back at once, and
those that only waited in the child go to another one.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from taskq import failpoints, logs
from taskq.errors import TaskqError
from taskq.values.delivery import Delivery, limits_of
from taskq.worker.partition.settling import Outcome, restored
from taskq.worker.running.executors import Finished, ServiceTime, child, finish, taken_from
from taskq.worker.running.executors.children import Child, exit_code_of, start
from taskq.worker.running.exit import HOOKS_WITHIN
from taskq.worker.running.limits import HARD, limit_error
from taskq.worker.running.runner import Runner

logger = logging.getLogger("taskq.worker")

AHEAD = 0.004
"""Seconds of work that a child holds ahead, so that it need not wait for its parent between short tasks."""
MOST_AHEAD = 200
REVOKE_GRACE = 1.0
"""Seconds that a revoked task may still finish in before its child is killed."""
LAST_WORDS = 0.1
"""Seconds after a child's death in which its last answers are read. Its connection may stay open for longer: a process
that a task forked has it too."""
_RESTART_PAUSES = (0.0, 0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a child is started again, by how many died in a row before they finished anything."""


class ProcessExecutor:
    """*slots* child processes.

    Args:
        slots: how many children.
        app_path: ``module:attribute`` of the app; every child imports it.
        runner: for the outcomes of messages whose child was killed.
        finished: tells the worker.
    """

    def __init__(self, slots: int, app_path: str, runner: Runner, finished: Finished) -> None:
        self.slots = slots
        self._app_path = app_path
        self._runner = runner
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["taskq.worker.running.executors.nursery"])
        self._waiting: deque[Delivery] = deque()
        self._children: list[Child] = []
        self._times = ServiceTime()
        self._closed = False
        self._deaths = 0
        self._leaving: set[Child] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._burials: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the children and wait until each has imported the app.

        Raises:
            TaskqError: a child ended before it was ready; its own output says why.
        """
        await asyncio.gather(*(self._spawn() for _ in range(self.slots)))
        while sum(each.ready for each in self._children) < self.slots:
            if self._deaths:
                raise TaskqError(
                    "a child process did not start, or ended while it imported the app; see the error above"
                )
            await asyncio.sleep(0.005)

    def submit(self, deliveries: list[Delivery]) -> None:
        self._waiting.extend(deliveries)
        self._hand_out()

    def load(self) -> int:
        return len(self._waiting) + sum(len(each.held) for each in self._children)

    def held(self) -> list[Delivery]:
        return [*self._waiting, *(delivery for each in self._children for delivery in each.held.values())]

    def running(self) -> list[Delivery]:
        found = []
        for each in list(self._children):
            if (delivery := each.running()) is not None:
                delivery.started = each.slate[child.SINCE]
                found.append(delivery)
        return found

    def pids(self) -> list[int]:
        """The children's process ids; may be called from any thread."""
        processes = [each.process for each in list(self._children)]
        return [process.pid for process in processes if process is not None and process.pid is not None]

    def service_time(self) -> float | None:
        return self._times.mean

    def started_at(self, delivery: Delivery) -> float:
        for each in self._children:
            if each.running() is delivery:
                return float(each.slate[child.SINCE])
        return delivery.started

    def take_waiting(self, keep: int = 0) -> list[Delivery]:
        return taken_from(self._waiting, keep)

    def last_waiting(self) -> object:
        return self._waiting[-1] if self._waiting else None

    def waits(self, delivery: object) -> bool:
        return delivery in self._waiting

    def stop_delivery(self, delivery: Delivery) -> None:
        """What waits here carries its mark to a child; a child is told about what lies in its pipe, and killed after
        a grace time if it runs it then."""
        for each in self._children:
            for number, held in each.held.items():
                members = (held,) if held.members is None else held.members
                if delivery in members:
                    each.tell_to_stop(number, members.index(delivery))
                if delivery is held:
                    self._loop.call_later(REVOKE_GRACE, self._kill_if_running, each, delivery)
                if delivery is held or delivery in members:
                    return

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        for each in self._children:
            if each.held:
                each.kill()
            else:
                each.close()

    async def ended(self) -> None:
        """Wait until the children have ended, after :meth:`close`; those that do not are killed."""
        limit = time.monotonic() + HOOKS_WITHIN
        while time.monotonic() < limit:
            if not self._children and not self._leaving:
                return
            await asyncio.sleep(0.005)
        for each in [*self._children, *self._leaving]:
            each.kill()

    async def _spawn(self) -> None:
        each = Child(self)
        self._children.append(each)
        try:
            await self._start_child(each)
        except OSError as error:  # no memory, no file descriptors, no directory for a socket
            logger.error("cannot start a child process: %s", error)
            self.died(each)

    async def _start_child(self, each: Child) -> None:
        ours, theirs = self._context.Pipe(duplex=True)
        lifeline_end, each.lifeline = self._context.Pipe(duplex=False)
        each.slate = self._context.RawArray("d", child.SLATE_SIZE)
        process = self._context.Process(
            target=child.main,
            args=(self._app_path, self._runner.worker, theirs, lifeline_end, each.slate, logs.active()),
            daemon=False,  # a daemon may not have children, and tasks may want some
        )
        await asyncio.to_thread(start, process)
        each.process = process
        self._loop.add_reader(process.sentinel, self._process_ended, each)
        theirs.close()
        lifeline_end.close()
        sock = socket.socket(fileno=os.dup(ours.fileno()))
        ours.close()
        sock.setblocking(False)
        await self._loop.create_connection(lambda: each, sock=sock)

    def _process_ended(self, each: Child) -> None:
        self._loop.remove_reader(each.process.sentinel)
        if each in self._leaving:
            self._forget(each)
        elif each.transport is not None:
            self._loop.call_later(LAST_WORDS, each.transport.abort)

    def _forget(self, each: Child) -> None:
        self._leaving.discard(each)
        if each.process is not None:
            self._loop.remove_reader(each.process.sentinel)
        if each.lifeline is not None:
            each.lifeline.close()

    def answered(self, each: Child, answers: list[Any]) -> None:
        """A child has finished some messages."""
        if failpoints.ARMED:
            failpoints.hit("pool.answered")
        for number, took, *plain in answers:
            outcome = restored(plain)
            started = time.monotonic() - took  # what it waited in the frame of answers is below 10 ms
            delivery = each.held.pop(number)  # from here on nothing may fail
            if each.timers and (timer := each.timers.pop(number, None)) is not None:
                timer.cancel()
            delivery.started = started
            finish(delivery, outcome, took)
            self._times.add(took)
        if answers:
            self._deaths = 0
        self._finished()
        self._hand_out()

    def died(self, each: Child) -> None:
        """A child is gone: settle what it ran, keep what it only held, start another."""
        if failpoints.ARMED:
            failpoints.hit("pool.died")
        self._children.remove(each)
        if each.closing and not each.held:
            self._leaving.add(each)  # it runs its exit hooks
            return
        self._forget(each)
        each.kill()  # a task may have closed its connection; and what programs it left
        running = each.running()
        lost = [running] if running is not None else []
        for number, delivery in reversed(each.held.items()):
            if delivery is running:
                continue
            # its answer died with the child: it must not run again, or has given an answer that would come again
            if (delivery.settled or each.strange) and each.has_begun(number):
                lost.append(delivery)
            else:
                self._waiting.appendleft(delivery)
        each.held.clear()
        for timer in each.timers.values():
            timer.cancel()
        each.timers.clear()
        if self._closed:
            return
        self._deaths += 1
        if lost:
            self._keep(self._burials, self._bury(each, lost))
        self._begin(self._respawn())

    async def _bury(self, each: Child, lost: Sequence[Delivery]) -> None:
        """Settle what a dead child ran, as soon as its exit code is known."""
        began = each.slate[child.SINCE]
        ran = time.monotonic() - began
        exit_code = await asyncio.to_thread(exit_code_of, each.process)
        for delivery in lost:
            delivery.started = began
            finish(delivery, self._verdict(delivery, each, ran, exit_code), ran)
        self._finished()

    def _begin(self, starting: Coroutine[Any, Any, None]) -> None:
        self._keep(self._starts, starting)

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _respawn(self) -> None:
        await asyncio.sleep(_RESTART_PAUSES[min(self._deaths, len(_RESTART_PAUSES) - 1)])
        if not self._closed:
            await self._spawn()

    def _verdict(self, delivery: Delivery, each: Child, ran: float, exit_code: int | None) -> Outcome:
        """What became of the message that a dead child ran."""
        if delivery.cancelled == "time limit":
            delivery.cancelled = ""
            return self._runner.failed(delivery, limit_error(delivery, HARD))
        if delivery.cancelled:
            return self._runner.revoked(delivery)
        if each.killed_for not in (None, delivery):  # it had just begun when its predecessor was to be killed
            return self._runner.interrupted(delivery)
        logger.error("%s killed its process (exit code %s)", delivery.message.task, exit_code)
        return self._runner.lost_child(delivery, exit_code, int(each.slate[child.MEMORY]), ran)

    def _hand_out(self) -> None:
        mean = self._times.mean
        ahead = 1 if mean is None else max(1, min(MOST_AHEAD, int(AHEAD / max(mean, 1e-6))))
        children = sorted((c for c in self._children if c.ready and c.transport), key=lambda c: len(c.held))
        for each in children:
            room = ahead - len(each.held)
            # a nearly full child is left alone: a frame per task would cost more than the task
            if self._waiting and room > 0 and room >= ahead // 2:
                share = min(room, -(-len(self._waiting) // len(children)))
                self._give(each, [self._waiting.popleft() for _ in range(min(share, len(self._waiting)))])

    def _give(self, each: Child, deliveries: list[Delivery]) -> None:
        try:
            frame = self._booked(each, deliveries)
        except Exception as error:  # a bug of ours: each of them ends all the same
            logger.exception("%d messages cannot be given to a child process", len(deliveries))
            for delivery in deliveries:
                each.let_go(delivery)
                finish(delivery, self._runner.failed(delivery, error), 0.0)
            self._loop.call_soon(self._finished)
            return
        if failpoints.ARMED:
            failpoints.hit("pool.give")
        assert each.transport is not None
        each.transport.write(frame)
        if failpoints.ARMED:
            failpoints.hit("pool.given")

    def _booked(self, each: Child, deliveries: list[Delivery]) -> bytes:
        """The frame for *each*, which holds the *deliveries* from now on."""
        frame = []
        for delivery in deliveries:
            number = each.hold(delivery)
            members = delivery.members
            what = _packed(delivery) if members is None else [_packed(member) for member in members]
            frame.append((number, delivery.link.queue, what))
            if delivery.limited:
                self._arm(each, delivery, number)
        return child.pack_frame(frame)

    def _arm(self, each: Child, delivery: Delivery, number: int) -> None:
        _, hard = limits_of(delivery)
        if hard is not None:
            each.timers[number] = self._loop.call_later(hard, self._check_limit, each, number, hard)

    def _check_limit(self, each: Child, number: int, hard: float) -> None:
        """Kill the child if this message has run for its whole limit; it may have waited before it started."""
        delivery = each.held.get(number)
        if delivery is None:
            return
        ran = time.monotonic() - each.slate[child.SINCE] if each.running() is delivery else 0.0
        if ran >= hard:
            delivery.cancelled = "time limit"
            each.killed_for = delivery
            each.kill()
        else:
            each.timers[number] = self._loop.call_later(hard - ran, self._check_limit, each, number, hard)

    def _kill_if_running(self, each: Child, delivery: Delivery) -> None:
        if each.running() is delivery:
            each.killed_for = delivery
            each.kill()


_Packed = tuple[bytes, int | None, bool, float | None, str, tuple[bytes, bytes, bytes] | None]


def _packed(delivery: Delivery) -> _Packed:
    """What a child must know of one delivery."""
    crashes = delivery.crashes if delivery.suspect else None
    owner = (*delivery.key, delivery.link.consumer) if delivery.task.fenced else None
    return delivery.data, crashes, delivery.settled, delivery.permit, delivery.cancelled, owner
