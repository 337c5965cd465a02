"""Each lock in the code stands in the table of docs/design.md, and the table names no other one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import oautom

PACKAGE = Path(oautom.__file__).parent
TABLE = PACKAGE.parent / "docs" / "design.md"
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier", "allocate_lock"}
ROW = re.compile(r"^\| `([\w/]+\.py)` \| `(\w+)`.* \| (.+) \|$", re.MULTILINE)


def makes_lock(value: ast.AST) -> bool:
    """Whether an expression calls `threading.Lock` or the like, by whatever way."""
    called = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    names = [func.attr for func in called if isinstance(func, ast.Attribute)]
    names += [func.id for func in called if isinstance(func, ast.Name)]
    return not LOCKS.isdisjoint(names)


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


def locks_of(source: str) -> tuple[set[str], int]:
    """Return the names of the locks that a module makes, and how many it makes in all."""
    tree = ast.parse(source)
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    count = sum(makes_lock(ast.Expr(ast.Call(each.func, [], []))) for each in made)
    names = [target for target, value in assigned(tree) if makes_lock(value)]
    named = {t.attr if isinstance(t, ast.Attribute) else getattr(t, "id", "?") for t in names}
    assert len(names) >= count, "a lock is made that has no name"
    return named, count


def test_every_lock_stands_in_the_table_and_the_table_names_no_other() -> None:
    made = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        for name in locks_of(path.read_text(encoding="utf-8"))[0]
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
    assert locks_of(ways)[0] == {"a", "b", "e", "g", "i", "j"}
