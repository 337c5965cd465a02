"""Values as JSON: what it cannot keep is named."""

from __future__ import annotations

from typing import Any

import pytest

from oautom import NotJsonError
from oautom.values import from_json, to_json

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
