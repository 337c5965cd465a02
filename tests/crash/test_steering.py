"""What was asked of a program that is killed: what it has accepted is there, what it ended ends."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from oautom import Event
from oautom.audit.invariants import check_history
from oautom.events import replay
from tests.outside import BASH_HEAD, begun, orphans, overlaps

from .harness import Life, begin, events_of, few, left_of, swept, until

ACCEPTED = Path(__file__).with_name("accepted.py")
UNWANTED = Path(__file__).with_name("unwanted.py")
PLACES = ("before", "middle", "uncommitted", "after")


# What has been accepted


def read_lines(life: Life, count: int) -> list[str]:
    """Return what a program says, so many lines, or all until its end."""
    assert life.process.stdout is not None
    text = b""
    while text.count(b"\n") < count:
        chunk = os.read(life.process.stdout.fileno(), 2**16)
        if not chunk:
            break
        text += chunk
    return text.decode().split()


def accepted_until_killed(life: Life, count: int) -> list[str]:
    """Kill a program after so many lines; return the ids of all that it has said it accepted."""
    lines = read_lines(life, count)
    life.process.send_signal(signal.SIGKILL)
    lines += read_lines(life, 10**9)
    life.end()
    # A line that was cut off was not said.
    return [line.removeprefix("accepted:") for line in lines if line.startswith("accepted:")]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", few("background", more=["foreground"]))
def test_what_has_been_accepted_is_in_the_log_whenever_the_program_is_killed(
    tmp_path: Path, mode: str
) -> None:
    chance, accepted = random.Random(f"accepted {mode}"), set[str]()
    settings = {"mode": mode, "executor": "threads", "synchronous": "NORMAL"}
    with swept(tmp_path / "run") as folder:
        for _ in range(few(5, more=[300])[-1]):
            life = begin(ACCEPTED, folder, **settings)
            new = accepted_until_killed(
                life, chance.choice((2, 10, 50, 200)) + chance.randint(0, 9)
            )
            assert new, (folder / "errors").read_text()
            accepted.update(new)
            found = {e.vect for e in events_of(folder) if e.name == "vect.created"}
            assert accepted - found == set()
        life = begin(ACCEPTED, folder, **settings, last=True)
        assert life.wait_for("done", 300), (folder / "errors").read_text()
        assert life.end() == 0
        events = events_of(folder)
        check_history(events)
        assert {vect.state for vect in replay(events).values()} == {"success"}


# What was not wanted any more


HEAD = f"POOL=all\n{BASH_HEAD} is_first() {{ [[ $(grep -c ^begin side) -eq 1 ]]; }};"
SLOW = f"{HEAD} if is_first; then sleep 1; fi; say end"
DEAF = f"{HEAD} trap '' TERM INT HUP; if is_first; then sleep 60; fi; say end"


def is_cancelled(events: list[Event]) -> bool:
    return ("v", "vect.cancelled") in {(event.vect, event.name) for event in events}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", few("background", more=["foreground"]))
@pytest.mark.parametrize("flow", ["middle", "outer"])
def test_whichever_commit_it_dies_at_nobody_goes_on_with_what_is_not_wanted(
    tmp_path: Path, flow: str, mode: str
) -> None:
    """In the short form, every third commit, each with one of the four places by turns."""
    settings = {"mode": mode, "executor": "threads", "command": SLOW, "grace_period": 0.2}
    for n in range(1, 60, few(3, more=[1])[-1]):
        with swept(tmp_path / str(n)) as folder:
            first = {"flow": flow, "dies": [PLACES[n % 4], n]}
            code = begin(UNWANTED, folder, **settings, **first).end()
            before = events_of(folder)
            assert orphans([before]) == []
            life = begin(UNWANTED, folder, **settings, again="recover")
            assert life.wait_for("done"), (folder / "errors").read_text()
            assert life.end() == 0
            events = events_of(folder)
            check_history(events)
            assert left_of(folder) == []
            assert overlaps(folder) == []
            if is_cancelled(before):
                states = {vect.state for vect in replay(events).values()}
                assert states == {"cancelled"}
                assert not any(e.name == "step.started" for e in events[len(before) :])
        if code == 0:
            break
    assert 3 < n < 59


@pytest.mark.parametrize("mode", few("background", more=["foreground"]))
@pytest.mark.parametrize("again", ["recover", "retry"])
@pytest.mark.parametrize("flow", ["inner", "middle"])
def test_a_command_that_had_not_ended_yet_is_ended_before_its_step_runs_again(
    tmp_path: Path, flow: str, again: str, mode: str
) -> None:
    """It was cancelled, and the program was killed in its grace period."""
    settings = {"mode": mode, "executor": "threads", "command": DEAF, "grace_period": 60}
    with swept(tmp_path / "run") as folder:
        life = begin(UNWANTED, folder, **settings, flow=flow)
        assert life.wait_for("cancelled"), (folder / "errors").read_text()
        time.sleep(0.05)
        life.kill()
        assert is_cancelled(events_of(folder))
        assert left_of(folder) != []

        life = begin(UNWANTED, folder, **settings, again=again)
        assert life.wait_for("recovered"), (folder / "errors").read_text()
        if again == "recover":
            until(lambda: left_of(folder) == [])
        assert life.wait_for("done"), (folder / "errors").read_text()
        assert life.end() == 0
        assert left_of(folder) == []
        assert overlaps(folder) == []
        states = {vect.state for vect in replay(events_of(folder)).values()}
        if again == "recover":
            assert begun(folder, "step") == [1]
            assert states == {"cancelled"}
        else:
            assert len(begun(folder, "step")) == 2
            assert "success" in states
        check_history(events_of(folder))
