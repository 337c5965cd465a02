"""What people ask of a run: whether it makes sense, and what a cancel does where little else goes.

Another process asks in the same way, by the log (`Requests`).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

from oautom.engine.entering import UNWANTED, Entering
from oautom.engine.inbox import WRONG_THREAD, Wheel
from oautom.errors import FlowError, LogError, VectStateError
from oautom.events.log import EventLog
from oautom.machine.commands import Cancel, Command, Decide, Pause, Retry
from oautom.machine.decide import too_late, uncancellable
from oautom.machine.tables import VECT_ENDS
from oautom.vects.registry import Registry
from oautom.vects.run import Run


class Steering:
    """Does what people ask. Used on the thread that drives, in a tick; `check` on any.

    Args:
        log: The log.
        registry: The runs.
        entering: Has those go on that are left of an earlier program.
        wheel: Who drives.
        obey: Has a command make happen what it asks for.
        end_unread: Writes that a run was cancelled of which nothing but the state can be read.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        entering: Entering,
        wheel: Wheel,
        *,
        obey: Callable[[Command], None],
        end_unread: Callable[[Run, str], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._entering = entering
        self._wheel = wheel
        self._obey = obey
        self._end_unread = end_unread

    def obey(self, run: Run, command: Command) -> None:
        """Do what a person asks of a run.

        Raises:
            VectStateError: It makes no sense in the state that the Vect, or its step, is in.
            UnknownStepError: The flow has no such step.
            OAutomError: The Vect does not go on, and why.
        """
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        if isinstance(command, Cancel):
            self.cancel(run, command)
            return
        late = self._refusal(run, command)
        command = of_today(run, command)
        self._registry.add(run)
        is_behind = self._registry.turns.is_behind
        if run.is_inherited and not is_behind(run):  # it goes on before its turn
            self._entering.enter_first(run)
            run.check_going_on()
        if isinstance(command, Retry):
            self._registry.reopen(run)
        self._obey(command)
        if late is not None:
            raise late

    def check(self, run: Run, command: Command) -> None:
        """Refuse what makes no sense by now; errors as of `obey`."""
        if (late := self._refusal(run, command)) is not None:
            raise late

    def _refusal(self, run: Run, command: Command) -> VectStateError | None:
        """Return why a decision comes too late: that is written down, and then told."""
        if not isinstance(command, Cancel):
            run.check_going_on()
        if isinstance(command, Retry):
            self._registry.check_reopening(run)
        if isinstance(command, Pause) and self._registry.turns.is_behind(run):
            raise VectStateError(
                f"vect '{run.id}' of flow '{run.flow.name}'",
                run.shown,
                "it waits for its turn and runs nothing yet; pause it when it has started, or "
                "cancel it",
                run.flow.name,
            )
        return too_late(run.state, command) if isinstance(command, Decide) else None

    def cancel(self, run: Run, command: Cancel) -> None:
        """Cancel a run: one way out for those, too, that do not go on otherwise.

        Raises:
            VectStateError: What it has done must be undone whole.
        """
        run = self._registry.add(run)
        was_held_up, run.held_up = run.held_up is not None, None
        try:
            if was_held_up:  # who has failed with it may have left its state anyhow
                self._registry.go_back(self._log, run)
            if run.shown not in VECT_ENDS:
                run.hold()
        except LogError:  # its events make no sense: no more is known of it than its state
            self._end_unread(run, command.reason)
            return
        if (refusal := uncancellable(run.state)) is not None:
            raise refusal
        self._obey(Cancel(command.vect, command.reason, is_again=True))
        if not run.is_inherited:
            return
        if not (run.state.open_steps or run.state.to_compensate):
            self._entering.note(run)  # it is over: a retry of it is of this life, and no recovery
            return
        self._registry.take(run)  # it may have been left, and goes on with what cleans up
        self._entering.enter_first(run)

    def give_up(self, run: Run, command: Cancel) -> None:
        """Cancel a run that does not fit its flow; a bug that holds one up may show again."""
        if isinstance(run.held_up, FlowError):
            self.cancel(run, command)

    def look_at_misfit(self, vect: str) -> None:
        """Cancel a run that does not fit its flow if it is a child that nobody needs any more."""
        run = self._registry.runs.get(vect)
        if run is None or not isinstance(run.held_up, FlowError):
            return
        if not self._entering.is_wanted(run):
            self.cancel(run, Cancel(run.id, UNWANTED))


def of_today(run: Run, command: Command) -> Command:
    """Return a command with what it asks for as the program has it by now."""
    return Retry(run.id, run.news()) if isinstance(command, Retry) else command
