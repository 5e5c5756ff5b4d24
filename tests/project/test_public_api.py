"""The names that users may import, pinned: a change here is a change of the public interface."""

from __future__ import annotations

import inspect

import taskq


def test_exported_names() -> None:
    assert sorted(taskq.__all__) == taskq.__all__, "sorted, so that a change shows"
    assert set(taskq.__all__) >= {
        "AsyncTask", "BrokerAuthError", "BrokerError", "BrokerRefusedError", "BrokerUnavailableError", "Config",
        "ConfigError", "Context", "DeadLetter", "DecodeError", "Event", "Topic", "UnknownTopicError",
        "PeriodicEntry", "Reject", "Result",
        "ResultTimeoutError", "Retry", "ScheduleError", "SerializationError", "SoftTimeLimitExceededError", "Task",
        "TaskExpiredError", "TaskFailedError", "TaskQ", "TaskRevokedError", "TaskState", "TaskqError",
        "TimeLimitExceededError", "UnknownOptionError", "UnknownTaskError", "WorkerLostError", "at", "cron",
        "crontab", "current_task", "every", "task",
    }  # fmt: skip
    assert all(hasattr(taskq, name) for name in taskq.__all__)


def test_every_error_of_ours_has_one_root() -> None:
    from taskq import errors

    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    ]
    assert len(classes) > 15
    for each in classes:
        assert issubclass(each, (errors.TaskqError, errors.TaskControl))
        assert each.__doc__


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_methods_users_call() -> None:
    assert public(taskq.Task) >= {
        "delay", "adelay", "apply_async", "aapply_async", "options", "delay_many", "adelay_many",
    }  # fmt: skip
    assert public(taskq.Result) >= {
        "id", "status", "state", "get", "aget", "ready", "successful", "failed", "traceback", "forget",
        "revoke", "arevoke",
    }  # fmt: skip
    assert public(taskq.Context) >= {
        "id", "task", "queue", "attempt", "retries", "deliveries", "replays", "headers", "deadline",
        "time_limit", "soft_time_limit", "cancelled", "lease_lost", "retry",
    }  # fmt: skip
    assert public(taskq.TaskQ) >= {
        "periodic", "send_task", "result", "dlq", "close", "aclose", "get_task",
    }  # fmt: skip


def test_everything_public_says_what_it_does() -> None:
    for kind in (taskq.TaskQ, taskq.Task, taskq.Result, taskq.Context, taskq.DeadLetter):
        assert kind.__doc__
        for name in public(kind):
            value = inspect.getattr_static(kind, name)
            if isinstance(value, property) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{kind.__name__}.{name} has no docstring"
