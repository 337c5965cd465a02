"""A program that stops in good order leaves no process, and its Vects go on in its next life."""

from __future__ import annotations

import threading
from pathlib import Path

from oautom import Context, Execution, Flow, OAutom, OAutomMode


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
