"""Flows, and the logs that they have made: each version of oautom must be able to replay them all.

    venv3/bin/python tests/golden/make.py

writes those that this version has not made yet, to a folder of its name. A log that is there is
never written again: what old versions wrote, and how they decided, is what the tests here keep.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from oautom import (
    Context,
    Event,
    Execution,
    Flow,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    Skip,
    TriggerRule,
)
from oautom.testing import SimulatedClock, simulate

HERE = Path(__file__).resolve().parent


def app() -> OAutom:
    return OAutom(executor="inline", clock=SimulatedClock())


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


class Hourly(Polled):
    """A step that takes longer than the hour after which its flow is due again."""

    poll_interval = 5400.0


def planned() -> Flow:
    """A flow with a plan that finds it at its limit each second time."""
    flow = Flow("planned", app())
    Hourly("job", flow) >> PythonExecution("fetch", flow, str)
    return flow


def odd() -> Flow:
    """A flow with names and values that a careless format would not keep."""
    flow = Flow('odd "name"', app())
    steps = [PythonExecution(name, flow, str) for name in ("ü 1", "a,b\\", "{}", "日本", "  x")]
    steps[0] >> steps[1:]
    return flow


# The logs, as this version makes them


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


def run_planned() -> list[Event]:
    flow = planned()
    with flow.app as running:
        running.plan(flow, cron="0 2-5 * * *", timezone="Europe/Paris", name="early")
        flow.app._clock.call_later(5.5 * 3600, running.stop)
        running.run()
        return list(running.log.read())


def run_odd() -> list[Event]:
    flow = odd()
    values = [None, True, -0.0, 2**60, 1e-300, 'two\nlines\u2028"', {"": [{}, []]}]
    errors = [ValueError("line 1\nline 2"), RuntimeError()]
    ends = dict(zip(flow.steps, [[values], *errors, "", 0], strict=True))
    return simulate(flow, outcomes=ends, seed=5).events()


FLOWS: dict[str, Callable[[], Flow]] = {
    each.__name__: each
    for each in (chain, diamond, wide, cancel, late, polled, crash, rules, planned, odd)
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
        run_planned,
        run_odd,
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
