"""The outlook: what only the scheduler knows of a step, for `explain`. Under its lock."""

from __future__ import annotations

from oautom.engine.queue import Turns
from oautom.engine.runner import Runner
from oautom.engine.waiting import Waits
from oautom.machine.explain import Facts
from oautom.machine.state import StepState
from oautom.steps.options import wrong_interval
from oautom.vects.registry import Roster
from oautom.vects.run import Run


class Outlook:
    """Which workers and slots are taken, and who is served before whom.

    Args:
        runner: Who has the work done.
        turns: Whose turn it is.
        roster: The runs that there are.
        waits: Which steps wait for Vects.
    """

    def __init__(self, runner: Runner, turns: Turns, roster: Roster, waits: Waits) -> None:
        self._runner = runner
        self._turns = turns
        self._roster = roster
        self._waits = waits

    def facts(self, run: Run, step: str) -> Facts:
        """Return what is known of a step of a run."""
        key = (run.id, step, run.state.steps[step].attempt)
        ahead, higher = self._turns.ahead_of(run.state.steps[step])
        return Facts(
            held_up="" if run.held_up is None else str(run.held_up),
            is_inherited=run.is_inherited,
            workers=self._runner.workers_if_taken,
            taken=self._turns.taken(),
            ahead=ahead,
            higher=higher,
            poll_interval=_poll_interval(run, step),
            child=self._state_of_child(run, step),
            awaited=self._waits.vects_of(key),
            is_returning=self._runner.is_returning(key),
            at_work=self._at_work(run.state.steps[step]),
        )

    def _at_work(self, step: StepState) -> frozenset[str]:
        """Return the names of a step and its upstreams of which an earlier attempt is at work."""
        ups = step.vect.graph.upstreams[step.name] if step.parent is None else [step.parent.name]
        near = [step, *(step.vect.steps[name] for name in ups)]
        return frozenset(each.name for each in near if self._runner.lingers(each))

    def _state_of_child(self, run: Run, step: str) -> str:
        child = run.state.steps[step].child
        if child is None:
            return ""
        found = self._roster.runs.get(child)
        return "waiting" if found is None else found.shown


def _poll_interval(run: Run, step: str) -> float:
    execution = run.flow.steps.get(step)  # there is none where the flow has changed
    if execution is None or not execution.is_polled or wrong_interval(execution.poll_interval):
        return 0.0
    return execution.poll_interval
