"""`check_executor`: what an executor can do for oautom, tried by real work.

Each row of the report is a small flow, run on the executor with a deadline of its own. A row that
hangs is reported, and left to itself: the rows behind it get a new executor.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from oautom.app import OAutom
from oautom.engine.modes import OAutomMode
from oautom.errors import SettingError, shown
from oautom.flows.flow import Flow
from oautom.steps.python import PythonExecution
from oautom.testing import far
from oautom.vects.vect import Vect

_POLL_SECONDS: Final = 0.01
_CLOSE_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 3.0
_SCRIPTED: Final = "oautom_check_executor"  # a function of the script
_TRACKERS: Final = ("resource_tracker", "forkserver")  # processes that Python keeps to its end
_OFFLOAD: Final = "Dask-Offload_0"  # a thread that Dask keeps to the end, once a message was large


class _WrongError(Exception):
    """What a row has found, in a sentence."""


class Row(NamedTuple):
    """A row of a `Report`.

    Attributes:
        name: What was tried.
        holds: Whether the executor can do it; None if there is nothing to try, as when its work
            runs in the program itself.
        is_declared: Whether `lacks` has it.
        seconds: How long it took.
        told: What was seen, in a sentence.
    """

    name: str
    holds: bool | None
    is_declared: bool
    seconds: float
    told: str

    @property
    def is_as_declared(self) -> bool:
        """Whether the executor can do it if that was not declared to be missing, and only then."""
        return (self.holds is False) == self.is_declared


class ExecutorLacksError(AssertionError):
    """An executor cannot do what was not declared to be missing, or can do what was.

    Attributes:
        report: The `Report`.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class Report:
    """What an executor can do. `str(report)` is a table.

    Attributes:
        rows: The rows, in the order in which they were tried.
    """

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that are not as they were declared."""
        return tuple(row for row in self.rows if not row.is_as_declared)

    def raise_for_failures(self) -> None:
        """Raise an error if a row is not as it was declared.

        Raises:
            ExecutorLacksError: The table, with what is wrong in each row.
        """
        if self.failures:
            raise ExecutorLacksError(self)

    def __str__(self) -> str:
        """Return the table, a line for each row."""
        return "\n".join(_lines(self.rows))

    def __repr__(self) -> str:
        """Return how many rows are not as declared."""
        return f"<Report: {len(self.rows)} rows, {len(self.failures)} not as declared>"


def _lines(rows: tuple[Row, ...]) -> Iterator[str]:
    width = max(len(row.name) for row in rows)
    for row in rows:
        word = {True: "yes", False: "no", None: "-"}[row.holds]
        told = row.told
        if not row.is_as_declared:
            how = "that was declared to be missing" if row.is_declared else "not declared"
            word, told = "FAIL", f"{told} ({how})" if told else f"it holds ({how})"
        yield f"{row.name:{width}}  {word:4} {row.seconds:5.1f} s  {told}".rstrip()


def check_executor(
    make: Callable[[], Any],
    *,
    lacks: Collection[str] = (),
    workers: int = 2,
    size_bytes: int = 100_000_000,
    rows: Collection[str] | None = None,
    seconds: float = 30.0,
    folder: str | os.PathLike[str] | None = None,
) -> Report:
    """Try what an executor can do for oautom, and report it.

    Args:
        make: Returns an executor, anything that `OAutom(executor=...)` takes. What is a context
            manager, as each `concurrent.futures.Executor` is, is entered, and left at the end; so
            `make` may be a function under `contextlib.contextmanager`, too. It is called twice,
            and once more after each row that hangs.
        lacks: The names of the rows that the executor cannot do. Such a row fails if it holds.
        workers: How many steps the executor does at once.
        size_bytes: The size of the value that is handed on.
        rows: The names of the rows to try. Default: all.
        seconds: The deadline of each row.
        folder: A folder that the program and the executor's workers both see. Default: a new one
            for temporary files.

    Raises:
        SettingError: `lacks` or `rows` has a name that no row has.
    """
    for what, names in {"lacks": lacks, "rows": rows or ()}.items():
        for name in names:
            if name not in _ROWS:
                raise SettingError(
                    f"{what} has {shown(name)}, which is no row; the rows are {', '.join(_ROWS)}"
                )
    main = vars(sys.modules["__main__"])  # first: workers that are forked have it, too
    exec(f"def {_SCRIPTED}():\n    return 42", main)  # noqa: S102 - our own line
    with tempfile.TemporaryDirectory(prefix="oautom-", dir=folder) as files:
        suite = _Suite(make, files, workers, size_bytes)
        tried = []
        for name, check in _ROWS.items():
            if rows is not None and name not in rows:
                continue
            begun = time.monotonic()
            holds, told = suite.tried(check, seconds)
            tried.append(Row(name, holds, name in lacks, time.monotonic() - begun, told))
        suite.bounded(suite.end_in_context, _CLOSE_SECONDS)
    main.pop(_SCRIPTED, None)
    return Report(tuple(tried))


class _Suite:
    """One executor after the other, each with an app.

    Attributes:
        app: The app of the executor that is used now.
        files: The folder of the work.
        workers: How many steps it does at once.
        size_bytes: See `check_executor`.
        pace: The seconds that a step takes which does nothing.
        is_at_home: The work runs in this process.
        is_made: The next app gets the function that makes its executor, and not an executor.
    """

    def __init__(self, make: Callable[[], Any], files: str, workers: int, size_bytes: int) -> None:
        self._make = make
        self.files = files
        self.workers = workers
        self.size_bytes = size_bytes
        self.pace = 0.0
        self.is_at_home = False
        self.is_made = False
        self._app: OAutom | None = None
        self._stack = ExitStack()
        self._context = copy_context()  # a Dask client is left in that in which it was entered
        self._before = _Seen.now()

    @property
    def app(self) -> OAutom:
        """The app; it is made when it is needed."""
        if self._app is None:
            self._before = _Seen.now()
            self._stack = ExitStack()
            made = self._entered()
            count = self.workers + 1  # one waits in the executor
            if isinstance(made, str):  # with one of oautom's own nothing does
                count = self.workers
            elif self.is_made and issubclass(type(made), Executor):
                first, more = [made], self._entered
                made = lambda: first.pop() if first else more()  # noqa: E731 - a named one is no shorter
            self._app = OAutom(OAutomMode.background, executor=made, max_workers=count)
        return self._app

    def _entered(self) -> Any:
        made = self._make()
        return self._stack.enter_context(made) if hasattr(type(made), "__enter__") else made

    def tried(self, check: Callable[[_Suite], str | None], seconds: float) -> tuple[Any, str]:
        """Return whether a row holds, and what was seen."""
        found: list[tuple[bool | None, str]] = []

        def attempt() -> None:
            try:
                told = check(self)
                found.append((True, "") if told is None else (None, told))
            except _WrongError as error:
                found.append((False, str(error)))
            except Exception as error:  # whatever an executor raises is a finding
                found.append((False, f"it raised {type(error).__name__}: {error}"))

        if not self.bounded(partial(self._context.run, attempt), seconds):
            app, self._app = self._app, None
            self._context = copy_context()  # the row is still in the other one
            if app is not None:  # else its engine would wait for ever; who hangs may hang there too
                self.bounded(app.close, _LAST_SECONDS)
            return False, f"it did not end within {seconds:g} seconds"
        return found[0]

    @staticmethod
    def bounded(call: Callable[[], object], seconds: float) -> bool:
        """Call a function on a thread of its own; return False if it does not end in time."""
        thread = threading.Thread(target=call, name="check-executor", daemon=True)
        thread.start()
        thread.join(seconds)
        return not thread.is_alive()

    def end(self) -> _Seen:
        """Close app and executor; return what there was before them."""
        app, self._app = self._app, None
        if app is not None:
            app.close()
            self._stack.close()
        return self._before

    def end_in_context(self) -> None:
        """Close app and executor, outside of a row."""
        self._context.run(self.end)

    def flow(self, **functions: tuple[Any, ...]) -> Flow:
        """Return a new flow with these steps: a function and its arguments each."""
        flow = Flow(f"flow {len(self.app.flows())}", self.app)
        for name, (function, *args) in functions.items():
            PythonExecution(name, flow, function, args)
        return flow

    def started(self, **functions: tuple[Any, ...]) -> Vect:
        """Start a new flow with these steps."""
        return self.app.start(self.flow(**functions))

    def result(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns as a step."""
        vect = self.started(step=(function, *args))
        vect.wait()
        _check(vect.state == "success", f"the step failed: {vect.steps['step'].error}")
        return vect.result("step")

    def has(self, file: str) -> bool:
        """Whether the work has made a file."""
        return os.path.exists(os.path.join(self.files, file))

    def let_go(self, name: str) -> None:
        """Make the file that work waits for."""
        far.touch(self.files, f"{name} go")


def _check(is_so: object, told: str) -> None:
    if not is_so:
        raise _WrongError(told)


def _until(is_so: Callable[[], object], told: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        _check(time.monotonic() < end, told)
        time.sleep(_POLL_SECONDS)


# The rows: each raises a `_WrongError`, or returns why there is nothing to try


def _runs(suite: _Suite) -> None:
    suite.is_at_home = suite.result(far.identity) == os.getpid()
    begun = time.monotonic()
    suite.result(far.identity)
    suite.pace = time.monotonic() - begun


def _forwards(suite: _Suite) -> None:
    flow = Flow("forwards", suite.app)
    give = PythonExecution("give", flow, far.give, (suite.size_bytes,))
    count = PythonExecution("count", flow, far.count, (give,))
    vect = suite.app.start(flow)
    vect.wait()
    _check(vect.state == "success", f"{[step.error for step in vect.steps.values()]}")
    _check(vect.result(count) == suite.size_bytes, f"{vect.result(count)} bytes have come")


def _errors(suite: _Suite) -> None:
    vect = suite.started(plain=(far.fail,), local=(far.fail_here,), other=(far.identity,))
    vect.wait()
    _check(vect.steps["plain"].error == "ValueError: mine", f"{vect.steps['plain'].error}")
    local = vect.steps["local"].error or ""
    _check("LocalError: mine too" in local, f"of one that cannot be pickled: {local or 'nothing'}")
    _check(vect.steps["other"].state == "success", f"another step: {vect.steps['other'].error}")


def _skips(suite: _Suite) -> None:
    vect = suite.started(step=(far.skip,))
    vect.wait()
    _check(vect.steps["step"].state == "skipped", f"its state is {vect.steps['step'].state}")


def _cancel(suite: _Suite) -> None:
    vect = suite.started(step=(far.until_cancelled, suite.files, "cancel"))
    _until(lambda: suite.has("cancel begun"), "it did not begin")
    vect.cancel()
    reached = suite.has("cancel cancelled")
    with suppress(_WrongError):
        _until(lambda: suite.has("cancel cancelled"), "", 3.0)
        reached = True
    _check(reached, "context.cancelled was not set within 3 seconds")
    vect.wait()
    _check(vect.state == "cancelled", f"the state of the Vect is {vect.state}")


def _timeout(suite: _Suite) -> None:
    seconds = 0.3 + 3 * suite.pace
    for again in range(3):  # it is tried longer if it did not begin in time
        name = f"timeout {again}"
        flow = Flow(name, suite.app)
        PythonExecution("step", flow, far.until_cancelled, (suite.files, name), timeout=seconds)
        vect = suite.app.start(flow)
        vect.wait()
        if suite.has(f"{name} begun"):
            break
        seconds *= 3
    _check(vect.steps["step"].state == "failed", f"its state is {vect.steps['step'].state}")
    _until(lambda: suite.has(f"{name} cancelled"), "context.cancelled was not set", 3.0)


def _queued(suite: _Suite) -> None:
    names = [f"busy {number}" for number in range(suite.workers)]
    busy = {name: (far.be_busy, suite.files, name) for name in names}
    vect = suite.started(**busy, queued=(far.touch, suite.files, "queued begun"))
    _until(lambda: all(suite.has(f"{name} begun") for name in names), "not all workers began")
    suite.bounded(vect.cancel, 1.0)  # inline it returns when the step that runs is over
    for name in names:
        suite.let_go(name)
    vect.wait()
    _check(vect.state == "cancelled", f"the state of the Vect is {vect.state}")
    suite.result(far.identity)  # it comes behind the other
    _check(not suite.has("queued begun"), "it ran, though it was cancelled before it began")


def _log(suite: _Suite) -> None:
    _comes_live(suite, "log", "INFO log logs\n")


def _print(suite: _Suite) -> None:
    _comes_live(suite, "print", "print prints\n")


def _comes_live(suite: _Suite, name: str, line: str) -> None:
    vect = suite.started(step=(far.until_let_go, suite.files, name))
    _until(lambda: suite.has(f"{name} begun"), "it did not begin")
    try:
        _until(lambda: line in vect.steps["step"].log_text, "", 2.0)
        is_live = True
    except _WrongError:
        is_live = False
    suite.let_go(name)
    vect.wait()
    comes = line in vect.steps["step"].log_text
    _check(is_live, "it comes with the answer only" if comes else "it does not come")


def _lambda(suite: _Suite) -> None:
    _check(suite.result(lambda: 6 * 7) == 42, "it returned something else")


def _script(suite: _Suite) -> str | None:
    vect = suite.started(step=(vars(sys.modules["__main__"])[_SCRIPTED],))
    vect.wait()
    error = vect.steps["step"].error or ""
    if "`if __name__ == '__main__':`" in error:
        return "its workers import the script by themselves"
    _check(vect.state == "success", f"the step failed: {error}")
    return None


def _module(suite: _Suite) -> str | None:
    vect = suite.started(step=(far.take, far.Lacked()), other=(far.identity,))
    vect.wait()
    if suite.is_at_home:
        return "its work runs in the program itself"
    error = vect.steps["step"].error or ""
    _check(far.LACKED in error, f"its error names no module: {error or 'there is none'}")
    _check(vect.steps["other"].state == "success", f"another step: {vect.steps['other'].error}")
    return None


def _close(suite: _Suite) -> None:
    suite.started(step=(far.until_cancelled, suite.files, "close"))
    _until(lambda: suite.has("close begun"), "it did not begin")
    before = suite.end()
    more: list[str] = []

    def nothing() -> bool:
        gc.collect()
        more[:] = _Seen.now().more_than(before)
        return not more

    with suppress(_WrongError):
        _until(nothing, "", _CLOSE_SECONDS)
    _check(not more, f"it leaves {', '.join(more)}")


def _loss(suite: _Suite) -> str | None:
    suite.is_made = True  # a broken executor is made anew
    vect = suite.started(step=(far.die_once, suite.files, os.getpid()))
    vect.wait()
    step = vect.steps["step"]
    if step.state == "success" and vect.result("step") == "at home":
        return "its work runs in the program itself"
    _check(step.state == "success" or step.error, f"the state of the step is {step.state}")
    suite.result(far.identity)
    return None


_ROWS: Final[Mapping[str, Callable[[_Suite], str | None]]] = {
    "runs": _runs,
    "forwards": _forwards,
    "errors": _errors,
    "skip": _skips,
    "cancel": _cancel,
    "timeout": _timeout,
    "queue": _queued,
    "log": _log,
    "print": _print,
    "lambda": _lambda,
    "script": _script,
    "module": _module,
    "close": _close,
    "loss": _loss,
}


class _Seen(NamedTuple):
    """What belongs to this program now: threads, child processes, sockets, files."""

    threads: Counter[str]
    processes: Counter[str]
    sockets: int
    files: frozenset[str]

    @classmethod
    def now(cls) -> _Seen:
        """Look."""
        threads = Counter(
            thread.name
            for thread in threading.enumerate()
            if thread.name not in ("check-executor", _OFFLOAD)
        )
        files = frozenset(
            name for name in os.listdir(tempfile.gettempdir()) if name.startswith("oautom-lines-")
        )
        return cls(threads, Counter(_children(os.getpid())), _sockets(), files)

    def more_than(self, before: _Seen) -> list[str]:
        """Return what was not there before."""
        found = [f"thread '{name}'" for name in self.threads - before.threads]
        found += [f"process '{name}'" for name in self.processes - before.processes]
        found += [f"file {name}" for name in self.files - before.files]
        if self.sockets > before.sockets:
            found.append(f"{self.sockets - before.sockets} sockets")
        return found


def _children(pid: int) -> Iterator[str]:
    """Yield a word for each process that this one has started, and those have, on Linux."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            for child in children.split():
                with suppress(OSError):
                    line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
                    if line and not any(word.encode() in line for word in _TRACKERS):
                        yield f"{child} {line.decode(errors='replace')[:60].strip()}"
                yield from _children(int(child))


def _sockets() -> int:
    """Return how many sockets this process has, on Linux."""
    count = 0
    with suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                count += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
    return count
