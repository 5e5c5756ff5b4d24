"""What fails for good is kept: look at it, put it back, or delete it."""

from __future__ import annotations

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskFailedError, TaskQ, TaskState, current_task
from taskq.errors import DeadLetterNotFoundError


def test_a_dead_letter_keeps_the_evidence(app: TaskQ) -> None:
    @app.task(max_retries=1, retry_backoff=0.01, queue="mail")
    def send(to: str) -> None:
        raise OSError(f"{to} refused")

    with running_worker(app):
        result = send.delay("ann")
        with pytest.raises(TaskFailedError):
            result.get(timeout=30)
    assert app.dlq.count() == app.dlq.count("mail") == 1
    (letter,) = app.dlq.list()
    assert (letter.task_id, letter.task, letter.queue) == (result.id, send.name, "mail")
    assert letter.message
    assert letter.message.args == ["ann"]
    evidence = letter.evidence
    assert (evidence.error_type, evidence.error, evidence.reason) == ("OSError", "ann refused", "failed")
    assert (evidence.attempts, evidence.crashes, letter.replays) == (2, 0, 0)
    assert 'raise OSError(f"{to} refused")' in evidence.traceback
    assert evidence.worker
    assert 0 < evidence.first_at <= evidence.died_at
    assert app.dlq.get(result.id) == app.dlq.get(letter.entry) == letter
    assert app.dlq.purge() == 1


def test_replay_puts_it_back_with_fresh_attempts(app: TaskQ) -> None:
    broken = [True]
    attempts: list[tuple[int, int]] = []

    @app.task(max_retries=1, retry_backoff=0.01)
    def repair() -> str:
        attempts.append((current_task().attempt, current_task().replays))
        if broken:
            raise OSError("broken")
        return "fine"

    with running_worker(app):
        result = repair.delay()
        with pytest.raises(TaskFailedError):
            result.get(timeout=30)
        broken.clear()
        assert app.dlq.replay() == 1
        eventually(lambda: result.status is TaskState.SUCCESS)
        assert result.get(timeout=30) == "fine"
    assert attempts == [(1, 0), (2, 0), (1, 1)]
    assert app.dlq.count() == 0
    assert app.dlq.replay() == 0


def test_replay_and_purge_choose(app: TaskQ) -> None:
    @app.task(max_retries=0)
    def one(x: int) -> int:
        return 1 // x

    @app.task(max_retries=0, queue="mail")
    def two(x: int) -> int:
        return 2 // x

    with running_worker(app):
        results = [task.delay(0) for task in (one, one, one, two)]
        for result in results:
            with pytest.raises(TaskFailedError):
                result.get(timeout=30)
    assert len(app.dlq.list(limit=2)) == 2
    assert [letter.task_id for letter in app.dlq.list(task=two.name)] == [results[3].id]
    assert app.dlq.purge([results[0].id]) == 1
    assert app.dlq.purge(queue="mail", task=one.name) == 0
    assert app.dlq.replay([results[1].id], max_replays=0) == 0
    assert app.dlq.replay([results[1].id]) == 1
    with pytest.raises(DeadLetterNotFoundError):
        app.dlq.replay([results[1].id])
    assert app.dlq.replay([results[1].id], skip_missing=True) == 0
    assert results[1].status is TaskState.PENDING
    with running_worker(app), pytest.raises(TaskFailedError):
        results[1].get(timeout=30)
    again = app.dlq.get(results[1].id)
    assert again
    assert again.replays == 1
    assert app.dlq.replay(max_replays=1, task=one.name) == 1  # results[2]; the other was replayed before
    with running_worker(app), pytest.raises(TaskFailedError):
        results[2].get(timeout=30)
    assert {letter.task_id for letter in app.dlq.list()} == {result.id for result in results[1:]}
    assert app.dlq.purge() == 3
