"""The open apps: each is closed at the end of the program, and no two of them write one log."""

from __future__ import annotations

import atexit
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, Protocol

from oautom.engine.modes import OAutomMode
from oautom.errors import EngineError, OAutomError, SettingError
from oautom.events.log import EventLog
from oautom.flows.flow import App, Flow
from oautom.processes import forked
from oautom.steps.context import CALLED


class OpenApp(App, Protocol):
    """The part of an app that is used here."""

    log: EventLog
    mode: OAutomMode

    def close(self) -> None:
        """End all work."""


class Parts(Protocol):
    """The parts of an app, without the app itself."""

    flows: Mapping[str, Flow]
    home: forked.Home

    def is_idle(self) -> bool:
        """Whether nothing is to be done, no thread waits, and no subscription is open."""

    def end(self) -> None:
        """End everything."""


_logger = logging.getLogger("oautom.app")
# Nothing here may keep an app alive: parts would too, as their flows refer to the app.
_open_apps: weakref.WeakKeyDictionary[OpenApp, weakref.ref[Parts]] = weakref.WeakKeyDictionary()

_NO_THREADS_AT_END: Final = (3, 12) <= sys.version_info[:3] < (3, 12, 2)
"""These versions start no thread or process after the last line of the program."""


def check_free(log: object, app: OpenApp) -> None:
    """Refuse a log that another open app writes.

    Raises:
        SettingError: There is such an app.
    """
    if any(each.log is log and each is not app for each in list(_open_apps)):
        raise SettingError("another open app writes this log; close that one, or use it here")


def opened(app: OpenApp, parts: Parts) -> None:
    """Register an app: it is closed at the end of the program, or by `let_go_of_forgotten`."""
    _open_apps[app] = weakref.ref(parts)
    # The last handler registered is called first: before that of multiprocessing, which waits
    # for the worker processes that ours ends.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    if _NO_THREADS_AT_END:
        _close_busy_at_end()


def closed(app: OpenApp) -> None:
    """Note that an app is closed."""
    _open_apps.pop(app, None)


def _leave_to_parent() -> None:
    """Let a forked child close none of its parent's apps; apps that did nothing may work here."""
    for app, parts in [(app, parts()) for app, parts in _open_apps.items()]:
        if parts is None or parts.home.process is not forked.NOBODY:
            closed(app)


forked.in_child(_leave_to_parent)


def weakly(method: Callable[[], object]) -> Callable[[], object]:
    """Return a call of a method that does not keep its object alive, and is empty without it."""
    reference = weakref.WeakMethod(method)

    def call() -> object:
        found = reference()
        return None if found is None else found()

    return call


def let_go_of_forgotten() -> None:
    """Close the apps that nothing refers to any more, so that another app can use their log.

    An example is a cell of a notebook that is run again, and makes its app anew: what is left of
    the old app is a Vect, whose flow refers to the app. So the flows of an idle app drop their
    reference for a moment: if the app is gone then, nothing else referred to it.
    """
    gc.collect()
    for reference in _open_apps.keyrefs():
        _let_go_if_forgotten(reference)


def _let_go_if_forgotten(reference: weakref.ref[OpenApp]) -> None:
    app = reference()
    parts = None if app is None else _open_apps[app]()
    if parts is None or not parts.is_idle():
        return
    flows = list(parts.flows.values())
    for flow in flows:
        flow.app = None
    del app
    gc.collect()
    app = reference()
    if app is None:
        parts.end()
    else:
        for flow in flows:
            flow.app = app


@cache
def _close_busy_at_end() -> None:
    """Close busy apps before the interpreter waits for threads: one may be an engine's."""
    threading._register_atexit(_close_busy)  # type: ignore[attr-defined] # noqa: SLF001


def _close_busy() -> None:
    """Close the busy apps of background mode: their steps would fail one after another."""
    for app, reference in list(_open_apps.items()):
        parts = reference()
        if app.mode is OAutomMode.background and parts is not None and not parts.is_idle():
            _logger.warning(
                "this Python (%d.%d.%d) starts no thread and no process once the last line of the "
                "program has run, so the app is closed before its vects have ended; end the "
                "program with vect.wait() or app.close(), or use Python 3.12.2 or newer",
                *sys.version_info[:3],
            )
            _close(app)


def _close_all() -> None:
    """Close all apps, so that no process is left when the program ends."""
    for app in list(_open_apps):
        _close(app)


def _close(app: OpenApp) -> None:
    try:
        app.close()
    except OAutomError:
        _logger.exception("an app could not be closed at the end of the program")


def check_process(*, is_made_by_step: bool) -> None:
    """Refuse to begin anything in a worker process, where the app is missing or only a copy.

    Args:
        is_made_by_step: Whether a step has made the app for itself, which is allowed.

    Raises:
        EngineError: The process imports the main module, or does the work of a step of another app.
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
            "a worker process imports this module, and must not run flows meanwhile; put the code "
            "that runs flows under: if __name__ == '__main__'"
        )
