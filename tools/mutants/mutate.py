"""The mutants: sources of oautom with one thing changed.

The changes are those of mutmut, and one of our own: a call that stands alone is left out. Not
changed are docstrings, imports and types, which are for people and mypy.

mutmut itself is not run. It wraps each function in a trampoline, so it passes over whatever is
decorated and whatever stands outside of functions: all invariants and all tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_TYPE = m.Subscript(m.Name("Literal") | m.Name("Callable")) | m.Call(m.Name("TypeVar"))
_UNCHANGED = (
    m.Annotation()
    | m.Import()
    | m.ImportFrom()
    | _TYPE
    | m.Assign(value=_TYPE)
    | m.If(test=m.Name("TYPE_CHECKING"))
)
_CALL_ALONE = m.Expr(m.Call())


@dataclass(frozen=True)
class Mutant:
    """One module with one thing changed.

    Attributes:
        path: The module, from the root of the checkout.
        inside: Function that holds the change, as `Class.method`; empty outside of functions.
        was: The lines that are changed, each stripped.
        now: What stands there instead.
        first: Number of the first line of the statement that is changed, from 1.
        last: Number of its last line.
        source: The whole of the changed module.
    """

    path: str
    inside: str
    was: str
    now: str
    first: int
    last: int
    source: str

    def __str__(self) -> str:
        lines = [f"- {line}" for line in self.was.splitlines()]
        lines += [f"+ {line}" for line in self.now.splitlines()]
        return "\n    ".join([f"{self.path}:{self.first} in {self.inside or 'the module'}", *lines])


def mutants(path: Path, root: Path) -> list[Mutant]:
    """Return the mutants of a module, in the order of its lines."""
    source = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source))
    positions = wrapper.resolve(PositionProvider)
    spans = wrapper.resolve(ByteSpanPositionProvider)
    seen, found = {source}, []
    for place, new in _places(wrapper.module, _Place(wrapper.module)):
        changed = _changed(wrapper.module, source.encode(), place.node, new, spans[place.node])
        if changed in seen or not _compiles(changed):
            continue
        seen.add(changed)
        first, last = _lines(place.statement, positions)
        was, now = _difference(source, changed)
        if re.sub(r"\bFalse\b", "None", was) == now:
            continue  # both are false: that it is not True is another mutant
        name = str(path.relative_to(root))
        found.append(Mutant(name, place.function, was, now, first, last, changed))
    return sorted(found, key=lambda mutant: mutant.first)


@dataclass(frozen=True)
class _Place:
    """A node, the innermost statement and the outermost function that hold it."""

    node: cst.CSTNode
    statement: cst.CSTNode | None = None
    names: tuple[str, ...] = ()
    function: str = ""


def _places(node: cst.CSTNode, above: _Place) -> Iterator[tuple[_Place, cst.CSTNode]]:
    """Yield what can be changed at and below a node, and to what."""
    if m.matches(node, _UNCHANGED):
        return
    place = replace(above, node=node)
    if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
        place = replace(place, statement=node)
    is_cast = m.matches(node, m.Call(m.Name("cast")))
    for new in () if is_cast else _changes(node):
        yield place, new
    if isinstance(node, cst.ClassDef | cst.FunctionDef):
        place = replace(place, names=(*place.names, node.name.value))
    for child in node.args[1:] if is_cast else node.children:  # its first argument is a type
        # Defaults and decorators are worked out at import: only the body is inside.
        is_function = isinstance(node, cst.FunctionDef) and child is node.body
        inside = ".".join(place.names) if is_function else ""
        yield from _places(child, replace(place, function=place.function or inside))


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, change in mutation_operators:
        if isinstance(node, kind):
            yield from change(node)
    if m.matches(node, _CALL_ALONE):
        yield cst.Expr(cst.Ellipsis())


def _changed(
    module: cst.Module, source: bytes, node: cst.CSTNode, new: cst.CSTNode, span: CodeSpan
) -> str:
    """Return the source with another node: libcst takes a second for twenty, so cut and paste."""
    outer = module.code_for_node(node).encode()
    start = span.start - outer.find(source[span.start : span.start + span.length])
    end = start + len(outer)
    if source[start:end] != outer or span.length == 0:
        return module.deep_replace(node, new).code
    return (source[:start] + module.code_for_node(new).encode() + source[end:]).decode()


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _lines(statement: cst.CSTNode | None, positions: Mapping[cst.CSTNode, Any]) -> tuple[int, int]:
    """Return the first and the last line of a statement; of one that holds others, of its head."""
    where = positions[statement]
    body = getattr(statement, "body", None)
    if isinstance(body, cst.IndentedBlock):
        return where.start.line, max(where.start.line, positions[body].start.line - 1)
    return where.start.line, where.end.line


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = [*difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")][3:]
    was, now = (
        "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return was, now
