"""A program that is killed while it makes its log makes it the next time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from oautom import LogError
from oautom.events.sqlite import SqliteEventLog

from .harness import IS_LONG

# What SQLite writes before it changes a file, to take the change back: here, of an empty file.
_JOURNAL_OF_NOTHING = struct.pack(
    ">8s5I", bytes.fromhex("d9d505f920a163d7"), 0, 1, 0, 512, 4096
).ljust(512, b"\0")


def half_made(folder: Path) -> Path:
    """Return a log whose maker died after the first page, before it could be sure of it."""
    path = folder / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    (folder / "runs.db-journal").write_bytes(_JOURNAL_OF_NOTHING)
    return path


def test_a_log_that_was_half_made_is_made(tmp_path: Path) -> None:
    with closing(SqliteEventLog(half_made(tmp_path))) as log:
        log.verify()
        assert log.last_seq == 0


def test_a_log_that_was_half_made_cannot_be_read_yet(tmp_path: Path) -> None:
    path = half_made(tmp_path)
    with pytest.raises(LogError, match="has not been made yet; open it for writing first"):
        SqliteEventLog(path, read_only=True)
    assert path.stat().st_size > 0


def test_a_log_can_be_made_wherever_its_maker_was_killed_before(tmp_path: Path) -> None:
    """By the n-th call of the system that writes or removes something, for all n in the long form.

    In the short form, two of these fall between the first page and the end of its journal.
    """
    if (strace := shutil.which("strace")) is None:
        pytest.skip("strace kills a program at a call of the system")
    calls = "pwrite64,fdatasync,fsync,unlink,ftruncate"
    source = "from oautom.events.sqlite import SqliteEventLog as S; S('runs.db').close()"
    for n in range(1, 200) if IS_LONG else (4, 9, 14):
        folder = tmp_path / str(n)
        folder.mkdir()
        inject = f"inject={calls}:signal=SIGKILL:when={n}"
        options = ["-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", inject]
        done = subprocess.run(
            [strace, *options, sys.executable, "-B", "-c", source], cwd=folder, capture_output=True
        )
        if done.returncode == 1 and b"ptrace" in done.stderr:
            pytest.skip("this system lets nobody trace a program")
        with closing(SqliteEventLog(folder / "runs.db")) as log:
            log.verify()
        if done.returncode == 0:
            break
    assert 10 < n < 190  # it has come to its end
