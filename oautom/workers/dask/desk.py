"""`Desk`: the jobs that a worker of the Dask cluster has begun. On that worker.

A job runs on one of the worker's threads, where Dask calls `perform`. Messages of the ledger come
on the thread of the worker's event loop.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from distributed import get_worker
from distributed.utils import sync

from oautom.workers.dask.ledger import ANSWER, CANCEL, GRANT, HEARD, LETTER, UNBEGUN, VERSION
from oautom.workers.remote import Shelf

STREAMED_BYTES: Final = 2**16
"""Larger answers do not go by the scheduler: they are results of Dask, which the program gets."""

_REMEMBERED: Final = 10_000
_NAME: Final = f"oautom-{VERSION}"


def perform(
    content: bytes, keys: Sequence[str] = (), kept: Sequence[bytes | None] = ()
) -> bytes | None:
    """Do a job in a worker: what Dask calls.

    Args:
        content: The job, pickled.
        keys: The keys of the tasks whose outputs it takes, as far as these stay in the cluster.
        kept: Those outputs, which Dask has brought here; None for one that was lost: Dask has run
            its task again, and that has done nothing.

    Returns:
        The output, pickled, if it stays in the cluster; the answer if it is large. Other answers go
        by the ledger.
    """
    worker = get_worker()
    shelf = Shelf(str(worker.get_current_task()), dict(zip(keys, kept, strict=True)))
    return _desk_of(worker).perform(shelf, content)


def _desk_of(worker: Any) -> Desk:
    desk = worker.extensions.get(_NAME)
    if desk is None:
        desk = worker.extensions.setdefault(_NAME, Desk(worker))
        worker.stream_handlers.update(
            {GRANT: desk.granted, CANCEL: desk.cancelled, HEARD: desk.heard}
        )
    return desk  # type: ignore[no-any-return] # Dask keeps extensions of any kind


class Desk:
    """An extension of a worker: Dask closes it with the worker.

    Args:
        worker: The worker.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._grants: dict[str, int] = {}
        self._lock = threading.Lock()  # guards the two below: a job begins, or never
        self._jobs: dict[str, Any] = {}
        self._cancelled: dict[str, None] = {}  # keys of jobs that may not begin
        self._unheard: set[str] = set()  # keys of jobs whose last letter is on its way

    def perform(self, shelf: Shelf, content: bytes) -> bytes | None:
        """Do a job, if it is ours to do, and send the answer."""
        key = shelf.key
        run = self._worker.state.tasks[key].run_id
        if self._grants.pop(key, None) != run and not self._claim(key, run):
            return None
        parcel = pickle.loads(content)  # noqa: S301 - packed by the program that gave the task
        with self._lock:
            if key in self._cancelled:
                return None
            self._jobs[key] = parcel
        try:
            send, may_send = partial(self._send_letter, key), partial(self._may_send, key)
            answer: bytes = parcel(send, may_send, shelf)
        finally:
            with self._lock:
                del self._jobs[key]
            self._unheard.discard(key)
        is_streamed = len(answer) <= STREAMED_BYTES or shelf.kept is not None
        self._send({"op": ANSWER, "key": key, "answer": answer if is_streamed else None})
        return shelf.kept if is_streamed else answer

    def _claim(self, key: str, run: int) -> bool:
        worker = self._worker
        ask = getattr(worker.scheduler, f"oautom_claim_{VERSION}")
        return bool(sync(worker.loop, ask, key=key, worker=worker.address, run=run))

    def _may_send(self, key: str) -> bool:
        return key not in self._unheard

    def _send_letter(self, key: str, letter: bytes) -> None:
        self._unheard.add(key)
        self._send({"op": LETTER, "key": key, "letter": letter})

    def _send(self, message: dict[str, Any]) -> None:
        self._worker.loop.add_callback(self._worker.batched_send, message)

    # On the event loop

    def granted(self, key: str, run: int) -> None:
        """Note that a job may begin."""
        self._grants[key] = run
        if len(self._grants) > _REMEMBERED:  # those that were given away since
            del self._grants[next(iter(self._grants))]

    def heard(self, key: str) -> None:
        """Note that the last letter of a job has come."""
        self._unheard.discard(key)

    def cancelled(self, key: str, is_question: bool) -> None:
        """Cancel a job.

        Args:
            key: Its key.
            is_question: Only if it has not begun yet.
        """
        with self._lock:
            parcel = self._jobs.get(key)
            if parcel is None:
                self._cancelled[key] = None
                if len(self._cancelled) > _REMEMBERED:
                    del self._cancelled[next(iter(self._cancelled))]
        if parcel is None:
            self._worker.batched_send({"op": UNBEGUN, "key": key})
        elif not is_question:
            _cancel_all([parcel])

    def close(self) -> None:
        """Cancel all jobs: the worker ends."""
        with self._lock:
            parcels = list(self._jobs.values())
        if parcels:
            _cancel_all(parcels)


def _cancel_all(parcels: list[Any]) -> None:
    """Cancel jobs on a thread of its own: what listens is code of the user's."""

    def cancel() -> None:
        for parcel in parcels:
            parcel.cancel()

    try:
        threading.Thread(target=cancel, name="oautom-cancel", daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        cancel()
