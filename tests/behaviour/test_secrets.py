"""Secrets: where they come from, and the places where none of them is ever found."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Bash,
    BashExecution,
    Client,
    Context,
    Execution,
    FileExecution,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomError,
    OAutomMode,
    Param,
    PythonExecution,
    RetryPolicy,
    SettingError,
    StepError,
    StepFailedError,
    Vect,
    WaitExecution,
)
from oautom.cli.main import main
from oautom.steps.execution import Used
from oautom.testing import assert_replays, check_history, simulate
from tests.held import until

from . import secret_program
from .conftest import SECONDS, NewApp

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VALUE = "s3cr'et \"Ü\\.*+[value]"
AGAIN = RetryPolicy(max_attempts=3, delay=0, jitter=0)
FORMS = [b"s3cr", b"[value]"]
"""Parts that all forms of the secret have."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("API_KEY", VALUE)
    return VALUE


@pytest.fixture(params=["memory", "file"])
def app(request: pytest.FixtureRequest, tmp_path: Path, executor: Any) -> Iterator[OAutom]:
    """An app with each executor, and each kind of log."""
    log = None if request.param == "memory" else tmp_path / "runs.db"
    with OAutom(log=log, executor=executor) as app:
        yield app


def error_of(app: OAutom, step: Any, **options: Any) -> str:
    """Return the error of a step that gets the secret."""
    flow = Flow("f", app)
    PythonExecution("a", flow, step, [flow.secret("API_KEY")], **options)
    return str(app.run(flow).steps["a"].error)


def assert_clean(what: str, content: bytes | str) -> None:
    content = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    for form in FORMS:
        at = content.find(form)
        assert at < 0, (what, content[max(0, at - 200) : at + 100])


# Nowhere


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_a_secret_that_leaks_in_every_way_is_found_nowhere(
    executor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.db"
    program = [sys.executable, str(HERE / "secret_program.py"), str(path), executor]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(program, env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert_clean("stdout", done.stdout)
    assert_clean("stderr", done.stderr)
    assert done.stdout.count(b"***") > 10
    assert b"with {'key': '***'}" in done.stderr
    assert path.with_name("runs.db-wal").stat().st_size > 0
    for file in tmp_path.iterdir():
        assert_clean(file.name, file.read_bytes())
    for verb in (
        ["show", "v", "--json"],
        ["show", "v"],
        ["why", "v"],
        ["logs", "v", "--json"],
        ["events", "--json"],
        ["events"],
        ["verify"],
        ["ls", "--json"],
        ["diff", "v", "v", "--json"],
        ["export", "--to", "html", str(tmp_path / "runs.html")],
        ["export", "--to", "jsonl", str(tmp_path / "runs.jsonl")],
    ):
        with pytest.raises(SystemExit):
            main([*verb, "--log", str(path)])
        said = capsys.readouterr()
        assert len(said.out + said.err) > 20, verb
        assert_clean(" ".join(verb), said.out + said.err)
    for file in tmp_path.iterdir():
        assert_clean(file.name, file.read_bytes())
    assert "***" in (tmp_path / "runs.html").read_text()
    assert_history(path)


def assert_history(path: Path) -> None:
    """What the steps came to, in words, and that the log is sound."""
    with OAutom(log=path) as app:
        secret_program.declare(app)
        vect = app.vect("v")
        check_history(app.log.read())
        assert "***" in vect.steps["prints"].log_text
        for name in ("returns", "returns_a_key", "text", "text there", "map[0]", "branch"):
            error = vect.steps[name].error
            assert error is not None, name
            assert error.startswith("its output contains secret('API_KEY'), and is not kept"), name
            assert len(vect.steps[name].attempts) == 1, name  # a retry does not help
        for name in ("with_details", "with_a_key_of_details"):
            assert "its details contain secret('API_KEY')" in str(vect.steps[name].error)
            assert len(vect.steps[name].attempts) == 2, name
        assert vect.steps["skips"].error == "since ***"
        assert vect.steps["raises"].error == "RuntimeError: ***"
        assert vect.steps["fails"].error == "the command exited with code 3: ***"
        assert vect.result("prints") == len(VALUE)
        for name, step in vect.steps.items():
            if step.state == "failed":
                with pytest.raises(StepFailedError) as caught:
                    vect.result(name)
                assert_clean(name, repr(caught.value) + repr(vars(caught.value)))
                assert caught.value.__cause__ is None


def test_nothing_that_an_app_keeps_in_memory_has_it(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with OAutom(executor="threads") as app:
        vect = app.run(secret_program.declare(app))
        told = [repr(vect.status()), repr(vect.events()), *map(vect.explain, vect.steps)]
        for step in vect.steps.values():
            told += [repr(step.attempts), repr(step.output), repr(step.error), step.log_text]
        for record in caplog.records:
            told += [repr(record.__dict__), record.getMessage()]
    told += capsys.readouterr()
    for each in [*told, caplog.text]:
        assert_clean("memory", each)


def test_a_live_view_of_another_process_shows_none(tmp_path: Path) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        flow = Flow("f", app)
        go = threading.Event()

        def step(key: str) -> None:
            print("now", key, "and", key[:5], end="")
            go.wait(SECONDS)
            print(key[5:], "over")

        PythonExecution("a", flow, step, [flow.secret("API_KEY")])
        vect = app.start(flow)
        view = Client(tmp_path / "runs.db").vect(vect.id)
        until(lambda: view.steps["a"].log_text == "now *** and ")  # it waits for nothing else
        go.set()
        vect.wait(SECONDS)
        assert vect.steps["a"].log_text == "now *** and *** over\n"


def test_output_is_not_held_up_by_a_secret(app: OAutom) -> None:
    flow = Flow("f", app)
    seen: list[str] = []

    def step(key: str, context: Context) -> None:
        print("s3", end="")
        seen.append(context.buffer.text())
        print("x", end="")
        seen.append(context.buffer.text())

    PythonExecution("a", flow, step, [flow.secret("API_KEY")])
    assert app.run(flow).steps["a"].log_text == "s3x"
    assert seen == ["", "s3x"]


# Where they come from


def test_it_is_a_text_of_the_environment_where_the_step_runs(app: OAutom) -> None:
    flow = Flow("f", app)

    def step(given: list[Any], *, named: str) -> bool:
        return given == [1, {"deep": (VALUE,)}] and named == VALUE

    async def later(given: str) -> bool:
        return given == VALUE

    key = flow.secret("API_KEY")
    PythonExecution("a", flow, step, [[1, {"deep": (key,)}]], {"named": key})
    PythonExecution("async", flow, later, [key])
    items = PythonExecution("items", flow, lambda: [VALUE[:2]])
    MapExecution("map", flow, lambda item, named: named.startswith(item), items, {"named": key})
    BashExecution("bash", flow, '[ "$K" = "$API_KEY" ] && echo good', env={"K": key})
    each = Bash('echo "$K" >&2; [ "$K" = "$API_KEY" ] && echo "$ITEM"', env={"K": key})
    MapExecution("commands", flow, each, items)
    vect = app.run(flow)
    assert "***\n" in vect.steps["commands[0]"].log_text
    assert vect.result("commands") == [VALUE[:2]]
    assert {name: vect.result(name) for name in ("a", "async", "map", "bash")} == {
        "a": True,
        "async": True,
        "map": [True],
        "bash": "good",
    }


def test_a_decorated_step_takes_it_as_text(new_app: NewApp) -> None:
    flow = Flow("f", new_app())

    @flow.step
    def good(key: str) -> bool:
        return key == VALUE

    @flow.step
    def bad(key: int) -> None: ...

    good(flow.secret("API_KEY"))
    bad(flow.secret("API_KEY"))
    with pytest.raises(FlowError, match=r"takes key: int, but is given secret\('API_KEY'\), which"):
        flow.validate()


def test_a_secret_that_is_absent_fails_its_step_at_once_and_says_so(app: OAutom) -> None:
    flow = Flow("f", app)
    PythonExecution("a", flow, print, [flow.secret("NO_KEY")], retry=AGAIN)
    vect = app.run(flow)
    assert vect.steps["a"].error == (
        "step 'a' of flow 'f' takes secret('NO_KEY'), but the environment of this program has no "
        "variable 'NO_KEY'; set it, or give OAutom(secrets=...) a function that returns it"
    )
    assert vect.steps["a"].attempt == 1


@pytest.mark.parametrize("value", ["", "     ", "short", "  five5  "])
def test_a_short_secret_is_refused(new_app: NewApp, value: str) -> None:
    app = new_app(secrets=lambda name: value)
    assert "fewer than 6 characters, spaces around it not counted" in error_of(app, print)


@pytest.mark.parametrize("value", [None, b"bytes of it", 123456, ["abcdef"]])
def test_what_is_no_text_is_refused_and_not_shown(new_app: NewApp, value: object) -> None:
    error = error_of(new_app(secrets=lambda name: value), print)
    assert f"has returned no text, but an object of class {type(value).__name__}" in error
    assert "123456" not in error


def test_half_a_character_is_refused(new_app: NewApp) -> None:
    app = new_app(secrets=lambda name: "abcdef\ud800")
    assert "its value is not valid Unicode" in error_of(app, print)


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_callable_gives_it_once_for_each_attempt_on_a_worker(executor: str) -> None:
    calls: list[tuple[str, str]] = []

    def find(name: str) -> str:
        calls.append((name, threading.current_thread().name))
        return f"token number {len(calls)}"

    def step(one: str, other: str) -> str:
        assert one == other
        if one.endswith("1"):
            raise ValueError(one)
        return one[-1]

    with OAutom(executor=executor, secrets=find) as app:
        flow = Flow("f", app)
        key = flow.secret("API_KEY")
        PythonExecution("a", flow, step, [key, key], retry=AGAIN)
        assert app.run(flow).result("a") == "2"
        assert [name for name, _ in calls] == ["API_KEY", "API_KEY"]
        where = "oautom-worker" if executor == "threads" else "MainThread"
        assert all(thread.startswith(where) for _, thread in calls)


def test_a_callable_that_raises_fails_its_step_as_the_retry_policy_says(new_app: NewApp) -> None:
    calls: list[str] = []

    def find(name: str) -> str:
        calls.append(name)
        raise ConnectionError("no vault")

    app = new_app(secrets=find)
    error = error_of(
        app, print, retry=RetryPolicy(max_attempts=3, delay=0, retry_on=(ConnectionError,))
    )
    assert error == (
        "step 'a' of flow 'f' takes secret('API_KEY'), but secrets('API_KEY') has raised "
        "ConnectionError: no vault"
    )
    assert len(calls) == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_a_callable_that_blocks_is_given_up_at_the_timeout(new_app: NewApp, is_async: bool) -> None:
    go = threading.Event()

    def find(name: str) -> str:
        go.wait(SECONDS)
        return "too late by now"

    async def later(key: str) -> None: ...

    app = new_app(secrets=find, max_workers=1)
    flow = Flow("f", app, on_failure="finish")
    PythonExecution("a", flow, later if is_async else print, [flow.secret("K")], timeout=0.1)
    PythonExecution("b", flow, lambda: "b")
    vect = app.run(flow)
    assert "it took longer than its timeout" in str(vect.steps["a"].error)
    assert vect.result("b") == "b"
    go.set()


def test_a_callable_does_not_block_the_loop_of_async_steps(new_app: NewApp) -> None:
    threads: list[str] = []

    def find(name: str) -> str:
        threads.append(threading.current_thread().name)
        return VALUE

    async def later(key: str) -> bool:
        threads.append(threading.current_thread().name)
        return key == VALUE

    app = new_app(secrets=find)
    flow = Flow("f", app)
    PythonExecution("a", flow, later, [flow.secret("K")])
    assert app.run(flow).result("a") is True
    assert threads[0].startswith("oautom-worker")
    assert not threads[1].startswith("oautom-worker")


@pytest.mark.parametrize("mode", list(OAutomMode))
def test_a_cancel_reaches_a_step_whose_secret_is_fetched(new_app: NewApp, mode: Any) -> None:
    begun, go, ran = threading.Event(), threading.Event(), []

    def find(name: str) -> str:
        begun.set()
        go.wait(SECONDS)
        return VALUE

    async def later(key: str) -> None:
        ran.append(key)

    app = new_app(OAutomMode.background, secrets=find)
    flow = Flow("f", app)
    PythonExecution("a", flow, later, [flow.secret("K")])
    vect = app.start(flow)
    begun.wait(SECONDS)
    vect.cancel()
    assert vect.wait(SECONDS) == "cancelled"
    go.set()
    app.close()
    assert ran == []


@pytest.mark.parametrize(
    ("secrets", "ship", "there", "told"),
    [
        (None, False, True, "from the environment"),
        (None, False, False, "the environment of its worker has no variable 'LATE_KEY'"),
        (None, True, False, "from here"),
        ("callable", False, True, "from the environment"),
        ("callable", False, False, "OAutom(ship_secrets=True)"),
        ("callable", True, True, "from the callable"),
    ],
)
def test_a_value_travels_only_if_the_app_says_so(
    monkeypatch: pytest.MonkeyPatch,
    secrets: str | None,
    ship: bool,
    there: bool,
    told: str,
) -> None:
    find = None if secrets is None else (lambda name: "from the callable")
    if there:
        monkeypatch.setenv("LATE_KEY", "from the environment")
    with OAutom(executor="processes", max_workers=1, secrets=find, ship_secrets=ship) as app:
        first = Flow("first", app)
        PythonExecution("a", first, str)
        app.run(first)  # the worker has its environment from now on
        if not there:
            monkeypatch.setenv("LATE_KEY", "from here")
        flow = Flow("f", app)
        key = flow.secret("LATE_KEY")
        PythonExecution("a", flow, codes, [key])
        BashExecution("bash", flow, "echo ${#K}", env={"K": key}, place="worker")
        vect = app.run(flow)
        if told.startswith("from"):
            assert bytes(vect.result("a")).decode() == told
            assert vect.result("bash") == str(len(told))
        else:
            assert told in str(vect.steps["a"].error)
            assert told in str(vect.steps["bash"].error)


def codes(key: str) -> list[int]:
    return list(key.encode())


def test_a_step_that_stays_here_has_its_secret_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with OAutom(executor="processes", max_workers=1, secrets=lambda name: VALUE * 2) as app:
        flow = Flow("f", app)
        BashExecution("a", flow, "echo ${#K}", env={"K": flow.secret("NONE_THERE")})
        assert app.run(flow).result("a") == str(2 * len(VALUE))


def test_a_context_travels_without_its_secrets_unless_the_app_ships_them() -> None:
    sent: list[bytes] = []

    def step(key: str, context: Context) -> None:
        sent.append(pickle.dumps(context))

    for ship in (False, True):
        with OAutom(ship_secrets=ship) as app:
            flow = Flow("f", app)
            PythonExecution("a", flow, step, [flow.secret("API_KEY")])
            assert app.run(flow).state == "success"
    assert [VALUE.encode() in each for each in sent] == [False, True]


# What it is not


def test_a_secret_is_refused_where_its_value_would_be_stored(new_app: NewApp) -> None:
    app = new_app()
    flow = Flow("f", app, params={"day": str, "any": Param(Any, None)})
    other = Flow("other", app, params={"day": str})
    key: Any = flow.secret("API_KEY")

    class Own(Execution):
        def __init__(self, name: str, flow: Flow) -> None:
            super().__init__(name, flow)
            self.follow([Used(("key",), key)])

        def run(self, context: Context) -> None: ...

    stored = {
        "params of a child": lambda name: FlowExecution(name, flow, other, params={"day": [key]}),
        "prompt": lambda name: ApprovalExecution(name, flow, key),
        "until": lambda name: WaitExecution(name, flow, until=key),
        "path": lambda name: FileExecution(name, flow, key),
        "cwd": lambda name: BashExecution(name, flow, "true", cwd=key),
        "command": lambda name: BashExecution(name, flow, key),
        "over": lambda name: MapExecution(name, flow, print, key),
        "submit": lambda name: PythonExecution(name, flow, print, submit={"a": [{"b": key}]}),
        "own": lambda name: Own(name, flow),
        "name": lambda name: PythonExecution(key, flow, print),
        "foreign": lambda name: PythonExecution(name, other, print, [key]),
        "description": lambda name: Flow("g", app, description=key),
        "start": lambda name: app.start(flow, {"day": key}),
        "start of any": lambda name: app.start(flow, {"day": "x", "any": [key]}),
        "id": lambda name: app.start(flow, {"day": "x"}, vect_id=key),
        "plan": lambda name: app.plan(flow, hours=1, params={"day": key}),
        "default": lambda name: Flow("h", app, params={"day": Param(str, key)}),
        "part": lambda name: key["a"],
        "text": lambda name: f"{key}",
        "sum": lambda name: key + "a",
    }
    for what, make in stored.items():
        with pytest.raises(OAutomError) as caught:
            make(what)
        assert "secret" in str(caught.value), what
        assert_clean(what, str(caught.value))


@pytest.mark.parametrize("name", [5, "", " ", "A=B", "A\0", "A\nB"])
def test_a_name_that_no_variable_can_have_is_refused(new_app: NewApp, name: Any) -> None:
    with pytest.raises(FlowError, match="flow 'f': secret name must"):
        Flow("f", new_app()).secret(name)


def test_what_gives_no_secrets_is_refused() -> None:
    async def find(name: str) -> str:
        return name

    for wrong in ("env", find):
        with pytest.raises(SettingError, match="secrets must be a plain function"):
            OAutom(secrets=wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="ship_secrets must be True or False"):
        OAutom(ship_secrets=1)  # type: ignore[arg-type]


def test_the_log_has_the_names_of_secrets_and_a_changed_name_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"

    def declare(app: OAutom, name: str) -> Flow:
        flow = Flow("f", app)
        asked = ApprovalExecution("ask", flow, "go?")
        asked >> PythonExecution("a", flow, len, [flow.secret(name)])
        return flow

    with OAutom(log=path) as app:
        vect = app.start(declare(app, "API_KEY"), vect_id="v")
        assert vect.events()[0].data["options"]["a"] == {"secrets": ["API_KEY"]}
    monkeypatch.setenv("NEW_KEY", VALUE)
    with OAutom(log=path) as app:
        declare(app, "NEW_KEY")
        (vect,) = app.recover()
        vect.approve("ask", by="Ada")
        assert vect.wait(SECONDS) == "success"
        recovered = next(each for each in vect.events() if each.name == "vect.recovered")
        assert recovered.data["options"] == {"a": {"secrets": ["NEW_KEY"]}}
        check_history(app.log.read())


def test_a_simulated_run_and_a_replay_need_no_secret(new_app: NewApp) -> None:
    app = new_app(secrets=lambda name: pytest.fail("it was asked for"), ship_secrets=True)
    flow = Flow("f", app)
    PythonExecution("a", flow, print, [flow.secret("API_KEY")])
    BashExecution("b", flow, "true", env={"K": flow.secret("API_KEY")})
    assert simulate(flow, outcomes={"a": VALUE}).result("a") == VALUE
    other = new_app()
    real = Flow("f", other)
    PythonExecution("a", real, len, [real.secret("API_KEY")])
    BashExecution("b", real, "true", env={"K": real.secret("API_KEY")})
    assert other.run(real).state == "success"
    assert_replays(other.log, flow)


class Broken(Executor):
    """An executor that loses all work."""

    def submit(self, *work: Any, **more: Any) -> Any:
        lost: Future[Any] = Future()
        lost.set_exception(MemoryError())
        return lost


def test_work_that_is_lost_is_tried_again_as_the_retry_policy_says(new_app: NewApp) -> None:
    app = new_app(executor=Broken())
    for retry_on, attempts in (((TimeoutError,), 1), ((MemoryError,), 3)):
        flow = Flow(f"f{attempts}", app)
        policy = RetryPolicy(max_attempts=3, delay=0, retry_on=retry_on)
        PythonExecution("a", flow, print, [flow.secret("API_KEY")], retry=policy)
        assert app.run(flow).steps["a"].attempt == attempts


# The whole Vect


def test_a_later_step_of_the_vect_that_prints_it_prints_none(app: OAutom, tmp_path: Path) -> None:
    file = tmp_path / "token"
    flow = Flow("f", app)
    writes = PythonExecution("writes", flow, file.write_text, [flow.secret("API_KEY")])
    bash = BashExecution("bash", flow, f"cat {file} >&2")
    python = PythonExecution("python", flow, lambda: print(file.read_text()))
    returns = PythonExecution("returns", flow, file.read_text)
    writes >> [bash, python, returns]
    vect = app.run(flow)
    assert vect.steps["bash"].log_text == "***"
    assert vect.steps["python"].log_text == "***\n"
    assert "its output contains secret('API_KEY')" in str(vect.steps["returns"].error)


def test_a_person_cannot_put_it_into_the_log(new_app: NewApp, tmp_path: Path) -> None:
    app = new_app(OAutomMode.background, log=tmp_path / "runs.db")
    flow = Flow("f", app, max_active_vects=3)
    uses = PythonExecution("uses", flow, len, [flow.secret("API_KEY")])
    uses >> [ApprovalExecution(name, flow, "go?") for name in ("one", "two")]
    vect = app.start(flow)
    until(lambda: vect.steps["two"].state == "running" and vect.steps["one"].state == "running")
    refusal = r"the data of the approval of step 'one' of flow 'f' contain secret\('API_KEY'\)"
    with pytest.raises(SettingError, match=refusal):
        vect.approve("one", by="Ada", data={"key": [VALUE]})
    client = Client(tmp_path / "runs.db")
    with pytest.raises(SettingError, match=refusal):
        client.approve(vect.id, "one", by="Ada", data={VALUE: 1})
    vect.approve("one", by=f"Ada {VALUE}")
    vect.reject("two", by="Ada", reason=f"not {VALUE}")
    assert vect.wait(SECONDS) == "failed"
    assert vect.steps["two"].error == "rejected by Ada: not ***"
    other = app.start(flow)
    until(lambda: other.steps["two"].state == "running")
    other.cancel(f"since {VALUE}")
    other.wait(SECONDS)
    for each in [*vect.events(), *other.events()]:
        assert_clean(each.name, repr(each))


def test_a_compensation_gets_it_and_keeps_it_too(app: OAutom) -> None:
    flow = Flow("f", app)
    made = BashExecution(
        "made", flow, "true", env={"K": flow.secret("API_KEY")}, compensate='echo "$K"; exit 5'
    )
    made >> BashExecution("bad", flow, "false")
    vect = app.run(flow)
    failed = next(each for each in vect.events() if each.name == "step.compensation_failed")
    assert failed.data["error"] == "the command exited with code 5: ***"


# Hostile secrets


HOSTILE = {
    "regex": "a.*(b|c)+[^d]$\\1{2}",
    "lines": "-----BEGIN KEY-----\nMIIBVgIBADAN\nsh\nqhkiG9w0BAQE==\n-----END KEY-----\n",
    "windows lines": "first line\r\nsecond line\r\n",
    "nul": "before\0after",
    "controls": "tab\there\x1b[31mred\x7f",
    "json": '{"user": "ada", "password": "x\\"y"}',
    "not ascii": "пароль-日本語-🔑",
    "spaces": "  with spaces around  ",
    "a name of a step": "prints",
    "one letter": "aaaaaaaaaaaa",
    "large": "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(350_000)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_secret_is_kept_too(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = HOSTILE[what]

    def prints(key: str, context: Context) -> int:
        print(key)
        print(repr(key))
        context.log.info(key)
        for each in key.splitlines():
            print(">", each)
        for at in range(0, min(len(key), 400), 3):
            print(key[at : at + 3], end="", flush=True)
        print(key[-(-min(len(key), 400) // 3) * 3 :])
        return len(key)

    def raises(key: str) -> None:
        raise ValueError("x" * 70_000 + key, key) from KeyError(key)

    with OAutom(secrets=lambda name: value) as app:
        flow = Flow("f", app)
        for step in (prints, raises):
            PythonExecution(step.__name__, flow, step, [flow.secret("K")])
        if len(value) < 100_000:
            PythonExecution("returns", flow, lambda key: [{key: 1}], [flow.secret("K")])
        if "\0" not in value and len(value) < 100_000:
            BashExecution("bash", flow, 'set -x; echo "$K" >&2', env={"K": flow.secret("K")})
        vect = app.run(flow)
        assert vect.result("prints") == len(value)
        assert "returns" not in vect.steps or "secret('K')" in str(vect.steps["returns"].error)
        texts = [repr(vect.events()), *(step.log_text for step in vect.steps.values())]
        parts = [value, *(line for line in value.splitlines() if len(line.strip()) > 5)]
        for text in texts[1:] if what == "a name of a step" else texts:
            for part in parts:
                assert part.strip() not in text
                assert part[:2000] not in text


def test_secrets_that_overlap_are_both_masked(new_app: NewApp) -> None:
    values = {"A": "abcdefgh", "B": "fghijklm", "C": "abcdef"}
    app = new_app(secrets=values.__getitem__)
    flow = Flow("f", app)

    def step(*keys: str) -> None:
        print("<abcdefghijklm> <abcdefg> <fghijklm> <abcdefgabcdefgh>")

    PythonExecution("a", flow, step, [flow.secret(name) for name in values])
    assert app.run(flow).steps["a"].log_text == "<***> <***g> <***> <***g***>\n"


def test_what_is_cut_short_in_an_error_of_ours_shows_no_part_of_it(new_app: NewApp) -> None:
    value = "secret-" + "0123456789" * 30
    app = new_app(secrets=lambda name: value)
    flow = Flow("f", app)

    def asks(key: str, context: Context) -> Any:
        return context.inputs[key]

    def progress(key: Any, context: Context) -> None:
        context.progress(key)

    class Shown:
        def __init__(self, key: str) -> None:
            self.told = [key]  # no attribute of the output, as `repr` is

        def __repr__(self) -> str:
            return f"Shown({self.told[0]})"

        def __reduce__(self) -> Any:
            raise TypeError(self)

    def deep(key: str) -> Any:
        raise StepError("it", shown=Shown(key))

    for step in (asks, progress, deep):
        PythonExecution(step.__name__, flow, step, [flow.secret("K")])
    BashExecution("nul", flow, "true", env={"K": flow.secret("K")})
    vect = app.run(flow)
    for step in vect.steps.values():
        assert "secret-0" not in str(step.error), step.name
    assert "secret-0" not in repr(vect.events())


def test_many_values_of_one_secret_cost_no_more_than_the_newest(new_app: NewApp) -> None:
    tokens = iter(range(10**6, 2 * 10**6))
    app = new_app(secrets=lambda name: f"token {next(tokens)}", executor="inline")
    flow = Flow("f", app)

    def step(item: int, key: str) -> str:
        print(item, key)
        return "good"

    items = PythonExecution("items", flow, lambda: list(range(500)))
    MapExecution("map", flow, step, items, {"key": flow.secret("K")})
    vect = app.run(flow)
    assert vect.result("map") == ["good"] * 500
    assert vect.steps["map[499]"].log_text == "499 ***\n"


def test_without_capture_only_what_oautom_writes_is_masked(
    new_app: NewApp, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = Flow("f", new_app(), capture=False)

    def step(key: str, context: Context) -> None:
        print("printed", key)
        context.log.info("logged %s", key)

    PythonExecution("a", flow, step, [flow.secret("API_KEY")])
    assert flow.app.run(flow).steps["a"].log_text == "INFO logged ***\n"  # type: ignore[attr-defined]
    assert VALUE in capsys.readouterr().out


def test_a_record_that_cannot_be_formatted_shows_nothing(
    new_app: NewApp, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("f", new_app())

    def step(key: str, context: Context) -> None:
        context.log.warning("%d", key)

    PythonExecution("a", flow, step, [flow.secret("API_KEY")])
    vect: Vect = flow.app.run(flow)  # type: ignore[attr-defined]
    assert "cannot be formatted" in vect.steps["a"].log_text
    assert_clean("caplog", caplog.text)
