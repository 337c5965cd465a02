"""The page in a real browser: legible, live, usable by keyboard and without script."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oautom import Client

from .conftest import Orders, Site, wait_for
from .test_stream import ALONE, _answers

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
IS_NEEDED = any(os.environ.get(name) for name in ("CI", "OAUTOM_BROWSER"))
SECONDS = 20_000  # milliseconds

PROGRAM = """
import sys
from oautom import *

app = OAutom(OAutomMode.background, log=sys.argv[1])
order = Flow("order", app)
first = PythonExecution("first", order, int)
check = ApprovalExecution("check", order, "go on?")
first >> check >> PythonExecution("last", order, lambda: 2)
app.run()
app.start(order, vect_id="one")
print("started", flush=True)
sys.stdin.read()
"""

VIEWS = {
    "runs": "",
    "days": "days",
    "run": "run?id=order+2",
    "past": "run?id=order+2&place=5",
    "step": "step?id=order+2&step=pay",
    "events": "events?id=order+2",
    "inbox": "inbox",
    "work": "work",
    "start": "start?flow=order",
    "confirm": "confirm?action=cancel&id=order+3",
    "error": "run?id=nobody",
}


# Not for the session: from its start to its end playwright's loop is the running one of this
# thread, and whatever test comes between would find itself inside of a loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of this module."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if IS_NEEDED:
            pytest.fail("there is no chromium, and CI or OAUTOM_BROWSER says that it must be there")
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield made
        made.close()
    assert asyncio._get_running_loop() is None


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page in a window of its own; whatever it writes to the console fails the test."""
    contexts, said = [], []

    def open_one(address: str, **how: Any) -> Any:
        context = browser.new_context(**how)
        context.set_default_timeout(SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda each: said.append(each.text))
        page.on("pageerror", lambda each: said.append(str(each)))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    lost = "net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE", "404 (Not Found)"
    assert [each for each in said if not any(part in each for part in lost)] == []


def _address(site: Site, path: str = "") -> str:
    return f"http://127.0.0.1:{site.port}/{path}"


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 390), ("light", 390), ("dark", 1280)]
)
def test_each_view_is_legible(
    opened: Callable[..., Any], steered: Site, scheme: str, width: int
) -> None:
    import axe_playwright_python

    axe = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    size = {"width": width, "height": 800}
    page = opened(_address(steered, f"?token={steered.token}"), color_scheme=scheme, viewport=size)
    for name, path in VIEWS.items():
        page.goto(_address(steered, path))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.evaluate(axe.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], (name, scheme, width)


def test_it_is_used_by_keyboard_alone(
    opened: Callable[..., Any], orders: Orders, steered: Site
) -> None:
    vect = orders.start("by keyboard")
    page = opened(_address(steered, f"?token={steered.token}"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    def go_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            told = "document.activeElement.innerText || document.activeElement.name"
            if str(page.evaluate(told)).strip() == text:
                assert (
                    page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                )
                return
        raise AssertionError(text)

    go_to(vect)
    page.keyboard.press("Enter")
    page.wait_for_url("**/run?id=by%20keyboard")
    page.goto(_address(steered, f"step?id={vect}&step=check"))
    go_to("by")
    page.keyboard.type("Ada")
    go_to("Approve")
    page.keyboard.press("Enter")
    page.wait_for_url("**/run?id=by%20keyboard")
    assert Client(orders.log).wait(vect, 20) == "success"


def test_without_script_all_is_there_and_the_buttons_work(
    opened: Callable[..., Any], orders: Orders, steered: Site
) -> None:
    vect = orders.start("no script")
    page = opened(_address(steered, f"?token={steered.token}"), java_script_enabled=False)
    page.get_by_label("State").select_option("running")
    page.get_by_role("button", name="Filter").click()
    assert "state=running" in page.url
    page.get_by_role("link", name=vect).click()
    page.get_by_role("link", name="← Before").click()
    assert "at=" in page.url
    assert page.get_by_text("As it was after event").is_visible()
    page.get_by_role("link", name="Show it now").click()
    page.get_by_label("Event", exact=True).fill(str(Client(orders.log).vect(vect).events()[2].seq))
    page.get_by_role("button", name="Show").click()
    assert page.get_by_text("As it was after event").is_visible()
    page.get_by_role("link", name="Show it now").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Reason").fill("enough")
    page.get_by_role("button", name="Cancel the run").click()
    page.get_by_text("enough").first.wait_for()
    assert Client(orders.log).vect(vect).state == "cancelled"
    page.goto(_address(steered, "start?flow=order"))
    page.get_by_label("item").fill("tea")
    page.get_by_label("count").fill("1")
    page.get_by_role("button", name="Start").click()
    started = page.url.partition("id=")[2]
    assert Client(orders.log).vect(started).params["item"] == "tea"
    orders.app.vect(started).cancel()


def test_the_slider_shows_each_moment_under_its_address(
    opened: Callable[..., Any], steered: Site
) -> None:
    page = opened(_address(steered, "run?id=order+2"))
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    page.get_by_text("As it was after event").wait_for()
    page.wait_for_url("**at=*")
    assert page.locator("#head .state").inner_text().endswith("pending")
    slider.press("ArrowRight")
    page.locator("#moment b", has_text="vect.started").wait_for()
    assert page.evaluate("document.activeElement.type") == "range"
    slider.press("End")
    page.locator("#head .state", has_text="failed").wait_for()
    page.wait_for_function("!location.search.includes('at=')")
    page.reload()
    assert page.locator("#head .state").inner_text().endswith("failed")


@contextmanager
def _process(*command: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", *command]
    with subprocess.Popen(arguments, env=environment, text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _page_server(file: str, port: int) -> Iterator[Site]:
    with _process(ALONE, file, str(port)):
        site = Site(port)
        wait_for(lambda: _answers(site))
        yield site


def test_it_is_live_over_restarts_and_the_death_of_the_engine(
    opened: Callable[..., Any], file: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _process(PROGRAM, file, **pipes) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "started\n"
        client = Client(file)
        with _page_server(file, port) as site:
            run = opened(_address(site, "run?id=one"))
            step = run.context.new_page()
            step.goto(_address(site, "step?id=one&step=first"))
            step.locator("#link", has_text="Live").wait_for()
            run.locator("#link", has_text="Live").wait_for()
            run.locator("#steps tr", has_text="check").get_by_text("running").wait_for()
            run.get_by_role("link", name="All events").focus()
            run.evaluate("window.isTheSame = true")
            client.pause("one")
            run.locator("#head .state", has_text="paused").wait_for()
            assert run.evaluate("document.activeElement.textContent") == "All events of this run"
        client.resume("one")  # while there is no server
        run.locator("#link", has_text="Not connected").wait_for()
        client.approve("one", "check", by="Ada")
        client.wait("one", 20)
        with _page_server(file, port):
            run.locator("#head .state", has_text="success").wait_for()
            assert run.evaluate("window.isTheSame")
            run.locator("#engine", has_text="engine at work").wait_for()
            engine.send_signal(signal.SIGKILL)
            run.locator("#engine", has_text=re.compile(r"no engine since \d\d:\d\d")).wait_for()


def test_what_is_open_and_written_in_stays_while_the_page_goes_on(
    opened: Callable[..., Any], orders: Orders, steered: Site
) -> None:
    vect = orders.app.start(orders.slow, vect_id="live text")
    page = opened(_address(steered, "step?id=live+text&step=work"))
    page.locator("pre", has_text="line 1").first.wait_for()
    page.locator("summary").click()
    before = page.locator("pre").first.text_content()
    page.wait_for_function("text => document.querySelector('pre').textContent !== text", arg=before)
    assert page.locator("details").get_attribute("open") is None
    vect.cancel()
    page.locator("#step .headline .state", has_text="cancelled").wait_for()


def test_a_file_opens_without_network(
    opened: Callable[..., Any], orders: Orders, tmp_path: Path
) -> None:
    from oautom.web import html_of

    (tmp_path / "runs.html").write_text(html_of(Client(orders.log), ["order 1", "order 2"]))
    page = opened(f"file://{tmp_path}/runs.html", viewport={"width": 390, "height": 800})
    requests: list[str] = []
    page.on("request", lambda each: requests.append(each.url))
    page.get_by_role("link", name="order 2").first.click()
    page.locator("#run-1 .list").get_by_role("link", name="pay").click()
    assert page.url.endswith("#step-1-2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [each for each in requests if "runs.html" not in each] == []
