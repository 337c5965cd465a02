"""Verbs that run one step, compare runs, fill gaps of plans, and tell how long a run will take."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    FlowExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
)
from oautom.cli.main import _exit_code
from oautom.client import Past
from tests.held import until

from .conftest import PIPELINE, Inside


class Done(NamedTuple):
    """What came of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Done]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: Any, capfd: Any) -> Call:
    """Does what a command line says in this process, in a folder with a `pipeline.py`."""
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(*arguments: str) -> Done:
        capfd.readouterr()
        code = _exit_code([str(each) for each in arguments])
        return Done(code, *capfd.readouterr())

    return call


# One step alone


def test_one_step_runs_with_the_inputs_of_a_past_run(call: Call) -> None:
    log = ("--log", "runs.db")
    assert call("run", "pipeline.py", "etl", "day=bad", "--id", "night", *log).code == 1
    mended = ("run", "pipeline.py", "etl", "day=good", "--only", "load", *log)
    done = call(*mended, "--from", "night", "--json")
    assert (done.code, done.json["state"]) == (0, "success")
    assert done.json["params"] == {"day": "good", "numbers": None}
    again = call(*mended[:3], "--only", "load", "--from", "ni", *log, "-q")  # as it was: it fails
    assert (again.code, again.out) == (1, "")
    newest = call(*mended, "--from", "-", "--id", "third")
    assert newest.out.splitlines()[-1].startswith("etl third: success after ")
    assert "extract  success" in newest.out
    assert Client("runs.db").vect("third").steps["extract"].kind == "given"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--from", "night"], 2, "--from needs --only"),
        (["--only", "loda", "--from", "night"], 3, "did you mean 'load'?"),
        (["--only", "load[1]", "--from", "night"], 3, "no step 'load[1]'"),
        (["--only", "load", "--from", "nigth"], 3, "did you mean 'night'?"),
        (["--only", "load", "--until", "load"], 2, "exclude each other"),
        (["--only", "load", "--from", "other"], 3, "has no run 'other'"),
    ],
)
def test_what_cannot_run_alone_is_told(
    call: Call, arguments: list[str], code: int, says: str
) -> None:
    log = ("--log", "runs.db")
    call("run", "pipeline.py", "etl", "day=good", "--id", "night", *log, "-q")
    call("run", "pipeline.py", "made", "--id", "other", *log, "-q")
    done = call("run", "pipeline.py:app", "etl", *arguments, *log)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_dry_run_of_one_step_names_that(call: Call) -> None:
    log = ("--log", "runs.db")
    call("run", "pipeline.py", "etl", "day=good", "--id", "night", *log, "-q")
    before = Path("runs.db").read_bytes()
    done = call("run", "pipeline.py", "etl", "--only", "load", "--from", "-", *log, "--dry-run")
    assert (done.code, done.out) == (0, "load\n")
    assert Path("runs.db").read_bytes() == before


# Two runs compared


def test_diff_tells_what_two_runs_have_otherwise(call: Call) -> None:
    log = ("--log", "runs.db")
    call("run", "pipeline.py", "etl", "day=bad", "--id", "one", *log, "-q")
    call("run", "pipeline.py", "etl", "day=good", "numbers=[1, 2, 5]", "--id", "two", *log, "-q")
    done = call("diff", "one", "two", *log)
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines() if "took" not in line]
    assert lines == [
        ["one", "two"],
        ["state", "failed", "success"],
        ["params['day']", "bad", "good"],
        ["params['numbers']", "null", "[1,", "2,", "5]"],
        ["extract", "output", "[1,", "2]", "[1,", "2,", "5]"],
        ["load", "state", "failed", "success"],
        ["load", "error", "the", "command", "exited", "with", "code", "1", "null"],
    ]
    assert call("diff", "one", "two", *log, "--exit-code").code == 1
    told = call("diff", "one", "two", *log, "--json").json
    assert told["vects"] == ["one", "two"]
    assert {"step": None, "what": "params['day']", "one": "bad", "other": "good"} in told[
        "differences"
    ]
    assert {"step": "extract", "what": "output", "one": [1, 2], "other": [1, 2, 5]} in told[
        "differences"
    ]
    assert all(seconds is not None for pair in told["steps"].values() for seconds in pair)
    same = call("diff", "one", "-", *log, "--exit-code")
    assert same.code == 1
    none = call("diff", "one", "one", *log, "--exit-code")
    assert (none.code, none.out) == (0, "")
    assert none.err == "vects 'one' and 'one' do not differ, except in time\n"


def test_diff_compares_runs_of_other_steps(call: Call) -> None:
    log = ("--log", "runs.db")
    call("run", "pipeline.py", "etl", "day=good", "--id", "whole", *log, "-q")
    call("run", "pipeline.py", "etl", "day=good", "--until", "extract", "--id", "part", *log, "-q")
    call("run", "pipeline.py:app", "slow", "--until", "sleep", "--timeout", "0", *log, "-q")
    told = call("diff", "whole", "part", *log, "--json").json["differences"]
    assert told == [{"step": "load", "what": "state", "one": "success"}]
    line = call("diff", "part", "whole", *log).out.splitlines()[1]
    assert line.split() == ["load", "state", "-", "success"]
    assert call("diff", "whole", "nothing", *log).code == 3
    flows = call("diff", "whole", "-", *log, "--json").json["differences"][0]
    assert (flows["what"], flows["one"], flows["other"]) == ("flow", "etl", "slow")


# Times of plans that have no run

PLANNED = """
from datetime import date
from oautom import PLANNED, Flow, OAutom, OAutomMode, PythonExecution

app = OAutom(OAutomMode.background, log="plans.db")
daily = Flow("daily", app, params={"day": date})
PythonExecution("load", daily, lambda context: None)
app.plan(daily, cron="0 3 * * *", params={"day": PLANNED})
Flow("other", app)
"""


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Any]:
    space: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(PLANNED, space)
        with space["app"] as app:
            app.run()
            yield app


DAYS = ("--from", "2026-11-10", "--to", "2026-11-12", "--log", "plans.db")
IDS = [f"daily@2026-11-{day}T03:00:00Z" for day in (10, 11, 12)]


def test_backfill_runs_the_times_of_a_plan_that_have_no_run(planned: Any, call: Call) -> None:
    dry = call("backfill", "daily", *DAYS, "--dry-run")
    assert (dry.code, dry.out.split()) == (0, IDS)
    assert dry.err == "3 would be started; nothing was started\n"
    assert planned.vects() == []
    done = call("backfill", "daily", *DAYS, "--parallel", "1")
    assert (done.code, done.out.split()) == (0, IDS)
    assert done.err == "3 are started, or wait for their turn\n"
    assert {planned.vect(each).wait(20) for each in IDS} == {"success"}
    again = call("backfill", "daily", *DAYS, "--json")
    assert (again.code, again.json) == (0, {"vects": [], "request": None})
    assert call("backfill", "daily", *DAYS).err == "each past time there has its run\n"
    for wrong, code, says in (
        (("dayly", *DAYS), 3, "did you mean 'daily'?"),
        (("other", *DAYS), 3, "flow 'other' has no plan"),
        (("daily", *DAYS, "--plan", "dayly"), 3, "did you mean 'daily'?"),
        (("daily", *DAYS, "--parallel", "0"), 2, "parallel must be a positive int"),
        (("daily", "--from", "x", *DAYS[2:]), 2, "from must be a time or a day"),
        (("daily", *DAYS[:1], "2026-11-13", *DAYS[2:]), 2, "to is before from"),
        (("daily", *DAYS[:1], "1990-11-13", *DAYS[2:]), 2, "more than 1000 times"),
    ):
        refused = call("backfill", *wrong)
        assert (refused.code, refused.out) == (code, "")
        assert says in refused.err
    planned.close()
    alone = call("backfill", "daily", *DAYS)
    assert (alone.code, alone.out) == (7, "")
    assert "no engine is at work" in alone.err
    queued = call("backfill", "daily", *DAYS, "--queue")
    assert queued.out.startswith("request ")
    assert queued.out.endswith(" waits for an engine\n")


def test_start_begins_a_part_of_a_flow(planned: Any, call: Call) -> None:
    log = ("--log", "plans.db", "--wait")
    part = call("start", "daily", "day=2026-01-01", "--until", "load", "--id", "part", *log)
    assert (part.code, part.out) == (0, "daily part: success\n")
    only = call("start", "daily", "--only", "load", "--from", "pa", "--id", "only", *log)
    assert (only.code, only.out) == (0, "daily only: success\n")
    assert Client("plans.db").vect("only").params == {"day": "2026-01-01"}
    wrong = call("start", "daily", "--until", "laod", *log)
    assert (wrong.code, wrong.out) == (3, "")
    assert "did you mean 'load'?" in wrong.err


# Who is at work, and how long it takes


def test_top_shows_who_has_workers_and_pools(tmp_path: Path, call: Call) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db", max_workers=3) as app:
        flow, goes_on = Flow("flow", app), threading.Event()
        few = Pool("few", 2)
        PythonExecution("works", flow, lambda: goes_on.wait(60), pool=few)
        PythonExecution("too", flow, lambda: goes_on.wait(60))
        inner = Flow("inner", app)
        ApprovalExecution("ask", inner, "?")
        FlowExecution("child", flow, "inner", pool=few)
        vect = app.start("flow", vect_id="v")
        client = Client(tmp_path / "runs.db")
        until(lambda: len(client.working()) == 3)
        assert [each[:4] + each[5:] for each in client.working()] == [
            ("v", "flow", "works", 1, True, "few", 1),
            ("v", "flow", "too", 1, True, None, 1),
            ("v", "flow", "child", 1, False, "few", 1),
        ]
        done = call("top", "--log", "runs.db")
        first, pool, *rows = done.out.splitlines()
        assert (first, pool) == (
            f"process {os.getpid()}: 2 of 3 workers",
            "pool few: 2 of 2 slots",
        )
        assert [row.split()[:2] for row in rows] == [["v", "works"], ["v", "too"], ["v", "child"]]
        assert call("top", "--log", "runs.db", "--json").json["workers"] == {"taken": 2, "there": 3}
        goes_on.set()
        vect.cancel()
    assert client.working() == []
    alone = call("top", "--log", "runs.db")
    assert (alone.code, alone.out, alone.err) == (0, "", "no engine is at work\n")


def test_watch_tells_how_long_a_run_will_take(tmp_path: Path, call: Call) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        ask = ApprovalExecution("ask", flow, "?")
        ask >> PythonExecution("then", flow, int)
        client = Client(tmp_path / "runs.db")
        first = app.start(flow)
        assert client.time_left(first.id) is None
        for vect in (first, *(app.start(flow, when_full="wait") for _ in range(3))):
            until(lambda vect=vect: vect.steps["ask"].state == "running")  # type: ignore[misc]
            if vect is not first:
                left = client.time_left(vect.id)
                assert left is not None
                assert left.is_rough or left.low <= left.likely <= left.high
            threading.Timer(0.2, vect.approve, ("ask", "Ada")).start()
            done = call("watch", vect.id, "--log", "runs.db")
            assert done.code == 0
            assert (" left\n" in done.err) == (vect is not first)
        assert client.past("flow").runs == 4
        assert client.time_left(first.id) is None


def test_a_live_view_shows_the_time_left() -> None:
    from oautom.cli.live import draw
    from oautom.cli.progress import Progress

    with OAutom(executor="inline") as app:
        flow = Flow("flow", app)
        PythonExecution("a", flow, int) >> PythonExecution("b", flow, int)
        events = app.run(flow).events()
    progress = Progress()
    for event in events[:3]:
        progress.take(event)
    progress.count()
    now = events[0].time + timedelta(seconds=60)
    past = Past(3, {"a": [120.0] * 3, "b": [240.0] * 3})
    assert progress.left(past, now) == "~5 min"
    assert progress.left(Past(0, {}), now) == ""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*draw("flow", progress, now, 80, 24, "~5 min"), sep="\n")
    assert "~5 min left" in console.export_text()
    for event in events[3:]:
        progress.take(event)
    progress.count()
    assert progress.left(past, now) == ""
    console.print(*draw("flow", progress, now, 80, 24, "~5 min"), sep="\n")
    assert "left" not in console.export_text()


# Secrets


SECRETS = """
from oautom import Flow, OAutom, PythonExecution

app = OAutom()
flow = Flow("report", app)
PythonExecution("login", flow, len, [flow.secret("API_KEY")])
"""


def test_check_and_run_name_the_secrets_that_the_environment_does_not_have(
    inside: Inside, tmp_path: Path
) -> None:
    (tmp_path / "pipeline.py").write_text(SECRETS)
    said = inside("check", "pipeline.py")
    missing = "report: ok, 1 step; secrets: API_KEY; not in this environment: API_KEY\n"
    assert said == (0, missing, "")
    said = inside("check", "pipeline.py", "--json", API_KEY="correct horse")
    (told,) = json.loads(said.stdout)
    assert (told["secrets"], told["missing_secrets"]) == (["API_KEY"], [])
    said = inside("run", "pipeline.py", "report")
    assert said.code == 1
    warning = (
        "the environment has no API_KEY: secrets that steps of 'report' ask for where they run"
    )
    assert warning in said.stderr
    said = inside("run", "pipeline.py", "report", API_KEY="correct horse")
    assert (said.code, said.stderr) == (0, "")
