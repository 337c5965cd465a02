"""`assert_replays` tells each option that has changed since the log was made.

The options are found by looking at what the kinds of steps take: whoever adds one says here what it
may be, or why a log cannot tell of it.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

import oautom
from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Execution,
    FileExecution,
    Flow,
    FlowExecution,
    LambdaExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    TriggerRule,
    WaitExecution,
)
from oautom.flows.fit import OF_WORK, misfit, news
from oautom.steps.options import StepOptions
from oautom.testing import ReplayDiffersError, SimulatedClock, assert_replays, simulate

USUAL: Any = object()
"""Stands for an option of which nothing is said."""


class Job(Execution):
    def run(self, context: Any) -> None: ...


def nothing(*_: Any, **__: Any) -> Any:
    """Do nothing."""


NEEDED: dict[type[Execution], dict[str, Any]] = {
    Job: {},
    PythonExecution: {"function": nothing},
    BashExecution: {"command": "true"},
    BranchExecution: {"function": nothing},
    MapExecution: {"function": nothing, "over": "first"},
    FlowExecution: {"runs": "inner"},
    WaitExecution: {"seconds": 5},
    ApprovalExecution: {"prompt": "go on?"},
    FileExecution: {"path": "a"},
    LambdaExecution: {"function_name": "work"},
}
"""What a step of each kind must be given."""

POLICY = RetryPolicy(delay=1)
VALUES: dict[str, list[Any]] = {
    "name": ["step", "another"],
    "on_crash": [USUAL, "fail"],
    "trigger_rule": [USUAL, TriggerRule.ALL_DONE, TriggerRule.NONE_FAILED],
    "allow_failure": [USUAL, True],
    "retry": [
        *(USUAL, RetryPolicy(), RetryPolicy(max_attempts=4), RetryPolicy(delay=9)),
        *(RetryPolicy(backoff=3), RetryPolicy(max_delay=7), RetryPolicy(jitter=0)),
        *(RetryPolicy(retry_on=(ValueError,)), RetryPolicy(retry_on=(KeyError,))),
        RetryPolicy(retry_on=(KeyError, ValueError)),
    ],
    "timeout": [USUAL, 50, 5.5],
    "deadline": [USUAL, 60, 7.5],
    "pool": [
        USUAL,
        Pool("one", 1),
        Pool("two", 1),
        Pool("one", 2),
        Pool("one", None, (3, 60)),
        Pool("one", 4, (3, 60)),
    ],
    "pool_slots": [USUAL, 2, 3],
    "priority": [USUAL, 1, -1],
    "skip_exit_code": [USUAL, None, 7],
    "strict": [USUAL, False],
    "over": ["first", "second"],
    "max_parallel": [USUAL, 1, 2],
    "runs": ["inner", "other"],
    "seconds": [5, 6],
    "until": [datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)],
    "teardown": [USUAL, True],
    "teardown_of": [USUAL, ["first"], ["second"], ["first", "second"]],
    "compensate": [USUAL, nothing],
    "compensate_on": [USUAL, "success"],
    "prompt": ["go on?", "really?"],
    "values": [USUAL, {"a": 1}, {"a": "first"}, {"a": "second"}],
    "path": ["a", "b"],
}
"""What an option may be: each of these is told from those beside it."""

DOES = "it is part of what the step does: of that the log tells what came of it"
WRITES = "what a step writes is not in the log"
NO_WORK = "it has no meaning where no worker is at work"
UNSEEN: dict[str, str] = {
    "flow": "a step of another flow has another log",
    "function": DOES,
    "args": DOES,
    "kwargs": DOES,
    "command": DOES,
    "env": DOES,
    "cwd": DOES,
    "output": DOES,
    "grace_period": DOES,
    "place": DOES,
    "function_name": DOES,
    "payload": DOES,
    "qualifier": DOES,
    "region": DOES,
    "bucket": DOES,
    "client": DOES,
    "s3": DOES,
    "log_limit_bytes": WRITES,
    "capture": WRITES,
    "submit": "where a step runs is the affair of its executor: the log says what came of it",
    "keep_remote": "where an output is kept is the affair of the executor, as where a step runs",
    "label": "it is for people: the log keeps what it was for each item",
    "params": "they are the parameters of the other flow, whose Vect tells of them",
}
UNSEEN_OF: dict[tuple[type[Execution], str], str] = {
    **{
        (WaitExecution, each): NO_WORK
        for each in ("retry", "timeout", "pool", "pool_slots", "on_crash")
    },
    **{(ApprovalExecution, each): NO_WORK for each in ("retry", "pool", "pool_slots", "on_crash")},
    **{(FileExecution, each): NO_WORK for each in ("retry", "pool", "pool_slots", "on_crash")},
    (FlowExecution, "on_crash"): "the child goes on, whatever becomes of the program",
}
UNSEEN_OF_FLOWS = {
    "name": "a flow of another name has another log",
    "app": "nothing that is decided depends on it",
    "description": "it is for people",
    "capture": WRITES,
    "strict": "its Bash steps tell of it",
    "max_active_vects": "a start that was refused has left no trace",
    "version": "nothing that is decided depends on it",
    "when_full": "it decides when a Vect starts, and nothing that it does then",
    "limit_by": "as when_full",
}
OF_SHAPE = frozenset({"name", "over", "runs"})
"""With another one of these an open Vect does not fit its flow any more."""

FLOW_VALUES: dict[str, list[Any]] = {
    "params": [USUAL, {"day": str}],
    "retry": [USUAL, POLICY, RetryPolicy(retry_on=(ValueError,))],
    "timeout": [USUAL, 50],
    "deadline": [USUAL, 60, 7.5],
    "max_async": [USUAL, 7],
    "run_timeout": [USUAL, 50, 5.5],
    "on_failure": [USUAL, "cancel"],
}


def options_of(kind: type[Execution]) -> list[str]:
    """Return the names of all that a step of a kind can be given."""
    return [*dict.fromkeys([*parameters_of(kind), *get_type_hints(StepOptions)])]


def parameters_of(kind: type) -> list[str]:
    given = [*inspect.signature(kind.__init__).parameters.values()][1:]
    return [each.name for each in given if each.kind is not each.VAR_KEYWORD]


def kinds() -> list[type[Execution]]:
    public = [getattr(oautom, name) for name in oautom.__all__]
    of_steps = [each for each in public if inspect.isclass(each) and issubclass(each, Execution)]
    return [Job, *(each for each in of_steps if each is not Execution)]


def test_the_kinds_are_all_that_there_are() -> None:
    assert set(kinds()) == set(NEEDED)


def said(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not USUAL}


def declared(kind: type[Execution], **given: Any) -> Flow:
    """Declare a flow with two lists, and one step of a kind."""
    app = OAutom(clock=SimulatedClock())
    inner = {name: Flow(name, app) for name in ("inner", "other")}
    flow = Flow("flow", app)
    lists = {name: PythonExecution(name, flow, nothing) for name in ("first", "second")}
    options = {"name": "step", **NEEDED[kind]} | said(given)
    if "until" in given:
        del options["seconds"]
    if options.get("values"):
        options["prompt"] += " {a}"
        options["values"] = {"a": lists.get(options["values"]["a"], 1)}
    if "pool_slots" in given:
        options.setdefault("pool", Pool("wide", 4))
    if "compensate_on" in given:
        options["compensate"] = nothing
    if "teardown_of" in options:
        options["teardown_of"] = [lists[name] for name in options["teardown_of"]]
    for name, known in (("over", lists), ("runs", inner)):
        if name in options:
            options[name] = known[options[name]]
    step = kind(options.pop("name"), flow, **options)
    step.depends(*lists.values())
    return flow


def log_of(flow: Flow) -> Any:
    lists: dict[str, Any] = {name: [[1]] for name in ("first", "second") if name in flow.steps}
    return simulate(flow, outcomes=lists).events()


def is_told(log: Any, flow: Flow) -> bool:
    try:
        assert_replays(log, flow)
    except ReplayDiffersError:
        return True
    return False


def neighbours(values: list[Any]) -> list[tuple[Any, Any]]:
    """Return each value with those beside it, the first beside the last."""
    pairs = [*pairwise([*values, values[0]])]
    return [*pairs, *((other, one) for one, other in pairs)]


def test_nothing_is_listed_that_is_no_option() -> None:
    known = {option for _, option in CASES}
    assert {*UNSEEN, *VALUES, "until"} <= known
    assert {*UNSEEN_OF} <= {*CASES}
    assert {*UNSEEN_OF_FLOWS, *FLOW_VALUES} == {*parameters_of(Flow)}
    assert all([*UNSEEN.values(), *UNSEEN_OF.values(), *UNSEEN_OF_FLOWS.values()])


CASES = [(kind, option) for kind in kinds() for option in options_of(kind)]
NAMES = [f"{kind.__name__}-{option}" for kind, option in CASES]


@pytest.mark.parametrize(("kind", "option"), CASES, ids=NAMES)
def test_each_option_of_each_kind_is_told_from_others(kind: type[Execution], option: str) -> None:
    if (kind, option) in UNSEEN_OF or option in UNSEEN:
        return
    for one, other in neighbours(VALUES[option]):
        log = log_of(declared(kind, **{option: one}))
        assert not is_told(log, declared(kind, **{option: one})), one
        assert is_told(log, declared(kind, **{option: other})), (one, other)


@pytest.mark.parametrize(("kind", "option"), CASES, ids=NAMES)
def test_each_option_of_an_open_vect_is_as_it_began_or_of_today_or_strands_it(
    kind: type[Execution], option: str
) -> None:
    """As docs/durability.md has it in a table; an option that is not named here stays."""
    if (kind, option) in UNSEEN_OF or option in UNSEEN:
        return
    for one, other in neighbours(VALUES[option]):
        created = log_of(declared(kind, **{option: one}))[0].data
        now = declared(kind, **{option: other})
        begun = created.get("options", {})
        told = news(begun, now.options)

        assert (misfit(now, "v", created) is not None) is (option in OF_SHAPE), (one, other)
        if option not in OF_SHAPE:
            assert bool(told) is (option in {*OF_WORK, "retry"}), (one, other)
            goes_on = {**begun, **told}.get("step", {})
            for each, value in now.options.get("step", {}).items():
                assert each not in OF_WORK or goes_on[each] == value
            assert not news({**begun, **told}, now.options)


def flow_with(**given: Any) -> Flow:
    async def work() -> None: ...

    flow = Flow("flow", OAutom(clock=SimulatedClock()), **said(given))
    PythonExecution("first", flow, nothing)
    PythonExecution("step", flow, work)
    return flow


@pytest.mark.parametrize("option", parameters_of(Flow))
def test_each_option_of_a_flow_is_told_from_others(option: str) -> None:
    if option in UNSEEN_OF_FLOWS:
        return
    for one, other in neighbours(FLOW_VALUES[option]):
        params = {"day": "monday"} if option == "params" and one is not USUAL else None
        log = simulate(flow_with(**{option: one}), params).events()
        assert not is_told(log, flow_with(**{option: one})), one
        assert is_told(log, flow_with(**{option: other})), (one, other)


def test_what_is_told_names_the_step_and_both_values() -> None:
    log = log_of(declared(PythonExecution, timeout=50))

    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(log, declared(PythonExecution, timeout=5.5))
    assert (caught.value.seq, caught.value.then, caught.value.now) == (
        1,
        "timeout of 'step' is 50",
        "timeout of 'step' is 5.5",
    )
    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(log, declared(PythonExecution))
    assert caught.value.now == "timeout of 'step' is as usual"


def test_a_decision_that_would_be_another_is_told_before_an_option() -> None:
    log = simulate(declared(PythonExecution, retry=POLICY), outcomes={"step": OSError()}).events()

    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(log, declared(PythonExecution))
    assert (caught.value.then, caught.value.now) == (
        "step.retried of 'step', attempt 1",
        "step.failed of 'step', attempt 1",
    )


def test_the_options_in_a_file_are_those_of_the_flow_that_has_made_it(tmp_path: Path) -> None:
    """Though JSON knows neither tuples nor dates."""
    cleans_up = ("teardown", "teardown_of")
    excluded = [cleans_up, ("trigger_rule", "compensate", "compensate_on")]  # by the other
    for kind, left_out in product(kinds(), excluded):
        names = [name for name in options_of(kind) if name not in (*UNSEEN, *left_out, "seconds")]
        given = {name: VALUES[name][-1] for name in names}
        log = MemoryEventLog()
        for event in log_of(declared(kind, **given)):
            log.append(None, event)
        log.commit()
        log.to_jsonl(tmp_path / "log.jsonl")

        assert not is_told(
            MemoryEventLog.from_jsonl(tmp_path / "log.jsonl"), declared(kind, **given)
        )


def test_a_log_that_does_not_tell_of_an_option_is_not_held_against_it() -> None:
    """Logs of before did not tell of these."""
    flow = declared(PythonExecution, retry=RetryPolicy(delay=9, retry_on=(OSError,)))
    log = log_of(flow)
    options = {
        step: {name: value for name, value in given.items() if name != "retry"}
        for step, given in log[0].data["options"].items()
    }
    log[0] = msgspec.structs.replace(log[0], data={**log[0].data, "options": options})
    assert_replays(log, flow)
