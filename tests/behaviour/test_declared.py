"""What is given at a declaration is made plain and bounded there, or refused there."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import tzinfo as tzinfo_of
from enum import Enum, IntEnum, StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NewType, Optional

import msgspec
import pytest

import oautom
from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    Execution,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    Param,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    UnknownStepError,
    WaitExecution,
)
from oautom.testing import SimulatedClock
from oautom.values.json import SECONDS_MAX, is_exactly, plain_json
from oautom.values.names import plain_text


class Text(str):
    __slots__ = ()


class Whole(IntEnum):
    one = 1


class Real(float):
    __slots__ = ()


class Name(StrEnum):
    a = "all_done"


@pytest.fixture
def app() -> Iterator[OAutom]:
    with OAutom(executor="inline") as app:
        yield app


def is_plain(value: Any) -> bool:
    return is_exactly(value, plain_json(value)[1])


def test_what_is_of_a_subclass_is_exact_wherever_it_is_told(app: OAutom, tmp_path: Path) -> None:
    child = Flow(Text("child"), app, params={Text("n"): Param(int, Whole.one)})
    PythonExecution(Text("c"), child, int)
    flow = Flow(
        Text("f"),
        app,
        params={"items": list[int]},
        max_active_vects=Whole.one,
        retry=RetryPolicy(
            max_attempts=Whole.one, delay=Real(1), backoff=Real(2), max_delay=Whole.one
        ),
        timeout=Real(60),
        description=Text("what it is for"),
    )
    pool = Pool(Text("p"), Whole.one)
    common: dict[str, Any] = {
        "log_limit_bytes": Whole.one,
        "on_crash": Text("fail"),
        "trigger_rule": Name.a,
        "timeout": Real(5),
        "pool": pool,
        "priority": Whole.one,
    }
    PythonExecution(Text("p"), flow, int, **common)
    BashExecution(
        Text("b"), flow, Text("true"), env={Text("A"): Text("b")}, skip_exit_code=Whole.one,
        grace_period=Real(1), output=Text("text"), **common,  # type: ignore[arg-type]
    )  # fmt: skip
    MapExecution(Text("m"), flow, int, flow.param(Text("items"))[Whole.one], max_parallel=Whole.one)
    WaitExecution(Text("w"), flow, seconds=Real(1))
    WaitExecution(Text("u"), flow, until=Late.now(UTC), priority=Whole.one)
    ApprovalExecution(Text("g"), flow, Text("?"), timeout=Real(3))
    FlowExecution(Text("x"), flow, Text("child"), pool=Pool("q", 2))

    told = {name: dict(options) for name, options in flow.options.items()}
    assert is_plain(told)
    assert is_plain([flow.name, flow.description, flow.max_active_vects, flow.timeout])
    assert is_plain(list(flow.steps))
    assert is_plain([pool.name, pool.slots])
    retry = flow.retry
    assert retry is not None
    assert is_plain([retry.max_attempts, retry.delay, retry.backoff, retry.max_delay])
    bash = flow.steps["b"]
    assert isinstance(bash, BashExecution)
    assert is_plain([bash.command, bash.env, bash.skip_exit_code, bash.log_limit_bytes])
    assert child.params.plain({}) == {"n": 1}
    assert is_plain(dict(child.params.plain({Text("n"): Whole.one})))


class Late(datetime):
    """A datetime that is written in another way."""

    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return "late"


NO_COUNT = [True, 0, -1, 1.0, "1", None, 2**70, Text("1"), [1]]
NO_SECONDS = [True, -1, math.nan, -math.inf, "1", [1], 1e12]


@pytest.mark.parametrize("given", NO_COUNT, ids=repr)
def test_what_is_no_count_is_refused(app: OAutom, given: Any) -> None:
    flow = Flow("f", app)
    over = PythonExecution("list", flow, list)
    makes: list[Callable[[], Any]] = [
        lambda: Pool("p", given),
        lambda: RetryPolicy(max_attempts=given),
        lambda: PythonExecution("a", flow, int, log_limit_bytes=given),
    ]
    if given is not None:
        makes += [
            lambda: MapExecution("m", flow, int, over, max_parallel=given),
            lambda: OAutom(max_workers=given),
            lambda: Flow("g", app, max_active_vects=given),
            lambda: BashExecution("b", flow, "true", skip_exit_code=given),
        ]
    for make in makes:
        with pytest.raises((FlowError, SettingError), match="must be"):
            make()
    assert list(flow.steps) == ["list"]


@pytest.mark.parametrize("given", NO_SECONDS, ids=repr)
def test_what_is_no_duration_is_refused(app: OAutom, given: Any) -> None:
    flow = Flow("f", app)
    makes: list[Callable[[], Any]] = [
        lambda: Flow("g", app, timeout=given),
        lambda: PythonExecution("a", flow, int, timeout=given),
        lambda: ApprovalExecution("a", flow, "?", timeout=given),
        lambda: WaitExecution("a", flow, seconds=given),
        lambda: RetryPolicy(delay=given),
        lambda: RetryPolicy(max_delay=given),
        lambda: BashExecution("a", flow, "true", grace_period=given),
    ]
    for make in makes:
        with pytest.raises((FlowError, SettingError), match=r"must be|may be at most"):
            make()
    assert not flow.steps


def test_what_is_too_long_names_the_limit(app: OAutom) -> None:
    flow = Flow("f", app)
    for make in (
        lambda: WaitExecution("a", flow, seconds=1e12),
        lambda: ApprovalExecution("a", flow, "?", timeout=1e12),
        lambda: PythonExecution("a", flow, int, timeout=SECONDS_MAX + 1),
        lambda: RetryPolicy(delay=1e12, max_delay=1e12),
    ):
        with pytest.raises((FlowError, SettingError), match="3155760000 seconds, a hundred years"):
            make()
    WaitExecution("w", flow, seconds=SECONDS_MAX)
    ApprovalExecution("g", flow, "?", timeout=SECONDS_MAX)
    vect = app.start(flow)
    with pytest.raises(TimeoutError):
        vect.wait(0.05)
    vect.cancel()
    assert vect.wait() == "cancelled"


class NoZone(tzinfo_of):
    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None


class BadZone(tzinfo_of):
    def utcoffset(self, when: datetime | None) -> timedelta | None:
        raise RuntimeError("no offset")


@pytest.mark.parametrize(
    "until",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001 - it has none
        datetime(2026, 1, 1, tzinfo=NoZone()),
        datetime(2026, 1, 1, tzinfo=BadZone()),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
        "2026-01-01T00:00:00",
        date(2026, 1, 1),
    ],
    ids=range(6),
)
def test_what_is_no_instant_is_refused(app: OAutom, until: Any) -> None:
    with pytest.raises(FlowError, match="until must be a datetime with a time zone"):
        WaitExecution("w", Flow("f", app), until=until)


def test_no_timeout_is_said_by_infinity(app: OAutom) -> None:
    flow = Flow("f", app, timeout=60)
    PythonExecution("as the flow", flow, int)
    PythonExecution("none", flow, int, timeout=math.inf)
    ApprovalExecution("gate", flow, "?")
    ApprovalExecution("gate in time", flow, "?", timeout=5)

    assert [step.timeout for step in flow.steps.values()] == [60, None, None, 5]
    assert Flow("g", app, timeout=math.inf).timeout is None


def test_an_approval_outlasts_the_timeout_of_its_flow() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("f", app, timeout=60)
        WaitExecution("later", flow, seconds=3600)
        ApprovalExecution("gate", flow, "?")
        vect = app.start(flow)
        with pytest.raises(TimeoutError):
            vect.wait(7200)
        assert vect.steps["later"].state == "success"
        assert vect.steps["gate"].state == "running"


def test_the_longest_delay_is_at_least_the_first() -> None:
    assert RetryPolicy().max_delay == 300
    assert RetryPolicy(delay=3600).max_delay == 3600
    assert RetryPolicy(delay=3600, jitter=0).delay_after(1, 0.5) == 3600
    assert RetryPolicy(delay=3600, max_delay=60).max_delay == 60
    assert RetryPolicy(backoff=10**9).delay_after(10**6, 0.5) <= 300


@pytest.mark.parametrize("given", [1, 0, "yes", None.__class__], ids=repr)
def test_whether_a_step_may_fail_is_true_or_false(app: OAutom, given: Any) -> None:
    with pytest.raises(FlowError, match="allow_failure must be True or False, not"):
        PythonExecution("a", Flow("f", app), int, allow_failure=given)


@pytest.mark.parametrize(
    "make",
    [
        lambda app, text: Flow(text, app),
        lambda app, text: Flow("f", app, description=text),
        lambda app, text: PythonExecution(text, Flow("f", app), int),
        lambda app, text: ApprovalExecution("a", Flow("f", app), text),
        lambda app, text: Pool(text, 1),
    ],
)
def test_a_text_that_is_too_long_is_refused(app: OAutom, make: Any) -> None:
    with pytest.raises((FlowError, SettingError), match="characters"):
        make(app, "x" * 1_000_000)


def test_a_text_is_made_exact_or_refused_by_what_it_is() -> None:
    assert type(plain_text(Text("x"), "reason")) is str
    for given in (None, 3, b"x", "\ud800"):
        with pytest.raises(SettingError, match="reason must be text, not"):
            plain_text(given, "reason")
    with pytest.raises(SettingError, match="reason has 11 characters, but at most 10"):
        plain_text("x" * 11, "reason", 10)


# Generators


def counts() -> Iterator[int]:
    yield 1


async def later() -> AsyncIterator[int]:
    yield 1


class Counter:
    def __call__(self) -> Iterator[int]:
        yield 1

    def method(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [counts, later, Counter(), Counter().method, partial(counts), partial(partial(later))],
    ids=range(6),
)
@pytest.mark.parametrize(
    "make",
    [
        lambda flow, function: PythonExecution("a", flow, function),
        lambda flow, function: BranchExecution("a", flow, function),
        lambda flow, function: MapExecution("a", flow, function, flow.param("n")),
        lambda flow, function: flow.step(function),
        lambda flow, function: flow.step(name="a")(function),
    ],
)
def test_a_generator_is_refused(app: OAutom, make: Any, function: Any) -> None:
    flow = Flow("f", app, params={"n": list[int]})
    with pytest.raises(FlowError, match="is a generator, and a call of it runs nothing; return a"):
        make(flow, function)
    assert not flow.steps


def test_a_kind_of_steps_whose_run_is_a_generator_is_refused(app: OAutom) -> None:
    class Yields(Execution):
        def run(self, context: Context) -> Iterator[int]:
            yield 1

    class ChecksSo(Execution):
        def run(self, context: Context) -> int:
            return 1

        def check(self, context: Context) -> Iterator[bool]:
            yield True

    for kind in (Yields, ChecksSo):
        with pytest.raises(FlowError, match=f"{kind.__name__} is a generator"):
            kind("a", Flow(kind.__name__, app))


# Pools


def test_two_pools_of_one_name_are_refused_with_other_sizes(app: OAutom) -> None:
    one, other = Flow("one", app), Flow("other", app)
    PythonExecution("a", one, int, pool=Pool("db", 1))
    PythonExecution("b", other, int, pool=Pool("db", 1))
    told = (
        "step 'c' of flow 'other': pool 'db' has 2 slots here, and 1 slot for step 'a' of flow "
        "'one'; pools of one name are one pool"
    )
    with pytest.raises(FlowError, match=told):
        PythonExecution("c", other, int, pool=Pool("db", 2))
    assert list(other.steps) == ["b"]
    with OAutom() as another:
        PythonExecution("a", Flow("one", another), int, pool=Pool("db", 2))


def nested(app: OAutom, slots: int, depth: int) -> Flow:
    """Declare flows that run each other; the outermost step and the innermost need the pool."""
    pool = Pool("db", slots)
    below = Flow("f0", app)
    PythonExecution("load", below, int, pool=pool)
    for i in range(1, depth + 1):
        flow = Flow(f"f{i}", app)
        FlowExecution("x", flow, below, pool=pool if i == depth else None)
        below = flow
    return below


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_step_must_not_keep_the_slot_that_its_own_flow_waits_for(app: OAutom, depth: int) -> None:
    flow = nested(app, 1, depth)
    told = (
        rf"step 'x' of flow 'f{depth}' keeps a slot of pool 'db' while the flow that it runs waits "
        rf"for one: f{depth}.x -> f0.load need 2, and there are 1; leave its pool out, or give"
    )
    with pytest.raises(FlowError, match=told):
        flow.validate()
    with pytest.raises(FlowError, match="keeps a slot of pool 'db'"):
        app.start(flow)


def test_a_pool_with_enough_slots_serves_a_step_and_its_flow(app: OAutom) -> None:
    flow = nested(app, 2, 3)
    flow.validate()

    assert app.run(flow).state == "success"


def test_steps_that_keep_all_slots_at_once_are_refused_and_one_after_the_other_are_not(
    app: OAutom,
) -> None:
    pool = Pool("db", 2)
    inner = Flow("inner", app, max_active_vects=9)
    PythonExecution("load", inner, int, pool=pool)
    for name in ("at once", "in turn"):
        flow = Flow(name, app)
        one, other = (FlowExecution(each, flow, inner, pool=pool) for each in "xy")
        if name == "in turn":
            one >> PythonExecution("between", flow, int) >> other
            assert app.run(flow).state == "success"
        else:
            told = "at once.x -> inner.load beside 1 more at once need 3, and there are 2"
            with pytest.raises(FlowError, match=told):
                flow.validate()


def test_flows_that_run_flows_are_looked_at_once_each(app: OAutom) -> None:
    """Two steps a layer that run the flow below would be 2**200 otherwise."""
    below = Flow("f0", app)
    PythonExecution("s", below, int, pool=Pool("p", 1))
    for i in range(1, 200):
        flow = Flow(f"f{i}", app)
        FlowExecution("x", flow, below)
        FlowExecution("y", flow, below)
        below = flow
    looked: list[str] = []
    for each in map(app.flow, app.flows()):
        each.check_steps = partial(looked.append, each.name)  # type: ignore[method-assign]

    below.validate()

    assert sorted(looked) == sorted(app.flows())


# Names


def test_a_step_that_is_none_is_told_with_those_that_there_are(app: OAutom) -> None:
    flow = Flow("f", app)
    step = PythonExecution("load", flow, int)
    with pytest.raises(UnknownStepError, match="flow 'f' has no step 'laod'; did you mean 'load'"):
        flow.steps["laod"]
    with pytest.raises(KeyError):
        flow.steps["nope"]
    assert flow.steps["load"] is step
    assert flow.steps.get("nope") is None
    assert "nope" not in flow.steps
    with pytest.raises(TypeError):
        flow.steps["new"] = step  # type: ignore[index]


class Mixed(Enum):
    a = 1
    b = "b"


def test_an_enum_with_values_of_two_types_is_told_as_that(app: OAutom) -> None:
    for annotation in (Mixed, list[Mixed], Mixed | None):
        with pytest.raises(FlowError, match="give all members of the enum values of one type"):
            Flow("f", app, params={"mode": annotation})
    with pytest.raises(FlowError, match="must be declared with a type or a Param, not 3"):
        Flow("f", app, params={"mode": 3})


def test_the_path_of_a_log_in_memory_is_that_of_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with OAutom(log=":memory:", executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, lambda: {1})
        assert app.run(flow).result("a") == {1}
        assert app.log.id is None
    assert not list(tmp_path.iterdir())


# Plans


Day = NewType("Day", date)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (date, date),
        (date | None, date),
        (Optional[date], date),  # noqa: UP045 - as people write it
        (Annotated[date, "the day"], date),
        (Annotated[date | None, "the day"], date),
        (Day, date),
        (datetime, datetime),
        (datetime | None, datetime),
        (str, str),
        (str | None, str),
        (Any, str),
    ],
    ids=str,
)
def test_the_time_of_a_plan_fits_the_type_of_its_parameter(annotation: Any, kind: type) -> None:
    clock = SimulatedClock(datetime(2026, 11, 24, tzinfo=UTC))
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("f", app, params={"day": annotation})
        step = PythonExecution("a", flow, lambda day: app.stop() or day, [flow.param("day")])
        app.plan(flow, cron="0 3 * * *", params={"day": ...})
        app.run()
        (vect,) = app.vects()
        assert type(vect.result(step)) is kind


OnlyThe23rd = Annotated[str, msgspec.Meta(pattern="^2026-11-23")]


def test_a_plan_that_cannot_start_loses_no_time_if_it_catches_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(annotation: Any, since: datetime, days: int) -> list[str]:
        clock = SimulatedClock(since)
        with OAutom(executor="inline", clock=clock, log=tmp_path / "runs.db") as app:
            flow = Flow("f", app, params={"day": annotation}, max_active_vects=9)
            PythonExecution("a", flow, int)
            stop = Flow("stop", app)
            PythonExecution("stop", stop, app.stop)
            app.plan(flow, cron="0 3 * * *", params={"day": ...}, catch_up=True, name="p")
            app.plan(stop, days=days, name=f"stop {since}")
            app.run()
            return sorted(vect.id for vect in app.vects("f"))

    first = serve(OnlyThe23rd, datetime(2026, 11, 23, tzinfo=UTC), 3)
    told = "plan 'p' cannot start at 2026-11-24T03:00:00Z, and waits there: flow 'f': parameter"
    second = serve(date, datetime(2026, 11, 26, tzinfo=UTC), 1)

    assert first == ["p@2026-11-23T03:00:00Z"]
    assert caplog.text.count(told) == 1
    assert second == [f"p@2026-11-{day}T03:00:00Z" for day in (23, 24, 25, 26)]


# Commands


def error_of(app: OAutom, command: str, **settings: Any) -> str:
    flow = Flow(f"f{len(app.flows())}", app)
    BashExecution("a", flow, command, **settings)
    return str(app.run(flow).steps["a"].error)


def output_of(app: OAutom, command: str, **settings: Any) -> Any:
    flow = Flow(f"f{len(app.flows())}", app)
    BashExecution("a", flow, command, **settings)
    vect = app.run(flow)
    assert vect.state == "success", vect.steps["a"].error
    return vect.result("a")


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_output_that_is_cut_fails_the_step(app: OAutom, output: str) -> None:
    told = error_of(app, "printf 12345", output=output, log_limit_bytes=4)

    assert told == (
        "the command's output is longer than log_limit_bytes, which is 4: it has written 5 bytes; "
        "raise that limit, or write to a file and print its path"
    )
    assert str(output_of(app, "printf 1234", output=output, log_limit_bytes=4)) == "1234"


@pytest.mark.parametrize(
    ("command", "last"),
    [
        ("printf 'abcdef\\n1234'", "1234"),
        ("printf 'abcdef\\n123\\n'", "123"),
        ("printf 'abcdef\\n\\n12\\n'", "12"),
        ("printf 'abcdef\\n12345'", None),
        ("printf 'abcdef\\n1234\\n'", None),
        ("printf '12345'", None),
        ("printf 'last\\n\\n\\n\\n\\n\\n\\n'", None),
        ("printf '\\n\\n\\n\\n\\n\\n\\n' >/dev/null; printf '1234'", "1234"),
    ],
)
def test_a_last_line_fails_the_step_only_if_it_is_cut_itself(
    app: OAutom, command: str, last: str | None
) -> None:
    if last is not None:
        assert output_of(app, command, log_limit_bytes=4) == last
    else:
        told = error_of(app, command, log_limit_bytes=4)
        assert told.startswith("the command's last line is longer than log_limit_bytes")


def test_an_error_quotes_only_what_its_own_attempt_has_written(app: OAutom) -> None:
    flow = Flow("f", app)
    command = '[ $OAUTOM_ATTEMPT = 1 ] && { echo "disk full" >&2; exit 3; }; exit 4'
    BashExecution("a", flow, command, retry=RetryPolicy(max_attempts=2, delay=0))
    vect = app.run(flow)
    errors = [event.data["error"] for event in vect.events() if "error" in event.data]

    assert errors == [
        "the command exited with code 3: disk full",
        "the command exited with code 4",
    ]
    assert [each.log_text for each in vect.steps["a"].attempts] == ["disk full\n", ""]


def test_a_command_that_is_too_long_says_so(app: OAutom) -> None:
    told = error_of(app, f"true {'x' * 200_000}")

    assert told == (
        "its command has 200005 bytes, but the system allows fewer than 131072; write it to "
        "a script file, and run that: bash script.sh"
    )
    env = {f"A{i}": "x" * 100_000 for i in range(40)}
    assert "larger than the system allows" in error_of(app, "true", env=env)


# Found by looking


OPTIONS = [
    (kind, name)
    for kind in (Flow, Pool, RetryPolicy, OAutom)
    for name in inspect.signature(kind).parameters
    if name not in ("app", "params", "log", "executor", "clock", "mode")
]


class Hostile:
    """Raises at whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compare")

    def __hash__(self) -> int:
        raise RuntimeError("never hash")

    def __bool__(self) -> bool:
        raise RuntimeError("never ask")

    def __repr__(self) -> str:
        raise RuntimeError("never show")


@pytest.mark.parametrize(("kind", "option"), OPTIONS, ids=str)
def test_an_option_refuses_what_raises_at_whatever_it_is_asked(
    app: OAutom, kind: Any, option: str
) -> None:
    given: dict[str, Any] = {
        Flow: {"name": "f", "app": app},
        Pool: {"name": "p", "slots": 1},
    }.get(kind, {})
    with pytest.raises(oautom.OAutomError):
        kind(**{**given, option: Hostile()})


STEP_OPTIONS = [
    "log_limit_bytes",
    "on_crash",
    "trigger_rule",
    "allow_failure",
    "retry",
    "timeout",
    "pool",
    "priority",
    "submit",
    "keep_remote",
]


@pytest.mark.parametrize("option", STEP_OPTIONS)
def test_an_option_of_a_step_refuses_it_too(app: OAutom, option: str) -> None:
    flow = Flow("f", app)
    options: Any = {option: Hostile()}
    for make in (
        lambda: PythonExecution("a", flow, int, **options),
        lambda: BashExecution("a", flow, "true", **options),
        lambda: WaitExecution("a", flow, seconds=1, **options),
        lambda: ApprovalExecution("a", flow, "?", **options),
    ):
        with pytest.raises(FlowError, match=option):
            make()
    assert not flow.steps
