"""The walks that docs/design.md draws are those that a real run takes, from package to package.

All calls of a run are traced, on all threads. Each arrow of a drawing is a call of the trace,
in this order; each two packages of which one calls the other have an arrow in the drawing. What
`values`, `errors` and `processes.forked` are asked is no part of a walk, nor is what the log does
behind its border.
"""

import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

import oautom
from oautom import BashExecution, Flow, OAutom, RetryPolicy

SECONDS = 60
ROOT = Path(oautom.__file__).parent
DESIGN = Path(__file__).resolve().parents[2] / "docs" / "design.md"
ARROW = re.compile(r"\s*(\w+)->>(\w+): (\w+)")
FIGURES = re.compile(r"(\d+) modules, and (\d+) others")
MODULES_MAX = 15
"""Into how many modules somebody must look who follows a walk."""
COMMON = ("values/", "errors", "processes/forked")
"""Modules of which everybody may ask something."""


class Call(NamedTuple):
    """A call from one package to another, or within one: `by` is empty where no package calls."""

    by: str
    package: str
    function: str
    module: str


class Trace:
    """The calls of a walk, from one function's first call to another one's last."""

    def __init__(self, first: str, last: str) -> None:
        self._first, self._last = first, last
        self._calls: list[tuple[str, Call]] = []

    @property
    def calls(self) -> list[Call]:
        names = [name for name, _ in self._calls]
        begin, end = names.index(self._first), len(names) - names[::-1].index(self._last)
        return [call for _, call in self._calls[begin:end] if not call.module.startswith(COMMON)]

    def between_packages(self) -> list[Call]:
        return [call for call in self.calls if call.by not in ("", call.package)]

    def modules(self) -> set[str]:
        return {call.module for call in self.calls}

    @contextmanager
    def watched(self):
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, arg: object) -> None:
        module = module_of(frame)
        if event != "call" or module is None or frame.f_code.co_name.startswith("<"):
            return
        if frame.f_code.co_name == "call_handlers_and_take":  # of `logging`, whoever logs
            return
        by = frame.f_back
        while by is not None and module_of(by) is None:
            by = by.f_back
        caller = "" if by is None else package_of(module_of(by))
        if caller == "events":  # behind the border
            return
        call = Call(caller, package_of(module), frame.f_code.co_name, module)
        self._calls.append((frame.f_code.co_qualname, call))


def module_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT).with_suffix("")) if path.is_relative_to(ROOT) else None


def package_of(module: str | None) -> str:
    return "" if module is None else module.split("/", maxsplit=1)[0]


def section_of(title: str) -> str:
    """Return what stands below a title, to the end of its drawing."""
    text = DESIGN.read_text(encoding="utf-8").split(f"### {title}\n")[1]
    return "```".join(text.split("```")[:2])


def drawn(title: str) -> list[tuple[str, str, str]]:
    """Return the arrows of the drawing below a title: from, to, and the function that is called."""
    drawing = section_of(title).split("```mermaid\n")[1]
    return [match.groups() for line in drawing.splitlines() if (match := ARROW.match(line))]


def check(title: str, trace: Trace) -> None:
    """Hold a drawing against a trace, and how many modules its arrows lead into."""
    arrows, calls = drawn(title), trace.between_packages()
    taken, modules = iter(calls), set()
    for arrow in arrows:
        call = next((call for call in taken if call[:3] == arrow), None)
        assert call is not None, f"{title}: this call is not made, or not here: {arrow}"
        modules.add(call.module)
    called = {(call.by, call.package) for call in calls}
    missing = called - {arrow[:2] for arrow in arrows}
    whom = {pair: {c.function for c in calls if (c.by, c.package) == pair} for pair in missing}
    assert not missing, f"{title}: who calls whom is not drawn: {whom}"
    if figures := FIGURES.search(section_of(title)):
        most, others = map(int, figures.groups())
        assert len(modules) == most <= MODULES_MAX, sorted(modules)
        assert len(trace.modules() - modules) <= others, sorted(trace.modules() - modules)


@pytest.fixture
def app() -> OAutom:
    with OAutom() as app:
        yield app


def test_a_bash_step_that_fails_and_is_tried_again(app: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", app)
    again = RetryPolicy(max_attempts=2, delay=0.01)
    BashExecution("step", flow, "test -e here || (touch here; false)", cwd=tmp_path, retry=again)
    trace = Trace("Work.__call__", "ThreadWorkers.submit")
    with trace.watched():
        assert app.run(flow).state == "success"
    check("A Bash step fails and is tried again", trace)


def test_a_cancel_from_another_thread(app: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", app)
    BashExecution("step", flow, "touch begun; sleep 60", cwd=tmp_path)
    vect = app.start(flow)
    trace = Trace("Vect.cancel", "ProcessGroup.cancel")

    def cancel() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        vect.cancel()

    with trace.watched():
        thread = threading.Thread(target=cancel, daemon=True)
        thread.start()
        assert vect.wait(SECONDS) == "cancelled"
        thread.join(SECONDS)
    check("A cancel from another thread", trace)


PROGRAM = """
import sys
from oautom import BashExecution, Flow, OAutom

app = OAutom(log="log.db")
flow = Flow("flow", app)
BashExecution("step", flow, "test -e here && exit; touch here; kill -9 $PPID; sleep 60")
"""


def test_a_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = [sys.executable, "-c", PROGRAM + "app.run(flow)"]
    assert subprocess.run(program, timeout=SECONDS, check=False).returncode == -9
    names: dict[str, OAutom] = {}
    exec(PROGRAM, names)
    trace = Trace("Recovery.recover", "Runner.context")
    with names["app"] as app, trace.watched():
        (vect,) = app.recover()
        assert vect.wait(SECONDS) == "success"
    check("A recovery", trace)
