"""What steps write: by attempts, taken from prints and `logging`, in memory and in a file."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    Attempt,
    BashExecution,
    Context,
    Execution,
    Flow,
    FlowError,
    MapExecution,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    RetryPolicy,
    Skip,
    SqliteEventLog,
    Vect,
    WaitExecution,
)
from oautom.testing import SimulatedClock
from tests.held import until

from .conftest import SECONDS, NewApp, Program

AGAIN = RetryPolicy(max_attempts=3, delay=0, jitter=0)


@pytest.fixture(params=["memory", "file"])
def app(request: pytest.FixtureRequest, tmp_path: Path, executor: Any) -> Iterator[OAutom]:
    """An app with each executor, and each kind of log."""
    log = None if request.param == "memory" else tmp_path / "runs.db"
    with OAutom(log=log, executor=executor) as app:
        yield app


def texts(vect: Vect, step: str) -> list[tuple[int, str, str]]:
    """Return number, state and text of each attempt of a step."""
    return [(each.number, each.state, each.log_text) for each in vect.steps[step].attempts]


# Attempts


def test_each_attempt_has_a_text_of_its_own(app: OAutom) -> None:
    flow = Flow("f", app)

    def step(context: Context) -> None:
        print("attempt", context.attempt)
        if context.attempt < 3:
            raise ValueError(f"no {context.attempt}")

    PythonExecution("a", flow, step, retry=AGAIN)
    PythonExecution("silent", flow, str)
    vect = app.run(flow)

    assert texts(vect, "a") == [
        (1, "failed", "attempt 1\n"),
        (2, "failed", "attempt 2\n"),
        (3, "success", "attempt 3\n"),
    ]
    assert vect.steps["a"].log_text == "attempt 3\n"
    assert texts(vect, "silent") == [(1, "success", "")]
    first, _, last = vect.steps["a"].attempts
    assert isinstance(first, Attempt)
    assert [first.error, last.error] == ["ValueError: no 1", None]
    assert first.start_date is not None
    assert first.end_date is not None
    assert vect.steps["a"].start_date == last.start_date >= first.end_date >= first.start_date
    assert repr(first) == "<Attempt 1: failed>"


def test_an_error_quotes_only_what_its_own_attempt_has_written(app: OAutom) -> None:
    flow = Flow("f", app)
    command = '[ "$OAUTOM_ATTEMPT" = 1 ] && echo loud; exit 3'
    BashExecution("a", flow, command, retry=RetryPolicy(max_attempts=2, delay=0), strict=False)

    one, two = app.run(flow).steps["a"].attempts

    assert one.error == "the command exited with code 3: loud"
    assert two.error == "the command exited with code 3"
    assert (one.log_text, two.log_text) == ("loud\n", "")


def test_what_undoes_a_step_has_attempts_and_texts_of_its_own(app: OAutom) -> None:
    flow = Flow("f", app)

    def undo(context: Context) -> None:
        print("undo", context.attempt)
        if context.attempt == 1:
            raise ValueError("not yet")

    PythonExecution("a", flow, print, ("done",), compensate=undo, retry=AGAIN) >> PythonExecution(
        "bad", flow, int, ("no number",)
    )
    vect = app.run(flow)

    assert texts(vect, "a") == [
        (1, "success", "done\n"),
        (-1, "failed", "undo 1\n"),
        (-2, "success", "undo 2\n"),
    ]
    assert vect.steps["a"].log_text == "undo 2\n"
    assert vect.steps["a"].attempt == 1


def test_each_instance_of_a_map_has_its_own(app: OAutom) -> None:
    flow = Flow("f", app)
    MapExecution("m", flow, lambda n: print("item", n), PythonExecution("l", flow, list, [[7, 8]]))
    vect = app.run(flow)

    assert [texts(vect, name) for name in ("m[0]", "m[1]")] == [
        [(1, "success", "item 7\n")],
        [(1, "success", "item 8\n")],
    ]


def test_attempts_that_were_skipped_or_cancelled_or_never_began(mode_app: OAutom) -> None:
    flow, begun = Flow("f", mode_app), threading.Event()

    def skip() -> None:
        print("looking")
        raise Skip("nothing to do")

    def listen(context: Context) -> None:
        print("listening")
        begun.set()
        context.cancelled.wait(SECONDS)
        print("told")

    skipped = PythonExecution("skipped", flow, skip)
    PythonExecution("after", flow, str).depends(skipped)
    PythonExecution("listens", flow, listen)
    WaitExecution("waits", flow, seconds=1000)
    vect = mode_app.start(flow)
    waiter = threading.Thread(target=vect.wait)
    waiter.start()
    assert begun.wait(SECONDS)
    until(lambda: vect.steps["after"].state == "skipped")
    vect.cancel("enough")
    waiter.join(SECONDS)
    vect.wait(SECONDS)

    assert texts(vect, "skipped") == [(1, "skipped", "looking\n")]
    assert vect.steps["skipped"].attempts[0].error == "nothing to do"
    assert texts(vect, "after") == []
    assert texts(vect, "listens") == [(1, "cancelled", "listening\ntold\n")]
    assert vect.steps["listens"].attempts[0].error == "enough"
    assert texts(vect, "waits") == [(1, "cancelled", "")]


def test_an_attempt_that_runs_is_shown_as_it_is(background: OAutom) -> None:
    flow, begun, go = Flow("f", background), threading.Event(), threading.Event()

    def step() -> None:
        print("so far")
        begun.set()
        assert go.wait(SECONDS)

    PythonExecution("a", flow, step)
    vect = background.start(flow)
    assert begun.wait(SECONDS)
    assert texts(vect, "a") == [(1, "running", "so far\n")]
    assert vect.steps["a"].attempts[0].end_date is None
    go.set()
    assert vect.wait(SECONDS) == "success"


def test_after_a_retry_of_the_vect_the_attempts_count_on(app: OAutom) -> None:
    flow, answers = Flow("f", app), iter([ValueError("no"), None])

    def step(context: Context) -> None:
        print(context.attempt)
        if (error := next(answers)) is not None:
            raise error

    PythonExecution("a", flow, step)
    vect = app.run(flow)
    vect.retry()
    vect.wait()

    assert texts(vect, "a") == [(1, "failed", "1\n"), (2, "success", "2\n")]


def test_what_ended_long_ago_is_still_there(tmp_path: Path, new_app: NewApp) -> None:
    for log in (None, tmp_path / "runs.db"):
        app = new_app(log=log, executor="inline")
        flow = Flow("f", app, params={"n": int})
        PythonExecution("a", flow, print, (flow.param("n"),))
        for number in range(40):
            app.run(flow, {"n": number}, vect_id=f"v{number}")
        assert [app.vect(f"v{n}").steps["a"].log_text for n in (0, 39)] == ["0\n", "39\n"]


def test_another_program_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with OAutom(log=path, executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, print, ("grüße",))
        vect = app.run(flow)
    with OAutom(log=path) as app:
        PythonExecution("a", Flow("f", app), print, ("grüße",))
        assert texts(app.vect(vect.id), "a") == [(1, "success", "grüße\n")]


def test_a_log_of_ones_own_keeps_none_and_who_has_the_vect_has_it(new_app: NewApp) -> None:
    class Own:
        def __init__(self) -> None:
            self._log = MemoryEventLog()

        def __getattr__(self, name: str) -> Any:
            if name in ("keep_text", "save_text", "text"):
                raise AttributeError(name)
            return getattr(self._log, name)

    app = new_app(log=Own())
    flow = Flow("f", app)
    PythonExecution("a", flow, print, ("heard",))
    assert texts(app.run(flow), "a") == [(1, "success", "heard\n")]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_it_is_pruned_with_its_vect(kind: str, tmp_path: Path) -> None:
    log = MemoryEventLog() if kind == "memory" else SqliteEventLog(tmp_path / "runs.db")
    with OAutom(log=log, executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, print, ("heard",))
        app.run(flow, vect_id="v")
        key = ("v", "a", 1)
        assert log.text(key) == (0, b"heard\n")
        assert app.prune(older_than=datetime.now(UTC) + timedelta(days=1))
        assert log.text(key) is None
    log.close()


# Prints


def test_what_is_printed_still_goes_where_it_went(
    app: OAutom, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = Flow("f", app)

    def step() -> None:
        print("one", "two", sep=", ")
        print("three", file=sys.stderr)
        sys.stdout.writelines(["four\n", "five\n"])

    PythonExecution("a", flow, step)
    vect = app.run(flow)
    print("mine")

    assert vect.steps["a"].log_text == "one, two\nthree\nfour\nfive\n"
    assert capsys.readouterr() == ("one, two\nfour\nfive\nmine\n", "three\n")


def test_the_streams_are_what_they_were_when_no_step_runs(program: Program) -> None:
    told = program(
        """
        out, err, seen = sys.stdout, sys.stderr, []
        for executor in ("inline", "threads"):
            with OAutom(executor=executor) as app:
                flow = Flow("f", app)
                PythonExecution("a", flow, lambda: seen.append(sys.stdout is not out))
                PythonExecution("b", flow, lambda: 1 / 0)
                app.run(flow)
                print(sys.stdout is out, sys.stderr is err)
        print(seen)
        """
    )
    assert (told.stdout, told.stderr) == ("True True\nTrue True\n[True, True]\n", "")


def test_steps_side_by_side_do_not_mix(new_app: NewApp, capsys: Any) -> None:
    app, steps = new_app(max_workers=8), 8
    flow, together = Flow("f", app), threading.Barrier(steps)

    def step(name: str) -> None:
        together.wait(SECONDS)
        for number in range(200):
            print(f"{name} {number}")

    for number in range(steps):
        PythonExecution(f"s{number}", flow, step, (f"s{number}",))
    vect = app.run(flow)

    for name, shown in vect.steps.items():
        assert shown.log_text == "".join(f"{name} {number}\n" for number in range(200))
    assert len(capsys.readouterr().out.splitlines()) == 200 * steps


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_async_steps_side_by_side_do_not_mix(kind: Any, new_app: NewApp) -> None:
    app = new_app(executor=kind)
    flow = Flow("f", app)

    async def step(name: str) -> None:
        for number in range(20):
            print(f"{name} {number}")
            await asyncio.sleep(0)
        await asyncio.to_thread(print, "from a thread")
        await asyncio.gather(asyncio.create_task(told()), told())

    async def told() -> None:
        print("from a task")

    for number in range(5):
        PythonExecution(f"s{number}", flow, step, (f"s{number}",))
    vect = app.run(flow)

    for name, shown in vect.steps.items():
        lines = [f"{name} {number}\n" for number in range(20)]
        assert shown.log_text == "".join([*lines, "from a thread\n", *["from a task\n"] * 2])


def test_which_threads_of_a_step_are_heard(app: OAutom) -> None:
    flow = Flow("f", app)

    def step() -> None:
        copy = contextvars.copy_context()
        for target, args in ((copy.run, (print, "with a copy")), (print, ("bare",))):
            thread = threading.Thread(target=target, args=args)
            thread.start()
            thread.join()

    PythonExecution("a", flow, step)
    assert app.run(flow).steps["a"].log_text == "with a copy\n"


def test_who_replaces_the_stream_has_what_is_written(app: OAutom, capsys: Any) -> None:
    flow, mine, before = Flow("f", app), io.StringIO(), sys.stdout

    def step() -> None:
        with redirect_stdout(mine):
            print("mine")
        print("of all")

    def replace() -> None:
        sys.stdout = mine

    PythonExecution("a", flow, step) >> PythonExecution("b", flow, replace)
    vect = app.run(flow)

    assert mine.getvalue() == "mine\n"
    assert vect.steps["a"].log_text == "of all\n"
    assert sys.stdout is mine
    sys.stdout = before
    assert capsys.readouterr().out == "of all\n"


def test_a_stream_that_a_step_has_wrapped_is_taken_once(new_app: NewApp, capsys: Any) -> None:
    class Wrapper:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, text: str) -> None:
            self._stream.write(text.upper())

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    def wrap() -> None:
        sys.stdout = Wrapper(sys.stdout)  # type: ignore[assignment]

    def both() -> None:
        sys.stderr = sys.stdout

    def told() -> None:
        print("out")
        print("err", file=sys.stderr)

    streams, app = (sys.stdout, sys.stderr), new_app(executor="inline")
    flow = Flow("f", app)
    steps: list[Any] = [told, wrap, told, wrap, told, both, told]
    made = [PythonExecution(f"s{i}", flow, step) for i, step in enumerate(steps)]
    for upstream, step in pairwise(made):
        upstream >> step
    vect = app.run(flow)
    sys.stdout, sys.stderr = streams

    assert [vect.steps[f"s{i}"].log_text for i in range(7)] == [
        *("out\nerr\n", "", "out\nerr\n", "", "out\nerr\n", "", "out\nerr\n")
    ]
    assert capsys.readouterr() == ("out\nOUT\nOUT\nOUT\nERR\n", "err\nerr\nerr\n")


def test_a_program_without_streams_goes_on(app: OAutom, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", object())
    flow = Flow("f", app)
    PythonExecution("a", flow, print, ("nowhere",))

    assert app.run(flow).state == "success"
    assert sys.stdout is None


def test_what_the_stream_refuses_fails_the_step_as_it_always_did(app: OAutom) -> None:
    flow = Flow("f", app)
    PythonExecution("a", flow, lambda: sys.stdout.write(b"bytes"))  # type: ignore[arg-type]
    vect = app.run(flow)

    assert "TypeError" in (vect.steps["a"].error or "")
    assert vect.steps["a"].log_text == ""


def test_streams_are_what_they_were_in_all_else(app: OAutom, capsys: Any) -> None:
    flow = Flow("f", app)

    def step() -> None:
        assert sys.stdout.encoding == "utf-8".upper() or sys.stdout.encoding
        assert not sys.stdout.isatty()
        sys.stdout.flush()
        with pytest.raises(AttributeError):
            sys.stdout.no_such_thing  # type: ignore[attr-defined] # noqa: B018

    PythonExecution("a", flow, step)
    assert app.run(flow).state == "success"


@pytest.mark.parametrize(
    ("of_flow", "of_step", "is_taken"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_a_flow_and_a_step_say_whether_they_are_captured(
    app: OAutom, of_flow: bool, of_step: bool | None, is_taken: bool
) -> None:
    flow = Flow("f", app, capture=of_flow)

    def step(context: Context) -> None:
        print("printed")
        logging.getLogger("lib").warning("logged")
        context.log.info("told")

    PythonExecution("a", flow, step, capture=of_step)
    BashExecution("b", flow, "echo said", capture=of_step)
    vect = app.run(flow)

    taken = "printed\nWARNING lib: logged\n" if is_taken else ""
    assert vect.steps["a"].log_text == f"{taken}INFO told\n"
    assert vect.steps["b"].log_text == "said\n"
    assert "options" not in vect.events()[0].data


def test_what_is_no_answer_to_capture_is_refused(new_app: NewApp) -> None:
    app: Any = new_app()
    with pytest.raises(FlowError, match="flow 'f': capture must be True or False, not 'no'"):
        Flow("f", app, capture="no")  # type: ignore[arg-type]
    flow = Flow("g", app)
    with pytest.raises(FlowError, match=r"'a'.* capture must be True or False, not 'no'"):
        PythonExecution("a", flow, str, capture="no")  # type: ignore[arg-type]


def test_a_step_that_runs_another_app_keeps_its_own(new_app: NewApp) -> None:
    outer, inner = new_app(executor="inline"), new_app(executor="inline")
    inside = Flow("inside", inner)
    PythonExecution("b", inside, print, ("in b",))

    def step() -> str:
        print("in a")
        return inner.run(inside).steps["b"].log_text

    flow = Flow("f", outer)
    PythonExecution("a", flow, step)
    vect = outer.run(flow)

    assert (vect.steps["a"].log_text, vect.result("a")) == ("in a\n", "in b\n")


# Records of logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.output")
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.filters.clear()


def test_records_that_their_loggers_let_through_are_taken(
    app: OAutom, logger: logging.Logger
) -> None:
    flow = Flow("f", app)
    logger.addFilter(lambda record: "secret" not in record.getMessage())

    def step() -> None:
        logger.info("not by default")
        logger.warning("careful, %d", 1)
        logger.setLevel(logging.DEBUG)
        logger.debug("now")
        logger.error("secret")
        logger.propagate = False
        logger.info("alone")
        try:
            int("x")
        except ValueError:
            logger.exception("it broke")
        logger.propagate = True
        logger.setLevel(logging.NOTSET)

    PythonExecution("a", flow, step)
    text = app.run(flow).steps["a"].log_text

    head, _, tail = text.partition("Traceback")
    name = "tests.output"
    assert head == (
        f"WARNING {name}: careful, 1\nDEBUG {name}: now\nINFO {name}: alone\n"
        f"ERROR {name}: it broke\n"
    )
    assert tail.endswith("ValueError: invalid literal for int() with base 10: 'x'\n")


def test_what_handlers_write_is_not_taken_once_more(
    app: OAutom, logger: logging.Logger, capsys: Any
) -> None:
    flow = Flow("f", app)

    def step(context: Context) -> None:
        logger.addHandler(logging.StreamHandler())  # to the stream that stands there now
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.warning("once")
        context.log.warning("told")
        logging.getLogger("oautom.flow.f").warning("by name")
        logger.handlers.clear()

    PythonExecution("a", flow, step)
    text = app.run(flow).steps["a"].log_text

    assert text == ("WARNING tests.output: once\nWARNING told\nWARNING oautom.flow.f: by name\n")
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("once")) == ("once\n", 1)


def test_a_wrong_call_of_a_logger_fails_nothing(app: OAutom, logger: logging.Logger) -> None:
    flow = Flow("f", app)

    def step() -> None:
        before, logging.raiseExceptions = logging.raiseExceptions, False
        logger.propagate = False
        logger.warning("%d rows", "many")
        logging.raiseExceptions = before

    PythonExecution("a", flow, step)
    assert app.run(flow).state == "success"


def test_the_log_of_a_step_takes_every_level_and_goes_to_one_logger_of_the_flow(
    app: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("f", app)
    known = set(logging.Logger.manager.loggerDict)

    def step(context: Context) -> None:
        context.log.debug("fine")
        logging.disable(logging.CRITICAL)
        context.log.info("disabled")
        logging.disable(logging.NOTSET)

    for number in range(30):
        PythonExecution(f"s{number}", flow, step if not number else str)
    with caplog.at_level(logging.DEBUG, logger="oautom.flow.f"):
        vect = app.run(flow)

    assert vect.steps["s0"].log_text == "DEBUG fine\nINFO disabled\n"
    record: Any = next(each for each in caplog.records if each.getMessage() == "fine")
    assert (record.name, record.vect, record.step, record.attempt) == (
        *("oautom.flow.f", vect.id, "s0"),
        1,
    )
    assert set(logging.Logger.manager.loggerDict) - known <= {"oautom.flow", "oautom.flow.f"}


def test_a_polled_step_has_one_text_for_all_its_calls(new_app: NewApp) -> None:
    class Polled(Execution):
        poll_interval = 60.0

        def run(self, context: Context) -> int:
            print("begun")
            return 2

        def check(self, context: Context) -> bool:
            print("asked")
            return context.buffer.text().count("asked") == context.output

    app = new_app(executor="inline", clock=SimulatedClock())
    flow = Flow("f", app)
    Polled("a", flow)
    assert texts(app.run(flow), "a") == [(1, "success", "begun\nasked\nasked\n")]


# Bounds


def test_of_a_long_text_the_newest_is_kept_and_the_first_line_says_how_much_is_missing(
    app: OAutom,
) -> None:
    flow = Flow("f", app)

    def step() -> None:
        for number in range(10_000):
            print(f"line {number:>5}")

    PythonExecution("a", flow, step, log_limit_bytes=22)
    BashExecution("b", flow, "for i in {1..3000}; do echo line $i; done", log_limit_bytes=20)
    vect = app.run(flow)

    missing = 11 * 10_000 - 22
    assert vect.steps["a"].log_text == (
        f"[{missing} bytes are missing here]\nline  9998\nline  9999\n"
    )
    note, _, kept = vect.steps["b"].log_text.partition("\n")
    assert note.endswith(" bytes are missing here]")
    assert kept == "line 2999\nline 3000\n"


def test_bytes_that_are_no_text_and_characters_cut_in_two(app: OAutom) -> None:
    flow = Flow("f", app)
    command = r"printf '\xff\x00\xfe'; printf '\xe2\x82'; sleep 0.05; printf '\xac\xe2'"
    BashExecution("a", flow, command, output="text")
    BashExecution("b", flow, "printf '€€€'", log_limit_bytes=7)
    vect = app.run(flow)

    assert vect.steps["a"].log_text == "\ufffd\x00\ufffd€\ufffd"
    assert vect.steps["b"].log_text == "[2 bytes are missing here]\n€€"
