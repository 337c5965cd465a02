"""Hosts for the processes of a test: each has an address, a folder and an environment of its own.

As root they are network namespaces, joined by a bridge in one more namespace: nothing of it is seen
in the network of the machine, so tests side by side cannot meet. A host does not see the folders
that are hidden from it, and its network can be cut. Where namespaces cannot be made, hosts are
addresses of the loopback device: all files are seen then, and nothing can be cut.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

import psutil

import oautom

_PREFIX = "oautom"
_BRIDGE = "bridge"
_COMMANDS = ("ip", "unshare")
_numbers = count()

# `unshare` and `ip netns exec` become what they run, so that its id is that of the process made.
_ON_HOST = """
while [ "$1" != -- ]; do mount -t tmpfs -o size=1m hidden "$1" || exit 1; shift; done; shift
cd "$1" && shift && exec "$@"
"""


class Hosts:
    """Hosts by name, and the processes that run on them.

    Args:
        names: The names of the hosts.
        folder: Where each host has its own folder, which is empty at first.
        hidden: Folders that hosts do not see, besides those that are told at `run`.

    Attributes:
        lacks: Why the hosts are no namespaces; None if they are.
    """

    lacks: str | None = None

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.addresses = self._addressed(names)
        self.folders = {name: folder / name for name in names}
        self._site = folder / "site"
        self._site.mkdir(parents=True)
        # The package alone, and not the tests that lie beside it.
        (self._site / "oautom").symlink_to(Path(oautom.__file__).parent)
        self._processes: list[subprocess.Popen[bytes]] = []
        for each in self.folders.values():
            each.mkdir()

    def _addressed(self, names: Sequence[str]) -> dict[str, str]:
        # No two processes of a machine have one id, so no port is taken.
        number = os.getpid() * 8 + next(_numbers)
        net = f"127.{1 + (number >> 16) % 250}.{(number >> 8) % 256}"
        first = number % 8 * 16 + 1
        return {name: f"{net}.{first + place}" for place, name in enumerate(names)}

    def environment(self, host: str) -> dict[str, str]:
        """Return the environment of a host, which has nothing of that of the test."""
        return {
            "HOME": str(self.folders[host]),
            "HOST": host,
            "LANG": "C.UTF-8",
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self._site),
        }

    def run(
        self,
        host: str,
        *arguments: str,
        cwd: Path | None = None,
        hidden: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Run Python with arguments on a host; it is ended with the hosts at the latest."""
        cwd = cwd or self.folders[host]
        process = subprocess.Popen(
            self._command(host, cwd, hidden, [sys.executable, *arguments]),
            cwd=cwd,
            env=self.environment(host) | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def _command(
        self, host: str, cwd: Path, hidden: Sequence[Path], command: Sequence[str]
    ) -> Sequence[str]:
        return command

    def cut(self, host: str) -> None:
        """Lose whatever is sent to a host, or by it, without a word to anybody."""
        raise NotImplementedError(self.lacks)

    def heal(self, host: str) -> None:
        """Undo `cut`."""
        raise NotImplementedError(self.lacks)

    def end(self) -> None:
        """End all processes, and remove the hosts; Ctrl-C does not end that halfway."""
        with _undisturbed():
            self._end()

    def _end(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        for process in self._processes:
            process.wait()


class Namespaces(Hosts):
    """Hosts that are network namespaces."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.prefix = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        super().__init__(names, folder)
        self._sweep()
        try:
            self._build()
        except BaseException:
            self.end()
            raise

    def _addressed(self, names: Sequence[str]) -> dict[str, str]:
        return {name: f"10.18.0.{place}" for place, name in enumerate(names, 1)}

    def _space(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _build(self) -> None:
        switch = self._space(_BRIDGE)
        _ip("netns", "add", switch)
        # Stopping floods of unknown addresses takes seconds until a port that is new is open.
        _ip("-n", switch, "link", "add", "name", _BRIDGE, "type", "bridge", "forward_delay", "0")
        _ip("-n", switch, "link", "set", _BRIDGE, "up")
        for number, (name, address) in enumerate(self.addresses.items()):
            space, port = self._space(name), f"port{number}"
            _ip("netns", "add", space)
            pair = ("type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", switch, "link", "add", "name", port, *pair)
            _ip("-n", switch, "link", "set", port, "master", _BRIDGE, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def _command(
        self, host: str, cwd: Path, hidden: Sequence[Path], command: Sequence[str]
    ) -> Sequence[str]:
        # By their paths: that of the environment of a host is a short one.
        ip, unshare = (str(shutil.which(each)) for each in _COMMANDS)
        alone = (unshare, "--mount", "--propagation", "private", "sh", "-c", _ON_HOST, "host")
        folders = (str(each) for each in hidden)
        on_host = (ip, "netns", "exec", self._space(host), *alone)
        return (*on_host, *folders, "--", str(cwd), *command)

    def _port(self, host: str) -> str:
        return f"port{list(self.addresses).index(host)}"

    def cut(self, host: str) -> None:
        # A port that is down would be noticed by the host, as a pulled cable is.
        _ip("-n", self._space(_BRIDGE), "link", "set", self._port(host), "nomaster")

    def heal(self, host: str) -> None:
        _ip("-n", self._space(_BRIDGE), "link", "set", self._port(host), "master", _BRIDGE)

    def _end(self) -> None:
        super()._end()
        _remove(space for space in _spaces() if space.startswith(f"{self.prefix}-"))

    def _sweep(self) -> None:
        """Remove what tests have left that were killed."""
        for space in _spaces():
            pid = space.split("-")[1]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                with suppress(OSError):  # another test removes it just now
                    _remove([space])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM, in what is run meanwhile too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def _remove(spaces: Iterator[str] | Sequence[str]) -> None:
    for space in spaces:
        for pid in _ip("netns", "pids", space).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        _ip("netns", "del", space)


def _spaces() -> list[str]:
    words = (line.split() for line in _ip("netns", "list").splitlines())
    return [first for first, *_ in words if first.startswith(f"{_PREFIX}-")]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def lack() -> str | None:
    """Return why namespaces cannot be made here; None if that is not known."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    return f"namespaces need {' and '.join(missing)}" if missing else None


@contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[Hosts]:
    """Make hosts with these names, and end whatever runs on them in any case."""
    lacks, made = lack(), None
    if lacks is None:
        try:
            made = Namespaces(names, folder)
        except OSError as error:  # root in a container, which may not
            lacks = str(error)
            shutil.rmtree(folder)
    if made is None:
        made = Hosts(names, folder)
        made.lacks = lacks
    with ExitStack() as stack:
        stack.callback(made.end)
        yield made
