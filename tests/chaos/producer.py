"""A producer process: ``python -m chaos.producer <first> <last> <per second> <seed> <history file>``.

Sends the task numbers from *first* to *last* as their plans say: singly, in bulk, in batches, from coroutines.
After a kill it is started again with the same arguments, and goes on after the last number that its history file
knows. With a spool it ends when the spool is empty.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskq.errors import BrokerRefusedError, TaskqError

from .history import Kind, Writer, read_one
from .workload import Plan, app, check_of, plan

BULK = 20


class Producer:
    """Sends what it is told and writes down what it was told in return."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def send(self, number: int, planned: Plan) -> None:
        """Send one task with ``.delay()``."""
        self._invoke(number, planned)
        try:
            bound(planned).delay(*arguments(number, planned))
        except TaskqError as error:
            self._writer.write(_verdict(error), number)
        else:
            self._writer.write(Kind.OK, number)

    async def asend(self, number: int, planned: Plan) -> None:
        """Send one task with ``.adelay()``."""
        self._invoke(number, planned)
        try:
            await bound(planned).adelay(*arguments(number, planned))
        except TaskqError as error:
            self._writer.write(_verdict(error), number)
        else:
            self._writer.write(Kind.OK, number)

    def send_bulk(self, numbers: Sequence[int], planned: Plan) -> None:
        """Send tasks of one name with ``.delay_many()``."""
        for number in numbers:
            self._invoke(number, planned)
        try:
            app.tasks[planned.name].delay_many([arguments(number, planned) for number in numbers])
        except TaskqError as error:
            for number in numbers:
                self._writer.write(_verdict(error), number)
        else:
            for number in numbers:
                self._writer.write(Kind.OK, number)

    def send_batch(self, numbers: Sequence[int], planned: Plan) -> None:
        """Send tasks of one name inside ``app.batch()``."""
        try:
            with app.batch():
                for number in numbers:
                    self._invoke(number, planned)
                    bound(planned).delay(*arguments(number, planned))
        except TaskqError as error:
            for number in numbers:
                self._writer.write(_verdict(error), number)
        else:
            for number in numbers:
                self._writer.write(Kind.OK, number)

    def _invoke(self, number: int, planned: Plan) -> None:
        due = time.monotonic_ns() + round(planned.countdown * 1e9) if planned.countdown else 0
        self._writer.write(Kind.INVOKE, number, flag=planned.expect, attempt=planned.attempts, run=due)


def bound(planned: Plan) -> Any:
    """The task with the plan's options."""
    task = app.tasks[planned.name]
    options: dict[str, Any] = {}
    if planned.priority != 5:
        options["priority"] = planned.priority
    if planned.countdown:
        options["countdown"] = planned.countdown
    return task.options(**options) if options else task


def arguments(number: int, planned: Plan) -> tuple[Any, ...]:
    """What the task is called with."""
    first = (number, check_of(number))
    return (*first, planned.sleep) if planned.sleep else first


def _verdict(error: TaskqError) -> Kind:
    return Kind.FAIL if isinstance(error, BrokerRefusedError) else Kind.INFO


def run(first: int, last: int, rate: float, seed: int, producer: Producer) -> None:
    """Send the numbers *first* to *last*, at most *rate* a second."""
    draw = random.Random(f"{seed}/producer/{first}")
    began = time.monotonic()
    number = first
    with asyncio.Runner() as runner:
        while number <= last:
            size = min(draw.choice((1, 1, 1, BULK, BULK)), last - number + 1)
            numbers = range(number, number + size)
            if size == 1:
                producer.send(number, plan(seed, number))
            elif (way := draw.random()) < 0.5:
                runner.run(_together(producer, [(each, plan(seed, each)) for each in numbers]))
            elif way < 0.75:
                producer.send_bulk(numbers, Plan("work"))
            else:
                producer.send_batch(numbers, Plan("work"))
            number += size
            ahead = (number - first) / rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
        while (spool := app.sender.spool) is not None and len(spool):
            time.sleep(0.01)
        runner.run(app.aclose())


async def _together(producer: Producer, planned: Sequence[tuple[int, Plan]]) -> None:
    await asyncio.gather(*(producer.asend(*one) for one in planned))


def main(first: int, last: int, rate: float, seed: int, path: Path) -> None:
    """Run until the last number is sent."""
    sent = [record.task for record in read_one(path)] if path.exists() else []
    run(max([first, *(number + 1 for number in sent)]), last, rate, seed, Producer(Writer(path)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
