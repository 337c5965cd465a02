"""Cron expressions come due when cronsim, croniter, APScheduler and Debian's cron say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from oautom import SettingError
from oautom.plans.schedule import Cron

from .graphs import HAS_CORPUS, NO_CORPUS, corpus, sample_table

Case = dict[str, Any]


def check_times(case: Case) -> None:
    """Hold each time against the one that comes after the time before: nothing is remembered."""
    schedule = Cron(case["expr"], ZoneInfo(case["tz"]))
    time = datetime.fromisoformat(case["start"])
    for text in case["expect"]:
        time = schedule.next_time(time)
        assert time.tzinfo is UTC
        assert time == datetime.fromisoformat(text), case


def check_refusal(case: Case) -> None:
    with pytest.raises(SettingError, match=r"is no cron expression.* it has five fields: minute"):
        Cron(case["expr"])


@pytest.mark.parametrize(
    "case", sample_table("cron_suites"), ids=lambda c: f"{c['expr']} {c['tz']}"
)
def test_the_times_of_the_sample_come_one_after_the_other(case: Case) -> None:
    check_times(case)


@pytest.mark.parametrize("case", sample_table("cron_invalid"), ids=lambda case: case["expr"])
def test_what_is_no_cron_expression_in_the_sample_is_refused(case: Case) -> None:
    check_refusal(case)


def test_the_sample_has_both_clock_changes() -> None:
    kinds = {case["kind"] for case in sample_table("cron_suites")}
    assert kinds == {"spring", "autumn", "quiet", "suite"}
    assert any(case.get("debian_rule") for case in sample_table("cron_suites"))


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
def test_all_times_come_one_after_the_other() -> None:
    cases = corpus().table("cron_suites")
    for case in cases:
        check_times(case)
    assert len(cases) > 500


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
def test_all_that_is_no_cron_expression_is_refused() -> None:
    cases = corpus().table("cron_invalid")
    for case in cases:
        check_refusal(case)
    assert len(cases) > 100
