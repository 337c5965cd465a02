"""Each view is there without script, shows what the log has, and changes nothing."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from oautom import Client, Flow, MapExecution, OAutom, PythonExecution
from oautom.web import page

from .conftest import HOSTILE, NASTY, Orders, Site, served

EVERY = (
    "",
    "?state=open&flow=order&since=1h",
    "days",
    "run?id=order+1",
    "run?id=order+1&at=8",
    "run?id=order+1&place=3",
    "run?id=order+1&map=pack",
    "run?id=order+1&show=success",
    "step?id=order+2&step=pay",
    "step?id=order+1&step=pay&at=8",
    "events?id=order+1",
    "events?id=order+1&step=pick",
    "whole?id=order+3&what=output&step=pay",
    "whole?id=order+1&what=log&step=pick&of=1",
    "whole?id=order+1&what=param&of=item",
    "inbox",
    "plans",
    "work",
    "start",
    "start?flow=order",
    "confirm?action=cancel&id=order+3",
    "enter",
    "static/page.css",
    "static/page.js",
    "static/pictures.css",
    "static/icon.svg",
)


def seen(text: str) -> str:
    """What a reader sees of a page: without markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_every_view_is_there(steered: Site) -> None:
    for view in EVERY:
        answer = steered.ask("GET", view)
        assert answer.status == 200, (view, seen(answer.text))
        assert steered.ask("HEAD", view).body == b""


def test_a_get_changes_nothing(orders: Orders, steered: Site) -> None:
    """Each address that there is: those of the routes, and all that a page links to."""
    routes = {each.path.lstrip("/") for each in page(orders.log)._app._app.routes}
    assert {urlsplit(view).path for view in EVERY} >= {
        each for each in routes if "{" not in each and each not in ("stream", "do")
    }

    def rows() -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{orders.log}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            return [
                (name, connection.execute(f"SELECT * FROM {name}").fetchall())
                for (name,) in tables.fetchall()
            ]

    before, seq = rows(), Client(orders.log).seq
    for view in (*EVERY, "do", "do?action=cancel&id=order+3", "stream"):
        if view == "stream":
            assert steered.ask("HEAD", view).status == 200
        else:
            steered.ask("GET", view)
    assert steered.get("do", action="cancel", id="order 3").status == 405
    assert (rows(), Client(orders.log).seq) == (before, seq)


def test_runs_are_filtered_by_the_address(site: Site) -> None:
    runs = re.findall(r"run\?id=order%20(\d)", site.get("").text)
    assert runs == sorted(runs, reverse=True)
    failed = site.get("", state="failed").text
    assert re.findall(r"run\?id=order%20(\d)", failed) == ["2"]
    assert "No run fits" in seen(site.get("", flow="none").text)
    assert "order 1" in seen(site.get("", since="1h").text)
    day = re.search(r"day=(\d{4}-\d\d-\d\d)", site.get("days").text)
    assert day is not None
    assert "order 1" in seen(site.get("", flow="order", day=day[1]).text)
    assert "No run fits" in seen(site.get("", day="2001-01-01").text)


@pytest.mark.parametrize(
    ("view", "query", "status"),
    [
        ("", {"state": "nonsense"}, 400),
        ("", {"since": "yesterday"}, 400),
        ("", {"day": "9999-12-31"}, 400),
        ("", {"page": "0"}, 400),
        ("", {"page": "9" * 30}, 400),
        ("run", {}, 400),
        ("run", {"id": "nobody"}, 404),
        ("run", {"id": "\0"}, 404),
        ("run", {"id": "order 1", "at": "x"}, 400),
        ("run", {"id": "order 1", "at": str(2**52)}, 400),
        ("run", {"id": "order 3", "at": "1"}, 400),
        ("step", {"id": "order 1", "step": "nothing"}, 404),
        ("whole", {"id": "order 1", "what": "all", "step": "pick"}, 400),
        ("whole", {"id": "order 1", "what": "input", "step": "pick", "of": "x"}, 400),
        ("stream", {"after": "-1"}, 400),
        ("stream", {"vect": "nobody"}, 404),
        ("nothing", {}, 404),
        ("static/../page.py", {}, 404),
        ("static/%2e%2e/page.py", {}, 404),
    ],
)
def test_a_wrong_address_is_told_of(
    site: Site, view: str, query: dict[str, str], status: int
) -> None:
    answer = site.get(view, **query)
    assert answer.status == status
    assert "Traceback" not in answer.text


def test_a_run_shows_its_steps_as_they_were_after_an_event(site: Site) -> None:
    text = site.get("run", id="order 2").text
    assert "too <i>dear</i>" in seen(text)
    assert text.count("<svg") == 2
    first = seen(site.get("run", id="order 2", place=2).text)
    assert "As it was after event" in first
    assert "failed" not in first.partition("Steps")[2].partition("Parameters")[0]
    links = re.findall(r'rel="next" href="([^"]*)"', site.get("run", id="order 2", place=1).text)
    at = int(parse_qs(urlsplit(unescape(links[0])).query)["at"][0])
    assert f"As it was after event {at}" in seen(site.ask("GET", unescape(links[0])).text)


def test_a_step_shows_why_attempts_inputs_and_what_it_wrote(site: Site) -> None:
    text = seen(site.get("step", id="order 2", step="pay").text)
    assert "attempt 2 of 2" in text
    assert "Attempt 1" in text
    assert "Traceback" in text
    assert "Inputs pick" in text
    assert "picking tea red" in seen(site.get("step", id="order 1", step="pick").text)
    item = seen(site.get("step", id="order 1", step="pack[1]").text)
    assert "Item 1" in item
    assert "Output 2" in item


def test_what_is_long_is_cut_and_linked_to_as_a_whole(site: Site) -> None:
    text = site.get("step", id="order 3", step="pay").text
    assert len(text) < 20_000
    whole = re.search(r'href="(whole\?[^"]*)"', text)
    assert whole is not None
    answer = site.ask("GET", unescape(whole[1]))
    assert answer.text == f'"{"x" * 100_000}"'
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_inbox_has_prompt_and_values(site: Site) -> None:
    text = seen(site.get("inbox").text)
    assert "is it <b>right</b>?" in text
    assert "item" in text
    assert "Approve" not in text  # it only shows


def test_the_engine_is_shown_and_who_works(orders: Orders, site: Site) -> None:
    vect = orders.app.start(orders.slow, vect_id="slow one")
    try:
        assert "engine at work since" in seen(site.get("").text)
        text = seen(site.get("work").text)
        assert "1 taken of 4" in text
        assert "slow one" in text
    finally:
        vect.cancel()


def test_without_an_engine_it_says_since_when_there_is_none(file: str) -> None:
    with served(file) as site:
        assert "there is no log" in seen(site.get("").text)
        with OAutom(log=file) as app:
            app.run(_one(app), vect_id="a")
        text = seen(site.get("").text)
        assert re.search(r"no engine since \d\d:\d\d:\d\d", text)
        assert "No engine is at work" in seen(site.get("work").text)


def _one(app: OAutom) -> Flow:
    flow = Flow("one", app, max_active_vects=None)
    PythonExecution("do", flow, int)
    return flow


def test_ids_and_names_may_be_anything_and_are_linked_to(file: str) -> None:
    with OAutom(log=file) as app:
        flow = Flow("names", app, max_active_vects=None)
        for name in HOSTILE:
            PythonExecution(name, flow, str, args=(name,))
        for name in HOSTILE:
            app.run(flow, vect_id=name)
    with served(file) as site:
        text = site.get("").text
        runs = {unescape(each) for each in re.findall(r'href="(run\?[^"]*)"', text)}
        assert {parse_qs(urlsplit(each).query)["id"][0] for each in runs} == set(HOSTILE)
        for each in runs:
            answer = site.ask("GET", each)
            assert answer.status == 200
            _holds_no_markup_of(answer.text)
        steps = {unescape(each) for each in re.findall(r'href="(step\?[^"]*)"', answer.text)}
        assert {parse_qs(urlsplit(each).query)["step"][0] for each in steps} == set(HOSTILE)
        for each in steps:
            answer = site.ask("GET", each)
            assert answer.status == 200
            _holds_no_markup_of(answer.text)


def test_the_instances_of_a_map_have_their_labels_and_the_failed_ones_are_first(file: str) -> None:
    """Labels may be anything; a map of a flow leads to its children."""
    with OAutom(log=file) as app:
        inner = Flow("inner", app, params={"label": str}, max_active_vects=None)
        work = PythonExecution("work", inner, _not_the_last, [inner.param("label")])
        flow = Flow("main", app)
        source = PythonExecution("items", flow, lambda: [*HOSTILE, "last"])
        MapExecution("each", flow, inner, source, label="{}")
        app.run(flow, vect_id="v")
        assert work.name == "work"
    with served(file) as site:
        whole = site.get("run", id="v").text
        assert f"{len(HOSTILE)} success" in seen(whole)
        text = site.get("run", id="v", map="each").text
        rows = seen(text)
        place = rows.index(f"each[{len(HOSTILE)}] (last)")
        assert place < rows.index("each[0] (")
        assert "alert(" in rows
        assert "run?id=v%2Feach%5B0%5D%2F1" in text
        for answer in (whole, text, site.get("step", id="v", step="each[0]").text):
            _holds_no_markup_of(answer)


def _not_the_last(label: str) -> None:
    if label == "last":
        raise ValueError("it is the last one")


def _holds_no_markup_of(text: str) -> None:
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert not re.search(r"""(href|src|action)=["']?\s*javascript:""", text, re.IGNORECASE)
    bare = re.sub(r'"[^"]*"', '""', text)  # without the values of attributes
    assert not re.search(r"<[^>]*\s(on\w+|style)=", bare)
    shown = re.sub(r'(value|content)="[^"]*"', "", text)  # which a browser isolates by itself
    assert "\u202e" not in re.sub(r"<bdi[^>]*>.*?</bdi>", "", shown, flags=re.DOTALL)


def test_a_file_of_another_place_is_followed(tmp_path: Path, file: str) -> None:
    """The file is replaced while the page is open."""
    with served(file) as site:
        for number in range(2):
            with OAutom(log=tmp_path / f"{number}.db") as app:
                app.run(_one(app), vect_id=f"run {number}")
            (tmp_path / f"{number}.db").rename(file)
            text = seen(site.get("").text)
            assert f"run {number}" in text
            assert f"run {1 - number}" not in text


def test_the_timeline_of_a_large_run_is_drawn_when_it_is_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oautom.web.shows.TIMELINE_EVENTS", 5)
    text = site.get("run", id="order 1").text
    assert text.count("<svg") == 1
    link = re.search(r'href="([^"]*)">Draw the timeline', text)
    assert link is not None
    assert site.ask("GET", unescape(link[1])).text.count("<svg") == 2


def test_the_list_of_runs_shows_parameters_in_a_line_and_reads_them_together(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OAutom(log=file) as app:
        flow = Flow("told", app, params={"day": str, "more": list[str]}, max_active_vects=None)
        PythonExecution("do", flow, int)
        for number in range(8):
            app.run(flow, {"day": f"2026-11-{number:02}", "more": []})
        for hostile in [*HOSTILE, NASTY, "x" * 50_000]:
            app.run(flow, {"day": hostile, "more": [hostile] * 30})
    opened, connect = [], sqlite3.connect
    with served(file) as site:
        site.get("")
        monkeypatch.setattr(
            sqlite3, "connect", lambda *args, **how: opened.append(args) or connect(*args, **how)
        )
        text = site.get("").text
    assert len(opened) < 20  # not one for each run
    assert "day=2026-11-07 more=[]" in seen(text)
    assert "x" * 200 not in text
    _holds_no_markup_of(text)
