"""Trigger rules: whether a step is due, from how many of its upstreams are in which state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Verdict = Literal["start", "block"]


def all_success(upstreams: int, tally: Mapping[str, int]) -> Verdict | None:
    """Start when all upstreams have succeeded; block as soon as one can no longer succeed.

    Args:
        upstreams: How many upstreams the step has.
        tally: How many of them have ended in which state.

    Returns:
        The trigger that is due, or None while it is too early to say.

    Source: Airflow's rule of this name, which also sets `upstream_failed` at the first failure.
    """
    if tally.get("failed") or tally.get("upstream_failed"):
        return "block"
    if tally.get("success", 0) == upstreams:
        return "start"
    return None
