"""Children: the Vects that steps run. To the runner they are workers, whose work is another Vect.

A child has its own place in the log, and a life of its own: a recovery goes on with it as with any
other Vect. Only its id ties it to its step. So its outcome can be found out in this life or a later
one.

When a retry of the parent resets a step whose child has failed, or was cancelled, the next attempt
goes on in that child: the start of the step records the id of the child, and the reopening of the
child records the attempt. If a person has retried the child before, the attempt joins it, and only
the order of the log shows that: a child that ends after the start of an attempt ends for this
attempt. So the attempt for which a child has ended can always be found in the log.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import cast

from oautom.engine.scheduler import Scheduler
from oautom.engine.starting import Starting
from oautom.errors import EngineError, FlowError, OAutomError, ParamError
from oautom.events.log import EventLog
from oautom.flows.flow import Flow
from oautom.machine.commands import Key
from oautom.machine.state import StepState, child_id, moved
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.steps.each import EachFlow
from oautom.steps.execution import Execution
from oautom.steps.flow import FlowExecution
from oautom.steps.work import Outcome, StepError, Work
from oautom.vects.run import NO_FAILURE, Run
from oautom.vects.stored import unfit
from oautom.workers.base import Done, Job, Workers

_NOT_BEGUN = "it was cancelled before it began"


class Children(Workers):
    """Workers that run a flow for each job.

    Args:
        scheduler: Drives the Vects.
        starting: Makes their runs.
        log: The log of the app.
    """

    def __init__(self, scheduler: Scheduler, starting: Starting, log: EventLog) -> None:
        self._scheduler = scheduler
        self._log = log
        self._starting = starting
        self._answers: dict[Run, Done] = {}  # what to call at the end of each child
        self._lock = threading.RLock()  # a cancel comes on any thread
        scheduler.on_end = self._ended
        scheduler.may_go_on = self._may_go_on
        self._runner = scheduler.runner
        self._runner.elsewhere[FlowExecution.kind] = self

    def submit(self, job: Job, done: Done) -> None:
        """Run the flow of a step as a child, or join the Vect that is its child already.

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
        if isinstance(child.held_up, EngineError):  # stranded: the parent is stranded with it
            raise child.held_up
        self._answers[child] = done
        reason = f"step '{context.step}' of vect '{context.vect_id}' needs it no more"
        with self._lock:  # a cancel must not come before it has begun
            is_wanted = job.on_cancel(partial(self._cancel, child, reason))
            if is_to_begin and is_wanted:
                self._begin(child, key)
        if is_wanted:
            has_begun = not is_to_begin and child.shown != INITIAL
            if has_begun or self._scheduler.registry.turns.waits(child):
                self._runner.opened(key)  # else it does so in a moment
            self._check_turn(child, key, reason)
            return
        if is_to_begin:  # its attempt was over in the very tick that began it
            self._answers.pop(child)(Outcome(error=_NOT_BEGUN), None)
        else:
            self._cancel(child, reason)

    def _check_turn(self, child: Run, key: Key, reason: str) -> None:
        """Fail an attempt whose child would have its turn only after the end of the attempt."""
        try:
            self._scheduler.waits.check_turn(key, child)
        except EngineError as error:
            with self._lock:
                if (done := self._answers.pop(child, None)) is None:
                    return  # a cancel was faster
                if not child.is_created:
                    self._scheduler.registry.drop(child)
                elif not self._scheduler.entering.stay(child):
                    self._scheduler.cancel(child, reason)
            done(Outcome(error=str(error), cause=error), None)

    def _found(self, work: Work, key: Key) -> Run | None:
        """Return the child of an attempt, if there is one.

        Raises:
            FlowError: A Vect has the id of the child, but is another one.
            All errors of `Registry.find`.
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
                f"'{vect}', but another vect has this id; choose other ids for your own vects",
                flow=flow.name,
                step=key[1],
            )
        return run

    def _new(self, work: Work, key: Key) -> Run:
        flow = _flow_of(work.execution)
        params = work.execution.run(work.context)
        try:
            return self._starting.new(flow, child_id(*key), params, {"parent": list(key)})
        except ParamError as error:
            if not isinstance(work.execution, EachFlow):
                raise
            raise work.execution.wrong_item(work.context, str(error)) from error

    def _may_go_on(self, step: StepState) -> bool:
        """Whether a reset step goes on in its earlier child. On the scheduler's thread.

        It does not if the child is gone, has other parameters, or does not fit its flow any more.
        """
        registry, runner = self._scheduler.registry, self._scheduler.runner
        parent, key = registry.runs[step.vect.id], (step.vect.id, step.name, step.attempt + 1)
        execution = parent.execution(step)
        try:
            child = registry.find(step.child_left or "", is_used=True)
            flow = _flow_of(execution)
            if child is None or child.flow is not flow or not _is_of(child, key):
                return False
            # `moved`: its upstreams may have ended in this very tick.
            context = runner.context(parent, execution, step, key[2], moved)
            params = flow.params.plain(execution.run(context))
            is_fit = unfit(child) is None
        except (OAutomError, StepError):  # a new child raises it again, as the answer
            return False
        is_there = child.shown in VECT_ENDS or child.state.is_reopened
        is_there = is_there and child.held_up is None and child.id not in registry.leaving
        return is_there and is_fit and child.state.params == params

    def _is_to_go_on(self, child: Run, key: Key) -> bool:
        """Whether an attempt goes on in a child: it has ended badly before the attempt began."""
        if child.shown not in ("failed", "cancelled"):
            return False
        if list(child.state.parent or ()) == list(key):
            return False
        # Else it is of an earlier attempt, which was over before this one began.
        return not child.state.is_reopened or not self._has_ended_since(child, key)

    def _has_ended_since(self, child: Run, key: Key) -> bool:
        """Whether the last end of a child came after an attempt of its step had begun."""
        of_vect = (event for event in self._log.read(vect=child.id) if event.step is None)
        ends = (event.seq for event in of_vect if event.dest in VECT_ENDS)
        started = (key[1], key[2], "step.started")
        before = self._log.read(upto=max(ends, default=0), vect=key[0])
        return any((event.step, event.attempt, event.name) == started for event in before)

    def _begin(self, run: Run, key: Key) -> None:
        """Start a child, or go on in it; if its flow has no room, it waits for its turn."""
        if run.is_created:
            self._scheduler.entering.go_on(run, key)
            return
        try:
            self._starting.begin(run, may_wait=True)
        except OAutomError as error:  # its id was taken just now
            self._answers.pop(run)(Outcome(error=str(error), cause=error), None)

    def _cancel(self, child: Run, reason: str) -> None:
        """Cancel a child, or its wait to go on. Any thread."""
        with self._lock:
            if child not in self._answers:  # its attempt has its answer
                return
            if self._scheduler.entering.stay(child):
                self._answers.pop(child)(Outcome(error=_NOT_BEGUN), None)
            else:
                self._scheduler.cancel(child, reason)

    def _ended(self, run: Run) -> None:
        """Answer the step that runs a Vect which has ended."""
        if (done := self._answers.pop(run, None)) is not None:
            done(_outcome_of(run), None)


def _flow_of(execution: Execution) -> Flow:
    assert isinstance(execution, FlowExecution)
    return cast("Flow", execution.runs)


def _is_of(child: Run, key: Key) -> bool:
    """Whether a Vect is the child of an attempt of the same step."""
    return list(child.state.parent or ())[:2] == list(key[:2])


def _outcome_of(run: Run) -> Outcome:
    """Return the outcome of a step whose child has ended."""
    steps = run.state.steps.values()
    if run.shown == "success":
        good = [step for step in steps if step.state == "success" and step.parent is None]
        try:
            return Outcome({step.name: run.output(step) for step in good})
        except OAutomError as error:
            return Outcome(error=str(error), cause=error)
    vect = f"vect '{run.id}' of flow '{run.flow.name}'"
    if run.shown == "failed":
        failed = (s for s in steps if s.state == "failed" and not s.options.get("allow_failure"))
        if (bad := next(failed, None)) is None:
            return Outcome(error=f"{vect} failed: {run.state.reason}")
        cause = run.local.failures.get(bad.name, NO_FAILURE).cause
        return Outcome(error=f"{vect} failed: step '{bad.name}': {bad.error}", cause=cause)
    reason = run.state.reason
    return Outcome(error=f"{vect} was cancelled" + (f": {reason}" if reason else ""))
