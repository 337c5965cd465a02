"""Which apps are open: each is closed at the end of the program, and no two write one log."""

from __future__ import annotations

import atexit
import logging
import sys
import weakref
from typing import Protocol

from oautom.errors import EngineError, OAutomError, SettingError
from oautom.events.log import EventLog
from oautom.executions.context import CALLED


class App(Protocol):
    """What is asked of an app here."""

    log: EventLog

    def close(self) -> None:
        """End all work."""


_logger = logging.getLogger("oautom.app")
_open_apps: weakref.WeakSet[App] = weakref.WeakSet()


def check_free(log: object) -> None:
    """Refuse a log that another open app writes.

    Raises:
        SettingError: There is such an app.
    """
    if any(app.log is log for app in list(_open_apps)):
        raise SettingError("another open app writes this log; close that one, or use it here")


def opened(app: App) -> None:
    """Have an app closed at the end of the program."""
    _open_apps.add(app)
    # The last handler registered is called first: before that of multiprocessing, which waits
    # for the worker processes that ours ends.
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def closed(app: App) -> None:
    """Take note that an app is closed."""
    _open_apps.discard(app)


def _close_all() -> None:
    """Leave no process behind when the program ends."""
    for app in list(_open_apps):
        try:
            app.close()
        except OAutomError:
            _logger.exception("an app could not be closed at the end of the program")


def check_process(*, is_made_by_step: bool) -> None:
    """Refuse to begin anything in a worker process: the app is not there, but a copy may be.

    Args:
        is_made_by_step: The app is one that a step has made for itself, which is fine.

    Raises:
        EngineError: It imports the main module, or does the work of a step of another app.
    """
    called = CALLED.get()
    if called is not None and called.home is None and not is_made_by_step:
        raise EngineError(
            f"step '{called.step}' of flow '{called.flow}' runs in a worker process, and its app "
            "is not there: it cannot start or await vects; use executor='threads', or a "
            "FlowExecution, which needs no worker",
            flow=called.flow,
            step=called.step,
        )
    # A spawned worker imports the main module; `_inheriting` is how multiprocessing itself
    # notices that this would start workers of workers.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise EngineError(
            "a worker process imports this module and must not run flows meanwhile; put what "
            "the program does under: if __name__ == '__main__'"
        )
