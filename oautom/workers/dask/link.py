"""`Link`: the way from this program to the ledger, by a `distributed.Client`.

The client connects again by itself for a while, and gives up then. After that the link makes a
client of its own: the cluster is waited for as long as the app is open.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from distributed import Client

from oautom.errors import SettingError
from oautom.workers.dask.ledger import CLOSE, VERSION, Ledger, State, topic_of

OPTIONS: Final = frozenset(
    ("workers", "resources", "priority", "allow_other_workers", "fifo_timeout")
)
"""What `submit` of a step may have: it goes to `Client.map`."""

NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})

_LARGE_BYTES: Final = 2**20  # a larger job travels as data, beside the graph
_SECONDS: Final = 10.0  # until a scheduler that says nothing counts as gone
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_INTERVAL: Final = 0.002  # a client collects messages for 10 ms; each link of a chain would wait

_GONE: Final = (OSError, RuntimeError)  # also TimeoutError, CommClosedError, and a closed loop


_logger = logging.getLogger("oautom.workers")


class NoLinkError(Exception):
    """The scheduler cannot be reached; the text says why, for people."""


class Link:
    """A connection to the ledger of a cluster. Used by one thread.

    Args:
        client: The client of the user's, which stays open.
        owner: What our keys have in them.
        hear: Called with each message of the ledger, on the thread of the client.
        make: Makes another client when one was closed or has given up; None if the first one is of
            the user's, who closes it.
    """

    def __init__(
        self,
        client: Any,
        owner: str,
        hear: Callable[[tuple[Any, ...]], object],
        make: Callable[[], Any] | None = None,
    ) -> None:
        self._make = make
        self.address: str = client.scheduler.address
        self._client: Any = client  # Dask's methods have no types
        self._theirs: Any = client if make is None else None
        self._security = client.security
        self._owner = owner
        self._hear = hear
        self._comm: Any = None
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether messages reach the ledger, as far as is known."""
        comm = self._comm
        return comm is not None and comm is self._client.scheduler_comm and not comm.closed()

    def open(self, keys: Sequence[str]) -> tuple[int, Mapping[str, State]]:
        """Connect to the ledger, and ask for the states of tasks.

        Returns:
            The number of threads of the cluster, and the states.

        Raises:
            NoLinkError: The scheduler does not answer, or it is not time to ask it again.
            SettingError: The scheduler cannot serve oautom.
        """
        self._renew()
        try:
            told = self._client.sync(self._open, list(keys), callback_timeout=_SECONDS)
        except _GONE as error:
            raise NoLinkError(self._silent) from error
        except ImportError as error:
            raise SettingError(
                f"the Dask scheduler {self.address} cannot load oautom: {error}; install "
                "oautom[dask] there, of the same version"
            ) from error
        except Exception as error:  # as the scheduler sends it
            raise SettingError(
                f"the Dask scheduler {self.address} refuses the plugin of oautom: {error}; its "
                "setting 'distributed.scheduler.pickle' must be true"
            ) from error
        self._pause = _FIRST_PAUSE
        return told["threads"], told["states"]

    async def _open(self, keys: list[str]) -> Any:
        client = self._client
        comm = client.scheduler_comm
        if comm is None or comm.closed() or client.status != "running":
            raise OSError
        client.subscribe_topic(topic_of(self._owner), self._hear)
        ledger = pickle.dumps(Ledger())
        await client.scheduler.register_scheduler_plugin(
            plugin=ledger, name=Ledger.name, idempotent=True
        )
        ask = getattr(client.scheduler, f"oautom_open_{VERSION}")
        told = await ask(owner=self._owner, client=client.id, keys=keys)
        if client.scheduler_comm is not comm:
            raise OSError
        comm.interval = min(comm.interval, _INTERVAL)
        self._comm = comm
        return told

    @property
    def _silent(self) -> str:
        return f"the Dask scheduler {self.address} does not answer"

    def _renew(self) -> None:
        """Make a client of our own when the other one has given up.

        Raises:
            NoLinkError: There is none yet, or the user has closed the client.
        """
        client = self._client
        if client.status not in ("closed", "closing"):
            return
        if client is self._theirs and client.scheduler_comm is not None:  # it did not give up
            raise NoLinkError(
                f"the Dask client of {self.address} was closed; keep it open until the app is "
                "closed, or give OAutom an executor that is open"
            )
        if time.monotonic() < self._next_try:
            raise NoLinkError(self._silent)
        try:
            self._client = self._made()
        except NoLinkError:
            self._next_try = time.monotonic() + self._pause
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause)
            raise

    def _made(self) -> Any:
        if self._make is None:
            make: Any = Client
            more = {"timeout": _SECONDS, "set_as_default": False, "security": self._security}
            try:
                return make(self.address, **more)
            except _GONE as error:
                raise NoLinkError(self._silent) from error
        try:
            client = self._make()
        except Exception as error:  # code of the user
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise NoLinkError(f"no Dask client can be made: {why}") from error
        self.address = client.scheduler.address
        return client

    def lose(self) -> None:
        """Open the link anew when it is used next: the tasks of the cluster have changed."""
        self._comm = None

    def send(self, op: str, **parts: Any) -> None:
        """Send a message to the ledger, unless the link is broken."""
        self._call(self._send, self._comm, {"op": op, **parts})

    @staticmethod
    def _send(comm: Any, message: dict[str, Any]) -> None:
        with suppress(OSError):
            comm.send(message)

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop of a client that was closed
            self._client.loop.add_callback(function, *arguments)

    def left(self, log_id: str) -> list[str]:
        """Cancel the tasks that earlier programs with a log have left, and return their keys.

        Raises:
            NoLinkError: The scheduler does not answer.
        """
        if not self.is_open:
            raise NoLinkError(self._silent)
        ask = getattr(self._client.scheduler, f"oautom_left_{VERSION}")
        try:
            keys: list[str] = self._client.sync(
                ask, owner=self._owner, log_id=log_id, callback_timeout=_SECONDS
            )
        except _GONE as error:
            raise NoLinkError(self._silent) from error
        return keys

    def submit(
        self, contents: Mapping[str, bytes], options: Mapping[str, Any], *, may_scatter: bool
    ) -> list[Any]:
        """Submit jobs as tasks, in one graph.

        Args:
            contents: The pickled jobs by their keys.
            options: For `Client.map`.
            may_scatter: Whether there is a worker that takes large jobs as data.

        Returns:
            A future for each; while it exists, Dask keeps the task.

        Raises:
            NoLinkError: The scheduler cannot be reached.
            SettingError: An option does not exist, or Dask refuses it.
        """
        _check_options(options)
        sent = [
            self._scattered(content, options) if may_scatter else content
            for content in contents.values()
        ]
        try:
            futures: list[Any] = self._client.map(
                _perform_elsewhere, sent, key=list(contents), pure=False, retries=0, **options
            )
        except _GONE as error:
            raise NoLinkError(self._silent) from error
        except Exception as error:  # Dask checks little, and raises anything
            raise SettingError(f"Dask refuses submit={dict(options)!r}: {error}") from error
        return futures

    def _scattered(self, content: bytes, options: Mapping[str, Any]) -> Any:
        if len(content) < _LARGE_BYTES:
            return content
        workers = None if options.get("allow_other_workers") else options.get("workers")
        try:
            futures = self._client.scatter([content], workers=workers, hash=False)
        except (OSError, RuntimeError, KeyError, ValueError):  # no worker, or not that one
            return content
        return futures[0]

    def submit_after(
        self, content: bytes, options: Mapping[str, Any], key: str, kept: Mapping[str, Any]
    ) -> Any:
        """Submit a job as a task that takes results which stay in the cluster.

        Args:
            content: The pickled job.
            options: For `Client.submit`.
            key: The key of the task.
            kept: The futures of these results, by their keys.

        Returns:
            Its future.

        Raises:
            NoLinkError: The scheduler cannot be reached, or a result was lost just now.
            SettingError: As of `submit`.
        """
        _check_options(options)
        there = {of: future for of, future in kept.items() if _is_of(future, self._client)}
        try:
            return self._client.submit(
                _perform_elsewhere,
                *(content, list(there), list(there.values())),
                **{"key": key, "pure": False, "retries": 0, **options},
            )
        except (*_GONE, CancelledError) as error:
            raise NoLinkError(self._silent) from error
        except Exception as error:  # as above
            raise SettingError(f"Dask refuses submit={dict(options)!r}: {error}") from error

    def fetch(self, future: Any, then: Callable[[object, BaseException | None], object]) -> None:
        """Call `then` on the thread of the client with the result of a task, or with its error."""
        self._call(self._fetch, future, then)

    async def _fetch(
        self, future: Any, then: Callable[[object, BaseException | None], object]
    ) -> None:
        try:
            (answer,) = await self._client.gather([future], asynchronous=True)
        except BaseException as error:  # whatever the worker raised
            then(None, error)
        else:
            then(answer, None)

    def close(self) -> None:
        """End the link; close the client if it is ours."""
        if self.is_open:
            self.send(CLOSE, owner=self._owner)
        if self._client is not self._theirs:
            with suppress(*_GONE):
                self._client.close(timeout=_SECONDS)
        elif self.is_open:
            with suppress(*_GONE, ValueError):
                self._client.unsubscribe_topic(topic_of(self._owner))


def _perform_elsewhere(
    content: bytes, keys: Sequence[str] = (), kept: Sequence[bytes | None] = ()
) -> bytes | None:
    from oautom.workers.dask.desk import perform  # noqa: PLC0415 - over there

    return perform(content, keys, kept)


# It travels by value, as a function of the main module: in a worker without oautom the task fails,
# while a reference to a module that is not there ends the worker.
_perform_elsewhere.__module__ = "__main__"


def _check_options(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - OPTIONS:
        raise SettingError(
            f"submit={{'{min(unknown)}': ...}} is nothing that a Dask cluster takes; it takes "
            f"{', '.join(sorted(OPTIONS))}"
        )


def _is_of(future: Any, client: Any) -> bool:
    """Whether a client may have the result of a future; an answer comes before Dask knows it."""
    is_ours = future is not None and future.client is client
    return is_ours and future.status in ("pending", "finished")


def take_kept(future: Any) -> bytes | None:
    """Return a result that stays in a cluster; None if it is lost. Any thread but the client's."""
    if future is None:
        return None
    try:
        content = future.result()
    except Exception:  # Dask raises anything
        _logger.info("a result of the Dask cluster is lost", exc_info=True)
        return None
    return content if type(content) is bytes else None
