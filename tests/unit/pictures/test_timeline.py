"""The picture of when steps waited and worked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from oautom import SettingError
from oautom.client import Span
from oautom.pictures.nodes import URGENCY, Node
from oautom.pictures.timeline import timeline_svg
from tests.unit.pictures.test_graph import HOSTILE, SVG, check_safe, groups

BEGIN = datetime(2026, 11, 30, 8, tzinfo=UTC)


def span(step: str | None, kind: str, start: float, end: float | None, attempt: int = 1) -> Span:
    after = None if end is None else BEGIN + timedelta(seconds=end)
    return Span(step, attempt, kind, BEGIN + timedelta(seconds=start), after)  # type: ignore[arg-type]


NODES = [
    Node("never", ("flaky",), "pending"),
    Node("flaky", ("ask",), "running", "", 2),
    Node("ask", (), "success", "approval", 1),
]
SPANS = [
    span(None, "waiting", 0, 10, 0),
    span("ask", "wait", 10, 40),
    span("flaky", "waiting", 40, 50),
    span("flaky", "work", 50, 60),
    span("flaky", "delay", 60, 80, 2),
    span("flaky", "work", 80, None, 2),
]
ENDS = {("flaky", 1): "failed", ("ask", 1): "success"}


def drawn(spans=SPANS, nodes=NODES, now: float = 100, ends=ENDS, **more) -> str:
    return timeline_svg(spans, nodes, "run", now=BEGIN + timedelta(seconds=now), ends=ends, **more)


def names_in(svg: str) -> list[str | None]:
    return [
        text.text for text in ET.fromstring(svg).iter(f"{SVG}text") if text.get("class") == "oa-row"
    ]


def test_there_is_a_row_for_each_step_in_the_order_of_their_beginnings():
    assert names_in(drawn()) == ["the run", "ask", "flaky", "never"]


def test_waiting_work_delay_and_wait_are_told_apart():
    row = groups(drawn())[2]
    assert [each.text for each in row.iter(f"{SVG}title")] == [
        "flaky: running",
        "waited for a slot, 10 s, from 40 s on",
        "attempt 1: failed, 10 s, from 50 s on",
        "delay before the next attempt, 20 s, from 1 min on",
        "attempt 2: running, 20 s, from 1 min 20 s on",
    ]
    drawn_as = [(e.tag.removeprefix(SVG), e.get("class"), e.get("data-state")) for e in row.iter()]
    assert [each for each in drawn_as if each[1] not in (None, "oa-sign", "oa-row", "oa-step")] == [
        ("path", "oa-waiting", None),
        ("rect", "oa-bar", "failed"),
        ("path", "oa-cross", None),
        ("path", "oa-delay", None),
        ("rect", "oa-bar", "running"),
    ]


def test_bars_follow_each_other_and_the_last_one_ends_now():
    row = groups(drawn(width=1190))[2]
    bars = [(float(e.get("x", 0)), float(e.get("width", 0))) for e in row.iter(f"{SVG}rect")]
    assert bars == [(690.0, 100.0), (990.0, 200.0)]  # 190 for the names, 10 for a second


def test_the_axis_has_round_times():
    def times(last: float) -> list[str | None]:
        svg = drawn([span("ask", "work", 0, last)], now=last)
        texts = [
            e.text for e in ET.fromstring(svg).iter(f"{SVG}text") if e.get("class") == "oa-more"
        ]
        return [text for text in texts if text and text[0].isdigit() and "UTC" not in text]

    assert times(100) == ["0 s", "15 s", "30 s", "45 s", "1 min", "1 min 15 s", "1 min 30 s"]
    assert times(0.004) == ["0 s", "1 ms", "2 ms", "3 ms", "4 ms"]
    assert times(3 * 86400)[:3] == ["0 s", "12 h", "1 d"]
    assert len(times(1e9)) < 12
    assert "2026-11-30 08:00:00 UTC" in drawn()


def test_a_run_without_any_interval_is_a_picture():
    assert names_in(drawn([], now=0)) == ["never", "flaky", "ask"]
    assert names_in(drawn([], [], now=0)) == []


def test_an_interval_that_ends_before_it_begins_took_no_time():
    svg = drawn([span("ask", "work", 10, 5), span("ask", "waiting", 20, 2)], now=30)
    said = [e.text or "" for e in ET.fromstring(svg).iter(f"{SVG}title")]
    assert [each for each in said if "-" in each] == []
    assert "waited for a slot, 0 s, from 10 s on" in said


def test_an_interval_that_begins_after_now_is_drawn():
    check_safe(drawn([span("ask", "work", 50, None)], now=10))


def test_the_undoing_of_a_step_is_told():
    svg = drawn([span("ask", "work", 0, 5, -1)], ends={("ask", -1): "success"})
    assert "undone, attempt 1: success, 5 s" in svg


def test_a_large_run_has_few_rows_and_none_is_lost():
    nodes = [Node("each", (), "running", "map", 1)]
    nodes += [Node(f"each[{i}]", ("each",), URGENCY[i % 8], "", 1, "each") for i in range(5000)]
    nodes += [Node(f"s{i}", (f"s{i // 2}",) if i else (), URGENCY[i % 8]) for i in range(5000)]
    spans = [span(node.name, "waiting", i / 10, i / 10 + 1) for i, node in enumerate(nodes)]
    spans += [span(node.name, "work", i / 10 + 1, i / 10 + 4) for i, node in enumerate(nodes)]
    svg = drawn(spans, nodes, now=1000)
    check_safe(svg)
    counts = [int(group.get("data-count", 0)) for group in groups(svg)]
    assert len(counts) <= 200
    assert sum(counts) == len(nodes)
    assert len(svg.encode()) < 150_000


def test_a_step_with_many_attempts_has_one_bar_where_they_touch():
    spans = [span("ask", "work", i, i + 0.9, i + 1) for i in range(1000)]
    spans.append(span("ask", "work", 5000, 5001, 1001))
    (bar,) = [
        e
        for e in groups(drawn(spans, now=5001))[0].iter(f"{SVG}path")
        if e.get("class") == "oa-bar"
    ]
    assert bar.get("d", "").count("z") == 2


def test_many_attempts_of_many_steps_are_a_small_picture():
    nodes = [Node(f"s{i}", (), "success", "", 30) for i in range(200)]
    spans = [
        span(f"s{i}", kind, i + 9 * j + after, i + 9 * j + after + 3, j)
        for i in range(200)
        for j in range(30)
        for after, kind in ((0, "waiting"), (3, "work"), (6, "delay"))
    ]
    assert len(drawn(spans, nodes, now=500).encode()) < 250_000


def test_links_are_in_a_list():
    svg = drawn(href=lambda name: f"/{name}")
    assert [link.get("href") for link in ET.fromstring(svg).iter(f"{SVG}a")] == [
        "/ask",
        "/flaky",
        "/never",
    ]
    assert {group.get("role") for group in groups(svg)} == {"listitem"}
    assert ET.fromstring(drawn()).get("role") == "img"


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:24])
def test_no_name_is_more_than_a_text(name):
    svg = drawn([span(name, "work", 0, 1)], [Node(name, (), name)], ends={(name, 1): name})
    check_safe(svg)
    assert len(svg) < 30_000


@pytest.mark.parametrize("width", [0, 319, -5, 960.5, "960", None])
def test_a_width_must_be_an_int_that_is_wide_enough(width):
    with pytest.raises(SettingError, match="width of a timeline must be an int of at least 320"):
        drawn(width=width)


def test_all_rows_are_shown_where_that_is_asked_for():
    nodes = [Node(f"s{i}", (), "success") for i in range(300)]
    assert len(groups(drawn([], nodes))) < 300
    rows = groups(drawn([], nodes, limit=None))
    places = [float(str(row.get("transform"))[:-1].split()[1]) for row in rows]
    assert len(rows) == 300
    assert all(below > above for above, below in pairwise(places))
