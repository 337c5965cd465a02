"""Command lines as a person types them, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from oautom.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60

PIPELINE = """
import sys
from oautom import BashExecution, Flow, OAutom, Param, PythonExecution

app = OAutom()
numbers = Param(list[int] | None, None)
etl = Flow("etl", app, params={"day": str, "numbers": numbers}, description="Loads a day.")


def extract(day: str, numbers: list[int] | None) -> list[int]:
    print("extracting", day)
    return numbers or [1, 2]


first = PythonExecution("extract", etl, extract, args=(etl.param("day"), etl.param("numbers")))
first >> BashExecution("load", etl, 'test "$DAY" != bad', env={"DAY": etl.param("day")})
slow = Flow("slow", app)
BashExecution("sleep", slow, "sleep 30")


def make() -> OAutom:
    made = OAutom("background")
    PythonExecution("step", Flow("made", made), print)
    return made
"""

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a program that finds this oautom, and an `oautom` on its PATH."""
    program = folder / "bin" / "oautom"
    if not program.exists():
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m oautom "$@"\n')
        program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs `oautom` with arguments, beside a `pipeline.py`."""
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    env = environment(tmp_path)

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["oautom", *arguments],
            cwd=tmp_path,
            env=env | more,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return call


class Said(NamedTuple):
    """What came of a command line."""

    code: object
    stdout: str
    stderr: str


Inside = Callable[..., Said]


@contextmanager
def _imports_undone() -> Iterator[None]:
    """Forget the modules that are imported meanwhile from files named on a command line."""
    path, names = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - names:
            if name.startswith(("_oautom_pipeline", "pipeline")):
                del sys.modules[name]


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Inside:
    """Does what `oautom` with arguments does, in this process: a hundred times as fast.

    Not for what a process is needed for: what steps print with `--json`, signals, a terminal.
    """
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OAUTOM_FILE", raising=False)

    def call(*arguments: str, **env: str) -> Said:
        capsys.readouterr()
        with monkeypatch.context() as more, _imports_undone():
            for name, value in env.items():
                more.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main(arguments)
        return Said(end.value.code, *capsys.readouterr())

    return call
