"""A program that stops in good order leaves no process, and its Vects go on in its next life."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from oautom import BashExecution, Context, Execution, Flow, OAutom, OAutomMode
from oautom.events.sqlite import SqliteEventLog


def test_an_engine_that_still_tells_its_steps_to_stop_is_not_idle(tmp_path: Path) -> None:
    """Else `close()` on another thread returned, and let go of the log, while they ran."""
    seen: list[bool] = []
    is_running = threading.Event()

    class Step(Execution):
        def run(self, context: Context) -> None:
            over = threading.Event()

            def stop() -> None:
                seen.append(app._engine._scheduler.is_idle())
                over.set()

            context.on_cancel(stop)
            is_running.set()
            over.wait()

    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        Step("step", Flow("flow", app))
        app.start("flow")
        assert is_running.wait(30)
    assert seen == [False]


def test_what_is_asked_just_before_the_engine_listens_is_done(tmp_path: Path) -> None:
    was_asked = threading.Event()

    class Log(SqliteEventLog):
        def requests(self) -> list[Any]:
            requests = super().requests()
            was_asked.set()
            return requests

        def listen(self, wake: Callable[[], None]) -> None:
            assert was_asked.wait(30)
            self.ask("one", "cancel", reason="enough")
            super().listen(wake)

    def declare(app: OAutom) -> None:
        BashExecution("step", Flow("flow", app), "sleep 1000")

    with OAutom(log=tmp_path / "runs.db") as app:
        declare(app)
        with contextlib.suppress(TimeoutError):
            app.start("flow", vect_id="one").wait(0.01)
    with (
        closing(Log(tmp_path / "runs.db")) as log,
        OAutom(OAutomMode.background, log=log) as app,
    ):
        declare(app)
        (vect,) = app.recover()
        assert vect.wait(30) == "cancelled"
