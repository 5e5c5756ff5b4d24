"""Nothing that was taken to be settled is ever lost, whatever goes wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import BrokerUnavailableError, TaskFailedError, TaskQ
from taskq.broker.calls import Call
from taskq.broker.scripts.settling import COMPLETE, SETTLE, Retry
from taskq.worker.partition.settling import Outcome

BAD: dict[str, Outcome] = {
    "no word": Outcome(COMPLETE, "SUCCESS", stored=object()),  # type: ignore[arg-type]
    "no text": Outcome(COMPLETE, "SUCCESS", stored="\ud800"),  # type: ignore[arg-type]
    "no end": Outcome(None, "RETRY"),  # type: ignore[arg-type]
    "no word in its end": Outcome(Retry(1, ()), "RETRY"),  # type: ignore[arg-type]
}


def spoil(running: RunningWorker, outcomes: dict[str, Outcome]) -> None:
    """Have the worker end calls with such an argument in these ways."""
    runner = running.worker._runner
    succeeded = runner.succeeded

    def spoiled(delivery: Any, value: Any) -> Outcome:
        return outcomes.get(value) or succeeded(delivery, value)

    runner.succeeded = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("how", BAD)
def test_an_outcome_that_cannot_be_sent_is_a_dead_letter_and_its_neighbours_settle(app: TaskQ, how: str) -> None:
    @app.task
    def echo(value: str) -> str:
        return value

    with running_worker(app) as running:
        spoil(running, BAD)
        values = [how if n % 10 == 3 else str(n) for n in range(40)]
        results = echo.delay_many([(value,) for value in values])
        for value, result in zip(values, results, strict=True):
            if value == how:
                with pytest.raises(TaskFailedError, match="the outcome of the run cannot be recorded"):
                    result.get(timeout=20)
            else:
                assert result.get(timeout=20) == value
        eventually(lambda: running.worker._fetcher.held() == 0)
        assert echo.delay("next").get(timeout=20) == "next"
    letters = app.dlq.list()
    assert [letter.message.args for letter in letters if letter.message] == [[how]] * 4
    assert {letter.evidence.error_type for letter in letters} == {"UnrecordableOutcome"}
    app.dlq.purge()


def test_a_reply_of_a_strange_shape_loses_nothing(app: TaskQ) -> None:
    @app.task
    def echo(value: int) -> int:
        return value

    with running_worker(app) as running:
        assert echo.delay(0).get(timeout=20) == 0
        connection = running.worker._connection
        run_call, strange = connection.run_call, [1, [1], [1, 2], [1, None, 0, [], [], b"", 7]]

        async def garbled(call: Any) -> Any:
            reply = await run_call(call)
            return strange.pop() if strange and call.script is SETTLE and len(reply) == 6 else reply

        connection.run_call = garbled  # type: ignore[method-assign]
        results = echo.delay_many([(n,) for n in range(100)])
        assert [result.get(timeout=30) for result in results] == list(range(100))
        eventually(lambda: running.worker._fetcher.held() == 0)
        assert not strange


@pytest.mark.parametrize("ignored", [False, True])
def test_an_at_most_once_outcome_is_stored_once_over_lost_replies(app: TaskQ, ignored: bool) -> None:
    @app.task(delivery="at_most_once", ignore_result=ignored)
    def pay(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    with running_worker(app) as running:
        connection = running.worker._connection
        run_call, lost = connection.run_call, [True] * 5

        async def losing(call: Call) -> Any:
            reply = await run_call(call)
            if lost and call.script is SETTLE and reply[0] == 1 and any(word in ("s", "e") for word in call.args):
                lost.pop()
                raise BrokerUnavailableError("the reply was lost")
            return reply

        connection.run_call = losing  # type: ignore[method-assign]
        for start in range(0, 60, 6):
            pay.delay_many([(number,) for number in range(start, start + 6)])
            eventually(lambda: app.queues()[0].backlog == 0 and running.worker._fetcher.held() == 0)
        assert not lost
    assert sorted(letter.message.args[0] for letter in app.dlq.list(limit=100) if letter.message) == list(
        range(1, 60, 2)
    )
    app.dlq.purge()


def test_an_at_most_once_message_that_was_replayed_fails_into_the_dead_letters_again(app: TaskQ) -> None:
    @app.task(delivery="at_most_once")
    def pay() -> None:
        raise ValueError("no money")

    with running_worker(app):
        pay.delay()
        eventually(app.dlq.list)
        assert app.dlq.replay() == 1
        eventually(lambda: [letter.replays for letter in app.dlq.list()] == [1])
    app.dlq.purge()
