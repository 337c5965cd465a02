"""Annotations: what surely does not fit is refused, everything else is not."""

from __future__ import annotations

import collections
import enum
import types
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NoReturn,
    NotRequired,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
    get_type_hints,
)

import msgspec
import pytest

from oautom.values.annotations import (
    MISSING,
    UNKNOWN,
    _resolved,
    field_names,
    fits,
    hints_of,
    part_type,
    return_type,
    shown_type,
)

T = TypeVar("T")
UserId = NewType("UserId", int)


class Base:
    pass


class Derived(Base):
    pass


class Other:
    pass


class Colour(enum.Enum):
    red = "red"


class Level(enum.IntEnum):
    low = 1


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Sized(Protocol):
    def size(self) -> int: ...


@dataclass
class Point:
    x: int
    near: list[Point]
    odd: NotThere  # noqa: F821 - cannot be resolved, on purpose


class Pair(NamedTuple):
    name: str
    count: int


class Record(msgspec.Struct):
    day: date


FIT = [
    (int, int),
    (int, float),
    (bool, int),
    (int, bool),
    (float, complex),
    (Derived, Base),
    (Base, Derived),
    (datetime, date),
    (Level, int),
    (UserId, int),
    (int, UserId),
    (int | str, str | bytes),
    (None, int | None),
    (None, None),
    (Union[int, None], int),  # noqa: UP007 - the old form is another class
    (list[int], list[float]),
    (list[int], Sequence[int]),
    (list[int], Iterable[object]),
    (list[int], list),
    (list, list[int]),
    (list[Any], list[str]),
    (list[int | str], list[str]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, int], dict),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, ...], Sequence[int]),
    (Sequence[int], list[int]),
    (Iterable[int], list[int]),
    (str, Sequence[str]),
    (Movie, dict[str, Any]),
    (dict, Movie),
    (Movie, Movie),
    (Any, int),
    (int, Any),
    (int, object),
    (object, int),
    (T, int),
    (int, T),
    (NoReturn, int),
    (Literal["a"], str),
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["b", "c"]),
    (Annotated[int, "more"], int),
    (Final[int], int),
    (Base, Sized),
    (Sized, int),
    (type[int], type),
    (Other, Iterable[int]),
    (UNKNOWN, UNKNOWN),
    (Path, Path),
    ("not a type", int),
    (collections.deque[int], Sequence[int]),
]

MISFIT = [
    (int, str),
    (str, int),
    (float, int),
    (None, int),
    (int, None),
    (date, int),
    (str, date),
    (Base, Other),
    (Base, int),
    (Colour, str),
    (str, Colour),
    (UserId, str),
    (int | None, str | bytes),
    (list[int], int),
    (list[int], list[str]),
    (list[int], Sequence[str]),
    (list[int], tuple[int, ...]),
    (list[int], dict[str, int]),
    (list[int], Mapping[str, int]),
    (int, Iterable[int]),
    (dict[str, int], dict[str, str]),
    (dict[str, int], Mapping[date, int]),
    (tuple[int, str], tuple[str, int]),
    (tuple[int, str], tuple[int]),
    (tuple[str, ...], tuple[int, ...]),
    (list[list[int]], list[list[str]]),
    (set[int], list[int]),
    (Movie, list[str]),
    (Movie, int),
    (Literal["a"], int),
    (Literal["a"], Literal["b"]),
    (int, Literal["a"]),
    (Annotated[int, "more"], str),
    (Decimal, float),
    (Point, dict[str, Any]),
    (Callable[[], int], int),
    (int, Callable[[], int]),
]


@pytest.mark.parametrize(("produced", "wanted"), FIT)
def test_what_may_fit_is_not_refused(produced: Any, wanted: Any) -> None:
    assert fits(produced, wanted)


@pytest.mark.parametrize(("produced", "wanted"), MISFIT)
def test_what_surely_does_not_fit_is_refused(produced: Any, wanted: Any) -> None:
    assert not fits(produced, wanted)


PARTS: list[tuple[Any, str | int, Any]] = [
    (list[int], 0, int),
    (list[int], -1, int),
    (list, 0, UNKNOWN),
    (list[int], "k", MISSING),
    (Sequence[int], 3, int),
    (dict[str, int], "k", int),
    (dict[str, int], 0, MISSING),
    (dict[int, str], 0, str),
    (Mapping[str, date], "k", date),
    (dict, "k", UNKNOWN),
    (collections.Counter[str], "k", UNKNOWN),
    (tuple[int, str], 1, str),
    (tuple[int, str], -2, int),
    (tuple[int, str], 2, MISSING),
    (tuple[int, str], -3, MISSING),
    (tuple[int, ...], 9, int),
    (tuple, 0, UNKNOWN),
    (tuple[int, str], "k", MISSING),
    (Movie, "title", str),
    (Movie, "year", NotRequired[int]),
    (Movie, "director", MISSING),
    (Point, "x", int),
    (Point, "near", list[Point]),
    (Point, "odd", UNKNOWN),
    (Point, "y", MISSING),
    (Point, 0, UNKNOWN),
    (Pair, "count", int),
    (Pair, 1, int),
    (Pair, 2, MISSING),
    (Record, "day", date),
    (Record, "night", MISSING),
    (str, 0, str),
    (str, "k", MISSING),
    (int, 0, MISSING),
    (None, "k", MISSING),
    (date, "year", MISSING),
    (Any, "k", UNKNOWN),
    (Base, "k", UNKNOWN),
    (T, "k", UNKNOWN),
    (set[int], 0, UNKNOWN),
    (list[int] | None, 0, int),
    (list[int] | list[str], 0, int | str),
    (list[int] | dict[str, str], "k", str),
    (list[int] | int, "k", MISSING),
    (list[int] | list, 0, UNKNOWN),
    (Annotated[list[int], "more"], 0, int),
]


@pytest.mark.parametrize(("whole", "key", "part"), PARTS)
def test_the_type_of_a_part(whole: Any, key: str | int, part: Any) -> None:
    assert part_type(whole, key) == part


def test_fields_are_those_of_classes_that_declare_them() -> None:
    assert field_names(Point) == ("x", "near", "odd")
    assert field_names(Pair) == ("name", "count")
    assert field_names(Record) == ("day",)
    assert field_names(Base) is None
    assert field_names(tuple) is None


def works(day: date, odd: NotThere) -> list[date]:  # type: ignore[name-defined] # noqa: F821
    return [day]


def odd_return(day: date) -> NotThere:  # type: ignore[name-defined] # noqa: F821
    return day


class Caller:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, rows: list[int]) -> bool:
        return True

    def method(self, rows: list[int]) -> bytes:
        return b""


def coroutine() -> Coroutine[Any, Any, int]:
    raise NotImplementedError


def awaitable() -> Awaitable[int]:
    raise NotImplementedError


async def later() -> int:
    return 1


def test_each_annotation_is_resolved_by_itself() -> None:
    assert hints_of(works) == {"day": date, "return": list[date]}
    assert return_type(odd_return) is UNKNOWN
    assert return_type(later) is int


def test_all_that_can_be_called_is_looked_into() -> None:
    assert hints_of(partial(works, date(2026, 1, 1)))["return"] == list[date]
    assert hints_of(Caller("a")) == {"rows": list[int], "return": bool}
    assert hints_of(Caller("a").method) == {"rows": list[int], "return": bytes}
    assert hints_of(Caller) == {"name": str, "return": Caller}
    assert (return_type(coroutine), return_type(awaitable)) == (UNKNOWN, UNKNOWN)
    assert return_type(print) is UNKNOWN
    assert return_type(lambda: 1) is UNKNOWN


class Late:
    """Its annotations are resolved late, as those of Python 3.14 are, and cannot be."""

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        raise NameError("not yet")


class Picky(type):
    def __subclasscheck__(cls, other: type) -> bool:
        raise RuntimeError("never ask")


class Never(metaclass=Picky):
    """A class that cannot be asked."""


class TypeAliasType:
    """What `type X = ...` makes from Python 3.12 on."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def __value__(self) -> Any:
        if self._value is None:
            raise NameError("not yet")
        return self._value


def test_what_users_write_may_raise_and_then_is_unknown() -> None:
    assert _resolved(Late()) == {}
    assert fits(Never, Base)
    assert fits(Base, Never)
    assert fits(TypeAliasType(None), int)


def test_an_alias_is_what_it_stands_for() -> None:
    assert not fits(TypeAliasType(list[int]), list[str])
    assert part_type(TypeAliasType(list[int]), 0) is int
    assert repr(MISSING) == "MISSING"


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (int, "int"),
        (date, "date"),
        (None, "None"),
        (type(None), "None"),
        (list[int], "list[int]"),
        (int | None, "int | None"),
        (Literal["a"], "Literal['a']"),
        (Any, "Any"),
    ],
)
def test_a_type_is_shown_as_it_is_written(annotation: Any, told: str) -> None:
    assert shown_type(annotation) == told


Shadow = int
Later = "int"
int_ = int


@pytest.mark.parametrize(
    "annotation",
    [
        *("None", "int", "str", "bytes", "dict", "float", "object", "Shadow", "Later", "int_"),
        *("list[int]", "Any", "Generic", "Protocol", "Missing", "int | None", "3", "not a name"),
        *(None, int, "bool", "Enum", "typing.Any", Any, list[int], "'int'", 3),
    ],
)
@pytest.mark.parametrize("names", [{}, {"int": str, "None": 3, "Enum": enum.Enum}, globals()])
def test_a_mere_name_means_what_python_says_that_it_means(
    annotation: Any, names: dict[str, Any]
) -> None:
    def function() -> None: ...

    called = types.FunctionType(function.__code__, {"Generic": Generic, **names})
    called.__annotations__ = {"return": annotation}
    try:
        expected = get_type_hints(called, include_extras=True)["return"]
    except Exception:  # as one that is not there is left out
        expected = UNKNOWN
    assert return_type(called) == expected
