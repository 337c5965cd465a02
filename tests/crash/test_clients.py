"""Clients beside an engine that is killed: what they were told is true, whenever that happens."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from oautom import (
    Client,
    EngineError,
    NoEngineError,
    SqliteEventLog,
    UnansweredError,
    VectStateError,
    WithdrawnError,
)
from oautom.testing import check_history

from .harness import IS_LONG, few, until

ENGINE = """
import os, signal, sys, threading
from oautom import *
from oautom.events.sqlite import writer

WHEN, FOLDER = sys.argv[1:]

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

claim_all, settle = writer.claim_all, writer.settle

def claim_and_die(*args):
    if os.path.exists("armed"):
        die()
    claim_all(*args)

def settle_and_die(*args):
    if os.path.exists("armed"):
        die()
    settle(*args)

class Log(SqliteEventLog):
    def commit(self):
        has_taken = bool(self._taken)
        events = super().commit()
        if has_taken and os.path.exists("armed"):
            die()
        return events

os.chdir(FOLDER)
if WHEN == "before the claim":
    writer.claim_all = claim_and_die
if WHEN == "before the answer":
    writer.settle = settle_and_die
log = Log("runs.db") if WHEN == "behind the answer" else "runs.db"
app = OAutom(OAutomMode.background, log=log, executor="inline")
flow = Flow("order", app, params={"of": str}, max_active_vects=None)
ApprovalExecution("gate", flow, "?") >> PythonExecution("ship", flow, int)
app.run()
print("ready", flush=True)
threading.Event().wait()
"""


@contextmanager
def engine(folder: Path, when: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run an engine, which dies by itself at some time if a file is there, or is killed."""
    program = subprocess.Popen(
        [sys.executable, "-c", ENGINE, when, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    with program.stdout:
        try:
            assert program.stdout.readline() == "ready\n"
            yield program
        finally:
            program.kill()
            program.wait(60)


ASKS: dict[str, Callable[[Client], object]] = {
    "start": lambda client: client.start("order", {"of": "x"}, vect_id="new"),
    "approve": lambda client: client.approve("old", "gate", by="Ada"),
    "cancel": lambda client: client.cancel("old"),
    "pause": lambda client: client.pause("old"),
}
DONE = {
    "start": "vect.created",
    "approve": "step.succeeded",
    "cancel": "vect.cancelled",
    "pause": "vect.paused",
}


@pytest.mark.parametrize("action", few("start", "approve", more=("cancel", "pause")))
@pytest.mark.parametrize("when", ["before the claim", "before the answer", "behind the answer"])
def test_a_request_is_done_once_or_not_at_all_and_its_client_knows_which(
    tmp_path: Path, when: str, action: str
) -> None:
    client = Client(tmp_path / "runs.db")
    with engine(tmp_path, when) as program:
        client.start("order", {"of": "y"}, vect_id="old")
        (tmp_path / "armed").touch()
        number = None
        if when == "before the claim":
            with pytest.raises(NoEngineError, match="has ended, so nothing was done"):
                ASKS[action](client)
        elif when == "before the answer":
            with pytest.raises(UnansweredError) as unanswered:
                ASKS[action](client)
            number = unanswered.value.number
            assert client.answer(number) is None
        else:
            ASKS[action](client)
        assert program.wait(60) == -signal.SIGKILL
    (tmp_path / "armed").unlink()

    vect = "new" if action == "start" else "old"

    def done() -> int:
        with closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
            first = ("gate", None)
            events = [event for event in log.read(vect=vect) if event.step in first]
            return [event.name for event in events].count(DONE[action])

    assert done() == (when == "behind the answer")
    with engine(tmp_path):
        client.start("order", {"of": "z"})  # so what was asked before was heard
        if number is not None:
            answer = client.answer(number)
            assert answer is not None
            assert (answer.number, answer.refusal) == (number, None)
        assert done() == (when != "before the claim")
    with closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
        assert log.asked() == []
        check_history(log.read())


class Customer:
    """Orders, decides and cancels, and remembers what it was told of each."""

    def __init__(self, path: Path, name: str) -> None:
        self.client = Client(path)
        self.name = name
        self.accepted: set[tuple[str, str]] = set()
        self.undone: set[tuple[str, str]] = set()
        self.open: dict[int, tuple[str, str]] = {}

    def shop(self, seed: str, told: threading.Semaphore) -> None:
        """Ask until the engine has died."""
        chance = random.Random(seed)
        for number in range(10**6):
            vect = f"{seed}-{number}"
            asks: list[tuple[str, Callable[[], object]]] = [
                ("start", lambda vect=vect: self.client.start("order", {"of": "x"}, vect_id=vect)),
                chance.choice(
                    [
                        ("approve", lambda vect=vect: self.client.approve(vect, "gate", self.name)),
                        ("cancel", lambda vect=vect: self.client.cancel(vect)),
                    ]
                ),
            ]
            for action, ask in asks:
                try:
                    ask()
                except (NoEngineError, WithdrawnError):
                    self.undone.add((action, vect))
                    return
                except UnansweredError as error:
                    self.open[error.number] = action, vect
                    return
                self.accepted.add((action, vect))
                told.release()


@pytest.mark.parametrize("seed", range(10 if IS_LONG else 1))
def test_what_clients_were_told_is_true_however_often_the_engine_is_killed(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "runs.db"
    chance = random.Random(seed)
    customers = [Customer(path, f"c{number}") for number in range(4)]
    for life in range(40 if IS_LONG else 3):
        told = threading.Semaphore(0)
        with engine(tmp_path) as program:
            threads = [
                threading.Thread(target=each.shop, args=(f"{each.name}-{life}", told))
                for each in customers
            ]
            for thread in threads:
                thread.start()
            for _ in range(chance.choice([1, 1, 2, 5, 30])):
                assert told.acquire(timeout=60)
            program.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    last = Client(path)
    with engine(tmp_path), closing(SqliteEventLog(path, read_only=True)) as log:
        until(lambda: log.asked() == [])
        answers = {
            asked: last.answer(number) for each in customers for number, asked in each.open.items()
        }
        done: Counter[tuple[str, str]] = Counter()
        for event in log.read():
            if event.name == "vect.created":
                done["start", event.vect] += 1
            elif event.name == "vect.cancelled":
                done["cancel", event.vect] += 1
            elif (event.name, event.step) == ("step.succeeded", "gate"):
                done["approve", event.vect] += 1
        check_history(log.read())
    accepted = set().union(*(each.accepted for each in customers))
    undone = set().union(*(each.undone for each in customers))
    assert accepted - done.keys() == set()
    assert undone & done.keys() == set()
    assert all(answer is not None for answer in answers.values())
    answered = {asked for asked, answer in answers.items() if answer and not answer.refusal}
    assert done.keys() == accepted | answered
    assert set(done.values()) == {1}


# Many clients


def test_a_hundred_clients_beside_one_engine_that_works(tmp_path: Path) -> None:
    """Half of them start something and approve it, half of them approve that too, and follow it."""
    path = tmp_path / "runs.db"
    count = 100
    told: list[object] = []

    def use(number: int) -> str:
        client, vect = Client(path), f"v{number // 2}"
        if is_first := number % 2 == 0:
            client.start("order", {"of": str(number)}, vect_id=vect)
        else:
            until(lambda: any(each.id == vect for each in client.vects()))
            until(lambda: client.vect(vect).steps["gate"].state != "pending")
        with suppress(VectStateError):  # the other one was quicker
            client.approve(vect, "gate", by=str(number))
        if is_first:
            return client.wait(vect, 60)
        *_, last = client.follow(vect=vect)
        return last.dest

    def tell(number: int) -> None:
        try:
            told.append(use(number))
        except Exception as error:
            told.append(error)

    with engine(tmp_path):
        threads = [threading.Thread(target=tell, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert Counter(map(str, told)) == {"success": count}
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.verify()
        check_history(log.read())
        assert len(log.vects()) == count // 2


START = """
import sys
from oautom import Client
print(Client(sys.argv[1]).start("order", {"of": "x"}, vect_id="same"))
"""


def test_eight_processes_that_start_one_id_start_one_vect(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with engine(tmp_path):
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", START, str(path)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(8)
        ]
        assert [program.communicate(timeout=60)[0] for program in programs] == ["same\n"] * 8
    with closing(SqliteEventLog(path, read_only=True)) as log:
        assert [each.id for each in log.vects()] == ["same"]
        assert [e.name for e in log.read(vect="same")].count("vect.created") == 1


def test_a_client_that_dies_leaves_nothing_that_is_done_much_later(tmp_path: Path) -> None:
    asks = "import sys; from oautom import Client; Client(sys.argv[1]).cancel('v', timeout=0.2)"
    client = Client(tmp_path / "runs.db")
    with engine(tmp_path) as program:
        client.start("order", {"of": "x"}, vect_id="v")
        program.send_signal(signal.SIGSTOP)  # it has the lock, and does not come to anything
        dying = subprocess.Popen([sys.executable, "-c", asks, str(tmp_path / "runs.db")])
        with closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
            until(lambda: len(log.asked()) == 1)
            dying.kill()
            dying.wait(60)
            assert len(log.asked()) in (0, 1)
            with pytest.raises(EngineError):
                client.pause("v", timeout=0.3)
            program.send_signal(signal.SIGCONT)
            client.resume("v")
            assert log.asked() == []
        assert client.vect("v").state == "running"
