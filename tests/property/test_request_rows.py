"""No row of `requests` is trusted: whatever it holds, it is done, or left undone and answered."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oautom import ApprovalExecution, Flow, OAutom, OAutomMode, PythonExecution, SqliteEventLog
from oautom.events.sqlite import wakeup
from oautom.testing import check_history
from tests.held import until

ACTIONS = {
    "cancel": (set(), {"reason"}),
    "pause": (set(), set()),
    "resume": (set(), set()),
    "retry": (set(), set()),
    "approve": ({"step", "by"}, {"data"}),
    "reject": ({"step", "by"}, {"reason"}),
}

texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
data = st.dictionaries(st.sampled_from(["step", "by", "reason", "data", "x"]), texts | values)
proper = st.sampled_from(
    [{}, {"step": "a", "by": "Ada"}, {"reason": "why"}, {"step": "a", "by": "Ada", "data": [1]}]
)
Cell = Any
"""What stands in a column: a value of any type of SQLite's, or bytes that it takes for a text."""
cells = (
    texts
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=8)
    | st.tuples(st.binary(max_size=8))  # no valid Unicode, as a text
)
rows = st.tuples(
    cells | st.just("2026-11-24T12:00:00+00:00"),
    cells | st.sampled_from(["v", "w", "ended", "nobody"]),
    cells | st.sampled_from([*ACTIONS, "set_priority", "Cancel", "paus\u0065d"]),
    cells | (data | proper | values).map(json.dumps),
)


def insert(path: Path, row: tuple[Cell, ...]) -> int:
    """Write a row as any program may, and return its number."""
    marks = ["CAST(? AS TEXT)" if type(cell) is tuple else "?" for cell in row]
    given = [cell[0] if type(cell) is tuple else cell for cell in row]
    sql = f"INSERT INTO requests (time, vect, action, data) VALUES ({', '.join(marks)})"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        number = connection.execute(sql, given).lastrowid
    assert number is not None
    return number


def as_text(cell: Cell) -> str | None:
    """What a column of texts holds as one, or None."""
    if type(cell) is tuple:
        try:
            return str(cell[0], "utf-8")
        except UnicodeDecodeError:
            return None
    return None if type(cell) is bytes else str(cell)


def makes_sense(row: tuple[Cell, ...]) -> bool:
    """Whether a row asks for something that can be asked; whether it can be done is another."""
    _, vect, action, told = map(as_text, row)
    try:
        given = json.loads(told or "")
    except (ValueError, RecursionError):
        return False
    if vect not in ("v", "w", "ended") or action not in ACTIONS or type(given) is not dict:
        return False
    needed, possible = ACTIONS[action]
    others = (value for name, value in given.items() if name != "data")
    return needed <= given.keys() <= needed | possible and all(type(each) is str for each in others)


@pytest.fixture(autouse=True)
def _look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.01)


@pytest.fixture
def file() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder) / "log.db"


def declare(app: OAutom) -> tuple[Flow, Flow]:
    asks = Flow("asks", app, max_active_vects=9)
    ApprovalExecution("a", asks, "?")
    other = Flow("other", app)
    PythonExecution("s", other, int)
    return asks, other


def wait_until_heard(log: Any) -> None:
    deadline = time.monotonic() + 20
    while log.asked():
        assert time.monotonic() < deadline, log.asked()
        time.sleep(0.005)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(rows, min_size=1, max_size=20))
@example([("", "v", "set_priority", '{"priority": 3}')])
@example([("", "v", "approve", "{}"), ("", "w", "cancel", "[]"), ("", "v", "cancel", '"x"')])
@example([("", "v", "cancel", '{"reason": 7}'), ("", "v", "cancel", "[" * 10_000)])
@example([("", "v", "approve", '{"step": "a", "by": "' + "x" * 20_000 + '"}')])
def test_whatever_a_row_holds_it_is_done_or_answered(written: list[tuple[Cell, ...]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        log = SqliteEventLog(path, synchronous="NORMAL")
        with closing(log), OAutom(OAutomMode.background, log=log, executor="inline") as app:
            asks, other = declare(app)
            vects = {name: app.start(asks, vect_id=name) for name in ("v", "w", "ended")}
            vects["ended"].cancel()
            vects["ended"].wait(20)
            before = {name: vect.state for name, vect in vects.items()}
            numbers = [insert(path, row) for row in written]
            wait_until_heard(log)

            assert app.run(other).state == "success"
            refusals = []
            for number in numbers:
                answer = log.answer(number)
                assert answer is not None
                refusals.append(answer.refusal)
            senseless = [not makes_sense(row) for row in written]
            for is_senseless, refusal in zip(senseless, refusals, strict=True):
                assert refusal or not is_senseless
                assert refusal is None or refusal.isprintable() or "\n" not in refusal
            if all(senseless):
                assert {name: vect.state for name, vect in vects.items()} == before
            check_history(log.read())


def test_what_is_senseless_does_not_stand_in_the_way_of_what_comes_after(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OAutom(log=file) as app:
        declare(app)
        app.start("asks", vect_id="v")
    wrong = insert(file, ("", "v", "approve", "{}"))
    right = insert(file, ("", "v", "approve", '{"step": "a", "by": "Ada"}'))

    with OAutom(log=file) as app:
        declare(app)
        (vect,) = app.recover()
        assert vect.wait(20) == "success"
        told = app.log.answer(wrong), app.log.answer(right)  # type: ignore[attr-defined]

    assert [each.refusal for each in told] == [
        "'approve' needs by and step, and takes data, not nothing",
        None,
    ]
    assert f"was refused, request {wrong} of vect 'v': 'approve' needs by and step" in caplog.text
    with OAutom(log=file) as app:  # it is not taken again
        declare(app)
        assert app.run("other").state == "success"
        assert app.log.asked() == []


def test_a_bug_at_a_request_is_answered_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OAutom(OAutomMode.background, log=file) as app:
        _, other = declare(app)
        vect = app.start("asks", vect_id="v")
        monkeypatch.setattr("oautom.engine.requests.command_of", lambda *_: 1 / 0)
        number = app.log.ask("v", "pause")  # type: ignore[attr-defined]
        wait_until_heard(app.log)
        assert "this is a bug in oautom" in app.log.answer(number).refusal  # type: ignore[attr-defined]
        monkeypatch.undo()
        assert app.run(other).state == "success"
        vect.cancel()


@pytest.mark.parametrize("state", ["open", "ended"])
def test_what_concerns_a_flow_that_is_not_declared_waits_until_it_is(
    file: Path, state: str
) -> None:
    with OAutom(OAutomMode.background, log=file) as app:
        declare(app)
        vect = app.start("asks", vect_id="v")
        if state == "ended":
            vect.cancel()
    action = {"open": "cancel", "ended": "retry"}[state]
    asker = SqliteEventLog(file, read_only=True)
    number = asker.ask("v", action)
    asker.close()

    with OAutom(OAutomMode.background, log=file) as app:
        log: Any = app.log
        other = Flow("other", app)
        PythonExecution("s", other, int)
        for _ in range(2):
            assert app.run(other).state == "success"
        assert (log.answer(number), len(log.asked())) == (None, 1)
        asks = Flow("asks", app, max_active_vects=9)
        ApprovalExecution("a", asks, "?")
        vect = app.start(asks, vect_id="v")
        wait_until_heard(log)
        answer = log.answer(number)
        assert answer is not None
        assert answer.refusal is None
        # The answer is in the file before the commit that it is in is shown.
        until(lambda: vect.state == {"open": "cancelled", "ended": "running"}[state])
