"""`DaskWorkers`: a Dask cluster as workers.

Each job becomes a task of Dask with a key of its own. What was given is known here until its answer
is here, whatever becomes of the connection: a link that was cut is opened again, and the ledger of
the scheduler tells what has become of the tasks meanwhile. What it does not know was lost.

All of it happens on one thread, which ends when there is nothing to wait for. Other threads put
messages.
"""

from __future__ import annotations

import logging
import pickle
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future as Pending
from functools import partial
from itertools import count, groupby
from typing import Any, Final, cast

from distributed import Client, KilledWorker
from distributed.cfexecutor import ClientExecutor

from oautom.errors import SettingError, shown
from oautom.processes import forked
from oautom.workers.base import Done, Job, Workers, WorkLostError
from oautom.workers.dask.ledger import CANCEL, DROP, HEARD, key_of, name_of
from oautom.workers.dask.link import NO_OPTIONS, OPTIONS, Link, NoLinkError, take_kept
from oautom.workers.remote import TRAVELLERS, KeptAnswer, Remote

_LOOK_SECONDS: Final = 0.25
"""How often the connection is looked at while something is under way."""

_CLOSE_SECONDS: Final = 2.0

_logger = logging.getLogger("oautom.workers")

_Message = tuple[Callable[..., None], tuple[Any, ...]]


class _Given:
    """A job that was given to the cluster, or waits until the cluster answers."""

    __slots__ = ("content", "done", "future", "is_cancelled", "job", "takes")

    def __init__(self, job: Job, done: Done, content: bytes, takes: Sequence[Remote]) -> None:
        self.job = job
        self.done = done
        self.content = content  # empty when it was sent
        self.future: Any = None
        self.is_cancelled = False
        self.takes = {each.key: each.value for each in takes}  # futures of what stays there


class DaskWorkers(Workers):
    """The workers of a cluster, or `max_workers` slots of it.

    Args:
        client: A client of the cluster, which is never closed.
        max_workers: How many jobs are given to it at once; None for as many as it has threads.
        defaults: What is submitted with each job that does not say otherwise.
        make: Makes another client; see `Link`. Then the clients are closed with the workers.

    Raises:
        SettingError: The client or the scheduler cannot be used.
    """

    place = "elsewhere"

    def __init__(
        self,
        client: Client,
        max_workers: int | None,
        defaults: Mapping[str, Any] = NO_OPTIONS,
        make: Callable[[], Client] | None = None,
    ) -> None:
        _check(client)
        self.slots = max_workers or 1
        self._max_workers = max_workers
        self._defaults = {key: value for key, value in defaults.items() if key in OPTIONS}
        self._owner = uuid.uuid4().hex[:12]
        self._numbers = count(1)
        self._threads = 0  # of the cluster
        self._given: dict[str, _Given] = {}
        self._unsent: list[str] = []
        self._unheard: list[str] = []  # keys of letters that were taken
        self._released: list[str] = []  # keys of tasks whose answers are here
        self._left: dict[str, Pending[Any]] = {}
        self._is_closed = False
        self._inbox: list[_Message] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process = forked.here
        self._link = Link(client, self._owner, partial(_hear, weakref.ref(self)), make)
        self._connect()
        if self.problem is not None:
            self._put(_nothing)  # the thread looks from now on

    # Any thread

    def _put(self, act: Callable[..., None], *arguments: Any) -> None:
        with self._changed:
            self._inbox.append((act, arguments))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="oautom-dask", daemon=True)
                self._thread.start()
            self._changed.notify()

    def hear(self, key: str, kind: str, data: Any) -> None:
        """Take a message of the ledger. On the thread of the client."""
        self._put(self._heard, key, kind, data)

    def submit(self, job: Job, done: Done) -> None:
        """Give a job to the cluster."""
        self._put(self._take, job, done)

    def left(self, log_id: str) -> Mapping[str, Pending[Any]]:
        """Return the jobs of a log that earlier programs have left there, and cancel them."""
        if self.problem is not None:
            raise WorkLostError(self.problem)
        told: Pending[Mapping[str, Pending[Any]]] = Pending()
        self._put(self._find_left, log_id, told)
        return told.result()

    def close(self) -> None:
        """Cancel all that was given, and wait until that was said. In a forked child, nothing."""
        if self._process.is_here and not self._is_closed:
            self._is_closed = True
            is_said = threading.Event()
            self._put(self._cancel_all, is_said)
            is_said.wait(_CLOSE_SECONDS)

    # The thread

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._inbox:
                    self._changed.wait(_LOOK_SECONDS)
                inbox, self._inbox = self._inbox, []
                if not inbox and self._is_idle:
                    self._thread = None
                    break
            for act, arguments in [*inbox, (self._look, ()), (self._send_all, ())]:
                try:
                    act(*arguments)
                except Exception:  # the other jobs go on
                    _logger.exception("a job of a Dask cluster: this is a bug in oautom")
        if self._is_closed:
            self._link.close()

    @property
    def _is_idle(self) -> bool:
        is_waiting = self._given or self._left or self._released
        return not is_waiting and (self.problem is None or self._is_closed)

    def _look(self) -> None:
        """Open the link if it is not open, and settle what has ended meanwhile."""
        for given in list(self._given.values()):
            if given.takes and given.future is not None and given.future.status == "cancelled":
                given.takes = {}
                self._link.lose()  # what it takes is lost, so the scheduler may not even know it
        if self._link.is_open:
            return
        if self._is_closed:  # nobody wants to know
            for key in [*self._given, *self._left]:
                self._end(key, WorkLostError("the connection to the Dask cluster was lost"))
            self._released.clear()
            return
        try:
            self._connect()
        except SettingError as error:  # another scheduler than that of the beginning
            self._tell(problem=str(error))

    def _connect(self) -> None:
        sent = [key for key, given in self._given.items() if not given.content]
        try:
            threads, states = self._link.open([*sent, *self._left])
        except NoLinkError as error:
            self._tell(problem=str(error))
            return
        for key, state in states.items():
            self._heard(key, *state)
        self._set_threads(threads)
        self._tell(problem=None)

    def _tell(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self.on_change()

    def _set_threads(self, threads: int) -> None:
        self._threads = threads
        slots = self._max_workers or max(1, threads)  # one job makes an adaptive cluster begin
        if slots != self.slots:
            self.slots = slots
            self.on_change()

    # Giving jobs

    def _take(self, job: Job, done: Done) -> None:
        takes: list[Remote] = []
        token = TRAVELLERS.set(takes)
        try:
            content = pickle.dumps(job)
        except BaseException as error:  # pickling runs the user's code
            done(None, error)
            return
        finally:
            TRAVELLERS.reset(token)
        key = key_of(_label(job.name), self._owner, next(self._numbers), job.name)
        given = self._given[key] = _Given(job, done, content, takes)
        self._unsent.append(key)
        if self._is_closed or not job.on_cancel(partial(self._put, self._cancel, key)):
            given.is_cancelled = True
            self._end(key, CancelledError())

    def _send_all(self) -> None:
        if not self._link.is_open:
            return
        if self._released:
            self._link.send(DROP, keys=self._released)
            self._released = []
        for key in self._unheard:
            self._link.send(HEARD, key=key)
        self._unheard.clear()
        keys = [key for key in self._unsent if key in self._given]
        self._unsent.clear()
        for (_, options), group in groupby(keys, self._way):
            self._send(list(group), options)

    def _way(self, key: str) -> tuple[str, dict[str, Any]]:
        """Return what the jobs of one graph share; one that takes kept results has its own."""
        given = self._given[key]
        return key if given.takes else "", {**self._defaults, **given.job.submit}

    def _send(self, keys: list[str], options: Mapping[str, Any]) -> None:
        contents = {key: self._given[key].content for key in keys}
        takes = self._given[keys[0]].takes
        try:
            if takes:
                futures = [self._link.submit_after(contents[keys[0]], options, keys[0], takes)]
            else:
                futures = self._link.submit(contents, options, may_scatter=self._threads > 0)
        except NoLinkError:
            self._unsent.extend(keys)
            return
        except SettingError as error:
            for key in keys:
                self._end(key, error)
            return
        for key, future in zip(keys, futures, strict=True):
            self._given[key].future = future
            self._given[key].content = b""

    # Taking answers

    def _heard(self, key: str, kind: str, data: Any) -> None:
        """Take a message of the ledger."""
        given = self._given.get(key)
        if kind == "threads":
            self._set_threads(data)
        elif kind == "look":
            self._link.lose()
        elif key in self._left and kind not in ("letter", "running"):
            self._end(key, None)
        elif given is None:
            return
        elif kind == "letter":
            given.job.hear(data)
            self._unheard.append(key)
        elif kind == "answer" and data is not None:
            is_kept = given.job.keeps_output
            self._end(key, None, KeptAnswer(data, given.future, take_kept) if is_kept else data)
        elif kind in ("answer", "erred") and given.future is not None:
            self._link.fetch(given.future, partial(self._put, self._fetched, key, kind))
        elif kind != "running":
            self._end(key, _lost(kind, data, given))

    def _fetched(self, key: str, kind: str, answer: object, error: BaseException | None) -> None:
        if error is None and type(answer) is bytes:
            self._end(key, None, answer)
        elif isinstance(error, KilledWorker):
            self._end(key, WorkLostError("the worker died", is_worker=True))
        elif kind == "erred" and error is not None:
            self._end(key, _not_begun(error))
        else:
            self._end(key, WorkLostError("the answer was lost with the worker that had it"))

    def _end(self, key: str, error: BaseException | None, answer: object = None) -> None:
        given = self._given.pop(key, None)
        if key in self._left:
            self._left.pop(key).set_result(None)
        if given is None or given.future is not None:
            self._released.append(key)
        if given is not None:
            given.future = None
            given.done(answer, error)

    # Ending

    def _cancel(self, *keys: str) -> None:
        """Cancel jobs, in one message: none of them begins in the place of another."""
        sent = []
        for key in keys:
            given = self._given.get(key)
            if given is None:
                continue
            given.is_cancelled = True
            if given.future is None:
                self._end(key, CancelledError())
            else:
                sent.append(key)
        if sent and self._link.is_open:
            self._link.send(CANCEL, keys=sent)

    def _cancel_all(self, is_said: threading.Event) -> None:
        self._cancel(*reversed(self._given))  # those first that have probably not begun
        is_said.set()

    def _find_left(self, log_id: str, told: Pending[Mapping[str, Pending[Any]]]) -> None:
        try:
            keys = self._link.left(log_id)
        except NoLinkError as error:
            self._tell(problem=str(error))
            told.set_exception(WorkLostError(str(error)))
            return
        found: dict[str, Pending[Any]] = {}
        for key in keys:
            found[name_of(key)] = self._left[key] = Pending()
        told.set_result(found)


def _hear(workers: Callable[[], DaskWorkers | None], event: tuple[Any, ...]) -> None:
    """Pass on a message, on the client's thread; the client does not keep the workers alive."""
    if (alive := workers()) is not None:
        alive.hear(*event)


def _nothing() -> None:
    """Wake the thread."""


def _label(name: str) -> str:
    """Return what Dask's own pages call a job: its flow and step."""
    parts = name.split("/")
    return ".".join((parts[1], parts[3].split("[")[0])) if len(parts) > 4 else "job"


def _lost(kind: str, data: Any, given: _Given) -> BaseException:
    if kind == "lost":
        address, is_expected = data
        how = "was closed" if is_expected else "died, or its connection was cut,"
        what = f"the Dask worker {address} {how} while it had the step"
        return WorkLostError(what, is_worker=not is_expected)
    if given.is_cancelled:
        return CancelledError()
    return WorkLostError(
        "the Dask scheduler does not know its task any more: it was started anew, or somebody has "
        "cancelled the task"
    )


def _not_begun(error: BaseException) -> BaseException:
    if isinstance(error, ImportError) and "oautom" in str(error):
        return SettingError(
            f"a Dask worker cannot load oautom: {error}; install oautom[dask] there, of the same "
            "version"
        )
    if isinstance(error, OSError):
        return WorkLostError(f"a Dask worker could not ask its scheduler: {error}")
    return SettingError(
        f"a Dask worker could not begin the step: {type(error).__name__}: {error}; does it have "
        "the same versions of Python and oautom?"
    )


def _check(client: Client) -> None:
    if client.asynchronous:
        raise SettingError(
            "executor is a Dask client of an event loop, Client(asynchronous=True), which other "
            "threads may not use; make one without that"
        )
    if client.status in ("closed", "closing"):
        raise SettingError("executor is a Dask client that is closed")


def make_dask_workers(
    executor: object, max_workers: int | None, make: Callable[[], object] | None = None
) -> DaskWorkers:
    """Return the workers for a client, or for what `client.get_executor()` returns.

    Args:
        executor: One of these.
        max_workers: See `DaskWorkers`.
        make: The function that has made it, and makes another one; None if there is none.

    Raises:
        SettingError: See `DaskWorkers`.
    """
    client, defaults = _parts_of(executor)
    return DaskWorkers(client, max_workers, defaults, None if make is None else partial(_new, make))


def _parts_of(executor: object) -> tuple[Client, Mapping[str, Any]]:
    if isinstance(executor, ClientExecutor):
        return executor._client, executor._kwargs  # noqa: SLF001 - Dask has no other way
    return cast("Client", executor), NO_OPTIONS


def _new(make: Callable[[], object]) -> Client:
    made = make()
    if not isinstance(made, Client | ClientExecutor):
        raise TypeError(f"the function has returned {shown(made)}")
    client, _ = _parts_of(made)
    _check(client)
    return client
