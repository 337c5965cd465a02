"""`Ledger`: which worker has which job. On the scheduler of the Dask cluster.

Dask runs a task again by itself when its worker or its result is lost, and whoever asked for it
does not learn of that. So the ledger gives each task to one worker once. It notes to whom the
scheduler assigns a task, and tells that worker so, in the very stream that brings the task; a
worker that was not told asks before it begins. The ledger also carries the text and the answer of a
job from its worker to the program, and cancels the other way, since these streams are there.

Messages to and from a ledger are dicts of plain values. A name of one ends with `VERSION`, which
changes with their meaning: a scheduler may serve programs with several versions of oautom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

VERSION: Final = "1"
PREFIX: Final = "oautom."
"""What each key of ours begins with."""

GRANT: Final = f"oautom-grant-{VERSION}"  # to a worker: it may begin a task
CANCEL: Final = f"oautom-cancel-{VERSION}"  # to the ledger, and on to a worker
HEARD: Final = f"oautom-heard-{VERSION}"  # to the ledger, and on to a worker: a letter has come
LETTER: Final = f"oautom-letter-{VERSION}"  # from a worker
ANSWER: Final = f"oautom-answer-{VERSION}"  # from a worker; without bytes, Dask has it as a result
UNBEGUN: Final = f"oautom-unbegun-{VERSION}"  # from a worker: it has not begun, and never will
DROP: Final = f"oautom-drop-{VERSION}"  # to the ledger: the program has the answers
CLOSE: Final = f"oautom-close-{VERSION}"  # to the ledger: the app was closed

_KEEP_SECONDS: Final = 600.0
"""How long answers are kept for a program that is not there."""

State = tuple[str, Any]


def key_of(label: str, owner: str, number: int, name: str) -> str:
    """Return the key of a task: Dask shows its `label`, the rest makes it unique."""
    plain = "".join(c if c.isalnum() or c in "_." else "_" for c in label)
    return f"{PREFIX}{plain}-{owner}.{number:x}/{name}"


def owner_of(key: str) -> str:
    """Return the owner in a key."""
    return key.split("/", 1)[0].rsplit("-", 1)[-1].split(".", 1)[0]


def name_of(key: str) -> str:
    """Return the name of the job in a key."""
    return key.split("/", 1)[1]


def topic_of(owner: str) -> str:
    """Return the topic by which a client gets the messages for an owner."""
    return f"oautom-{VERSION}-{owner}"


class _Entry:
    __slots__ = ("answer", "is_dropped", "is_over", "owner", "run", "worker")

    def __init__(self, owner: str, worker: str | None, run: int | None) -> None:
        self.owner = owner
        self.worker = worker  # None: taken back, so that nobody begins it
        self.run = run  # Dask's number of the assignment: the only one that may begin
        self.is_over = worker is None
        self.is_dropped = False  # the program has the answer
        self.answer: State = ("back", None)


class Ledger(SchedulerPlugin):
    """The plugin of a scheduler; each program registers it, and the first one stays.

    Its methods are called on the thread of the scheduler, and never raise: an error in a handler of
    a stream ends the stream.
    """

    name = f"oautom-{VERSION}"
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._entries: dict[str, _Entry] = {}
        self._clients: dict[str, str] = {}  # by the owner
        self._prepared: set[str] = set()  # addresses of workers that understand `GRANT`
        self._closing: set[str] = set()  # addresses of workers that leave as they were told

    async def start(self, scheduler: Any) -> None:
        """Begin to serve programs and workers."""
        self._scheduler = scheduler
        scheduler.handlers[f"oautom_open_{VERSION}"] = self._open
        scheduler.handlers[f"oautom_left_{VERSION}"] = self._left
        scheduler.handlers[f"oautom_claim_{VERSION}"] = self._claim
        scheduler.stream_handlers.update(
            {
                CANCEL: self._cancel,
                HEARD: self._heard,
                LETTER: self._letter,
                ANSWER: self._answered,
                UNBEGUN: self._unbegun,
                DROP: self._drop,
                CLOSE: self._close,
            }
        )

    # What the scheduler does

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Note what becomes of a task of ours."""
        if type(key) is not str or not key.startswith(PREFIX):
            return
        if finish == "processing":
            self._assigned(key)
        elif finish == "erred":
            self._end(key, ("erred", None))
        elif finish == "forgotten":
            self._forgotten(key)

    def _assigned(self, key: str) -> None:
        if key in self._entries:  # it was given once
            return
        task = self._scheduler.tasks[key]
        address, run = task.processing_on.address, task.run_id
        self._entries[key] = _Entry(owner_of(key), address, run)
        if address in self._prepared:
            self._scheduler.worker_send(address, {"op": GRANT, "key": key, "run": run})

    def _forgotten(self, key: str) -> None:
        entry = self._entries.get(key)
        if entry is None:  # it was never given to a worker, and will not be
            self._tell(owner_of(key), key, ("gone", None))
        elif entry.is_dropped or (entry.is_over and not self._is_there(entry.owner)):
            del self._entries[key]

    def log_event(self, topic: str, msg: Any) -> None:
        """Note which workers leave as they were told: `remove_worker` does not say so."""
        if topic == "all" and type(msg) is dict and msg.get("action") == "remove-worker":
            self._closing.update([msg["worker"]] if msg.get("expected") else [])

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Tell the programs how many threads there are."""
        self._tell_threads()

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Give up what a worker had, and tell the programs."""
        is_expected = worker in self._closing
        self._closing.discard(worker)
        self._prepared.discard(worker)
        for key, entry in list(self._entries.items()):
            if entry.worker == worker:
                self._end(key, ("lost", [worker, is_expected]))
        self._tell_threads()

    def restart(self, scheduler: Any) -> None:
        """Give up everything, since all workers start anew; the programs ask what is left."""
        for key, entry in list(self._entries.items()):
            self._end(key, ("lost", [entry.worker, True]))
        for owner in self._clients:
            self._tell(owner, "", ("look", None))

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Keep the workers that do something for us, when an adaptive cluster becomes smaller."""
        busy = {entry.worker for entry in self._entries.values() if not entry.is_over}
        return [worker for worker in workers if worker.address not in busy]

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Keep the answers for a client that has left, for a while: it may come back."""
        for owner in [owner for owner, its in self._clients.items() if its == client]:
            del self._clients[owner]
        scheduler.loop.call_later(_KEEP_SECONDS, self._tidy)

    def _tidy(self) -> None:
        for key, entry in list(self._entries.items()):
            if entry.is_over and not self._is_there(entry.owner):
                del self._entries[key]

    def _is_there(self, owner: str) -> bool:
        return self._clients.get(owner) in self._scheduler.clients

    # What workers ask and tell

    def _claim(self, key: str, worker: str, run: int) -> bool:
        """Whether a worker that was not told may begin a task."""
        self._prepared.add(worker)
        entry, task = self._entries.get(key), self._scheduler.tasks.get(key)
        if entry is None or entry.is_over or task is None:
            return False
        if entry.run == run:
            if entry.worker == worker:
                return True
            on = task.processing_on
            if on is not None and on.address == worker and entry.worker in self._scheduler.workers:
                entry.worker = worker  # the first one has not begun: it gave the task away
                return True
        if entry.worker in self._scheduler.workers:  # is it at it? If not, nobody will be
            self._ask(key, entry, is_question=True)
        return False

    def _letter(self, key: str, letter: bytes, worker: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.worker == worker and not entry.is_over:
            self._tell(entry.owner, key, ("letter", letter))

    def _answered(self, key: str, answer: bytes | None, worker: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.worker == worker:
            self._end(key, ("answer", answer))

    def _unbegun(self, key: str, worker: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.worker == worker:
            self._end(key, ("back", None))

    def _end(self, key: str, answer: State) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.is_over:
            return
        entry.is_over, entry.answer = True, answer
        self._tell(entry.owner, key, answer)

    # What programs ask and tell

    def _open(self, owner: str, client: str, keys: Sequence[str]) -> dict[str, Any]:
        """Serve a program from now on; return the state of tasks that it has given before."""
        self._clients[owner] = client
        return {"threads": self._threads, "states": {key: self._state(key) for key in keys}}

    def _state(self, key: str) -> State:
        entry = self._entries.get(key)
        if entry is None:  # unknown, or in line: nobody may begin it from now on
            entry = self._entries[key] = _Entry(owner_of(key), None, None)
        return entry.answer if entry.is_over else ("running", None)

    def _left(self, owner: str, log_id: str) -> list[str]:
        """Take over the tasks of earlier programs with the same log, cancel them, and name them."""
        start = f"{log_id}/"
        for key in list(self._scheduler.tasks):
            is_ours = type(key) is str and key.startswith(PREFIX)
            if is_ours and name_of(key).startswith(start) and owner_of(key) != owner:
                self._state(key)
        left = []
        for key, entry in list(self._entries.items()):
            if entry.owner == owner or not name_of(key).startswith(start):
                continue
            if not entry.is_over:
                entry.owner = owner
                left.append(key)
            elif key not in self._scheduler.tasks:  # nobody comes back for its answer
                del self._entries[key]
        for key in left:
            self._cancel([key])
        return left

    def _cancel(self, keys: Sequence[str], client: str = "") -> None:
        for key in keys:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(owner_of(key), None, None)
                self._tell(entry.owner, key, entry.answer)
            elif not entry.is_over:
                self._ask(key, entry, is_question=False)

    def _heard(self, key: str, client: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and not entry.is_over:
            self._send(entry, {"op": HEARD, "key": key})

    def _drop(self, keys: Sequence[str], client: str) -> None:
        for key in keys:
            if key in self._scheduler.tasks and key in self._entries:  # not before Dask forgets it
                self._entries[key].is_dropped = True
            else:
                self._entries.pop(key, None)

    def _close(self, owner: str, client: str) -> None:
        """Forget a program; others may be cut off, and come back for their answers."""
        self._clients.pop(owner, None)
        for key, entry in list(self._entries.items()):
            if entry.is_over and entry.owner == owner:
                del self._entries[key]

    # What the ledger tells

    @property
    def _threads(self) -> int:
        return sum(worker.nthreads for worker in self._scheduler.workers.values())

    def _tell_threads(self) -> None:
        for owner in self._clients:
            self._tell(owner, "", ("threads", self._threads))

    def _tell(self, owner: str, key: str, state: State) -> None:
        client = self._clients.get(owner)
        if client is not None:
            event = (key, *state)
            self._scheduler.client_send(
                client, {"op": "event", "topic": topic_of(owner), "event": event}
            )

    def _ask(self, key: str, entry: _Entry, *, is_question: bool) -> None:
        """Have the worker cancel a job; if it is a question, only one that it has not begun."""
        if entry.worker in self._prepared:
            self._send(entry, {"op": CANCEL, "key": key, "is_question": is_question})
        else:  # it would have asked us before it began
            self._end(key, ("back", None))

    def _send(self, entry: _Entry, message: dict[str, Any]) -> None:
        if entry.worker in self._scheduler.stream_comms:
            self._scheduler.worker_send(entry.worker, message)
