"""How a flow is tested: for real, by simulation, in every order, by properties, by a kept log.

Run it:  pytest examples/tested_flow

None of these tests sleeps, and all but the first do without the work of the steps. The fixture
`oautom_app` comes from the pytest plugin of oautom.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report import declare

from oautom import Flow, MemoryEventLog, OAutom
from oautom.testing import assert_replays, durations, explore, outcomes, simulate

HOUR = 3600.0
DOWN = ConnectionError("the warehouse does not answer")
KEPT_LOG = Path(__file__).with_name("kept.jsonl")


@pytest.fixture
def flow() -> Flow:
    """Declare the flow, in an app that never runs it."""
    return declare(OAutom())


# For real: the functions, and how they are wired


def test_what_is_missing_is_bought(oautom_app: OAutom) -> None:
    vect = oautom_app.run(declare(oautom_app))

    assert vect.state == "success"
    assert vect.result("mail") == "please buy 7 apples, 1 figs"


# By simulation: how long it takes, and what comes of a failure


def test_on_a_slow_night_the_mail_is_out_before_seven(flow: Flow) -> None:
    night = datetime(2026, 11, 24, 3, tzinfo=UTC)
    hours = {"orders": 1.5 * HOUR, "stock": 2 * HOUR, "missing": 1 * HOUR, "archive": 9 * HOUR}

    vect = simulate(flow, durations=hours, start=night, max_workers=2)

    sent = vect.steps["mail"].end_date
    assert sent == night + timedelta(hours=3)


def test_without_the_warehouse_there_is_no_mail_but_the_orders_are_kept(flow: Flow) -> None:
    vect = simulate(flow, outcomes={"stock": DOWN})

    assert vect.state == "failed"
    assert vect.steps["mail"].state == "upstream_failed"
    assert vect.steps["archive"].state == "success"
    assert vect.steps["mail"].error == "upstream 'stock' failed"
    assert "the warehouse does not answer" in str(vect.steps["stock"].error)


# In every order: no race


def test_what_comes_of_a_failure_does_not_depend_on_what_ends_first(flow: Flow) -> None:
    found = explore(flow, outcomes={"stock": DOWN})

    assert found.is_complete
    assert not found.depends_on_order, str(found)


# By properties: whatever fails, and however long it takes


@settings(deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), workers=st.integers(1, 3))
def test_orders_that_were_read_are_kept(data: st.DataObject, seed: int, workers: int) -> None:
    flow = declare(OAutom())
    ends = data.draw(outcomes(flow).filter(lambda ends: "archive" not in ends))
    seconds = data.draw(durations(flow))

    vect = simulate(flow, outcomes=ends, durations=seconds, seed=seed, max_workers=workers)

    assert (vect.steps["archive"].state == "success") == (vect.steps["orders"].state == "success")


# By a kept log: would the flow of today decide as it did then?


def test_the_run_that_was_kept_would_go_as_it_went(flow: Flow) -> None:
    assert_replays(MemoryEventLog.from_jsonl(KEPT_LOG), flow)


def keep_a_log() -> None:
    """Run the flow, and keep its log; only called by hand, when it is meant to change."""
    with OAutom() as app:
        app.run(declare(app))
        app.log.to_jsonl(KEPT_LOG)


if __name__ == "__main__":
    keep_a_log()
