"""What is published: the archive of the sources, and the wheel that is made of it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OF_USERS = ("oautom", "_oautom_cli.py", "_oautom_pytestplugin.py")


def _files(*under: str) -> set[str]:
    """Return the files of the repository; without git, all there are."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *under], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        return set(listed.stdout.splitlines())
    paths = (path for each in under for path in [ROOT / each, *(ROOT / each).rglob("*")])
    names = (path.relative_to(ROOT).as_posix() for path in paths if path.is_file())
    return {name for name in names if "__pycache__" not in name}


def test_the_wheel_made_of_the_published_sources_has_all_that_users_need(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")

    def build(what: str, of: Path) -> Path:
        made = tmp_path / what
        command = [sys.executable, "-m", "build", "--no-isolation", f"--{what}", "--outdir", made]
        subprocess.run([*command, of], check=True, capture_output=True, timeout=60)
        return next(made.iterdir())

    with tarfile.open(build("sdist", ROOT)) as archive:
        archive.extractall(tmp_path / "sources", filter="data")
    with zipfile.ZipFile(build("wheel", next((tmp_path / "sources").iterdir()))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        told = next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
        entries = wheel.read(told).decode()
    assert names == _files(*OF_USERS)
    assert "oautom/web/templates/base.html" in names
    assert "_oautom_cli:main" in entries
