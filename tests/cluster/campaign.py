"""Campaigns: flows run on a cluster of which parts die again and again, then all is checked."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from .checks import Figures, figures, logged, side, wrong
from .cluster import PROGRAM, SCHEDULER, THREADS, Cluster, cluster, settings, until_gone
from .plans import Plan, seconds

WORKERS = 3
KILLED_EACH = 2.0
"""Seconds between two kills of workers."""
KILLS = 20
"""How often the program is killed, but for those that are killed once more in their recovery."""
GONE_SECONDS = 3.0
"""How long there is no scheduler."""
CUT_SECONDS = 20.0
_MOMENT = 0.1
_NEVER = 2.0
_REPOSITORY = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("program.py")


class Result(NamedTuple):
    """What came of a campaign.

    Attributes:
        where: What the hosts were.
        seconds: From the first start of the program to its end.
        kills: Of workers, schedulers and programs.
        cuts: Of networks.
        deaths: Processes of the cluster that have ended, killed or by themselves.
        figures: What the log and the workers tell.
        megabytes: Of memory that the program had, as time went on.
        violations: What is wrong.
    """

    where: str
    seconds: float
    kills: int
    cuts: int
    deaths: int
    figures: Figures
    megabytes: list[float]
    violations: list[str]


class Run:
    """A program and a cluster while a campaign goes on.

    Args:
        cluster: The cluster.
        folder: That of the program, where its log is.
        evidence: Where the workers say what they do.
        plan: What there is to do.
        deadline: When all must be done, by the monotonic clock.
    """

    def __init__(
        self, cluster: Cluster, folder: Path, evidence: Path, plan: Plan, deadline: float
    ) -> None:
        self.cluster = cluster
        self.cuts = self.kills = 0
        self.megabytes: list[float] = []
        self.violations: list[str] = []
        self._folder = folder
        self._evidence = evidence
        self._steps = sum(len(steps) for steps in plan["flows"].values())
        self._deadline = deadline
        self.begin()

    def begin(self) -> None:
        """Run the program, which goes on with what was left."""
        with (self._folder / "said").open("ab") as said:
            self._program = self.cluster.hosts.run(
                PROGRAM,
                str(self._folder / _SCRIPT.name),
                "plan.json",
                cwd=self._folder,
                env=settings(),
                stdout=said,
                stderr=said,
            )

    @property
    def progress(self) -> float:
        """The share of the steps that has been done, roughly."""
        path = self._evidence / "side"
        return path.read_bytes().count(b"end\t") / self._steps if path.exists() else 0.0

    def goes_on(self, seconds: float, until: float) -> bool:
        """Let time pass; return False when the program has ended, or got as far as `until`."""
        over = time.monotonic() + seconds
        while (left := over - time.monotonic()) > 0:
            if time.monotonic() > self._deadline:
                raise TimeoutError
            if until_gone(self._program, min(left, _MOMENT)) or self.progress >= until:
                return False
        self._weigh()
        return True

    def gets_to(self, progress: float) -> bool:
        """Wait until so much is done; return False when the program has ended before."""
        while self.goes_on(_MOMENT, progress):
            pass
        return self.progress >= progress

    def _weigh(self) -> None:
        with suppress(psutil.NoSuchProcess):
            weight = psutil.Process(self._program.pid).memory_info().rss / 1e6
            self.megabytes += [weight] if weight else []  # one that has ended has none

    def kill_program(self, meanwhile: Callable[[], object]) -> None:
        """Kill the program and run it again, and do something in between."""
        if self._program.poll() is None:
            self._program.kill()
            self._program.wait()
            self.kills += 1
            meanwhile()
            self.begin()

    def cut(self, host: str) -> None:
        """Cut the network of a host for a while, if there is one."""
        if self.cluster.hosts.lacks is None:
            self.cluster.cut(host, CUT_SECONDS)
            self.cuts += 1

    def end(self) -> None:
        """Wait for the end of the program."""
        self.gets_to(_NEVER)
        if self._program.returncode != 0:
            self.violations.append(f"the program ended with code {self._program.returncode}")
        self.violations += _said(self._folder)

    def tell_stacks(self) -> str:
        """Return where the program hangs, and how the scheduler stands."""
        if self._program.poll() is None:
            self._program.send_signal(signal.SIGUSR1)
            time.sleep(1)
        said = (self._folder / "said").read_text()
        return f"{said}\nscheduler: {json.dumps(self.cluster.look(), indent=1)}"


_PHASES = ("started", "ended", "done")
_EXPECTED = (
    "a dead program has left it",
    "distributed.client - ERROR - Failed to reconnect to scheduler",  # and oautom goes on trying
)
"""What a program may say: each of it is told to people on purpose."""


def _said(folder: Path) -> list[str]:
    lines = (folder / "said").read_text().splitlines()
    told = [line for line in lines if line not in _PHASES]
    bad = [line for line in told if not any(expected in line for expected in _EXPECTED)]
    return ["the program has said: " + "\n    ".join(bad)] if bad else []


Disturb = Callable[[Run, random.Random], None]


def all_of_the_cluster(run: Run, chance: random.Random) -> None:
    """Kill workers all the time, then the scheduler, then cut the network of two hosts."""
    _kill_workers(run, chance, 0.4)
    run.cluster.kill(SCHEDULER, GONE_SECONDS)
    _kill_workers(run, chance, 0.6)
    run.cut(chance.choice(run.cluster.workers))
    _kill_workers(run, chance, 0.8)
    run.cut(PROGRAM)
    _kill_workers(run, chance, 1.0)


def _kill_workers(run: Run, chance: random.Random, until: float) -> None:
    while run.goes_on(KILLED_EACH, until):
        run.cluster.kill_one(chance)


def the_program(run: Run, chance: random.Random) -> None:
    """Kill the program now and then, some of its lives soon after they began."""

    def kill_worker() -> None:
        if chance.random() < 0.3:
            run.cluster.kill_one(chance)

    for progress in sorted(chance.uniform(0.0, 0.95) for _ in range(KILLS)):
        if run.gets_to(progress):
            run.kill_program(kill_worker)
            if chance.random() < 0.4 and run.goes_on(chance.uniform(0.0, 4.0), _NEVER):
                run.kill_program(kill_worker)


class Scenario(NamedTuple):
    """What dies, and how long a step takes that goes on in what is left meanwhile.

    A worker lives for six seconds, and a step fails that ten of them have died of; the next life of
    a program begins after two.
    """

    disturb: Disturb
    rarely_seconds: float


SCENARIOS = {
    "cluster": Scenario(all_of_the_cluster, 2.0),
    "program": Scenario(the_program, 8.0),
}


@contextmanager
def _running(folder: Path, plan: Plan) -> Iterator[Run]:
    program, evidence = folder / "program", folder / "evidence"
    program.mkdir(parents=True)
    evidence.mkdir()
    shutil.copy(_SCRIPT, program)
    with cluster(folder, WORKERS, [program, _REPOSITORY / "tests"]) as running:
        told = plan | {"address": running.address, "evidence": str(evidence)}
        (program / "plan.json").write_text(json.dumps(told))
        deadline = time.monotonic() + 120 + 6 * seconds(plan) / (WORKERS * THREADS)
        yield Run(running, program, evidence, plan, deadline)


def campaign(folder: Path, plan: Plan, disturb: Disturb, seed: int) -> Result:
    """Run a plan in a folder on a cluster that is disturbed, and check what is left."""
    with _running(folder, plan) as run:
        begin = time.monotonic()
        try:
            disturb(run, random.Random(seed))
            run.end()
        except TimeoutError:
            run.violations.append(f"it hangs: {run.tell_stacks()}")
        took = time.monotonic() - begin
        lines = side(folder / "evidence")  # before the log: what has begun must be there already
        events = logged(folder / "program")
        violations = run.violations + wrong(plan, events, lines, run.cluster.disturbed)
        violations += _left(run.cluster)
        return Result(
            run.cluster.hosts.lacks or "namespaces",
            took,
            run.kills + run.cluster.kills,
            run.cuts,
            len(run.cluster.deaths),
            figures(events, lines),
            run.megabytes,
            violations,
        )


def _left(cluster: Cluster) -> list[str]:
    """Return what a scheduler has kept of work that is over."""
    found = cluster.look()
    left = [found.get(each) for each in ("tasks", "claims", "programs")]
    return [] if left == [{}, 0, 0] else [f"left on the scheduler: {found}"]
