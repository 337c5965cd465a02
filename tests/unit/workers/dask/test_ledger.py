"""The ledger of a Dask cluster: whatever the cluster does, a task begins once, or never."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oautom.workers.dask.ledger import (
    CANCEL,
    GRANT,
    HEARD,
    Ledger,
    key_of,
    name_of,
    owner_of,
)

OWNER, CLIENT = "0a1b", "Client-1"
WORKERS = ["one", "two", "three"]


class FakeScheduler:
    """As much of a scheduler as the ledger sees. Messages are kept until `deliver`."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.workers: dict[str, Any] = {}
        self.stream_comms: dict[str, Any] = {}
        self.clients = {CLIENT: None}
        self.prepared: set[str] = set()
        self.handlers: dict[str, Any] = {}
        self.stream_handlers: dict[str, Any] = {}
        self.loop = SimpleNamespace(call_later=lambda *_: None)
        self.to_workers: list[tuple[str, dict[str, Any]]] = []
        self.to_clients: list[tuple[str, dict[str, Any]]] = []

    def worker_send(self, worker: str, message: dict[str, Any]) -> None:
        assert worker in self.prepared, "a message that a worker does not know ends it"
        assert worker in self.stream_comms
        self.to_workers.append((worker, message))

    def client_send(self, client: str, message: dict[str, Any]) -> None:
        self.to_clients.append((client, message))

    def events(self) -> list[tuple[Any, ...]]:
        return [message["event"] for _, message in self.to_clients if message["event"][0]]


class Cluster:
    """A scheduler with a ledger, and workers that follow the rules of a desk."""

    def __init__(self) -> None:
        self.scheduler = FakeScheduler()
        self.ledger = Ledger()
        asyncio.run(self.ledger.start(self.scheduler))
        for worker in WORKERS:
            self.join(worker)
        self.call("oautom_open_1", owner=OWNER, client=CLIENT, keys=[])
        self.runs = 0
        self.grants: dict[str, dict[str, int]] = {worker: {} for worker in WORKERS}
        self.refused: dict[str, set[str]] = {worker: set() for worker in WORKERS}
        self.begun: list[tuple[str, str]] = []
        self.at_work: set[tuple[str, str]] = set()

    def call(self, name: str, **arguments: Any) -> Any:
        return self.scheduler.handlers[name](**arguments)

    def join(self, worker: str) -> None:
        self.scheduler.workers[worker] = SimpleNamespace(address=worker, nthreads=2)
        self.scheduler.stream_comms[worker] = None
        self.ledger.add_worker(self.scheduler, worker)

    def assign(self, key: str, worker: str) -> None:
        self.runs += 1
        at = SimpleNamespace(address=worker)
        self.scheduler.tasks[key] = SimpleNamespace(key=key, processing_on=at, run_id=self.runs)
        self.ledger.transition(key, "waiting", "processing", stimulus_id="x")

    def steal(self, key: str, worker: str) -> None:
        self.scheduler.tasks[key].processing_on = SimpleNamespace(address=worker)

    def deliver(self) -> None:
        """Let the workers take their messages."""
        messages, self.scheduler.to_workers = self.scheduler.to_workers, []
        for worker, message in messages:
            key = message.get("key", "")
            if message["op"] == GRANT:
                self.grants[worker][key] = message["run"]
            elif message["op"] == CANCEL and (key, worker) not in self.at_work:
                self.refused[worker].add(key)
                if worker in self.scheduler.workers:
                    self.tell("oautom-unbegun-1", key=key, worker=worker)

    def tell(self, op: str, **parts: Any) -> None:
        self.scheduler.stream_handlers[op](**parts)

    def run(self, key: str, worker: str, run: int) -> bool:
        """Let a worker run an assignment of a task; return whether the work began."""
        is_given = self.grants[worker].pop(key, None) == run
        self.scheduler.prepared.add(worker)
        if not is_given and not self.call("oautom_claim_1", key=key, worker=worker, run=run):
            return False
        if key in self.refused[worker]:
            return False
        self.begun.append((key, worker))
        self.at_work.add((key, worker))
        return True

    def end(self, key: str, worker: str) -> None:
        self.at_work.discard((key, worker))
        self.tell("oautom-answer-1", key=key, answer=b"42", worker=worker)

    def die(self, worker: str) -> None:
        del self.scheduler.workers[worker], self.scheduler.stream_comms[worker]
        self.at_work = {each for each in self.at_work if each[1] != worker}
        self.grants[worker].clear()
        self.scheduler.prepared.discard(worker)
        self.ledger.remove_worker(self.scheduler, worker, stimulus_id="x")


KEY = key_of("flow.step", OWNER, 7, "log/flow/vect/step/1/run")


def test_a_key_shows_the_step_and_names_the_owner_and_the_job() -> None:
    assert KEY == "oautom.flow.step-0a1b.7/log/flow/vect/step/1/run"
    odd = key_of("a-b/c d", OWNER, 1, "x/y-z")
    assert owner_of(odd) == OWNER
    assert name_of(odd) == "x/y-z"


def test_a_worker_that_has_asked_once_is_told_with_the_task() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.scheduler.to_workers == []  # it would not understand
    assert cluster.run(KEY, "one", 1)
    other = key_of("flow.step", OWNER, 8, "log/flow/vect/other/1/run")
    cluster.assign(other, "one")
    assert cluster.scheduler.to_workers == [("one", {"op": GRANT, "key": other, "run": 2})]


def test_a_worker_that_has_died_and_come_back_at_its_address_asks_first() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.die("one")
    cluster.join("one")
    cluster.assign(key_of("flow.step", OWNER, 8, "log/flow/vect/other/1/run"), "one")
    assert cluster.scheduler.to_workers == []


def test_a_task_that_dask_gives_once_more_runs_nothing() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.die("one")
    assert cluster.scheduler.events() == [(KEY, "lost", ["one", False])]
    cluster.assign(KEY, "two")
    assert not cluster.run(KEY, "two", 2)


def test_an_answer_that_dask_has_lost_is_not_computed_again() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.end(KEY, "one")
    cluster.die("one")
    cluster.assign(KEY, "two")
    assert not cluster.run(KEY, "two", 2)
    assert cluster.scheduler.events() == [(KEY, "answer", b"42")]


def test_a_task_that_another_worker_has_taken_over_runs_there_and_not_at_the_first() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    cluster.steal(KEY, "two")
    assert cluster.run(KEY, "two", 1)
    cluster.end(KEY, "two")
    assert cluster.scheduler.events() == [(KEY, "answer", b"42")]
    assert not cluster.run(KEY, "one", 1)


def test_a_task_that_went_two_ways_at_once_is_told_as_not_begun_or_goes_on() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    cluster.assign(KEY, "two")  # the first worker is there, but Dask takes another one
    assert not cluster.run(KEY, "two", 2)
    cluster.deliver()
    assert cluster.scheduler.events() == [(KEY, "back", None)]


def test_a_cancel_wins_against_a_task_that_has_not_begun() -> None:
    cluster = Cluster()
    cluster.tell(CANCEL, keys=[KEY], client=CLIENT)
    assert cluster.scheduler.events() == [(KEY, "back", None)]
    cluster.assign(KEY, "one")
    assert not cluster.run(KEY, "one", 1)


def test_a_cancel_of_work_that_has_begun_goes_to_its_worker() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.tell(CANCEL, keys=[KEY], client=CLIENT)
    message = {"op": CANCEL, "key": KEY, "is_question": False}
    assert cluster.scheduler.to_workers == [("one", message)]
    assert cluster.scheduler.events() == []


def test_a_program_that_comes_back_gets_the_answers_of_meanwhile() -> None:
    cluster = Cluster()
    waiting, running, over = [key_of("a.b", OWNER, n, f"log/a/v/s{n}/1/run") for n in range(3)]
    for key in (running, over):
        cluster.assign(key, "one")
        assert cluster.run(key, "one", cluster.runs)
    cluster.scheduler.clients.clear()
    cluster.ledger.remove_client(cluster.scheduler, CLIENT)
    cluster.end(over, "one")
    cluster.ledger.transition(over, "memory", "forgotten", stimulus_id="x")
    cluster.scheduler.clients["Client-2"] = None
    keys = [waiting, running]
    told = cluster.call("oautom_open_1", owner=OWNER, client="Client-2", keys=keys)
    assert told == {"threads": 6, "states": {waiting: ("back", None), running: ("running", None)}}
    cluster.assign(waiting, "one")
    assert not cluster.run(waiting, "one", cluster.runs)


def test_the_next_life_of_a_program_finds_and_cancels_what_an_earlier_one_has_left() -> None:
    cluster = Cluster()
    other_log = key_of("a.b", OWNER, 1, "other/a/v/s/1/run")
    queued = key_of("a.b", OWNER, 2, "log/a/v/queued/1/run")
    for key in (KEY, other_log):
        cluster.assign(key, "one")
        assert cluster.run(key, "one", cluster.runs)
    cluster.scheduler.tasks[queued] = SimpleNamespace(key=queued, processing_on=None, run_id=None)
    cluster.scheduler.clients["Client-2"] = None
    cluster.call("oautom_open_1", owner="0c0d", client="Client-2", keys=[])
    assert cluster.call("oautom_left_1", owner="0c0d", log_id="log") == [KEY]
    message = {"op": CANCEL, "key": KEY, "is_question": False}
    assert cluster.scheduler.to_workers[-1] == ("one", message)
    cluster.end(KEY, "one")
    assert cluster.scheduler.to_clients[-1][0] == "Client-2"
    cluster.assign(queued, "two")
    assert not cluster.run(queued, "two", cluster.runs)


def test_nothing_is_kept_of_a_killed_program_when_its_next_life_has_begun() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.end(KEY, "one")
    cluster.ledger.transition(KEY, "memory", "forgotten", stimulus_id="x")  # its client is there
    del cluster.scheduler.tasks[KEY], cluster.scheduler.clients[CLIENT]
    cluster.ledger.remove_client(cluster.scheduler, CLIENT)
    cluster.scheduler.clients["Client-2"] = None
    cluster.call("oautom_open_1", owner="0c0d", client="Client-2", keys=[])
    assert cluster.call("oautom_left_1", owner="0c0d", log_id="log") == []
    assert (cluster.ledger._entries, list(cluster.ledger._clients)) == ({}, ["0c0d"])


def test_an_app_that_is_closed_takes_no_answer_from_a_program_that_is_cut_off() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.scheduler.clients.clear()
    cluster.ledger.remove_client(cluster.scheduler, CLIENT)
    cluster.end(KEY, "one")
    cluster.scheduler.clients["Client-2"] = None
    cluster.call("oautom_open_1", owner="0c0d", client="Client-2", keys=[])
    cluster.tell("oautom-close-1", owner="0c0d", client="Client-2")
    cluster.scheduler.clients["Client-3"] = None
    told = cluster.call("oautom_open_1", owner=OWNER, client="Client-3", keys=[KEY])
    assert told["states"] == {KEY: ("answer", b"42")}


def test_a_worker_that_is_busy_for_us_is_not_taken_when_the_cluster_becomes_smaller() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    workers = list(cluster.scheduler.workers.values())
    left = cluster.ledger.valid_workers_downscaling(cluster.scheduler, workers)
    assert [worker.address for worker in left] == ["two", "three"]
    assert cluster.run(KEY, "one", 1)
    cluster.end(KEY, "one")
    assert cluster.ledger.valid_workers_downscaling(cluster.scheduler, workers) == workers


def test_a_letter_is_passed_on_and_so_is_the_word_that_it_has_come() -> None:
    cluster = Cluster()
    cluster.assign(KEY, "one")
    assert cluster.run(KEY, "one", 1)
    cluster.tell("oautom-letter-1", key=KEY, letter=b"text", worker="one")
    assert cluster.scheduler.events() == [(KEY, "letter", b"text")]
    cluster.tell(HEARD, key=KEY, client=CLIENT)
    assert cluster.scheduler.to_workers == [("one", {"op": HEARD, "key": KEY})]


class Anything(RuleBasedStateMachine):
    """Assignments, thefts, deaths, cancels and answers in any order."""

    @initialize()
    def begin(self) -> None:
        self.cluster = Cluster()
        self.keys = [key_of("f.s", OWNER, n, f"log/f/v/s/{n}/run") for n in range(3)]
        self.given: list[tuple[str, str, int]] = []  # what workers have been told to run
        self.dropped: set[str] = set()

    def _alive(self, worker: str) -> bool:
        return worker in self.cluster.scheduler.workers

    @rule(n=st.integers(0, 2), worker=st.sampled_from(WORKERS))
    def assign(self, n: int, worker: str) -> None:
        is_known = self.keys[n] not in self.dropped or self.keys[n] in self.cluster.scheduler.tasks
        if self._alive(worker) and is_known:
            self.cluster.assign(self.keys[n], worker)
            self.given.append((self.keys[n], worker, self.cluster.runs))

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def steal(self, data: st.DataObject, worker: str) -> None:
        """Dask moves a task only if its worker says that it has not begun."""
        if self.given and self._alive(worker):
            at = data.draw(st.integers(0, len(self.given) - 1))
            key, victim, run = self.given[at]
            if self._alive(victim) and self.cluster.scheduler.tasks[key].run_id == run:
                self.given[at] = key, worker, run
                self.cluster.steal(key, worker)

    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        if self.given:
            key, worker, run = self.given.pop(data.draw(st.integers(0, len(self.given) - 1)))
            if self._alive(worker):
                self.cluster.run(key, worker, run)

    @rule()
    def deliver(self) -> None:
        self.cluster.deliver()

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.cluster.at_work:
            self.cluster.end(*data.draw(st.sampled_from(sorted(self.cluster.at_work))))

    @rule(worker=st.sampled_from(WORKERS))
    def die_or_join(self, worker: str) -> None:
        if self._alive(worker):
            self.cluster.die(worker)
            self.cluster.refused[worker].clear()
            self.given = [each for each in self.given if each[1] != worker]
        else:
            self.cluster.join(worker)

    @rule(n=st.integers(0, 2))
    def cancel(self, n: int) -> None:
        if self.keys[n] not in self.dropped:
            self.cluster.tell(CANCEL, keys=[self.keys[n]], client=CLIENT)

    @rule(n=st.integers(0, 2))
    def come_back(self, n: int) -> None:
        if self.keys[n] not in self.dropped:
            self.cluster.call("oautom_open_1", owner=OWNER, client=CLIENT, keys=[self.keys[n]])

    @rule(n=st.integers(0, 2))
    def drop(self, n: int) -> None:
        """The program lets go of what it has the answer of; Dask may not have forgotten it yet."""
        key = self.keys[n]
        if any(event[:2] == (key, "answer") for event in self.cluster.scheduler.events()):
            self.dropped.add(key)
            self.cluster.tell("oautom-drop-1", keys=[key], client=CLIENT)

    @rule(n=st.integers(0, 2))
    def forget(self, n: int) -> None:
        """Dask forgets a task that was dropped, perhaps only after it has given it once more."""
        key = self.keys[n]
        if key in self.dropped and key in self.cluster.scheduler.tasks:
            self.given = [each for each in self.given if each[0] != key]
            self.cluster.ledger.transition(key, "released", "forgotten", stimulus_id="x")
            del self.cluster.scheduler.tasks[key]
            assert key not in self.cluster.ledger._entries

    @invariant()
    def begins_once(self) -> None:
        begun = [key for key, _ in self.cluster.begun]
        assert len(begun) == len(set(begun))

    @invariant()
    def is_told_once(self) -> None:
        told = [key for key, kind, _ in self.cluster.scheduler.events() if kind != "letter"]
        assert len(told) == len(set(told))

    def teardown(self) -> None:
        """What has begun and did not end is known to its program as lost, or as running."""
        if not hasattr(self, "cluster"):
            return
        told = {event[0]: event[1] for event in self.cluster.scheduler.events()}
        for key, worker in self.cluster.begun:
            if (key, worker) not in self.cluster.at_work:
                assert told[key] in ("answer", "lost")
            elif key in told:
                raise AssertionError(f"{key} was told as {told[key]}, and is at work")


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
