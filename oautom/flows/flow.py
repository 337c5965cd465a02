"""`Flow`: a directed acyclic graph of steps, declared once, frozen by its first start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack, cast, overload

from oautom.errors import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateStepError,
    FlowError,
    FlowFrozenError,
    SettingError,
    UnknownStepError,
    shown,
)
from oautom.flows.checks import check_wiring
from oautom.flows.params import Params
from oautom.machine.event import NO_DATA
from oautom.machine.graph import Graph
from oautom.pictures.drawn import Drawn
from oautom.steps.compensation import compensation_of
from oautom.steps.execution import Execution
from oautom.steps.function import StepFunction
from oautom.steps.options import (
    OnFailure,
    Pool,
    RetryPolicy,
    StepOptions,
    flag_of,
    limits_of_pool,
    retry_of,
    seconds_of,
    word_of,
)
from oautom.values.json import at_heart, json_key, plain_count
from oautom.values.names import check_name, plain_text
from oautom.values.references import OutputReference, ParamReference, SecretReference

if TYPE_CHECKING:
    from oautom.pictures.nodes import Node

WhenFull = Literal["raise", "wait"]
Lane = str | tuple[str, str]
"""What `max_active_vects` limits: a flow, by name, or one value of its `limit_by`, as JSON."""


class App(Protocol):
    """The app of a flow, as far as the flow needs it."""

    def add(self, flow: Flow) -> None:
        """Add the flow, or raise `DuplicateFlowError`."""

    def flow(self, name: str) -> Flow:
        """Return the flow of this name, or raise `UnknownFlowError`."""


class Flow(Drawn):
    """A directed acyclic graph of steps.

    Declare it on one thread. The first start of the flow freezes it.

    Args:
        name: Name of the flow, unique in its app.
        app: The `OAutom` that runs it.
        params: The parameters of a start: name -> type, or `Param(type, default)` for one that may
            be left out. A type may be any that `msgspec` knows, or a path.
        max_active_vects: How many Vects of the flow may be open at once; None for any number.
            Default: 1.
        when_full: One more start raises (`'raise'`), or creates a Vect that starts when its turn
            comes, in the order of creation (`'wait'`). Default: `'raise'`.
        limit_by: Name of a parameter: `max_active_vects` applies to each of its values separately;
            values are compared as JSON.
        retry: The default `RetryPolicy` of its steps.
        timeout: The default of its steps for how many seconds an attempt may take.
        deadline: Seconds from the start of a Vect until it should have ended. If it has not ended
            by then, one `vect.late` says so. Nothing is ended. None for no deadline.
        max_async: How many of its `async` steps run at once, in all its Vects together. Default:
            1000.
        run_timeout: Seconds that a whole run may take, from its start, or from its retry; then its
            running steps are cancelled, and the Vect has failed. None for no limit.
        on_failure: When a step without `allow_failure` has failed, the steps that do not depend on
            it go on (`'finish'`), or all steps are cancelled at once (`'cancel'`). Default:
            `'finish'`.
        strict: Whether its Bash steps end with the first failure in their commands; a step may
            override it, see `BashExecution`. Default: True.
        capture: Whether the text of its steps includes what their code prints and logs; a step may
            override it. Default: True.
        description: The purpose of the flow, in a sentence.
        version: A name for the present meaning of the flow: a Vect that began with another version
            does not go on in this program. Change it when the steps stay the same, but their
            functions no longer fit the data of open Vects.

    Attributes:
        app: The `OAutom` that runs it.
        params: Its parameters, by name.
        steps: The steps by name, in the order of declaration; read-only.
        max_active_vects, when_full, limit_by: See above.
        retry, timeout, deadline, max_async, run_timeout, on_failure, strict, capture, version: See
            above.
        secrets: The names of the secrets that it refers to, in the order of first mention.
        has_strict_steps: Whether one of its steps runs a strict Bash command.

    Raises:
        FlowError: An argument cannot be used.
        DuplicateFlowError: The app has a flow of this name.
    """

    def __init__(
        self,
        name: str,
        app: App,
        *,
        params: Mapping[str, Any] | None = None,
        max_active_vects: int | None = 1,
        when_full: WhenFull = "raise",
        limit_by: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        max_async: int = 1000,
        run_timeout: float | None = None,
        on_failure: OnFailure = "finish",
        strict: bool = True,
        capture: bool = True,
        description: str = "",
        version: str | None = None,
    ) -> None:
        name = check_name("flow", name)
        if not callable(getattr(app, "add", None)) or hasattr(app, "add_edges"):
            raise FlowError(f"flow '{name}': app must be an OAutom, not {shown(app)}", flow=name)
        limit = plain_count(max_active_vects)
        if limit is None and max_active_vects is not None:
            given = shown(max_active_vects)
            raise FlowError(
                f"flow '{name}': max_active_vects must be a positive int, or None, not {given}",
                flow=name,
            )
        if (most_async := plain_count(max_async)) is None:
            given = shown(max_async)
            raise FlowError(
                f"flow '{name}': max_async must be a positive int, not {given}", flow=name
            )
        if version is not None:
            version = check_name(f"flow '{name}': version", version, flow=name)
        self.name = name
        self.version = version
        self._app: App | None = app
        self.max_active_vects = limit
        self.max_async = most_async
        self.has_strict_steps = False
        try:
            self.description = plain_text(description, "description")
            self.retry = retry_of(retry)
            self.timeout = seconds_of("timeout", timeout)
            self.deadline = seconds_of("deadline", deadline)
            self.run_timeout = seconds_of("run_timeout", run_timeout)
            self.on_failure: OnFailure = word_of("on_failure", on_failure, OnFailure)
            self.when_full: WhenFull = word_of("when_full", when_full, WhenFull)
            self.strict = flag_of("strict", strict)
            self.capture = flag_of("capture", capture)
        except SettingError as error:
            raise FlowError(f"flow '{name}': {error}", flow=name) from None
        self.params = Params(name, params)
        self.secrets: dict[str, None] = {}
        self.limit_by = self._counted(limit_by)
        self._steps = _Steps(name)
        self.steps: Mapping[str, Execution] = MappingProxyType(self._steps)
        self._edges: dict[str, list[str]] = {}
        self._graph: Graph | None = None
        self._options: Mapping[str, Mapping[str, Any]] | None = None  # once it is frozen
        self._is_frozen = False
        self.checked = -1  # how much was declared when it was found in order
        self._step_functions: list[StepFunction] = []
        app.add(self)

    def _counted(self, limit_by: object) -> str | None:
        param = at_heart(limit_by)
        if param is None:
            return None
        if type(param) is not str or param not in self.params:
            raise FlowError(
                f"flow '{self.name}': limit_by must be the name of one of its parameters, not "
                f"{shown(limit_by)}; {self.params.listed}",
                flow=self.name,
            )
        if self.max_active_vects is None:
            raise FlowError(
                f"flow '{self.name}': limit_by='{param}' limits nothing without max_active_vects; "
                "say how many may be open at once, or leave limit_by out",
                flow=self.name,
            )
        return param

    def lane(self, params: Mapping[str, Any]) -> Lane:
        """Return the lane of a Vect with these plain parameters."""
        if self.limit_by is None:
            return self.name
        return self.name, json_key(params.get(self.limit_by))

    @property
    def limit(self) -> Mapping[str, Any]:
        """The data of the start of a Vect that has waited for its turn."""
        if self.max_active_vects is None:
            return NO_DATA
        told: dict[str, Any] = {"limit": self.max_active_vects}
        return MappingProxyType(told if self.limit_by is None else told | {"by": self.limit_by})

    @property
    def app(self) -> App:
        """The app that it is registered with.

        Raises:
            FlowError: Nothing referred to that app any more, and another app of this program has
                its log now.
        """
        if self._app is None:
            raise FlowError(
                f"the app of flow '{self.name}' is gone: another one of this program has its log; "
                "declare the flow with that one",
                flow=self.name,
            )
        return self._app

    @app.setter
    def app(self, app: App | None) -> None:
        self._app = app

    @property
    def graph(self) -> Graph:
        """Which step waits for which."""
        if self._graph is None:
            self._graph = Graph({name: self._edges.get(name, ()) for name in self._steps})
        return self._graph

    @property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """The non-default options of each step, by name, as in `vect.created`."""
        if self._options is not None:
            return self._options
        given = ((name, step.options()) for name, step in self._steps.items())
        options = {name: options for name, options in given if options}
        if self._is_frozen:
            self._options = options
        return options

    @property
    def settings(self) -> Mapping[str, Any]:
        """The non-default settings of the flow that hold for a whole Vect, as in `vect.created`."""
        told: dict[str, Any] = {}
        if self.deadline is not None:
            told["deadline"] = self.deadline
        if self.run_timeout is not None:
            told["run_timeout"] = self.run_timeout
        if self.on_failure != "finish":
            told["on_failure"] = self.on_failure
        return told

    def part(self, until: Iterable[str] | None) -> Graph:
        """Return the graph of a Vect that ends with some steps: what these wait for, and no more.

        A teardown belongs to it if all that it waits for does.

        Args:
            until: The names of the steps. Those that the flow does not have are left out. None for
                the whole graph.
        """
        if until is None:
            return self.graph
        names = self.graph.before(name for name in until if name in self._steps)
        for step in self._steps.values():
            if step.teardown and names.issuperset(self.graph.upstreams[step.name]):
                names.add(step.name)
        upstreams = self.graph.upstreams
        return Graph({name: ups for name, ups in upstreams.items() if name in names})

    def alone(self, step: str, given: Iterable[str]) -> Graph:
        """Return the graph of a Vect in which only one step runs.

        Args:
            step: Its name.
            given: The names of steps before it, in place of which it gets outputs. Those whose
                output it takes belong to it in any case.
        """
        if step not in self._steps:
            return Graph({})
        names = {*given, *self.taken_by(step)}
        before = [each for each in self.graph.upstreams[step] if each in names]
        return Graph(
            {
                name: before if name == step else ()
                for name in self._steps
                if name in {step, *before}
            }
        )

    def taken_by(self, step: str) -> list[str]:
        """Return the names of the steps whose outputs are arguments of a step."""
        used = (each.reference for each in self._steps[step].references)
        return list(dict.fromkeys(each.name for each in used if isinstance(each, OutputReference)))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever a step or a dependency does."""
        return self.graph.fingerprint()

    def param(self, name: str) -> ParamReference:
        """Return a reference to a parameter, as an argument for steps: `flow.param('day')`.

        Raises:
            ParamError: The flow has no such parameter.
        """
        self.params[name]
        return ParamReference(self, at_heart(name))

    def secret(self, name: str) -> SecretReference:
        """Return a reference to a secret, as an argument for steps: `flow.secret('API_KEY')`.

        Its value, a text, is fetched when the step runs, where it runs: from the environment there,
        or from the `secrets` of the app. It is stored nowhere, and `***` stands in its place in
        what the step writes and in the texts of its errors.

        Args:
            name: Name of the secret, and of the variable of the environment.

        Raises:
            FlowError: The name cannot be that of a variable.
        """
        name = check_name(f"flow '{self.name}': secret", name, flow=self.name)
        if "=" in name:
            raise FlowError(
                f"flow '{self.name}': secret name must not contain '=', which no variable of an "
                f"environment has in its name, not {shown(name)}",
                flow=self.name,
            )
        self.secrets[name] = None
        return SecretReference(self, name)

    @overload
    def step(self, function: Callable[..., Any], /) -> StepFunction: ...

    @overload
    def step(
        self, *, name: str | None = None, **options: Unpack[StepOptions]
    ) -> Callable[[Callable[..., Any]], StepFunction]: ...

    def step(  # type: ignore[misc] # mypy does not match Unpack with itself here
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Any:
        """Make a `StepFunction` of a function: each call of it declares a step.

        A decorator: `@flow.step`, or `@flow.step(name='...', on_crash='fail')`.

        Args:
            function: The function.
            name: Name of the step. Default: the name of the function.
            options: As of every `Execution`.

        Returns:
            A `StepFunction`.

        Raises:
            FlowError: The decorated object is no function.
            FlowFrozenError: The flow has been started.
        """

        def declare(function: Callable[..., Any]) -> StepFunction:
            _declared.count += 1
            declared = StepFunction(self, function, name, options)
            self._check_open(declared.name)
            self._step_functions.append(declared)
            return declared

        return declare if function is None else declare(function)

    def add(self, step: Execution) -> None:
        """Add a step; an `Execution` calls this when it is made.

        Raises:
            FlowError: It is no step of this flow, or its name cannot be used.
            DuplicateStepError: There is a step of this name.
            FlowFrozenError: The flow has been started.
        """
        if not issubclass(type(step), Execution):
            raise FlowError(
                f"flow '{self.name}' takes steps, not {shown(step)}; make one: "
                "PythonExecution(name, flow, function)",
                flow=self.name,
            )
        if getattr(step, "flow", None) is not self:
            raise FlowError(
                f"flow '{self.name}' takes its own steps only, not {shown(step)}; "
                "PythonExecution(name, flow, function) adds a step to its flow",
                flow=self.name,
            )
        _declared.count += 1
        step.name = check_name(f"flow '{self.name}': step", step.name, flow=self.name)
        if step.name in self._steps:
            raise DuplicateStepError(self.name, step.name)
        self._check_open(step.name)
        self._check_pool(step)
        if step.compensate is not None:
            step.compensation = compensation_of(step, self)
        self.has_strict_steps |= step.strict is True
        self._steps[step.name] = step
        self._graph = None

    def _check_pool(self, step: Execution) -> None:
        """Refuse a pool that the app knows with other slots, or another rate."""
        known: dict[str, tuple[Pool, str]] | None = getattr(self.app, "pools", None)
        if step.pool is None or known is None:
            return
        who = f"step '{step.name}' of flow '{self.name}'"
        other, first = known.setdefault(step.pool.name, (step.pool, who))
        if other != step.pool:
            raise FlowError(
                f"{who}: pool '{other.name}' has {limits_of_pool(step.pool)} here, and "
                f"{limits_of_pool(other)} for "
                f"{first}; pools of one name are one pool; make it once",
                flow=self.name,
                step=step.name,
            )

    def add_edges(self, step: Execution, upstreams: Iterable[Execution]) -> None:
        """Make `step` wait for `upstreams`, for all or none of them; called by `depends` and `>>`.

        Raises:
            FlowError: One of them is no step.
            CrossFlowDependencyError: One of them belongs to another flow.
            FlowFrozenError: The flow has been started.
        """
        if not issubclass(type(step), Execution) or getattr(step, "flow", None) is not self:
            raise FlowError(f"flow '{self.name}' has no such step: {shown(step)}", flow=self.name)
        self._check_open(step.name)
        _declared.count += 1
        try:
            given = iter(upstreams)
        except TypeError:
            raise self._no_step(step, upstreams) from None
        names = [self._upstream_name(step, upstream) for upstream in given]
        self._edges.setdefault(step.name, []).extend(names)
        self._graph = None

    def _upstream_name(self, step: Execution, upstream: Execution) -> str:
        if not issubclass(type(upstream), Execution):
            raise self._no_step(step, upstream)
        if upstream.flow is not self:
            raise CrossFlowDependencyError(self.name, step.name, upstream.flow.name, upstream.name)
        return upstream.name

    def _no_step(self, step: Execution, other: object) -> FlowError:
        return FlowError(
            f"step '{step.name}' of flow '{self.name}' can only depend on steps, not on "
            f"{shown(other)}; write depends(step, step)",
            flow=self.name,
            step=step.name,
        )

    def _check_open(self, step: str) -> None:
        if self._is_frozen:
            raise FlowFrozenError(self.name, step)

    def validate(self) -> None:
        """Check the whole flow, and those that its steps run. The first start does so by itself.

        Raises:
            CycleError: Steps wait for each other in a circle; the error names the circle.
            FlowError: By the annotations, a function certainly cannot take a value that it gets; a
                function of `@flow.step` is never called; flows run each other in a circle; or a
                step that runs a flow occupies the slots of a pool that this flow needs.
        """
        count = _declared.count  # before: another thread may declare something meanwhile
        for flow in check_wiring(self):
            flow.checked = count

    def check_steps(self) -> None:
        """Check only the steps of this flow; errors as of `validate`, which calls it."""
        if (cycle := self.graph.find_cycle()) is not None:
            raise CycleError(self.name, cycle)
        for step in self._steps.values():
            if step.teardown and not self.graph.upstreams[step.name]:
                raise FlowError(
                    f"flow '{self.name}': step '{step.name}' is a teardown, and waits for nothing; "
                    f"make it wait for the steps that it cleans up after: {step.name}.depends(...)",
                    flow=self.name,
                    step=step.name,
                )
        for function in self._step_functions:
            if not function.calls:
                raise FlowError(
                    f"flow '{self.name}': step function '{function.name}' is never called, so it "
                    f"has no step; call it, {function.name}(...), or take @flow.step away",
                    flow=self.name,
                    step=function.name,
                )

    @property
    def is_frozen(self) -> bool:
        """Whether the flow has been started, and takes no more steps."""
        return self._is_frozen

    def freeze(self) -> None:
        """Check the flow, and take no more changes; called by the first start.

        Raises:
            FlowError: See `validate`; then the flow can still be changed.
        """
        if not self._is_frozen:
            if self.checked != _declared.count:  # else it was checked with a flow that runs it
                self.validate()
            self._is_frozen = True
            self._edges.clear()  # the graph has them

    def to_dot(self) -> str:
        """Return the graph in the DOT language of Graphviz."""
        from oautom.pictures.text import dot  # noqa: PLC0415 - most programs draw nothing

        return dot(self.name, self._nodes())

    def _title(self) -> str:
        return f"flow '{self.name}'"

    def _nodes(self) -> list[Node]:
        from oautom.pictures.nodes import Node  # noqa: PLC0415 - as above

        upstreams, options = self.graph.upstreams, self.options
        given = ((name, options.get(name, NO_DATA)) for name in upstreams)
        nodes = []
        for name, each in given:
            runs = each.get("runs")  # of an object that is no flow it may be anything
            told = runs if type(runs) is str else None
            nodes.append(Node(name, upstreams[name], kind=each.get("kind", ""), runs=told))
        return nodes

    def __repr__(self) -> str:
        """Return the name of the flow and the number of its steps."""
        return f"<Flow '{self.name}' of {len(self._steps)} steps>"


class _Declared:
    """The number of steps and edges so far: as long as it is the same, a check still holds."""

    count = 0


_declared = _Declared()


class _Steps(dict[str, Execution]):
    """Steps by name; the error for an unknown name lists the steps."""

    def __init__(self, flow: str) -> None:
        super().__init__()
        self._flow = flow

    def __missing__(self, name: object) -> Execution:
        raise UnknownStepError(self._flow, cast("str", name), self)
