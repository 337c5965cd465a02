"""Values that nobody should give, each made anew: what a person or a step may give all the same."""

from __future__ import annotations

import enum
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

DEPTH = 980
HUGE = 2 * 2**20


class Refused(Exception):  # noqa: N818 - it is what a user's own code does
    """What the code of hostile values raises."""


class Markup(str):
    """As Jinja's: text that makes more of its kind, and quotes what is put into it."""

    __slots__ = ()

    def __add__(self, other: object) -> Markup:
        return Markup(str.__add__(self, str(other)))

    def __mod__(self, other: object) -> Markup:
        return Markup(str.__mod__(self, other))


class Level(enum.IntEnum):
    low = 1
    high = 2


class Mood(enum.StrEnum):
    good = "good"


class Grade(enum.Enum):
    a = 1
    b = "b"


class Float64(float):
    """As numpy's."""

    def __eq__(self, other: object) -> bool:
        raise Refused("it is not compared")

    def __hash__(self) -> int:
        return 1


class Whole(int):
    def __repr__(self) -> str:
        raise Refused("it is not shown")

    __str__ = __repr__


class Raw(bytes):
    pass


def raises(*_: object, **__: object) -> NoReturn:
    raise Refused("no")


def exits(*_: object, **__: object) -> NoReturn:
    raise SystemExit("no")


def nasty(*methods: str, how: Callable[..., Any] = raises) -> Callable[[], Any]:
    """Return what makes an object of which these methods raise."""
    kind = type("Nasty", (), dict.fromkeys(methods, how))
    return lambda: kind()


class Liar:
    """`isinstance` asks it, and it raises."""

    @property
    def __class__(self) -> type:
        raise Refused("it does not tell")

    @__class__.setter
    def __class__(self, kind: type) -> None: ...


class Everything:
    """It has every attribute there is, and can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Everything()

    def __call__(self, *_: object, **__: object) -> Everything:
        return Everything()


class Nowhere(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        raise Refused("no")

    dst = tzname = utcoffset  # type: ignore[assignment]


def nested(kind: str) -> Any:
    value: Any = "core"
    for _ in range(DEPTH):
        value = [value] if kind == "list" else {"k": value}
    return value


def holding_itself(kind: str) -> Any:
    if kind == "list":
        items: list[Any] = [1]
        items.append(items)
        return items
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    return mapping


def very_long() -> Iterator[int]:
    yield from range(10**5)


Point = namedtuple("Point", "x y")

HOSTILE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "ellipsis": lambda: ...,
    "deep list": lambda: nested("list"),
    "deep dict": lambda: nested("dict"),
    "list of itself": lambda: holding_itself("list"),
    "dict of itself": lambda: holding_itself("dict"),
    "markup": lambda: Markup("x"),
    "int enum": lambda: Level.high,
    "str enum": lambda: Mood.good,
    "enum": lambda: Grade.b,
    "float64": lambda: Float64(5),
    "whole": lambda: Whole(2),
    "raw bytes": lambda: Raw(b"x"),
    "bytes": lambda: b"\xff\x00",
    "bytearray": lambda: bytearray(b"x"),
    "counter": lambda: Counter("abca"),
    "ordered": lambda: OrderedDict(a=1),
    "defaultdict": lambda: defaultdict(list, a=[1]),
    "named tuple": lambda: Point(1, 2),
    "tuple": lambda: (1, "a"),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset("ab"),
    "int keys": lambda: {1: "a", None: "b"},
    "nan": lambda: float("nan"),
    "1e12": lambda: 1e12,
    "1e308": lambda: 1e308,
    "tiny": lambda: 5e-324,
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "10**30": lambda: 10**30,
    "10**400": lambda: 10**400,
    "2**63": lambda: 2**63,
    "True": lambda: True,
    "False": lambda: False,
    "decimal": lambda: Decimal("1.5"),
    "decimal nan": lambda: Decimal("sNaN"),
    "fraction": lambda: Fraction(1, 3),
    "complex": lambda: 1j,
    "empty text": lambda: "",
    "blank": lambda: " \t\n",
    "huge text": lambda: "x" * HUGE,
    "surrogate": lambda: "a\udcffb\ud800",
    "nul": lambda: "a\x00b",
    "control": lambda: "a\x1b[31m\x07\x85\u2028\u202e\r\nb",
    "10**7": lambda: 10**7,
    "words": lambda: "a b",
    "command": lambda: "PATH;x",
    "megabyte": lambda: "x" * 2**20,
    "hostile keys": lambda: {"a b": "1", "PATH;x": "2", "": "3"},
    "huge values": lambda: {"A": "x" * (3 * 2**20)},
    "percent": lambda: "%s %(x)s {0} {x} ${X}",
    "path": lambda: Path("a\x00b"),
    "naive": lambda: datetime(2026, 1, 1),  # noqa: DTZ001 - that is the point
    "first instant": lambda: datetime.min.replace(tzinfo=UTC),
    "last instant": lambda: datetime.max.replace(tzinfo=UTC),
    "nowhere": lambda: datetime(2026, 1, 1, tzinfo=Nowhere()),
    "zone": lambda: Nowhere(),
    "date": lambda: date.max,
    "longest": lambda: timedelta.max,
    "shortest": lambda: timedelta.min,
    "object": object,
    "liar": Liar,
    "everything": Everything,
    "no eq": nasty("__eq__", "__hash__"),
    "no repr": nasty("__repr__", "__str__", "__format__"),
    "no hash": nasty("__hash__"),
    "no bool": nasty("__bool__", "__len__"),
    "no iter": nasty("__iter__", "__len__", "__getitem__", "__contains__"),
    "no attribute": nasty("__getattr__"),
    "no reduce": nasty("__reduce__", "__reduce_ex__", "__deepcopy__", "__copy__"),
    "no path": nasty("__fspath__"),
    "no number": nasty("__index__", "__int__", "__float__", "__lt__", "__le__", "__gt__", "__ge__"),
    "no call": nasty("__call__"),
    "exits": nasty("__call__", how=exits),
    "sys.exit": lambda: sys.exit,
    "raises": lambda: raises,
    "lambda": lambda: lambda *_, **__: None,
    "coroutine function": lambda: _coroutine,
    "generator function": lambda: very_long,
    "very long": very_long,
    "iterator": lambda: iter([1, 2]),
    "class": lambda: Refused,
    "base class": lambda: BaseException,
    "exception": lambda: Refused("an instance"),
    "module": lambda: sys,
    "type": lambda: type,
    "any": lambda: Any,
}


async def _coroutine(*_: object, **__: object) -> None:
    raise Refused("no")


class NoSuperError(Exception):
    """Its `__init__` does not call that of its base."""

    def __init__(self, *_: object) -> None:
        self.told = "mine"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("even here")

    __repr__ = __str__


class UnsendableError(Exception):
    def __reduce__(self) -> NoReturn:
        raise Refused("no")


class OddBaseError(BaseException):
    pass


def chained(length: int) -> BaseException:
    """An exception with a long chain of causes."""
    error: BaseException = ValueError("the first")
    for number in range(length):
        cause, error = error, ValueError(f"number {number}")
        error.__cause__ = cause
    return error


def in_a_circle() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


OF_THEIR_OWN = {
    *("liar", "nowhere", "zone", "everything", "no attribute", "no bool", "no iter", "no path"),
    *("no call", "no number", "raises"),
}
"""Of which what their own code raises may come through to whoever gave them."""
