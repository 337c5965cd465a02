"""A round of the fuzzing: a program lives several times on one log, and all that it leaves is held.

After each life: the log is whole and extends what it was, no event that anybody has read is gone,
`check_history` finds nothing, the state that a program tells is that of its events, each flow
replays, no two attempts of a step were at work at once, nothing began that is not in the log.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from oautom import Event, LogError, OAutom, OAutomError
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog
from oautom.machine.state import VectState
from oautom.testing import ReplayDiffersError, assert_replays, violations
from tests.crash.harness import Life, left_of, swept
from tests.outside import overlaps, side

from .drawn import Scenario, drawn
from .flows import declare

PROGRAM = Path(__file__).with_name("program.py")
SECONDS_MAX = 90.0
"""How long a life may take that nobody kills; its own patience is over before."""


class Result(NamedTuple):
    """What came of a round."""

    lives: int
    kills: int
    events: int
    replays: int
    violations: list[str]


def run(folder: Path, seed: int) -> Result:
    """Run the round of a seed in a folder, which is made."""
    scenario = drawn(seed)
    with swept(folder):
        (folder / "scenario.json").write_text(json.dumps(scenario, indent=1))
        held = _Held(folder, scenario)
        kills = 0
        for number, life in enumerate(scenario["lives"]):
            kills += _live(folder, held, number, life)
            held.look(number)
            if held.violations:
                break
        else:
            held.look_at_end()
        return Result(number + 1, kills, len(held.events), held.replays, held.violations)


def look(folder: Path) -> list[str]:
    """Hold what a round has left in a folder once more, as far as it is still there."""
    scenario = json.loads((folder / "scenario.json").read_text())
    held = _Held(folder, scenario)
    held.look(len(scenario["lives"]) - 1)
    return held.violations


def _live(folder: Path, held: _Held, number: int, life: dict[str, Any]) -> bool:
    """Run the program once; return whether it was killed."""
    (folder / "status.json").unlink(missing_ok=True)
    chance = random.Random(f"{held.scenario['seed']} asked {number}")
    program = Life(folder, "scenario.json", str(number), program=PROGRAM)
    with _asking(folder, life["asked"], chance, held):
        if life["how"] == "kill":
            program.wait_for("started")
            time.sleep(life["seconds"])
            was_alive = program.process.poll() is None
            program.kill()
            return was_alive
        try:
            code = program.end(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            held.say(f"life {number} hangs after {program.told}")
            program.process.send_signal(signal.SIGKILL)
            program.process.wait()
            return True
    if code != 0:
        held.say(f"life {number} ended with code {code}")
    return False


@contextmanager
def _asking(
    folder: Path, acts: Sequence[dict[str, Any]], chance: random.Random, held: _Held
) -> Iterator[None]:
    """Have somebody in another process read the log, and ask for something now and then."""
    is_over = threading.Event()

    def look_and_ask() -> None:
        left, begin = list(acts), time.monotonic()
        while not is_over.wait(0.05):
            with suppress(LogError):  # it has not been made yet
                log = SqliteEventLog(folder / "runs.db", read_only=True)
                with closing(log):
                    held.seen = max(held.seen, log.committed_seq)
                    if left and time.monotonic() >= begin + left[0]["after"]:
                        _ask(log, left.pop(0), chance)

    thread = threading.Thread(target=look_and_ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _ask(log: SqliteEventLog, act: dict[str, Any], chance: random.Random) -> None:
    if vects := [vect.id for vect in log.vects()]:
        data = {"reason": "as asked"} if act["act"] == "cancel" else {}
        with suppress(OAutomError):
            log.ask(chance.choice(vects), act["act"], **data)


class _Held:
    """What is known of a round after each of its lives."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.scenario = scenario
        self.violations: list[str] = []
        self.events: list[Event] = []
        self.seen = 0  # the number of the newest event that somebody has read
        self.replays = 0
        self._folder = folder
        self._is_pruned = False

    def say(self, violation: str) -> None:
        """Take note of a violation."""
        self.violations.append(violation)

    def look(self, number: int) -> None:
        """Hold all against each other, while no engine is alive."""
        lines = side(self._folder)  # before the log: what has begun must be there already
        try:
            events, gaps, pruned = self._read()
        except OAutomError as error:
            if self.events or self.seen or "has not been made yet" not in str(error):
                self.say(f"the log cannot be read: {error!r}")
            return
        kept = [e for e in self.events if e.vect not in pruned and not _is_skip_within(e, gaps)]
        last = self.events[-1].seq if self.events else 0
        if kept != [event for event in events if event.seq <= last]:
            self.say("the log does not extend what it was")
        newest = max([event.seq for event in events] + [gap[1] for gap in gaps], default=0)
        if newest < self.seen:
            self.say(f"event {self.seen} was read, and is gone; the newest is {newest}")
        self.events, self._is_pruned = events, bool(pruned)
        for violation in violations(events, gaps=gaps):
            self.say(f"check_history: {violation}")
        self._check_status(events)
        self._check_replays(events, number)
        self._check_lines(lines, events, pruned)
        self._check_errors(number)

    def _read(self) -> tuple[list[Event], list[tuple[int, int]], set[str]]:
        with closing(SqliteEventLog(self._folder / "runs.db", read_only=True)) as log:
            log.verify()
            return list(log.read()), log.gaps(), {vect.id for vect in log.pruned()}

    def _check_status(self, events: list[Event]) -> None:
        """What a program that closes tells of its Vects is what their events add up to."""
        states = replay(events)
        path = self._folder / "status.json"
        told = json.loads(path.read_text()) if path.exists() else {}
        for vect, status in told.items():
            if vect not in states or status != (wanted := _status(states[vect], status)):
                wanted = wanted if vect in states else None
                self.say(f"{vect} is told to be {status}, and by its events is {wanted}")

    def _check_replays(self, events: list[Event], number: int) -> None:
        """Each flow replays, but where what others have done was pruned."""
        if self._is_pruned:
            return
        workers = {self._workers(life) for life in self.scenario["lives"][: number + 1]}
        known = workers.pop() if len(workers) == 1 else None
        app = OAutom()
        declare(app, self.scenario)
        for name in {event.flow for event in events if event.step is None}:
            if all("planned" in e.data for e in events if e.flow == name):
                continue  # it has no Vect
            for max_workers in {None, known}:
                try:
                    assert_replays(events, app.flow(name), max_workers=max_workers)
                    self.replays += 1
                except ReplayDiffersError as error:
                    self.say(f"assert_replays, max_workers={max_workers}: {error}")

    def _workers(self, life: dict[str, Any]) -> int:
        return 1 if self.scenario["executor"] == "inline" else int(life["max_workers"])

    def _check_lines(self, lines: list[Any], events: list[Event], pruned: set[str]) -> None:
        for line in overlaps(self._folder):
            self.say(f"two at once: {line}")
        started = {(e.vect, e.step, e.attempt) for e in events if e.name in _BEGINNINGS}
        for line in lines:
            if (line.vect, line.step, abs(line.attempt)) not in started and line.vect not in pruned:
                self.say(f"not started in the log: {line}")

    def _check_errors(self, number: int) -> None:
        told = (self._folder / "errors").read_text()
        if self.scenario["lives"][number]["how"] == "kill":
            told = _HALF_BORN.sub("", told)
        bad = [line for line in told.splitlines() if not any(e in line for e in _EXPECTED)]
        if bad:
            self.say(f"life {number} has said: " + "\n    ".join(bad))

    def look_at_end(self) -> None:
        """Hold the end: all Vects have ended, and nothing is left at work."""
        open_vects = [v.id for v in replay(self.events).values() if v.end_date is None]
        if open_vects:
            self.say(f"still open: {open_vects}")
        if left := left_of(self._folder):
            self.say(f"left running: {left}")


_BEGINNINGS = ("step.started", "step.compensating")
"""What the log tells before work begins; a command is told a negative number of what it undoes."""

_HALF_BORN = re.compile(r"Traceback[^\n]*\n  File \"<string>\"[^\n]*(?:\n .*)*\nEOFError: .*\n?")
"""What a worker process says whose program is killed while it begins it."""

_EXPECTED = (
    "left by a dead program, was ended",
    "does not listen to context.cancelled",
    "did not end when it was cancelled",
    "a request of another process was refused",
    "it was cancelled, but is still at work",
    "after its start it has not ended",
)
"""What a program may say on standard error: each of it is told to people on purpose."""


def _is_skip_within(event: Event, gaps: list[tuple[int, int]]) -> bool:
    """Whether an event tells what a plan has skipped, and may have been pruned."""
    is_within = any(first <= event.seq <= last for first, last in gaps)
    return event.name == "plan.skipped" and is_within


def _status(state: VectState, like: dict[str, Any]) -> dict[str, Any]:
    """Return how a Vect stands by its events, in the form of `Vect.status`."""
    steps = [
        {
            "name": step.name,
            "state": step.state,
            "attempt": step.attempt,
            "start_date": step.start_date and step.start_date.isoformat(),
            "end_date": step.end_date and step.end_date.isoformat(),
            "error": step.error,
        }
        for step in state.steps.values()
    ]
    order = [each["name"] for each in like["executions"]]
    steps.sort(key=lambda step: order.index(step["name"]) if step["name"] in order else -1)
    return like | {
        "state": state.state,
        "start_date": state.start_date and state.start_date.isoformat(),
        "end_date": state.end_date and state.end_date.isoformat(),
        "executions": steps,
    }
