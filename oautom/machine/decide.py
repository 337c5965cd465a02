"""The decisions: pure functions from a command to triggers, and from an event to consequences.

    command --handle--> trigger --(machine, log)--> event
    event --affects--> models to check --due--> trigger
    event --effects--> effect

No function here changes anything, and none knows of threads, clocks or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from oautom.errors import UnknownStepError, VectStateError, shown
from oautom.machine.commands import (
    Begin,
    Cancel,
    Command,
    Decide,
    Effect,
    Finished,
    Kill,
    Lost,
    Passed,
    Pause,
    Recover,
    Release,
    Resume,
    Retry,
    Submit,
    Trigger,
    Wake,
)
from oautom.machine.deadlines import RUN_TIMEOUT, Deadline
from oautom.machine.event import NO_DATA, NO_OUTPUT, Event
from oautom.machine.kinds import GIVEN, kind_of
from oautom.machine.maps import Mapped
from oautom.machine.rules import all_success
from oautom.machine.state import StepState, VectState, child_id, chosen, waits_until
from oautom.machine.tables import (
    COMPENSATION_EVENTS,
    LOST_WORKERS_MAX,
    STEP_ENDS,
    TEARDOWN,
    VECT_ENDS,
)
from oautom.values.text import ERROR_BYTES_MAX, bounded

_BAD_ENDS = frozenset({"failed", "upstream_failed"})
_TO_RETRY = frozenset({"failed", "upstream_failed", "cancelled"})
_GO_ON = frozenset({"vect.recovered", "vect.resumed", "vect.reopened"})
_WAITS = frozenset({"step.started", "step.retried", "step.compensation_failed"})
_MOVES: Mapping[type, tuple[str, str]] = MappingProxyType(
    {Pause: ("running", "pause"), Resume: ("paused", "resume")}
)
WIND_UP: Final = "wind up"
"""Due for a Vect whose failed step ends it (`on_failure`): no transition, but a `Cancel`."""
_NOT_SET_UP: Mapping[str, Any] = MappingProxyType(
    {"reason": "nothing that it cleans up after has started"}
)
_NO_ITEM: Mapping[str, Any] = MappingProxyType({"reason": "the list of its map is shorter now"})
_NO_LIST: Mapping[str, Any] = MappingProxyType({"reason": "its map does not run this time"})


def handle(vect: VectState, command: Command) -> list[Trigger]:
    """Return the triggers that a command fires, in this order."""
    match command:
        case Finished():
            step = vect.steps[command.step]
            return [_finish(step, command)] if command.attempt >= 0 else _undone(step, command)
        case Release():
            return _release(vect, command)
        case Passed():
            return _passed(vect, command.deadline)
        case Lost() | Decide():
            step = vect.steps[command.step]
            return _lose(step, command) if isinstance(command, Lost) else _decide(step, command)
        case Begin():
            is_first = vect.state == "pending"
            return [Trigger(vect, "start", data=command.told)] if is_first else []
        case Pause() | Resume():
            source, trigger = _MOVES[type(command)]
            return [Trigger(vect, trigger)] if vect.state == source else []
        case Retry():
            return _retry(vect, command)
        case Cancel():
            return _cancel(vect, command)
        case Recover():
            return _recover(vect, command)


def _finish(step: StepState, answer: Finished) -> Trigger:
    data: dict[str, Any] = {"output": answer.output}
    if answer.is_skip:
        data = {"reason": answer.error}
    elif answer.error is not None:
        data = {**answer.data, "error": answer.error}
    if step.state != "running" or step.attempt != answer.attempt:
        return Trigger(step, "late_result", answer.attempt, MappingProxyType(data))
    if answer.retry_after is not None:
        data["delay"] = answer.retry_after
        return Trigger(step, "retry", answer.attempt, MappingProxyType(data))
    if answer.error is not None:
        trigger = "skip" if answer.is_skip else "fail"
        return Trigger(step, trigger, answer.attempt, MappingProxyType(data))
    if step.kind == "branch" and (error := _wrong_choice(step, answer.output)):
        return Trigger(step, "fail", answer.attempt, MappingProxyType({"error": error}))
    told = NO_OUTPUT if answer.output is None else MappingProxyType(data)
    return Trigger(step, "succeed", answer.attempt, told)


def _undone(step: StepState, answer: Finished) -> list[Trigger]:
    """Return the triggers for the answer of a compensation; none if its attempt is over."""
    number = -answer.attempt
    if not _is_being_undone(step, number):
        return []
    if answer.error is None or answer.is_skip:  # there was nothing to undo
        return [Trigger(step, "end_compensation", number)]
    told = {**answer.data, "error": answer.error}
    if answer.retry_after is not None:
        told["delay"] = answer.retry_after
    return [Trigger(step, "fail_compensation", number, MappingProxyType(told))]


def _is_being_undone(step: StepState, attempt: int) -> bool:
    """Whether this attempt of the compensation of a step is running."""
    one = step.compensation
    return one is not None and (one.state, one.attempt) == ("running", attempt)


def _lose(step: StepState, loss: Lost) -> list[Trigger]:
    """Return the triggers for lost work: it begins anew, unless it may not, or it does no good."""
    number = abs(loss.attempt)
    told: dict[str, Any] = {"reason": loss.reason}
    if loss.is_worker:
        told["worker"] = True
    if (error := _end_of_losses(step, loss)) is not None:
        told = {"error": bounded(error, ERROR_BYTES_MAX), "lost": True}
    data = MappingProxyType(told)
    if loss.attempt < 0:
        if not _is_being_undone(step, number):
            return []
        trigger = "fail_compensation" if error is not None else "interrupt_compensation"
        return [Trigger(step, trigger, number, data)]
    if step.state != "running" or step.attempt != number:
        late = MappingProxyType({"error": loss.reason, "lost": True})
        return [Trigger(step, "late_result", number, late)]
    return [Trigger(step, "fail" if error is not None else "interrupt", number, data)]


def _end_of_losses(step: StepState, loss: Lost) -> str | None:
    """Return the error of a step whose work does not begin anew though it was lost, or None."""
    of = step if loss.attempt > 0 else step.compensation
    if step.options.get("on_crash") == "fail" and loss.attempt > 0:
        return f"its work was lost ({loss.reason}), and on_crash is 'fail'"
    before = 0 if of is None or of.losses is None else of.losses.workers
    if not loss.is_worker or before + 1 < LOST_WORKERS_MAX:
        return None
    return (
        f"{LOST_WORKERS_MAX} workers in a row were lost with the work of step '{step.name}', the "
        f"last one: {loss.reason}; it may be what ends them: see how much memory it takes, and "
        "what its native code does"
    )


def _wrong_choice(step: StepState, output: object) -> str | None:
    """Return the error of a wrong choice of a branch, or None."""
    dependants = step.vect.graph.dependants_of(step.name)
    wrong = [name for name in chosen(output) if name not in dependants]
    if not step.vect.settings.keys().isdisjoint(("until", "only")):
        # A chosen step may be no part of this Vect.
        wrong = [name for name in wrong if name in step.vect.graph]
    if not wrong:
        return None
    known = ", ".join(f"'{name}'" for name in dependants) or "there are none"
    chose = f"it chose {shown(wrong[0])}, which does not directly depend on it"
    return bounded(f"{chose}; its dependants: {known}", ERROR_BYTES_MAX)


def _release(vect: VectState, command: Release) -> list[Trigger]:
    """Return the triggers for a timer that is due."""
    step, attempt = vect.steps[command.step], command.attempt
    if attempt < 0:
        one = step.compensation
        is_due = one is not None and (one.state, one.attempt) == ("waiting", -attempt)
        return [Trigger(step, "compensate", 1 - attempt)] if is_due else []
    return _waited(step, attempt)


def _waited(step: StepState, attempt: int) -> list[Trigger]:
    """Return the triggers for an attempt whose wait is over."""
    if step.attempt != attempt:
        return []
    if step.state == "up_for_retry":
        return [Trigger(step, "release")]
    if step.state != "running":
        return []
    if kind_of(step.kind).ended_by == "time":
        return [Trigger(step, "succeed", attempt, NO_OUTPUT)]
    error = {"error": "nobody has decided in time"}  # else a person does
    return [Trigger(step, "fail", attempt, MappingProxyType(error))]


def _passed(vect: VectState, deadline: Deadline) -> list[Trigger]:
    """Return the triggers for a deadline that has passed; none if it does not count any more."""
    if vect.deadlines is None or deadline not in vect.deadlines.until:
        return []
    seconds = vect.deadlines.seconds[deadline]
    if deadline == RUN_TIMEOUT:
        reason = f"it took longer than its run_timeout of {seconds:g} seconds"
        return _cancel(vect, Cancel(vect.id, reason, "failed"))
    model = vect if deadline[1] is None else vect.steps[deadline[1]]
    attempt = model.attempt if model is not vect and model.state == "running" else None
    told = MappingProxyType({"deadline": seconds})
    return [Trigger(model, deadline[0], attempt, told)]


def _decide(step: StepState, decision: Decide) -> list[Trigger]:
    if kind_of(step.kind).ended_by != "person" or not step.attempt or step.state == "pending":
        return []  # it has not been asked
    if step.state != "running":  # somebody or something else was quicker
        what = "approved" if decision.objection is None else "rejected"
        late = MappingProxyType({"decision": what, "by": decision.by})
        return [Trigger(step, "late_result", step.attempt, late)]
    told: dict[str, Any] = {"output": {"by": decision.by, "data": decision.data}}
    if decision.objection is not None:
        why = f": {decision.objection}" if decision.objection else ""
        told = {"error": bounded(f"rejected by {decision.by}{why}", ERROR_BYTES_MAX)}
    trigger = "succeed" if decision.objection is None else "fail"
    return [Trigger(step, trigger, step.attempt, MappingProxyType(told))]


def too_late(vect: VectState, decision: Decide) -> VectStateError | None:
    """Return an error if a decision comes too late, or None.

    Raises:
        UnknownStepError: The flow has no such step.
        VectStateError: The step does not wait for a decision yet.
    """
    if decision.step not in vect.steps:
        raise UnknownStepError(vect.flow, decision.step, vect.steps)
    step = vect.steps[decision.step]
    what = f"step '{step.name}' of vect '{vect.id}'"
    if kind_of(step.kind).ended_by != "person" or step.state == "pending" or not step.attempt:
        remedy = "only an ApprovalExecution that is running waits for a decision"
        raise VectStateError(what, step.state, remedy, vect.flow, step.name)
    if step.state == "running":
        return None
    return VectStateError(what, step.state, f"too late, {_decided(step)}", vect.flow, step.name)


def _decided(step: StepState) -> str:
    """Return the person, or the reason, that has ended an approval."""
    if step.state == "success" and isinstance(step.output, Mapping):
        return f"{step.output.get('by')} has approved it"
    return f"it was ended before: {step.error}" if step.error else "it was ended before"


def _retry(vect: VectState, command: Retry) -> list[Trigger]:
    """Reset the failed and cancelled steps, and all that depend on them, then reopen the Vect.

    Steps that were undone at the end of the Vect are reset, too: those that were compensated, and,
    if work runs again, the set-up steps for it that were torn down.
    """
    if vect.state not in ("failed", "cancelled"):
        return []
    again = [step.name for step in vect.steps.values() if step.state in _TO_RETRY]
    undone = [step for step in vect.steps.values() if _is_undone(step)]
    again += [name for step in undone for name in (step.name, step.declared)]
    reached = _reach_set_ups(vect, vect.graph.reach(again))
    for step in vect.steps.values():
        if step.parent is not None and reached.intersection(vect.graph.upstreams[step.declared]):
            reached.add(step.name)  # its list is made anew
    ended = (step for step in vect.steps.values() if step.state in STEP_ENDS)
    resets = [Trigger(step, "reset") for step in ended if step.name in reached]
    told = _news(command)
    if command.parent is not None:
        told = MappingProxyType({**told, "parent": list(command.parent)})
    return [*resets, Trigger(vect, "reopen", data=told)]


def _is_undone(step: StepState) -> bool:
    return step.compensation is not None and step.compensation.state == "done"


def _reach_set_ups(vect: VectState, reached: set[str]) -> set[str]:
    """Return the steps to reset, and the torn down set-up steps of all work among them."""
    torn_down = [
        (step, vect.steps[name])
        for step in vect.steps.values()
        if step.parent is None and step.start_date is not None
        for name in step.options.get("teardown_of", ())
    ]
    before = -1
    while before != len(reached):
        before = len(reached)
        for teardown, set_up in torn_down:
            if set_up.name in reached:
                continue
            behind = vect.graph.reach([set_up.name]) & reached
            if any(not vect.steps[name].is_teardown for name in behind):
                reached |= vect.graph.reach([set_up.name, teardown.name])
    return reached


def _cancel(vect: VectState, command: Cancel) -> list[Trigger]:
    if vect.state in VECT_ENDS:
        return []
    if vect.state == "ending":
        return _end_clean_up(vect, command)
    left = [step for step in vect.steps.values() if step.state not in STEP_ENDS]
    has_begun = vect.state != "pending"
    cleans_up = [step for step in left if has_begun and step.is_teardown]
    has_clean_up = any(step.state != "pending" or step.was_set_up for step in cleans_up)
    has_clean_up = has_clean_up or any(s.is_to_be_compensated for s in vect.steps.values())
    others = [step for step in left if not (has_begun and step.is_teardown)]
    cancels = _cancelled(others, command.reason)
    if has_clean_up:
        data = MappingProxyType({"to": command.to, "reason": command.reason})
        return [*cancels, Trigger(vect, "end", data=data)]
    skips = [Trigger(step, "skip", data=_NOT_SET_UP) for step in cleans_up]
    if command.to == "cancelled":
        data = MappingProxyType({"reason": command.reason})
        return [*skips, *cancels, Trigger(vect, "cancel", data=data)]
    return [*skips, *cancels, _failed(vect, command.reason)]


def _cancelled(steps: Iterable[StepState], reason: str) -> list[Trigger]:
    """Return the triggers that cancel the steps which have not ended."""
    data = MappingProxyType({"reason": reason})
    return [
        Trigger(step, "cancel", step.attempt if step.state == "running" else None, data)
        for step in steps
    ]


def _failed(vect: VectState, reason: str) -> Trigger:
    """Return the trigger that fails a Vect for a reason of its own, or after clean-up."""
    told = {"steps": _to_blame(vect), "reason": reason}
    return Trigger(vect, "fail", data=MappingProxyType(told))


def _end_clean_up(vect: VectState, command: Cancel) -> list[Trigger]:
    """Return the triggers for a cancel during clean-up: running clean-up ends first."""
    if not command.is_again:
        return []
    left = [step for step in vect.steps.values() if step.state not in STEP_ENDS]
    at_it = [step for step in left if (step.parent or step).state != "pending"]
    return _cancelled(at_it or left, command.reason)


def uncancellable(vect: VectState) -> VectStateError | None:
    """Return an error if a Vect cannot be cancelled, since compensations must finish; else None."""
    if vect.state != "ending" or vect.open_steps or not vect.to_compensate:
        return None
    step = vect.to_compensate[-1]
    remedy = f"it undoes the work of step '{step}', and then ends by itself"
    return VectStateError(f"vect '{vect.id}'", vect.state, remedy, vect.flow, step)


def _recover(vect: VectState, command: Recover) -> list[Trigger]:
    return [
        Trigger(vect, "recover", data=_news(command)),
        *(
            Trigger(step, "interrupt", step.attempt)
            for step in vect.steps.values()
            if step.state == "running"
            and kind_of(step.kind).needs_worker
            and step.name not in command.spared
        ),
    ]


def _news(command: Recover | Retry) -> Mapping[str, Any]:
    """Return the data of the event by which a Vect goes on: the options that have changed."""
    return MappingProxyType({"options": command.options}) if command.options else NO_DATA


def affects(vect: VectState, event: Event) -> list[StepState | VectState]:
    """Return the models to check after an event: those for which a trigger may be due."""
    if event.step is None:
        return _affects_of_vect(vect, event)
    steps = vect.steps
    if event.dest not in STEP_ENDS or event.source in STEP_ENDS:
        if not vect.options and event.name == "step.started":  # a call less for nearly each step
            return []
        return _affects_of_start(vect, steps[event.step], event)
    if vect.first_failed is not None and vect.state != "ending":
        return [vect]
    dependants = vect.graph.dependants.get(event.step, ())
    looks: list[StepState | VectState] = [steps[name] for name in dependants]
    if vect.options:
        looks += _of_map(steps[event.step], event)
    if not vect.open_steps:
        looks.append(vect)
    return looks


def _affects_of_start(
    vect: VectState, step: StepState, event: Event
) -> list[StepState | VectState]:
    """Return the models to check after an event that is not the end of a step."""
    if event.name == "step.released" or (event.name == "step.interrupted" and event.data):
        return [step]
    if not vect.options:
        return []
    if event.name in COMPENSATION_EVENTS:
        return [vect]
    return _of_map(step, event) if event.name == "step.started" else []


def _affects_of_vect(vect: VectState, event: Event) -> list[StepState | VectState]:
    if event.name in _GO_ON:  # whatever waited for its turn has lost it
        return [*vect.steps.values(), vect]
    if event.name in ("vect.paused", "vect.ending"):  # clean-up has lost its turn, too
        return [*(step for step in vect.steps.values() if step.is_teardown), vect]
    if event.name != "vect.started":
        return []
    names = vect.graph.roots()
    if vect.options:
        waiting = (vect.steps[name] for name in vect.options)
        names += [step.name for step in waiting if step.rule == "always" and step.upstreams]
    return [vect.steps[name] for name in names] or [vect]


def _of_map(step: StepState, event: Event) -> list[StepState | VectState]:
    """Return the instances of a map to check, and the map itself when all have ended.

    Also a step that has started, and ends at once: a wait that cannot wait, or one that is given.
    """
    if step.mapped is not None and event.source == "pending":  # it starts, or it never will
        return [*step.mapped.instances, step]
    if "problem" in event.data or kind_of(step.kind).ended_by == "itself":
        return [step]
    if step.parent is None or step.parent.mapped is None:
        return []
    return [step.parent] if step.parent.mapped.is_over else []


def due(model: StepState | VectState) -> Trigger | None:
    """Return the trigger that is due for a model in its present state, or None."""
    if type(model) is VectState:  # it is asked for four times a step
        return _due_vect(model)
    vect = model.vect
    # Else all is cancelled next.
    is_going_on = vect.state == "running" and vect.first_failed is None
    if model.state != "pending" or not (is_going_on or _may_clean_up(model)):
        return _due_end(model) if model.kind and model.state == "running" else None
    is_usual = not vect.options
    verdict = all_success(model.upstreams, model.tally) if is_usual else model.verdict
    if verdict == "start":
        told = _first_facts(model) if model.kind else NO_DATA
        return Trigger(model, "start", model.attempt + 1, told)
    if verdict == "block":
        return Trigger(model, "block", data=_why_blocked(model))
    return Trigger(model, "skip", data=_why_skipped(model)) if verdict == "skip" else None


def _may_clean_up(step: StepState) -> bool:
    """Whether a step may start while its Vect is paused, or ends."""
    return step.vect.state in ("paused", "ending") and step.is_teardown


def _due_end(step: StepState) -> Trigger | None:
    """Return the end of a step that no answer ends: it is given, it cannot wait, or it is a map."""
    if step.kind == GIVEN:
        output = {"output": step.options["output"]}
        return Trigger(step, "succeed", step.attempt, MappingProxyType(output))
    if step.kind in ("wait", "approval") and step.error is not None:
        return Trigger(step, "fail", step.attempt, MappingProxyType({"error": step.error}))
    return _due_map(step, step.mapped) if step.mapped is not None else None


def _due_map(step: StepState, mapped: Mapped[StepState]) -> Trigger | None:
    """Return the end of a map, if all its instances have ended."""
    if not mapped.is_over:
        return None
    bad = [instance for instance in mapped.instances if instance.state == "failed"]
    if not bad and mapped.problem is None:
        return Trigger(step, "succeed", step.attempt)
    error = mapped.problem or (
        f"{len(bad)} of its {len(mapped.instances)} items failed, first {bad[0].told}: "
        f"{bad[0].error}"
    )
    told = {"error": bounded(error, ERROR_BYTES_MAX)}
    return Trigger(step, "fail", step.attempt, MappingProxyType(told))


def _first_facts(step: StepState) -> Mapping[str, Any]:
    """Return the data of the start of a step: for a step without a worker, what it waits for."""
    if step.kind == "map":
        items, problem = step.items()
        count: dict[str, Any] = {"count": len(items)}
        return MappingProxyType(count if problem is None else count | {"problem": problem})
    if step.kind == "flow":
        return MappingProxyType({"child": child_id(step.vect.id, step.name, step.attempt + 1)})
    if step.kind == "wait":
        return MappingProxyType(step.wait_facts())
    if step.kind == "approval":
        return MappingProxyType(step.approval_facts())
    kind = kind_of(step.kind)
    told = (*kind.starts_with, *kind.may_start_with)
    return MappingProxyType({key: step.options[key] for key in told if key in step.options})


def _why_skipped(step: StepState) -> Mapping[str, Any]:
    """Return the rule that cannot be met any more, and how the upstreams have ended.

    For an instance that exists from before a retry, return why its map has no item for it.
    """
    if step.rule == TEARDOWN:
        return _NOT_SET_UP
    if step.parent is not None:
        return _NO_ITEM if step.parent.state == "running" else _NO_LIST
    if step.shunned_by is not None:
        names = chosen(step.vect.steps[step.shunned_by].output)
        said = ", ".join(f"'{name}'" for name in names) or "nothing"
        why = bounded(f"branch '{step.shunned_by}' chose {said}", ERROR_BYTES_MAX)
        return MappingProxyType({"reason": why})
    ended = ", ".join(f"{count} {state}" for state, count in sorted(step.tally.items()))
    reason = f"its trigger rule is '{step.rule}', and of its {step.upstreams} upstreams: {ended}"
    return MappingProxyType({"reason": reason})


def _why_blocked(step: StepState) -> Mapping[str, Any]:
    """Return the upstream that is to blame, and the name of the step that failed first.

    The error of that step stands only in its own event: a large one is stored once.
    """
    upstreams = [step.vect.steps[name] for name in step.vect.graph.upstreams[step.name]]
    culprit = next(each for each in upstreams if each.state in _BAD_ENDS)
    error = culprit.error
    if culprit.state == "failed":
        error = f"upstream '{culprit.name}' failed"
    return MappingProxyType({"upstream": culprit.name, "error": error})


def _due_vect(vect: VectState) -> Trigger | None:
    if vect.state == "ending":
        return _due_ending(vect)
    if vect.state not in ("running", "paused"):
        return None
    if vect.open_steps:
        if vect.first_failed is None:
            return None
        reason = f"step '{vect.first_failed}' failed, and on_failure of the flow is 'cancel'"
        return Trigger(vect, WIND_UP, data=MappingProxyType({"reason": reason}))
    failed = _to_blame(vect) if vect.options else _bad(vect)
    if not failed:
        return Trigger(vect, "succeed")
    if vect.ended and any(vect.steps[name].is_to_be_compensated for name in vect.ended):
        told = {"to": "failed", "reason": f"step '{failed[0]}' failed"}
        return Trigger(vect, "end", data=MappingProxyType(told))
    return Trigger(vect, "fail", data=MappingProxyType({"steps": failed}))


def _due_ending(vect: VectState) -> Trigger | None:
    """Return the trigger for a Vect that has only clean-up left: the next clean-up, or its end."""
    if vect.open_steps:
        return None
    if vect.to_compensate:
        step = vect.steps[vect.to_compensate[-1]]
        one = step.compensation
        if one is None:
            return Trigger(step, "compensate", 1)
        return Trigger(step, "compensate", one.attempt + 1) if one.state == "due" else None
    reason = vect.reason or ""
    if vect.ends_as == "failed":
        return _failed(vect, reason)
    return Trigger(vect, "cancel", data=MappingProxyType({"reason": reason}))


def _bad(vect: VectState) -> list[str]:
    return [step.name for step in vect.steps.values() if step.state in _BAD_ENDS]


def _to_blame(vect: VectState) -> list[str]:
    """Return the failed steps without `allow_failure`, and the steps that these have blocked."""
    reached = [
        step.name
        for step in vect.steps.values()
        if step.state == "failed" and not step.options.get("allow_failure")
    ]
    blamed = set(reached)
    for name in reached:  # it grows while it is walked
        for dependant in vect.graph.dependants_of(name):
            if vect.steps[dependant].state == "upstream_failed" and dependant not in blamed:
                blamed.add(dependant)
                reached.append(dependant)
    return [name for name in _bad(vect) if name in blamed]


def effects(event: Event) -> Sequence[Effect]:
    """Return the effects of a committed event."""
    if event.step is None:
        return ()
    name = event.name
    if name == "step.compensating":
        return (Submit(event.vect, event.step, -(event.attempt or 0)),)
    if name == "step.started" and (not event.data or "child" in event.data):
        return (Submit(event.vect, event.step, event.attempt or 0),)
    if name == "step.cancelled" and event.source == "running":
        return (Kill(event.vect, event.step, event.attempt or 0),)
    if name in _WAITS:  # and no worker is at work
        return _wake(event, event.step)
    return ()


def _wake(event: Event, step: str) -> Sequence[Effect]:
    """Return the effects of an event after which a step waits, for a time or for a person."""
    until = waits_until(event)
    if until is None:
        return ()
    seconds = max(0.0, (until - event.time).total_seconds())
    attempt = event.attempt or 0
    if event.name == "step.compensation_failed":
        attempt = -attempt
    return (Wake(event.vect, step, attempt, seconds),)
