"""`RetryPolicy`: delays grow, keep to their limits, and are spread by chance."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom import RetryPolicy, SettingError, StepError

CHANCE = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    delay=st.floats(0, 1e6),
    backoff=st.floats(1, 1e6),
    max_delay=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)


def test_the_delays_double_up_to_the_longest() -> None:
    policy = RetryPolicy(jitter=0)

    assert [policy.delay_after(failures, 0.3) for failures in (1, 2, 3, 9, 10, 99)] == [
        *(1.0, 2.0, 4.0, 256.0, 300.0, 300.0)
    ]


def test_chance_changes_a_delay_by_the_jitter() -> None:
    policy = RetryPolicy(delay=10, jitter=0.2)

    assert [policy.delay_after(1, chance) for chance in (0.0, 0.5, 0.75)] == [8.0, 10.0, 11.0]


@given(POLICIES, st.integers(1, 10_000), CHANCE)
def test_a_delay_is_never_negative_nor_longer_than_the_longest(
    policy: RetryPolicy, failures: int, chance: float
) -> None:
    assert 0 <= policy.delay_after(failures, chance) <= policy.max_delay


@given(POLICIES, st.integers(1, 100), CHANCE)
def test_a_later_delay_is_never_shorter(policy: RetryPolicy, failures: int, chance: float) -> None:
    assert policy.delay_after(failures, chance) <= policy.delay_after(failures + 1, chance)


@given(POLICIES, st.integers(1, 200), CHANCE, st.booleans())
def test_there_is_a_further_attempt_if_the_failure_is_covered_and_there_are_any_left(
    policy: RetryPolicy, failures: int, chance: float, is_covered: bool
) -> None:
    wanted = policy.delay_after(failures, chance)
    is_left = is_covered and failures < policy.max_attempts

    delay = policy.decide(failures, chance, is_covered=is_covered)

    assert delay == (wanted if is_left else None)


def test_it_covers_the_exceptions_that_it_names_and_their_subclasses() -> None:
    policy = RetryPolicy(retry_on=(OSError, StepError))

    assert policy.covers(ConnectionError())
    assert policy.covers(TimeoutError())
    assert policy.covers(StepError("the command exited with code 3", exit_code=3))
    assert not policy.covers(ValueError())


def test_unless_told_it_covers_errors_and_no_interrupts() -> None:
    assert RetryPolicy().covers(ValueError())
    assert not RetryPolicy().covers(KeyboardInterrupt())


class SlyError(ValueError):
    """An exception that lies about what it is."""

    __class__ = OSError  # type: ignore[assignment]


def test_an_exception_is_what_its_type_says() -> None:
    assert RetryPolicy(retry_on=(ValueError,)).covers(SlyError())
    assert not RetryPolicy(retry_on=(OSError,)).covers(SlyError())


def test_it_travels_and_equals_what_has_the_same_values() -> None:
    policy = RetryPolicy(max_attempts=5, retry_on=(OSError,))

    assert pickle.loads(pickle.dumps(policy)) == policy
    assert RetryPolicy(max_attempts=5) != policy


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be an int from 1, not 0"),
        ({"max_attempts": 2.0}, "max_attempts must be an int from 1, not 2.0"),
        ({"delay": -1}, "delay must be a number from 0, not -1"),
        ({"delay": "1"}, "delay must be a number from 0, not '1'"),
        ({"delay": math.nan}, "delay must be a number from 0, not nan"),
        ({"backoff": 0.5}, "backoff must be a number from 1, not 0.5"),
        ({"max_delay": math.inf}, "max_delay must be a number from 0, not inf"),
        ({"jitter": 1.1}, "jitter must be a number from 0 to 1, not 1.1"),
        ({"retry_on": ()}, r"retry_on must be a tuple of exception classes, not \(\)"),
        ({"retry_on": OSError}, "retry_on must be a tuple of exception classes, not <class"),
        ({"retry_on": ("OSError",)}, "retry_on must be a tuple of exception classes, not "),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=f"RetryPolicy: {message}"):
        RetryPolicy(**given)
