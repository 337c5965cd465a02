"""Trigger rules: whether a step is due, from how many of its upstreams are in which state. Pure.

The semantics are those of Airflow's rules of the same names, case by case.
Source: Apache Airflow 3, `airflow/ti_deps/deps/trigger_rule_dep.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

Verdict = Literal["start", "block", "skip"]


class TriggerRule(StrEnum):
    """The rule by which a step starts, depending on how its direct upstreams have ended.

    An upstream that was blocked (`upstream_failed`) counts as failed. A step without upstreams
    starts under any rule.
    """

    ALL_SUCCESS = "all_success"
    """All have succeeded; blocked as soon as one has failed, skipped as soon as one is skipped."""
    ALL_FAILED = "all_failed"
    """All have failed; skipped as soon as one has not."""
    ALL_DONE = "all_done"
    """All have ended, in any way."""
    ALL_SKIPPED = "all_skipped"
    """All are skipped; skipped as soon as one is not."""
    ONE_SUCCESS = "one_success"
    """One has succeeded, at once; blocked if none has in the end, skipped if all are skipped."""
    ONE_FAILED = "one_failed"
    """One has failed, at once; skipped if none has in the end."""
    ONE_DONE = "one_done"
    """One has succeeded or failed, at once; skipped if none has in the end."""
    NONE_FAILED = "none_failed"
    """All have succeeded or are skipped; blocked as soon as one has failed."""
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    """As `NONE_FAILED`, and one has succeeded; skipped if all are skipped."""
    NONE_SKIPPED = "none_skipped"
    """All have succeeded or failed; skipped as soon as one is skipped."""
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    """All have ended, and one has succeeded; else blocked, or skipped."""
    ALWAYS = "always"
    """At once, without waiting for any upstream."""


ALL_SUCCESS: Final = TriggerRule.ALL_SUCCESS.value
"""The default rule; a plain text, as in a log."""


RULE_NAMES: Final = frozenset(rule.value for rule in TriggerRule)


class _Ended(NamedTuple):
    """The number of upstreams, and of those that have ended in each state."""

    upstreams: int
    success: int
    skipped: int
    failed: int
    blocked: int

    @property
    def bad(self) -> int:
        return self.failed + self.blocked

    @property
    def have_all(self) -> bool:
        return self.success + self.skipped + self.bad == self.upstreams


def verdict(rule: str, upstreams: int, tally: Mapping[str, int]) -> Verdict | None:
    """Return the trigger that is due for a step under a rule, or None while it is too early.

    Args:
        rule: The value of a `TriggerRule`.
        upstreams: How many upstreams the step has.
        tally: How many of them have ended in each state.
    """
    if rule == ALL_SUCCESS:
        return all_success(upstreams, tally)
    if not upstreams:
        return "start"
    counts = (tally.get(state, 0) for state in ("success", "skipped", "failed", "upstream_failed"))
    return _RULES[rule](_Ended(upstreams, *counts))


def all_success(upstreams: int, tally: Mapping[str, int]) -> Verdict | None:
    """Return the verdict under the default rule.

    A function of its own, since nearly all steps of nearly all flows need it.
    """
    succeeded = tally.get("success", 0)
    if succeeded == upstreams:
        return "start"
    if succeeded and len(tally) == 1:  # most often: some have succeeded, the others run
        return None
    if tally.get("failed") or tally.get("upstream_failed"):
        return "block"
    return "skip" if tally.get("skipped") else None


def _all_failed(ended: _Ended) -> Verdict | None:
    if ended.success or ended.skipped:
        return "skip"
    return _all_done(ended)


def _all_done(ended: _Ended) -> Verdict | None:
    return "start" if ended.have_all else None


def _all_skipped(ended: _Ended) -> Verdict | None:
    if ended.success or ended.bad:
        return "skip"
    return _all_done(ended)


def _one_success(ended: _Ended) -> Verdict | None:
    if ended.success:
        return "start"
    if not ended.have_all:
        return None
    return "block" if ended.bad else "skip"


def _one_failed(ended: _Ended) -> Verdict | None:
    if ended.bad:
        return "start"
    return "skip" if ended.have_all else None


def _one_done(ended: _Ended) -> Verdict | None:
    if ended.success or ended.failed:
        return "start"
    return "skip" if ended.have_all else None


def _none_failed(ended: _Ended) -> Verdict | None:
    return "block" if ended.bad else _all_done(ended)


def _none_failed_min_one_success(ended: _Ended) -> Verdict | None:
    if not ended.bad and ended.skipped == ended.upstreams:
        return "skip"
    return _none_failed(ended)


def _none_skipped(ended: _Ended) -> Verdict | None:
    return "skip" if ended.skipped else _all_done(ended)


def _all_done_min_one_success(ended: _Ended) -> Verdict | None:
    if ended.skipped:
        return "skip"
    if ended.have_all and not ended.success:
        return "block"
    return _all_done(ended)


def _always(ended: _Ended) -> Verdict | None:
    return "start"


_RULES: Final[Mapping[str, Callable[[_Ended], Verdict | None]]] = {
    TriggerRule.ALL_FAILED: _all_failed,
    TriggerRule.ALL_DONE: _all_done,
    TriggerRule.ALL_SKIPPED: _all_skipped,
    TriggerRule.ONE_SUCCESS: _one_success,
    TriggerRule.ONE_FAILED: _one_failed,
    TriggerRule.ONE_DONE: _one_done,
    TriggerRule.NONE_FAILED: _none_failed,
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: _none_failed_min_one_success,
    TriggerRule.NONE_SKIPPED: _none_skipped,
    TriggerRule.ALL_DONE_MIN_ONE_SUCCESS: _all_done_min_one_success,
    TriggerRule.ALWAYS: _always,
}
