"""Where a client looks, and whom it asks: the file of a log, or an app of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol

from oautom.client import follow
from oautom.client.engine import EngineInfo, Told
from oautom.client.facts import facts_of, turn_of
from oautom.client.follow import News
from oautom.client.steering import Answer, Backfill, Steering
from oautom.errors import LogError, SettingError, UnknownFlowError, UnknownVectError, shown
from oautom.events.log import EventLog, Holder, VectEntry
from oautom.events.open import log_of
from oautom.events.sqlite import SqliteEventLog
from oautom.events.sqlite.file import reached
from oautom.machine.explain import NO_FACTS, Facts, explain
from oautom.machine.state import StepState, VectState
from oautom.machine.tables import VECT_ENDS
from oautom.processes import forked
from oautom.values.convert import plain_of
from oautom.values.json import at_heart

if TYPE_CHECKING:
    from oautom.client.views import VectView


class App(Protocol):
    """What is asked of an app."""

    log: EventLog

    @property
    def is_driven(self) -> bool: ...
    @property
    def start(self) -> Callable[..., Any]: ...
    @property
    def backfill(self) -> Callable[..., Any]: ...
    def flows(self) -> list[str]: ...
    def vect(self, id: str) -> Any: ...  # noqa: A002 - the public word


class FileSource:
    """The file of a log, opened when it is first needed, and again where that must be.

    It may be made, replaced or brought up to date meanwhile, and this process be forked: nothing is
    open between two calls.

    Args:
        path: The file.

    Raises:
        SettingError: It is no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path) or not isinstance(os.fspath(path), str):
            raise SettingError(f"the path of a log must be text or a Path, not {shown(path)}")
        self._path = Path(os.path.abspath(os.fspath(path)))
        self._opened: tuple[forked.Process, SqliteEventLog] | None = None

    @property
    def log(self) -> SqliteEventLog:
        """The log, open for reading.

        Raises:
            LogError: There is none, or it cannot be read.
        """
        opened = self._opened
        if opened is not None and opened[0].is_here and opened[1].is_current:
            return opened[1]
        with reached(self._path):
            is_there = self._path.exists()
        if not is_there:
            raise LogError(
                f"there is no log '{self._path}'; the program that runs flows makes it: run that, "
                "or see that the path is right"
            )
        log = SqliteEventLog(self._path, read_only=True)
        self._opened = forked.here, log
        return log

    def told(self) -> Told:
        """Return what the last engine has told of itself."""
        return Told(self.log.told(), str(self._path))

    def engine(self) -> EngineInfo | None:
        """Return the engine at work, or None."""
        holder = self.log.holder()
        return None if holder is None else self.told().engine(holder)

    def entry(self, vect: object) -> VectEntry:
        """Return what the log has of a Vect.

        Raises:
            UnknownVectError: There is none of this id (any more).
        """
        return entry_of(self.log, vect)

    def reasons(self, view: VectView, steps: Iterable[StepState]) -> Iterator[str]:
        """Yield why each of these steps is, or is not, running."""
        return reasons_by_log(self, view, steps)

    def extras(self, state: VectState) -> dict[str, Any]:
        """Return what `status` tells besides: a turn, or why a Vect is stranded."""
        if state.state in VECT_ENDS:
            return {}
        told = self.told()
        extras = {}
        if turn := turn_of(state, self.log, told.flows.get(state.flow)):
            extras["turn"] = f"it waits for its turn as {turn}"
        if (why := told.stranded.get(state.id)) is not None:
            extras["stranded"] = why
        return extras

    def wait(self, vect: str, timeout: float | None) -> str:
        """Return the state in which a Vect has ended, when it has.

        Raises:
            TimeoutError: The time was up first.
        """
        deadline, news = None if timeout is None else monotonic() + timeout, News(self.log)
        while True:
            if news.are_there() and (entry := self.entry(vect)).state in VECT_ENDS:
                return entry.state
            left = follow.LOOK_SECONDS if deadline is None else deadline - monotonic()
            if left <= 0:
                entry = self.entry(vect)
                raise TimeoutError(
                    f"vect {vect} of flow '{entry.flow}' is '{entry.state}' after {timeout} "
                    "seconds; it goes on, wait again or cancel it"
                )
            sleep(min(left, follow.LOOK_SECONDS))

    def ask(
        self, vect: str, action: str, told: Mapping[str, Any], seconds: float, *, is_queued: bool
    ) -> Answer:
        """Have the engine do something; see `Steering.ask`."""
        return Steering(self.log).ask(vect, action, told, seconds, is_queued=is_queued)

    def start(
        self, vect: str, told: Mapping[str, Any], seconds: float, *, is_queued: bool
    ) -> Answer:
        """Have the engine start a flow; parameters travel as JSON."""
        plain = {name: plain_of(told[name]) for name in ("given", "params") if name in told}
        told = {**told, **plain}
        return self.ask(vect, "start", told, seconds, is_queued=is_queued)

    def backfill(self, told: Mapping[str, Any], seconds: float, *, is_queued: bool) -> Backfill:
        """Have the engine fill times of a plan."""
        name = os.urandom(8).hex()
        answer = self.ask(name, "backfill", told, seconds, is_queued=is_queued)
        if answer.seq is None:
            return Backfill([], answer.number)
        log = self.log
        first = next(iter(log.read(answer.seq - 1, answer.seq)), None)
        if first is None or first.data.get("backfill") != name:
            return Backfill([])  # each time had its Vect
        new = [e for e in log.newest_vects(None, told["flow"]) if e.first_seq >= answer.seq]
        begun = log.read_each([each.id for each in reversed(new)], 1)
        return Backfill([each.vect for each in begun if each.data.get("backfill") == name])

    def answer(self, number: object) -> Answer | None:
        """Return what has become of a request; see `Steering.answer`."""
        return Steering(self.log).answer(number)

    def __repr__(self) -> str:
        """Return the file."""
        return f"log '{self._path}'"


class AppSource:
    """An app of this process: it is asked itself, and its log is read.

    Args:
        app: The app.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    @property
    def log(self) -> EventLog:
        """The log of the app; one that inherits from nothing as one that has all members.

        Raises:
            EngineError: This is a forked child of the process of the app.
        """
        self._app.flows()
        log = self._app.log
        return log if isinstance(log, EventLog) else log_of(log).log

    def told(self) -> Told:
        """Return what the app has told of itself."""
        return Told(self.log.told(), repr(self.log))

    def engine(self) -> EngineInfo | None:
        """Return the engine at work on the log of the app; None if there is none."""
        is_driven = self._app.is_driven
        return self.told().engine(self.log.holder() or Holder(os.getpid(), is_driven))

    def entry(self, vect: object) -> VectEntry:
        """Return what the log has of a Vect; errors as of `FileSource.entry`."""
        return entry_of(self.log, vect)

    def reasons(self, view: VectView, steps: Iterable[StepState]) -> Iterator[str]:
        """Yield why each of these steps is, or is not, running."""
        if not view.is_past:
            try:
                vect = self._app.vect(view.id)
            except UnknownFlowError:  # it is one of an earlier program
                return reasons_by_log(self, view, steps)
            return (str(vect.explain(step.name)) for step in steps)
        return reasons_by_log(self, view, steps)

    def extras(self, state: VectState) -> dict[str, Any]:
        """Return what `status` tells besides: a turn, or why a Vect is stranded."""
        if state.state in VECT_ENDS:
            return {}
        try:
            status = self._app.vect(state.id).status()
        except UnknownFlowError:
            return {}
        return {name: status[name] for name in ("turn", "stranded") if name in status}

    def wait(self, vect: str, timeout: float | None) -> str:
        """Return the state in which a Vect has ended, when it has; errors as of `Vect.wait`."""
        return str(self._app.vect(vect).wait(timeout))

    def ask(
        self,
        vect: str,
        action: str,
        told: Mapping[str, Any],
        seconds: float,
        *,
        is_queued: bool,
    ) -> Answer:
        """Have the app do something; errors as of the methods of `Vect`."""
        getattr(self._app.vect(vect), action)(**told)
        return self._done()

    def start(
        self,
        vect: str,
        told: Mapping[str, Any],
        seconds: float,
        *,
        is_queued: bool,
    ) -> Answer:
        """Have the app start a flow; errors as of `OAutom.start`."""
        self._app.start(**told, vect_id=vect, timeout=seconds)
        return self._done()

    def backfill(self, told: Mapping[str, Any], seconds: float, *, is_queued: bool) -> Backfill:
        """Have the app fill times of a plan; errors as of `OAutom.backfill`."""
        given = {"first": told["from"], "last": told["to"]}
        given |= {name: told[name] for name in ("parallel", "plan") if name in told}
        vects = self._app.backfill(told["flow"], **given, timeout=seconds)
        return Backfill([vect.id for vect in vects])

    def _done(self) -> Answer:
        return Answer(None, self.log.committed_seq, None, datetime.now(UTC))

    def answer(self, number: object) -> Answer | None:
        """Refuse: an app answers at once, and what others ask by its log they are told there.

        Raises:
            SettingError: Always.
        """
        raise SettingError(
            f"there is no request {shown(number)}: an app of this process answers at once; open a "
            "Client by the path of its log to see what others have asked"
        )

    def __repr__(self) -> str:
        """Return the app."""
        return repr(self._app)


def entry_of(log: EventLog, vect: object) -> VectEntry:
    """Return what a log has of a Vect.

    Raises:
        UnknownVectError: There is none of this id (any more).
    """
    name = at_heart(vect)
    entry = log.find(name) if type(name) is str else None
    if entry is not None:
        return entry
    gone = log.find_pruned(name) if type(name) is str else None
    if gone is None:
        raise UnknownVectError(f"the log has no vect {shown(vect)}; vects() lists them")
    raise UnknownVectError(
        f"vect '{name}' of flow '{gone.flow}' ended as '{gone.state}' and was pruned from the log",
        flow=gone.flow,
    )


def reasons_by_log(
    source: FileSource | AppSource, view: VectView, steps: Iterable[StepState]
) -> Iterator[str]:
    """Yield why each of these steps is, or is not, running, by what its log tells."""
    if view.is_past or view.ended:
        now = view.events()[-1].time if view.is_past else datetime.now(UTC)
        yield from (explain(step, now, NO_FACTS) for step in steps)
        return
    facts: Callable[[StepState], Facts] | None = None
    for step in steps:
        if facts is None:
            facts = facts_of(step.vect, source.log, source.engine(), source.told().stranded)
        yield explain(step, datetime.now(UTC), facts(step))
