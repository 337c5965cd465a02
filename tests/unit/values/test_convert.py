"""Conversion: what goes into a log and comes out of it, and what people give."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from oautom import NotJsonError
from oautom.values.convert import (
    NotConvertibleError,
    converted,
    is_supported,
    keep,
    plain_of,
    restore,
)


class Colour(enum.Enum):
    red = "red"


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    name: str
    day: date


@dataclass
class Order:
    id: UUID
    lines: list[Pair] = field(default_factory=list)
    to: Path | None = None


class Record(msgspec.Struct):
    at: datetime
    colour: Colour


class ById(msgspec.Struct, eq=False):
    number: int


class Plain:
    """Nothing that JSON has."""


DAY = date(2026, 11, 24)

KEPT: list[tuple[Any, Any, Any]] = [
    (3, int, 3),
    ("text", str, "text"),
    (True, bool, True),
    (1.5, float, 1.5),
    (3, float, 3),
    (None, None, None),
    (None, int | None, None),
    (DAY, date, "2026-11-24"),
    (timedelta(days=1, seconds=2), timedelta, "P1DT2S"),
    (Decimal("1.10"), Decimal, "1.10"),
    (UUID(int=3), UUID, str(UUID(int=3))),
    (b"hi", bytes, "aGk="),
    (Colour.red, Colour, "red"),
    ((1, "a"), tuple[int, str], [1, "a"]),
    ({3}, set[int], [3]),
    (frozenset(), frozenset[int], []),
    ({DAY: 1}, dict[date, int], {"2026-11-24": 1}),
    ({1: [DAY]}, dict[int, list[date]], {"1": ["2026-11-24"]}),
    ({"title": "x"}, Movie, {"title": "x"}),
    (Pair("a", DAY), Pair, ["a", "2026-11-24"]),
    (
        Order(UUID(int=1), [Pair("a", DAY)], Path("/tmp")),
        Order,
        {"id": str(UUID(int=1)), "lines": [["a", "2026-11-24"]], "to": "/tmp"},
    ),
    (
        Record(datetime(2026, 1, 1, 12), Colour.red),  # noqa: DTZ001 - it has none
        Record,
        {"at": "2026-01-01T12:00:00", "colour": "red"},
    ),
    (PurePosixPath("a/b"), PurePosixPath, "a/b"),
    ([1, 2], Iterable[int], [1, 2]),
    ({"a": 1}, object, {"a": 1}),
    ([1, {"a": None}], Any, [1, {"a": None}]),
    ("a", Literal["a"], "a"),
    ({"x": 1}, Order | Record, {"x": 1}),  # a union that msgspec does not know
]


@pytest.mark.parametrize(("value", "annotation", "plain"), KEPT)
def test_a_value_of_a_type_comes_back_as_that(value: Any, annotation: Any, plain: Any) -> None:
    assert keep(value, annotation) == plain
    back = restore(plain, annotation)
    assert back == value
    if annotation is not float:
        assert type(back) is type(value)


REFUSED: list[tuple[Any, Any, str, str]] = [
    ("x", int, "", "the value, 'x', is not of its type int: Expected `int`, got `str`"),
    (None, int, "", "the value, None, is not of its type int: Expected `int`, got `null`"),
    (True, int, "", "the value, True, is not of its type int: Expected `int`, got `bool`"),
    ([1, "x"], list[int], "", r"the value, \[1, 'x'\], is not .* got `str` - at `\$\[1\]`"),
    (Plain(), Any, "", "the value is a Plain that JSON cannot keep as it is"),
    (Plain(), Plain, "", "the value is a Plain that JSON cannot keep as it is"),
    ({"a": [1, Plain()]}, dict, "['a'][1]", r"its part \['a'\]\[1\] is a Plain that JSON"),
    ([Order("x", Plain())], list[Order], "[0]['lines']", "its part .* is a Plain"),  # type: ignore[arg-type]
    (
        {1: "a"},
        dict,
        "",
        r"the value, .*, would come back from JSON as another value, \{'1': 'a'\}",
    ),
    ({"a": (1,)}, dict, "['a']", r"its part \['a'\] is a tuple that JSON cannot keep as it is"),
    ({"title": "x", "more": 1}, Movie, "", r"would come .* another value, \{'title': 'x'\}"),
    (float("nan"), float, "", "the value is a float that JSON cannot keep as it is: nan"),
    ([float("nan")], list[float], "", r"got `null` - at `\$\[0\]`"),
    ([1.0, float("inf")], list, "[1]", r"its part \[1\] is a float that JSON cannot keep"),
    (ById(1), ById, "", "the value, ById.*, would come back from JSON as another value"),
    (DAY, Any, "", "the value is a date that JSON cannot keep as it is"),
    ("\ud800", str, "", "JSON cannot keep"),
    ("\ud800", str | None, "", "JSON cannot keep"),
]


@pytest.mark.parametrize(("value", "annotation", "where", "told"), REFUSED)
def test_a_value_that_would_not_come_back_is_refused_and_the_part_named(
    value: Any, annotation: Any, where: str, told: str
) -> None:
    with pytest.raises(NotJsonError, match=told) as refused:
        keep(value, annotation)
    assert refused.value.where == where


@dataclass(eq=False)
class Odd:
    number: int

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compare these")

    __hash__ = None  # type: ignore[assignment]


def test_what_cannot_even_be_compared_is_refused() -> None:
    with pytest.raises(NotJsonError, match="would come back from JSON as another value"):
        keep(Odd(1), Odd)
    with pytest.raises(NotJsonError, match="the value is a Odd that JSON cannot keep as it is"):
        keep(Odd(1))


@dataclass
class Checked:
    number: int

    def __post_init__(self) -> None:
        if self.number > 3:
            raise KeyError("too much")


def test_whatever_a_class_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore(keep(Checked(3), Checked), Checked) == Checked(3)
    big = Checked(3)
    big.number = 4
    with pytest.raises(NotJsonError, match="is not of its type Checked: KeyError: 'too much'"):
        keep(big, Checked)


def test_a_value_that_holds_itself_is_refused() -> None:
    holds_itself: list[Any] = []
    holds_itself.append({"again": holds_itself})
    for annotation in (list, Any, list[dict[str, Any]]):
        with pytest.raises(NotJsonError, match="has more than 200 levels, or holds itself"):
            keep(holds_itself, annotation)


def test_plain_is_what_json_has_whether_or_not_it_comes_back() -> None:
    assert plain_of({"day": DAY, "at": (Path("/x"), Colour.red)}) == {
        "day": "2026-11-24",
        "at": ["/x", "red"],
    }
    with pytest.raises(NotJsonError, match=r"its part \[0\] is a Plain"):
        plain_of([Plain()])


GIVEN: list[tuple[Any, Any, Any]] = [
    ("3", int, 3),
    ("1.5", float, 1.5),
    ("true", bool, True),
    ("null", int | None, None),
    ("2026-11-24", date, DAY),
    ("[1, 2]", list[int], [1, 2]),
    ('{"a": 1}', dict[str, int], {"a": 1}),
    ('["a", "2026-11-24"]', Pair, Pair("a", DAY)),
    ("3", str, "3"),
    ("3", str | int, "3"),
    ('"3"', str, '"3"'),
    ("a/b", Path, Path("a/b")),
    (Path("a"), Path, Path("a")),
    ("red", Colour, Colour.red),
    (DAY, date, DAY),
    (["1", 2], list[int], [1, 2]),
    (Order(UUID(int=1)), Order, Order(UUID(int=1))),
    ({"id": str(UUID(int=1))}, Order, Order(UUID(int=1))),
    ((1, 2), list[int], [1, 2]),
    ("anything", Any, "anything"),
]


@pytest.mark.parametrize(("value", "annotation", "wanted"), GIVEN)
def test_what_people_give_is_made_a_value_of_the_type(
    value: Any, annotation: Any, wanted: Any
) -> None:
    made = converted(value, annotation)
    assert made == wanted
    assert type(made) is type(wanted)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("x", int),
        (3, str),
        ("[1", list[int]),
        ('"x"', int),
        ("1.5", int),
        ("[1, 2]", int),
        ("", date),
        (None, int),
        (Plain(), Colour),
        ('["x"]', list[int]),
        (3, Path),
    ],
)
def test_what_cannot_be_made_one_is_refused(value: Any, annotation: Any) -> None:
    with pytest.raises(NotConvertibleError, match=r"."):
        converted(value, annotation)


def test_a_type_is_one_that_msgspec_knows_or_a_class() -> None:
    assert all(is_supported(kind) for _, kind, _ in GIVEN)
    assert not any(is_supported(kind) for kind in ("date", 3, Order | Record, [int]))


# What comes back is the same, and shares nothing with what is in the log


PARIS = ZoneInfo("Europe/Paris")
TWICE = [datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=fold) for fold in (0, 1)]
SKIPPED = datetime(2026, 3, 29, 2, 30, tzinfo=PARIS)


@dataclass
class Shift:
    begin: datetime
    breaks: list[datetime] = field(default_factory=list)


@pytest.mark.parametrize("time", [*TWICE, SKIPPED], ids=str)
def test_a_time_of_the_hour_that_a_clock_has_twice_is_the_same_instant(time: datetime) -> None:
    """Such a time never equals one of another time zone, not even that of the same instant."""
    for value, annotation in [
        (time, datetime),
        ([time], list[datetime]),
        ({"a": time}, dict[str, datetime]),
        ({time: 1}, dict[datetime, int]),
        ((time, 1), tuple[datetime, int]),
        ({time}, set[datetime]),
        ({(time, 1)}, set[tuple[datetime, int]]),
        (Shift(time, [time]), Shift),
        ({"a": [Shift(time)]}, dict[str, list[Shift]]),
    ]:
        restore(keep(value, annotation), annotation)
    assert restore(keep(time, datetime), datetime).astimezone(UTC) == time.astimezone(UTC)


def test_two_instants_of_that_hour_are_not_taken_for_one() -> None:
    one, other = (keep(time, datetime) for time in TWICE)

    assert one != other


class Level(enum.IntEnum):
    low = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "annotation", "back"),
    [
        ([Level.low], list[int], [1]),
        ([Level.low], list[Level], [Level.low]),
        ({Text("a"): Text("b")}, dict[str, str], {"a": "b"}),
        ([Text("a"), 1], list[Any], ["a", 1]),
        (Text("a"), Any, "a"),
        (Text("a"), str | None, "a"),
        (Movie(title=Text("x")), Movie, {"title": "x"}),
        (Order(UUID(int=1), [Pair(Text("a"), DAY)]), Order, Order(UUID(int=1), [Pair("a", DAY)])),
        ([1, 2.5], list[float], [1.0, 2.5]),
    ],
)
def test_what_is_of_a_subclass_comes_back_as_it_is_at_heart(
    value: Any, annotation: Any, back: Any
) -> None:
    restored = restore(keep(value, annotation), annotation)

    assert exact(restored) == exact(back)


def exact(value: Any) -> Any:
    """Return a value with the types of all its parts."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(part) for part in value]
    if isinstance(value, Order):
        return Order, [exact(part) for part in (value.id, value.lines, value.to)]
    return type(value), value


@pytest.mark.parametrize(
    ("value", "annotation", "kind"),
    [
        (Counter("a"), dict[str, int], "Counter"),
        (Counter("a"), Counter, "Counter"),
        ([Counter("a")], list[dict[str, int]], "Counter"),
        (OrderedDict(a=1), dict[str, int], "OrderedDict"),
        ({"a": (1, 2)}, dict[str, Any], "tuple"),
        ((1, 2), Iterable[int], "tuple"),
        (Order(UUID(int=1), (Pair("a", DAY),)), Order, "tuple"),  # type: ignore[arg-type]
        ([Level.low], list[bool], "is not of its type"),
    ],
)
def test_a_value_of_which_another_type_would_come_back_is_refused(
    value: Any, annotation: Any, kind: str
) -> None:
    with pytest.raises(NotJsonError, match=kind):
        keep(value, annotation)


class Ignoring(msgspec.Struct):
    """Equals any other one."""

    number: Any

    def __eq__(self, other: object) -> bool:
        return True


def test_what_says_that_it_is_equal_is_looked_into_all_the_same() -> None:
    with pytest.raises(NotJsonError, match="tuple"):
        keep(Ignoring((1, 2)), Ignoring)
    assert keep(Ignoring([1]), Ignoring) == {"number": [1]}


SHARED: list[tuple[Any, Any]] = [
    ([[1]], list),
    ([[1]], list[Any]),
    ([[1]], Any),
    ([[1]], object),
    ([[1]], "no type"),
    ({"rows": [1]}, dict),
    ({"rows": [1]}, dict[str, Any]),
    ({"rows": [1]}, dict[str, list]),
    ({"rows": {"a": [1]}}, dict[str, dict[str, Any]]),
    ({"number": [1]}, Ignoring),
    ({"x": [1]}, Order | Record),
]


@pytest.mark.parametrize(("plain", "annotation"), SHARED)
def test_what_is_restored_shares_nothing_with_what_is_in_the_log(
    plain: Any, annotation: Any
) -> None:
    ids = {id(part) for part in parts_of(plain)}

    assert not ids & {id(part) for part in parts_of(restore(plain, annotation))}


def parts_of(value: Any) -> list[Any]:
    """Return all lists and dictionaries in a value."""
    if isinstance(value, Ignoring):
        return parts_of(value.number)
    if not isinstance(value, list | dict):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(found for part in inner for found in parts_of(part))]


@pytest.mark.parametrize("annotation", [Any, list, list[Any], list[list[int]]])
def test_what_is_kept_shares_nothing_with_what_was_given(annotation: Any) -> None:
    value = [[1]]
    plain = keep(value, annotation)
    value[0].append(2)

    assert plain == [[1]]
