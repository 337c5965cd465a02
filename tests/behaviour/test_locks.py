"""The table of locks in docs/design.md: each lock stands there, and they are taken in its order."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oautom

PACKAGE = Path(oautom.__file__).parent
TABLE = PACKAGE.parent / "docs" / "design.md"
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier", "allocate_lock"}
ROW = re.compile(r"^\| `([\w/]+\.py)` \| `(\w+)`.* \| (.+) \|$", re.MULTILINE)


BY_THE_ONE_THAT_TICKS = (("engine/modes.py", "_lock"), ("engine/scheduler.py", "lock"))
"""Taken upwards by the thread of the engine alone, as the table says."""


def locks_in(tree: ast.AST) -> int:
    """Return how often `threading.Lock` or the like is called, by whatever way."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [getattr(func, "attr", getattr(func, "id", "")) for func in called]
    return sum(name in LOCKS for name in names)


def assigned(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield each target of an assignment with its value, one by one where there are several."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield node.target, node.value
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=True)
            else:
                yield target, node.value


def locks_of(source: str) -> set[str]:
    """Return the names of the locks that a module makes."""
    if LOCKS.isdisjoint(re.findall(r"\w+", source)):
        return set()
    tree = ast.parse(source)
    targets = [target for target, value in assigned(tree) if locks_in(value)]
    assert len(targets) >= locks_in(tree), "a lock is made that has no name"
    return {getattr(target, "attr", getattr(target, "id", "?")) for target in targets}


def test_every_lock_stands_in_the_table_and_the_table_names_no_other() -> None:
    made = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        for name in locks_of(path.read_text(encoding="utf-8"))
    }
    rows = ROW.findall(TABLE.read_text(encoding="utf-8"))

    assert {row[:2] for row in rows} == made
    assert all(len(guards) > 20 for _, _, guards in rows), "a row says nothing"


def test_a_lock_is_found_however_it_is_made() -> None:
    ways = """
import threading
from threading import Condition
a = threading.Lock()
b, c = threading.RLock(), 1
class D:
    e: object = Condition()
    def f(self):
        self.g, self.h = threading.Semaphore(2), threading.Event()
        self.i = self.j = threading.Lock()
"""
    assert locks_of(ways) == {"a", "b", "e", "g", "i", "j"}


def test_locks_are_taken_in_the_order_of_the_table(tmp_path: Path) -> None:
    program = Path(__file__).with_name("lock_order.py")
    ran = subprocess.run(
        [sys.executable, program, tmp_path / "runs.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = [line.split()[1:] for line in ran.stdout.splitlines() if line.startswith("held ")]
    seen = {((outer, name), (inner, other)) for outer, name, inner, other in told}
    rows = [row[:2] for row in ROW.findall(TABLE.read_text(encoding="utf-8"))]
    last = {row: number for number, row in enumerate(rows)}  # where two have one name

    assert BY_THE_ONE_THAT_TICKS in seen
    assert len(seen) > 15
    seen.remove(BY_THE_ONE_THAT_TICKS)
    assert [(held, taken) for held, taken in seen if rows.index(held) >= last[taken]] == []
