"""The hosts that a cluster runs on: what one of them sees, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from .hosts import Hosts, Namespaces, _spaces, hosts, lack

SECONDS = 20

SEES = """
import json, os, sys
import oautom
seen = [each for each in sys.argv[1:] if os.path.isdir(each) and os.listdir(each)]
print(json.dumps([os.getcwd(), os.listdir(), seen, sorted(os.environ)]))
"""

LISTENS = """
import socket, sys
with socket.create_server((sys.argv[1], 8786)) as server:
    print("listens", flush=True)
    while True:
        caller, _ = server.accept()
        with caller:
            caller.sendall(caller.recv(9) * 2)
"""

CALLS = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 8786), timeout=float(sys.argv[2])) as caller:
        caller.sendall(b"a word ")
        print(caller.recv(99).decode(), caller.getsockname()[0])
except TimeoutError:
    print("silence")
"""

needs_namespaces = pytest.mark.skipif(lack() is not None, reason=str(lack()))


def said(host: str, *arguments: str, made: Hosts, hidden: Sequence[Path] = ()) -> str:
    process = made.run(
        host, "-c", *arguments, hidden=hidden, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return process.communicate(timeout=SECONDS)[0].decode().strip()


def listening(made: Hosts, host: str) -> subprocess.Popen[bytes]:
    process = made.run(host, "-c", LISTENS, made.addresses[host], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"listens\n"
    return process


def test_a_host_has_an_address_a_folder_and_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTOM_MARK", "of the test")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").touch()
    with hosts(["a", "b"], tmp_path / "hosts") as made:
        found: list[Any] = json.loads(said("a", SEES, str(secret), made=made, hidden=[secret]))
        listening(made, "b")
        answer = said("a", CALLS, made.addresses["b"], str(SECONDS), made=made)

    cwd, files, seen, environment = found
    assert (cwd, files) == (str(tmp_path / "hosts" / "a"), [])
    assert not any(name.startswith("OAUTOM") for name in environment)
    assert seen == ([] if made.lacks is None else [str(secret)])
    assert answer.startswith("a word a word")
    assert len(set(made.addresses.values())) == 2
    assert (secret / "file").exists()


@needs_namespaces
def test_a_host_is_cut_off_and_reached_again(tmp_path: Path) -> None:
    with hosts(["a", "b"], tmp_path / "hosts") as made:
        listening(made, "b")
        address = made.addresses["b"]
        before = said("a", CALLS, address, str(SECONDS), made=made)
        made.cut("b")
        meanwhile = said("a", CALLS, address, "0.3", made=made)
        made.heal("b")
        after = said("a", CALLS, address, str(SECONDS), made=made)

    talk = f"a word a word  {made.addresses['a']}"
    assert (before, meanwhile, after) == (talk, "silence", talk)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_hosts_whatever_ends_their_block(
    tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(group: int, number: int, killpg: Callable[[int, int], None] = os.killpg) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C once more
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", kill)
    with suppress(error), hosts(["a"], tmp_path / "hosts") as made:
        process = listening(made, "a")
        raise error

    assert not psutil.pid_exists(process.pid)
    if isinstance(made, Namespaces):
        assert not [space for space in _spaces() if space.startswith(f"{made.prefix}-")]


def test_without_namespaces_hosts_are_addresses_of_the_loopback_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with hosts(["a", "b"], tmp_path / "hosts") as made, hosts(["a"], tmp_path / "more") as more:
        listening(made, "b")
        listening(more, "a")
        answer = said("a", CALLS, made.addresses["b"], str(SECONDS), made=made)

    assert answer.startswith("a word a word")
    assert made.lacks is not None
    assert made.lacks.startswith("namespaces need ")
