"""`Flow` by itself: names, steps, edges, freezing, drawing."""

from __future__ import annotations

import pytest

from oautom import (
    CrossFlowDependencyError,
    CycleError,
    DuplicateStepError,
    Flow,
    FlowError,
    FlowFrozenError,
    PythonExecution,
)
from oautom.values.names import check_name
from tests.kit import Registry, nothing

BAD_NAMES = [
    (None, "must be text"),
    (5, "must be text"),
    (b"etl", "must be text"),
    (["etl"], "must be text"),
    ("", "must not be blank"),
    (" \t\n", "must not be blank"),
    ("a\0b", "must not contain a NUL character"),
    ("a\ud800", "must be valid Unicode, without lone surrogates"),
    *(
        (f"a{each}b", "must not contain control characters, such as line breaks")
        for each in "\n\t\x1b\x07\x7f\x85"
    ),
]
each_bad_name = pytest.mark.parametrize(
    ("name", "problem"), BAD_NAMES, ids=[ascii(name) for name, _ in BAD_NAMES]
)


@pytest.fixture
def flow() -> Flow:
    return Flow("f", Registry())


def step(name: str, flow: Flow) -> PythonExecution:
    return PythonExecution(name, flow, nothing)


@each_bad_name
def test_a_name_that_cannot_be_used_is_refused(name, problem) -> None:
    with pytest.raises(FlowError) as caught:
        check_name("flow", name)

    assert str(caught.value) == f"flow name {problem}, not {name!r}"


@each_bad_name
def test_a_flow_with_a_bad_name_is_not_registered(name, problem) -> None:
    registry = Registry()
    with pytest.raises(FlowError, match=problem):
        Flow(name, registry)

    assert registry.names == []


@each_bad_name
def test_a_step_with_a_bad_name_is_not_part_of_its_flow(name, problem, flow: Flow) -> None:
    with pytest.raises(FlowError) as caught:
        step(name, flow)

    assert str(caught.value) == f"flow 'f': step name {problem}, not {name!r}"
    assert caught.value.flow == "f"
    assert dict(flow.steps) == {}


@pytest.mark.parametrize("name", ["a b", "ä€𝄞", "a/b", "a'b\"c", "$(rm)", "👩\u200d🔬", "-", "0"])
def test_any_other_text_is_a_name(name: str, flow: Flow) -> None:
    assert step(name, flow).name == name
    assert list(flow.steps) == [name]


def test_a_flow_registers_itself_once_it_is_whole() -> None:
    registry = Registry()

    flow = Flow("etl", registry, max_active_vects=3, description="Extracts.")

    assert registry.names == ["etl"]
    assert (flow.name, flow.app, flow.max_active_vects, flow.description) == (
        "etl",
        registry,
        3,
        "Extracts.",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"app": None}, "flow 'etl': app must be an OAutom, not None"),
        ({"app": "app"}, "flow 'etl': app must be an OAutom, not 'app'"),
        (
            {"max_active_vects": 0},
            "flow 'etl': max_active_vects must be a positive int, or None, not 0",
        ),
        (
            {"max_active_vects": "2"},
            "flow 'etl': max_active_vects must be a positive int, or None, not '2'",
        ),
        (
            {"max_active_vects": 1.0},
            "flow 'etl': max_active_vects must be a positive int, or None, not 1.0",
        ),
        ({"description": None}, "flow 'etl': description must be text, not None"),
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_registered(settings, message) -> None:
    registry = Registry()
    with pytest.raises(FlowError) as caught:
        Flow("etl", **{"app": registry, **settings})

    assert str(caught.value) == message
    assert caught.value.flow == "etl"
    assert registry.names == []


def test_the_mapping_of_steps_cannot_be_changed_from_outside(flow: Flow) -> None:
    step("a", flow)
    with pytest.raises(TypeError):
        flow.steps["b"] = None  # type: ignore[index]


def test_the_graph_follows_the_declarations(flow: Flow) -> None:
    a = step("a", flow)
    assert flow.graph.upstreams == {"a": ()}

    b = step("b", flow)
    b.depends(a)
    assert flow.graph.upstreams == {"a": (), "b": ("a",)}


def test_the_fingerprint_is_that_of_the_graph(flow: Flow) -> None:
    a = step("a", flow)
    alone = flow.fingerprint
    b = step("b", flow)
    two = flow.fingerprint
    b.depends(a)

    assert len({alone, two, flow.fingerprint}) == 3
    assert flow.fingerprint == flow.graph.fingerprint()


def test_a_name_used_twice_is_refused_and_the_first_stays(flow: Flow) -> None:
    first = step("a", flow)
    with pytest.raises(DuplicateStepError):
        step("a", flow)

    assert flow.steps["a"] is first


def test_validate_names_the_cycle_and_freezes_nothing(flow: Flow) -> None:
    a, b = step("a", flow), step("b", flow)
    a.depends(b)
    b.depends(a)

    for check in (flow.validate, flow.freeze):
        with pytest.raises(CycleError) as caught:
            check()
        assert sorted(caught.value.cycle[1:]) == ["a", "b"]

    assert step("c", flow).name == "c"  # it is still open


def test_a_frozen_flow_takes_no_step_and_no_edge_and_stays_as_it_was(flow: Flow) -> None:
    a, b = step("a", flow), step("b", flow)
    b.depends(a)
    flow.freeze()
    flow.freeze()
    before = flow.fingerprint

    with pytest.raises(FlowFrozenError) as caught:
        step("c", flow)
    assert (caught.value.flow, caught.value.step) == ("f", "c")
    with pytest.raises(FlowFrozenError) as caught:
        a.depends(b)
    assert caught.value.step == "a"

    assert list(flow.steps) == ["a", "b"]
    assert flow.fingerprint == before
    assert flow.graph.upstreams == {"a": (), "b": ("a",)}


def test_edges_are_taken_all_or_none(flow: Flow) -> None:
    a, b = step("a", flow), step("b", flow)
    stranger = step("s", Flow("g", Registry()))

    with pytest.raises(CrossFlowDependencyError):
        b.depends(a, stranger)
    with pytest.raises(FlowError):
        b.depends(a, "a")  # type: ignore[arg-type]

    assert flow.graph.upstreams == {"a": (), "b": ()}


def test_an_empty_flow_can_be_drawn(flow: Flow) -> None:
    assert flow.to_mermaid() == "flowchart LR\n"
    assert flow.to_dot() == 'digraph "f" {\n    rankdir=LR;\n    node [shape=box];\n}\n'


def test_a_drawing_has_each_step_and_each_edge_once(flow: Flow) -> None:
    a, b, c = (step(name, flow) for name in "abc")
    c.depends(a, b, a)

    assert flow.to_mermaid() == (
        'flowchart LR\n    n0["a"]\n    n1["b"]\n    n2["c"]\n    n0 --> n2\n    n1 --> n2\n'
    )
    assert flow.to_dot() == (
        'digraph "f" {\n    rankdir=LR;\n    node [shape=box];\n'
        '    n0 [label="a"];\n    n1 [label="b"];\n    n2 [label="c"];\n'
        "    n0 -> n2;\n    n1 -> n2;\n}\n"
    )


@pytest.mark.parametrize(
    ("name", "mermaid", "dot"),
    [
        ('say "hi"', '"say #quot;hi#quot;"', r'"say \"hi\""'),
        ("back\\slash", '"back\\slash"', r'"back\\slash"'),
        ("ends with \\", '"ends with \\"', r'"ends with \\"'),
        ("two\u2028lines", '"two lines"', '"two lines"'),
        ("]; end", '"]; end"', '"]; end"'),
    ],
)
def test_no_name_breaks_out_of_its_label(name: str, mermaid: str, dot: str, flow: Flow) -> None:
    step(name, flow)

    assert f"    n0[{mermaid}]\n" in flow.to_mermaid()
    assert f"    n0 [label={dot}];\n" in flow.to_dot()


def test_a_flow_shows_its_name_and_size(flow: Flow) -> None:
    step("a", flow)

    assert repr(flow) == "<Flow 'f' of 1 steps>"
