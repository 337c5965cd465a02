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
    NO_SUBMIT,
    CompensateOn,
    OnCrash,
    Pool,
    RetryPolicy,
    flag_of,
    pool_of,
    pool_slots_of,
    priority_of,
    retry_of,
    rule_of,
    seconds_of,
    submit_of,
    word_of,
    wrong_interval,
)
from oautom.steps.owner import Owner
from oautom.values.annotations import UNKNOWN, return_type
from oautom.values.json import at_heart, plain_count
from oautom.values.references import OutputReference, Reference, SecretReference

T = TypeVar("T")
Steps = TypeVar("Steps", bound="Execution | Iterable[Execution]")


class Used(NamedTuple):
    """A reference in the arguments of a step.

    Attributes:
        place: The name of the parameter, and the keys that lead on from there.
        reference: The reference.
    """

    place: tuple[str | int, ...]
    reference: Reference

    @property
    def told(self) -> str:
        """The place, as in Python source."""
        return f"{self.place[0]}{''.join(f'[{shown(key)}]' for key in self.place[1:])}"


_AT_HOME = frozenset(
    {"compensate", "compensation", "flow", "output_type", "references", "secrets", "submit"}
)
"""The attributes of a step that are not sent to a worker process."""

_KEEPERS = frozenset({"", "map"})
"""The kinds of steps whose output the engine itself does not read."""


class Execution:
    """A step of a flow. Subclass it to make a kind of step of your own.

    A subclass defines `run(self, context)`, which does or starts the work and returns the output
    of the step. If it also defines `check(self, context) -> bool`, the engine calls `check` every
    `poll_interval` seconds, and the step is done when it returns True; the step takes no worker in
    between. Both methods run on a worker of the executor, and several Vects may call them at once:
    data of one run goes into the return value of `run`, which `check` finds in `context.output`,
    and not into `self`.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        log_limit_bytes: The size of the `log_text` of an attempt in bytes; if the attempt writes
            more, the newest bytes remain. Default: 1 MiB.
        capture: Whether that text includes what the code of the step prints, and its records of
            `logging`. It always includes the output of a command. Default: that of its flow.
        on_crash: When the program has died while the step ran, and its Vect is recovered from a
            durable log, the step runs again (`'rerun'`), or has failed (`'fail'`). Default:
            `'rerun'`.
        trigger_rule: When the step starts, depending on how its upstreams have ended. Default:
            `ALL_SUCCESS`.
        allow_failure: A failure of this step, or of what it blocks, does not fail the Vect.
            Default: False.
        retry: The `RetryPolicy` of the step. Default: that of its flow.
        timeout: Seconds that an attempt may take; then it is asked to stop, and has failed. A
            function that ignores this is abandoned, and the next attempt waits for its end.
            `math.inf` for no limit. Default: that of its flow.
        deadline: Seconds from the first start of the step in a Vect until it should have ended, all
            attempts and delays included. If it has not ended by then, one `step.late` says so.
            Nothing is ended. None for no deadline.
        pool: A `Pool` that limits how many of its steps run at once, or start within some time;
            None for no such limit.
        pool_slots: How many slots of its pool the step takes, at most as many as that has. While
            such a step lacks slots, no later step of its pool starts before it, unless that has a
            higher priority. Default: 1.
        priority: Among the steps that wait for a worker, those with the highest priority start
            next. Default: 0.
        teardown: The step cleans up: it runs when its upstreams are over, however they ended, also
            after a cancel. It is skipped if no step that it cleans up after has started. Default:
            False.
        teardown_of: The steps that it cleans up after; it waits for them, too. A retry of a step
            that comes after them runs them again.
        compensate: A function or a Bash command that undoes the work of the step when its Vect is
            about to end as failed or cancelled. A function with a parameter `context` gets a
            `Context` with the `output` of the step; a command gets the output in `$OUTPUT`. It may
            run more than once, and must be safe to do so.
        compensate_on: `'begun'`: also if an attempt has begun and did not end by its own answer,
            for example because it was cancelled; `'success'`: only if the step has succeeded.
            Default: `'begun'`.
        submit: What the executor of the app is told with the work of the step: a mapping of the
            names that it knows (for Dask, `resources` or `workers`) to values. An executor that
            knows no such names leaves it out. It is no part of the log. Default: nothing.
        keep_remote: On a Dask cluster, the output stays there, and steps that take it get it from
            there; the log has a handle. It is there as long as the Vect is open, or the program
            refers to a `Vect` of it. Any other executor ignores it. Default: False.

    Attributes:
        poll_interval: Seconds between two calls of `check`.
        on_crash, trigger_rule, allow_failure, retry, timeout, deadline: See above.
        pool, pool_slots, priority: See above.
        capture: See above.
        teardown, teardown_of, compensate, compensate_on, submit, keep_remote: See above.
        compensation: The `Execution` that undoes the work of the step, or None.
        kind: The kind of a step with which the engine does more than run its work; else empty.
        runs_here: Whether the work stays in this process, whatever the executor of the app is.
        is_polled: Whether the step has a `check`.
        strict: For a Bash step, whether the first failure in its command ends it; None for any
            other step.
        is_async: Whether all its work is `async`: it runs on an event loop, and needs no worker
            there.
        references: The references to outputs, parameters and secrets among its arguments.
        secrets: The names of the secrets among its arguments.

    Raises:
        FlowError: The name or the flow cannot be used.
        DuplicateStepError: The flow has a step of this name.
        FlowFrozenError: The flow has been started.
    """

    poll_interval: float = 1.0
    capture: bool = True
    runs_here: bool = False
    on_crash: OnCrash = "rerun"
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    allow_failure: bool = False
    retry: RetryPolicy | None = None
    timeout: float | None = None
    deadline: float | None = None
    pool: Pool | None = None
    pool_slots: int = 1
    priority: int = 0
    teardown: bool = False
    teardown_of: Sequence[Execution] = ()
    compensate: Callable[..., Any] | str | None = None
    compensate_on: CompensateOn = "begun"
    submit: Mapping[str, Any] = NO_SUBMIT
    keep_remote: bool = False
    compensation: Execution | None = None
    undoes: bool = False  # it is a compensation itself
    strict: bool | None = None
    kind: ClassVar[str] = ""
    _is_part: ClassVar[bool] = False  # it is no step of its flow: what a map does for one item
    references: Sequence[Used] = ()
    secrets: Sequence[str] = ()
    takes_secrets: ClassVar[bool] = False  # it stores none of its arguments
    is_polled: ClassVar[bool] = False
    is_async: bool = False
    _yields: ClassVar[bool] = False
    _kind: ClassVar[Kind] = WORK

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Find out once whether the class has a `check`, since that is slow."""
        super().__init_subclass__(**kwargs)
        cls.is_polled = hasattr(cls, "check")
        cls._yields = generates(cls.run) or generates(getattr(cls, "check", None))
        cls._kind = kind_of(cls.kind)
        can_be = "async" not in cls._kind.ignored
        cls.is_async = can_be and is_async(cls.run) and cls._is_check_async()

    @classmethod
    def _is_check_async(cls) -> bool:
        """Whether its `check`, if it has one, may run on an event loop."""
        return not cls.is_polled or is_async(getattr(cls, "check", None))

    def __init__(
        self,
        name: str,
        flow: Owner,
        *,
        log_limit_bytes: int = LOG_LIMIT_BYTES,
        capture: bool | None = None,
        on_crash: OnCrash | None = None,
        trigger_rule: TriggerRule | str | None = None,
        allow_failure: bool | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        pool: Pool | None = None,
        pool_slots: int | None = None,
        priority: int | None = None,
        teardown: bool | None = None,
        teardown_of: Sequence[Execution] | None = None,
        compensate: Callable[..., Any] | str | None = None,
        compensate_on: CompensateOn | None = None,
        submit: Mapping[str, Any] | None = None,
        keep_remote: bool | None = None,
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
        if capture is not None or not flow.capture:
            self.capture = self._captures(capture, flow, name)
        # Without options, a declaration takes 3 us of 10 less.
        rules: tuple[object, ...] = on_crash, trigger_rule, allow_failure, retry, timeout, deadline
        clean_up: tuple[object, ...] = teardown, teardown_of, compensate, compensate_on
        given = (*rules, pool, pool_slots, priority, *clean_up, submit, keep_remote)
        is_given = any(each is not None for each in given)
        if is_given or not self._is_plain(flow):
            try:
                self._set_rules(on_crash, trigger_rule, allow_failure)
                self._set_clean_up(trigger_rule, teardown, teardown_of, compensate, compensate_on)
                policy = retry_of(_first(retry, self.retry, flow.retry))
                self.retry = None if "retry" in self._kind.ignored else policy
                # The time that an attempt may work is no limit for a person's decision.
                inherited = flow.timeout if self._kind.is_hurried else None
                self.timeout = seconds_of("timeout", _first(timeout, self.timeout, inherited))
                self.deadline = seconds_of("deadline", _first(deadline, self.deadline))
                self.pool = pool_of(_first(pool, self.pool))
                self.pool_slots = pool_slots_of(pool_slots, self.pool_slots, self.pool)
                self.priority = priority_of(_first(priority, self.priority))
                self.submit = submit_of(_first(submit, self.submit))
                self.keep_remote = self._keeps(_first(keep_remote, self.keep_remote))
            except SettingError as error:
                raise self.wrong(flow, name, str(error)) from None
        self.name: str = at_heart(name)
        self.flow = flow
        self.log_limit_bytes = limit_bytes
        if self._is_part:
            return
        flow.add(self)
        if self.teardown_of:
            self.depends(*self.teardown_of)

    def _limit_of(self, limit_bytes: object, flow: Owner, name: str) -> int:
        if (limit := plain_count(limit_bytes)) is None:
            raise self.wrong(
                flow, name, f"log_limit_bytes must be a positive int, not {shown(limit_bytes)}"
            )
        return limit

    def _captures(self, capture: object, flow: Owner, name: str) -> bool:
        try:
            return self.capture and flow.capture if capture is None else flag_of("capture", capture)
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None

    def _keeps(self, keep_remote: object) -> bool:
        keeps = flag_of("keep_remote", keep_remote)
        if keeps and self.is_polled:
            raise SettingError(
                "keep_remote is not for a step with check(), which needs the output of run(); let "
                "another step make the large value"
            )
        if keeps and self.kind not in _KEEPERS:
            raise SettingError(
                "keep_remote is for steps whose output only other steps need, not for one of the "
                f"kind '{self.kind}'; leave it out"
            )
        return keeps

    def _is_plain(self, flow: Owner) -> bool:
        """Whether neither its class nor its flow has an option other than the defaults."""
        return (
            self.retry is None
            and self.timeout is None
            and self.deadline is None
            and self.pool is None
            and self.pool_slots is Execution.pool_slots
            and flow.retry is None
            and flow.timeout is None
            and self.trigger_rule is TriggerRule.ALL_SUCCESS
            and self.allow_failure is False
            and self.on_crash is Execution.on_crash
            and self.priority is Execution.priority
            and self.submit is NO_SUBMIT
            and self.keep_remote is False
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
            raise SettingError("teardown_of makes the step a teardown; leave teardown=False out")
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
                raise SettingError("compensate_on needs a compensation; give compensate=...")
            return
        if self.teardown:
            raise SettingError("a teardown cannot have a compensation; leave compensate out")
        self.compensate = compensate  # type: ignore[assignment] # checked by the caller

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options of the step, as in `vect.created`."""
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
        if self.secrets:
            told["secrets"] = list(self.secrets)
        return told | self._clean_up() if self.teardown or self.compensate is not None else told

    def _clean_up(self) -> dict[str, Any]:
        if not self.teardown:
            return {"compensate": self.compensate_on}
        told: dict[str, Any] = {"trigger_rule": TEARDOWN}
        if self.teardown_of:
            told["teardown_of"] = [step.name for step in self.teardown_of]
        return told

    def _limits(self) -> Mapping[str, Any]:
        """Return its non-default limits on time, and on how many steps run at once."""
        limits: dict[str, Any] = {"timeout": self.timeout, "deadline": self.deadline}
        if self.pool is not None and "pool" not in self._kind.ignored:
            limits["pool"] = [self.pool.name, self.pool.slots]
            limits["pool_slots"] = self.pool_slots if self.pool_slots > 1 else None
            limits["rate"] = None if self.pool.rate is None else list(self.pool.rate)
        ignored = self._kind.ignored
        return {
            name: limit
            for name, limit in limits.items()
            if limit is not None and name not in ignored
        }

    @property
    def each(self) -> Execution:
        """What runs for one item of a map; of any other step itself."""
        return self

    @property
    def output(self) -> OutputReference:
        """A reference to the output, for other steps; `a.output['key']` refers to a part."""
        return OutputReference(self.flow, self.name)

    @cached_property
    def output_type(self) -> Any:
        """The annotated type of the output; `typing.Any` if there is no annotation."""
        return return_type(type(self).run)

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the type that a value must have at a place in its arguments, if that is known."""
        return UNKNOWN

    def follow(self, used: Sequence[Used]) -> None:
        """Wait for the steps whose outputs it takes; called by subclasses that take references.

        Raises:
            FlowFrozenError: The flow has been started.
            FlowError: One is a secret, and the step is of a kind that takes none.
        """
        if secrets := [each.reference for each in used if type(each.reference) is SecretReference]:
            if not self.takes_secrets:
                raise self.wrong(self.flow, self.name, no_secret(secrets[0]))
            self.secrets = list(dict.fromkeys(each.name for each in secrets))
        self.references = used
        if self._is_part:
            return
        sources = [u.reference for u in used if isinstance(u.reference, OutputReference)]
        self.depends(*(self.flow.steps[name] for name in dict.fromkeys(s.name for s in sources)))

    @staticmethod
    def wrong(flow: Owner, name: str, what: str) -> FlowError:
        """Return an error that says what is wrong with the declaration of a step."""
        flow_name = name_of_flow(flow)
        return FlowError(
            f"step {shown(name)} of flow '{flow_name}': {what}", flow=flow_name, step=name
        )

    def run(self, context: Context) -> Any:
        """Do or start the work, and return the output of the step."""
        raise TypeError(f"{type(self).__name__} must define run(self, context)")

    def depends(self, *upstreams: Execution) -> None:
        """Make this step wait for `upstreams`, steps of its own flow. A repeated call is harmless.

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
        """Return the checked steps on the other side of an arrow."""
        is_list = isinstance(others, Iterable) and not isinstance(others, str)
        steps: list[Any] = list(others) if is_list else [others]  # type: ignore[call-overload] # as asked
        for step in steps:
            if not isinstance(step, Execution):
                raise FlowError(
                    f"step '{self.name}' of flow '{self.flow.name}' can be joined by >> and << "
                    f"only with steps, not with {shown(step)}",
                    flow=self.flow.name,
                    step=self.name,
                )
        return steps

    def __getstate__(self) -> Mapping[str, Any]:
        """Travel to another process without the flow: a worker needs only the work of the step."""
        return {key: value for key, value in self.__dict__.items() if key not in _AT_HOME}

    def __repr__(self) -> str:
        """Return the kind and the name of the step."""
        return f"<{type(self).__name__} '{self.name}'>"


def no_secret(secret: Reference) -> str:
    """Return the clause of an error for a secret where the value would be stored."""
    return (
        f"{secret!r} cannot stand there, since the log would keep its value; give secrets to the "
        "arguments of a function, or to env= of a command"
    )


def name_of_flow(flow: object) -> str:
    """Return the name of a flow, for a message; the argument may be anything."""
    name = at_heart(getattr(flow, "name", None))
    return name if type(name) is str else shown(flow)


def _steps_of(given: object) -> tuple[Execution, ...]:
    """Return the steps of a `teardown_of`.

    Raises:
        SettingError: The argument is no list of steps.
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
    "is a generator, and a call of it runs nothing; return a list instead of yielding its items"
)
