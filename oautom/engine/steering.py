"""What people ask of a run: checked against its state, then carried out.

The requests of other processes come the same way, through the log (`Requests`).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

from msgspec import structs

from oautom.engine.entering import UNWANTED, Entering
from oautom.engine.inbox import WRONG_THREAD, Wheel
from oautom.errors import FlowError, LogError, SettingError, VectStateError
from oautom.events.log import EventLog
from oautom.machine.commands import Cancel, Command, Decide, Pause, Retry
from oautom.machine.decide import too_late, uncancellable
from oautom.machine.tables import VECT_ENDS
from oautom.vects.registry import Registry
from oautom.vects.run import Run


class Steering:
    """Carries out what people ask for. Used on the driving thread, in a tick; `check` on any.

    Args:
        log: The log.
        registry: The runs.
        entering: Brings in the runs of an earlier program.
        wheel: Knows the driving thread.
        obey: Carries out a command.
        end_unread: Writes the cancel of a run whose events cannot be read.
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
        """Carry out what a person asks of a run.

        Raises:
            VectStateError: The state of the Vect, or of its step, does not allow it.
            UnknownStepError: The flow has no such step.
            OAutomError: The Vect does not go on; the error says why.
            SettingError: The data of an approval contain a secret.
        """
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        command = without_secrets(run, command)
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
        """Refuse a command that the present state does not allow; errors as of `obey`."""
        if (late := self._refusal(run, command)) is not None:
            raise late

    def _refusal(self, run: Run, command: Command) -> VectStateError | None:
        """Return the error of a decision that comes too late; it is raised after it is recorded."""
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
        """Cancel a run; this ends also a run that cannot go on.

        Raises:
            VectStateError: The run is undoing its work, which must not stop halfway.
        """
        run = self._registry.add(run)
        was_held_up, run.held_up = run.held_up is not None, None
        try:
            if was_held_up:  # a failure may have left its state half changed
                self._registry.go_back(self._log, run)
            if run.shown not in VECT_ENDS:
                run.hold()
        except LogError:  # its events make no sense: only its state is known
            self._end_unread(run, command.reason)
            return
        if (refusal := uncancellable(run.state)) is not None:
            raise refusal
        self._obey(Cancel(command.vect, command.reason, is_again=True))
        if not run.is_inherited:
            return
        if not (run.state.open_steps or run.state.to_compensate):
            self._entering.note(run)  # it is over: a retry belongs to this life
            return
        self._registry.take(run)  # it may have been left; its cleanup steps go on
        self._entering.enter_first(run)

    def give_up(self, run: Run, command: Cancel) -> None:
        """Cancel a run that does not fit its flow; one stranded by a bug is left as it is."""
        if isinstance(run.held_up, FlowError):
            self.cancel(run, command)

    def look_at_misfit(self, vect: str) -> None:
        """Cancel a run that does not fit its flow if it is a child that is no longer needed."""
        run = self._registry.runs.get(vect)
        if run is None or not isinstance(run.held_up, FlowError):
            return
        if not self._entering.is_wanted(run):
            self.cancel(run, Cancel(run.id, UNWANTED))


def without_secrets(run: Run, command: Command) -> Command:
    """Return a command whose texts have `***` in place of the secrets that the run has got.

    Raises:
        SettingError: The data of an approval contain one.
    """
    known = run.local.secrets
    if known is None:
        return command
    masker = known.masker
    if isinstance(command, Cancel):
        return structs.replace(command, reason=masker.text(command.reason))
    if not isinstance(command, Decide):
        return command
    if (name := masker.found_in(command.data)) is not None:
        raise SettingError(
            f"the data of the approval of step '{command.step}' of flow '{run.flow.name}' contain "
            f"secret({name!r}), which is stored nowhere; leave it out",
            flow=run.flow.name,
            step=command.step,
        )
    why = None if command.objection is None else masker.text(command.objection)
    return structs.replace(command, by=masker.text(command.by), objection=why)


def of_today(run: Run, command: Command) -> Command:
    """Return the command; for a retry, with the options that have changed in the program."""
    return Retry(run.id, run.news()) if isinstance(command, Retry) else command
