"""The wake-up of an engine by other processes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from oautom.events.sqlite import wakeup

SECONDS = 10.0


def test_when_it_is_closed_nobody_looks_at_the_file_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a log that was closed makes its side files anew, in a folder that is being removed."""
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.01)
    looking, go_on, is_looking = threading.Event(), threading.Event(), []

    def is_asked() -> bool:
        is_looking.append(True)
        looking.set()
        go_on.wait(SECONDS)
        is_looking.clear()
        return False

    (path := tmp_path / "log.db").touch()
    listening = wakeup.Wakeup(path, lambda: None, is_asked)
    assert looking.wait(SECONDS)
    threading.Timer(0.05, go_on.set).start()
    listening.close()
    assert is_looking == []
