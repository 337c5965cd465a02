"""The example of a flow with its tests: they pass where a reader has copied it to, and can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_plugin import PLUGIN, ROOT

EXAMPLE = ROOT / "examples" / "tested_flow"
TESTS = (EXAMPLE / "test_report.py").read_text(encoding="utf-8").count("\ndef test_")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", PLUGIN)


def test_its_tests_pass(copy: Path) -> None:
    done = run(copy, *PYTEST)

    assert done.returncode == 0, done.stdout
    assert f"{TESTS} passed" in done.stdout


def test_they_notice_when_the_flow_is_changed(copy: Path) -> None:
    source = (copy / "report.py").read_text(encoding="utf-8")
    assert source.count("orders >> kept") == 1
    source = source.replace("orders >> kept", "missing >> kept")
    (copy / "report.py").write_text(source, encoding="utf-8")

    done = run(copy, *PYTEST, "--tb=line", "-k", "without_the_warehouse or kept_would")

    assert done.returncode == 1, done.stdout
    assert "2 failed" in done.stdout
    assert "then: step.started of 'archive', attempt 1; now: nothing" in done.stdout


def test_the_flow_runs_by_itself(copy: Path) -> None:
    done = run(copy, "report.py")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "success - please buy 7 apples, 1 figs\n"


def test_its_log_can_be_kept_anew(copy: Path) -> None:
    kept = (copy / "kept.jsonl").read_text(encoding="utf-8")
    done = run(copy, "test_report.py")

    again = (copy / "kept.jsonl").read_text(encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert again.count("\n") == kept.count("\n")
    assert again != kept  # it tells of another time
