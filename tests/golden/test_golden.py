"""The logs of all versions replay, for ever: as states, and as decisions. See make.py."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from oautom import MemoryEventLog
from oautom.events import replay
from oautom.machine.deadlines import LATE
from oautom.machine.tables import EVENT_NAMES, PLAN_EVENTS
from oautom.testing import ReplayDiffersError, assert_replays, check_history

from .make import FLOWS, HERE, RUNS

LOGS = sorted(HERE.glob("*/*.jsonl"))

ENDS = {
    "branches": {
        "one": "success: choose success, small skipped, large success, join success, pack success",
        "two": "failed: choose failed, small upstream_failed, large upstream_failed, "
        "join upstream_failed, pack upstream_failed",
    },
    "cancel": {"monday": "cancelled: a cancelled, b cancelled, c cancelled, d cancelled"},
    "chain": {"simulated-0": "success: extract success, clean success, load success"},
    "children": {
        "one": "failed: numbers success, good success, bad failed, wrong failed, tell success",
        "one/good/1": "success: half success",
        **dict.fromkeys(["one/bad/1", "one/bad/2"], "failed: half failed"),
    },
    "clean_up": {
        "one": "success: server success, book success, rooms success, pay success, ship success, "
        "stop success, rooms[0] success, rooms[1] success"
    },
    "crash": {
        "simulated-0": "failed: pay failed, ship upstream_failed, count success, tell success, "
        "wait success"
    },
    "deployed": {
        "one": "cancelled: ask cancelled, send cancelled",
        "two": "failed: ask success, send failed",
    },
    "deadlines": {"one": "success: fetch success, gate success, ship success"},
    "diamond": {
        "simulated-0": "failed: a success, b success, c failed, d upstream_failed, "
        "e upstream_failed, f success"
    },
    "filled": {
        **{
            f"nightly@1999-12-{day}T03:00:00Z": "success: fetch success, rest success, load success"
            for day in (20, 21, 24, 10, 19)
        },
        "nightly@1999-12-22T03:00:00Z": "failed: fetch success, rest success, load failed",
        "nightly@1999-12-23T03:00:00Z": "cancelled: fetch cancelled, rest cancelled, "
        "load cancelled",
        "part": "success: fetch success, rest success",
        **dict.fromkeys(["alone", "by hand"], "success: fetch success, rest success, load success"),
    },
    "given": {
        "simulated-0": "failed: fetch success, loose skipped, opens success, closes success, "
        "sell success, never failed, no time failed"
    },
    "each_item": {
        "one": "failed: each failed, tell upstream_failed, each[0] success, each[1] failed, "
        "each[2] success",
        "one/each[1]/1": "failed: good success, half failed",
        **dict.fromkeys(["one/each[0]/1", "one/each[2]/1"], "success: good success, half success"),
    },
    "going_on": {
        "one": "success: run success, tell success",
        "one/run/1": "success: good success, gate success",
    },
    "hasty": {
        "one": "failed: check success, work success, tidy up success, later cancelled, "
        "tidy up later success"
    },
    "late": dict.fromkeys(["one", "two"], "cancelled: first cancelled, second cancelled"),
    "losses": {"simulated-0": "failed: fetch success, load success, once failed, heavy failed"},
    "pools": {
        "simulated-0": "failed: items success, each success, heavy success, light failed, "
        "call success, call again success, gate success, no gate failed, each[0] success, "
        "each[1] success, each[2] success"
    },
    "maps": {
        "simulated-0": "failed: rows success, load success, greet success, none failed, "
        "report success, greet[0] success, greet[1] success, load[0] success, load[1] success, "
        "load[2] success, load[3] skipped"
    },
    "odd": {
        "simulated-5": "failed: ü 1 success, a,b\\ failed, {} failed, 日本 success,   x success"
    },
    "people": {
        "one": "success: settle success, gate success, red success, blue success, night success, "
        "bind success, ship success"
    },
    "planned": {
        f"early@2000-01-01T0{hour}:00:00Z": "success: job success, fetch success" for hour in (1, 3)
    },
    "polled": {"simulated-0": "success: submit success, job success, fetch success, note success"},
    "retries": {
        "simulated-0": "failed: fetch success, load success, slow failed, "
        "after slow upstream_failed, once failed"
    },
    "rules": {
        "simulated-0": "success: check skipped, load failed, report skipped, repair success, "
        "note upstream_failed, clean up success, publish skipped, at once success"
    },
    "turns": dict.fromkeys(
        ["acme1", "bolt1", "acme2", "bolt2", "acme4", "bolt3", "bolt4"],
        "success: fetch success, load success",
    )
    | {"acme3": "cancelled: fetch cancelled, load cancelled"},
    "secrets": {
        "simulated-0": "failed: login success, fetch success, load failed, load[0] failed, "
        "load[1] success"
    },
    "values": {
        "tuesday": "failed: extract success, count success, pick failed, pick_2 success",
        "wednesday": "failed: extract success, count success, pick failed, pick_2 failed",
    },
    "wide": {
        "simulated-3": "success: "
        + "".join(f"leaf {i} success, " for i in range(1, 8))
        + "root success"
    },
}


def ends_of(log: MemoryEventLog) -> dict[str, str]:
    return {
        vect: f"{state.state}: "
        + ", ".join(f"{step.name} {step.state}" for step in state.steps.values())
        for vect, state in replay(log.read()).items()
    }


each_log = pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}/{path.stem}")


@each_log
def test_a_log_is_read_and_its_state_is_what_it_was(path: Path) -> None:
    log = MemoryEventLog.from_jsonl(path)

    assert log.last_seq == path.read_bytes().count(b"\n")
    assert ends_of(log) == ENDS[path.stem]


@each_log
def test_the_decisions_in_a_log_are_those_of_today(path: Path) -> None:
    assert_replays(MemoryEventLog.from_jsonl(path), FLOWS[path.stem]())


@each_log
def test_the_invariants_of_today_hold_in_a_log(path: Path) -> None:
    check_history(MemoryEventLog.from_jsonl(path).read(), FLOWS[path.stem]())


@each_log
def test_a_log_is_written_as_it_was_read(path: Path, tmp_path: Path) -> None:
    """While the format stays. Once it has grown, old logs are written in the new form."""
    MemoryEventLog.from_jsonl(path).to_jsonl(tmp_path / "again.jsonl")

    if path.parent.name == version("oautom"):
        assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


@each_log
def test_a_log_in_which_anything_was_decided_otherwise_does_not_replay(path: Path) -> None:
    """So the tests above can fail: each event left out, one by one, is missed."""
    flow, events = FLOWS[path.stem](), list(MemoryEventLog.from_jsonl(path).read())
    missed = [
        event
        for event in events
        if event.name not in ("vect.created", "step.late_result", *LATE, *PLAN_EVENTS)
        and not differs(flow, [each for each in events if each is not event])
    ]

    # A recovery that found nobody at work might as well not have happened.
    closed = {e.seq - 1 for e in events if e.name == "step.interrupted"}
    idle = [e for e in missed if e.name == "vect.recovered" and e.seq not in closed]
    assert [e.name for e in missed if e.dest != "cancelled" and e not in idle] == []


def differs(flow, events) -> bool:
    numbered = [msgspec.structs.replace(each, seq=seq) for seq, each in enumerate(events, start=1)]
    known = {event.flow for event in numbered}
    try:
        for name in known.intersection(flow.app.flows()):
            assert_replays(numbered, flow.app.flow(name))
    except ReplayDiffersError:
        return True
    return False


def test_this_version_has_made_its_logs() -> None:
    assert {path.stem for path in LOGS if path.parent.name == version("oautom")} == set(RUNS)
    assert set(RUNS) == set(FLOWS) == set(ENDS)


def test_the_logs_tell_of_every_kind_of_event() -> None:
    names = {event.name for path in LOGS for event in MemoryEventLog.from_jsonl(path).read()}

    assert names == set(EVENT_NAMES)
