"""Whatever is given to whatever can be called: it is refused or works, and another flow ends.

What can be called is found by introspection, so that a new method or parameter is tried by itself;
one of which this test does not know a good value fails it, and wants one in `GOOD`.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pytest

import oautom
from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    DuplicateFlowError,
    DuplicateStepError,
    Execution,
    Flow,
    FlowExecution,
    FlowFrozenError,
    MapExecution,
    NotFinishedError,
    OAutom,
    OAutomError,
    OAutomMode,
    Param,
    Plan,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    Skip,
    SqliteEventLog,
    StepError,
    Subscription,
    Vect,
    WaitExecution,
)
from oautom.testing import check_history
from tests.held import Call

from .hostile import (
    HOSTILE,
    HUGE,
    OF_THEIR_OWN,
    NoSuperError,
    OddBaseError,
    Refused,
    UnprintableError,
    UnsendableError,
    chained,
    in_a_circle,
)

SECONDS = 10.0
IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))
ERROR_BYTES_MAX, TRACEBACK_BYTES_MAX = 16 * 2**10, 64 * 2**10
A_BIT = 256
"""What is said of what is missing may take so much more."""

KINDS = [("memory", "inline"), ("file", "threads")]
if IS_LONG:
    KINDS += [("memory", "threads"), ("file", "inline")]
kinds = pytest.mark.parametrize(("kind", "executor"), KINDS, ids=map("-".join, KINDS))


def some_of(names: Iterable[str], key: str, kind: str, part: int = 8) -> list[str]:
    """Return names: all, but in the short form each second, with a file one of several."""
    step = 1 if IS_LONG else 2 if kind == "memory" else part
    return list(names)[crc32(key.encode()) % step :: step]


pytestmark = [  # of what nobody awaits, and of what raises when it is let go of
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep still, and in a folder of its own: a text may be the name of a file."""
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# The app in which all that is done, and another flow


class World:
    """An app to which hostile values are given, and a flow that has nothing to do with them."""

    def __init__(self, path: Path, kind: str, executor: str) -> None:
        self.path = path / f"{next(_numbers)}.db"
        self.kind, self.executor = kind, executor
        self.declared: list[Callable[[World], object]] = []
        self.subscriptions: list[Subscription] = []
        self.open()

    def open(self) -> None:
        """Be a program: an app with what it needs."""
        is_inline = self.executor == "inline"
        self.app = OAutom(
            OAutomMode.foreground if is_inline else OAutomMode.background,
            log=SqliteEventLog(self.path, synchronous="NORMAL") if self.kind == "file" else None,
            executor=self.executor,
        )
        self.good = self.flow("good")
        PythonExecution("a", self.good, lambda: 1) >> PythonExecution("b", self.good, lambda: 2)
        self.gated = self.flow("gated")
        ApprovalExecution("gate", self.gated, "go on?")
        self.plain = self.flow("plain", params={"p": Param(Any, 1)})
        PythonExecution("step", self.plain, lambda: 1)

    def flow(self, name: str = "", **options: Any) -> Flow:
        return Flow(name or self.name(), self.app, max_active_vects=10**6, **options)

    def flow_of_steps(self) -> Flow:
        """A flow for a step; it is the newest, for what the step takes of it."""
        self.newest = self.flow(params={"items": Param(list[int], [1, 2])})
        return self.newest

    def name(self) -> str:
        return f"name {next(_numbers)}"

    def check_good(self) -> None:
        """Check that the other flow ends, in time."""
        assert self.make(self.app.run, self.good).state == "success"

    def harm_done(self) -> str:
        """Return how the other flow does not end; closed, as far as that goes, if so."""
        try:
            self.check_good()
        except Exception as error:
            with suppress(BaseException):
                self.close()
            return f"then the other flow: {told_of(error)}"
        return ""

    def make(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return Call(call, *args, **options).result(SECONDS)

    def asked(self) -> Vect:
        """A Vect whose gate waits."""
        vect: Vect = self.app.start(self.gated)
        while vect.steps["gate"].state != "running":
            with suppress(TimeoutError):
                vect.wait(0.002)
        return vect

    def failing(self) -> Subscription:
        """A subscription that has given up all that it has heard."""

        def fail(flow: object, event: object, **_: object) -> None:
            raise Refused("no")

        for subscription in self.subscriptions:  # else all of them hear what follows
            subscription.close()
        subscription = self.app.subscribe(
            fail, name=self.name(), events=["vect.created"], give_up_after=1
        )
        self.app.run(self.plain)
        subscription.wait(SECONDS)
        self.subscriptions = [subscription]
        return subscription

    def close(self) -> None:
        self.make(self.app.close)
        self.make(self.app.log.close)

    def check_next_life(self) -> None:
        """Check that the other flow ends in the next life too, whatever this one has left."""
        self.check_good()
        self.close()
        if self.kind == "file":
            self.open()
            for declare in self.declared:
                declare(self)
            with suppress(OAutomError):
                self.make(self.app.recover)
            self.check_good()
            check_history(self.app.log.read(), gaps=self.app.log.gaps())
            self.close()


_numbers = itertools.count()


# What can be called


MADE_BY_THE_ENGINE = {
    *(
        "Attempt",
        "Clock",
        "Context",
        "Event",
        "EventLog",
        "Plan",
        "Reference",
        "Step",
        "StepFunction",
    ),
    *("GivenUp", "Subscription", "Vect"),
}
"""What nobody else makes: `Clock` and `EventLog` are protocols."""
NOT_OF_THE_ENGINE = {
    "Client",
    "OAutomMode",
    "TriggerRule",
    "MemoryEventLog",
    "SystemClock",
    "Execution",
}
"""Enums; what takes no argument; the base class, whose arguments are those of the others; and a
client, whose own tests give it all of this.
"""
INNER = {
    *("Execution.run", "Execution.call", "Execution.follow", "Execution.options"),
    *("Execution.wanted", "Execution.wrong"),
    *("Flow.freeze", "Flow.lane", "Flow.part", "OAutom.aclose", "OAutom.close"),
    *("Flow.alone", "Flow.taken_by"),
    *("Context.mark_cancelled", "Context.on_cancel_of_call"),
    *("RetryPolicy.covers", "RetryPolicy.decide", "RetryPolicy.delay_after"),
}
"""What the engine calls, or what a class of a user defines; `close` ends every test."""
OPTIONS = [
    name
    for name, each in inspect.signature(Execution.__init__).parameters.items()
    if each.kind is each.KEYWORD_ONLY
]


class Target(NamedTuple):
    """Something that can be called.

    Attributes:
        owner: Name of the class.
        method: Name of the method; empty for the class itself.
        parameters: Names of what it takes.
    """

    owner: str
    method: str
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.method}" if self.method else self.owner


def parameters_of(function: Any, *, is_step: bool = False) -> tuple[str, ...]:
    names: list[str] = []
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is each.VAR_KEYWORD:
            names += OPTIONS if is_step else []
        elif name != "self":
            names.append(name)
    return tuple(names)


def methods_of(kind: type, owner: str, *, is_step: bool = False) -> Iterator[Target]:
    for name, function in inspect.getmembers(kind, inspect.isfunction):
        is_arrow = name in ("__rshift__", "__lshift__", "__rrshift__", "__rlshift__")
        if (name.startswith("_") and not is_arrow) or f"{owner}.{name}" in INNER:
            continue
        if parameters := parameters_of(function, is_step=is_step):
            yield Target(owner, name, parameters)


def targets() -> Iterator[Target]:
    """Yield all that can be called with an argument."""
    for name in oautom.__all__:
        kind = getattr(oautom, name)
        if not inspect.isclass(kind) or issubclass(kind, BaseException):
            continue
        if name not in MADE_BY_THE_ENGINE | NOT_OF_THE_ENGINE:
            yield Target(name, "", parameters_of(kind, is_step=issubclass(kind, Execution)))
    yield from methods_of(Execution, "Execution")
    yield from methods_of(Flow, "Flow", is_step=True)
    for kind in (OAutom, Vect, Plan, Subscription, RetryPolicy, Pool, Param):
        yield from methods_of(kind, kind.__name__)


TARGETS = list(targets())


def the_owner(world: World, owner: str) -> Any:
    """Return somebody whose methods are called."""
    match owner:
        case "OAutom":
            return world.app
        case "Vect":
            return world.asked()
        case "Flow":
            return world.flow(params={"p": Param(int, 1)})
        case "Execution":
            return PythonExecution("a", world.flow(), lambda: 1)
        case "Plan":
            return world.app.plan(world.plain, days=1, name=world.name())
        case "Subscription":
            return world.app.subscribe(lambda *_, **__: None, name=world.name())
        case "RetryPolicy":
            return RetryPolicy()
    raise AssertionError(f"say in `the_owner` how a {owner} is made")


def another_step(owner: Any) -> Any:
    return PythonExecution("b", owner.flow, lambda: 1)


GOOD: dict[str, Callable[[World, Any], Any]] = {
    "name": lambda world, owner: world.name(),
    "app": lambda world, owner: world.app,
    "flow": lambda world, owner: world.flow_of_steps(),
    "function": lambda world, owner: lambda *_, **__: None,
    "command": lambda world, owner: "true",
    "prompt": lambda world, owner: "go on?",
    "runs": lambda world, owner: world.plain,
    "over": lambda world, owner: world.newest.param("items"),
    "slots": lambda world, owner: 1,
    "annotation": lambda world, owner: int,
    "default": lambda world, owner: 1,
    "path": lambda world, owner: f"{world.name()}.db",
    "upstreams": lambda world, owner: another_step(owner),
    "others": lambda world, owner: another_step(owner),
    "OAutom.flow": lambda world, owner: world.plain,
    "Flow.step": lambda world, owner: PythonExecution(world.name(), owner, lambda: 1),
    "Flow.upstreams": lambda world, owner: [],
    "OAutom.older_than": lambda world, owner: timedelta(days=1),
    "OAutom.id": lambda world, owner: world.app.run(world.plain).id,
    "OAutom.timeout": lambda world, owner: 5,
    "Vect.step": lambda world, owner: "gate",
    "Vect.by": lambda world, owner: "Ada",
    "Vect.timeout": lambda world, owner: 0.001,
    "WaitExecution.seconds": lambda world, owner: 0,
    "LambdaExecution.function_name": lambda world, owner: "function",
    "LambdaExecution.client": lambda world, owner: client_of_nobody(),
    "OAutom.plan.days": lambda world, owner: 1,
    "OAutom.backfill.flow": lambda world, owner: planned(world),
    "OAutom.backfill.first": lambda world, owner: DAY,
    "OAutom.backfill.last": lambda world, owner: DAY,
    "Flow.param.name": lambda world, owner: "p",
    "Subscription.seq": lambda world, owner: owner.given_up()[0].seq,
    "Subscription.timeout": lambda world, owner: 0.001,
}
"""A good value of each parameter: by itself, with its class, or with its method too."""
ALWAYS = {
    "LambdaExecution.client",
    *("Pool.slots", "WaitExecution.seconds", "OAutom.plan.days", "OAutom.run.flow", "Vect.timeout"),
    *("Subscription.timeout", "Param.default"),
}
"""What is given though it need not be."""
INSTEAD = {"until": "seconds", "cron": "days"}
"""What is not given together."""
NEVER_ENDS = {("OAutom.run", "flow", "None")}
"""What serves until it is stopped."""


DAY = "2020-01-01"


@cache
def client_of_nobody() -> Any:
    """Return a client of AWS that nobody answers."""
    boto3 = pytest.importorskip("boto3")
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return boto3.client("lambda", "eu-west-1", endpoint_url="http://127.0.0.1:9", **keys)


def good(target: Target, parameter: str, world: World, owner: Any) -> Any:
    places = (f"{target.name}.{parameter}", f"{target.owner}.{parameter}", parameter)
    for place in places:
        if place in GOOD:
            return GOOD[place](world, owner)
    raise AssertionError(f"say in `GOOD` what a good value of {places[0]} is")


def planned(world: World) -> Flow:
    """Return a flow that has one plan."""
    flow = world.flow()
    PythonExecution("step", flow, lambda: 1)
    world.app.plan(flow, days=1, name=world.name())
    return flow


def function_of(target: Target) -> Any:
    kind = getattr(oautom, target.owner)
    return getattr(kind, target.method) if target.method else kind


def call_with(target: Target, parameter: str, value: Any, world: World) -> Any:
    """Call a target with good values, but for one parameter."""
    owner = the_owner(world, target.owner) if target.method else None
    if target.name == "Vect.wait":  # for one that has ended: another one takes its time
        owner = world.app.run(world.plain)
    if target.name == "Subscription.redeliver":
        owner = world.failing()
    if target.name == "Vect.result":  # of a step that has one
        owner.approve("gate", "Ada")
        owner.wait(SECONDS)
    args, options = [], {}
    signature = inspect.signature(function_of(target))
    for name in target.parameters:
        known = signature.parameters.get(name)
        is_wanted = known is not None and known.default is known.empty
        is_wanted |= {f"{target.name}.{name}", f"{target.owner}.{name}"} & ALWAYS != set()
        if name == parameter:
            given = value
        elif is_wanted and INSTEAD.get(parameter) != name:
            given = good(target, name, world, owner)
        else:
            continue
        if known is not None and known.kind in (known.POSITIONAL_ONLY, known.VAR_POSITIONAL):
            args.append(given)
        else:
            options[name] = given
    function = getattr(owner, target.method) if target.method else function_of(target)
    result = function(*args, **options)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def use(result: Any, world: World) -> None:
    """Do with what a call has returned what one does with it."""
    for kind, what in USES.items():
        if issubclass(type(result), kind):
            what(result, world)


def use_of_flow(flow: Flow, world: World) -> None:
    if flow.app is world.app:
        with suppress(FlowFrozenError):
            PythonExecution("a step", flow, lambda: 1)
        run(flow, world)


def use_of_step(step: Execution, world: World) -> None:
    if step.flow.app is world.app:
        run(step.flow, world)


def use_of_plan(plan: Plan, world: World) -> None:
    plan.next_time()
    repr(plan)
    plan.cancel()


def use_of_subscription(subscription: Subscription, world: World) -> None:
    repr(subscription)
    subscription.close(1)


def run_with(world: World, flow: Flow, function: Any = lambda: 1, **options: Any) -> None:
    PythonExecution("a step", flow, function, **options)
    run(flow, world)


USES: dict[type, Callable[[Any, World], object]] = {
    OAutom: lambda app, world: app is world.app or app.close(),
    SqliteEventLog: lambda log, world: log.close(),
    Flow: use_of_flow,
    Execution: use_of_step,
    Vect: lambda vect, world: look_at(vect),
    Plan: use_of_plan,
    Subscription: use_of_subscription,
    RetryPolicy: lambda policy, world: run_with(world, world.flow(), lambda: 1 / 0, retry=policy),
    Pool: lambda pool, world: run_with(world, world.flow(), pool=pool),
    Param: lambda param, world: run_with(world, world.flow(params={"p": param})),
}


def run(flow: Flow, world: World) -> None:
    """Run a flow for a moment; it may wait for ages."""
    flow.to_mermaid()
    flow.to_dot()
    flow.to_svg()
    vect = world.app.start(flow)
    with suppress(TimeoutError):
        vect.wait(0.005 if world.executor == "inline" else 0.02)
    look_at(vect)


def look_at(vect: Vect) -> None:
    """Read all there is of a Vect."""
    json.dumps(vect.status())
    repr(vect)
    for name in list(vect.steps):
        vect.explain(name)
        with suppress(OAutomError):
            vect.result(name)
    assert vect.to_svg()
    assert vect.events()


def end_of(target: Target, parameter: str, name: str, world: World) -> str:
    """Return how a call has ended: it was `refused`, or `works`, or what is wrong with it."""
    try:
        result = world.make(call_with, target, parameter, HOSTILE[name](), world)
        world.make(use, result, world)
    except BaseException as error:
        return told_of(error) if is_harm(error, name) else "refused"
    return "works"


def is_harm(error: BaseException, name: str) -> bool:
    """Whether what was raised is neither an error of ours, nor what the value itself raises."""
    is_own = type(error) is Refused and name in OF_THEIR_OWN
    return not is_own and not issubclass(type(error), (OAutomError, TimeoutError))


def told_of(error: BaseException) -> str:
    """Return an error as text, even one that cannot be printed."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException as another:
        return f"{type(error).__name__}, which raises {type(another).__name__}"


@kinds
@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_whatever_is_given_is_refused_or_works_and_another_flow_ends(
    tmp_path: Path, kind: str, executor: str, target: Target
) -> None:
    world, wrong = World(tmp_path, kind, executor), []
    for parameter in target.parameters:
        names = some_of(HOSTILE, f"{target.name}.{parameter}", kind)
        for name in names:
            if (target.name, parameter, name) in NEVER_ENDS:
                continue
            end = end_of(target, parameter, name, world)
            is_good = ""
            if end != "refused" or name is names[-1]:
                is_good = world.harm_done()
            if is_good or end not in ("refused", "works"):
                wrong.append((parameter, name, end, is_good))
            if is_good:
                world = World(tmp_path, kind, executor)
    assert not wrong, "\n".join(map(str, wrong))
    world.check_next_life()


@kinds
def test_a_good_value_of_each_parameter_works(tmp_path: Path, kind: str, executor: str) -> None:
    """Else nothing else that is given with it is looked at."""
    world = World(tmp_path, kind, executor)
    for target in TARGETS:
        for parameter in target.parameters:
            if has_default(target, parameter):
                continue
            # All others are given good values as well, so that of this one is made among them.
            with suppress(*AS_IT_IS.get(target.name, ()), TimeoutError):
                result = world.make(call_with, target, "", None, world)
                world.make(use, result, world)
    world.check_next_life()


AS_IT_IS: dict[str, tuple[type[OAutomError], ...]] = {
    "Flow.add": (DuplicateStepError,),  # it was added where it was made
    "OAutom.add": (DuplicateFlowError,),  # as that was
    "Vect.result": (NotFinishedError,),
    "Subscription.redeliver": (SettingError,),
}
"""What is rightly refused, of a gate that waits and of a subscription that has given up nothing."""


def has_default(target: Target, parameter: str) -> bool:
    known = inspect.signature(function_of(target)).parameters.get(parameter)
    return known is None or known.default is not known.empty


# What a step returns, raises and calls


Make = Callable[[], Any]
Declare = Callable[["World", Flow], object]


def gives(flow: Flow, make: Make) -> PythonExecution:
    return PythonExecution("gives", flow, make)


def to_bash(make: Make) -> Declare:
    return lambda world, flow: BashExecution(
        "takes", flow, 'printf %s "$X"', {"X": gives(flow, make).output}
    )


def to_inputs(make: Make) -> Declare:
    def declare(world: World, flow: Flow) -> None:
        takes = PythonExecution("takes", flow, lambda context: context.inputs["gives"])
        gives(flow, make) >> takes

    return declare


def from_a_branch(make: Make) -> Declare:
    return lambda world, flow: (
        BranchExecution("gives", flow, make) >> PythonExecution("b", flow, lambda: 1)
    )


def from_a_coroutine(make: Make) -> Declare:
    async def later() -> Any:
        return make()

    return lambda world, flow: PythonExecution("gives", flow, later)


def annotated(make: Make) -> Declare:
    def given() -> list[dict[str, int]]:
        return make()

    def taken(value: list[dict[str, int]]) -> Any:
        return value

    return lambda world, flow: PythonExecution(
        "takes", flow, taken, [PythonExecution("gives", flow, given)]
    )


def of_a_run(make: Make) -> Declare:
    class Done(Execution):
        poll_interval = 0.001

        def run(self, context: Context) -> Any:
            return make()

        def check(self, context: Context) -> Any:
            return True

    return lambda world, flow: Done("gives", flow)


def of_a_check(make: Make) -> Declare:
    class Polled(Execution):
        poll_interval = 0.001

        def run(self, context: Context) -> list[int]:
            self.times = 0
            return []

        def check(self, context: Context) -> Any:
            self.times += 1
            return make() if self.times < 3 else True

    return lambda world, flow: Polled("gives", flow)


WAYS_OUT: dict[str, Callable[[Make], Declare]] = {
    "from a step": lambda make: lambda world, flow: gives(flow, make),
    "to a step": lambda make: (
        lambda world, flow: PythonExecution("takes", flow, lambda value: value, [gives(flow, make)])
    ),
    "to a part": lambda make: (
        lambda world, flow: PythonExecution(
            "takes", flow, lambda value: value, [gives(flow, make).output["k"][0]]
        )
    ),
    "to bash": to_bash,
    "to a map": lambda make: (
        lambda world, flow: MapExecution("takes", flow, lambda item: item, gives(flow, make))
    ),
    "from a map": lambda make: (
        lambda world, flow: MapExecution(
            "gives", flow, lambda _: make(), PythonExecution("of", flow, lambda: [1, 2])
        )
    ),
    "to a child": lambda make: (
        lambda world, flow: FlowExecution("takes", flow, world.plain, {"p": gives(flow, make)})
    ),
    "to inputs": to_inputs,
    "from a branch": from_a_branch,
    "from a coroutine": from_a_coroutine,
    "annotated": annotated,
    "of a run": of_a_run,
    "of a check": of_a_check,
}
"""Ways in which a value comes out of a step, or from one step to another."""


def play(world: World, declare: Callable[[World, Flow], object]) -> None:
    """Run a flow that is declared so, to its end, and look at what is told of it."""
    flow = world.flow()
    try:
        declare(world, flow)
        vect = world.make(world.app.start, flow)
    except OAutomError:
        return
    state = world.make(vect.wait, SECONDS)
    assert state in ("success", "failed"), state
    look_at(vect)
    for event in vect.events():
        if (error := event.data.get("error")) is not None:
            assert type(error) is str
            assert len(error.encode(errors="replace")) <= ERROR_BYTES_MAX + A_BIT, (
                "its error is too long"
            )
            assert not has_control(error), f"its error has control characters: {error[:80]!r}"
        if (traceback := event.data.get("traceback")) is not None:
            assert len(traceback.encode(errors="replace")) <= TRACEBACK_BYTES_MAX + A_BIT


def has_control(text: str) -> bool:
    return any(ord(each) < 32 or 127 <= ord(each) < 160 for each in text)


def faults(
    path: Path, kind: str, executor: str, cases: dict[str, Callable[[World, Flow], object]]
) -> list[tuple[str, ...]]:
    """Run flows one after the other, another one after each; return what was wrong."""
    world, wrong = World(path, kind, executor), []
    for name, declare in cases.items():
        end = ""
        try:
            play(world, declare)
        except BaseException as error:
            end = told_of(error)
        harm = world.harm_done()
        if end or harm:
            wrong.append((name, end, harm))
        if harm:
            world = World(path, kind, executor)
    world.check_next_life()
    return wrong


@kinds
@pytest.mark.parametrize("way", WAYS_OUT)
def test_whatever_a_step_gives_another_flow_ends(
    tmp_path: Path, kind: str, executor: str, way: str
) -> None:
    cases = {
        name: WAYS_OUT[way](make)
        for name, make in HOSTILE.items()
        if name in some_of(HOSTILE, way, kind, 3)
    }
    wrong = faults(tmp_path, kind, executor, cases)
    assert not wrong, "\n".join(map(str, wrong))


def raised() -> dict[str, Callable[[], BaseException]]:
    """What a step may raise."""

    class OwnStepError(StepError):
        def __init__(self) -> None:
            self.mine = 1

    class OwnSkip(Skip):
        def __init__(self) -> None:
            self.mine = 1

        def __str__(self) -> str:
            raise Refused("no")

    class LoudStepError(StepError):
        def __str__(self) -> Any:
            return 5

        details = property(lambda self: 1 / 0, lambda self, value: None)  # type: ignore[assignment]

    plain: dict[str, Callable[[], BaseException]] = {
        "no super": NoSuperError,
        "own StepError": OwnStepError,
        "loud StepError": lambda: LoudStepError("no"),
        "own Skip": OwnSkip,
        "unprintable": UnprintableError,
        "unsendable": UnsendableError,
        "odd base": OddBaseError,
        "KeyboardInterrupt": KeyboardInterrupt,
        "SystemExit": lambda: SystemExit({1: object()}),
        "GeneratorExit": GeneratorExit,
        "StopIteration": lambda: StopIteration(1),
        "MemoryError": MemoryError,
        "group": lambda: BaseExceptionGroup("all", [KeyboardInterrupt(), ValueError("2")]),
        "long chain": lambda: chained(3000),
        "circle": in_a_circle,
        "huge": lambda: ValueError("x" * HUGE),
        "huge StepError": lambda: StepError("y" * HUGE, more="z" * HUGE),
        "huge Skip": lambda: Skip("x" * HUGE),
        "names of the engine": lambda: StepError(
            "no", **dict.fromkeys(("output", "error", "attempt", "state", "delay", "reason"), 1)
        ),
        "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad \udcff"),
    }
    for name, make in HOSTILE.items():
        plain[f"ValueError({name})"] = lambda make=make: ValueError(make())
        plain[f"StepError({name})"] = lambda make=make: StepError(make())
        plain[f"StepError(seen={name})"] = lambda make=make: StepError("no", seen=make())
        plain[f"Skip({name})"] = lambda make=make: Skip(make())
    return plain


def raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def step() -> None:
        raise make()

    return step


AGAIN = RetryPolicy(max_attempts=2, delay=0, jitter=0)


@kinds
@pytest.mark.parametrize("options", [{}, {"retry": AGAIN}], ids=["once", "twice"])
def test_whatever_a_step_raises_another_flow_ends(
    tmp_path: Path, kind: str, executor: str, options: dict[str, Any]
) -> None:
    def declared(make: Callable[[], BaseException]) -> Callable[[World, Flow], object]:
        def declare(world: World, flow: Flow) -> None:
            bad = PythonExecution("bad", flow, raising(make), **options)
            for number in range(3):
                bad >> PythonExecution(f"after {number}", flow, lambda: 1)

        return declare

    found = raised()
    cases = {name: declared(found[name]) for name in some_of(found, str(options), kind, 2)}
    wrong = faults(tmp_path, kind, executor, cases)
    assert not wrong, "\n".join(map(str, wrong))


def calls() -> Iterator[tuple[str, Callable[[Context], object]]]:
    """Yield what a step may call on its context, with whatever values."""
    fitting = {"fraction": 0.5, "message": "half", "stopper": lambda: None}
    for target in methods_of(Context, "Context"):
        for parameter in target.parameters:
            for name, make in HOSTILE.items():

                def call(
                    context: Context,
                    target: Target = target,
                    parameter: str = parameter,
                    make: Callable[[], Any] = make,
                ) -> object:
                    given = {name: fitting[name] for name in target.parameters} | {
                        parameter: make()
                    }
                    return getattr(context, target.method)(**given)

                yield f"{target.name}({parameter}={name})", call
    for name, make in HOSTILE.items():
        yield f"inputs[{name}]", lambda context, make=make: context.inputs[make()]
        yield f"log({name})", lambda context, make=make: context.log.info(make())
        yield f"log(%d, {name})", lambda context, make=make: context.log.info("%d", make())
        yield f"output = {name}", lambda context, make=make: setattr(context, "output", make())


CALLS = dict(calls())


@kinds
@pytest.mark.parametrize("is_cancelled", [False, True], ids=["to its end", "cancelled"])
def test_whatever_a_step_calls_another_flow_ends(
    tmp_path: Path, kind: str, executor: str, is_cancelled: bool
) -> None:
    def declared(call: Callable[[Context], object]) -> Callable[[World, Flow], object]:
        def declare(world: World, flow: Flow) -> None:
            def step(context: Context) -> None:
                vect_id, app = context.vect_id, world.app
                try:
                    call(context)
                finally:
                    if is_cancelled:
                        app.vect(vect_id).cancel()

            PythonExecution("calls", flow, step)

        return declare

    world, wrong = World(tmp_path, kind, executor), []
    for name in some_of(CALLS, str(is_cancelled), kind, 3):
        flow, end = world.flow(), ""
        declared(CALLS[name])(world, flow)
        try:
            vect = world.make(world.app.start, flow)
            assert world.make(vect.wait, SECONDS) in ("success", "failed", "cancelled")
            look_at(vect)
        except BaseException as error:
            end = told_of(error)
        harm = world.harm_done()
        if end or harm:
            wrong.append((name, end, harm))
        if harm:
            world = World(tmp_path, kind, executor)
    assert not wrong, "\n".join(map(str, wrong))
    world.check_next_life()


# What people and programs give that a Vect is made of


@kinds
@pytest.mark.parametrize("annotation", [Any, str, int, float, list[int], dict[str, Any]], ids=str)
def test_whatever_a_parameter_is_another_flow_ends(
    tmp_path: Path, kind: str, executor: str, annotation: Any
) -> None:
    world, wrong = World(tmp_path, kind, executor), []
    flow = world.flow(params={"p": annotation})
    PythonExecution("takes", flow, lambda p: p, [flow.param("p")])
    BashExecution("shows", flow, 'printf %s "$P"', {"P": flow.param("p")})
    for name, make in HOSTILE.items():
        try:
            vect = world.make(world.app.start, flow, {"p": make()})
            assert world.make(vect.wait, SECONDS) in ("success", "failed")
            look_at(vect)
        except BaseException as error:
            if is_harm(error, name):
                wrong.append((name, told_of(error)))
        world.check_good()
    assert not wrong, "\n".join(map(str, wrong))
    world.check_next_life()


@kinds
def test_whatever_somebody_says_to_an_approval_another_flow_ends(
    tmp_path: Path, kind: str, executor: str
) -> None:
    world, wrong = World(tmp_path, kind, executor), []
    for name, make in HOSTILE.items():
        for parameter in ("by", "data"):
            vect = world.asked()
            try:
                world.make(vect.approve, **{"step": "gate", "by": "Ada"} | {parameter: make()})
                assert world.make(vect.wait, SECONDS) == "success"
                look_at(vect)
                if kind == "file":
                    assert type(vect.result("gate")["by"]) is str
            except BaseException as error:
                if is_harm(error, name):
                    wrong.append((name, told_of(error)))
            world.check_good()
    assert not wrong, "\n".join(map(str, wrong))
    world.check_next_life()


@pytest.mark.parametrize("seconds", [1e12, 1e308, 10**30, float("inf"), 4e9])
@pytest.mark.parametrize("where", ["wait", "timeout", "retry", "plan", "approval"])
def test_what_lies_beyond_the_end_of_time_is_refused_or_waited_for(
    tmp_path: Path, where: str, seconds: float
) -> None:
    world = World(tmp_path, "file", "threads")
    flow = world.flow()
    with suppress(OAutomError):
        match where:
            case "wait":
                WaitExecution("far", flow, seconds=seconds)
            case "timeout":
                PythonExecution("far", flow, lambda: 1, timeout=seconds)
            case "approval":
                ApprovalExecution("far", flow, "go on?", timeout=seconds)
            case "retry":
                policy = RetryPolicy(delay=seconds, max_delay=seconds)
                PythonExecution("far", flow, lambda: 1 / 0, retry=policy)
            case "plan":
                PythonExecution("far", flow, lambda: 1)
                world.app.plan(flow, seconds=seconds).next_time()
        vect = world.make(world.app.start, flow)
        with suppress(TimeoutError):
            vect.wait(0.05)
        look_at(vect)
        world.check_good()
        vect.cancel()
        assert world.make(vect.wait, SECONDS) in ("success", "failed", "cancelled")
    world.check_next_life()
