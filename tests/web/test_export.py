"""`export --to html`: one file that needs nothing besides, and shows all of the runs chosen."""

from __future__ import annotations

import re
import sqlite3
from html import unescape
from pathlib import Path
from threading import get_ident
from time import sleep
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    UnknownVectError,
)
from oautom.web import html_of

from .conftest import Orders
from .test_views import _holds_no_markup_of, seen


def test_a_file_has_all_views_of_the_runs_chosen(orders: Orders) -> None:
    text = html_of(Client(orders.log), ["order 1", "order 2", "order 1"])
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    for address in re.findall(r'href="([^"]*)"', text):
        assert address.startswith("#")
        assert unescape(address[1:]) in ids
    assert not re.search(r"\ssrc=|@import|url\(|<script|<form|<iframe", text)
    shown = seen(text)
    for part in ("order 1", "too <i>dear</i>", "picking tea", "pack[2]", "step.retried", "ship"):
        assert part in shown
    assert "order 3" not in shown
    _holds_no_markup_of(re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))


def test_a_value_is_whole_in_a_file(orders: Orders) -> None:
    assert "x" * 90_000 in html_of(Client(orders.log), ["order 3"])


def test_a_file_grows_with_the_items_of_a_map_and_not_with_their_square() -> None:
    def size(items: int) -> int:
        app = OAutom(executor="inline")
        flow = Flow("wide", app)
        each = PythonExecution("each", flow, lambda: list(range(items)))
        MapExecution("double", flow, lambda number: 2 * number, each.output)
        vect = app.run(flow)
        text = html_of(Client(app), [vect.id])
        assert len(re.findall(r'id="step-', text)) == items + 2
        return len(text)

    few, some, many = size(10), size(100), size(190)
    assert many - some < 1.2 * (some - few)


def test_a_run_that_is_not_there_is_told_of(orders: Orders) -> None:
    with pytest.raises(UnknownVectError):
        html_of(Client(orders.log), ["nobody"])


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_file_opens_the_log_no_more_often_for_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    log, opened = tmp_path / "runs.db", list[object]()
    flows = {}
    with OAutom(OAutomMode.background, log=log) as app:
        for items in (5, 40):
            flow = Flow(f"wide {items}", app)
            each = PythonExecution("each", flow, lambda items=items: list(range(items)))
            double = MapExecution("double", flow, print, each.output)
            double >> ApprovalExecution("gate", flow, "good?")
            flows[items] = app.start(flow)
        app.run()
        for vect in flows.values():
            while vect.steps["gate"].state != "running":
                sleep(0.01)
            if has_ended:
                vect.approve("gate", by="Ada")
                vect.wait()
        connect, here = sqlite3.connect, get_ident()

        def counted(*args: Any, **settings: Any) -> sqlite3.Connection:
            opened.extend([args] * (get_ident() == here))
            return connect(*args, **settings)

        monkeypatch.setattr(sqlite3, "connect", counted)
        counts = []
        for vect in flows.values():
            opened.clear()
            text = html_of(Client(log), [vect.id])
            counts.append(len(opened))
            assert len(re.findall(r'id="step-', text)) == len(vect.steps)
    assert counts[0] == counts[1] < 25
