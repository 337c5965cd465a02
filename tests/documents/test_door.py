"""The door for newcomers: what the documents say of the heart, the tests and the commands."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from oautom import EventLog, MemoryEventLog
from oautom.engine.scheduler import Scheduler

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_HEART = {"__init__.py", "explain.py", "wording.py"}
"""In `oautom/machine`: it explains what the heart does."""


def heart(*arguments: str) -> str:
    command = [sys.executable, "-m", "tools.heart", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_readme_lists_the_whole_heart_and_nothing_else():
    machine = {path for path in ROOT.glob("oautom/machine/*.py") if path.name not in NOT_HEART}
    others = {Path(inspect.getsourcefile(each)) for each in (EventLog, MemoryEventLog, Scheduler)}
    listed = heart("--files").strip().split(",")
    assert len(set(listed)) == len(listed)
    assert {ROOT / path for path in listed} == machine | others


def test_readme_says_how_many_lines_the_heart_has():
    (said,) = re.findall(r"The heart is ([\d,]+) lines of code", README)
    *rows, last = heart().splitlines()
    counted = int(last.split()[-1])
    assert counted == sum(int(row.split()[-1]) for row in rows)
    assert abs(int(said.replace(",", "")) - counted) <= 0.05 * counted


def test_neither_docstrings_nor_comments_nor_blank_lines_are_code(tmp_path):
    source = '''"""What it is.

With a second paragraph.
"""

import os  # for its name

# A remark.


class A:
    """A class."""

    size = 3
    """An attribute."""

    def text(self):
        """Return it."""
        return (
            """two
lines"""
            # of text
        )
'''
    counting = (
        "import sys; from tools.heart import lines_of_code; print(lines_of_code(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", counting, source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 8  # import, class, size, def, return, two lines of text, bracket


def test_unit_mirrors_the_packages():
    unit, strays = ROOT / "tests" / "unit", []
    for path in sorted(unit.rglob("test_*.py")):
        module = path.relative_to(unit).with_name(path.name.removeprefix("test_"))
        package = module.parent.name == module.stem  # that of the __init__
        if not (package or (ROOT / "oautom" / module).exists()):
            strays.append(f"{path.relative_to(ROOT)}: there is no oautom/{module}")
    assert strays == []


def test_tests_readme_says_what_each_folder_holds():
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    folders = [path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/*.py"))]
    assert len(folders) > 8
    assert [each for each in folders if not re.search(rf"\b{each}(/|\]\()", text)] == []


def test_ci_calls_nothing_but_the_tests_and_the_lint():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make .*", script, re.MULTILINE) == ["make tests", "make lint"]
