"""`FutureWorkers`: any `concurrent.futures.Executor` of the user's as workers.

An executor whose worker has died may be broken for good: `concurrent.futures.BrokenExecutor`. All
work that it had is lost then. If the user has given a function that makes an executor, another one
is made; else the workers are dead, and with them the engine. If what the function makes is a client
of a Dask cluster, `DaskWorkers` do the work from then on.

To workers in other processes of this machine there is a `Channel` beside the executor.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from oautom.errors import shown
from oautom.workers.base import NONE_LEFT, Done, Job, NotBegunError, Workers, WorkLostError

if TYPE_CHECKING:
    from oautom.workers.channel import Channel, Sent

DELAY_MIN: Final = 0.1
DELAY_MAX: Final = 30.0
"""Seconds before an executor is made again; each failure doubles them."""

_LEFT: Final = "what an earlier program has left at work in the cluster has not ended yet"
_NOT_BEGUN: Final = "the step was cancelled before it began"

_logger = logging.getLogger("oautom.runner")


class FutureWorkers(Workers):
    """Workers that use an executor of the user's.

    An executor that is given is never shut down; one that was made is, with the app.

    Args:
        executor: The executor; or a function that makes one, which is called on a thread of its
            own, when there is work for it.
        slots: How many jobs it does at once; None to take the number that the executor tells.
        usual: How many, if it tells none.
    """

    def __init__(
        self, executor: Executor | Callable[[], Executor], slots: int | None, usual: int = 1
    ) -> None:
        self._given_slots = slots
        self._usual = usual
        self._lock = threading.RLock()
        self._pool: _Pool | None = None
        self._cluster: Workers | None = None  # of Dask, if the function makes a client
        self._log_id: str | None = None
        self._make: Callable[[], Executor] | None = None
        self._waiting: list[_Task] = []  # until there is an executor
        self._is_making = False
        self._broken: list[Executor] = []  # to be shut down, not by who notices: see `_break`
        self._failures = 0  # of executors in a row that were broken, or could not be made
        self._closed = threading.Event()
        self._is_cautious = False
        if issubclass(type(executor), Executor):  # isinstance() may run code of it
            self._pool = _Pool(executor)  # type: ignore[arg-type] # just checked
            self.place = "threads" if isinstance(executor, ThreadPoolExecutor) else "elsewhere"
        else:
            self._make = executor  # type: ignore[assignment] # as above
            self.place = "elsewhere"
        self.slots = self._all_slots()

    @cached_property
    def _channel(self) -> Channel:
        from oautom.workers.channel import Channel  # noqa: PLC0415 - sockets, for few programs

        return Channel(self.on_deaf)

    def _all_slots(self) -> int:
        own = None if self._pool is None else self._pool.slots
        return self._given_slots or own or self._usual

    def submit(self, job: Job, done: Done) -> None:
        """Submit a job to the executor; if that fails, the error is the answer."""
        task = _Task(job, done)
        if not job.on_cancel(task.withdraw):
            task.withdraw()
            return
        with self._lock:
            pool, cluster = self._pool, self._cluster
            if pool is None and cluster is None:
                self._waiting.append(task)
        if cluster is not None:
            _hand_over(task, cluster)
        elif pool is None:
            self._begin_making()
        else:
            self._give(pool, task)

    def _give(self, pool: _Pool, task: _Task) -> None:
        if not task.begin():
            return
        with self._lock:
            pool.tasks.add(task)
        try:
            future = pool.submit(task.job, self._sent(pool, task))
        except Exception as error:  # an executor of the user may raise anything
            # If it was shut down, nobody but us had a reason to: another one is made.
            is_shut = self._make is not None and isinstance(error, RuntimeError)
            if isinstance(error, BrokenExecutor) or is_shut:
                self._break(pool, task, error, has_begun=False)
                return
            with self._lock:
                pool.tasks.discard(task)
            task.done(None, error)
        else:
            future.add_done_callback(partial(self._answered, pool, task))
            task.watch(future)

    def _sent(self, pool: _Pool, task: _Task) -> Callable[[], object]:
        """Return the work of a task in the form in which the executor gets it."""
        if self.place != "elsewhere":
            return task.job
        packed = task.job.for_child if pool.has_children else task.job
        task.sent = self._channel.send(task.job, packed, partial(self._lost, pool, task))
        return task.sent

    def _lost(self, pool: _Pool, task: _Task, loss: WorkLostError) -> None:
        """Answer for a task whose worker has ended, which its executor has not noticed."""
        with self._lock:
            pool.tasks.discard(task)
        task.done(None, loss)

    def _answered(self, pool: _Pool, task: _Task, future: Future[object]) -> None:
        answer, failure = None, None
        try:
            answer = future.result()
        except BaseException as error:  # CancelledError, or any error of the executor
            failure = error
        if isinstance(failure, BrokenExecutor):
            self._break(pool, task, failure, has_begun=True)
            return
        if isinstance(failure, CancelledError) and task.is_unwanted:
            failure = NotBegunError(_NOT_BEGUN)
        with self._lock:
            pool.tasks.discard(task)
            self._failures = 0
            is_over, self._is_cautious = self._is_cautious, False
            self.slots = self._all_slots()
        task.done(answer, failure)
        if is_over:
            self.on_change()

    # Broken executors

    def _break(self, pool: _Pool, task: _Task, error: Exception, *, has_begun: bool) -> None:
        """Answer for a task that its broken executor has lost.

        Nobody knows which task has ended the worker, if there are several. So the next ones run one
        by one, until one has answered: a task that is alone is to blame.

        The executor calls this by its futures, perhaps with its own lock held, as that of processes
        does from Python 3.12.1 on: nothing of it may be called here.
        """
        with self._lock:
            is_first, pool.is_broken = not pool.is_broken, True
            if is_first:
                pool.was_alone = len(pool.tasks) == 1
                self._failures += not has_begun
                if self._pool is pool and self._make is not None:
                    self._pool = None
                self._is_cautious = True
                self.slots = 1
            pool.tasks.discard(task)
            is_dead = self._make is None and not pool.tasks
        what = f"the {type(pool.executor).__name__} is broken: {_line(error)}"
        if is_first:
            if self._make is None or not has_begun:
                self.problem = what
            self.on_change()
            if self._make is not None:
                _logger.warning("%s; another one is made", what)
                self._broken.append(pool.executor)
                self._begin_making()
        task.done(None, WorkLostError(what, is_worker=has_begun and pool.was_alone))
        if is_dead and not self.is_dead:
            self.is_dead = True
            self.on_change()

    # Making executors

    def _begin_making(self) -> None:
        """Make an executor on a thread of its own, unless that is being done."""
        with self._lock:
            if self._is_making or self._pool is not None or self._closed.is_set():
                return
            self._is_making = True
        try:
            maker = threading.Thread(target=self._make_one, name="oautom-executor", daemon=True)
            maker.start()
        except RuntimeError as error:  # the system gives no thread
            with self._lock:
                self._is_making = False
                waiting, self._waiting = self._waiting, []
            for task in waiting:
                task.done(None, error)

    def _make_one(self) -> None:
        self._shut_down_broken()
        pool = None
        while pool is None and not self._closed.is_set():
            if self._failures:
                seconds = min(DELAY_MAX, DELAY_MIN * 2 ** min(self._failures - 1, 20))
                self._closed.wait(seconds)
            try:
                pool = self._made()
            except BaseException as error:  # code of the user, on a thread that nobody waits for
                self._failures += 1
                self._lose_waiting(f"no executor can be made: {_line(error)}")
        if isinstance(pool, Workers):
            self._begin_with_cluster(pool)
        elif pool is not None:
            self._begin_with(pool)

    def _shut_down_broken(self) -> None:
        while self._broken:
            _shut_down(self._broken.pop())

    def _made(self) -> _Pool | Workers:
        assert self._make is not None
        executor: object = self._make()
        if is_of_dask(executor):
            # distributed takes 500 ms to import; the user has imported it
            from oautom.workers.dask.workers import make_dask_workers  # noqa: PLC0415

            return make_dask_workers(executor, self._given_slots, self._make)
        if not issubclass(type(executor), Executor):
            raise TypeError(f"the function has returned {shown(executor)}")
        return _Pool(executor)  # type: ignore[arg-type] # just checked

    def _lose_waiting(self, problem: str) -> None:
        """Give back what waits for an executor: it is started again when there is one."""
        self.problem = problem
        self.on_change()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.done(None, WorkLostError(problem))

    def _begin_with(self, pool: _Pool) -> None:
        with self._lock:
            self._is_making = False
            is_closed = self._closed.is_set()
            waiting, self._waiting = self._waiting, []
            if not is_closed:
                self._pool = pool
                self.problem = None
                self.slots = 1 if self._is_cautious else self._all_slots()
        if is_closed:
            _shut_down(pool.executor)
            return
        self.on_change()
        for task in waiting:
            self._give(pool, task)

    def _begin_with_cluster(self, cluster: Workers) -> None:
        """Give everything to a cluster, when nothing of an earlier program is at work there."""
        while not self._closed.is_set() and not self._is_free(cluster):
            self._closed.wait(DELAY_MIN)
        with self._lock:
            self._is_making = False
            waiting, self._waiting = self._waiting, []
            if not self._closed.is_set():
                self._cluster = cluster
        if self._cluster is None:
            cluster.close()
            return
        cluster.on_change = self._follow
        self._follow()
        for task in waiting:
            _hand_over(task, cluster)

    def _is_free(self, cluster: Workers) -> bool:
        """Whether the cluster has ended what earlier programs have left there; tells what is so."""
        try:
            left = {} if self._log_id is None else cluster.left(self._log_id)
            self._tell(_LEFT if left else cluster.problem)
            while not self._closed.is_set() and not all(end.done() for end in left.values()):
                self._closed.wait(DELAY_MIN)
        except WorkLostError as error:
            self._tell(str(error))
            return False
        return True

    def _tell(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self.on_change()

    def _follow(self) -> None:
        """Tell of a cluster what it tells."""
        cluster = self._cluster
        assert cluster is not None
        self.slots, self.problem = cluster.slots, cluster.problem
        self.on_change()

    def left(self, log_id: str) -> Mapping[str, Future[Any]]:
        """Return the jobs of a log that earlier programs have left at work on this machine."""
        if self.place != "elsewhere":
            return NONE_LEFT
        self._log_id = log_id  # a cluster that is made later is asked before it gets work
        from oautom.workers.channel import left_at_work  # noqa: PLC0415 - as above

        return left_at_work(log_id)

    def close(self) -> None:
        """Shut down the executor that was made; take back what one of the user's has not begun."""
        self._closed.set()
        with self._lock:
            pool, self._waiting = self._pool, []
            tasks = [] if pool is None else list(pool.tasks)
            cluster = self._cluster
        if cluster is not None:
            cluster.close()
        for task in tasks:
            task.withdraw()
        if "_channel" in vars(self):
            self._channel.close()
        self._shut_down_broken()
        if pool is not None and self._make is not None:
            _shut_down(pool.executor)


class _Pool:
    """An executor, and the tasks that it has.

    Attributes:
        tasks: Those that have no answer yet.
        slots: How many workers it has, if it tells.
        is_broken: Whether it takes nothing any more.
        has_children: Whether its workers import the main module of this program.
        was_alone: Whether it had one task only when it broke.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.tasks: set[_Task] = set()
        self.is_broken = self.was_alone = False
        own = getattr(executor, "_max_workers", None)  # as in those of the standard library
        self.slots: int | None = own if type(own) is int and own > 0 else None
        self.has_children = isinstance(executor, ProcessPoolExecutor)
        self._names = _names_of(executor)

    def submit(self, job: Job, sent: Callable[[], object]) -> Future[Any]:
        """Submit a job, with what its step asks for.

        Raises:
            NotBegunError: The executor does not know that.
            Exception: What the executor raises.
        """
        return self.executor.submit(sent, **(self._told(job.submit) if self._names else {}))

    def _told(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in given:
            if name not in self._names:
                known = ", ".join(f"'{each}'" for each in self._names)
                raise NotBegunError(
                    f"its submit has '{name}', which the {type(self.executor).__name__} does not "
                    f"know; it knows {known}"
                )
        return given


def _names_of(executor: Executor) -> list[str]:
    """Return what an executor can be told with a job, by the names of its `submit`."""
    try:
        parameters = list(inspect.signature(executor.submit).parameters.values())[1:]
    except (TypeError, ValueError):  # it has none that can be seen
        return []
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return [each.name for each in parameters if each.kind in kinds]


class _Task:
    """A job and its answer, which is given once.

    Attributes:
        is_unwanted: The job was cancelled.
        sent: What an executor in other processes has got.
    """

    def __init__(self, job: Job, done: Done) -> None:
        self.job = job
        self.is_unwanted = False
        self.sent: Sent | None = None
        self._has_begun = False
        self._done: Done | None = done
        self._future: Future[object] | None = None
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Note that an executor gets the job; False if it was cancelled by now."""
        with self._lock:
            self._has_begun = not self.is_unwanted
        return self._has_begun

    def watch(self, future: Future[object]) -> None:
        """Note what the executor has made of the job."""
        self._future = future
        if self.is_unwanted:
            future.cancel()

    def withdraw(self) -> bool:
        """Take the job back, or tell its worker; False if that cannot be. Any thread."""
        with self._lock:
            self.is_unwanted = True
            has_begun = self._has_begun
        if not has_begun:
            self.done(None, NotBegunError(_NOT_BEGUN))
            return True
        if self._future is not None and self._future.cancel():
            return True
        return self.sent is not None and self.sent.cancel()

    def done(self, answer: object, failure: BaseException | None) -> None:
        """Give the answer, unless there is one already."""
        with self._lock:
            done, self._done = self._done, None
        if self.sent is not None:
            self.sent.end()
        if done is not None:
            done(answer, failure)


def _hand_over(task: _Task, cluster: Workers) -> None:
    if task.begin():
        cluster.submit(task.job, task.done)


def is_of_dask(executor: object) -> bool:
    """Whether an executor is a client of Dask, or one that such a client has made."""
    modules = {kind.__module__ for kind in type(executor).__mro__}
    return not modules.isdisjoint(("distributed.client", "distributed.cfexecutor"))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _shut_down(executor: Executor) -> None:
    """End an executor that was made here, without waiting for its work."""
    try:
        try:
            executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # that of loky takes no such argument
            executor.shutdown(wait=False)
    except Exception:  # an executor of the user may raise anything
        _logger.exception("the %s cannot be shut down", type(executor).__name__)
