"""A follower in another process: how far behind it is, and how often it reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oautom import Flow, OAutom, PythonExecution
from oautom.client import follow as following

# It sleeps until it is told to wake up, so that the test knows what it has seen by then.
FOLLOWER = """
import sys
from oautom import Client
from oautom.client import follow
from oautom.events.sqlite import SqliteEventLog

reads, real_read = [], SqliteEventLog.read

def read(*args, **kwargs):
    reads.append(args)
    return real_read(*args, **kwargs)

SqliteEventLog.read = read

def sleep(seconds):
    print("sleeps", seconds, len(reads), flush=True)
    reads.clear()
    if not sys.stdin.readline():
        sys.exit()

follow.sleep = sleep
for event in Client(sys.argv[1]).follow():
    print(event.seq, flush=True)
"""


@contextmanager
def child(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def test_a_follower_has_each_event_when_it_wakes_up_the_next_time(tmp_path: Path) -> None:
    """And it sleeps less than a tenth of a second: so it is never further behind than that."""
    path = tmp_path / "runs.db"
    with OAutom(log=path, executor="inline") as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, int)
        app.run(flow)
        with child(FOLLOWER, path) as follower:
            assert follower.stdin is not None
            assert follower.stdout is not None
            seen: list[int] = []
            for number in range(20):
                for line in follower.stdout:
                    if line.startswith("sleeps"):
                        _, seconds, reads = line.split()
                        assert float(seconds) < 0.1
                        assert int(reads) <= 2  # what is new, and that there is no more
                        break
                    seen.append(int(line))
                assert seen == list(range(1, app.log.committed_seq + 1)), number
                app.run(flow)
                follower.stdin.write("\n")
                follower.stdin.flush()


def test_a_change_that_leaves_the_time_of_the_file_is_seen_though_nobody_looked_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits may leave the same time and size, and who looks may not get the processor."""
    path = tmp_path / "runs.db"
    now = 1000.0
    monkeypatch.setattr(following, "monotonic", lambda: now)
    with OAutom(log=path, executor="inline") as app:
        PythonExecution("step", Flow("flow", app), int)
        app.run("flow")
        news = following.News(app.log)
        assert news.are_there()
        now += 5.0  # another commit may have come right after that look
        assert news.are_there()
        assert not news.are_there()
