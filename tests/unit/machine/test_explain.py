"""The explanation of a step: a sentence for each state, and for each reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from oautom import Event
from oautom.events import replay
from oautom.machine.explain import _BY_STATE, LENGTH_MAX, Facts, explain
from oautom.machine.tables import STEP_TABLE
from oautom.machine.wording import place_in_line
from tests.kit import NOON, event, started, step_failed, step_started, step_succeeded

Options = Mapping[str, Mapping[str, Any]]

PAIR = {"extract": (), "load": ("extract",)}


def told(
    step: str,
    *events: Event,
    graph: Mapping[str, tuple[str, ...]] = PAIR,
    options: Options | None = None,
    now: datetime = NOON + timedelta(minutes=1),
    **facts: Any,
) -> str:
    """Explain a step after these events, which follow those that start a Vect."""
    first = event(1, "vect.created", None, "pending", params={}, graph=graph, options=options or {})
    state = replay([first, *events])["v"]
    return explain(state.steps[step], now, Facts(**facts))


def retried(seq: int, step: str, attempt: int = 1, delay: float = 30.0) -> Event:
    return event(
        seq,
        "step.retried",
        "running",
        "up_for_retry",
        step=step,
        attempt=attempt,
        error="ConnectionError: refused",
        delay=delay,
    )


def released(seq: int, step: str) -> Event:
    return event(seq, "step.released", "up_for_retry", "pending", step=step)


def paused(seq: int) -> Event:
    return event(seq, "vect.paused", "running", "paused")


def held(seq: int, step: str, **data: Any) -> Event:
    return event(seq, "step.started", "pending", "running", step=step, attempt=1, **data)


# Pending: upstreams have not ended


def test_before_its_vect_has_started_a_step_waits_for_that() -> None:
    assert told("extract") == "`extract` waits for the start of its vect"
    assert told("load") == "`load` waits for the start of its vect"


RUNS = (started(2), step_started(3, "extract"))
RETRIES = (*RUNS, retried(4, "extract"))
POLICY = {"extract": {"max_attempts": 5}}


def test_an_attempt_that_is_at_work_still_is_told_of_the_step_and_of_its_dependants() -> None:
    events = (*RETRIES, released(5, "extract"))
    at_work = frozenset({"extract"})
    waits = "waits for the end of its attempt 1, which is at work still"

    assert told("extract", *events, at_work=at_work) == f"`extract` failed attempt 1, and {waits}"
    assert told("load", *events, at_work=at_work) == f"`load` waits for `extract`, which {waits}"
    assert told("load", *events, paused(6), at_work=at_work) == (
        "`load` waits for `extract`, which has not started yet; its vect is paused"
    )


def test_the_sentence_of_the_design() -> None:
    events = (*RETRIES, released(5, "extract"), step_started(6, "extract", 2))

    assert told(
        "load", *events, retried(7, "extract", 2, delay=10.0), options=POLICY, now=NOON
    ) == ("`load` waits for `extract`, which failed attempt 2 of 5 and runs again at 12:00:17")


@pytest.mark.parametrize(
    ("events", "options", "facts", "does"),
    [
        ((started(2),), {}, {}, "is about to start"),
        ((started(2),), {}, {"workers": 2}, "waits for a worker"),
        (
            (started(2),),
            {"extract": {"pool": ["db", 2]}},
            {"taken": {"db": 2}},
            "waits for the 2 slots of pool `db`",
        ),
        (RUNS, {}, {}, "has been running since 12:00:03"),
        (RETRIES, {}, {}, "failed attempt 1 and runs again at 12:00:34, which is past"),
        (
            (started(2), held(3, "extract", delay=600.0)),
            {"extract": {"kind": "wait", "delay": 600.0}},
            {},
            "waits until 12:10:03",
        ),
        (
            (started(2), held(3, "extract", prompt="ship?", timeout=10.0)),
            {"extract": {"kind": "approval", "prompt": "ship?", "timeout": 10.0}},
            {},
            "waits for an approval ('ship?') until 12:00:13, which is past",
        ),
        ((started(2), paused(3)), {}, {}, "has not started yet; its vect is paused"),
        (
            RUNS,
            {},
            {"halted": "the app was closed"},
            (
                "started at 12:00:03; the engine was stopped (the app was closed), "
                "and its vect goes on in the next program"
            ),
        ),
    ],
)
def test_what_an_upstream_does_meanwhile(
    events: tuple[Event, ...], options: Options, facts: dict[str, Any], does: str
) -> None:
    sentence = told("load", *events, options=options, **facts)

    assert sentence == f"`load` waits for `extract`, which {does}"


def test_an_upstream_that_waits_itself_says_for_whom() -> None:
    graph = {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}

    assert told("d", started(2), graph=graph) == (
        "`d` waits for `c`, which itself waits for `a`, and 1 more"
    )


def test_a_few_upstreams_are_named_and_only_those_that_have_not_ended() -> None:
    graph = {**dict.fromkeys("abcde", ()), "f": tuple("abcde")}
    events = (started(2), *(step_started(3 + i, name) for i, name in enumerate("abcde")))

    assert told("f", *events, graph=graph) == (
        "`f` waits for `a`, which has been running since 12:00:03, and for `b`, which has been "
        "running since 12:00:04, and for `c`, which has been running since 12:00:05, and 2 more"
    )
    assert told(
        "f", *events, *(step_succeeded(8 + i, x) for i, x in enumerate("abcd")), graph=graph
    ) == ("`f` waits for `e`, which has been running since 12:00:07")


def test_a_trigger_rule_that_is_not_the_usual_one_is_named() -> None:
    options = {"load": {"trigger_rule": "one_failed"}}

    assert told("load", *RUNS, options=options) == (
        "`load` waits for `extract`, which has been running since 12:00:03, "
        "by its trigger rule 'one_failed'"
    )


# Pending though it is due


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, "is about to start"),
        ({"workers": 1}, "waits for a worker: the only worker is taken"),
        ({"workers": 4}, "waits for a worker: all 4 workers are taken"),
        (
            {"workers": 4, "ahead": 1},
            "waits for a worker: all 4 workers are taken, and 1 more waits before it",
        ),
        (
            {"workers": 4, "ahead": 7, "higher": 5},
            (
                "waits for a worker: all 4 workers are taken, and 7 more wait before it, "
                "5 of a higher priority"
            ),
        ),
        (
            {"held_up": "the flow has changed"},
            "is due to start, but its vect does not go on: the flow has changed",
        ),
        ({"failure": "disk full"}, "is due to start, but the engine has stopped: disk full"),
        (
            {"halted": "SIGTERM"},
            (
                "is due to start, but the engine was stopped (SIGTERM), and its vect goes on in "
                "the next program"
            ),
        ),
        (
            {"draining": "SIGTERM"},
            "is due to start, but the engine is being stopped (SIGTERM), and starts nothing",
        ),
        (
            {"is_inherited": True},
            "is due to start, but its program has ended, and its vect is not taken over yet",
        ),
        (
            {"is_undriven": True},
            "is about to start; nothing drives the engine until somebody calls wait()",
        ),
        ({"failure": "x", "is_undriven": True}, "is due to start, but the engine has stopped: x"),
    ],
)
def test_why_a_step_that_is_due_does_not_start(facts: dict[str, Any], why: str) -> None:
    assert told("extract", started(2), **facts) == f"`extract` {why}"


@pytest.mark.parametrize(
    ("seconds", "late", "said"),
    [
        (30, False, "its deadline is 12:00:33"),
        (5, False, "its deadline was 12:00:08"),
        (5, True, "it is late, its deadline was 12:00:08"),
    ],
)
def test_a_step_that_has_not_ended_is_told_with_its_deadline(seconds, late, said) -> None:
    now, places = NOON + timedelta(seconds=20), {"step": "extract", "attempt": 1}
    events = [started(2), step_started(3, "extract")]
    if late:
        told_late = event(4, "step.late", "running", "running", **places, deadline=seconds)
        events.append(told_late)
    options = {"extract": {"deadline": seconds}}
    sentence = told("extract", *events, options=options, now=now)
    assert sentence == f"`extract` has been running since 12:00:03 (attempt 1); {said}"
    ended = [*events, step_succeeded(5, "extract")]
    assert "deadline" not in told("extract", *ended, options=options, now=now)


def test_a_step_of_a_late_vect_says_so() -> None:
    first = event(
        *(1, "vect.created", None, "pending"), params={}, graph=PAIR, settings={"deadline": 5}
    )
    late = event(3, "vect.late", "running", "running", deadline=5)
    state = replay([first, started(2), late])["v"]
    sentence = explain(state.steps["load"], NOON + timedelta(seconds=9))
    assert sentence.endswith("; its vect is late, whose deadline was 12:00:07")


def test_a_step_of_a_paused_vect_is_due_as_soon_as_that_goes_on() -> None:
    assert told("extract", started(2), paused(3)) == (
        "`extract` is due to start, but its vect is paused"
    )


@pytest.mark.parametrize(
    ("slots", "taken", "why"),
    [
        (1, 1, "waits for a slot: the only slot of pool `db` is taken"),
        (3, 3, "waits for a slot: the 3 slots of pool `db` are taken"),
        (3, 2, "waits for a worker: all 2 workers are taken"),
    ],
)
def test_a_full_pool_is_the_reason_before_the_workers(slots: int, taken: int, why: str) -> None:
    options = {"extract": {"pool": ["db", slots]}}
    sentence = told("extract", started(2), options=options, taken={"db": taken}, workers=2)

    assert sentence == f"`extract` {why}"


def test_who_needs_no_worker_does_not_wait_for_one() -> None:
    options = {"extract": {"kind": "wait", "delay": 1.0}}

    assert told("extract", started(2), options=options, workers=2) == "`extract` is about to start"
    assert told("load", started(2), options=options, workers=2) == (
        "`load` waits for `extract`, which is about to start"
    )


def test_what_a_paused_vect_will_block_or_skip() -> None:
    failed = (*RUNS, paused(4), step_failed(5, "extract"))

    assert told("load", *failed) == (
        "`load` is about to be blocked by its trigger rule 'all_success', but its vect is paused"
    )
    assert told("load", *failed, options={"load": {"trigger_rule": "all_skipped"}}) == (
        "`load` is about to be skipped by its trigger rule 'all_skipped', but its vect is paused"
    )
    chosen = (*RUNS, paused(4), step_succeeded(5, "extract", []))
    assert told("load", *chosen, options={"extract": {"kind": "branch"}}) == (
        "`load` is about to be skipped by branch `extract`, which has not chosen it, "
        "but its vect is paused"
    )


def test_a_step_that_is_due_again_says_why() -> None:
    interrupted = event(5, "step.interrupted", "running", "pending", step="extract", attempt=1)
    recovered = event(4, "vect.recovered", "running", "running")

    assert told("extract", *RETRIES, released(5, "extract"), options=POLICY, workers=1) == (
        "`extract` failed attempt 1 of 5, and waits for a worker: the only worker is taken"
    )
    assert told("extract", *RUNS, recovered, interrupted) == (
        "`extract` was cut short in attempt 1 by the end of its program, and is about to start"
    )


RESET = (
    *RUNS,
    step_failed(4, "extract"),
    event(5, "step.blocked", "pending", "upstream_failed", step="load", upstream="extract"),
    event(6, "vect.failed", "running", "failed"),
    event(7, "step.reset", "failed", "pending", step="extract"),
    event(8, "step.reset", "upstream_failed", "pending", step="load"),
    event(9, "vect.reopened", "failed", "running"),
)


def test_a_vect_that_is_just_being_reset_or_cancelled() -> None:
    """Between two events of one tick: a log may end there, as a file that is watched does."""
    cancelled = event(4, "step.cancelled", "running", "cancelled", step="extract", attempt=1)

    assert told("load", *RUNS, cancelled) == "`load` is about to be cancelled"
    assert told("extract", *RESET[:-1]) == (
        "`extract` was reset by a retry of its vect, and is about to go on with its vect"
    )
    graph = {**PAIR, "tell": ("load",)}
    assert told("tell", *RUNS, cancelled, graph=graph) == (
        "`tell` waits for `load`, which is about to be cancelled"
    )


def test_after_a_retry_of_the_vect_a_step_that_ran_says_so() -> None:
    assert told("extract", *RESET) == (
        "`extract` was reset by a retry of its vect, and is about to start"
    )
    assert told("load", *RESET) == "`load` waits for `extract`, which is about to start"


# Running


def test_a_step_that_runs() -> None:
    assert told("extract", *RUNS) == "`extract` has been running since 12:00:03 (attempt 1)"


def test_a_step_that_runs_with_a_timeout() -> None:
    timeout = {"extract": {"timeout": 90.0, "max_attempts": 2}}

    assert told("extract", *RUNS, options=timeout) == (
        "`extract` has been running since 12:00:03 (attempt 1 of 2) and has until 12:01:33"
    )
    assert told("extract", *RUNS, options=timeout, now=NOON + timedelta(minutes=2)) == (
        "`extract` has been running since 12:00:03 (attempt 1 of 2) and had until 12:01:33"
    )


def test_a_step_that_is_polled() -> None:
    assert told("extract", *RUNS, poll_interval=2.5) == (
        "`extract` has been running since 12:00:03 (attempt 1); once its run() has returned, "
        "its check() is asked every 2.5 seconds"
    )
    assert told("extract", *RUNS, poll_interval=1).endswith("every 1 second")


def test_attempts_that_did_not_fail_do_not_count_against_those_that_may() -> None:
    """A crash has cut attempt 1 short, so there may be three in all, of which two fail."""
    events = (
        *RUNS,
        event(4, "vect.recovered", "running", "running"),
        event(5, "step.interrupted", "running", "pending", step="extract", attempt=1),
        step_started(6, "extract", 2),
    )
    two = {"extract": {"max_attempts": 2}}

    assert "(attempt 2 of 3)" in told("extract", *events, options=two)
    assert "failed attempt 2 of 3" in told(
        "extract", *events, retried(7, "extract", 2), options=two
    )


def test_a_step_whose_engine_has_stopped_no_longer_runs() -> None:
    assert told("extract", *RUNS, held_up="app.recover() has it go on") == (
        "`extract` started attempt 1 at 12:00:03, but its vect does not go on: "
        "app.recover() has it go on"
    )


def test_a_pause_does_not_touch_a_step_that_runs() -> None:
    assert "paused" not in told("extract", *RUNS, paused(4))


def test_a_step_that_waits() -> None:
    options = {"extract": {"kind": "wait", "delay": 600.0}}
    events = (started(2), held(3, "extract", delay=600.0))

    assert told("extract", *events, options=options) == "`extract` waits until 12:10:03"
    assert told("extract", *events, options=options, now=NOON + timedelta(seconds=603)) == (
        "`extract` waits until 12:10:03, which is past"
    )
    assert told("extract", *events, options=options, is_inherited=True) == (
        "`extract` waits until 12:10:03; its program has ended, and its vect is not taken over yet"
    )


def test_a_step_that_waits_for_a_person() -> None:
    options = {"extract": {"kind": "approval", "prompt": "ship\nit?"}}

    assert told("extract", started(2), held(3, "extract", prompt="ship\nit?"), options=options) == (
        "`extract` waits for an approval ('ship it?')"
    )
    bare = {"extract": {"kind": "approval", "prompt": ""}}
    assert told("extract", started(2), held(3, "extract", prompt=""), options=bare) == (
        "`extract` waits for an approval"
    )
    timed = {"extract": {"kind": "approval", "prompt": "ship?", "timeout": 3600.0}}
    assert (
        told(
            "extract", started(2), held(3, "extract", prompt="ship?", timeout=3600.0), options=timed
        )
        == "`extract` waits for an approval ('ship?') until 13:00:03"
    )


IN_LINE = "number 1 in line: none goes before it, and at most 1 vect of flow `etl` is open"


@pytest.mark.parametrize(
    ("before", "most", "lane", "said"),
    [
        (0, 1, "", IN_LINE),
        (
            1,
            2,
            "",
            "number 2 in line: 1 goes before it, and at most 2 vects of flow `etl` are open",
        ),
        (
            9,
            1,
            "n 7",
            "number 10 in line: 9 go before it, and at most 1 vect of flow `etl` with n 7 is open",
        ),
    ],
)
def test_a_step_of_a_vect_that_waits_for_its_turn(
    before: int, most: int, lane: str, said: str
) -> None:
    assert place_in_line(before, most, "etl", lane) == said
    assert told("extract", turn=said) == (
        f"`extract` waits for the turn of its vect, which is {said}"
    )


@pytest.mark.parametrize(
    ("facts", "ending"),
    [
        ({}, ""),
        ({"child": "running"}, ", which is running"),
        ({"child": "paused"}, ", which is paused"),
        ({"child": "waiting"}, ", which is about to begin"),
        ({"child": "pending"}, ", which is pending"),
        ({"child": "pending", "child_turn": IN_LINE}, f", which is {IN_LINE}"),
        ({"child": "failed"}, ", which has ended"),
        (
            {"child": "running", "is_inherited": True},
            ", which is running; its program has ended, and its vect is not taken over yet",
        ),
    ],
)
def test_a_step_that_runs_another_flow(facts: dict[str, Any], ending: str) -> None:
    options = {"extract": {"kind": "flow", "runs": "etl", "max_attempts": 3}}
    events = (started(2), held(3, "extract", child="v/extract/1"))

    assert told("extract", *events, options=options, **facts) == (
        "`extract` has been running since 12:00:03 (attempt 1 of 3), and waits for vect "
        f"`v/extract/1` of flow `etl`{ending}"
    )


def test_a_step_that_runs_another_flow_needs_no_worker_but_a_slot_of_its_pool() -> None:
    options = {"extract": {"kind": "flow", "runs": "etl", "pool": ["db", 1]}}

    assert told("extract", started(2), options=options, workers=2) == "`extract` is about to start"
    assert told("extract", started(2), options=options, workers=2, taken={"db": 1}) == (
        "`extract` waits for a slot: the only slot of pool `db` is taken"
    )
    assert told("load", started(2), options=options, workers=2, taken={"db": 1}) == (
        "`load` waits for `extract`, which waits for the only slot of pool `db`"
    )


def test_a_step_that_is_tried_again() -> None:
    why = "`extract` failed attempt 1 of 5 (ConnectionError: refused) and runs again at 12:00:34"

    assert told("extract", *RETRIES, options=POLICY, now=NOON) == why
    assert told("extract", *RETRIES, options=POLICY) == why + ", which is past"
    assert told("extract", *RETRIES, paused(5), options=POLICY, now=NOON) == (
        why + "; its vect is paused"
    )


# Ended


def test_a_step_that_has_succeeded() -> None:
    assert told("extract", *RUNS, step_succeeded(6, "extract")) == (
        "`extract` succeeded at 12:00:06 after 3 seconds (attempt 1)"
    )
    options = {"extract": {"kind": "wait", "delay": 1.0}}
    waited = (started(2), held(3, "extract", delay=1.0), step_succeeded(4, "extract"))
    assert told("extract", *waited, options=options) == (
        "`extract` succeeded at 12:00:04 after 1 second"
    )


@pytest.mark.parametrize(
    "error",
    [
        "ValueError: no",
        "it took longer than its timeout of 2 seconds",
        (
            "it took longer than its timeout of 2 seconds; it does not listen to "
            "context.cancelled, and what it does was abandoned"
        ),
    ],
)
def test_a_step_that_has_failed(error: str) -> None:
    again = (*RETRIES, released(5, "extract"), step_started(6, "extract", 2))
    last = event(7, "step.failed", "running", "failed", step="extract", attempt=2, error=error)

    assert told("extract", *RUNS, step_failed(4, "extract", error)) == (
        f"`extract` failed at 12:00:04 in attempt 1: {error}"
    )
    assert told("extract", *again, last, options={"extract": {"max_attempts": 2}}) == (
        f"`extract` failed at 12:00:07 in attempt 2 of 2: {error}"
    )


def test_an_approval_that_was_rejected_tells_no_attempt() -> None:
    options = {"extract": {"kind": "approval", "prompt": "ship?"}}
    events = (started(2), held(3, "extract", prompt="ship?"))

    assert told(
        "extract", *events, step_failed(4, "extract", "rejected by Bob"), options=options
    ) == ("`extract` failed at 12:00:04: rejected by Bob")


def test_a_step_that_was_skipped_and_by_whom() -> None:
    own = event(
        4, "step.skipped", "running", "skipped", step="extract", attempt=1, reason="no news"
    )
    silent = event(4, "step.skipped", "running", "skipped", step="extract", attempt=1, reason="")
    ruled = event(
        5, "step.skipped", "pending", "skipped", step="load", reason="its trigger rule is x"
    )
    chose = event(
        5, "step.skipped", "pending", "skipped", step="load", reason="branch 'b' chose 'c'"
    )

    assert told("extract", *RUNS, own) == "`extract` skipped itself at 12:00:04: no news"
    assert told("extract", *RUNS, silent) == "`extract` skipped itself at 12:00:04"
    assert told("load", *RUNS, own, ruled) == (
        "`load` was skipped at 12:00:05: its trigger rule is x"
    )
    branch = {"extract": {"kind": "branch"}}
    assert told("load", *RUNS, step_succeeded(4, "extract", []), chose, options=branch) == (
        "`load` was skipped at 12:00:05: branch 'b' chose 'c'"
    )


def test_a_step_that_was_blocked_names_who_is_to_blame() -> None:
    error = "upstream 'extract' failed: it broke"
    blocked = event(
        5,
        "step.blocked",
        "pending",
        "upstream_failed",
        step="load",
        upstream="extract",
        error=error,
    )

    assert told("load", *RUNS, step_failed(4, "extract"), blocked) == (
        f"`load` was blocked at 12:00:05 and did not run: {error}"
    )


def test_a_step_that_was_cancelled() -> None:
    def cancelled(source: str, step: str, attempt: int | None, reason: str) -> Event:
        return event(
            4, "step.cancelled", source, "cancelled", step=step, attempt=attempt, reason=reason
        )

    assert told("extract", *RUNS, cancelled("running", "extract", 1, "wrong day")) == (
        "`extract` was cancelled at 12:00:04, after attempt 1 began: wrong day"
    )
    assert told("load", *RUNS, cancelled("pending", "load", None, "")) == (
        "`load` was cancelled at 12:00:04, before it started"
    )


def test_nothing_of_the_engine_matters_to_a_step_that_has_ended() -> None:
    facts = {"failure": "x", "halted": "x", "held_up": "x", "is_undriven": True}

    assert told("extract", *RUNS, step_succeeded(6, "extract"), **facts) == (
        "`extract` succeeded at 12:00:06 after 3 seconds (attempt 1)"
    )


# Words


def test_a_time_of_another_day_has_its_date() -> None:
    assert told("extract", *RUNS, now=NOON + timedelta(days=1)) == (
        "`extract` has been running since 2026-11-24 12:00:03 (attempt 1)"
    )
    options = {"extract": {"kind": "wait", "until": "2026-11-25T00:30:00+01:00"}}
    until = held(3, "extract", until="2026-11-25T00:30:00+01:00")
    assert told("extract", started(2), until, options=options) == "`extract` waits until 23:30:00"


def test_today_is_that_of_utc() -> None:
    in_sydney = datetime(2026, 11, 25, 1, tzinfo=timezone(timedelta(hours=10)))

    assert "since 12:00:03" in told("extract", *RUNS, now=in_sydney)


@pytest.mark.parametrize(
    "mess", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\x1c\x1fb", "a\x00\x1b b"]
)
def test_names_and_errors_hold_no_line_break(mess: str) -> None:
    graph = {mess: (), "load": (mess,)}
    failed = (started(2), step_started(3, mess), step_failed(4, mess, mess))

    assert told(mess, *failed, graph=graph) == "`a b` failed at 12:00:04 in attempt 1: a b"
    assert told("load", *failed[:2], graph=graph).startswith("`load` waits for `a b`, which")


def test_a_text_of_which_nothing_can_be_shown_is_told_as_such() -> None:
    assert told("extract", started(2), held_up=" \x00") == (
        "`extract` is due to start, but its vect does not go on: (blank)"
    )


def test_the_length_is_bounded() -> None:
    names = [letter * 10_000 for letter in "abcde"]
    last = "z" * 10_000
    graph = dict.fromkeys(names, ()) | {last: tuple(names)}
    kinds = {name: {"kind": "approval", "prompt": "p" * 10_000, "timeout": 9e9} for name in names}
    asked = [
        event(3 + i, "step.started", "pending", "running", step=name, attempt=1, timeout=9e9)
        for i, name in enumerate(names)
    ]
    options = {**kinds, last: {"trigger_rule": "none_failed_min_one_success"}}
    sentence = told(last, started(2), *asked, graph=graph, options=options, failure="f" * 10_000)

    assert 1000 < len(sentence) <= LENGTH_MAX
    error = told(
        names[0],
        started(2),
        step_started(3, names[0]),
        step_failed(4, names[0], "e" * 10**6),
        graph=graph,
    )
    assert error.endswith("e...")
    assert len(error) < 400


def test_each_state_of_the_table_has_its_sentence() -> None:
    assert set(_BY_STATE) == {row.source for row in STEP_TABLE} | {row.dest for row in STEP_TABLE}
