"""What becomes of the answer of a step: as the log can keep it, or a failure; never an error."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict
from datetime import date
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest

from oautom import MemoryEventLog, StepError
from oautom.errors import ValueTooLargeError
from oautom.steps.work import Outcome
from oautom.values.annotations import UNKNOWN
from oautom.values.json import DEPTH_MAX, to_json
from oautom.values.text import ERROR_BYTES_MAX
from oautom.vects.run import kept


class DurableLog(MemoryEventLog):
    """A log that keeps values as a durable one does."""

    id = "durable"  # type: ignore[assignment] # of a log in memory it is None

    def check_value(self, value: object) -> None:
        if (size := len(to_json(value))) > 10_000:
            raise ValueTooLargeError(size, 10_000)


class Colour(IntEnum):
    red = 1


class Name(StrEnum):
    ada = "Ada"


class Ratio(float):
    __slots__ = ()


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("never ask")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compare")

    __hash__ = str.__hash__


class Pair(NamedTuple):
    a: int
    b: int


def in_log(output: Any, annotation: Any = UNKNOWN) -> Outcome:
    return kept(Outcome(output), annotation, DurableLog())


def exact(value: Any) -> Any:
    """Return a value with the types of all its parts."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exact(part) for part in value]
    return type(value), value


@pytest.mark.parametrize(
    ("output", "plain"),
    [
        (Text("x"), "x"),
        (Colour.red, 1),
        (Name.ada, "Ada"),
        (Ratio(0.5), 0.5),
        ({Text("k"): [Colour.red, Name.ada]}, {"k": [1, "Ada"]}),
        ({Name.ada: {"a": Ratio(1.5)}}, {"Ada": {"a": 1.5}}),
        (-0.0, -0.0),
        (2**63, 2**63),
    ],
)
def test_what_is_of_a_subclass_becomes_what_it_is_at_heart(output: Any, plain: Any) -> None:
    outcome = in_log(output)

    assert outcome.error is None
    assert exact(outcome.output) == exact(plain)
    assert outcome.live is outcome.output


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        (Counter("a"), r"make it dict\(...\)"),
        (OrderedDict(a=1), r"make it dict\(...\)"),
        (defaultdict(list, a=[1]), r"make it dict\(...\)"),
        (Pair(1, 2), r"make it list\(...\)"),
        ((1, 2), r"make it list\(...\)"),
        ({1}, r"make it list\(...\)"),
        ({1: 2}, r"make it text: str\(...\)"),
        (b"x", "use text, finite numbers"),
        (date(2026, 1, 1), "use text, finite numbers"),
        (float("inf"), "use text, finite numbers"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", [lambda v: v, lambda v: {"a": [v]}])
def test_a_container_of_another_type_is_refused_with_the_remedy(
    output: Any, remedy: str, place: Any
) -> None:
    outcome = in_log(place(output))

    assert outcome.output is None
    assert outcome.is_retriable is False
    assert outcome.error is not None
    assert outcome.error.startswith("its output cannot be kept: ")
    assert re.search(remedy, outcome.error)


@pytest.mark.parametrize("annotation", [dict, dict[str, int], Any, dict[str, Any]])
def test_no_annotation_hides_that_another_type_would_come_back(annotation: Any) -> None:
    error = in_log(Counter("a"), annotation).error

    assert error is not None
    assert "Counter" in error
    assert "make it dict(...)" in error


def nested(depth: int) -> Any:
    value: Any = []
    for i in range(depth - 1):
        value = [value] if i % 2 else {"a": value}
    return value


@pytest.mark.parametrize("annotation", [UNKNOWN, dict, dict[str, Any] | list[Any]])
def test_an_output_has_so_many_levels_and_no_more(annotation: Any) -> None:
    assert in_log(nested(DEPTH_MAX), annotation).error is None
    for depth in (DEPTH_MAX + 1, DEPTH_MAX + 9, 980, 5000, 100_000):
        error = in_log(nested(depth), annotation).error
        assert error is not None
        assert "more than 200 levels" in error


def test_an_output_that_is_too_large_is_refused() -> None:
    error = in_log("x" * 10_000).error

    assert error is not None
    assert "the log keeps at most 10000" in error


class Hostile:
    """Raises at whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        raise self.error

    def __hash__(self) -> int:
        raise self.error

    def __repr__(self) -> str:
        raise self.error

    def __fspath__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), SystemExit(), KeyError("k")])
@pytest.mark.parametrize("log", [DurableLog(), MemoryEventLog()], ids=["durable", "memory"])
@pytest.mark.parametrize("annotation", [UNKNOWN, Hostile, list[Hostile], dict, 3, "no type"])
def test_whatever_an_output_does_is_a_failure_at_the_most(
    error: BaseException, log: MemoryEventLog, annotation: Any
) -> None:
    for output in (Hostile(error), [Hostile(error)], {"a": (Hostile(error),)}):
        outcome = kept(Outcome(output), annotation, log)
        if log.id is None:
            assert outcome.error is None
            assert outcome.live is output
        else:
            assert outcome.error is not None
            assert outcome.output is None


# In memory


def in_memory(output: Any) -> Outcome:
    return kept(Outcome(output), UNKNOWN, MemoryEventLog())


def test_in_memory_the_engine_has_lists_of_its_own_and_steps_the_very_object() -> None:
    part = object()
    output = {"rows": [1, (2, [part])], "pair": (1, (2,))}

    outcome = in_memory(output)
    own = outcome.output

    assert outcome.live is output
    assert own == output
    assert own is not output
    assert own["rows"] is not output["rows"]
    assert own["rows"][1][1] is not output["rows"][1][1]  # type: ignore[index]
    assert own["rows"][1][1][0] is part
    assert own["pair"] is output["pair"]


@pytest.mark.parametrize("output", [None, 1, "x", (1, "a"), object(), Counter("a"), {1}, ()])
def test_in_memory_what_has_no_lists_is_the_same_object(output: Any) -> None:
    outcome = in_memory(output)

    assert outcome.output is outcome.live is output


def test_in_memory_what_holds_itself_does_so_in_the_copy() -> None:
    output: list[Any] = []
    pair = (output, {"again": output})
    output += [output, pair, pair]

    own = in_memory(output).output

    assert own[0] is own
    assert own[1] is own[2]
    assert own[1][0] is own[1][1]["again"] is own
    assert own[1] is not pair


def test_in_memory_any_depth_is_kept() -> None:
    outcome = in_memory(nested(50_000))

    assert outcome.error is None
    assert outcome.output is not outcome.live


# Failures


def test_a_failure_is_bounded_wherever_it_comes_from() -> None:
    given = Outcome(error="a\nb\x1b" + "x" * 10**6, details={"seen": {1}, "far": "y" * 10**6})

    outcome = kept(given, UNKNOWN, MemoryEventLog())

    assert outcome.error is not None
    assert outcome.error.startswith(r"a b\x1bxx")
    assert len(outcome.error) <= ERROR_BYTES_MAX
    assert outcome.details["seen"] == "{1}"
    assert len(to_json(outcome.details)) < 70_000


def test_a_skip_is_bounded_too() -> None:
    outcome = kept(Outcome(error="z" * 10**6, is_skip=True), UNKNOWN, DurableLog())

    assert outcome.is_skip
    assert outcome.error is not None
    assert len(outcome.error) <= ERROR_BYTES_MAX


def test_the_error_of_a_step_is_not_lost_for_a_detail() -> None:
    outcome = kept(Outcome.failure(StepError("no", seen={1, 2})), UNKNOWN, DurableLog())

    assert (outcome.error, outcome.details) == ("no", {"seen": "{1, 2}"})
