"""Any flow, any outcomes, any order of what happens: what holds of the state."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given

from oautom import Event, Flow, OAutom, PythonExecution
from oautom.events import replay
from oautom.machine.state import VectState
from oautom.machine.tables import STEP_ENDS, VECT_ENDS

from .cases import ANYTHING, ORDERLY, Case, VectPlan, cases, few, moderate, oracle, vect_oracle
from .driver import Driver, plain

Facts = dict[str, Any]


def facts(states: Any) -> Facts:
    return {vect: plain(state.facts()) for vect, state in states.items()}


def played_with_snapshots(case: Case) -> tuple[Driver, list[Facts]]:
    """Play a case; return what the live states were after each event."""
    snapshots: list[Facts] = []

    def watch(driver: Driver, event: Event) -> None:
        assert event.seq == len(snapshots) + 1
        snapshots.append(facts(driver.states))

    return Driver(case, watch=watch).play(), snapshots


@moderate
@given(cases())
def test_the_fold_of_every_prefix_is_the_live_state_of_that_time(case: Case) -> None:
    driver, snapshots = played_with_snapshots(case)
    events = list(driver.log.read())
    assert len(snapshots) == len(events)
    for length, live in enumerate(snapshots, start=1):
        assert facts(replay(events[:length])) == live, f"after {length} events"


@moderate
@given(cases())
def test_the_fold_goes_on_from_where_it_stood(case: Case) -> None:
    driver, snapshots = played_with_snapshots(case)
    states: dict[str, VectState] = {}
    for event, live in zip(driver.log.read(), snapshots, strict=True):
        if event.vect in states:
            states[event.vect].advance(event)
        else:
            states |= replay([event])
        assert facts(states) == live


@moderate
@given(cases())
def test_vects_do_not_mix(case: Case) -> None:
    driver = Driver(case).play()
    together = facts(replay(driver.log.read()))
    for vect in together:
        assert facts(replay(driver.log.read(vect=vect))) == {vect: together[vect]}


@moderate
@given(cases())
def test_folding_changes_nothing_of_what_it_reads(case: Case) -> None:
    driver = Driver(case).play()
    before = facts(driver.states)
    first = facts(replay(driver.log.read()))
    assert facts(replay(driver.log.read())) == first == before == facts(driver.states)


@moderate
@given(cases())
def test_the_tallies_are_a_recount_of_the_states(case: Case) -> None:
    def recount(driver: Driver, event: Event) -> None:
        for vect in driver.states.values():
            plan = driver.plan_of(vect.id)
            upstreams = case.flows[plan.flow].upstreams
            states = {name: step.state for name, step in vect.steps.items()}
            assert vect.open_steps == sum(state not in STEP_ENDS for state in states.values())
            for name, step in vect.steps.items():
                ended = Counter(states[u] for u in upstreams[name] if states[u] in STEP_ENDS)
                assert step.tally == ended
                assert step.upstreams == len(upstreams[name])

    Driver(case, watch=recount).play()


def due_steps(driver: Driver) -> list[tuple[str, str]]:
    """Return what could run if there were a slot, from states and graphs alone."""
    found = []
    for vect in driver.states.values():
        upstreams = driver.case.flows[driver.plan_of(vect.id).flow].upstreams
        for name, step in vect.steps.items():
            is_free = all(vect.steps[up].state == "success" for up in upstreams[name])
            if vect.state == "running" and step.state == "pending" and is_free:
                found.append((vect.id, name))
    return found


@moderate
@given(cases())
def test_no_slot_is_free_while_a_step_is_due(case: Case) -> None:
    def look(driver: Driver) -> None:
        if len(driver.workers.jobs) < case.slots and driver.is_settled:
            assert due_steps(driver) == []

    Driver(case).play(look)


@moderate
@given(cases())
def test_after_each_tick_what_runs_is_what_the_workers_have(case: Case) -> None:
    def look(driver: Driver) -> None:
        running = {
            (vect.id, step.name, step.attempt)
            for vect in driver.states.values()
            for step in vect.steps.values()
            if step.state == "running"
        }
        assert running <= {job.attempt for job in driver.workers.jobs}
        for job in driver.workers.jobs:
            vect, step, _ = job.attempt
            is_cancelled = driver.states[vect].steps[step].state == "cancelled"
            assert job.work.context.cancelled.is_set() == is_cancelled

    Driver(case).play(look)


@moderate
@given(cases(ORDERLY))
def test_final_states_depend_on_outcomes_only(case: Case) -> None:
    driver = Driver(case).play()
    for run, plan in zip(driver.runs, case.vects, strict=True):
        expected = oracle(case.flows[plan.flow], plan)
        assert {name: step.state for name, step in run.state.steps.items()} == expected
        assert run.state.state == vect_oracle(expected)


@moderate
@given(cases())
def test_a_cancel_keeps_what_had_ended_and_ends_the_rest(case: Case) -> None:
    driver = Driver(case).play()
    for run, plan in zip(driver.runs, case.vects, strict=True):
        flow = case.flows[plan.flow]
        expected = oracle(flow, plan)
        states = {name: step.state for name, step in run.state.steps.items()}
        kept = {name for name, state in states.items() if state != "cancelled"}
        assert all(states[name] == expected[name] for name in kept)
        if run.state.state == "cancelled":
            started = {n for n in kept if states[n] != "upstream_failed"}
            assert all(set(flow.upstreams[name]) <= kept for name in started)
        else:
            assert states == expected
            assert run.state.state == vect_oracle(expected)


@moderate
@given(cases())
def test_every_vect_ends_and_nothing_is_left_over(case: Case) -> None:
    driver = Driver(case).play()
    assert all(run.state.state in VECT_ENDS for run in driver.runs)
    assert all(run.state.open_steps == 0 for run in driver.runs)
    assert driver.scheduler.is_idle()
    assert driver.workers.jobs == []
    runner = driver.scheduler.runner
    assert (runner.busy, runner._attempts, runner.lingering.is_ending_any) == (0, {}, False)
    assert not driver.scheduler._ready
    assert not driver.scheduler.queue.size


@moderate
@given(cases())
def test_a_step_tells_its_output_or_its_error(case: Case) -> None:
    driver = Driver(case).play()
    for run in driver.runs:
        for step in run.state.steps.values():
            assert step.output == (f"output of {step.name}" if step.state == "success" else None)
            assert (step.error is None) == (step.state == "success")
            assert (step.start_date is not None) == (step.attempt == 1)
            assert step.end_date is not None


@moderate
@given(cases(ANYTHING, ("return",)))
def test_where_no_step_fails_none_is_blocked(case: Case) -> None:
    driver = Driver(case).play()
    states = {step.state for run in driver.runs for step in run.state.steps.values()}
    assert states <= {"success", "cancelled"}


def final_states(case: Case, plan: VectPlan, executor: Any, workers: int | None) -> dict[str, str]:
    """Run one Vect of a case on a real executor."""

    def work(step: int) -> str:
        if plan.outcomes[step] != "return":
            raise SystemExit(3) if plan.outcomes[step] == "exit" else ValueError(step)
        return f"output of {step}"

    with OAutom(executor=executor, max_workers=workers) as app:
        flow = Flow("real", app=app)
        planned = case.flows[plan.flow]
        steps = [PythonExecution(str(i), flow, work, (i,)) for i in range(planned.steps)]
        for upstream, step in planned.edges:
            steps[upstream] >> steps[step]
        vect = app.run(flow)
        assert facts(replay(app.log.read())) == {vect.id: plain(vect._run.state.facts())}
        return {name: step.state for name, step in vect.steps.items()} | {"vect": vect.state}


@few
@given(cases(ORDERLY, max_vects=1))
def test_every_executor_comes_to_the_same_states(case: Case) -> None:
    plan = case.vects[0]
    expected = oracle(case.flows[plan.flow], plan)
    expected |= {"vect": vect_oracle(expected)}
    assert final_states(case, plan, "inline", None) == expected
    assert final_states(case, plan, "threads", case.slots) == expected
