"""The documents tell the truth: their blocks run and print what they say, and nothing is left out.

All ```python blocks of a document run in order, in one program, in an empty folder. A ```text block
that follows one is what it prints. After `<!-- own program -->` a block is a program by itself.
"""

import inspect
import os
import re
import shutil
import subprocess
import sys
from enum import Enum
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import pytest

import oautom
from oautom.events import signals, subscribers
from oautom.machine.tables import EVENT_NAMES, STEP_TABLE, VECT_TABLE
from tests.held import until

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md")),
    *PAGES,
]
ALL_TEXT = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
OWN_PROGRAM = "<!-- own program -->"
MARK = "---- the block of line"
# Of libraries that a page shows the use of: executorlib, with the newest pydantic.
NOT_OURS = (
    "ignore:`pydantic.config.Extra` is deprecated:DeprecationWarning",
    "ignore:Support for class-based `config` is deprecated:DeprecationWarning",
)


class Block(NamedTuple):
    language: str
    line: int  # of the opening fence, from 0
    code: list[str]
    before: str  # the nearest line above that is not blank


def blocks_of(document: Path) -> list[Block]:
    lines = document.read_text(encoding="utf-8").splitlines()
    blocks, start = [], None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = next((each for each in reversed(lines[:start]) if each.strip()), "")
        blocks.append(Block(lines[start][3:], start, lines[start + 1 : number], before))
        start = None
    assert start is None, f"{document.name}: the block of line {start} is never closed"
    return blocks


def programs_of(document: Path) -> list[list[Block]]:
    python = [block for block in blocks_of(document) if block.language == "python"]
    own = [[block] for block in python if block.before == OWN_PROGRAM]
    common = [block for block in python if block.before != OWN_PROGRAM]
    return [*([common] if common else []), *own]


def expected_outputs(document: Path) -> dict[int, str]:
    """Return what the blocks print, where the document says so, by the line of the block."""
    blocks = blocks_of(document)
    return {
        block.line: "\n".join(follower.code)
        for block, follower in pairwise(blocks)
        if (block.language, follower.language) == ("python", "text")
        and follower.line == block.line + len(block.code) + 3  # a fence and a blank line between
    }


def run(program: list[Block], folder: Path, *more: str) -> dict[int, str]:
    """Run blocks as one program, its lines numbered as in the document; return what each prints."""
    lines: list[str] = []
    for block in program:
        lines += [""] * (block.line - len(lines))
        is_alone = len(program) == 1
        lines.append("" if is_alone else f"print('{MARK}', {block.line}, flush=True)")
        lines += block.code
    script = folder / "program.py"
    script.write_text("\n".join([*lines, *more]), encoding="utf-8")
    warnings = [part for each in ("error", *NOT_OURS) for part in ("-W", each)]
    temporary = mkdtemp(prefix="doc-")  # a short path, as sockets need it
    own = {"HOME": temporary, "TMPDIR": temporary}  # where some libraries leave folders
    done = subprocess.run(
        [sys.executable, *warnings, script.name],
        cwd=folder,
        env=os.environ | own | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    until(lambda: is_removed(temporary))
    assert (done.returncode, done.stderr) == (0, "")
    if len(program) == 1:
        return {program[0].line: done.stdout}
    pieces = re.split(rf"^{MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return {int(line): said for line, said in zip(pieces[::2], pieces[1::2], strict=True)}


def is_removed(folder: str) -> bool:
    """Remove a folder; a process that Lithops leaves behind may still write to it for a moment."""
    shutil.rmtree(folder, ignore_errors=True)
    return not Path(folder).exists()


PROGRAMS = [
    pytest.param(document, program, id=f"{document.name}:{program[0].line + 1}")
    for document in DOCUMENTS
    for program in programs_of(document)
]


@pytest.mark.parametrize(("document", "program"), PROGRAMS)
def test_the_blocks_run_and_print_what_the_document_says(document, program, tmp_path):
    printed = run(program, tmp_path)
    assert sorted(printed) == [block.line for block in program]
    for line, text in expected_outputs(document).items():
        if line in printed:
            assert printed[line].rstrip() == text.rstrip(), f"{document.name}, line {line + 1}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_before_its_first_block_which_blocks_are_one_program(page):
    """So whoever comes to a block in the middle knows where the names in it are from."""
    lines = page.read_text(encoding="utf-8").splitlines()
    python = [block for block in blocks_of(page) if block.language == "python"]
    common = [block for block in python if block.before != OWN_PROGRAM]
    if len(common) > 1:
        assert "The blocks of this page are one program" in " ".join(lines[: common[0].line])
    for block in python:
        if block.before == OWN_PROGRAM:
            assert "A program by itself:" in lines[block.line - 4 : block.line], block.line + 1


def test_every_text_block_is_the_output_of_the_python_block_before_it():
    for document in DOCUMENTS:
        texts = [block for block in blocks_of(document) if block.language == "text"]
        assert len(texts) == len(expected_outputs(document)), document.name


def test_the_picture_in_the_readme_is_drawn_by_its_example(tmp_path):
    readme = ROOT / "README.md"
    (picture,) = [block for block in blocks_of(readme) if block.language == "mermaid"]
    (example,) = programs_of(readme)
    (printed,) = run(example, tmp_path, "print(flow.to_mermaid())").values()
    assert printed.rstrip("\n").endswith("\n".join(picture.code))


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors_of(there), f"{document.name} links to {target}"


def is_told(name: str, text: str = ALL_TEXT) -> bool:
    """Tell whether a name stands in a text as code."""
    return re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", text) is not None


def test_every_public_name_is_in_the_reference():
    names = [*oautom.__all__, *oautom.events.__all__, *subscribers.__all__]
    assert [name for name in names if not is_told(name, REFERENCE)] == []


def test_every_signal_event_and_state_is_in_the_reference():
    names = [name for name, each in vars(signals).items() if isinstance(each, signals.EventSignal)]
    assert len(names) == len(EVENT_NAMES) + 1
    states = {state for row in (*STEP_TABLE, *VECT_TABLE) for state in (row.source, row.dest)}
    told = [*names, *EVENT_NAMES, *states]
    assert [name for name in told if not is_told(name, REFERENCE)] == []


def members_of(kind: type) -> list[str]:
    """Return the public members that a class defines itself, and the settings that it takes."""
    members = [name for name in vars(kind) if not name.startswith("_")]
    not_made_by_users = ("Context", "Event", "OAutomMode", "Plan", "Step", "Subscription", "Vect")
    if kind.__name__ in not_made_by_users or issubclass(kind, Enum):
        return members
    return members + list(inspect.signature(kind).parameters)


PUBLIC = [getattr(oautom, name) for name in oautom.__all__]
KINDS = [each for each in PUBLIC if inspect.isclass(each) and not issubclass(each, BaseException)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_member_and_setting_of_a_public_class_is_in_the_reference(kind):
    assert [name for name in members_of(kind) if not is_told(name, REFERENCE)] == []


def test_every_make_target_is_told():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z_]+):.*## ", makefile, re.MULTILINE)
    assert len(targets) > 5
    assert [target for target in targets if not is_told(f"make {target}")] == []
