"""Flows, and the logs that they have made: each version of oautom must be able to replay them all.

    venv3/bin/python tests/golden/make.py

writes those that this version has not made yet, to a folder of its name. A log that is there is
never written again: what old versions wrote, and how they decided, is what the tests here keep.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import (
    PLANNED,
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    Event,
    Execution,
    Flow,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    Param,
    Pool,
    PythonExecution,
    RetryPolicy,
    Skip,
    SqliteEventLog,
    StepError,
    TriggerRule,
    Vect,
    WaitExecution,
)
from oautom.testing import SimulatedClock, WorkLostError, simulate
from oautom.testing.crashes import Crash, Lives, MortalLog
from oautom.testing.simulation import Script, ScriptedWorkers

HERE = Path(__file__).resolve().parent


def app(log: MemoryEventLog | None = None) -> OAutom:
    return OAutom(executor="inline", clock=SimulatedClock(), log=log)


def flow_of(name: str, graph: dict[str, str]) -> Flow:
    """Declare a flow: name of a step -> names of those that it waits for, between blanks."""
    flow = Flow(name, app())
    for step, upstreams in graph.items():
        made = PythonExecution(step, flow, str)
        made.depends(*(flow.steps[upstream] for upstream in upstreams.split()))
    return flow


# The flows, as they will be for ever


class Polled(Execution):
    """A step whose work is elsewhere."""

    poll_interval = 60.0

    def run(self, context: Context) -> str:
        return "job 17"

    def check(self, context: Context) -> bool:
        return True


def chain() -> Flow:
    return flow_of("chain", {"extract": "", "clean": "extract", "load": "clean"})


def diamond() -> Flow:
    return flow_of("diamond", {"a": "", "b": "a", "c": "a", "d": "b c", "e": "d", "f": "a"})


def wide() -> Flow:
    leaves = {f"leaf {number}": "" for number in range(1, 8)}
    flow = flow_of("wide", leaves)
    PythonExecution("root", flow, str).depends(*(flow.steps[leaf] for leaf in leaves))
    return flow


def cancel() -> Flow:
    return flow_of("cancel", {"a": "", "b": "", "c": "a b", "d": "c"})


def late() -> Flow:
    """A flow whose first step cancels the Vect that it is part of."""

    def second_thoughts(context: Context) -> str:
        flow.app.vect(context.vect_id).cancel("second thoughts")
        return "done all the same"

    flow = Flow("late", app(), max_active_vects=2)
    first = PythonExecution("first", flow, second_thoughts)
    first >> PythonExecution("second", flow, str)
    return flow


def polled() -> Flow:
    flow = Flow("polled", app())
    submit = PythonExecution("submit", flow, str)
    submit >> Polled("job", flow) >> PythonExecution("fetch", flow, str)
    submit >> PythonExecution("note", flow, str)
    return flow


def secrets() -> Flow:
    """A flow whose log names its secrets, and has none of them."""
    flow = Flow("secrets", app())
    key = flow.secret("API_KEY")
    login = PythonExecution("login", flow, str, [key])
    fetch = BashExecution("fetch", flow, "true", env={"KEY": key, "TOKEN": login.output})
    MapExecution("load", flow, dict, fetch, {"key": key, "other": flow.secret("DB_PASSWORD")})
    return flow


def crash() -> Flow:
    """A flow that has died twice; of its steps, one is not to run again then."""
    flow = Flow("crash", app())
    PythonExecution("pay", flow, str, on_crash="fail") >> PythonExecution("ship", flow, str)
    PythonExecution("count", flow, str) >> PythonExecution("tell", flow, str)
    PythonExecution("wait", flow, str)
    return flow


def rules() -> Flow:
    """A flow whose steps start by other rules than that all before them have succeeded."""
    flow = Flow("rules", app())
    check = PythonExecution("check", flow, str)
    load = PythonExecution("load", flow, str, allow_failure=True)
    [check, load] >> PythonExecution("report", flow, str)
    load >> PythonExecution("repair", flow, str, trigger_rule=TriggerRule.ONE_FAILED)
    load >> PythonExecution("note", flow, str)
    [check, load] >> PythonExecution("clean up", flow, str, trigger_rule=TriggerRule.ALL_DONE)
    check >> PythonExecution("publish", flow, str)
    check >> PythonExecution("at once", flow, str, trigger_rule=TriggerRule.ALWAYS)
    return flow


def retries() -> Flow:
    """A flow whose steps are tried again, and must not take too long."""
    thrice = RetryPolicy(max_attempts=3, delay=10)
    flow = Flow("retries", app(), retry=thrice, timeout=3600)
    fetch = PythonExecution("fetch", flow, str, retry=RetryPolicy(max_attempts=5, delay=60))
    fetch >> PythonExecution("load", flow, str)
    PythonExecution("slow", flow, str) >> PythonExecution("after slow", flow, str)
    PythonExecution("once", flow, str, retry=RetryPolicy(max_attempts=1))
    return flow


def branches() -> Flow:
    """A flow that chooses what to do, and chooses anew when it is retried."""
    flow = Flow("branches", app())
    choose = BranchExecution("choose", flow, list)
    small, large, join = (PythonExecution(name, flow, str) for name in ("small", "large", "join"))
    rule = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    pack = PythonExecution("pack", flow, str, trigger_rule=rule)
    choose >> [small, large] >> pack
    choose >> join
    large >> join
    return flow


def maps() -> Flow:
    """A flow that makes steps for the items of lists: of an output, and of a parameter."""
    flow = Flow("maps", app(), params={"names": list[str]})
    rows = PythonExecution("rows", flow, dict)
    policy = RetryPolicy(max_attempts=2, delay=5, jitter=0)
    load = MapExecution("load", flow, str, rows.output["new"], max_parallel=2, retry=policy)
    MapExecution("greet", flow, str, flow.param("names"))
    MapExecution("none", flow, str, rows.output["old"])
    load >> PythonExecution("report", flow, str)
    return flow


def half(n: int) -> int:
    if n == 0:
        raise StepError("there is nothing")
    return n // 2


def children(log: MemoryEventLog | None = None) -> Flow:
    """A flow that runs another one twice: one run of it is tried again, one has failed."""
    both = app(log)
    inner = Flow("inner", both, params={"n": int})
    PythonExecution("half", inner, half, [inner.param("n")])
    flow = Flow("children", both)
    numbers = PythonExecution("numbers", flow, lambda: [5, 0])
    good = FlowExecution("good", flow, inner, {"n": numbers.output[0]})
    policy = RetryPolicy(max_attempts=2, delay=60, jitter=0)
    FlowExecution("bad", flow, inner, {"n": numbers.output[1]}, retry=policy)
    FlowExecution("wrong", flow, inner, {"n": numbers})
    PythonExecution("tell", flow, str, [good.output["half"]])
    return flow


def turns(log: MemoryEventLog | None = None) -> Flow:
    """A flow of which one run is open at once for each customer; the others wait for their turn."""
    params = {"customer": str}
    flow = Flow("turns", app(log), params=params, when_full="wait", limit_by="customer")
    PythonExecution("fetch", flow, str) >> PythonExecution("load", flow, str)
    return flow


def people() -> Flow:
    """A flow that waits for times and people, and is paused, cancelled and retried."""
    flow = Flow("people", app())
    pool = Pool("press", 1)
    settle = WaitExecution("settle", flow, seconds=3600)
    gate = ApprovalExecution("gate", flow, "print it?", timeout=86400)
    prints = [PythonExecution(name, flow, str, pool=pool) for name in ("red", "blue")]
    night = WaitExecution("night", flow, until=datetime(2000, 1, 2, tzinfo=UTC))
    settle >> gate >> prints
    prints >> PythonExecution("bind", flow, str, priority=5)
    night >> PythonExecution("ship", flow, str, priority=9)
    return flow


def values() -> Flow:
    """A flow with parameters, and with values that go from step to step, whole and in part."""
    params = {"day": date, "names": list[str], "limit": Param(int, 10)}
    flow = Flow("values", app(), params=params)

    @flow.step
    def extract(day: date, limit: int) -> dict[str, list[date]]:
        return {"days": [day, date(2026, 11, 25)][:limit], "none": []}

    @flow.step(name="count")
    def total(days: list[date], first: date, names: list[str]) -> int:
        assert first == days[0]
        return len(days) + len(names)

    @flow.step(trigger_rule=TriggerRule.ALL_DONE)
    def pick(day: date, word: str = "x") -> str:
        return f"{day} {word}"

    rows = extract(flow.param("day"), limit=flow.param("limit"))
    total(rows.output["days"], rows.output["days"][0], flow.param("names"))
    pick(rows.output["none"][0])
    pick(rows.output["days"][0], flow.param("names")[0])
    return flow


class Hourly(Polled):
    """A step that takes longer than the hour after which its flow is due again."""

    poll_interval = 5400.0


def planned() -> Flow:
    """A flow with a plan that finds it at its limit each second time."""
    flow = Flow("planned", app())
    Hourly("job", flow) >> PythonExecution("fetch", flow, str)
    return flow


def no_route() -> None:
    raise StepError("no route")


def deployed(at: OAutom | None = None, version: str = "2", attempts: int = 4) -> Flow:
    """A flow of which another version, and another number of attempts, was deployed."""
    flow = Flow("deployed", at or app(), version=version, max_active_vects=2)
    ask = ApprovalExecution("ask", flow, "go on?")
    retry = RetryPolicy(max_attempts=attempts, delay=5, jitter=0)
    ask >> PythonExecution("send", flow, no_route, retry=retry)
    return flow


def clean_up() -> Flow:
    """A flow that stops its server in any case, and undoes what it has done if it ends badly."""
    flow = Flow("clean_up", app())
    policy = RetryPolicy(max_attempts=3, delay=30, jitter=0)
    server = PythonExecution("server", flow, str)
    book = PythonExecution("book", flow, list, retry=policy, compensate=print)
    rooms = MapExecution("rooms", flow, str, book, compensate="echo $OUTPUT")
    pay = PythonExecution("pay", flow, str, compensate=print, compensate_on="success")
    ship = PythonExecution("ship", flow, str, compensate=print)
    server >> book >> rooms >> pay >> ship
    ship >> PythonExecution("stop", flow, str, teardown_of=[server])
    return flow


def hasty() -> Flow:
    """A flow that takes no more than its time, and ends at the first failure."""
    flow = Flow("hasty", app(), run_timeout=100, on_failure="cancel")
    PythonExecution("check", flow, str)
    work = PythonExecution("work", flow, str)
    work >> PythonExecution("tidy up", flow, str, teardown=True)
    later = PythonExecution("later", flow, str)
    work >> later >> PythonExecution("tidy up later", flow, str, teardown=True)
    return flow


def losses() -> Flow:
    """A flow whose workers die, and whose scheduler does."""
    flow = Flow("losses", app())
    policy = RetryPolicy(max_attempts=2, delay=30, jitter=0)
    fetch = PythonExecution("fetch", flow, str, retry=policy)
    load = PythonExecution("load", flow, str, compensate=print)
    (
        fetch
        >> load
        >> [
            PythonExecution("once", flow, str, on_crash="fail"),
            PythonExecution("heavy", flow, str),
        ]
    )
    return flow


def odd() -> Flow:
    """A flow with names and values that a careless format would not keep."""
    flow = Flow('odd "name"', app())
    steps = [PythonExecution(name, flow, str) for name in ("ü 1", "a,b\\", "{}", "日本", "  x")]
    steps[0] >> steps[1:]
    return flow


# The logs, as this version makes them


def given() -> Flow:
    """Commands, strict and not, and waits that are given their times; some of these are none."""
    flow = Flow("given", app(), params={"at": datetime, "folder": str})
    folder = flow.param("folder")
    fetch = BashExecution("fetch", flow, "fetch | tee rows", cwd=folder, output="json")
    BashExecution("loose", flow, "fetch | tee rows", strict=False, skip_exit_code=7)
    opens = WaitExecution("opens", flow, until=flow.param("at"))
    closes = WaitExecution("closes", flow, until=fetch.output["closes"][0])
    [opens, closes] >> PythonExecution("sell", flow, str)
    WaitExecution("never", flow, until=fetch.output["never"], allow_failure=True)
    WaitExecution("no time", flow, until=flow.steps["loose"], trigger_rule=TriggerRule.ALL_DONE)
    return flow


def filled(log: MemoryEventLog | None = None) -> Flow:
    """A flow with a plan whose past times are filled; a part of it, and one step, run alone."""
    flow = Flow("filled", app(log), params={"day": date}, max_active_vects=2)
    fetch = PythonExecution("fetch", flow, fetched, [flow.param("day")])
    rest = WaitExecution("rest", flow, seconds=60)
    fetch >> rest >> PythonExecution("load", flow, str, [fetch.output["rows"][0]])
    flow.app.plan(flow, cron="0 3 * * *", params={"day": PLANNED}, name="nightly")
    return flow


def fetched(day: date) -> dict[str, list[int]]:
    return {"rows": [day.day] if day.day != 22 else []}


def run_chain() -> list[Event]:
    times = {"extract": 3 * 86400.0, "clean": 0.25, "load": 7}
    ends = {"extract": [[{"id": 1}, {"id": 2}]], "clean": 2}
    return simulate(chain(), durations=times, outcomes=ends).events()


def run_diamond() -> list[Event]:
    times = {"a": 1, "b": 5, "c": 2, "f": 9}
    return simulate(
        diamond(), durations=times, outcomes={"c": ConnectionError("no route")}
    ).events()


def run_wide() -> list[Event]:
    times = {f"leaf {number}": number for number in range(1, 8)}
    return simulate(wide(), durations=times, max_workers=2, seed=3).events()


def run_cancel() -> list[Event]:
    flow = cancel()
    with flow.app as running:
        vect = running.start(flow, vect_id="monday")
        vect.cancel("not on mondays")
        vect.wait()
        return list(running.log.read())


def run_late() -> list[Event]:
    flow = late()
    with flow.app as running:
        for vect in [running.start(flow, vect_id=name) for name in ("one", "two")]:
            vect.wait()
        return list(running.log.read())


def run_polled() -> list[Event]:
    return simulate(
        polled(), durations={"job": 150, "note": 70}, outcomes={"job": "job 17"}, max_workers=1
    ).events()


def run_crash() -> list[Event]:
    times = {"pay": 5, "count": [3, 4], "wait": 60}
    moments = [("after", 1), ("before", 3)]
    return simulate(crash(), durations=times, max_workers=2, crash_at=moments).events()


def run_rules() -> list[Event]:
    ends = {"check": Skip("nothing new"), "load": ConnectionError("no route")}
    times = {"check": 1, "load": 2, "repair": 3, "at once": 9}
    return simulate(rules(), durations=times, outcomes=ends, max_workers=2).events()


def run_retries() -> list[Event]:
    down = ConnectionError("no route")
    ends = {"fetch": [down, down, down, "42 rows"], "once": down}
    times = {"fetch": 5, "load": 60, "slow": 9999}
    moments = [("after", 3), ("before", 9)]
    return simulate(retries(), durations=times, outcomes=ends, crash_at=moments).events()


def run_branches() -> list[Event]:
    flow = branches()
    clock = SimulatedClock()
    log = MortalLog([("in", 4)])
    script = Script(flow, {"small": 5, "large": [5, 60]}, {"choose": ["huge", "large"]})
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    clock.call_later(100, lambda: lives.do("one", "retry"))
    lives.begin("one")
    lives.drive(lambda: clock.monotonic() > 100 and lives.scheduler.is_over(lives.runs["one"]))
    lives.begin("two")
    lives.drive(lambda: lives.scheduler.is_over(lives.runs["two"]))
    return list(log.read())


def deadlines() -> Flow:
    """A step that is late between two attempts, one that waits, and a Vect that is late paused."""
    flow = Flow("deadlines", app(), deadline=20)
    again = RetryPolicy(max_attempts=3, delay=3, jitter=0)
    fetch = PythonExecution("fetch", flow, str, retry=again, deadline=6)
    gate = ApprovalExecution("gate", flow, "go on?", deadline=5)
    fetch >> gate >> PythonExecution("ship", flow, str, deadline=60)
    return flow


def run_maps() -> list[Event]:
    rows = {"new": ["a", "b", "c", "d"], "old": 17}
    ends = {"rows": rows, "load[1]": [ValueError("no"), "b"], "load[3]": Skip("empty"), "load": 7}
    times = {"load": 10, "load[2]": 30, "greet": 4}
    params = {"names": ["Ada", "Bob"]}
    moments = [("after", 5), ("before", 8)]
    return simulate(maps(), params, durations=times, outcomes=ends, crash_at=moments).events()


def run_children() -> list[Event]:
    """By hand: children are not simulated."""
    log = MortalLog([("in", 5)])
    flow = children(log)
    with suppress(Crash):
        flow.app.run(flow, vect_id="one")
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    flow = children(left)
    with flow.app as running:
        running.run(flow, vect_id="one")
        return list(left.read())


def run_turns() -> list[Event]:
    """By hand: others are not simulated. The program dies once; one that waits is cancelled."""
    log = MortalLog([("in", 10)])
    with suppress(Crash):
        start_turns(log)
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    start_turns(left, "bolt3", "bolt4")
    return list(left.read())


def start_turns(log: MemoryEventLog, *more: str) -> None:
    flow = turns(log)
    started = [
        flow.app.start(flow, {"customer": vect[:-1]}, vect_id=vect)
        for vect in ("acme1", "bolt1", "acme2", "acme3", "bolt2", "acme4", *more)
    ]
    started[3].cancel("not needed")
    for vect in started:
        vect.wait()


def run_people() -> list[Event]:
    """By hand: what is done to a Vect is not simulated."""
    flow = people()
    clock = SimulatedClock()
    log = MortalLog([("after", 3)])
    script = Script(flow, {"gate": 600, "red": 5, "blue": 5}, {"gate": [ValueError("no"), None]})
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    clock.call_later(3700, lambda: lives.do("one", "pause"))
    clock.call_later(5000, lambda: lives.do("one", "resume"))
    clock.call_later(100_000, lambda: lives.do("one", "retry"))
    clock.call_later(100_003, lambda: lives.cancel("one", "out of ink"))
    clock.call_later(100_100, lambda: lives.do("one", "retry"))
    lives.begin("one")
    lives.drive(lambda: clock.monotonic() > 100_100 and lives.scheduler.is_over(lives.runs["one"]))
    return list(log.read())


def run_values() -> list[Event]:
    """Run them for real: in a durable log, where outputs stand as JSON."""
    flow = values()
    with TemporaryDirectory() as folder:
        log = SqliteEventLog(Path(folder) / "runs.db")
        with OAutom(executor="inline", clock=SimulatedClock(), log=log) as running:
            flow.app = running
            running.add(flow)
            given = {"day": "2026-11-24", "names": '["ü", "b"]', "limit": 2}
            running.run(flow, given, vect_id="tuesday")
            running.run(flow, {"day": date(2026, 11, 25), "names": []}, vect_id="wednesday")
        events = list(log.read())
        log.close()
        return events


def run_planned() -> list[Event]:
    flow = planned()
    with flow.app as running:
        running.plan(flow, cron="0 2-5 * * *", timezone="Europe/Paris", name="early")
        flow.app._clock.call_later(5.5 * 3600, running.stop)
        running.run()
        return list(running.log.read())


def run_deployed() -> list[Event]:
    """One program after the other: a Vect of version 1 is stranded, one of version 2 goes on."""
    clock = SimulatedClock()
    with TemporaryDirectory() as folder:
        log = SqliteEventLog(Path(folder) / "runs.db")
        for vect, number, attempts in (("one", "1", 4), ("two", "2", 2), ("two", "2", 4)):
            with OAutom(executor="inline", clock=clock, log=log) as running:
                begun = running.start(deployed(running, number, attempts), vect_id=vect)
                with suppress(TimeoutError):
                    begun.wait(60)
                if (number, attempts) == ("2", 4):  # the last one
                    running.vect("one").cancel("it is of version 1")
                    begun.approve("ask", by="Ada")
                    begun.wait()
        events = list(log.read())
        log.close()
        return events


def run_given() -> list[Event]:
    params = {"at": datetime(2000, 1, 1, 8, 30, tzinfo=UTC), "folder": "sales"}
    ends = {"fetch": {"closes": ["2000-01-01T19:00:00+01:00"], "never": "never"}}
    ends |= {"loose": Skip("nothing new")}
    times = {"fetch": 60, "loose": 5}
    moments = [("after", 2), ("in", 3)]
    return simulate(given(), params, durations=times, outcomes=ends, crash_at=moments).events()


def run_filled() -> list[Event]:
    """By hand: plans are not simulated. The program dies once, while two of five are open."""
    log = MortalLog([("in", 9)])
    with suppress(Crash):
        fill(log)
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    flow = fill(left)
    of = "nightly@1999-12-21T03:00:00Z"
    with flow.app as running:
        failed = running.vect("nightly@1999-12-22T03:00:00Z")
        failed.retry()
        failed.wait()
        running.backfill(flow, "1999-12-19", "1999-12-20").pop().wait()
        running.run(flow, {"day": date(1999, 12, 1)}, vect_id="part", until="rest")
        running.run(flow, {"day": date(1999, 12, 1)}, vect_id="alone", only="load", given=of)
        given = {"fetch": {"rows": [7]}, "rest": None}
        running.run(flow, {"day": date(1999, 12, 1)}, vect_id="by hand", only="load", given=given)
        return list(left.read())


def fill(log: MemoryEventLog) -> Flow:
    """Have five times filled, of which one is cancelled in line, and another one fails."""
    flow = filled(log)
    vects = flow.app.backfill(flow, "1999-12-20", "1999-12-24", parallel=1)
    vects += flow.app.backfill(flow, "1999-12-10", "1999-12-10")
    if not vects:  # in the life after
        vects = flow.app.vects()
    vects[3].cancel("not needed")
    for vect in vects:
        vect.wait()
    return flow


def run_clean_up() -> list[Event]:
    """By hand: it fails, and is retried, cancelled twice, retried, and ends well."""
    flow = clean_up()
    clock = SimulatedClock()
    log = MortalLog([("in", 13), ("before", 18), ("after", 27)])
    down = ConnectionError("no route")
    ends = {
        "book": [["red", "blue"]],
        "book.compensate": [down, None],
        "pay.compensate": RuntimeError("it is spent"),
        "ship": [ValueError("no address"), None],
    }
    times = {"ship": [5, 30], "stop": [5, 60], "rooms": 3, "rooms[0].compensate": 4}
    script = Script(flow, times, ends)
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    for seconds, action in ((200, "retry"), (220, "cancel"), (240, "cancel"), (1000, "retry")):
        clock.call_later(seconds, partial(lives.do, "one", action))
    lives.begin("one")
    lives.drive(lambda: clock.monotonic() > 1000 and lives.scheduler.is_over(lives.runs["one"]))
    return list(log.read())


def run_hasty() -> list[Event]:
    """By hand: it fails at once, and takes too long when it is retried."""
    flow = hasty()
    clock, log = SimulatedClock(), MortalLog()
    script = Script(
        flow,
        {"check": 1, "work": [50, 10], "later": 500, "tidy up": 5},
        {"check": [ValueError("no"), None]},
    )
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    clock.call_later(300, lambda: lives.do("one", "retry"))
    lives.begin("one")
    lives.drive(lambda: clock.monotonic() > 300 and lives.scheduler.is_over(lives.runs["one"]))
    return list(log.read())


def run_odd() -> list[Event]:
    flow = odd()
    values = [None, True, -0.0, 2**60, 1e-300, 'two\nlines\u2028"', {"": [{}, []]}]
    errors = [ValueError("line 1\nline 2"), RuntimeError()]
    ends = dict(zip(flow.steps, [[values], *errors, "", 0], strict=True))
    return simulate(flow, outcomes=ends, seed=5).events()


def going_on() -> Flow:
    """A flow whose step runs another one, of which a step fails as long as it is told to."""
    running = app()
    work = Flow("work", running)
    PythonExecution("good", work, str) >> ApprovalExecution("gate", work, "go on?")
    flow = Flow("going on", running)
    FlowExecution("run", flow, work) >> PythonExecution("tell", flow, str)
    return flow


def run_going_on() -> list[Event]:
    """By hand: children are not simulated. The Vect is retried twice, and its child once."""
    flow = going_on()
    with flow.app as running:
        vect = running.start(flow, vect_id="one")
        _drive(vect)
        child = running.vect("one/run/1")
        for again in (vect, child, vect):
            child.reject("gate", by="ada")
            vect.wait()
            child.wait()
            again.retry()
            _drive(again)
        child.approve("gate", by="ada")
        vect.wait()
        return list(running.log.read())


def each_item() -> Flow:
    """A flow that runs another one for each item of a list; one of these fails."""
    both = app()
    inner = Flow("one item", both, params={"n": int}, max_active_vects=None)
    PythonExecution("good", inner, str) >> PythonExecution("half", inner, half, [inner.param("n")])
    flow = Flow("each item", both, params={"numbers": list[int]})
    each = MapExecution("each", flow, inner, flow.param("numbers"), label="number {}")
    each >> PythonExecution("tell", flow, str)
    return flow


def run_each_item() -> list[Event]:
    """By hand: it is retried, and fails once more in the same child."""
    flow = each_item()
    with flow.app as running:
        vect = running.run(flow, {"numbers": [4, 0, 6]}, vect_id="one")
        vect.retry()
        vect.wait()
        return list(running.log.read())


def _drive(vect: Vect) -> None:
    with suppress(TimeoutError):
        vect.wait(1)


def run_deadlines() -> list[Event]:
    """By hand: what is done to a Vect is not simulated."""
    flow = deadlines()
    clock = SimulatedClock()
    log = MortalLog([("in", 4), ("after", 6)])
    script = Script(flow, {"fetch": 4, "gate": 30}, {"fetch": [ValueError("no"), None]})
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    clock.call_later(15, lambda: lives.do("one", "pause"))
    clock.call_later(25, lambda: lives.do("one", "resume"))
    clock.call_later(26, lambda: lives.cancel("one", "too late"))
    clock.call_later(60, lambda: lives.do("one", "retry"))
    lives.begin("one")
    lives.drive(lambda: clock.monotonic() > 60 and lives.scheduler.is_over(lives.runs["one"]))
    return list(log.read())


def run_losses() -> list[Event]:
    died = WorkLostError("worker 3 has died", is_worker=True)
    gone = WorkLostError("the scheduler does not answer")
    ends = {
        "fetch": [died, ValueError("no route"), gone, "rows"],
        "load": [gone, gone, None],
        "once": [gone, None],
        "heavy": died,
        "load.compensate": [died, gone, None],
    }
    return simulate(losses(), outcomes=ends, durations={"fetch": 5}).events()


def pools() -> Flow:
    """Steps that take several slots, whose pool has a rate; and a person who is asked of values."""
    flow, api = Flow("pools", app(), params={"city": str}), Pool("api", 3, (4, 10))
    items = PythonExecution("items", flow, lambda: [1, 2, 3])
    MapExecution("each", flow, half, items, pool=api)
    heavy = PythonExecution("heavy", flow, str, pool=api, pool_slots=3)
    PythonExecution("light", flow, str, pool=api).depends(items)
    call = PythonExecution("call", flow, str, pool=Pool("slow", rate=(1, 60)))
    PythonExecution("call again", flow, str, pool=Pool("slow", rate=(1, 60))).depends(call)
    values = {"n": items.output[0], "city": flow.param("city")}
    ApprovalExecution("gate", flow, "{n} to {city}?", values=values).depends(heavy)
    values = {"n": items.output[7]}
    ApprovalExecution("no gate", flow, "{n}?", values=values, allow_failure=True)
    return flow


def run_pools() -> list[Event]:
    died = ("after", 5)
    seconds = {"each": 2, "heavy": 3, "light": 1, "gate": 4}
    ends = {"items": [[1, 2, 3]], "light": [ValueError("no"), None]}
    told = {"durations": seconds, "outcomes": ends, "crash_at": died}
    return simulate(pools(), {"city": "Rome"}, **told).events()


def run_secrets() -> list[Event]:
    why = "step 'login' of flow 'secrets' takes secret('API_KEY'), but the environment has none"
    ends = {"login": "a session", "fetch": [[1, 2]], "load[0]": StepError(why), "load[1]": None}
    return simulate(secrets(), outcomes=ends).events()


FLOWS: dict[str, Callable[[], Flow]] = {
    each.__name__: each
    for each in (
        *(chain, diamond, wide, cancel, late, polled, crash, rules, retries, branches, people),
        *(maps, children, values, planned, given, deployed, odd, turns, deadlines, going_on),
        *(clean_up, hasty, losses, each_item, pools, secrets, filled),
    )
}
RUNS: dict[str, Callable[[], list[Event]]] = {
    each.__name__.removeprefix("run_"): each
    for each in (
        run_chain,
        run_diamond,
        run_wide,
        run_cancel,
        run_late,
        run_polled,
        run_crash,
        run_rules,
        run_retries,
        run_branches,
        run_maps,
        run_children,
        run_turns,
        run_people,
        run_values,
        run_planned,
        run_deployed,
        run_given,
        run_odd,
        run_deadlines,
        run_going_on,
        run_clean_up,
        run_hasty,
        run_losses,
        run_each_item,
        run_pools,
        run_secrets,
        run_filled,
    )
}


def main() -> None:
    """Write the logs that are missing."""
    folder = HERE / version("oautom")
    folder.mkdir(exist_ok=True)
    for name, run in RUNS.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            log = MemoryEventLog()
            for event in run():
                log.append(None, event)
            log.commit()
            log.to_jsonl(path)


if __name__ == "__main__":
    main()
