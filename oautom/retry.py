"""`RetryPolicy`: how often a step that has failed is tried again, and after which delay. Pure."""

from __future__ import annotations

import math

import msgspec

from oautom.errors import SettingError, shown


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a step that has failed is tried again.

    The delay before the second attempt is `delay`, and `backoff` times as long before each further
    one, at most `max_delay`. Chance makes it longer or shorter by up to `jitter`, so that many that
    have failed together do not come back together.

    Args:
        max_attempts: How many attempts there are in all, from 1.
        delay: Seconds before the second attempt.
        backoff: What the delay is multiplied by from attempt to attempt, from 1.
        max_delay: Seconds: no delay is longer.
        jitter: The part of the delay by which chance changes it, from 0 to 1.
        retry_on: The classes of exceptions after which it is worth trying again. A command that
            exits with another code than 0 raises `StepError`, an attempt that takes longer than
            the timeout of its step `TimeoutError`.

    Raises:
        SettingError: An argument cannot be used.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise _wrong("max_attempts", "an int from 1", self.max_attempts)
        for name, lowest in (("delay", 0.0), ("backoff", 1.0), ("max_delay", 0.0)):
            given = getattr(self, name)
            if not isinstance(given, int | float) or not lowest <= given < math.inf:
                raise _wrong(name, f"a number from {lowest:g}", given)
        if not isinstance(self.jitter, int | float) or not 0 <= self.jitter <= 1:
            raise _wrong("jitter", "a number from 0 to 1", self.jitter)
        is_tuple = isinstance(self.retry_on, tuple) and bool(self.retry_on)
        if not is_tuple or not all(_is_exception(each) for each in self.retry_on):
            raise _wrong("retry_on", "a tuple of exception classes", self.retry_on)

    def covers(self, cause: BaseException) -> bool:
        """Whether it is worth trying again after `cause`.

        A class that raises when it is asked covers nothing.
        """
        try:
            return issubclass(type(cause), self.retry_on)  # isinstance() asks the exception itself
        except BaseException:  # a metaclass is the user's, it may do anything
            return False

    def delay_after(self, failures: int, chance: float) -> float:
        """Return how long to wait before the next attempt.

        Args:
            failures: How many attempts have failed, from 1.
            chance: A number in [0, 1), for the jitter.

        Returns:
            Seconds, from 0 to `max_delay`.
        """
        try:
            longer = self.delay * self.backoff ** (failures - 1)
        except OverflowError:
            longer = self.max_delay
        stretched = min(self.max_delay, longer) * (1 + self.jitter * (2 * chance - 1))
        return min(self.max_delay, round(stretched, 6))  # the log tells microseconds


def _is_exception(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, BaseException)


def _wrong(name: str, wanted: str, given: object) -> SettingError:
    return SettingError(f"RetryPolicy: {name} must be {wanted}, not {shown(given)}")
