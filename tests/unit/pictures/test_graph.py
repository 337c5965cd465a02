"""The picture of a graph: what is in it, and that nothing else gets into it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from oautom import SettingError
from oautom.pictures.graph import graph_svg
from oautom.pictures.nodes import URGENCY, Node
from oautom.pictures.style import LOOKS, STYLE

SVG = "{http://www.w3.org/2000/svg}"
HERE = Path(__file__).parent

FLOW = [
    Node("extract"),
    Node("clean", ("extract",)),
    Node("each shop", ("clean",), kind="map"),
    Node("ask", ("clean",), kind="approval"),
    Node("publish", ("each shop", "ask", "extract"), kind="flow", runs="publication"),
]
RUN = [
    Node("extract", (), "success", "", 2),
    Node("clean", ("extract",), "success", "", 1),
    Node("each", ("clean",), "running", "map", 1),
    *(
        Node(f"each[{i}]", ("each",), "failed" if i == 1 else "success", "", 1, "each")
        for i in range(4)
    ),
    Node("ask", ("clean",), "running", "approval", 1),
    Node("publish", ("each", "ask"), "pending"),
]
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('x')>",
    "' onload='alert(1)",
    "]]><!--<svg/onload=alert(1)>",
    "&lt;&amp;&#60;",
    "javascript:alert(1)",
    "\u202egpj.exe \u2066a",
    "שלום עולם",
    "a\x00b\x1b[31m\x7f",
    "\ud800 half",
    "zero\u200bwidth e\u0301\u0301\u0301",
    "🎉" * 100,
    "x" * 1_000_000,
]


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def groups(svg: str) -> list[ET.Element]:
    """Return the groups of the boxes."""
    return [g for g in parsed(svg).iter(f"{SVG}g") if "oa-step" in g.get("class", "").split()]


@pytest.mark.parametrize(("name", "nodes"), [("flow", FLOW), ("run", RUN)])
def test_the_pictures_of_two_small_graphs_are_as_they_were(name, nodes):
    """Write them anew with `python -m tests.unit.pictures.draw`, and look at them."""
    svg = graph_svg(nodes, name, style=False, plain=True)
    assert svg == (HERE / f"{name}.svg").read_text(encoding="utf-8")


def test_each_step_has_a_group_with_its_name_and_state():
    found = [
        (g.get("data-step"), g.get("data-state"), g.get("data-count"))
        for g in groups(graph_svg(RUN, "run"))
    ]
    assert found == [
        ("extract", "success", "1"),
        ("clean", "success", "1"),
        ("each", "running", "4"),
        ("each[1]", "failed", "1"),
        ("ask", "running", "1"),
        ("publish", "pending", "1"),
    ]


@pytest.mark.parametrize("state", URGENCY)
def test_a_state_is_told_by_its_word_and_its_sign(state):
    (group,) = groups(graph_svg([Node("a", (), state)], "run"))
    assert [text.text for text in group.iter(f"{SVG}text")] == ["a", state.replace("_", " ")]
    assert [path.get("d") for path in group.iter(f"{SVG}path")] == [LOOKS[state].sign]


def test_a_tooltip_has_the_whole_name_and_the_counts():
    long = "load_the_sales_of_the_day_into_the_warehouse"
    svg = graph_svg([*RUN, Node(long, (), "failed", "", 3)], "run")
    titles = [group.find(f".//{SVG}title").text for group in groups(svg)]
    assert titles[2] == "each: running, 4 items: 1 failed, 3 success"
    assert titles[-1] == f"{long}: failed · attempt 3"
    assert long not in [text.text for text in parsed(svg).iter(f"{SVG}text")]


def test_the_whole_is_told_to_who_does_not_see_it():
    root = parsed(graph_svg(RUN, "run 7"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "run 7: 9 steps, 1 failed, 2 running, 1 pending, 5 success"
    assert parsed(graph_svg(FLOW, "flow")).get("aria-label") == "flow: 5 steps"


def test_links_have_names_and_are_in_a_list():
    svg = graph_svg(
        RUN, "run", href=lambda name: None if name == "ask" else f"/s?name={name}&a=\"'"
    )
    root = parsed(svg)
    assert root.get("role") == "group"
    assert [g.get("role") for g in groups(svg)] == ["listitem"] * 6
    (boxes,) = [g for g in root.iter(f"{SVG}g") if g.get("role") == "list"]
    assert list(boxes) == [g for g in root.iter(f"{SVG}g") if g.get("role") == "listitem"]
    links = list(root.iter(f"{SVG}a"))
    assert links[0].get("href") == "/s?name=extract&a=\"'"
    assert links[0].get("aria-label") == "extract: success · attempt 2"
    assert len(links) == 5


def test_a_fold_has_no_link():
    nodes = [Node(f"s{i}", (), "success") for i in range(200)]
    svg = graph_svg(nodes, "run", href=lambda name: f"/{name}")
    (group,) = groups(svg)
    assert group.get("class") == "oa-step oa-fold"
    assert group.get("data-count") == "200"
    assert group.get("data-step") is None
    assert list(parsed(svg).iter(f"{SVG}a")) == []


def test_the_style_sheet_may_be_left_to_the_page():
    assert f"<style>{STYLE}</style>" in graph_svg(RUN, "run")
    assert "<style" not in graph_svg(RUN, "run", style=False)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:24])
def test_no_name_is_more_than_a_text(name):
    nodes = [
        Node(name, (), "failed", "flow", 2, None, name),
        Node("b", (name,), name, name),
        Node("m", (), "success", "map", 1),
        *(Node(f"{name}{i}", (name,), "success", "", 1, "m") for i in range(3)),
        *(Node(f"{name}-{i}", (), "success") for i in range(200)),
    ]
    svg = graph_svg(nodes, name, href=lambda each: f"/{each[:100]}")
    check_safe(svg)
    assert len(svg) < 60_000


def check_safe(svg: str) -> None:
    """Check that a picture is well formed, and fit for a strict content security policy."""
    root = parsed(svg)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "style", "g", "rect", "path", "text", "title", "a"}
    for element in root.iter():
        assert {key for key in element.attrib if key.startswith("on") or key == "style"} == set()
    assert re.findall(r"url\(|@import|<\?|<!", svg) == []
    assert set(re.findall(r"https?://[^\s\"]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "\u202e" not in svg


def test_ten_thousand_steps_are_a_small_picture_and_none_is_lost():
    nodes = [Node("first", (), "success"), Node("each", ("first",), "running", "map", 1)]
    nodes += [Node(f"each[{i}]", ("each",), URGENCY[i % 8], "", 1, "each") for i in range(6000)]
    nodes += [Node(f"s{i}", (f"s{i // 2}",) if i else (), URGENCY[i % 8]) for i in range(4000)]
    svg = graph_svg(nodes, "run")
    assert len(svg.encode()) < 150_000
    counts = [int(group.get("data-count", 0)) for group in groups(svg)]
    assert len(counts) <= 80
    assert sum(counts) == len(nodes)


def test_no_step_is_a_picture_too():
    assert parsed(graph_svg([], "flow")).get("aria-label") == "flow: 0 steps"


def test_a_wrong_limit_is_refused():
    with pytest.raises(SettingError, match="limit, of the boxes or rows"):
        graph_svg(RUN, "run", limit=0)
