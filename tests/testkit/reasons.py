"""What should be said of the steps of a whole app while nothing moves."""

from __future__ import annotations

from .known import OPEN, Known, declared

END_WORDS = {
    "success": "succeeded",
    "failed": "failed",
    "upstream_failed": "was blocked",
    "cancelled": "was cancelled",
}
SAID = (
    *("succeeded at ", "failed at ", "was blocked at ", "was skipped at ", "skipped itself at "),
    *("was cancelled at ", "failed attempt ", "runs again at ", "has been running since "),
    *("waits until ", "waits for an approval", "items have ended", ", which is running"),
    *(", which is paused", "which is number ", "waits for a slot"),
    *("waits for a worker", "which is its limit", "is about to ", "is due to start"),
    *("which is at work still", "waits for the start of its vect", "its vect is paused"),
    *("waits for the turn of its vect", "which is next in its backfill after "),
)
"""What may be said of a step, and is true of some only."""
TOLD_MAX = 3
"""Of how many steps it is said what they do, of those for which another one waits."""


def reasons_of(model: Known, vect: str, step: str) -> list[str]:
    """Return what of `SAID` should be said of a step while nothing moves."""
    match model.steps[vect][step]:
        case "pending":
            told = _why_pending(model, vect, step)
        case "skipped":
            is_own = (vect, step) in model.own_skips
            told = {"skipped itself at " if is_own else "was skipped at "}
        case "running" | "up_for_retry":
            told = _meanwhile(model, vect, step)
            if model.kind(step) == "flow" and model.steps[vect][step] == "running":
                told |= _of_child(model, model.child_of(vect, step, model.attempts[vect, step]))
        case ended:
            told = {f"{END_WORDS[ended]} at "}
    if vect in model.paused and model.steps[vect][step] in ("pending", "up_for_retry"):
        told.add("its vect is paused")
    return [each for each in SAID if each in told]


def _why_pending(model: Known, vect: str, step: str) -> set[str]:
    told = {"failed attempt "} if (vect, step) in model.released else set[str]()
    is_paused = vect in model.paused
    if model.is_in_line(vect):
        place = "which is next in its backfill after " if vect in model.held else "which is number "
        return {"waits for the turn of its vect", place}
    if model.state(vect) == "pending":
        return {"waits for the start of its vect"}
    match model.verdict(vect, step, of_paused=True):
        case None:
            over = declared(step)
            before = model.upstreams(vect, step) if step == over else (over,)
            is_open = [each for each in before if model.steps[vect][each] in OPEN]
            assert is_open
            return told.union(*(_meanwhile(model, vect, each) for each in is_open[:TOLD_MAX]))
        case "start" if is_paused:
            return told | {"is due to start"}
        case "start" if model.lingers(vect, step):
            return told | {"which is at work still"}
        case "start" if not model.has_room(vect, step):
            return told | {"which is its limit"}
        case "start":
            has_slot = model.has_slot(step) and not model.is_behind(vect, step)
            return told | {"waits for a worker" if has_slot else "waits for a slot"}
    return told | {"is about to "}


def _of_child(model: Known, child: str) -> set[str]:
    if model.is_in_line(child):
        return {"which is number "}
    return {f", which is {model.state(child)}"} if child in model.open else set()


def _meanwhile(model: Known, vect: str, step: str) -> set[str]:
    """Return what of `SAID` should be said of a step for which another one waits."""
    match model.steps[vect][step], model.kind(step):
        case "up_for_retry", _:
            return {"failed attempt ", "runs again at "}
        case "running", "wait":
            return {"waits until "}
        case "running", "approval":
            return {"waits for an approval"}
        case "running", "map":
            return {"has been running since ", "items have ended"}
        case "running", _:
            return {"has been running since "}
    if model.lingers(vect, step) and vect not in model.paused:
        is_due = model.verdict(vect, step) == "start"
        return {"which is at work still"} if is_due else set()
    is_due = vect not in model.paused and model.verdict(vect, step) == "start"
    return {"waits for a worker"} if is_due and model.has_slot(step) else set()
