"""The table of kinds: one row for each class of steps, and no other place that knows them all."""

from __future__ import annotations

import oautom
from oautom import Execution
from oautom.machine.kinds import GIVEN, KINDS, WORK, kind_of


def kinds_of_classes() -> set[str]:
    public = [getattr(oautom, name) for name in oautom.__all__]
    return {c.kind for c in public if isinstance(c, type) and issubclass(c, Execution)}


def test_each_class_of_steps_has_a_row_and_each_row_a_class() -> None:
    assert kinds_of_classes() == KINDS.keys() - {GIVEN}  # a step of any class may be given


def test_a_kind_that_is_not_known_is_work() -> None:
    assert kind_of("of tomorrow") is WORK


def test_whatever_needs_a_worker_is_ended_by_its_work() -> None:
    assert {kind.ended_by for kind in KINDS.values() if kind.needs_worker} == {"work"}
