"""Recovery, done once after a crash: leftover processes are ended, and open Vects go on.

This module finds the Vects that can go on; the scheduler takes them over, some at a time
(`Scheduler.take_over`). It takes no lock: the app calls it under its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from oautom.engine.messages import Asked
from oautom.engine.scheduler import Scheduler
from oautom.errors import FlowChangedError, FlowError, LogError, OAutomError, exhausted
from oautom.events.log import EventLog, VectEntry, told_by_id
from oautom.flows.flow import Flow
from oautom.machine.event import NO_DATA, Event, is_answer
from oautom.machine.maps import map_of
from oautom.machine.state import Hold, limits_of
from oautom.machine.tables import INITIAL, UNDONE_EVENTS, VECT_ENDS
from oautom.processes.leftovers import end_leftovers
from oautom.vects.run import Run
from oautom.vects.stored import Recalled, open_before, unfit

_logger = logging.getLogger("oautom.recovery")


_AT_ONCE: Final = 100
"""How many Vects are read at a time."""


class Recovery:
    """Goes on with the Vects that earlier programs have left open.

    Args:
        log: The log of the app.
        scheduler: The scheduler that will drive them.
        listen: Starts to carry out requests of other processes at once.

    Attributes:
        on_stranded: Called with the reasons why Vects do not go on, by id; None for those that do.
    """

    def __init__(self, log: EventLog, scheduler: Scheduler, listen: Callable[[], object]) -> None:
        self._log = log
        self._scheduler = scheduler
        self._listen = listen
        self.on_stranded: Callable[[Mapping[str, str | None]], object] = bool
        self._registry = scheduler.registry
        self._is_done = False
        self._is_listening = False
        self._taken_over: set[str] = set()  # ids of those that go on
        self._unfit: list[Recalled] = []
        self._logged: set[str] = set()  # ids, or ids and errors, that were logged
        self._absent: set[str] = set()  # names of undeclared flows of open Vects

    def recover(self) -> list[Run]:
        """Go on with the Vects that a dead program has left open, and return their runs.

        Raises:
            FlowError: A Vect does not go on, since its flow cannot be started; all others do.
        """
        self._registry.used.update(self._registry.flows)
        runs = self._recover(is_read=True)
        for _, error in self._refused():
            if isinstance(error, FlowError) and not isinstance(error, FlowChangedError):
                raise error
        return runs

    def recover_for(self, flow: Flow) -> None:
        """Recover, if that was not done yet, before a flow is started."""
        self.recover_once()
        if not flow.is_frozen and any(run.flow is flow for run, _ in self._refused()):
            self._recover(is_read=False)  # its declaration may have been incomplete

    def recover_once(self, flows: Iterable[Flow] | None = None) -> None:
        """Go on with the open Vects of newly used flows; log a line for each that cannot go on.

        The declaration of a flow counts only when the flow is used: until then the program may
        still be declaring its steps.

        Args:
            flows: The flows that are used; None for all that are declared by now.
        """
        used, declared = self._registry.used, self._registry.flows
        is_whole = self._is_done and not self._registry.turns.is_still
        if flows is None and len(used) == len(declared) and is_whole:
            self._listen_once()
            return
        wanted = declared if flows is None else {flow.name: flow for flow in flows}
        new = wanted.keys() - used.keys()
        used.update(wanted)
        if not is_whole or not self._absent.isdisjoint(new):
            self._recover(is_read=False)
        elif new:
            self._look_again()
        self._listen_once()

    def _recover(self, *, is_read: bool) -> list[Run]:
        """Go on with the Vects whose flow is unchanged, and return their runs, oldest first.

        Args:
            is_read: Check now whether the events of each Vect make sense. If False, the driving
                thread checks it when the Vect is about to go on.
        """
        if not self._is_done:
            self._end_leftovers()
            self._scheduler.runner.find_left(self._holds_of)
        runs = self._left_open()
        self._find_lanes(runs)
        self._registry.turns.is_still = True
        self._registry.take_left(runs)  # they count as open in any case
        first = [run for run in runs if run.keeps_slots]  # as `take_over` requires
        others = [run for run in runs if not run.keeps_slots]
        portions = [first, *(others[at : at + _AT_ONCE] for at in range(0, len(others), _AT_ONCE))]
        refusals: dict[Flow, FlowError | None] = {}
        going_on: set[Run] = set()
        for portion in portions:
            fit = self._fit_of(portion, refusals, is_read=is_read)
            if fit or self._scheduler.runner.lingering.has_left:
                self._scheduler.entering.take_over(fit)
            going_on.update(fit)
        self._scheduler.leave(self._unfit)
        self._registry.turns.move()
        self._log_unfit()
        stranded: dict[str, str | None] = {run.id: str(error) for run, error in self._refused()}
        self.on_stranded({**stranded, **{run.id: None for run in going_on}})
        self._look_again()
        self._is_done = True
        self._taken_over.update(run.id for run in going_on)
        self._listen_once()  # last: if it raises, the above is done
        return [run for run in runs if run in going_on]

    def _find_lanes(self, runs: Sequence[Recalled]) -> None:
        """Set the lanes of flows that limit a parameter, and what runs of a backfill come after."""
        counted = {run.id: run for run in runs if run.flow.limit_by is not None or _is_late(run)}
        ids = list(counted)
        for at in range(0, len(ids), _AT_ONCE):
            for event in self._begun(ids[at : at + _AT_ONCE]):
                run = counted.pop(event.vect)
                run.lane = run.flow.lane(event.data.get("params", NO_DATA))
                run.after = open_before(self._log, event.data.get("after"))
        for run in counted.values():  # those after an event that cannot be read
            with suppress(LogError):
                run.lane = run.flow.lane(run.state.params)

    def _begun(self, ids: Sequence[str]) -> Iterator[Event]:
        """Yield the first event of each Vect, up to one that cannot be read."""
        with suppress(LogError):  # then each is read by itself, which finds the bad one
            yield from self._log.read_each(ids, 1)

    def _left_open(self) -> list[Recalled]:
        """Return the runs that earlier programs have left open, and that do not go on yet."""
        self._unfit = []
        used = self._registry.used
        left = [each for each in self._registry.left_open() if each.id not in self._taken_over]
        self._log_absent([entry for entry in left if entry.flow not in used])
        stored = self._registry.stored
        found = [stored(entry, used[entry.flow]) for entry in left if entry.flow in used]
        return [run for run in found if run.is_inherited and run.shown not in VECT_ENDS]

    def _log_absent(self, entries: Sequence[VectEntry]) -> None:
        self._absent = {entry.flow for entry in entries}
        for entry in entries:
            if entry.id not in self._logged:
                self._logged.add(entry.id)
                _logger.warning(
                    "vect '%s' waits for flow '%s' to be declared; to give it up, declare a flow "
                    "of this name, with any steps, and cancel the vect",
                    *entry[:2],
                )

    def _log_unfit(self) -> None:
        """Log once for each Vect, and for each new reason, why it does not go on."""
        for run, error in self._refused():
            line = f"{run.id} {error}"
            if line not in self._logged:
                self._logged.add(line)
                _logger.error("%s", error)

    def _fit_of(
        self, runs: Sequence[Recalled], refusals: dict[Flow, FlowError | None], *, is_read: bool
    ) -> list[Recalled]:
        """Return the runs that can go on; the others go to `_unfit`, with their `held_up` set."""
        begun: dict[str, Event] = {}
        if is_read:
            self._registry.reader.hold_all(runs)
        else:
            begun = {event.vect: event for event in self._begun([run.id for run in runs])}
        for run in runs:
            try:
                run.held_up = _changes(run, begun.get(run.id)) or _refusal(run.flow, refusals)
            except LogError as error:  # all others go on
                run.held_up = error
        self._unfit += [run for run in runs if run.held_up is not None]
        return [run for run in runs if run.held_up is None and run.shown not in VECT_ENDS]

    def _refused(self) -> list[tuple[Run, OAutomError]]:
        """Return the runs that do not go on and have not been given up, with the reasons."""
        return [(run, run.held_up) for run in self._unfit if run.held_up is not None]

    def _look_again(self) -> None:
        """Check the requests that wait for a flow: one is used now."""
        if self._log.id is not None:
            self._scheduler.put(Asked(again=True))

    def _listen_once(self) -> None:
        """Start to carry out requests of other processes; after a failure the next call retries."""
        if not self._is_listening and self._log.id is not None:
            self._listen()
            self._is_listening = True

    def _end_leftovers(self) -> None:
        """End the processes of a dead program: no step may run twice at once."""
        if self._log.id is None:
            return
        try:
            ended = end_leftovers(self._log.id, self._is_open)
        except OSError as error:
            what = "the processes left by a dead program cannot be found"
            raise exhausted(what, error) from error
        for pid in ended:
            _logger.warning("process %d, left by a dead program, was ended", pid)

    def _holds_of(self, flow: str, step: str) -> list[Hold]:
        """Return the slots that a step of an earlier program has had."""
        steps = self._registry.flows[flow].steps if flow in self._registry.flows else {}
        declared = steps.get(step) or steps.get(map_of(step))
        if declared is None:
            return []
        return [Hold(each.group, each.takes) for each in limits_of(flow, declared.options())]

    def _is_open(self, vect: str, step: str | None, attempt: str | None) -> bool:
        """Whether an attempt has not ended by itself: it runs, or was cancelled or abandoned.

        Processes of an attempt that has ended by itself were left on purpose; so were those of a
        Vect that the log does not have (any more).
        """
        is_known = False
        for event in self._log.read(vect=vect):
            is_known = True
            is_answered = is_answer(event) or event.name in UNDONE_EVENTS
            number = -(event.attempt or 0) if event.name in UNDONE_EVENTS else event.attempt
            is_its = event.step == step and str(number) == attempt
            if is_its and is_answered and "abandoned" not in event.data:
                return False
        return is_known


def _is_late(run: Recalled) -> bool:
    """Whether a run may be one of a backfill that has not begun: it has the id of a plan."""
    return run.shown == INITIAL and told_by_id(run.id) is not None


def _changes(run: Recalled, begun: Event | None) -> FlowChangedError | None:
    """Return the error of a run that does not fit its flow any more, or None.

    Args:
        run: The run.
        begun: Its first event, which is enough for the check; None to read all events.

    Raises:
        LogError: The events cannot be read, or make no sense.
    """
    if begun is not None and begun.data.keys() >= {"graph", "params"}:
        return unfit(run, begun.data)
    run.hold()
    return unfit(run)


def _refusal(flow: Flow, known: dict[Flow, FlowError | None]) -> FlowError | None:
    """Return the error of a flow that cannot be started, or None; other flows must go on."""
    if flow not in known:
        try:
            flow.freeze()
        except FlowError as error:
            known[flow] = error
        else:
            known[flow] = None
    return known[flow]
