"""Who never comes to its end: of all graphs of waits and lines, held against playing them out."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from oautom.engine.waiting import _Needs, _why_never

Drawn = dict[str, tuple[list[str], list[str], int]]
NAMES = "abcdefgh"


class Home:
    """Stands in for the waits of an engine: it has what was drawn."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn

    def needs(self, vect: str) -> _Needs:
        ends, places, most = self.drawn[vect]
        here: Any = self
        return _Needs([(here, end) for end in ends], [(here, place) for place in places], most)


def graphs() -> st.SearchStrategy[Drawn]:
    def needs(name: str) -> st.SearchStrategy[tuple[list[str], list[str], int]]:
        behind = [other for other in NAMES if other > name]  # nearly no circle is there already
        ends = st.lists(st.sampled_from(behind), max_size=2, unique=True) if behind else st.just([])
        others = st.sampled_from(NAMES.replace(name, ""))
        places = st.lists(others, max_size=3, unique=True)
        return st.tuples(ends, places, st.integers(1, 3))

    return st.fixed_dictionaries({name: needs(name) for name in NAMES})


def ended(drawn: Drawn, never: str) -> set[str]:
    """Return who comes to its end if one never does: each as soon as it has what it needs."""
    over: set[str] = set()
    before = -1
    while before != len(over):
        before = len(over)
        for name, (ends, places, most) in drawn.items():
            is_free = len(over.intersection(places)) > len(places) - most
            if name != never and over.issuperset(ends) and is_free:
                over.add(name)
    return over


@given(graphs())
@example({**dict.fromkeys(NAMES, ([], [], 1)), "a": ([], ["b", "c"], 2), "b": (["a"], [], 1)})
def test_a_wait_is_refused_if_and_only_if_it_would_never_end(drawn: Drawn) -> None:
    """Of graphs without circles so far, as there are no others: each wait is looked at."""
    if len(ended(drawn, "")) < len(NAMES):
        return
    home: Any = Home(drawn)
    for own in NAMES:
        over = ended(drawn, own)
        for goal in set(NAMES) - {own}:
            assert bool(_why_never((home, own), (home, goal))) == (goal not in over)
