"""What is done once, after a crash: leftovers are ended, and Vects that were left open go on.

The scheduler takes them over, some at a time (`Scheduler.take_over`). Here it is found out which
can go on. Nothing here is guarded: the app calls it under its lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from oautom.engine.messages import Asked
from oautom.engine.scheduler import Scheduler
from oautom.errors import FlowChangedError, FlowError, LogError, OAutomError, exhausted
from oautom.events.log import EventLog, VectEntry
from oautom.flows.flow import Flow
from oautom.machine.event import NO_DATA, Event, is_answer
from oautom.machine.tables import UNDONE_EVENTS, VECT_ENDS
from oautom.processes.leftovers import end_leftovers
from oautom.vects.run import Run
from oautom.vects.stored import Recalled, unfit

_logger = logging.getLogger("oautom.recovery")


_AT_ONCE: Final = 100
"""Of how many Vects the events are read at a time."""


class Recovery:
    """Has the Vects go on that earlier programs have left open.

    Args:
        log: The log of the app.
        scheduler: Who shall drive them.
        listen: Has what other processes ask for done at once, from now on.

    Attributes:
        on_stranded: Called with why Vects do not go on, by their ids; None of those that do.
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
        self._told: set[str] = set()  # ids of those of which it was said why they do not go on
        self._absent: set[str] = set()  # names of the flows that some wait for

    def recover(self) -> list[Run]:
        """Have the Vects go on that a dead program has left open, and return their runs.

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
        """Recover, if that was not done, before a flow is started."""
        self.recover_once()
        if not flow.is_frozen and any(run.flow is flow for run, _ in self._refused()):
            self._recover(is_read=False)  # it may have had some of its steps only

    def recover_once(self, flows: Iterable[Flow] | None = None) -> None:
        """Have go on what is left of flows of which it does not yet; tell the logger what does not.

        A flow counts as it is declared when somebody uses it: until then the program may be about
        to declare its steps.

        Args:
            flows: Those that are used; None for all that are declared by now.
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
        """Have those go on whose flow is as it was, and return their runs, oldest first.

        Args:
            is_read: All that their events tell is looked at here: whether they make sense. Else
                whoever drives does so when each is about to go on.
        """
        if not self._is_done:
            self._end_leftovers()
        runs = self._left_open()
        self._find_lanes(runs)
        self._registry.turns.is_still = True
        self._registry.take_left(runs)  # they count as open, whatever comes of each
        first = [run for run in runs if run.keeps_slots]  # as `Scheduler.take_over` wants it
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
        self._tell_of_unfit()
        stranded: dict[str, str | None] = {run.id: str(error) for run, error in self._refused()}
        self.on_stranded({**stranded, **{run.id: None for run in going_on}})
        self._look_again()
        self._is_done = True
        self._taken_over.update(run.id for run in going_on)
        self._listen_once()  # last: what goes on by now is no leftover where this raises
        return [run for run in runs if run in going_on]

    def _find_lanes(self, runs: Sequence[Recalled]) -> None:
        """Find out what each counts for whose flow limits the values of a parameter."""
        counted = {run.id: run for run in runs if run.flow.limit_by is not None}
        ids = list(counted)
        for at in range(0, len(ids), _AT_ONCE):
            for event in self._begun(ids[at : at + _AT_ONCE]):
                run = counted.pop(event.vect)
                run.lane = run.flow.lane(event.data.get("params", NO_DATA))
        for run in counted.values():  # behind one that cannot be read
            with suppress(LogError):
                run.lane = run.flow.lane(run.state.params)

    def _begun(self, ids: Sequence[str]) -> Iterator[Event]:
        """Yield the first event of each Vect, up to one that cannot be read."""
        with suppress(LogError):  # then each is read, which tells whose event it is
            yield from self._log.read_each(ids, 1)

    def _left_open(self) -> list[Recalled]:
        """Return the runs that earlier programs have left open, and that do not go on yet."""
        self._unfit = []
        used = self._registry.used
        left = [each for each in self._registry.left_open() if each.id not in self._taken_over]
        self._tell_of_absent([entry for entry in left if entry.flow not in used])
        stored = self._registry.stored
        found = [stored(entry, used[entry.flow]) for entry in left if entry.flow in used]
        return [run for run in found if run.is_inherited and run.shown not in VECT_ENDS]

    def _tell_of_absent(self, entries: Sequence[VectEntry]) -> None:
        self._absent = {entry.flow for entry in entries}
        for entry in entries:
            if entry.id not in self._told:
                self._told.add(entry.id)
                _logger.warning(
                    "vect '%s' waits for flow '%s' to be declared; to give it up, declare a flow "
                    "of this name, whatever its steps are, and cancel the vect",
                    *entry[:2],
                )

    def _tell_of_unfit(self) -> None:
        """Say once of each, and of each other reason, why it does not go on."""
        for run, error in self._refused():
            told = f"{run.id} {error}"
            if told not in self._told:
                self._told.add(told)
                _logger.error("%s", error)

    def _fit_of(
        self, runs: Sequence[Recalled], refusals: dict[Flow, FlowError | None], *, is_read: bool
    ) -> list[Recalled]:
        """Return the runs that can go on; of the others, why they cannot is kept."""
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
        """Return why Vects do not go on, of those that have not been given up."""
        return [(run, run.held_up) for run in self._unfit if run.held_up is not None]

    def _look_again(self) -> None:
        """Do what others have asked for and nobody could do: a flow is used now."""
        if self._log.id is not None:
            self._scheduler.put(Asked(again=True))

    def _listen_once(self) -> None:
        """Do at once what other processes ask for; where that cannot be, the next call tries."""
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
            raise exhausted("it cannot be told what a dead program has left", error) from error
        for pid in ended:
            _logger.warning("process %d, left by a dead program, was ended", pid)

    def _is_open(self, vect: str, step: str | None, attempt: str | None) -> bool:
        """Whether an attempt has not ended by itself: it runs, or was cancelled or abandoned.

        What one has left behind that has, it has left on purpose; so it is with one of a Vect that
        the log does not have (any more).
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


def _changes(run: Recalled, begun: Event | None) -> FlowChangedError | None:
    """Return why a run does not fit its flow any more, or None.

    Args:
        run: The run.
        begun: Its first event, which tells that; None to look at all of them.

    Raises:
        LogError: They cannot be read, or make no sense.
    """
    if begun is not None and begun.data.keys() >= {"graph", "params"}:
        return unfit(run, begun.data)
    run.hold()
    return unfit(run)


def _refusal(flow: Flow, known: dict[Flow, FlowError | None]) -> FlowError | None:
    """Return why a flow cannot be started, or None; the Vects of others must go on."""
    if flow not in known:
        try:
            flow.freeze()
        except FlowError as error:
            known[flow] = error
        else:
            known[flow] = None
    return known[flow]
