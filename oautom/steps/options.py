"""The options that all kinds of steps take: their types and their checks. Pure.

Each check returns an option in the form in which the step stores it, or raises a `SettingError`;
the caller adds flow and step to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, cast, get_args

import msgspec

from oautom.errors import SettingError, shown
from oautom.machine.rules import TriggerRule
from oautom.values.json import (
    SECONDS_MAX,
    at_heart,
    plain_count,
    plain_number,
    plain_seconds,
    too_long,
)
from oautom.values.names import has_controls, one_of, plain_text
from oautom.values.references import secret_in
from oautom.values.text import name_of

OnCrash = Literal["rerun", "fail"]
CompensateOn = Literal["begun", "success"]
OnFailure = Literal["finish", "cancel"]

LOG_LIMIT_BYTES: Final = 2**20
"""The default of `log_limit_bytes`."""
MAX_DELAY: Final = 300.0
"""The default of `max_delay`, in seconds, unless `delay` is longer."""

NO_SUBMIT: Final[Mapping[str, Any]] = MappingProxyType({})
"""The default of `submit`."""

_set = msgspec.structs.force_setattr


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rule by which a failed step is tried again: how often, and after which delay.

    The delay before the second attempt is `delay`, and `backoff` times as long before each further
    one, at most `max_delay`. Chance makes it longer or shorter by up to `jitter`, so that many
    steps that failed together do not come back together.

    Args:
        max_attempts: How many attempts there are in all, from 1. Default: 3.
        delay: Seconds before the second attempt. Default: 1.
        backoff: The factor by which the delay grows from attempt to attempt, from 1. Default: 2.
        max_delay: The longest delay, in seconds. Default: 300, or `delay` if that is more.
        jitter: The part of the delay by which chance changes it, from 0 to 1. Default: 0.1.
        retry_on: The exception classes after which the step is tried again. A command that exits
            with another code than 0 raises `StepError`, an attempt that takes longer than the
            timeout of its step raises `TimeoutError`. Default: `(Exception,)`.

    Raises:
        SettingError: An argument cannot be used.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = cast("float", None)  # always a number after `__post_init__`
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if (max_attempts := plain_count(self.max_attempts)) is None:
            raise _wrong("max_attempts", "an int from 1", self.max_attempts)
        _set(self, "max_attempts", max_attempts)
        _set(self, "delay", _seconds("delay", self.delay))
        given: object = self.max_delay
        longest = max(MAX_DELAY, self.delay) if given is None else _seconds("max_delay", given)
        _set(self, "max_delay", longest)
        if (backoff := plain_number(self.backoff)) is None or backoff < 1:
            raise _wrong("backoff", "a number from 1", self.backoff)
        _set(self, "backoff", backoff)
        if (jitter := plain_number(self.jitter)) is None or not 0 <= jitter <= 1:
            raise _wrong("jitter", "a number from 0 to 1", self.jitter)
        _set(self, "jitter", jitter)
        is_tuple = issubclass(type(self.retry_on), tuple) and bool(self.retry_on)
        if not is_tuple or not all(_is_exception(each) for each in self.retry_on):
            raise _wrong("retry_on", "a tuple of exception classes", self.retry_on)

    def facts(self) -> dict[str, Any]:
        """Return the non-default settings except `max_attempts`, plain, as in `vect.created`."""
        usual = {
            "delay": 1.0,
            "backoff": 2.0,
            "max_delay": max(MAX_DELAY, self.delay),
            "jitter": 0.1,
        }
        told = {name: getattr(self, name) for name in usual}
        told = {name: value for name, value in told.items() if value != usual[name]}
        covered = sorted(map(name_of, self.retry_on))
        return told if covered == ["Exception"] else told | {"retry_on": covered}

    def covers(self, cause: BaseException) -> bool:
        """Whether the step is tried again after the exception `cause`.

        A class whose `isinstance` check raises covers nothing.
        """
        try:
            return issubclass(type(cause), self.retry_on)  # isinstance() asks the exception itself
        except BaseException:  # a metaclass of the user may raise anything
            return False

    def decide(self, failures: int, chance: float, *, is_covered: bool) -> float | None:
        """Return the delay before the next attempt in seconds, or None if there is no attempt.

        Args:
            failures: How many attempts have failed, from 1.
            chance: A number in [0, 1), for the jitter.
            is_covered: Whether the policy covers the last failure.
        """
        if not is_covered or failures >= self.max_attempts:
            return None
        return self.delay_after(failures, chance)

    def delay_after(self, failures: int, chance: float) -> float:
        """Return the delay before the next attempt.

        Args:
            failures: How many attempts have failed, from 1.
            chance: A number in [0, 1), for the jitter.

        Returns:
            Seconds, from 0 to `max_delay`.
        """
        try:
            longer = self.delay * float(self.backoff) ** (failures - 1)
        except OverflowError:
            longer = self.max_delay
        stretched = min(self.max_delay, longer) * (1 + self.jitter * (2 * chance - 1))
        return min(self.max_delay, round(stretched, 6))  # the log has microseconds


def _seconds(name: str, given: object) -> float:
    number = plain_number(given)
    if number is None or number < 0:
        raise _wrong(name, "a number from 0", given)
    if number > SECONDS_MAX:
        raise SettingError(f"RetryPolicy: {name} {too_long(number)}")
    return number


def _is_exception(given: object) -> bool:
    return issubclass(type(given), type) and issubclass(cast("type", given), BaseException)


def _wrong(name: str, wanted: str, given: object) -> SettingError:
    return SettingError(f"RetryPolicy: {name} must be {wanted}, not {shown(given)}")


RATE_SECONDS_MIN: Final = 0.001
"""The shortest window of a rate, in seconds."""
RATE_SECONDS_MAX: Final = 86_400.0
"""The longest window of a rate, in seconds: a day."""


class Pool(msgspec.Struct, frozen=True):
    """A limit on the steps that name it, in an app, over all its flows.

    It limits how many of them run at once, or how many start within some time, or both. A step that
    waits for a slot or for its start lets steps of other pools by. Steps that wait for a time or a
    person take none.

    Args:
        name: The name of the pool; pools of one name are one pool.
        slots: How many slots it has, from 1. A step takes one, or its `pool_slots`. None for any
            number: then the pool has a `rate`.
        rate: At most how many of its steps start within how many seconds, at most a day:
            `(50, 60)`. Each start of an attempt counts once. A window ends with its instant and
            begins just after that of its beginning: 60 seconds later a start counts no more.
            Default: None, for no such limit.

    Raises:
        SettingError: An argument cannot be used.
    """

    name: str
    slots: int | None = None
    rate: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        name = at_heart(self.name)
        if type(name) is not str or not name.strip():
            raise SettingError(f"Pool: name must be text, and not blank, not {shown(self.name)}")
        if has_controls(name):
            raise SettingError(
                f"Pool: name must not contain control characters, not {shown(self.name)}"
            )
        _set(self, "name", plain_text(name, "Pool: name"))
        if self.slots is None and self.rate is None:
            raise SettingError(
                f"Pool '{self.name}' limits nothing: slots must be an int from 1, or rate a pair "
                "like (50, 60), or both"
            )
        if self.slots is not None:
            if (slots := plain_count(self.slots)) is None:
                raise SettingError(
                    f"Pool '{self.name}': slots must be an int from 1, not {shown(self.slots)}"
                )
            _set(self, "slots", slots)
        if self.rate is not None:
            _set(self, "rate", self._checked_rate())

    def _checked_rate(self) -> tuple[int, float]:
        given: object = self.rate
        wanted = f"Pool '{self.name}': rate must be (starts, seconds), as (50, 60)"
        if not issubclass(type(given), tuple | list) or len(cast("Any", given)) != 2:
            raise SettingError(f"{wanted}, not {shown(given)}")
        starts, time = cast("Any", given)
        count, seconds = plain_count(starts), plain_number(time)
        if count is None:
            raise SettingError(f"{wanted}: the starts are an int from 1, not {shown(given)}")
        if seconds is None or seconds < RATE_SECONDS_MIN:
            raise SettingError(f"{wanted}: the seconds are from 0.001, not {shown(given)}")
        if seconds > RATE_SECONDS_MAX:
            raise SettingError(
                f"{wanted}: the seconds are at most those of a day, not {shown(given)}"
            )
        return count, seconds


def limits_of_pool(pool: Pool) -> str:
    """Return the limits of a pool, as people read them."""
    told = [] if pool.slots is None else [f"{pool.slots} slot{'s' * (pool.slots > 1)}"]
    told += [] if pool.rate is None else [f"{pool.rate[0]} starts in {pool.rate[1]:g} s"]
    return " and ".join(told)


class StepOptions(TypedDict, total=False):
    """The keywords that steps of all kinds take; see `Execution`."""

    log_limit_bytes: int
    capture: bool | None
    on_crash: OnCrash
    trigger_rule: TriggerRule | str
    allow_failure: bool
    retry: RetryPolicy | None
    timeout: float | None
    deadline: float | None
    pool: Pool | None
    pool_slots: int | None
    priority: int
    teardown: bool
    teardown_of: Sequence[Any]
    compensate: Callable[..., Any] | str | None
    compensate_on: CompensateOn
    submit: Mapping[str, Any] | None
    keep_remote: bool | None


# What is wrong with an option


def word_of(name: str, given: object, words: Any) -> Any:
    """Return an option that must be one of some words, as an exact `str`.

    Args:
        name: Name of the option.
        given: The argument.
        words: A `Literal` of the words.

    Raises:
        SettingError: The argument is none of the words.
    """
    if (word := one_of(given, get_args(words))) is None:
        known = " or ".join(repr(each) for each in get_args(words))
        raise SettingError(f"{name} must be {known}, not {shown(given)}")
    return word


def flag_of(name: str, given: object) -> bool:
    """Return an option that must be True or False.

    Raises:
        SettingError: The argument is neither.
    """
    if type(given) is not bool:
        raise SettingError(f"{name} must be True or False, not {shown(given)}")
    return given


def rule_of(rule: object) -> TriggerRule:
    """Return a `trigger_rule`, which may be passed by its name.

    Raises:
        SettingError: There is no such rule.
    """
    if (name := one_of(rule, set(TriggerRule))) is not None:
        return TriggerRule(name)
    known = ", ".join(f"TriggerRule.{each.name}" for each in TriggerRule)
    raise SettingError(f"trigger_rule must be one of {known}, not {shown(rule)}")


def retry_of(policy: object) -> RetryPolicy | None:
    """Return a checked `retry`.

    Raises:
        SettingError: The argument is neither a policy nor None.
    """
    if policy is None or issubclass(type(policy), RetryPolicy):
        return cast("RetryPolicy | None", policy)
    raise SettingError(
        f"retry must be a RetryPolicy or None, not {shown(policy)}; RetryPolicy(max_attempts=3)"
    )


def seconds_of(name: str, seconds: object) -> float | None:
    """Return a `timeout` or a `deadline` as an exact number; None if it is None or `math.inf`.

    Raises:
        SettingError: The argument is no duration.
    """
    number = at_heart(seconds)
    if number is None or (type(number) is float and number == math.inf):
        return None
    number = plain_number(number)
    if number is None or number <= 0:
        raise SettingError(f"{name} must be seconds, more than 0, or None, not {shown(seconds)}")
    if number > SECONDS_MAX:
        raise SettingError(f"{name} {too_long(number)}; None is for no limit")
    return number


def pool_of(pool: object) -> Pool | None:
    """Return a checked `pool`.

    Raises:
        SettingError: The argument is neither a pool nor None.
    """
    if pool is None or issubclass(type(pool), Pool):
        return cast("Pool | None", pool)
    raise SettingError(f"pool must be a Pool or None, not {shown(pool)}; Pool('name', slots=2)")


def pool_slots_of(given: object, default: int, pool: Pool | None) -> int:
    """Return a checked `pool_slots`; None stands for the default.

    Raises:
        SettingError: The argument is no such number, or the pool has fewer slots, or there is none.
    """
    if given is None and default == 1:
        return 1
    pool_slots = default if given is None else given
    if (slots := plain_count(pool_slots)) is None:
        raise SettingError(f"pool_slots must be an int from 1, not {shown(pool_slots)}")
    if pool is None:
        raise SettingError("pool_slots needs a pool; give pool=Pool('name', slots=8), too")
    if slots == 1:
        return 1
    if pool.slots is None:
        raise SettingError(
            f"pool_slots is {slots}, but pool '{pool.name}' has no slots, only a rate; leave "
            "pool_slots out, or give the pool slots"
        )
    if slots > pool.slots:
        raise SettingError(
            f"pool_slots is {slots}, but pool '{pool.name}' has {pool.slots}; take fewer, or give "
            "the pool more"
        )
    return slots


def entries_of(name: str, given: object, example: str) -> dict[Any, Any]:
    """Return a copy of a mapping of the user's, which may be of a class of theirs.

    Raises:
        SettingError: The argument is no mapping.
    """
    try:
        return {at_heart(key): value for key, value in cast("Any", given).items()}
    except Exception as error:  # a mapping of the user may raise anything
        raise SettingError(f"{name} must be a mapping, not {shown(given)}; {example}") from error


def submit_of(submit: object) -> Mapping[str, Any]:
    """Return a checked `submit`, which is read-only, and which the caller's mapping cannot change.

    Raises:
        SettingError: The argument is no mapping with text as its keys.
    """
    if submit is None:
        return NO_SUBMIT
    example = "submit={'resources': {'GPU': 1}}"
    given = entries_of("submit", submit, example)
    for key in given:
        if type(key) is not str or not key.strip():
            raise SettingError(f"submit must have names as its keys, not {shown(key)}; {example}")
    if (secret := secret_in(given)) is not None:
        what = "the executor keeps and shows it; give secrets to the step itself"
        raise SettingError(f"submit cannot contain {secret!r}, since {what}")
    return MappingProxyType(given)


def priority_of(priority: object) -> int:
    """Return a `priority` as an exact number.

    Raises:
        SettingError: The argument is no whole number.
    """
    if (whole := plain_count(0 if priority is None else priority, -(2**63))) is None:
        raise SettingError(f"priority must be an int, not {shown(priority)}")
    return whole


def wrong_interval(seconds: object) -> str | None:
    """Return the clause of an error for a wrong `poll_interval`, or None."""
    if plain_seconds(seconds) is not None:
        return None
    return f"poll_interval must be seconds, from 0, not {shown(seconds)}"
