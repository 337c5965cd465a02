"""Values as JSON: what it cannot keep is named."""

from __future__ import annotations

from typing import Any

import pytest

from oautom import NotJsonError, SettingError
from oautom.values.json import SECONDS_MAX, from_json, time_limit, to_json
from oautom.values.names import one_of

holds_itself: list[Any] = []
holds_itself.append({"again": holds_itself})

deep: list[Any] = []
for _ in range(100_000):  # Python 3.13 looks into 5,000
    deep = [deep]


@pytest.mark.parametrize("value", [holds_itself, deep], ids=["holds itself", "deep"])
def test_a_value_that_has_no_end_is_refused_like_any_other(value: Any) -> None:
    with pytest.raises(NotJsonError, match="has more than 200 levels, or holds itself; make"):
        to_json(value)


def test_the_part_that_is_to_blame_is_named() -> None:
    with pytest.raises(NotJsonError) as refused:
        to_json({"rows": [1, (2,)]})

    assert refused.value.where == "['rows'][1]"


def test_what_json_keeps_is_read_as_it_was_written() -> None:
    value = {"a": [None, True, -1, 1.5, "é"], "b": {}}

    assert from_json(to_json(value)) == value


class Name(str):
    """Text of a class of its own, that is equal to nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise ValueError("it is not compared")

    __hash__ = str.__hash__


class Untouchable:
    """Whatever is asked of it, it raises."""

    def _refuse(self, *_: object) -> Any:
        raise ValueError("it is not touched")

    __eq__ = __hash__ = __repr__ = __bool__ = __lt__ = __float__ = _refuse


def test_a_name_is_known_by_its_text_and_nothing_else_is_asked() -> None:
    found = one_of(Name("a"), ("a", "b"))

    assert (found, type(found)) == ("a", str)
    assert [one_of(each, ("a", "b")) for each in ("c", None, 1, ["a"], Untouchable())] == [None] * 5


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (float("inf"), None),
        (10**400, None),
        (SECONDS_MAX, None),
        (-1, 0),
        (float("-inf"), 0),
        (0, 0),
        (1.5, 1.5),
    ],
)
def test_a_limit_that_nobody_lives_to_see_is_none(given: Any, seconds: float | None) -> None:
    assert time_limit(given) == seconds


@pytest.mark.parametrize("given", [float("nan"), True, "5", 1j, Untouchable()])
def test_what_is_no_number_is_no_time_limit(given: Any) -> None:
    with pytest.raises(SettingError, match="timeout must be seconds or None, not "):
        time_limit(given)
