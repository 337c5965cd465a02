"""A Dask cluster on hosts of its own, whose supervisor begins again whatever has died."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .hosts import Hosts, hosts

SCHEDULER = "scheduler"
PROGRAM = "program"
PORT = 8786
THREADS = 2
LOST_AFTER = "11s"
"""How long a connection may be silent, which is less than a network is cut; Dask allows no less."""

_LOOK = Path(__file__).with_name("look.py")
_SUPERVISED_EACH = 0.05


class Death(NamedTuple):
    """A process of the cluster that has ended, whoever has ended it."""

    host: str
    pid: int
    time: float


class Span(NamedTuple):
    """When the cluster was disturbed such that work may go on that it holds to be lost."""

    begin: float
    end: float


class Cluster:
    """A scheduler and workers that are supervised.

    Args:
        hosts: What they run on.
        workers: The names of the hosts of the workers.
        hidden: The folders that they do not see.
        said: Where what they say is written.

    Attributes:
        deaths: Of processes, in order.
        kills: How many processes were killed here.
        disturbed: When the scheduler was gone, or a network was cut.
    """

    def __init__(
        self, hosts: Hosts, workers: Sequence[str], hidden: Sequence[Path], said: Path
    ) -> None:
        self.hosts = hosts
        self.address = f"tcp://{hosts.addresses[SCHEDULER]}:{PORT}"
        self.workers = workers
        self.deaths: list[Death] = []
        self.kills = 0
        self.disturbed: list[Span] = []
        self._hidden = hidden
        self._said = said
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._held_back: set[str] = set()
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        for host in (SCHEDULER, *workers):
            self._begin(host)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def _begin(self, host: str) -> None:
        if host == SCHEDULER:
            arguments = ["-m", "distributed.cli.dask_scheduler", "--port", str(PORT)]
        else:
            arguments = ["-m", "distributed.cli.dask_worker", self.address, "--no-nanny"]
            arguments += ["--nthreads", str(THREADS), "--memory-limit", "0"]
            arguments += ["--local-directory", str(self._said / f"{host}.scratch")]
        arguments += ["--host", self.hosts.addresses[host], "--no-dashboard"]
        with (self._said / f"{host}.said").open("ab") as said:
            self._processes[host] = self.hosts.run(
                host, *arguments, hidden=self._hidden, env=settings(), stdout=said, stderr=said
            )

    def _supervise(self) -> None:
        while not self._is_over.wait(_SUPERVISED_EACH):
            with self._lock:
                for host, process in self._processes.items():
                    if host not in self._held_back and process.poll() is not None:
                        self.deaths.append(Death(host, process.pid, time.monotonic()))
                        self._begin(host)

    def kill(self, host: str, seconds: float = 0.0) -> None:
        """Kill the process of a host, which is gone for so many seconds at least."""
        with self._lock:
            self._held_back.add(host)
            process = self._processes[host]
            begin = time.monotonic()
            process.kill()
            process.wait()
            self.kills += 1
        time.sleep(seconds)
        with self._lock:
            self._held_back.discard(host)
        if host == SCHEDULER:  # the workers end when they notice, and their threads later still
            self.disturbed.append(Span(begin, time.monotonic() + _AFTERMATH))

    def kill_one(self, chance: random.Random) -> None:
        """Kill a worker."""
        self.kill(chance.choice(self.workers))

    def cut(self, host: str, seconds: float) -> None:
        """Cut the network of a host for so many seconds."""
        begin = time.monotonic()
        self.hosts.cut(host)
        try:
            time.sleep(seconds)
        finally:
            self.hosts.heal(host)
            self.disturbed.append(Span(begin, time.monotonic() + _AFTERMATH))

    def end(self) -> None:
        """Begin nothing again from now on; the hosts end what runs."""
        self._is_over.set()
        self._thread.join()

    def look(self) -> dict[str, Any]:
        """Return how the scheduler stands, seen from the host of the program."""
        process = self.hosts.run(
            PROGRAM,
            str(_LOOK),
            self.address,
            env=settings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        try:
            found = json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            found = None
        return found if isinstance(found, dict) else {"said": said.decode(errors="replace")}


_AFTERMATH = 15.0
"""Seconds after a disturbance in which lost work may go on beside the attempt after it."""


def settings() -> dict[str, str]:
    """Return the settings of Dask, for its processes and for the program."""
    return {
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": LOST_AFTER,
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",  # it looks a hundred times a second
    }


@contextmanager
def cluster(folder: Path, workers: int, hidden: Sequence[Path] = ()) -> Iterator[Cluster]:
    """Run a cluster in a folder until the block ends, then leave nothing of it."""
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    with hosts([SCHEDULER, PROGRAM, *names], folder / "hosts") as made:
        said = folder / "said"
        said.mkdir()
        with ExitStack() as stack:
            running = Cluster(made, names, hidden, said)
            stack.callback(running.end)
            yield running


def until_gone(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of a process; return False if it goes on."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None
