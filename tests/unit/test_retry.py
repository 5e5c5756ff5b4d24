"""RetryPolicy: which failures are retried, how often, after how long."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import (
    ConfigError,
    SoftTimeLimitExceededError,
    TimeLimitExceededError,
    UnknownOptionError,
    WorkerLostError,
)
from taskq.values.retry import LONGEST_WAIT, UNSET, RetryPolicy


def decide(policy: RetryPolicy, error: BaseException | None = None, **given: Any) -> float | None:
    """The policy's answer to a first failure, with all of the jitter."""
    call: dict[str, Any] = {"attempt": 1, "elapsed": 0.0, "random": lambda: 1.0} | given
    return policy.decide(error or OSError("no route"), **call)


def waits(policy: RetryPolicy, attempts: int) -> list[float | None]:
    return [decide(policy, attempt=attempt) for attempt in range(1, attempts + 1)]


# --- the plain options ---


def test_default_is_three_retries_that_double() -> None:
    assert waits(RetryPolicy(), 5) == [1.0, 2.0, 4.0, None, None]


def test_no_retries() -> None:
    assert decide(RetryPolicy(max_retries=0)) is None


def test_no_limit_is_capped_by_the_longest_backoff_and_never_overflows() -> None:
    policy = RetryPolicy(max_retries=None)
    assert decide(policy, attempt=10_000) == 600.0
    assert decide(policy, attempt=10**9) == 600.0


def test_no_backoff_is_no_wait() -> None:
    assert waits(RetryPolicy(retry_backoff=0.0), 2) == [0.0, 0.0]


def test_backoff_is_a_factor() -> None:
    assert waits(RetryPolicy(retry_backoff=30.0, retry_backoff_max=100.0), 3) == [30.0, 60.0, 100.0]


def test_jitter_covers_everything_from_zero_to_the_exponential() -> None:
    policy = RetryPolicy(max_retries=None)
    assert [decide(policy, attempt=4, random=lambda r=r: r) for r in (0.0, 0.25, 0.5)] == [0.0, 2.0, 4.0]


def test_without_jitter_the_random_source_is_not_used() -> None:
    policy = RetryPolicy(retry_jitter=False)
    assert decide(policy, attempt=3, random=lambda: 0.0) == 4.0


def test_the_default_random_source_spreads_the_waits() -> None:
    policy = RetryPolicy(max_retries=None)
    seen = {policy.decide(OSError(), attempt=8, elapsed=0.0) for _ in range(20)}
    assert len(seen) > 10
    assert all(wait is not None and 0 <= wait <= 128 for wait in seen)


@given(
    attempt=st.integers(1, 10**6),
    backoff=st.floats(0, 1e300),
    longest=st.floats(0, 1e300),
    jitter=st.booleans(),
    luck=st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_finite_and_within_bounds(
    attempt: int, backoff: float, longest: float, jitter: bool, luck: float
) -> None:
    policy = RetryPolicy(max_retries=None, retry_backoff=backoff, retry_backoff_max=longest, retry_jitter=jitter)
    wait = decide(policy, attempt=attempt, random=lambda: luck)
    assert wait is not None
    assert 0 <= wait <= min(longest, LONGEST_WAIT)


@pytest.mark.parametrize("attempt", [0, -5])
def test_an_impossible_attempt_waits_like_the_first(attempt: int) -> None:
    assert decide(RetryPolicy(), attempt=attempt) == 1.0


# --- which errors ---


def test_only_the_listed_errors() -> None:
    policy = RetryPolicy(autoretry_for=(OSError,))
    assert decide(policy, ConnectionError()) == 1.0
    assert decide(policy, ValueError()) is None


def test_excluded_errors_win() -> None:
    policy = RetryPolicy(autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,))
    assert decide(policy, FileNotFoundError()) is None
    assert decide(policy, PermissionError()) == 1.0


@pytest.mark.parametrize("error", [SoftTimeLimitExceededError(), TimeLimitExceededError(), WorkerLostError()])
def test_limits_and_lost_workers_are_errors_like_any(error: Exception) -> None:
    assert decide(RetryPolicy(), error) == 1.0
    assert decide(RetryPolicy(dont_autoretry_for=(type(error),)), error) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_exception_is_not_retried_by_default(error: BaseException) -> None:
    assert decide(RetryPolicy(), error) is None
    assert decide(RetryPolicy(autoretry_for=(BaseException,)), error) == 1.0


# --- a limit for one message ---


def test_a_message_has_its_own_limit() -> None:
    assert decide(RetryPolicy(), attempt=1, max_retries=0) is None
    assert decide(RetryPolicy(), attempt=9, max_retries=9) == 256.0
    assert decide(RetryPolicy(), attempt=99, max_retries=None) == 600.0
    assert decide(RetryPolicy(), attempt=4, max_retries=UNSET) is None


def test_the_two_halves_agree_with_the_whole() -> None:
    policy = RetryPolicy(max_retries=2)
    assert [policy.exhausted(attempt, 0.0) for attempt in (1, 2, 3)] == [False, False, True]
    assert [policy.exhausted(attempt, 0.0, 1) for attempt in (1, 2)] == [False, True]
    assert policy.delay_for(3, random=lambda: 0.5) == 2.0


# --- tenacity ---


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_none(), [0, 0, 0]),
        (tenacity.wait_fixed(7), [7, 7, 7]),
        (tenacity.wait_fixed(timedelta(minutes=1)), [60, 60, 60]),
        (tenacity.wait_incrementing(start=5, increment=10), [5, 15, 25]),
        (tenacity.wait_exponential(multiplier=2, max=5), [2, 4, 5]),
        (tenacity.wait_exponential(min=3), [3, 3, 4]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9]),
        (tenacity.wait_combine(tenacity.wait_fixed(1), tenacity.wait_exponential()), [2, 3, 5]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (lambda state: state.attempt_number * 1.5, [1.5, 3.0, 4.5]),
        (lambda state: state.idle_for + state.seconds_since_start, [0, 0, 0]),
        (lambda state: len(str(state.outcome.exception())), [8, 8, 8]),
    ],
)
def test_a_wait_decides_alone(wait: Any, expected: list[float]) -> None:
    assert waits(RetryPolicy.build(wait=wait), 3) == expected


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [
        (tenacity.wait_random(2, 5), 2, 5),
        (tenacity.wait_random_exponential(multiplier=1, max=60), 0, 4),
        (tenacity.wait_exponential_jitter(max=60, jitter=2), 4, 6),
        (tenacity.wait_fixed(3) + tenacity.wait_random(0, 2), 3, 5),
    ],
)
def test_a_random_wait_stays_within_its_bounds(wait: Any, least: float, most: float) -> None:
    policy = RetryPolicy.build(wait=wait, retry_backoff="1h")
    found = [decide(policy, attempt=3) for _ in range(30)]
    assert all(seconds is not None and least <= seconds <= most for seconds in found)
    assert len(set(found)) > 5


def test_a_wait_sees_the_error() -> None:
    policy = RetryPolicy.build(wait=lambda state: float(state.outcome.exception().args[0]))
    assert decide(policy, ValueError("12.5")) == 12.5


def test_a_wait_for_an_explicit_retry_sees_an_outcome_too() -> None:
    policy = RetryPolicy.build(wait=lambda state: 3 if state.outcome.failed else 4)
    assert policy.delay_for(1) == 3


@pytest.mark.parametrize("wait", [tenacity.wait_exponential(), lambda state: math.inf, lambda state: 10**400])
def test_an_endless_wait_is_cut(wait: Any) -> None:
    policy = RetryPolicy.build(wait=wait, max_retries=None)
    assert decide(policy, attempt=10_000) == LONGEST_WAIT


@pytest.mark.parametrize(
    ("stop", "last_attempt"),
    [
        (tenacity.stop_after_attempt(5), 5),
        (tenacity.stop_after_delay(30), 3),
        (tenacity.stop_after_delay(timedelta(seconds=30)), 3),
        (tenacity.stop_before_delay(31), 3),
        (tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(30), 3),
        (tenacity.stop_after_attempt(5) & tenacity.stop_after_delay(30), 5),
        (tenacity.stop_any(tenacity.stop_after_attempt(2), tenacity.stop_after_delay(30)), 2),
        (tenacity.stop_all(tenacity.stop_after_attempt(2), tenacity.stop_after_delay(30)), 3),
        (lambda state: state.attempt_number == 4, 4),
        (lambda state: "no route" in str(state.outcome.exception()), 1),
    ],
)
def test_a_stop_replaces_max_retries(stop: Any, last_attempt: int) -> None:
    policy = RetryPolicy.build(stop=stop, max_retries=0, wait=tenacity.wait_fixed(1))
    ends = [n for n in range(1, 9) if decide(policy, attempt=n, elapsed=n * 10.0) is None]
    assert ends[0] == last_attempt


def test_stop_before_delay_counts_the_coming_wait() -> None:
    policy = RetryPolicy.build(stop=tenacity.stop_before_delay(60), wait=tenacity.wait_fixed(20))
    assert decide(policy, elapsed=39.0) == 20
    assert decide(policy, elapsed=40.0) is None


def test_stop_never_goes_on_forever() -> None:
    assert decide(RetryPolicy.build(stop=tenacity.stop_never), attempt=10_000, elapsed=1e9) == 600.0


def test_a_limit_for_one_message_wins_over_stop() -> None:
    policy = RetryPolicy.build(stop=tenacity.stop_after_attempt(2))
    assert decide(policy, attempt=2, max_retries=5) == 2.0
    assert decide(policy, attempt=1, max_retries=0) is None


def test_a_stop_is_asked_for_an_explicit_retry_too() -> None:
    policy = RetryPolicy.build(stop=tenacity.stop_after_delay(60))
    assert not policy.exhausted(50, 59.0)
    assert policy.exhausted(1, 60.0)


def caused() -> ValueError:
    error = ValueError("wrapped")
    error.__cause__ = OSError("inner")
    return error


@pytest.mark.parametrize(
    ("condition", "retried", "not_retried"),
    [
        (tenacity.retry_if_exception_type(OSError), ConnectionError(), ValueError()),
        (tenacity.retry_if_exception_type((OSError, KeyError)), KeyError(), ValueError()),
        (tenacity.retry_if_not_exception_type(ValueError), OSError(), ValueError()),
        (tenacity.retry_unless_exception_type(ValueError), OSError(), ValueError()),
        (tenacity.retry_if_exception(lambda e: "busy" in str(e)), ValueError("busy"), ValueError("bad")),
        (tenacity.retry_if_exception_message(match="5.."), ValueError("503"), ValueError("404")),
        (tenacity.retry_if_exception_message(message="busy"), ValueError("busy"), ValueError("busy!")),
        (tenacity.retry_if_not_exception_message(match="4.."), ValueError("503"), ValueError("404")),
        (tenacity.retry_if_exception_cause_type(OSError), caused(), ValueError("bare")),
        (
            tenacity.retry_any(tenacity.retry_if_exception_type(OSError), tenacity.retry_if_exception_type(KeyError)),
            KeyError(),
            ValueError(),
        ),
        (
            tenacity.retry_all(
                tenacity.retry_if_exception_type(OSError),
                tenacity.retry_if_exception_message(match="b"),
            ),
            OSError("b"),
            OSError("c"),
        ),
        (tenacity.retry_if_exception_type(OSError) | (lambda state: False), OSError(), ValueError()),
        (lambda state: isinstance(state.outcome.exception(), KeyError), KeyError(), ValueError()),
    ],
)
def test_a_retry_condition_replaces_autoretry_for(condition: Any, retried: Exception, not_retried: Exception) -> None:
    policy = RetryPolicy.build(retry=condition, autoretry_for=())
    assert decide(policy, retried) == 1.0
    assert decide(policy, not_retried) is None


def test_a_result_condition_never_matches_an_error() -> None:
    assert decide(RetryPolicy.build(retry=tenacity.retry_if_result(bool))) is None
    assert decide(RetryPolicy.build(retry=tenacity.retry_never)) is None
    assert decide(RetryPolicy.build(retry=tenacity.retry_always, autoretry_for=())) == 1.0


def test_excluded_errors_win_over_a_retry_condition() -> None:
    policy = RetryPolicy.build(retry=tenacity.retry_if_exception_type(OSError), dont_autoretry_for=TimeoutError)
    assert decide(policy, TimeoutError()) is None
    assert decide(policy, OSError()) == 1.0


def broken(state: object) -> Any:
    raise RuntimeError("a bug in the policy")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "wait",
    [
        broken,
        *(lambda state, answer=answer: answer for answer in (math.nan, -1, -math.inf, "5", None, True, [])),
        lambda state: Unprintable(),
        lambda: 1.0,
    ],
)
def test_a_broken_wait_falls_back_to_the_backoff(wait: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert decide(RetryPolicy.build(wait=wait), attempt=3) == 4.0
    assert "wait= failed" in caplog.text


class NoTruth:
    def __bool__(self) -> bool:
        raise RuntimeError("ambiguous")


@pytest.mark.parametrize("stop", [broken, lambda state: None, lambda state: NoTruth()])
def test_a_broken_stop_falls_back_to_max_retries(stop: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy = RetryPolicy.build(stop=stop, max_retries=2)
    assert waits(policy, 3) == [1.0, 2.0, None]
    assert "stop= failed" in caplog.text


@pytest.mark.parametrize("condition", [broken, lambda state: None, lambda state: NoTruth()])
def test_a_broken_retry_condition_falls_back_to_autoretry_for(condition: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy = RetryPolicy.build(retry=condition, autoretry_for=OSError)
    assert decide(policy, OSError()) == 1.0
    assert decide(policy, ValueError()) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_clock_that_went_back_is_no_time_at_all() -> None:
    policy = RetryPolicy.build(wait=lambda state: state.seconds_since_start)
    assert decide(policy, elapsed=-5.0) == 0.0


def test_tenacity_is_imported_only_when_one_of_its_objects_is_used() -> None:
    code = (
        "import sys, taskq.values.retry as r;"
        "r.RetryPolicy.build(max_retries=1).decide(OSError(), attempt=1, elapsed=0.0);"
        "assert 'tenacity' not in sys.modules;"
        "r.RetryPolicy.build(wait=lambda s: 1).decide(OSError(), attempt=1, elapsed=0.0);"
        "assert 'tenacity' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- build ---


def test_build_without_options_is_the_default() -> None:
    assert RetryPolicy.build() == RetryPolicy()


@pytest.mark.parametrize(
    ("given", "backoff"),
    [(True, 1.0), (False, 0.0), (5, 5.0), ("1m", 60.0), (timedelta(seconds=2), 2.0), (0, 0.0)],
)
def test_build_reads_a_backoff(given: Any, backoff: float) -> None:
    assert RetryPolicy.build(retry_backoff=given).retry_backoff == backoff


def test_build_reads_every_option() -> None:
    stop = tenacity.stop_after_attempt(2)
    policy = RetryPolicy.build(
        max_retries=None,
        retry_backoff_max="1h",
        retry_jitter=False,
        autoretry_for=OSError,
        dont_autoretry_for=[KeyError, TimeoutError],
        wait=None,
        stop=stop,
    )
    assert policy == RetryPolicy(
        max_retries=None,
        retry_backoff_max=3600.0,
        retry_jitter=False,
        autoretry_for=(OSError,),
        dont_autoretry_for=(KeyError, TimeoutError),
        stop=stop,
    )


async def coroutine(state: object) -> bool:
    return True


class AsyncCondition:
    async def __call__(self, state: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("max_retries", -1, "write 0"),
        ("max_retries", True, "write 0"),
        ("max_retries", 2.0, "write 0"),
        ("max_retries", "3", "write 0"),
        ("retry_backoff", -1, "out of range"),
        ("retry_backoff", None, "write seconds"),
        ("retry_backoff", math.nan, "out of range"),
        ("retry_backoff_max", "soon", "write seconds"),
        ("retry_backoff_max", True, "write seconds"),
        ("retry_jitter", 1, "must be True or False"),
        ("autoretry_for", "OSError", "write an exception class"),
        ("autoretry_for", OSError(), "write an exception class"),
        ("autoretry_for", None, "write an exception class"),
        ("autoretry_for", (OSError, int), "write an exception class"),
        ("dont_autoretry_for", int, "write an exception class"),
        ("wait", 5, "wait_exponential_jitter"),
        ("wait", tenacity.wait_fixed, "wait_exponential_jitter"),
        ("stop", "5", "stop_after_attempt"),
        ("retry", OSError, "retry_if_exception_type"),
        ("retry", coroutine, "async"),
        ("stop", AsyncCondition(), "async"),
    ],
)
def test_build_says_what_to_write(option: str, value: Any, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice) as caught:
        RetryPolicy.build(**{option: value})
    assert str(caught.value).startswith(f"{option}: ")


def test_build_knows_its_options() -> None:
    with pytest.raises(UnknownOptionError, match="did you mean 'max_retries'"):
        RetryPolicy.build(max_retrys=3)


def test_a_policy_is_a_value() -> None:
    assert hash(RetryPolicy.build(max_retries=5)) == hash(RetryPolicy(max_retries=5))
    with pytest.raises(AttributeError):
        RetryPolicy().max_retries = 5  # type: ignore[misc]
