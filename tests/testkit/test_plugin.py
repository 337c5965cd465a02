"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = "pytester"

PLUGIN = "_oautom_pytestplugin"

ROOT = Path(__file__).resolve().parents[2]

RunTests = Callable[..., pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunTests:
    """Runs a file of tests with this plugin and no other."""

    def run(source: str, *arguments: str) -> pytest.RunResult:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        pytester.makepyfile(source)
        plugin = () if arguments else ("-p", PLUGIN)
        return pytester.runpytest_subprocess("-W", "error", *plugin, *arguments)

    return run


FIXTURES = """
    from datetime import timedelta

    from oautom import Execution, Flow, MemoryEventLog, PythonExecution
    from oautom.testing import SimulatedClock


    class Mail(Execution):
        poll_interval = 86400.0

        def run(self, context):
            return []

        def check(self, context):
            context.output.append("looked")
            return len(context.output) == 3


    def test_three_days_pass_at_once(oautom_app, oautom_clock):
        begin = oautom_clock.now()
        flow = Flow("flow", oautom_app)
        PythonExecution("letter", flow, str, ["dear"]) >> Mail("answer", flow)

        vect = oautom_app.run(flow)

        assert vect.state == "success"
        assert vect.result("letter") == "dear"
        assert oautom_clock.now() - begin == timedelta(days=3)


    def test_the_next_test_has_another_app_and_clock(oautom_app, oautom_clock):
        assert oautom_app.flows() == []
        assert oautom_clock.monotonic() == 0
        assert isinstance(oautom_clock, SimulatedClock)
        assert isinstance(oautom_app.log, MemoryEventLog)


    def test_the_clock_can_be_had_alone(oautom_clock):
        oautom_clock.advance(60)
        assert oautom_clock.monotonic() == 60
"""


def test_the_fixtures_do_what_they_say(run_tests: RunTests) -> None:
    run_tests(FIXTURES).assert_outcomes(passed=3)


CLOSED = """
    import pytest

    from oautom import EngineError, Flow, PythonExecution

    kept = []


    @pytest.mark.parametrize("fails", [True, False])
    def test_that_leaves_a_vect_open(oautom_app, fails):
        flow = Flow("flow", oautom_app)
        PythonExecution("step", flow, print)
        kept.append(oautom_app.start(flow))
        assert not fails


    def test_the_apps_of_the_tests_before_are_closed():
        assert [vect.state for vect in kept] == ["cancelled", "cancelled"]
        with pytest.raises(EngineError, match="closed"):
            kept[0].flow.app.start("flow")
"""


def test_the_app_is_closed_after_the_test_whatever_that_left(run_tests: RunTests) -> None:
    run_tests(CLOSED, "-p", PLUGIN, "-p", "no:randomly").assert_outcomes(passed=2, failed=1)


def test_the_fixtures_are_listed_with_what_they_are_for(run_tests: RunTests) -> None:
    told = run_tests("", "-p", PLUGIN, "--fixtures").stdout

    told.fnmatch_lines(["oautom_clock*", "*A clock whose time passes only when*"])
    told.fnmatch_lines(["oautom_app*", "*An app in memory whose steps run one by one*"])


VALUES = """
    from dataclasses import dataclass
    from datetime import date
    from decimal import Decimal
    from pathlib import Path
    from typing import Any

    import pytest

    from oautom import (
        ApprovalExecution,
        BranchExecution,
        Context,
        Flow,
        MapExecution,
        OAutom,
        OAutomError,
        PythonExecution,
    )


    @dataclass
    class Row:
        day: date


    VALUES = {
        "nothing": None,
        "text": "x",
        "half a character": "\\ud800",
        "a list": [1, [2.5, True]],
        "a tuple": (1, 2),
        "a set": {1},
        "a key that is no text": {1: 2},
        "no number": float("nan"),
        "a large number": 2**70,
        "a date": date(2026, 1, 1),
        "a path": Path("a"),
        "a decimal": Decimal("1.10"),
        "bytes": b"x",
        "a record": Row(date(2026, 1, 1)),
        "an object": object(),
        "a class": Row,
        "a function": print,
    }
    TYPES = [Any, tuple[int, ...], date, Row]


    def seen(app, name, value, kind):
        flow = Flow(name, app)
        step = PythonExecution("step", flow, giving(value, kind))
        BranchExecution("branch", flow, giving(value, Any))
        given = PythonExecution("given", flow, str)
        given.depends(step)
        MapExecution("each", flow, lambda item: value, PythonExecution("list", flow, listed))
        ApprovalExecution("gate", flow, "go on?")

        def decide(context: Context) -> str:
            vect = app.vect(context.vect_id)
            try:
                vect.approve("gate", by="me", data=value)
            except OAutomError as error:
                vect.approve("gate", by="me")
                return f"{type(error)}: {error}"
            return "fine"

        PythonExecution("person", flow, decide)
        vect = app.run(flow)
        steps = vect.steps
        return [(each, steps[each].state, steps[each].output, steps[each].error) for each in steps]


    def giving(value, kind):
        def give():
            return value

        give.__annotations__["return"] = kind
        return give


    def listed() -> list[int]:
        return [1]


    def test_it_takes_what_a_file_takes_and_no_more(oautom_app, tmp_path):
        with OAutom(log=tmp_path / "runs.db", executor="inline") as durable:
            for name, value in VALUES.items():
                for kind in TYPES:
                    place = f"{name} as {kind}"
                    wanted = seen(durable, place, value, kind)
                    assert seen(oautom_app, place, value, kind) == wanted


    @pytest.mark.oautom_objects
    def test_it_takes_any_object_where_it_is_told_to(oautom_app):
        flow, given = Flow("flow", oautom_app), object()
        PythonExecution("step", flow, lambda: given)

        assert oautom_app.run(flow).result("step") is given


    def test_it_takes_none_otherwise(oautom_app):
        flow = Flow("flow", oautom_app)
        PythonExecution("step", flow, object)

        vect = oautom_app.run(flow)
        assert vect.state == "failed"
        assert "its output cannot be kept" in vect.steps["step"].error
"""


def test_the_app_takes_the_values_that_a_durable_log_takes(run_tests: RunTests) -> None:
    result = run_tests(VALUES, "-p", PLUGIN, "--strict-markers", "-q", "--no-header")

    result.assert_outcomes(passed=3)


NOTHING_IS_IMPORTED = """
    import sys

    def test_a_test_that_uses_no_fixture():
        assert "_oautom_pytestplugin" in sys.modules
        assert [name for name in sys.modules if name.split(".")[0] == "oautom"] == []
        assert "transitions" not in sys.modules
        assert "hypothesis" not in sys.modules


    def test_a_test_that_uses_one(oautom_app):
        assert "oautom.engine.scheduler" in sys.modules
"""


def test_it_imports_nothing_of_oautom_before_a_fixture_is_used(run_tests: RunTests) -> None:
    result = run_tests(NOTHING_IS_IMPORTED, "-p", PLUGIN, "-p", "no:randomly")

    result.assert_outcomes(passed=2)


def test_it_is_there_without_any_configuration(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    pytester.makepyfile("def test_it(oautom_app): assert oautom_app.flows() == []")

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*plugins: *"])
