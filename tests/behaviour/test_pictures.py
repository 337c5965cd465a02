"""Pictures of real flows and runs: by their own methods, from the log, and in a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    Vect,
    WaitExecution,
)
from oautom.client import picture_style
from oautom.testing import SimulatedClock

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def shown(svg: str) -> dict[str, str]:
    """Return the state of each step that has a box or row of its own."""
    groups = (g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("data-step"))
    return {str(g.get("data-step")): str(g.get("data-state")) for g in groups}


def shop(app: OAutom) -> Flow:
    """Declare a flow that waits for a person, after a step that has failed once."""
    tries: list[int] = []

    def once() -> list[int]:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return [1, 2, 0]

    flow = Flow("shop", app)
    fetch = PythonExecution("fetch", flow, once, retry=RetryPolicy(max_attempts=2, delay=60))
    MapExecution("share", flow, lambda n: 6 / n, fetch.output, allow_failure=True)
    ask = ApprovalExecution("ask", flow, prompt="Publish?")
    ask.depends(fetch)
    publish = PythonExecution("publish", flow, print)
    publish.depends(ask)
    return flow


def asked(app: OAutom) -> Vect:
    """Return a run of the shop that waits for a person."""
    vect = app.start(shop(app))
    with pytest.raises(TimeoutError):
        vect.wait(3600)
    return vect


@pytest.fixture
def app(tmp_path: Path) -> Iterator[OAutom]:
    log = SqliteEventLog(tmp_path / "runs.db")
    with OAutom(executor="inline", log=log, clock=SimulatedClock()) as app:
        yield app


NOW = {
    "fetch": "success",
    "share": "failed",
    "ask": "running",
    "publish": "pending",
    "share[2]": "failed",
}


def test_a_flow_has_a_picture_before_and_while_it_runs(app):
    vect = asked(app)
    assert shown(vect.flow.to_svg()) == dict.fromkeys(["fetch", "share", "ask", "publish"], "")
    assert shown(vect.to_svg()) == NOW
    assert "share[2]" in vect.to_mermaid()
    vect.approve("ask", by="ada")
    assert vect.wait() == "success"
    assert shown(vect.to_svg())["publish"] == "success"


def test_any_process_draws_a_run_as_the_program_that_runs_it_does(app, tmp_path):
    vect = asked(app)
    view = Client(tmp_path / "runs.db").vect(vect.id)
    assert view.to_svg() == vect.to_svg()
    assert view.to_mermaid() == vect.to_mermaid()
    assert shown(view.timeline_svg()) == NOW
    assert view.to_svg(href=lambda step: f"/{step}", style=False).count("<a href=") == len(NOW)


def test_a_run_is_drawn_as_it_was_after_an_event(app):
    vect = asked(app)
    view = Client(app).vect(vect.id)
    failed = next(event.seq for event in view.events() if event.name == "step.retried")
    past = view.at(failed)
    assert shown(past.to_svg())["fetch"] == "up_for_retry"
    assert shown(past.timeline_svg()) == {
        "fetch": "up_for_retry",
        "share": "pending",
        "ask": "pending",
        "publish": "pending",
    }
    assert past.timeline_svg() == past.timeline_svg()  # its last moment is that of the event


def test_a_timeline_tells_how_each_attempt_has_ended():
    app = OAutom(executor="inline")  # by the real clock: all takes some time
    tries: list[int] = []

    def second() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError

    flow = Flow("flaky", app)
    again = PythonExecution("again", flow, second, retry=RetryPolicy(max_attempts=2, delay=0.01))
    again >> WaitExecution("nap", flow, seconds=0.01)
    vect = app.run(flow)
    svg = Client(app).vect(vect.id).timeline_svg()
    titles = [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]
    told = [title.rpartition(", from ")[0].rpartition(", ")[0] or title for title in titles]
    assert [each for each in told if each != "waited for a slot"] == [
        "again: success",
        "attempt 1: failed",
        "delay before the next attempt",
        "attempt 2: success",
        "nap: success",
        "waited for a time, a person or a file",
    ]


def test_the_child_of_a_step_is_one_box(app):
    child, parent = Flow("child", app), Flow("parent", app)
    PythonExecution("inside", child, print)
    FlowExecution("run it", parent, child)
    assert "runs child" in parent.to_svg()
    assert "runs child" in app.run(parent).to_svg()


def test_a_flow_in_a_circle_has_a_picture_so_that_the_circle_is_seen(app):
    flow = Flow("circle", app)
    steps = [PythonExecution(name, flow, print) for name in "abc"]
    for step, upstream in zip(steps, [*steps[1:], steps[0]], strict=True):
        step.depends(upstream)
    assert list(shown(flow.to_svg())) == ["a", "b", "c"]


def test_a_limit_says_how_many_boxes_there_are(app):
    flow = Flow("wide", app)
    for i in range(100):
        PythonExecution(f"step {i}", flow, print)
    vect = app.run(flow)
    view = Client(app).vect(vect.id)
    for drawn in (flow.to_svg, vect.to_svg, view.to_svg):
        assert shown(drawn()) == {}
        assert len(shown(drawn(limit=None))) == len(shown(drawn(limit=100))) == 100
        with pytest.raises(SettingError, match="limit, of the boxes or rows of a picture"):
            drawn(limit=0)
    assert len(shown(view.timeline_svg())) == 100
    assert shown(view.timeline_svg(limit=50)) == {}
    with pytest.raises(SettingError, match="width of a timeline"):
        view.timeline_svg(width=10)


def test_a_page_has_the_style_sheet_once(app):
    flow = shop(app)
    assert f"<style>{picture_style()}</style>" in flow.to_svg()
    assert picture_style() not in flow.to_svg(style=False)


def test_the_forms_for_a_notebook_are_of_one_picture(app):
    vect = asked(app)
    for each in (vect.flow, vect, Client(app).vect(vect.id)):
        assert each._repr_mimebundle_() == {
            "text/plain": repr(each),
            "image/svg+xml": each.to_svg(),
            "text/vnd.mermaid": each.to_mermaid(),
        }
        assert list(each._repr_mimebundle_(exclude=["image/svg+xml"])) == [
            "text/plain",
            "text/vnd.mermaid",
        ]


def test_nothing_of_a_picture_is_imported_before_one_is_drawn():
    program = (
        "import sys, oautom, oautom.client\n"
        "app = oautom.OAutom(); flow = oautom.Flow('f', app)\n"
        "oautom.PythonExecution('s', flow, print); app.run(flow)\n"
        "print([m for m in sys.modules if 'pictures.' in m or 'sugiyama' in m])"
    )
    assert output_of([sys.executable, "-c", program]) == "\n['oautom.pictures.drawn']\n"


def test_the_command_line_draws_a_flow(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from oautom import *\n"
        "app = OAutom()\n"
        "flow = Flow('shop', app)\n"
        "PythonExecution('a', flow, print) >> PythonExecution('b', flow, print)\n"
    )
    command = [sys.executable, "-m", "oautom", "graph", "shop.py", "shop", "--format", "svg"]
    assert shown(output_of(command, tmp_path)) == {"a": "", "b": ""}


CELLS = """
from oautom import Flow, OAutom, PythonExecution

app = OAutom()
flow = Flow("sales", app)
PythonExecution("extract", flow, int) >> PythonExecution("load", flow, int)
vect = app.run(flow)
---
flow
---
vect
"""


def test_a_notebook_shows_the_pictures(tmp_path):
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{i}",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": source.strip(),
        }
        for i, source in enumerate(CELLS.split("---"))
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (tmp_path / "book.ipynb").write_text(json.dumps(notebook))
    convert = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook"]
    more = ["--output", "done.ipynb", "--ExecutePreprocessor.timeout=60", "book.ipynb"]
    output_of([*convert, *more], tmp_path)
    done = json.loads((tmp_path / "done.ipynb").read_text())
    (flow,), (vect,) = (cell["outputs"] for cell in done["cells"][1:])
    for output, state in ((flow, ""), (vect, "success")):
        data = {kind: "".join(text) for kind, text in output["data"].items()}
        assert shown(data["image/svg+xml"]) == {"extract": state, "load": state}
        assert data["text/vnd.mermaid"].startswith("flowchart LR")
        assert data["text/plain"].startswith("<")


def output_of(command: list[str], folder: Path | None = None) -> str:
    """Return what a program prints; it finds this oautom, and has a home of its own."""
    home = {} if folder is None else {"HOME": str(folder), "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **home},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
