"""Simulated programs that die, one after the other, on one log, without any process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, get_args

from oautom.engine.messages import Call, Nudge
from oautom.engine.scheduler import Scheduler
from oautom.errors import SettingError, VectAlreadyRunningException, VectStateError, shown
from oautom.events.memory import MemoryEventLog
from oautom.flows.flow import Flow
from oautom.flows.params import NO_PARAMS
from oautom.machine.commands import Cancel, Finished, Pause, Resume, Retry
from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.testing.clock import SimulatedClock
from oautom.vects.run import Run
from oautom.vects.stored import Recalled
from oautom.workers.base import Workers

When = Literal["before", "in", "after"]
Moment = tuple[When, int]
"""The moment at which a program dies: before, in or after a commit, with its number, from 1."""


class Crash(BaseException):
    """The program dies. No `Exception`: nothing that handles errors may survive it."""


class MortalLog(MemoryEventLog):
    """A log whose programs die at given moments; what they have committed stays.

    Args:
        crash_at: The moments. Commits are counted over all lives; those without events are not.
    """

    def __init__(self, crash_at: Iterable[Moment] = ()) -> None:
        super().__init__()
        self._crash_at = frozenset(crash_at)
        self._commits = 0

    def commit(self) -> Sequence[Event]:
        """Commit, or die: before it, so that all is lost, or in it, before its effects.

        Raises:
            Crash: The program dies.
        """
        if not self._appended:
            return ()
        self._commits += 1
        if ("before", self._commits) in self._crash_at:
            self.last_seq -= len(self._appended)
            self._appended, self._noted = [], []
            raise Crash
        events = super().commit()
        if ("in", self._commits) in self._crash_at:
            raise Crash
        return events

    def tell(self, flow: object, happened: Event) -> None:
        """Send no signal, or die: all effects of the commit are done.

        Raises:
            Crash: The program dies.
        """
        if ("after", self._commits) in self._crash_at:
            raise Crash


def moments(crash_at: object) -> list[Moment]:
    """Return the moments of an argument `crash_at`, which is one, or a list of them.

    Raises:
        SettingError: The argument is neither.
    """
    is_one = isinstance(crash_at, tuple) and len(crash_at) > 0 and isinstance(crash_at[0], str)
    is_list = isinstance(crash_at, list | tuple) and not is_one
    found: list[Any] = list(crash_at) if is_list else [crash_at]  # type: ignore[call-overload] # as asked
    for each in found:
        match each:
            case (str(when), int(number)) if when in get_args(When) and number > 0:
                continue
        raise SettingError(
            "crash_at must be moments like ('after', 3): 'before', 'in' or 'after', and the number "
            f"of a commit from 1, not {shown(each)}"
        )
    return found


class Lives:
    """Programs that run Vects of one flow, each going on where the one before it died.

    Args:
        flow: The flow.
        log: The log, which outlives the programs.
        clock: The clock, which goes on.
        hire: Makes the workers of a program.
        decide: Returns the decision of a person about an approval, and after how many seconds.
    """

    def __init__(
        self,
        flow: Flow,
        log: MortalLog,
        clock: SimulatedClock,
        hire: Callable[[], Workers],
        decide: Callable[[str, str, int], tuple[float, Finished]],
    ) -> None:
        self.runs: dict[str, Run] = {}
        self._flow, self._log, self._clock, self._hire = flow, log, clock, hire
        self._decide = decide
        self._asked: set[tuple[str, str, int]] = set()
        self.scheduler = self._born()

    def _born(self) -> Scheduler:
        return Scheduler(self._log, self._clock, self._hire(), tell=self._tell)

    def _tell(self, flow: object, happened: Event) -> None:
        if (
            happened.name == "step.started"
            and "prompt" in happened.data
            and "problem" not in happened.data
        ):
            self._ask(happened.vect, happened.step or "", happened.attempt or 0)
        self._log.tell(flow, happened)

    def _ask(self, vect: str, step: str, attempt: int) -> None:
        """Schedule the decision of a person, who survives when the program dies."""
        if (vect, step, attempt) not in self._asked:
            self._asked.add((vect, step, attempt))
            seconds, decision = self._decide(vect, step, attempt)
            self._clock.call_later(seconds, lambda: self.scheduler.put(decision))

    def begin(self, vect: str, params: Mapping[str, Any] = NO_PARAMS) -> None:
        """Start a Vect, with plain parameters."""
        self.runs[vect] = Run(self._flow, vect, params)
        self.scheduler.begin(self.runs[vect])

    def cancel(self, vect: str, reason: str) -> None:
        """Cancel a Vect; the cancel is lost if the program dies before it is committed."""
        self.scheduler.ask(self.runs[vect], Cancel(vect, reason, is_again=True))

    def do(self, vect: str, action: str) -> None:
        """Pause, resume, cancel or retry a Vect; a call that makes no sense has no effect."""
        run = self.runs[vect]
        if action == "pause":
            self.scheduler.ask(run, Pause(vect))
        elif action == "resume":
            self.scheduler.ask(run, Resume(vect))
        elif action == "cancel":
            self.cancel(vect, "wished")
        elif run.is_told:
            with suppress(VectStateError, VectAlreadyRunningException):
                self.scheduler.steering.check(run, Retry(vect))
                do = partial(self.scheduler.steering.obey, run, Retry(vect))
                self.scheduler.put(Call(vect, do))
        self.scheduler.put(Nudge())  # whoever drives looks again, also where nothing was done

    def drive(self, until: Callable[[], bool]) -> None:
        """Drive until `until()`, in as many programs as it takes."""
        while True:
            try:
                self.scheduler.drive(until)
            except Crash:
                self._go_on()
            else:
                return

    def _go_on(self) -> None:
        """Go on as a program does that is run again."""
        self.scheduler = self._born()
        reader, is_durable = self.scheduler.registry.reader, self._log.id is not None
        known = {
            entry.id: Recalled(self._flow, entry, reader, is_durable=is_durable)
            for entry in self._log.vects()
        }
        lost = [vect for vect in self.runs if vect not in known]
        self.runs.update(known)
        self.scheduler.entering.take_over([run for run in known.values() if not run.is_told])
        self.scheduler.registry.turns.move()
        for vect in lost:
            self.begin(vect, self.runs[vect].first_params)
        for run in known.values():
            for step in run.state.steps.values():
                if step.state == "running" and kind_of(step.kind).ended_by == "person":
                    self._ask(run.id, step.name, step.attempt)
            if run.shown == "paused":  # whoever was about to resume it may be gone
                self.do(run.id, "resume")
