"""Dependencies in all their spellings, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from oautom import CrossFlowDependencyError, CycleError, Flow, FlowError, FlowFrozenError, OAutom

from .conftest import flow_step, runs_well, told


@pytest.fixture
def flow(inline: OAutom) -> Flow:
    return Flow("f", inline)


@pytest.fixture
def steps(flow: Flow) -> tuple[Any, Any, Any, Any]:
    return tuple(flow_step(flow, name) for name in "abcd")  # type: ignore[return-value]


def edges(flow: Flow) -> set[str]:
    """The edges as they are run: 'ab' where b waits for a."""
    return {up + step for step, ups in flow.graph.upstreams.items() for up in ups}


SPELLINGS = {
    "b.depends(a)": (lambda a, b, c, d: b.depends(a), "ab"),
    "d.depends(a, b, c)": (lambda a, b, c, d: d.depends(a, b, c), "ad bd cd"),
    "d.depends(*[a, b])": (lambda a, b, c, d: d.depends(*[a, b]), "ad bd"),
    "d.depends()": (lambda a, b, c, d: d.depends(), ""),
    "twice": (lambda a, b, c, d: (b.depends(a), b.depends(a), a >> b), "ab"),
    "a >> b": (lambda a, b, c, d: a >> b, "ab"),
    "b << a": (lambda a, b, c, d: b << a, "ab"),
    "a >> b >> c >> d": (lambda a, b, c, d: a >> b >> c >> d, "ab bc cd"),
    "d << c << b << a": (lambda a, b, c, d: d << c << b << a, "ab bc cd"),
    "a >> [b, c]": (lambda a, b, c, d: a >> [b, c], "ab ac"),
    "a >> (b, c)": (lambda a, b, c, d: a >> (b, c), "ab ac"),
    "[a, b] >> c": (lambda a, b, c, d: [a, b] >> c, "ac bc"),
    "(a, b) >> c": (lambda a, b, c, d: (a, b) >> c, "ac bc"),
    "c << [a, b]": (lambda a, b, c, d: c << [a, b], "ac bc"),
    "[b, c] << a": (lambda a, b, c, d: [b, c] << a, "ab ac"),
    "{b, c} << a": (lambda a, b, c, d: {b, c} << a, "ab ac"),
    "a >> [b, c] >> d": (lambda a, b, c, d: a >> [b, c] >> d, "ab ac bd cd"),
    "d << [b, c] << a": (lambda a, b, c, d: d << [b, c] << a, "ab ac bd cd"),
    "[a, b] >> c >> d": (lambda a, b, c, d: [a, b] >> c >> d, "ac bc cd"),
    "a >> []": (lambda a, b, c, d: a >> [], ""),
    "[] >> a": (lambda a, b, c, d: [] >> a, ""),
    "a generator": (lambda a, b, c, d: a >> (each for each in (b, c)), "ab ac"),
    "a generator on the left": (lambda a, b, c, d: (each for each in (a, b)) >> c, "ac bc"),
}


@pytest.mark.parametrize(("spell", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_each_spelling_says_what_waits_for_what(
    spell: Any, expected: str, flow: Flow, steps: Any, inline: OAutom
) -> None:
    spell(*steps)

    assert edges(flow) == set(expected.split())
    vect = inline.run(flow)
    assert vect.state == "success"
    names = told(vect.events())
    for edge in edges(flow):
        assert names.index(f"step.succeeded {edge[0]}") < names.index(f"step.started {edge[1]}")


@pytest.mark.parametrize("wrong", [None, 5, "load", ["load"]], ids=str)
@pytest.mark.parametrize(
    "spell",
    [
        lambda a, wrong: a.depends(wrong),
        lambda a, wrong: a >> wrong,
        lambda a, wrong: a << wrong,
        lambda a, wrong: wrong >> a,
        lambda a, wrong: wrong << a,
        lambda a, wrong: a >> [wrong],
        lambda a, wrong: [wrong] >> a,
        lambda a, wrong: a << [wrong],
        lambda a, wrong: [wrong] << a,
    ],
    ids=["depends", ">>", "<<", "r>>", "r<<", ">>[]", "[]>>", "<<[]", "[]<<"],
)
def test_what_is_no_step_is_refused_by_name(
    spell: Any, wrong: Any, flow: Flow, steps: Any, inline: OAutom
) -> None:
    with pytest.raises(FlowError) as caught:
        spell(steps[0], wrong)

    message = str(caught.value)
    assert "step 'a'" in message
    assert repr(wrong) in message or (isinstance(wrong, list) and repr(wrong[0]) in message)
    assert (caught.value.flow, caught.value.step) == ("f", "a")
    assert edges(flow) == set()
    assert runs_well(inline)


def test_the_list_that_depends_does_not_take_says_how_to_write_it(flow: Flow, steps: Any) -> None:
    a, b, c, _ = steps
    with pytest.raises(FlowError) as caught:
        c.depends([a, b])

    assert str(caught.value).startswith("step 'c' of flow 'f' can only depend on steps, not on [")
    assert "; write depends(" in str(caught.value)


@pytest.mark.parametrize(
    "spell",
    [
        lambda a, b, c, d: a >> [b, c, "d"],
        lambda a, b, c, d: [b, c, "d"] << a,
        lambda a, b, c, d: a << [b, c, "d"],
        lambda a, b, c, d: [b, c, "d"] >> a,
        lambda a, b, c, d: a.depends(b, c, "d"),
    ],
    ids=[">>[]", "[]<<", "<<[]", "[]>>", "depends"],
)
def test_of_a_list_with_something_wrong_in_it_nothing_is_taken(
    spell: Any, flow: Flow, steps: Any
) -> None:
    with pytest.raises(FlowError):
        spell(*steps)

    assert edges(flow) == set()


def test_a_step_of_another_flow_is_refused(inline: OAutom, flow: Flow, steps: Any) -> None:
    a, *_ = steps
    stranger = flow_step(Flow("g", inline), "s")
    for spell in (
        lambda: a.depends(stranger),
        lambda: stranger >> a,
        lambda: a << [stranger],
    ):
        with pytest.raises(CrossFlowDependencyError) as caught:
            spell()
        assert str(caught.value) == (
            "step 'a' of flow 'f' cannot depend on step 's' of flow 'g'; declare both in one flow"
        )
    assert inline.run("g").state == inline.run("f").state == "success"


def test_a_step_of_the_same_name_in_another_app_is_refused(
    inline: OAutom, flow: Flow, steps: Any, new_app: Any
) -> None:
    twin = flow_step(Flow("f", new_app()), "a")

    with pytest.raises(CrossFlowDependencyError):
        steps[1].depends(twin)


CYCLES = {
    "itself": (lambda a, b, c, d: a >> a, ["a"]),
    "two": (lambda a, b, c, d: (a >> b, b >> a), ["a", "b"]),
    "three and a tail": (lambda a, b, c, d: a >> b >> c >> a >> d, ["a", "b", "c"]),
}


@pytest.mark.parametrize(("spell", "members"), CYCLES.values(), ids=CYCLES)
def test_a_cycle_is_named_when_the_flow_is_to_start_and_nothing_starts(
    spell: Any, members: list[str], flow: Flow, steps: Any, inline: OAutom
) -> None:
    spell(*steps)
    for ask in (flow.validate, lambda: inline.start("f"), lambda: inline.run("f")):
        with pytest.raises(CycleError) as caught:
            ask()
        assert sorted(caught.value.cycle[:-1]) == members
        assert str(caught.value).startswith("flow 'f' has a cycle: ")
        assert " -> ".join(caught.value.cycle) in str(caught.value)
        assert str(caught.value).endswith("; remove one of these depends()")

    assert inline.vects() == []
    assert runs_well(inline)


def test_a_flow_that_has_been_started_is_frozen(inline: OAutom, flow: Flow, steps: Any) -> None:
    a, b, *_ = steps
    vect = inline.start(flow)
    fingerprint = flow.fingerprint
    for change in (
        lambda: flow_step(flow, "late"),
        lambda: b.depends(a),
        lambda: a >> b,
        lambda: [a] >> b,
    ):
        with pytest.raises(FlowFrozenError) as caught:
            change()
        assert "declare all steps and depends() before the first start" in str(caught.value)

    assert flow.fingerprint == fingerprint
    assert list(flow.steps) == ["a", "b", "c", "d"]
    assert vect.wait() == "success"
    assert inline.run(flow).state == "success"


def test_a_flow_that_could_not_start_can_still_be_changed(
    inline: OAutom, flow: Flow, steps: Any
) -> None:
    steps[0] >> steps[0]
    with pytest.raises(CycleError):
        inline.run(flow)

    assert flow_step(flow, "late").name == "late"
