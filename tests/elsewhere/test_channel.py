"""The channel to the workers of an executor: what comes on it, who may use it, and who is gone."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution
from oautom.workers.base import NotBegunError, WorkLostError
from oautom.workers.channel import Channel, left_at_work
from oautom.workers.line import BEGIN, FRAME, GO, HELLO, LETTER, SOCKET, Call, Door, Frames
from tests.elsewhere import work
from tests.processes.conftest import Marked, Program, marked, program, until

__all__ = ["marked", "program"]  # fixtures


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test alone; its path is short."""
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    return Path(folder)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def app(pool: Executor, folder: Path) -> Iterator[OAutom]:
    with OAutom(OAutomMode.background, executor=pool, max_workers=4) as app:
        yield app


# One channel by itself, with workers of the test's own in this very process


class Parcel:
    """What a job is in a worker: it sends letters, and is told of its cancel."""

    def __init__(self, letters: int) -> None:
        self.letters = letters
        self.cancels = 0
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, send: Callable[[bytes], None] | None = None) -> str:
        self.begun.set()
        for letter in range(self.letters):
            assert send is not None
            send(b"%d" % letter)
        assert self.go.wait(10)
        return "done with a line" if send is not None else "done"

    def cancel(self) -> bool:
        self.cancels += 1
        self.go.set()
        return False


class Job:
    """A job of the engine."""

    marks: Mapping[str, str] = {}
    submit: Mapping[str, Any] = {}

    def __init__(self, parcel: Parcel, name: str = "log/flow/vect/step/1/run") -> None:
        self.parcel = parcel
        self.name = name
        self.heard: list[bytes] = []

    def __call__(self) -> object:
        return "here"

    def hear(self, letter: bytes) -> None:
        self.heard.append(letter)

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        return True


class Side:
    """The side of the program."""

    def __init__(self) -> None:
        self.deaf: list[object] = []
        self.lost: list[WorkLostError] = []
        self.channel = Channel(self.deaf.append)

    def sent(self, job: Job) -> tuple[Any, Call]:
        """Return a job as the program has it, and as a worker gets it."""
        sent = self.channel.send(job, job, self.lost.append)
        kind, (_, door, number, name) = sent.__reduce__()
        return sent, kind(job.parcel, door, number, name)


@pytest.fixture
def side(folder: Path) -> Iterator[Side]:
    program = Side()
    yield program
    program.channel.close()
    assert os.listdir(folder) == []
    os.rmdir(folder)


def in_thread(call: Callable[[], object]) -> Future[Any]:
    """Do a call as a worker would, while the test goes on."""
    future: Future[Any] = Future()

    def do() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return future


def test_all_letters_have_come_when_the_answer_does(side: Side) -> None:
    job = Job(Parcel(3000))
    job.parcel.go.set()
    _, call = side.sent(job)
    assert call() == "done with a line"
    assert job.heard == [b"%d" % number for number in range(3000)]


def test_only_its_user_may_enter_the_folder(side: Side, folder: Path) -> None:
    side.sent(Job(Parcel(0)))
    (made,) = folder.iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_nothing_is_made_for_a_job_that_stays_in_the_program(side: Side, folder: Path) -> None:
    before, job = threading.active_count(), Job(Parcel(0))
    sent = side.channel.send(job, job, side.lost.append)
    assert sent() == "here"
    assert list(folder.iterdir()) == []
    assert threading.active_count() == before


def test_an_app_on_threads_makes_nothing(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool, OAutom(executor=pool) as app:
        flow = Flow("flow", app)
        PythonExecution("a", flow, os.listdir, (str(folder),))
        assert app.run(flow).result("a") == []


def test_a_job_begins_once_whatever_its_executor_does(side: Side) -> None:
    job = Job(Parcel(0))
    job.parcel.go.set()
    _, call = side.sent(job)
    call()
    with pytest.raises(WorkLostError, match="the executor has begun it before"):
        call()


def test_a_job_that_was_cancelled_does_not_begin(side: Side) -> None:
    job = Job(Parcel(0))
    sent, call = side.sent(job)
    assert not sent.cancel()  # nobody knows yet whether it has begun
    with pytest.raises(NotBegunError, match="cancelled before it began"):
        call()
    assert not job.parcel.begun.is_set()


def test_a_job_that_is_over_does_not_begin(side: Side) -> None:
    sent, call = side.sent(Job(Parcel(0)))
    sent.end()
    with pytest.raises(NotBegunError, match="cancelled before it began"):
        call()


def test_a_cancel_reaches_the_job_and_whether_it_listens_comes_back(side: Side) -> None:
    job = Job(Parcel(0))
    sent, call = side.sent(job)
    answer = in_thread(call)
    job.parcel.begun.wait(10)
    assert sent.cancel()
    assert answer.result(10) == "done with a line"
    until(lambda: side.deaf == [job])
    assert job.parcel.cancels == 1


def test_the_end_of_the_program_cancels_what_is_at_work(side: Side) -> None:
    job = Job(Parcel(0))
    _, call = side.sent(job)
    answer = in_thread(call)
    job.parcel.begun.wait(10)
    side.channel.close()
    assert answer.result(10) == "done with a line"


def test_nothing_begins_when_the_program_has_closed(side: Side) -> None:
    _, call = side.sent(Job(Parcel(0)))
    side.channel.close()
    with pytest.raises(WorkLostError, match="has ended"):
        call()


@pytest.mark.parametrize("there", ["another machine", "another folder", "no folder"])
def test_where_the_program_cannot_be_seen_the_work_goes_on_without(side: Side, there: str) -> None:
    job = Job(Parcel(0))
    job.parcel.go.set()
    sent = side.channel.send(job, job, side.lost.append)
    _, (_, door, number, name) = sent.__reduce__()
    machine, device, inode = door.place
    elsewhere = {
        "another machine": door._replace(place=("other", device, inode)),
        "another folder": door._replace(place=(machine, device, inode + 1)),
        "no folder": door._replace(folder=f"/nowhere{door.folder}"),
    }
    assert Call(job.parcel, elsewhere[there], number, name)() == "done"


def test_a_program_that_can_open_no_channel_gets_its_work_done(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", None)

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise OSError("no space is left")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    job = Job(Parcel(0))
    job.parcel.go.set()
    _, call = side.sent(job)
    assert call() == "done"


class Raw:
    """A worker that says what it likes."""

    def __init__(self, door: Door) -> None:
        self.end = socket.socket(socket.AF_UNIX)
        self.end.settimeout(10)
        self.end.connect(os.path.join(door.folder, SOCKET))
        self.frames = Frames()

    def say(self, what: bytes, number: int = 0, content: bytes = b"") -> None:
        self.end.sendall(FRAME.pack(what, number, len(content)) + content)

    def answer(self) -> bytes:
        """Return the kind of the next message; empty at the end."""
        while content := self.end.recv(100):
            for what, _, _ in self.frames.of(content):
                return what
        return b""


def door_of(program: Side, job: Job) -> tuple[Any, Door, int]:
    sent = program.channel.send(job, job, program.lost.append)
    _, (_, door, number, _) = sent.__reduce__()
    return sent, door, number


@pytest.mark.parametrize("first", [b"", b"wrong", b"x" * 16])
def test_a_stranger_gets_no_answer_and_is_heard_by_nobody(side: Side, first: bytes) -> None:
    job = Job(Parcel(0))
    _, door, number = door_of(side, job)
    stranger = Raw(door)
    stranger.say(HELLO, 0, first)
    with suppress(OSError):  # it may notice that nobody listens
        stranger.say(BEGIN, number)
        stranger.say(LETTER, number, b"I am in")
        assert stranger.answer() == b""
    stranger.end.close()
    assert job.heard == []
    job.parcel.go.set()
    assert Call(job.parcel, door, number, job.name)() == "done with a line"


@pytest.mark.parametrize("cut", range(1, FRAME.size + 6))
def test_a_worker_that_dies_in_the_middle_of_a_letter_is_lost_and_nobody_else(
    side: Side, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oautom.workers.channel.ANSWER_SECONDS", 0.0)
    job, other = Job(Parcel(0)), Job(Parcel(2))
    _, door, number = door_of(side, job)
    worker = Raw(door)
    worker.say(HELLO, 0, door.secret)
    worker.say(BEGIN, number)
    assert worker.answer() == GO
    worker.say(LETTER, number, b"whole")
    worker.end.sendall((FRAME.pack(LETTER, number, 6) + b"halves")[:cut])
    worker.end.close()
    until(lambda: side.lost)
    (lost,) = side.lost
    assert lost.is_worker
    assert job.heard == [b"whole"]
    other.parcel.go.set()
    _, call = side.sent(other)
    assert call() == "done with a line"
    assert other.heard == [b"0", b"1"]


def test_a_worker_that_reads_nothing_holds_up_nobody(side: Side) -> None:
    job, other = Job(Parcel(0)), Job(Parcel(0))
    sent, door, number = door_of(side, job)
    worker = Raw(door)
    worker.say(HELLO, 0, door.secret)
    worker.say(BEGIN, number)
    until(lambda: sent.line is not None)
    for _ in range(100_000):  # more than a socket keeps
        sent.cancel()
    other.parcel.go.set()
    _, call = side.sent(other)
    assert call() == "done with a line"
    worker.end.close()


def test_each_job_on_a_line_gets_its_own_answers(side: Side) -> None:
    jobs = [Job(Parcel(5), f"log/flow/vect/{number}/1/run") for number in range(30)]
    calls = [in_thread(side.sent(job)[1]) for job in jobs]
    for job in jobs:
        assert job.parcel.begun.wait(10)
    for job in reversed(jobs):
        job.parcel.go.set()
    assert {call.result(10) for call in calls} == {"done with a line"}
    assert all(job.heard == [b"0", b"1", b"2", b"3", b"4"] for job in jobs)


def test_it_travels_by_pickle(side: Side) -> None:
    job = PickledJob()
    sent = side.channel.send(job, job, side.lost.append)
    assert isinstance(pickle.loads(pickle.dumps(sent)), Call)


class PickledJob(Job):
    def __init__(self) -> None:
        super().__init__(Parcel(0))

    def __reduce__(self) -> tuple[object, ...]:
        return str, ("parcel",)


# Real workers


def test_much_text_comes_whole_and_in_order(app: OAutom) -> None:
    flow = Flow("flow", app)
    PythonExecution("a", flow, work.write_much, (5000,))
    vect = app.run(flow)
    assert vect.steps["a"].log_text == "".join(f"line {line}\n" for line in range(5000))


def test_a_function_over_there_that_is_cancelled_ends_by_itself(
    app: OAutom, tmp_path: Path
) -> None:
    flow = Flow("flow", app)
    PythonExecution("a", flow, work.listen, (str(tmp_path / "begun"),))
    vect = app.start(flow)
    until((tmp_path / "begun").exists)
    vect.cancel()
    vect.wait(20)  # it is waited for
    assert vect.events()[-1].name == "step.late_result"
    assert vect.events()[-1].data == {"output": "cancelled"}


def test_a_deaf_function_over_there_is_not_waited_for(app: OAutom, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    flow = Flow("flow", app)
    PythonExecution("a", flow, work.be_deaf, (str(begun), str(go)))
    vect = app.start(flow)
    until(begun.exists)
    vect.cancel()
    vect.wait(20)
    assert begun.read_text() == "begin\n"  # it goes on, and the Vect is over
    assert vect.state == "cancelled"
    vect.retry()  # this waits for it
    assert begun.read_text() == "begin\n"
    go.touch()
    assert vect.wait(20) == "success"
    assert begun.read_text() == "begin\nend\nbegin\nend\n"


def test_two_apps_share_an_executor(pool: Executor, folder: Path) -> None:
    with OAutom(executor=pool) as one, OAutom(executor=pool) as two:
        flows = [Flow("flow", each) for each in (one, two)]
        for flow in flows:
            for number in range(20):
                PythonExecution(f"a {number}", flow, work.write_much, (1,))
        vects = [app.start("flow") for app in (one, two)]
        for vect in vects:
            assert vect.wait(20) == "success"
            assert {step.log_text for step in vect.steps.values()} == {"line 0\n"}
        two.close()
        assert one.run("flow").state == "success"


def test_two_hundred_steps_at_once(pool: Executor, folder: Path) -> None:
    with OAutom(executor=pool, max_workers=200) as app:
        flow = Flow("flow", app)
        for number in range(200):
            PythonExecution(f"a {number}", flow, work.number, (number,))
        vect = app.run(flow)
        assert [step.output for step in vect.steps.values()] == list(range(200))
        assert len(list(folder.iterdir())) == 1


def test_a_step_that_returns_in_a_fork_answers_once(app: OAutom) -> None:
    flow = Flow("flow", app)
    PythonExecution("forks", flow, work.return_in_a_fork)
    PythonExecution("other", flow, work.number, (7,))
    vect = app.run(flow)
    assert vect.result("other") == 7
    assert vect.result("forks") != os.getpid()
    assert app.run(flow).state == "success"


def test_an_executor_that_is_shut_down_under_us_leaves_nothing_behind(folder: Path) -> None:
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with OAutom(OAutomMode.background, executor=pool, max_workers=3) as app:
        flow = Flow("flow", app)
        for number in range(3):
            PythonExecution(f"a {number}", flow, work.write_much, (3,))
        vect = app.start(flow)
        pool.shutdown(wait=True, cancel_futures=True)
    assert vect.state in {"success", "failed", "cancelled"}
    assert list(folder.iterdir()) == []


PROGRAM = f"""
import multiprocessing, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import tempfile
tempfile.tempdir = sys.argv[1] if len(sys.argv) > 1 else "FOLDER"
from concurrent.futures import ProcessPoolExecutor
from oautom import Flow, OAutom, PythonExecution, SqliteEventLog
from tests.elsewhere import work


def flow_of(app):
    flow = Flow("flow", app)
    PythonExecution("deaf", flow, work.be_deaf, ("begun", "go"))
    return flow


if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with OAutom(executor=pool, log=SqliteEventLog("log.db"), max_workers=2) as app:
        flow = flow_of(app)
        vect = (app.recover() or [app.start(flow)])[0]
        print("at work", flush=True)
        vect.wait()
        print("over", flush=True)
"""


def test_what_a_killed_program_has_left_at_work_is_over_before_the_step_runs_again(
    program: Callable[[str], Program], tmp_path: Path, folder: Path, marked: Marked
) -> None:
    source = PROGRAM.replace("FOLDER", str(folder))
    first = program(source)
    begun = tmp_path / "begun"
    until(begun.exists)
    first.signal(signal.SIGKILL)
    first._process.wait(20)
    assert len(list(folder.iterdir())) == 1  # it could remove nothing
    second = program(source)
    second.wait_for_line("at work")
    assert begun.read_text() == "begin\n"
    (tmp_path / "go").touch()
    second.wait_for_line("over")
    second.end()
    marked.kill()  # nobody else ends the worker of the first one
    assert begun.read_text() == "begin\nend\nbegin\nend\n"
    assert list(folder.iterdir()) == []


def test_a_folder_that_a_killed_program_has_left_is_removed_by_the_next(folder: Path) -> None:
    source = (
        f"import os, signal, tempfile; tempfile.tempdir = {str(folder)!r}\n"
        "from oautom.workers.channel import Channel\n"
        "channel = Channel(print)\nchannel.door()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", source], env=env, check=False, timeout=20)
    (left,) = folder.iterdir()
    channel = Channel(bool)
    channel.door()
    assert left not in list(folder.iterdir())
    channel.close()
    assert list(folder.iterdir()) == []
    assert left_at_work("log") == {}
