"""The handler of a signal raises at any place until the engine drives: the app can be closed."""

from __future__ import annotations

import dis
import sys
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import oautom
from oautom import EngineError, Flow, OAutom, PythonExecution

FOLDER = str(Path(oautom.__file__).parent)
CALLS = {dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "CALL_KW") if name in dis.opmap}
CHECKED = {dis.opmap[name] for name in ("RESUME", "JUMP_BACKWARD")}


class Ended(BaseException):
    """As `SystemExit`, which a handler may raise."""


@cache
def _ranges(code: CodeType) -> list[Any]:
    return list(dis._parse_exception_table(code))  # type: ignore[attr-defined]


def _caught_at(code: CodeType, offset: int) -> int | None:
    """Return where an exception of this instruction is caught in its function."""
    found = [each.target for each in _ranges(code) if each.start <= offset < each.end]
    return found[0] if found else None


class Raiser:
    """Raises before the n-th instruction of oautom at which Python may run a handler.

    That is after a call, at the beginning of a function, and at the end of a loop. Its last place
    is the one at which the engine begins to drive.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self.place = ""
        self._is_over = False
        self._last: dict[FrameType, int] = {}

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if self._is_over or not code.co_filename.startswith(FOLDER):
            return None
        frame.f_trace_opcodes = True
        if event == "call" and code.co_qualname == "Driver._loop":
            self._is_over = True
        if event != "opcode" or self._is_over or not self._is_checked(frame):
            return self.trace
        self.left -= 1
        if self.left < 0:
            self._is_over = True
            self.place = f"{code.co_qualname}, line {frame.f_lineno}"
            raise Ended
        return self.trace

    def _is_checked(self, frame: FrameType) -> bool:
        code, offset = frame.f_code, frame.f_lasti
        before = self._last.get(frame)
        self._last[frame] = offset
        if code.co_code[offset] in CHECKED:
            return True
        # Python counts what a handler raises after a call as raised by the call.
        is_after_call = before is not None and code.co_code[before] in CALLS
        return is_after_call and _caught_at(code, before or 0) == _caught_at(code, offset)


@pytest.mark.parametrize("log", ["file", "memory"])
def test_an_app_can_be_closed_wherever_a_handler_has_raised(tmp_path: Path, log: str) -> None:
    places = set()
    for number in range(10_000):
        path = None if log == "memory" else tmp_path / f"{number}.db"
        app = OAutom(executor="inline", log=path)
        flow = Flow("flow", app)
        PythonExecution("step", flow, int)
        vect = app.start(flow)
        raiser = Raiser(number)
        before = sys.gettrace()
        try:
            sys._getframe().f_trace_opcodes = True  # Python 3.12.1 tells none if no frame had it
            sys.settrace(raiser.trace)
            vect.wait()
        except Ended:
            pass
        finally:
            sys.settrace(before)
        try:
            app.close()
        except EngineError as error:
            pytest.fail(f"after {raiser.place}: {error}")
        if not raiser.place:
            break
        places.add(raiser.place)
    assert len(places) > 20
