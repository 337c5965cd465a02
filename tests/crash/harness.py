"""Kills a program again and again, has it run again until it is done, and looks at what it left."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from oautom import Event, LogError
from oautom.events.sqlite import SqliteEventLog

from .checks import Evidence, marked
from .people import attended
from .plans import Plan

PROGRAM = Path(__file__).with_name("program.py")
MARK = "OAUTOM_CRASH_TEST"
IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))  # as `make crash` has it
PHASES = ("begun", "opened", "recovered", "started")

# Of a life that nobody kills; on a loaded machine much is slow, and none of these plans is long.
END_SECONDS = 60.0


def until(is_true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + END_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def left_of(folder: Path) -> list[list[str]]:
    """Return the commands that still run of an engine that has worked in a folder."""
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        return [process.cmdline() for process in marked("OAUTOM_LOG", log.id)]


def few(*values: Any, more: Sequence[Any] = ()) -> list[Any]:
    """Return cases for a test, with more of them in the long form."""
    return [*values, *(more if IS_LONG else ())]


class Kill(NamedTuple):
    """When a program is killed: so many seconds after it has told a phase."""

    phase: str
    seconds: float


def drawn_kills(chance: random.Random) -> list[Kill]:
    """Return when each life ends; after the last, one goes on to the end."""
    spans = (0.003, 0.03, 0.3, 1.0)
    return [
        Kill(chance.choice((*PHASES, "started")), chance.random() * chance.choice(spans))
        for _ in range(chance.randint(1, 5))
    ]


class Life:
    """The program, once."""

    def __init__(self, folder: Path, *arguments: str, program: Path = PROGRAM) -> None:
        errors = folder / "errors"
        errors.unlink(missing_ok=True)  # a worker of the life before may still write to the other
        self._errors = open(errors, "wb")  # noqa: SIM115 - closed when it ends
        self.process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            cwd=folder,
            env=os.environ | {MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self.told: list[str] = []

    def wait_for(self, phase: str, seconds: float = END_SECONDS) -> bool:
        """Wait until a phase is told; False when the program ends first, or the time is up."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while phase not in self.told:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                return False
            chunk = os.read(self.process.stdout.fileno(), 4096)
            if not chunk:
                return False
            self.told += chunk.decode().split()
        return True

    def kill_at(self, kill: Kill) -> bool:
        """Kill the program; False when it had ended before."""
        if self.wait_for(kill.phase):
            time.sleep(kill.seconds)
        had_ended = self.process.poll() is not None
        self.kill()
        return not had_ended

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self, seconds: float = END_SECONDS) -> int:
        """Wait for the end of the program and return its exit code."""
        try:
            code = self.process.wait(seconds)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self._errors.close()
        return code


def begin(program: Path, folder: Path, **settings: Any) -> Life:
    """Run another program, which reads its settings from a file, in a folder."""
    (folder / "settings.json").write_text(json.dumps(settings))
    return Life(folder, "settings.json", program=program)


def events_of(folder: Path) -> list[Event]:
    """Return what is in the log of a folder, which must be whole; nothing before it is made."""
    try:
        with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
            log.verify()
            return list(log.read())
    except LogError as error:
        if "has not been made yet" not in str(error):
            raise
        return []


@contextmanager
def swept(folder: Path) -> Iterator[Path]:
    """Give a folder for a run, and leave no process of it, whatever happens."""
    (folder / "locks").mkdir(parents=True)
    try:
        yield folder
    finally:
        sweep(folder)


def sweep(folder: Path) -> None:
    """End all processes of the runs in a folder."""
    while left := marked(MARK, str(folder)):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


class Result(NamedTuple):
    """What came of a run."""

    lives: int
    kills: int
    violations: list[str]


def run(folder: Path, plan: Plan, kills: list[Kill]) -> Result:
    """Run a plan in a folder, with these kills."""
    with swept(folder):
        (folder / "plan.json").write_text(json.dumps(plan))
        evidence = Evidence(folder, plan)
        killed = lives = 0
        with attended(folder, plan):
            for kill in kills:
                life = Life(folder, "plan.json")
                lives += 1
                was_killed = life.kill_at(kill)
                killed += was_killed
                evidence.look()
                if not was_killed and life.process.returncode != 0:
                    evidence.violations.append(f"a life has failed: {_errors(folder)}")
            finish(folder, evidence, "plan.json")
        return Result(lives + 1, killed, evidence.violations)


def finish(folder: Path, evidence: Evidence, *arguments: str) -> None:
    """Have the program come to its end, and hold that against what was to come."""
    life = Life(folder, *arguments)
    is_done = life.wait_for("done")
    try:
        code = life.end(END_SECONDS if is_done else 5)
    except subprocess.TimeoutExpired:
        evidence.violations.append(f"not done in {END_SECONDS} s: {life.told}")
        life.kill()
        code = -signal.SIGKILL
    if is_done:
        evidence.look_at_end()
    else:
        evidence.look()
    if code != 0 or _errors(folder):
        evidence.violations.append(f"the last life ended with code {code}: {_errors(folder)}")


_EXPECTED = (
    "left by a dead program, was ended",
    "a request of another process was refused",  # what it concerns was cancelled meanwhile
    "does not listen to context.cancelled",
    "did not end when it was cancelled",
    "after its start it has not ended",
)


def _errors(folder: Path) -> str:
    """Return what the program has told people, but for what a recovery says that it ended."""
    lines = (folder / "errors").read_text().splitlines()
    return "\n".join(line for line in lines if not any(told in line for told in _EXPECTED))


def campaign(
    folder: Path, seed: int, rounds: int, draw: Callable[[int], Plan], tell: Callable[[str], None]
) -> Iterator[tuple[int, Result]]:
    """Run a round for each seed from `seed` on; keep the folder of one with violations."""
    for each in range(seed, seed + rounds):
        place = folder / f"seed-{each}"
        result = run(place, draw(each), drawn_kills(random.Random(f"kills {each}")))
        if result.violations:
            tell(f"seed {each}: {place}")
            for violation in result.violations:
                tell(f"  {violation}")
        else:
            shutil.rmtree(place)
        yield each, result
