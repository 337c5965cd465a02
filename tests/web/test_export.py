"""`export --to html`: one file that needs nothing besides, and shows all of the runs chosen."""

from __future__ import annotations

import re
from html import unescape

import pytest

from oautom import Client, Flow, MapExecution, OAutom, PythonExecution, UnknownVectError
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
