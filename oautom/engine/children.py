"""Children: the Vects that steps run. To the runner they are workers: here work is another Vect.

A child has its own place in the log, and its own life: a recovery has it go on as any other. All
that ties it to its step is its id. So the step can be told how it has ended by whoever looks, in
this life or in a later one.

Where a retry of its Vect has reset a step whose child failed, or was cancelled, its next attempt
goes on in that child: the start of the step tells its id, and the child is reopened, which tells
the attempt. Where a person has retried the child by then, the attempt joins it, and nothing tells
that but the order of the log: it is for an attempt that a child ends after its start. So whoever
looks later knows for which attempt a child has ended.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import cast

from oautom.engine.scheduler import Scheduler
from oautom.engine.starting import Starting
from oautom.errors import EngineError, FlowError, OAutomError
from oautom.events.log import EventLog
from oautom.flows.flow import Flow
from oautom.machine.commands import Key
from oautom.machine.state import StepState, child_id, moved
from oautom.machine.tables import VECT_ENDS
from oautom.steps.execution import Execution
from oautom.steps.flow import FlowExecution
from oautom.steps.work import Outcome, StepError, Work
from oautom.vects.run import NO_FAILURE, Run
from oautom.vects.stored import unfit
from oautom.workers.base import Done, Job, Workers

_NOT_BEGUN = "it was cancelled before it began"


class Children(Workers):
    """Workers that run a flow for each piece of work.

    Args:
        scheduler: Who drives the Vects.
        starting: Makes them.
        log: The log of the app.
    """

    def __init__(self, scheduler: Scheduler, starting: Starting, log: EventLog) -> None:
        self._scheduler = scheduler
        self._log = log
        self._starting = starting
        self._answers: dict[Run, Done] = {}  # by the child, not its id: who waits for its end
        self._lock = threading.RLock()  # a cancel comes on any thread
        scheduler.on_end = self._ended
        scheduler.may_go_on = self._may_go_on
        scheduler.runner.elsewhere[FlowExecution.kind] = self

    def submit(self, job: Job, done: Done) -> None:
        """Have the flow run that a step runs, or wait for the end of the Vect that does so already.

        `done` is called when that Vect has ended. On the scheduler's thread.
        """
        assert isinstance(job, Work)
        context = job.context
        key = context.vect_id, context.step, context.attempt
        try:
            found = self._found(job, key)
            child = found or self._new(job, key)
        except (OAutomError, StepError) as error:
            done(Outcome(error=str(error), cause=error), None)
            return
        is_to_begin = found is None or self._is_to_go_on(found, key)
        if child.shown in VECT_ENDS and not is_to_begin:
            done(_outcome_of(child), None)
            return
        if isinstance(child.held_up, EngineError):  # then who waits for it does not go on either
            raise child.held_up
        self._answers[child] = done
        reason = f"step '{context.step}' of vect '{context.vect_id}' needs it no more"
        with self._lock:  # no cancel comes before it has begun
            is_wanted = job.on_cancel(partial(self._cancel, child, reason))
            if is_to_begin and is_wanted:
                self._begin(child, key)
        if is_wanted:
            self._check_turn(child, key, reason)
            return
        if is_to_begin:  # its attempt was over in the very tick that began it
            self._answers.pop(child)(Outcome(error=_NOT_BEGUN), None)
        else:
            self._cancel(child, reason)

    def _check_turn(self, child: Run, key: Key, reason: str) -> None:
        """Have an attempt fail whose child would have its turn only when the attempt is over."""
        try:
            self._scheduler.waits.check_turn(key, child)
        except EngineError as error:
            with self._lock:
                if (done := self._answers.pop(child, None)) is None:
                    return  # it is cancelled just now
                if not child.is_created:
                    self._scheduler.registry.drop(child)
                elif not self._scheduler.entering.stay(child):
                    self._scheduler.cancel(child, reason)
            done(Outcome(error=str(error), cause=error), None)

    def _found(self, work: Work, key: Key) -> Run | None:
        """Return the child of an attempt, if there is one.

        Raises:
            FlowError: There is a Vect of its id, and it is another one.
            Whatever `Registry.find` raises.
        """
        registry = self._scheduler.registry
        vect = registry.runs[key[0]].state.steps[key[1]].child or child_id(*key)
        run = registry.find(vect, is_used=True)
        if run is None:
            return None
        flow = _flow_of(work.execution)
        if run.flow is not flow or not _is_of(run, key):
            raise FlowError(
                f"step '{key[1]}' of vect '{key[0]}' is to run flow '{flow.name}' as vect "
                f"'{vect}', but there is another one of this id; give vects of your own other ids",
                flow=flow.name,
                step=key[1],
            )
        return run

    def _new(self, work: Work, key: Key) -> Run:
        flow = _flow_of(work.execution)
        params = work.execution.run(work.context)
        return self._starting.new(flow, child_id(*key), params, {"parent": list(key)})

    def _may_go_on(self, step: StepState) -> bool:
        """Whether a step goes on in the child that it has left. On the scheduler's thread.

        Not if that is gone, or would not be the same: it has other parameters, or its flow changed.
        """
        registry, runner = self._scheduler.registry, self._scheduler.runner
        parent, key = registry.runs[step.vect.id], (step.vect.id, step.name, step.attempt + 1)
        execution = parent.execution(step)
        try:
            child = registry.find(step.child_left or "", is_used=True)
            flow = _flow_of(execution)
            if child is None or child.flow is not flow or not _is_of(child, key):
                return False
            # Its upstreams may have ended in this very tick.
            context = runner.context(parent, execution, step, key[2], moved)
            params = flow.params.plain(execution.run(context))
            is_fit = unfit(child) is None
        except (OAutomError, StepError):  # a new one is told so
            return False
        is_there = child.shown in VECT_ENDS or child.state.is_reopened
        is_there = is_there and child.held_up is None and child.id not in registry.leaving
        return is_there and is_fit and child.state.params == params

    def _is_to_go_on(self, child: Run, key: Key) -> bool:
        """Whether a child has ended badly, and not for this attempt: so that goes on in it."""
        if child.shown not in ("failed", "cancelled"):
            return False
        if list(child.state.parent or ()) == list(key):
            return False
        # Else it is of an earlier attempt, which was over before this one began.
        return not child.state.is_reopened or not self._has_ended_since(child, key)

    def _has_ended_since(self, child: Run, key: Key) -> bool:
        """Whether a child that has ended has done so after an attempt of its step began."""
        of_vect = (event for event in self._log.read(vect=child.id) if event.step is None)
        ends = (event.seq for event in of_vect if event.dest in VECT_ENDS)
        started = (key[1], key[2], "step.started")
        before = self._log.read(upto=max(ends, default=0), vect=key[0])
        return any((event.step, event.attempt, event.name) == started for event in before)

    def _begin(self, run: Run, key: Key) -> None:
        """Have a child begin, or go on; where its flow has no room, it waits for its turn."""
        if run.is_created:
            self._scheduler.entering.go_on(run, key)
            return
        try:
            self._starting.begin(run, may_wait=True)
        except OAutomError as error:  # its id was taken just now
            self._answers.pop(run)(Outcome(error=str(error), cause=error), None)

    def _cancel(self, child: Run, reason: str) -> None:
        """Cancel a child, or have it not go on. Any thread."""
        with self._lock:
            if child not in self._answers:  # its attempt is answered
                return
            if self._scheduler.entering.stay(child):
                self._answers.pop(child)(Outcome(error=_NOT_BEGUN), None)
            else:
                self._scheduler.cancel(child, reason)

    def _ended(self, run: Run) -> None:
        """Tell the step of a Vect that has ended."""
        if (done := self._answers.pop(run, None)) is not None:
            done(_outcome_of(run), None)


def _flow_of(execution: Execution) -> Flow:
    assert isinstance(execution, FlowExecution)
    return cast("Flow", execution.runs)


def _is_of(child: Run, key: Key) -> bool:
    """Whether a Vect was begun for an attempt of the step that an attempt is of."""
    return list(child.state.parent or ())[:2] == list(key[:2])


def _outcome_of(run: Run) -> Outcome:
    """Return what the end of a child means to its step."""
    steps = run.state.steps.values()
    if run.shown == "success":
        good = [step for step in steps if step.state == "success" and step.parent is None]
        try:
            return Outcome({step.name: run.output(step) for step in good})
        except OAutomError as error:
            return Outcome(error=str(error), cause=error)
    told = f"vect '{run.id}' of flow '{run.flow.name}'"
    if run.shown == "failed":
        failed = (s for s in steps if s.state == "failed" and not s.options.get("allow_failure"))
        if (bad := next(failed, None)) is None:
            return Outcome(error=f"{told} failed: {run.state.reason}")
        cause = run.local.failures.get(bad.name, NO_FAILURE).cause
        return Outcome(error=f"{told} failed: step '{bad.name}': {bad.error}", cause=cause)
    reason = run.state.reason
    return Outcome(error=f"{told} was cancelled" + (f": {reason}" if reason else ""))
