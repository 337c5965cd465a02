"""At any moment of any run each step is explained in one sentence, which fits its state."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from oautom.events import replay
from oautom.machine.explain import LENGTH_MAX, Facts, explain
from oautom.machine.state import StepState, VectState
from oautom.machine.tables import STEP_ENDS, VECT_CREATED, VECT_STATES
from oautom.testing import histories
from oautom.testing.strategies import History

from .cases import moderate

WORDS = {
    "success": ["succeeded at "],
    "failed": ["failed at "],
    "skipped": ["skipped itself at ", "was skipped at "],
    "upstream_failed": ["was blocked at "],
    "cancelled": ["was cancelled at "],
    "up_for_retry": ["failed attempt "],
    "running": [
        "has been running since ",
        "waits until ",
        "waits for an approval",
        "started attempt ",
    ],
    "pending": ["waits for ", "waits, since ", "is about to ", "is due to start"],
}
"""By the state of a step, of what a sentence about it has something."""

texts = st.just("") | st.text(max_size=5)
facts = st.builds(
    Facts,
    failure=texts,
    halted=texts,
    held_up=texts,
    is_inherited=st.booleans(),
    is_undriven=st.booleans(),
    workers=st.integers(0, 3),
    taken=st.dictionaries(st.sampled_from(["one", "two"]), st.integers(0, 3)),
    ahead=st.integers(0, 3),
    higher=st.integers(0, 3),
    child=st.sampled_from(["", "waiting", *VECT_STATES]),
    poll_interval=st.sampled_from([0.0, 2.5]),
)


def is_consistent(step: StepState, said: str) -> bool:
    """Whether a sentence names the step, says what one of its state does, and who is waited for."""
    name = " ".join("".join(each if each.isprintable() else " " for each in step.name).split())
    start = f"`{name[:60]}"
    rest = said.removeprefix(start)
    is_told = said.startswith(start) and any(each in rest for each in WORDS[step.state])
    if step.state != "pending" or "waits for `" not in rest:
        return is_told
    ups = [step.parent.name] if step.parent else step.vect.graph.upstreams[step.name]
    return is_told and any(
        step.vect.steps[up].state not in STEP_ENDS and f"`{up}`" in rest for up in ups
    )


@moderate
@given(histories(), facts, st.integers(0, 200_000))
def test_every_step_is_explained_at_every_moment(
    history: History, known: Facts, later: int
) -> None:
    vects: dict[str, VectState] = {}
    for event in history:
        if event.name == VECT_CREATED:
            vects |= replay([event])
        else:
            vects[event.vect].advance(event)
        now = event.time + timedelta(seconds=later)
        for step in vects[event.vect].steps.values():
            for given_facts in (Facts(), known):
                said = explain(step, now, given_facts)
                assert len(said.splitlines()) == 1
                assert said == said.strip()
                assert len(said) <= LENGTH_MAX
                assert is_consistent(step, said), (step.state, said)
