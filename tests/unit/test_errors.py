"""The errors: what they say, what they know, and that they travel."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import oautom
from oautom import errors
from oautom.errors import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateFlowError,
    DuplicateStepError,
    EngineError,
    FlowError,
    FlowFrozenError,
    InvalidHistoryError,
    LogCorruptError,
    LogError,
    LogLockedError,
    LogVersionError,
    LostOutputError,
    NotFinishedError,
    NotJsonError,
    OAutomError,
    ParamError,
    SettingError,
    StepFailedError,
    UnknownFlowError,
    UnknownParamError,
    UnknownPlanError,
    UnknownStepError,
    UnknownVectError,
    ValueTooLargeError,
    VectAlreadyRunningException,
    WorkerDiedError,
)

CASES = [
    (
        CycleError("etl", ["load", "clean", "load"]),
        "flow 'etl' has a cycle: load -> clean -> load; remove one of these depends()",
        {"flow": "etl", "step": None, "cycle": ["load", "clean", "load"]},
    ),
    (
        DuplicateStepError("etl", "load"),
        "flow 'etl' already has a step 'load'; give this one another name",
        {"flow": "etl", "step": "load"},
    ),
    (
        DuplicateFlowError("etl"),
        "the app already has a flow 'etl'; give this one another name",
        {"flow": "etl", "step": None},
    ),
    (
        ParamError("etl", "parameter 'day' is missing; its parameters: day: date", "day"),
        "flow 'etl': parameter 'day' is missing; its parameters: day: date",
        {"flow": "etl", "step": None, "param": "day"},
    ),
    (
        UnknownParamError("etl", "dya", ["day", "to"], "its parameters: day, to"),
        "flow 'etl': there is no parameter 'dya' (did you mean 'day'?); its parameters: day, to",
        {"flow": "etl", "step": None, "param": "dya"},
    ),
    (
        UnknownParamError("etl", "x", ["day"], "its parameters: day: date"),
        "flow 'etl': there is no parameter 'x'; its parameters: day: date",
        {"flow": "etl", "param": "x"},
    ),
    (
        NotJsonError("['a']", [1], "would come back from JSON as another value, [2]"),
        "its part ['a'], [1], would come back from JSON as another value, [2]",
        {"where": "['a']"},
    ),
    (
        UnknownFlowError("elt", ["etl", "report"]),
        "the app has no flow 'elt'; did you mean 'etl'?",
        {"flow": "elt", "step": None},
    ),
    (
        UnknownFlowError("x", ["etl", "report"]),
        "the app has no flow 'x'; known: 'etl', 'report'",
        {"flow": "x"},
    ),
    (
        UnknownFlowError("x"),
        "the app has no flow 'x'; there are none yet",
        {"flow": "x"},
    ),
    (
        UnknownPlanError("etl", None),
        "flow 'etl' has no plan; make one: app.plan(...)",
        {"flow": "etl", "step": None},
    ),
    (
        UnknownPlanError("etl", None, ["daily", "weekly"]),
        "flow 'etl' has several plans; name one of them: 'daily', 'weekly'",
        {"flow": "etl", "step": None},
    ),
    (
        UnknownPlanError("etl", "dayly", ["daily", "weekly"]),
        "flow 'etl' has no plan 'dayly'; did you mean 'daily'?",
        {"flow": "etl", "step": None},
    ),
    (
        UnknownStepError("etl", "laod", ["extract", "load"]),
        "flow 'etl' has no step 'laod'; did you mean 'load'?",
        {"flow": "etl", "step": "laod"},
    ),
    (
        UnknownStepError("etl", "x", [f"step {i}" for i in range(12)]),
        "flow 'etl' has no step 'x'; known: "
        + ", ".join(f"'step {i}'" for i in range(10))
        + ", ...",
        {"flow": "etl", "step": "x"},
    ),
    (
        CrossFlowDependencyError("etl", "load", "other", "start"),
        (
            "step 'load' of flow 'etl' cannot depend on step 'start' of flow 'other'; "
            "declare both in one flow"
        ),
        {"flow": "etl", "step": "load", "upstream_flow": "other", "upstream": "start"},
    ),
    (
        FlowFrozenError("etl", "late"),
        (
            "flow 'etl' has been started and cannot change: step 'late' comes too late; "
            "declare all steps and depends() before the first start"
        ),
        {"flow": "etl", "step": "late"},
    ),
    (
        VectAlreadyRunningException("etl", ["v1", "v2"], 2),
        (
            "flow 'etl' already runs as v1, v2 and its max_active_vects is 2; "
            "wait for one to end, cancel it, or raise max_active_vects"
        ),
        {"flow": "etl", "step": None, "running": ["v1", "v2"], "limit": 2},
    ),
    (
        StepFailedError("etl", "load", "failed", "ValueError: no"),
        "step 'load' of flow 'etl' has no result, it ended as 'failed': ValueError: no",
        {"flow": "etl", "step": "load", "state": "failed", "error": "ValueError: no"},
    ),
    (
        StepFailedError("etl", "load", "cancelled", None),
        "step 'load' of flow 'etl' has no result, it ended as 'cancelled'",
        {"flow": "etl", "step": "load", "state": "cancelled", "error": None},
    ),
    (
        LostOutputError("etl", "v1", "load"),
        (
            "the output of step 'load' of flow 'etl' in vect 'v1' was kept in the cluster by "
            "keep_remote=True, and is lost: its worker, the connection or the program has ended; "
            "start the flow again, or without keep_remote"
        ),
        {"flow": "etl", "step": "load", "vect": "v1"},
    ),
    (
        NotFinishedError("etl", "load", "running"),
        (
            "step 'load' of flow 'etl' is 'running' and has no result yet; "
            "call wait() on its Vect first"
        ),
        {"flow": "etl", "step": "load", "state": "running"},
    ),
    (
        InvalidHistoryError(7, "vect v is created twice"),
        "event 7 does not fit the events before it: vect v is created twice",
        {"flow": None, "step": None, "seq": 7},
    ),
    (
        LogLockedError("/var/runs.db", 4711),
        (
            "log '/var/runs.db' is being written by process 4711, and only one engine at a time "
            "may do so; wait for its end, or read meanwhile: SqliteEventLog(path, read_only=True)"
        ),
        {"path": "/var/runs.db", "pid": 4711},
    ),
    (
        LogLockedError("runs.db", None),
        (
            "log 'runs.db' is being written by another process, and only one engine at a time may "
            "do so; wait for its end, or read meanwhile: SqliteEventLog(path, read_only=True)"
        ),
        {"pid": None},
    ),
    (
        LogCorruptError("runs.db", "event 3 is missing", 3),
        "log 'runs.db' is damaged: event 3 is missing; put a copy of it in its place",
        {"path": "runs.db", "seq": 3},
    ),
    (
        LogVersionError("runs.db", 3, 2),
        "log 'runs.db' has version 3, this oautom knows version 2; use a newer oautom",
        {"path": "runs.db", "version": 3, "known": 2},
    ),
    (
        LogVersionError("runs.db", 1, 2),
        (
            "log 'runs.db' has version 1, this oautom knows version 2; open it once without "
            "read_only=True, which brings it up to date"
        ),
        {"version": 1, "known": 2},
    ),
    (
        ValueTooLargeError(101, 100),
        (
            "the value takes 101 bytes as JSON and the log keeps at most 100; write it to a file "
            "and return its path"
        ),
        {"size_bytes": 101, "limit_bytes": 100},
    ),
    (UnknownVectError("the app has no vect 'v'"), "the app has no vect 'v'", {"flow": None}),
    (SettingError("mode", flow="f", step="s"), "mode", {"flow": "f", "step": "s"}),
    (
        WorkerDiedError("it exited with code 3"),
        "the worker process ended before it answered: it exited with code 3",
        {"flow": None, "step": None},
    ),
    (EngineError("closed"), "closed", {}),
    (LogError("disk full"), "disk full", {}),
    (FlowError("wrong", flow="f"), "wrong", {"flow": "f", "step": None}),
]
each_case = pytest.mark.parametrize(
    ("error", "message", "facts"), CASES, ids=[type(error).__name__ for error, *_ in CASES]
)


@each_case
def test_the_message_says_what_is_wrong_where_and_what_to_do(error, message, facts) -> None:
    assert str(error) == message  # also where a KeyError among the bases would quote it


@each_case
def test_the_facts_are_attributes_too(error, message, facts) -> None:
    assert {name: getattr(error, name) for name in facts} == facts


@each_case
@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_travels_with_its_facts(error, message, facts, travel) -> None:
    again = travel(error)

    assert type(again) is type(error)
    assert str(again) == message
    assert again.args == error.args
    assert vars(again) == vars(error)


@each_case
def test_every_error_is_caught_as_one_of_oautom(error, message, facts) -> None:
    with pytest.raises(OAutomError):
        raise error


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (SettingError, ValueError),
        (FlowError, ValueError),
        (UnknownFlowError, KeyError),
        (UnknownPlanError, KeyError),
        (UnknownStepError, KeyError),
        (UnknownVectError, KeyError),
        (EngineError, RuntimeError),
        (VectAlreadyRunningException, RuntimeError),
        (NotFinishedError, RuntimeError),
        (LostOutputError, RuntimeError),
        (LogError, RuntimeError),
        (LogLockedError, LogError),
        (LogCorruptError, LogError),
        (LogVersionError, LogError),
        (ValueTooLargeError, ValueError),
        (InvalidHistoryError, LogError),
        (CycleError, FlowError),
        (ParamError, ValueError),
        (UnknownParamError, ParamError),
        (UnknownParamError, KeyError),
        (DuplicateStepError, FlowError),
        (DuplicateFlowError, FlowError),
        (UnknownFlowError, FlowError),
        (UnknownPlanError, FlowError),
        (UnknownStepError, FlowError),
        (CrossFlowDependencyError, FlowError),
        (FlowFrozenError, FlowError),
    ],
)
def test_an_error_is_also_what_a_python_programmer_expects(error, base) -> None:
    assert issubclass(error, base)


def test_all_errors_are_public_and_of_the_family() -> None:
    family = {
        name
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, Exception)
    }

    assert {name for name in family if issubclass(getattr(errors, name), OAutomError)} == family
    assert family <= set(oautom.__all__)


def test_a_long_cycle_is_shown_shortened_and_kept_whole() -> None:
    cycle = [f"s{i}" for i in range(1000)] + ["s0"]

    error = CycleError("f", cycle)

    assert str(error) == (
        "flow 'f' has a cycle: s0 -> s1 -> s2 -> s3 -> s4 -> (991 more) -> "
        "s996 -> s997 -> s998 -> s999 -> s0; remove one of these depends()"
    )
    assert error.cycle == cycle


def test_a_cycle_of_ten_is_shown_whole() -> None:
    cycle = [f"s{i}" for i in range(9)] + ["s0"]

    assert " -> ".join(cycle) in str(CycleError("f", cycle))


@pytest.mark.parametrize("name", [None, 5, ["load"]])
def test_a_name_that_is_no_text_is_unknown_too(name) -> None:
    assert str(UnknownStepError("etl", name, ["load"])).startswith(
        f"flow 'etl' has no step '{name}'; "
    )


def test_facts_are_copies_of_what_was_given() -> None:
    cycle, running = ["a", "a"], ["v"]
    errors_ = CycleError("f", cycle), VectAlreadyRunningException("f", running, 1)
    cycle.append("b")
    running.append("w")

    assert errors_[0].cycle == ["a", "a"]
    assert errors_[1].running == ["v"]
