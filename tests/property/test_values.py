"""Values of any type: they go into a log and come back, and parts of them are found."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from oautom import Flow, NotJsonError, OAutom, PythonExecution
from oautom.events.sqlite import SqliteEventLog
from oautom.flows.params import Params
from oautom.values.annotations import MISSING, UNKNOWN, fits, part_type
from oautom.values.convert import converted, keep, restore
from oautom.values.json import DEPTH_MAX, to_json
from oautom.values.references import Key, OutputReference

from .cases import few, moderate


class Pair(NamedTuple):
    name: str
    count: int


@dataclasses.dataclass
class Order:
    day: date
    lines: list[Pair]


class Record(msgspec.Struct):
    number: int
    order: Order | None = None


class Typed(NamedTuple):
    """A type, and a value of it."""

    annotation: Any
    value: Any


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
pairs = st.builds(Pair, texts, st.integers(-(2**53), 2**53))
orders = st.builds(Order, st.dates(), st.lists(pairs, max_size=2))
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, texts),
    (type(None), st.none()),
    (date, st.dates()),
    (bytes, st.binary(max_size=4)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Path, st.builds(Path, st.sampled_from(["a", "/a/b", "."]))),
    (Pair, pairs),
    (Order, orders),
    (Record, st.builds(Record, st.integers(-9, 9), st.none() | orders)),
]
ONLY_ONE: Any = st.sampled_from(LEAVES)


def container(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types, each with a strategy for its values, around others of the kind."""
    return st.one_of(
        inner.map(lambda each: (list[each[0]], st.lists(each[1], max_size=3))),
        inner.map(
            lambda each: (dict[str, each[0]], st.dictionaries(texts, each[1], max_size=3))  # type: ignore[valid-type, name-defined]
        ),
        st.tuples(inner, inner).map(
            lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))
        ),
        inner.map(lambda each: (each[0] | None, st.none() | each[1])),
    )


@st.composite
def typed_values(draw: st.DrawFn) -> Typed:
    annotation, values = draw(st.recursive(ONLY_ONE, container, max_leaves=4))
    return Typed(annotation, draw(values))


@moderate
@given(typed_values())
def test_a_value_of_any_type_comes_back_equal_and_as_that_type(drawn: Typed) -> None:
    plain = keep(drawn.value, drawn.annotation)
    back = restore(json.loads(to_json(plain)), drawn.annotation)

    assert back == drawn.value
    assert type(back) is type(drawn.value)


@moderate
@given(typed_values())
def test_a_parameter_is_the_same_typed_plain_or_as_text(drawn: Typed) -> None:
    params = Params("f", {"value": drawn.annotation})
    plain = params.plain({"value": drawn.value})

    assert params.plain(plain) == plain
    assert params.differences(plain) == []
    assert params.typed(plain)["value"] == drawn.value
    if not isinstance(plain["value"], str | None):
        given_as_text = {"value": to_json(plain["value"]).decode()}
        assert params.plain(given_as_text) == plain


def forward(app: OAutom, drawn: Typed) -> tuple[Any, Any]:
    """Give a value to a flow, have a step return it and the next one take it."""
    flow = Flow("f", app, params={"value": drawn.annotation}, max_active_vects=99)
    taken: list[Any] = []

    def give(value):
        return value

    give.__annotations__ = {"value": drawn.annotation, "return": drawn.annotation}
    first = PythonExecution("first", flow, give, [flow.param("value")])
    PythonExecution("second", flow, taken.append, [[first]])
    vect = app.run(flow, {"value": drawn.value}, vect_id="v")
    assert vect.state == "success", [step.error for step in vect.steps.values()]
    return vect.result("first"), taken[0][0]


@few
@given(typed_values())
def test_a_value_of_any_type_goes_through_a_flow(tmp_path_factory: Any, drawn: Typed) -> None:
    path = tmp_path_factory.mktemp("logs") / "runs.db"
    with OAutom(executor="inline") as app:
        assert forward(app, drawn) == (drawn.value, drawn.value)
    with OAutom(executor="inline", log=SqliteEventLog(path, synchronous="NORMAL")) as app:
        assert forward(app, drawn) == (drawn.value, drawn.value)
        app.log.close()
    again = Flow("f", OAutom(log=path), params={"value": drawn.annotation})
    first = PythonExecution("first", again, lambda value: value, [again.param("value")])
    first.function.__annotations__["return"] = drawn.annotation
    with again.app:  # type: ignore[attr-defined] # it is an app
        vect = again.app.vect("v")  # type: ignore[attr-defined]
        assert (vect.result("first"), vect.params["value"]) == (drawn.value, drawn.value)


def paths_of(value: Any, path: tuple[Key, ...] = ()) -> list[tuple[tuple[Key, ...], Any]]:
    """All the parts of a value, each with the keys that lead there."""
    parts: list[tuple[Key, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, Pair):
        parts = [*zip(value._fields, value, strict=True), *enumerate(value)]
    elif isinstance(value, list | tuple):
        parts = [*enumerate(value), *((i - len(value), each) for i, each in enumerate(value))]
    elif isinstance(value, Order | Record):
        names = ("day", "lines") if isinstance(value, Order) else ("number", "order")
        parts = [(name, getattr(value, name)) for name in names]
    return [
        (path, value),
        *(found for key, part in parts for found in paths_of(part, (*path, key))),
    ]


@moderate
@given(typed_values(), st.data())
def test_every_path_leads_to_its_part_of_the_value_and_of_the_type(
    drawn: Typed, data: st.DataObject
) -> None:
    path, part = data.draw(st.sampled_from(paths_of(drawn.value)))
    reference = OutputReference(None, "a")
    annotation = drawn.annotation
    for key in path:
        reference = reference[key]
        annotation = part_type(annotation, key)

    assert reference.resolve({"a": drawn.value}, {}) is part
    assert annotation is not MISSING
    assert fits(annotation, type(part))
    assert annotation is UNKNOWN or converted(part, annotation) == part


@moderate
@given(typed_values(), typed_values())
def test_what_does_not_fit_has_no_value_in_common(one: Typed, other: Typed) -> None:
    """So a flow that could work is never refused; an empty list is of any type of list."""
    assert fits(one.annotation, one.annotation)
    if not fits(one.annotation, other.annotation) and not holds_nothing(one.value):
        assert not is_of(one.value, other.annotation)


def holds_nothing(value: Any) -> bool:
    """Whether a list or dictionary in a value is empty."""
    if isinstance(value, dict | list | tuple):
        parts = value.values() if isinstance(value, dict) else value
        return not parts or any(map(holds_nothing, parts))
    return False


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type as it stands: without any conversion."""
    origin, args = (
        getattr(annotation, "__origin__", annotation),
        getattr(annotation, "__args__", ()),
    )
    if isinstance(origin, type) and not args:
        return isinstance(value, origin)
    if origin is list:
        return isinstance(value, list) and all(is_of(each, args[0]) for each in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(is_of(each, args[1]) for each in value.values())
    if origin is tuple:
        is_tuple = isinstance(value, tuple) and len(value) == len(args)
        return is_tuple and all(is_of(each, arg) for each, arg in zip(value, args, strict=True))
    return any(is_of(value, arg) for arg in args)


# Hostile values


class Loud(str):
    """A text that raises at whatever it is asked."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compare")

    __hash__ = str.__hash__

    def __str__(self) -> str:
        raise RuntimeError("never ask")


class Quiet(str):
    """Another text, which is no `str`."""

    __slots__ = ()


class Number(enum.IntEnum):
    one = 1


class Ratio(float):
    __slots__ = ()


good_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
)
at_heart_leaves = st.one_of(
    st.builds(Loud, texts),
    st.just(Number.one),
    st.builds(Ratio, st.floats(allow_nan=False, allow_infinity=False)),
)
bad_leaves = st.sampled_from(
    [math.nan, math.inf, b"x", date(2026, 1, 1), object(), 1j, "\ud800", Loud("\ud800"), ..., int]
)
keys = texts | st.builds(Quiet, texts)
bad_keys = st.sampled_from([1, None, b"k", "\ud800"])


def plain_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


def any_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        plain_containers(inner),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(keys | bad_keys, inner, max_size=2),
        st.dictionaries(texts, inner, max_size=2).map(OrderedDict),
        st.dictionaries(texts, inner, max_size=2).map(lambda each: defaultdict(list, each)),
        st.builds(Pair, inner, inner),
        st.just(Counter("a")),
    )


def at_heart_of(value: Any) -> Any:
    """Return what must come back, with the types of all parts; None where nothing may."""
    if type(value) is dict:
        parts = [(at_heart_of(key), at_heart_of(part)) for key, part in value.items()]
        is_kept = all(key and key[0] is str and part for key, part in parts)
        return (dict, parts) if is_kept else None
    if type(value) is list:
        items = [at_heart_of(part) for part in value]
        return (list, items) if all(items) else None
    for kind in (bool, str, int, float):
        if isinstance(value, kind):
            try:
                plain = value if kind is bool else kind.__new__(kind, kind.__add__(value, kind()))
                return (kind, json.loads(to_json(plain))) if plain == plain else None
            except NotJsonError:
                return None
    return (type(None), None) if value is None else None


def exact(value: Any) -> Any:
    if isinstance(value, dict):
        return dict, [(exact(key), exact(part)) for key, part in value.items()]
    if isinstance(value, list):
        return list, [exact(part) for part in value]
    return type(value), value


def lists_in(value: Any) -> set[int]:
    if not isinstance(value, list | dict):
        return set()
    inner = value.values() if isinstance(value, dict) else value
    return {id(value)}.union(*map(lists_in, inner))


@moderate
@given(
    st.recursive(good_leaves | at_heart_leaves, plain_containers, max_leaves=8)
    | st.recursive(good_leaves | at_heart_leaves | bad_leaves, any_containers, max_leaves=8),
    st.sampled_from([UNKNOWN, object, "no type"]),
)
def test_a_value_is_refused_or_comes_back_as_it_is_at_heart_and_shares_nothing(
    value: Any, annotation: Any
) -> None:
    wanted = at_heart_of(value)
    try:
        plain = keep(value, annotation)
    except NotJsonError:
        assert wanted is None
        return
    before = lists_in(value)
    one, other = restore(plain, annotation), restore(plain, annotation)

    assert exact(plain) == exact(one) == exact(other) == wanted
    assert not before & lists_in(plain)
    assert not lists_in(plain) & lists_in(one)
    assert not lists_in(one) & lists_in(other)


@moderate
@given(st.integers(1, DEPTH_MAX * 2), st.data())
def test_a_value_has_so_many_levels_and_no_more(depth: int, data: st.DataObject) -> None:
    value: Any = data.draw(st.sampled_from([[], {}]))
    for _ in range(depth - 1):
        value = data.draw(st.sampled_from([[value], {"a": value}, [0, [], value, {}]]))
    try:
        keep(value)
        is_kept = True
    except NotJsonError:
        is_kept = False
    levels, level = 0, [value]
    while level:
        levels += 1
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, list | dict)
        ]

    assert is_kept is (levels <= DEPTH_MAX)
