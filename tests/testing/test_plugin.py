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


NOTHING_IS_IMPORTED = """
    import sys

    def test_a_test_that_uses_no_fixture():
        assert "_oautom_pytestplugin" in sys.modules
        assert [name for name in sys.modules if name.split(".")[0] == "oautom"] == []
        assert "transitions" not in sys.modules
        assert "hypothesis" not in sys.modules


    def test_a_test_that_uses_one(oautom_app):
        assert "oautom.scheduler" in sys.modules
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
