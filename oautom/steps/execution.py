"""`Execution`: a step of a flow, the base class of all kinds of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from oautom.errors import FlowError, SettingError, shown
from oautom.machine.kinds import WORK, Kind, kind_of
from oautom.machine.rules import ALL_SUCCESS, TriggerRule
from oautom.machine.tables import TEARDOWN
from oautom.steps.callee import generates, is_async
from oautom.steps.context import Context
from oautom.steps.options import (
    LOG_LIMIT_BYTES,
    CompensateOn,
    OnCrash,
    Pool,
    RetryPolicy,
    flag_of,
    pool_of,
    priority_of,
    retry_of,
    rule_of,
    seconds_of,
    word_of,
    wrong_interval,
)
from oautom.steps.owner import Owner
from oautom.values.annotations import UNKNOWN, return_type
from oautom.values.json import at_heart, plain_count
from oautom.values.references import OutputReference, Reference

T = TypeVar("T")
Steps = TypeVar("Steps", bound="Execution | Iterable[Execution]")


class Used(NamedTuple):
    """A reference that a step is given, and where.

    Attributes:
        place: The name of the parameter, and the keys that lead on from there.
        reference: What stands there.
    """

    place: tuple[str | int, ...]
    reference: Reference

    @property
    def told(self) -> str:
        """The place, as it is written."""
        return f"{self.place[0]}{''.join(f'[{shown(key)}]' for key in self.place[1:])}"


_AT_HOME = frozenset({"compensate", "compensation", "flow", "output_type", "references"})
"""What a step does not take along to a worker process."""


class Execution:
    """A step of a flow: what to do. Subclass it to make a kind of your own.

    A subclass defines `run(self, context)`, which does or starts the work and returns the output
    of the step. If it also defines `check(self, context) -> bool`, the step is done when `check`
    says so: it is asked every `poll_interval` seconds, and nothing is held up in between. Both are
    called on a worker of the executor, from several Vects at once if there are several: keep what
    belongs to one run in what `run` returns, which `check` finds in `context.output`, and not in
    `self`.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        log_limit_bytes: How much of what the step writes is kept; the newest is.
        on_crash: What becomes of the step when the program has died while it ran, and its Vect is
            recovered from a durable log: `'rerun'`, it runs again, or `'fail'`, it has failed.
        trigger_rule: When the step starts, from how its upstreams have ended.
        allow_failure: The Vect need not fail when this step does; nor for what that blocks.
        retry: When the step is tried again after it has failed; None for what its flow says.
        timeout: Seconds that an attempt may take; then it is told to stop, and has failed. What
            does not listen is abandoned; the next attempt waits for its end. None for what its
            flow says, `math.inf` for no limit.
        deadline: Seconds from the first start of the step in a Vect until it should have ended, all
            attempts and delays included; when they have passed and it has not, `step.late` says so
            once. Nothing is ended. None for no deadline.
        pool: A `Pool` that limits how many of its steps run at once; None for no such limit.
        priority: Of the steps that wait for a worker those of the highest are the next.
        teardown: The step cleans up: it runs when its upstreams are over, however they ended, also
            after a cancel; skipped if what it cleans up after has never started.
        teardown_of: The steps whose effect it takes back; it waits for them, too. Where work is
            retried that comes after them, they run again.
        compensate: Undoes what the step has done when its Vect is about to end as failed or
            cancelled: a function, whose parameter `context`, if it has one, is the `Context` with
            the `output` of the step; or a Bash command, which finds it in `$OUTPUT`. It may be
            called more than once, and must bear that.
        compensate_on: `'begun'`: also if an attempt has begun and did not end by its own answer, as
            it was cancelled, say; `'success'`: only if the step has succeeded.

    Attributes:
        poll_interval: Seconds between two calls of `check`.
        on_crash, trigger_rule, allow_failure, retry, timeout, deadline, pool, priority: See above.
        teardown, teardown_of, compensate, compensate_on: See above.
        compensation: What is run to undo what the step has done, if there is such.
        kind: What the engine does with it, where that is more than its work; empty otherwise.
        runs_here: The work stays in this process, whatever the executor of the app is.
        is_polled: It is done only when its `check` says so.
        strict: Of a step that runs a Bash command: that ends with the first failure in it. None of
            any other step.
        is_async: All that it does is `async`: it runs on an event loop, and needs no worker there.
        references: What it is given of the outputs of other steps, and of the parameters.

    Raises:
        FlowError: The name or the flow cannot be used.
        DuplicateStepError: The flow has a step of this name.
        FlowFrozenError: The flow has been started.
    """

    poll_interval: float = 1.0
    runs_here: ClassVar[bool] = False
    on_crash: OnCrash = "rerun"
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    allow_failure: bool = False
    retry: RetryPolicy | None = None
    timeout: float | None = None
    deadline: float | None = None
    pool: Pool | None = None
    priority: int = 0
    teardown: bool = False
    teardown_of: Sequence[Execution] = ()
    compensate: Callable[..., Any] | str | None = None
    compensate_on: CompensateOn = "begun"
    compensation: Execution | None = None
    undoes: bool = False  # it is a compensation itself
    strict: bool | None = None
    kind: ClassVar[str] = ""
    references: Sequence[Used] = ()
    is_polled: ClassVar[bool] = False
    is_async: bool = False
    _yields: ClassVar[bool] = False
    _kind: ClassVar[Kind] = WORK

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Look whether the class has a `check`: once, since to see that it has none is slow."""
        super().__init_subclass__(**kwargs)
        cls.is_polled = hasattr(cls, "check")
        cls._yields = generates(cls.run) or generates(getattr(cls, "check", None))
        cls._kind = kind_of(cls.kind)
        can_be = "async" not in cls._kind.ignored
        cls.is_async = can_be and is_async(cls.run) and cls._is_check_async()

    @classmethod
    def _is_check_async(cls) -> bool:
        """Whether its `check`, if it has one, may be asked on an event loop."""
        return not cls.is_polled or is_async(getattr(cls, "check", None))

    def __init__(
        self,
        name: str,
        flow: Owner,
        *,
        log_limit_bytes: int = LOG_LIMIT_BYTES,
        on_crash: OnCrash | None = None,
        trigger_rule: TriggerRule | str | None = None,
        allow_failure: bool | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        pool: Pool | None = None,
        priority: int | None = None,
        teardown: bool | None = None,
        teardown_of: Sequence[Execution] | None = None,
        compensate: Callable[..., Any] | str | None = None,
        compensate_on: CompensateOn | None = None,
    ) -> None:
        if not hasattr(flow, "add_edges"):
            raise FlowError(f"step {shown(name)}: flow must be a Flow, not {shown(flow)}")
        is_usual = log_limit_bytes is LOG_LIMIT_BYTES
        limit_bytes = log_limit_bytes if is_usual else self._limit_of(log_limit_bytes, flow, name)
        if self.is_polled and (problem := wrong_interval(self.poll_interval)):
            raise self.wrong(flow, name, problem)
        if self._yields:
            raise self.wrong(flow, name, f"{type(self).__name__} {YIELDS}")
        if type(self).run is Execution.run:
            raise self.wrong(
                flow, name, f"{type(self).__name__} has no run(self, context); define it"
            )
        # What has no options costs 3 us of 10 less to declare.
        rules: tuple[object, ...] = on_crash, trigger_rule, allow_failure, retry, timeout, deadline
        given = (*rules, pool, priority, teardown, teardown_of, compensate, compensate_on)
        is_given = any(each is not None for each in given)
        if is_given or not self._is_plain(flow):
            try:
                self._set_rules(on_crash, trigger_rule, allow_failure)
                self._set_clean_up(trigger_rule, teardown, teardown_of, compensate, compensate_on)
                policy = retry_of(_first(retry, self.retry, flow.retry))
                self.retry = None if "retry" in self._kind.ignored else policy
                # How long an attempt may work says nothing of how long a person may think.
                inherited = flow.timeout if self._kind.is_hurried else None
                self.timeout = seconds_of("timeout", _first(timeout, self.timeout, inherited))
                self.deadline = seconds_of("deadline", _first(deadline, self.deadline))
                self.pool = pool_of(_first(pool, self.pool))
                self.priority = priority_of(_first(priority, self.priority))
            except SettingError as error:
                raise self.wrong(flow, name, str(error)) from None
        self.name: str = at_heart(name)
        self.flow = flow
        self.log_limit_bytes = limit_bytes
        flow.add(self)
        if self.teardown_of:
            self.depends(*self.teardown_of)

    def _limit_of(self, limit_bytes: object, flow: Owner, name: str) -> int:
        if (limit := plain_count(limit_bytes)) is None:
            raise self.wrong(
                flow, name, f"log_limit_bytes must be a positive int, not {shown(limit_bytes)}"
            )
        return limit

    def _is_plain(self, flow: Owner) -> bool:
        """Whether neither its class nor its flow has an option other than the defaults."""
        return (
            self.retry is None
            and self.timeout is None
            and self.deadline is None
            and self.pool is None
            and flow.retry is None
            and flow.timeout is None
            and self.trigger_rule is TriggerRule.ALL_SUCCESS
            and self.allow_failure is False
            and self.on_crash is Execution.on_crash
            and self.priority is Execution.priority
        )

    def _set_rules(
        self, on_crash: object, trigger_rule: object, allow_failure: bool | None
    ) -> None:
        self.on_crash = word_of("on_crash", _first(on_crash, self.on_crash), OnCrash)
        self.trigger_rule = rule_of(_first(trigger_rule, self.trigger_rule))
        if allow_failure is not None:
            self.allow_failure = flag_of("allow_failure", allow_failure)

    def _set_clean_up(
        self,
        rule: object,
        teardown: object,
        teardown_of: object,
        compensate: object,
        compensate_on: object,
    ) -> None:
        if teardown_of is not None:
            self.teardown_of = _steps_of(teardown_of)
        self.teardown = flag_of("teardown", _first(teardown, bool(self.teardown_of)))
        if self.teardown_of and not self.teardown:
            raise SettingError("teardown_of is for a step that cleans up; leave teardown=False out")
        if self.teardown and rule is not None:
            raise SettingError(
                "a teardown starts when its upstreams are over, however they ended; leave "
                "trigger_rule out, or teardown"
            )
        self.compensate_on = word_of(
            "compensate_on", _first(compensate_on, self.compensate_on), CompensateOn
        )
        if compensate is None:
            if compensate_on is not None:
                raise SettingError("compensate_on says when to compensate; say how: compensate=")
            return
        if self.teardown:
            raise SettingError("what a teardown has done cannot be undone; leave compensate out")
        self.compensate = compensate  # type: ignore[assignment] # looked at by who calls it

    def options(self) -> Mapping[str, Any]:
        """Return what is otherwise than usual with the step, as `vect.created` tells it."""
        told: dict[str, Any] = {}
        ignored = self._kind.ignored
        if self.trigger_rule != ALL_SUCCESS:
            told["trigger_rule"] = str(self.trigger_rule)
        if self.allow_failure:
            told["allow_failure"] = True
        if self.kind:
            told["kind"] = self.kind
        if self.retry is not None:
            told["max_attempts"] = self.retry.max_attempts
            told["retry"] = self.retry.facts()
        if not (self.timeout is None and self.deadline is None and self.pool is None):
            told |= self._limits()
        if self.on_crash != "rerun" and "on_crash" not in ignored:
            told["on_crash"] = self.on_crash
        if self.priority:
            told["priority"] = self.priority
        if self.is_async:
            told["async"] = self.flow.max_async
        return told | self._clean_up() if self.teardown or self.compensate is not None else told

    def _clean_up(self) -> dict[str, Any]:
        if not self.teardown:
            return {"compensate": self.compensate_on}
        told: dict[str, Any] = {"trigger_rule": TEARDOWN}
        if self.teardown_of:
            told["teardown_of"] = [step.name for step in self.teardown_of]
        return told

    def _limits(self) -> Mapping[str, Any]:
        """Return how long it may take, and with how many others it runs."""
        pool = None if self.pool is None else [self.pool.name, self.pool.slots]
        limits = {"timeout": self.timeout, "deadline": self.deadline, "pool": pool}
        ignored = self._kind.ignored
        return {
            name: limit
            for name, limit in limits.items()
            if limit is not None and name not in ignored
        }

    @property
    def output(self) -> OutputReference:
        """A reference to the output, to give to other steps; `a.output['key']` is a part of it."""
        return OutputReference(self.flow, self.name)

    @cached_property
    def output_type(self) -> Any:
        """The type of the output, as far as it is annotated; `typing.Any` where it is not."""
        return return_type(type(self).run)

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the type that must stand at a place in what the step is given, if it is known."""
        return UNKNOWN

    def follow(self, used: Sequence[Used]) -> None:
        """Wait for the steps whose outputs this one is given; a subclass that takes some calls it.

        Raises:
            FlowFrozenError: The flow has been started.
        """
        self.references = used
        sources = [u.reference for u in used if isinstance(u.reference, OutputReference)]
        self.depends(*(self.flow.steps[name] for name in dict.fromkeys(s.name for s in sources)))

    @staticmethod
    def wrong(flow: Owner, name: str, what: str) -> FlowError:
        """Return the error that says what is wrong with the declaration of a step."""
        flow_name = name_of_flow(flow)
        return FlowError(
            f"step {shown(name)} of flow '{flow_name}': {what}", flow=flow_name, step=name
        )

    def run(self, context: Context) -> Any:
        """Do or start the work, and return the output of the step."""
        raise TypeError(f"{type(self).__name__} must define run(self, context)")

    def depends(self, *upstreams: Execution) -> None:
        """Have this step wait for `upstreams`, all of its own flow. Saying it twice is no harm.

        Raises:
            FlowError: One of them is no step.
            CrossFlowDependencyError: One of them belongs to another flow.
            FlowFrozenError: The flow has been started.
        """
        self.flow.add_edges(self, upstreams)

    def __rshift__(self, others: Steps) -> Steps:
        """`a >> b` and `a >> [b, c]`: the right side waits for the left."""
        for step in (steps := self._listed(others)):
            step.depends(self)
        return others if isinstance(others, Execution | Sequence) else steps  # type: ignore[return-value] # an iterator is used up

    def __lshift__(self, others: Steps) -> Steps:
        """`b << a` and `c << [a, b]`: the left side waits for the right."""
        steps = self._listed(others)
        self.depends(*steps)
        return others if isinstance(others, Execution | Sequence) else steps  # type: ignore[return-value] # an iterator is used up

    def __rrshift__(self, others: Iterable[Execution]) -> Execution:
        """`[a, b] >> c`: the right side waits for all on the left."""
        self.depends(*self._listed(others))
        return self

    def __rlshift__(self, others: Iterable[Execution]) -> Execution:
        """`[b, c] << a`: all on the left wait for the right side."""
        for step in self._listed(others):
            step.depends(self)
        return self

    def _listed(self, others: object) -> list[Execution]:
        """Return the steps on the other side of an arrow, all of them checked."""
        is_list = isinstance(others, Iterable) and not isinstance(others, str)
        steps: list[Any] = list(others) if is_list else [others]  # type: ignore[call-overload] # as asked
        for step in steps:
            if not isinstance(step, Execution):
                raise FlowError(
                    f"step '{self.name}' of flow '{self.flow.name}' can only stand beside steps "
                    f"in >> and <<, not beside {shown(step)}",
                    flow=self.flow.name,
                    step=self.name,
                )
        return steps

    def __getstate__(self) -> Mapping[str, Any]:
        """Travel to another process without the flow: a worker gets what the step does, no more."""
        return {key: value for key, value in self.__dict__.items() if key not in _AT_HOME}

    def __repr__(self) -> str:
        """Return the kind and the name of the step."""
        return f"<{type(self).__name__} '{self.name}'>"


def name_of_flow(flow: object) -> str:
    """Return the name of a flow, for a message: what is given as one may be anything."""
    name = at_heart(getattr(flow, "name", None))
    return name if type(name) is str else shown(flow)


def _steps_of(given: object) -> tuple[Execution, ...]:
    """Return the steps of a `teardown_of`.

    Raises:
        SettingError: It is no list of steps.
    """
    listed = (given,) if isinstance(given, Execution) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(s, Execution) for s in listed):
        raise SettingError(f"teardown_of must be a list of steps, not {shown(given)}")
    return tuple(listed)


def _first(*given: T | None) -> T | None:
    for each in given:
        if each is not None:
            return each
    return None


YIELDS: Final = (
    "is a generator, of which a call runs nothing; return a list instead of yielding its items"
)
