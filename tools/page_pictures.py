"""Write pictures of the page into docs/pictures: `python -m tools.page_pictures [FOLDER]`.

A run is made for them, in a folder of its own; its times are those of the day.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from oautom import (
    ApprovalExecution,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
)
from oautom.web.server import PageServer

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")
WIDTHS = {"light": 1280, "dark": 390}
VIEWS = [
    ("runs", "./", "light"),
    ("run", "run?id=2026-11-25", "light"),
    ("run", "run?id=2026-11-25", "dark"),
    ("inbox", "inbox", "dark"),
]


def declared(log: str) -> OAutom:
    """Return an engine at work, with some runs."""
    app = OAutom(OAutomMode.background, log=log)
    orders = Flow("orders", app, params={"day": str}, max_active_vects=None)
    extract = PythonExecution("extract", orders, lambda: list(range(12)))
    price = MapExecution("price", orders, _price, over=extract)
    pay = PythonExecution("pay", orders, _pay, retry=RetryPolicy(max_attempts=2, delay=0.3))
    release = ApprovalExecution("release", orders, "Release the numbers of the day?")
    publish = PythonExecution("publish", orders, lambda: "published")
    extract >> price >> release >> publish
    extract >> pay
    app.run()
    for day in range(20, 27):
        app.start(orders, {"day": f"2026-11-{day}"}, vect_id=f"2026-11-{day}")
    return app


def _price(item: int) -> int:
    return item * 3


def _pay(context: object) -> str:
    if "26" in str(getattr(context, "params", "")):
        raise ConnectionError("the bank does not answer")
    return "paid"


def main() -> None:
    """Make the pictures, and say how large they are."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, declared(f"{place}/runs.db") as app:
        for day in range(20, 25):
            _approve(app, f"2026-11-{day}")
        with PageServer(app, port=0, steer=True) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=list(FLAGS)
            )
            for name, path, scheme in VIEWS:
                size = {"width": WIDTHS[scheme], "height": 860}
                tab = browser.new_context(color_scheme=scheme, viewport=size).new_page()
                tab.goto(server.address)
                tab.goto(server.address.partition("?")[0] + path)
                tab.locator("#link[data-state=live]").wait_for()
                file = folder / f"page-{name}-{scheme}.png"
                tab.screenshot(path=file)
                print(f"{file.stat().st_size:>7} bytes  {file}")
            browser.close()


def _approve(app: OAutom, vect: str) -> None:
    run = app.vect(vect)
    while run.steps["release"].state != "running":
        time.sleep(0.01)
    run.approve("release", by="Ada")


if __name__ == "__main__":
    main()
