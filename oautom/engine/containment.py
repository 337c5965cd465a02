"""Containment of bugs: Vects are brought back to the last commit, or left as they are.

The scheduler decides when: a tick that has raised is taken back, and a Vect that makes it raise
again is *stranded*. The code here calls as little as it can: a bug that always shows is met here,
too.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from oautom.engine.messages import Loan, Poll
from oautom.engine.queue import ReadyQueue
from oautom.engine.runner import Runner
from oautom.errors import EngineError
from oautom.events.log import EventLog
from oautom.machine.commands import Key
from oautom.machine.state import StepState, VectState
from oautom.vects.registry import Registry
from oautom.vects.run import Run

_logger = logging.getLogger("oautom.scheduler")


Item = StepState | VectState | Poll | Loan | Run
"""What a tick can have in hand."""


class Notes:
    """The notes of a tick, shared by the parts of the engine. No collection is rebound.

    Attributes:
        in_hand: The object that is being processed: if the tick raises, it is to blame.
        ready: The models that may be due.
        news: The ids of Vects whose waiting calls must check again.
        ended: The runs whose end is about to be announced.
    """

    __slots__ = ("ended", "in_hand", "news", "ready")

    def __init__(self) -> None:
        self.in_hand: Item | None = None
        self.ready: deque[StepState | VectState] = deque()
        self.news: list[str] = []
        self.ended: deque[Run] = deque()

    @property
    def vect(self) -> str | None:
        """The id of the Vect that is being processed."""
        match self.in_hand:
            case None:
                return None
            case Run() as run:
                return run.id
            case Poll() | Loan() as each:
                return each.key[0]
            case model:
                return model.vect.id


class Containment:
    """Confines a bug to the Vect that shows it. Used on the driving thread.

    Args:
        log: The log, which has the last commit.
        runner: Performs the effects.
        queue: The steps that wait for a slot, and the slots that are taken.
        registry: The runs.
        notes: The notes of the tick.

    Attributes:
        has_stranded: A Vect was stranded since the scheduler has counted its slots.
        on_strand: Called with the run of a Vect that does not go on; its `held_up` says why.
    """

    def __init__(
        self,
        log: EventLog,
        runner: Runner,
        queue: ReadyQueue,
        registry: Registry,
        notes: Notes,
    ) -> None:
        self.has_stranded = False
        self.on_strand: Callable[[Run], object] = bool
        self._log = log
        self._runner = runner
        self._queue = queue
        self._registry = registry
        self._ready, self._news = notes.ready, notes.news

    def bring_back(self, vects: Iterable[str]) -> None:
        """Make each of these Vects anew from its committed events."""
        for vect in vects:
            run = self._registry.runs.get(vect)
            if run is None or run.held_up is not None or not run.is_held:
                continue
            try:
                self._go_back_with(run)
            except Exception:
                _logger.exception("vect '%s' cannot be brought back to the last commit", vect)
                self.strand(run)

    def _go_back_with(self, run: Run) -> None:
        self._registry.go_back(self._log, run)
        self._queue.give_up(run.id, self._runner.at_work(run.id))
        self._registry.take_back(run)
        self._queue.recount(run.state, self._runner.holds)
        if not run.is_inherited:  # else nothing of it may start before it is taken over
            self._ready.extend([*run.state.steps.values(), run.state])

    def strand(self, run: Run) -> None:
        """Leave a run as it is until the program is run again: this engine cannot go on with it."""
        run.held_up = bug(
            f"vect '{run.id}' of flow '{run.flow.name}' does not go on in this program; the others "
            "do, and this one is tried again when the program is run again",
            run.flow.name,
        )
        _logger.error("%s", run.held_up)
        self.has_stranded = True
        self._registry.shut(run)
        left = [model for model in self._ready if model.vect.id != run.id]
        self._ready.clear()
        self._ready.extend(left)
        self._news.append(run.id)
        for give_back in (self._end_work, self.strand_parent, self.on_strand):
            try:
                give_back(run)
            except Exception:  # it is stranded in any case
                _logger.exception("the slots of vect '%s' could not be given back", run.id)

    def _end_work(self, run: Run) -> None:
        """End the work of a stranded run, and free its slots."""
        self._runner.strand(run.id)
        self._runner.let_go(run.id)
        self._queue.give_up(run.id, self._runner.at_work(run.id))

    def strand_parent(self, run: Run) -> None:
        """Strand the parent of a run: the Vect with a step that waits for its end."""
        for key in self._registry.parents(run):
            self.strand_waiting(key)

    def strand_waiting(self, key: Key) -> None:
        """Strand the Vect of an attempt that waits for the end of its child."""
        parent = self._registry.runs.get(key[0])
        if parent is not None and self._runner.is_under_way(key):
            self.strand(parent)


def bug(what: str, flow: str | None = None) -> EngineError:
    """Return the error for a bug of the engine; it names the logger that has the traceback."""
    where = "the traceback is in the log 'oautom.scheduler' of the program"
    return EngineError(f"this is a bug in oautom: {what}; {where}", flow=flow)
