"""Every file of `examples/` runs by itself, says what it should, and leaves nothing behind."""

import hashlib
import os
import re
import runpy
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "examples"
EXAMPLES = sorted([*HOME.glob("*.py"), *HOME.glob("from_elsewhere/*.py")])
NEEDS = {
    "cluster.py": "distributed",
    "orders_api.py": "fastapi",
    "page.py": "fastapi",
}  # one of the tools for tests
SCRATCH = "dask-scratch-space"  # of Dask, which leaves it behind
REPORT = ROOT / "examples" / "stdlib_report.py"

KEY_LINES = {
    "async_steps.py": [
        "hung up",
        "success: the warmest has 6 degrees",
        "the moon: it took longer than its timeout of 0.5 seconds",
        "all at once: True",
    ],
    "asyncio_program.py": [
        "pear: success, 4 letters",
        "apricot: success, 7 letters",
        r"kumquat: failed, RuntimeError: no kumquat today",
        r"the event loop has gone on: [1-9]\d* ticks",
    ],
    "branch.py": [
        "250 g:",
        r"  by bicycle success  rings the bell",
        r"  by van     skipped  branch 'choose' chose 'by bicycle'",
        "12000 g:",
        r"  by bicycle skipped  branch 'choose' chose 'by van'",
        r"  receipt    success  signed",
    ],
    "children.py": [
        "success: north 12, south 20",
        r"monday/ask north/1: success, \{'name': 'north'\}",
        r"monday/ask south/1: success, \{'name': 'south'\}",
    ],
    "cloud_events.py": [
        r'\{"specversion":"1\.0",.*"type":"oautom\.step\.started",.*\}',
        r"oautom\.vect\.created nightly%20load/2026-11-24 ",
        r"oautom\.step\.failed nightly%20load/2026-11-24/fetch the command exited with code 7: .*",
        r"oautom\.vect\.failed nightly%20load/2026-11-24 ",
    ],
    "cluster.py": [
        "success - 1229 primes below 10000",
        "INFO from 0 on",
    ],
    "deadline.py": [
        "00:30 nightly: step extract is late",
        "01:10 nightly: step load is late",
        "02:00 nightly: the run is late",
        "02:20 success",
    ],
    "deploy.py": [
        "charging, and told to end",
        "charged",
        "life 1: charge success, ship pending",
        "on its way",
        "life 2: charge success, ship success",
    ],
    "durable.py": [
        r"life 1: killed by signal 9; \d+ events in the log, running",
        "fetch: success, attempt 1, '7'",
        "load: success, attempt 2, '7 rows'",
        r"life 2: done; 10 events in the log, success",
        "fetched 1 time",
    ],
    "explain.py": [
        "-- before anybody drives",
        "   `load` waits for the start of its vect; nothing drives the engine .*",
        "-- the first attempt has failed",
        r"   `extract` failed attempt 1 of 5 \(.*: no route to host\) .*",
        r"   `load` waits for `extract`, which failed attempt 1 of 5 and runs again at [-\d: ]+.*",
        "   `gate` waits for `load`, which itself waits for `extract`; .*",
        "-- a person is asked",
        r"   `load` succeeded at [-\d: ]+ after .* seconds \(attempt 1\)",
        r"   `gate` waits for an approval \('publish 7 rows\?'\); .*",
        "-- the end",
        r"   `gate` failed at [-\d: ]+: rejected by Ada: there should be 8",
    ],
    "from_elsewhere/airflow_task_group.py": [
        "success - pulled 84 and 50",
        r"\[61, 65, 84, 50, 49, 150\]",
    ],
    "from_elsewhere/dagu_pipeline.py": [
        "2026-11-22 success",
        "2026-11-23 success",
        "2026-11-24 failed load",
        "2026-11-22: WARNING",
        "2026-11-22 completed",
        "2026-11-22 cleaned up",
        "2026-11-24 failed",
        "2026-11-24 cleaned up",
    ],
    "from_elsewhere/github_release.py": [
        r"failed - 1 of its 5 items failed, first build\[2\] \(s390x-.*\): .* 502 from the server",
        r"success - gh release create 15\.1\.0 --draft \(with \*\*\*\)",
        r"x86_64-unknown-linux-musl +success +gh release upload .* \(with \*\*\*\)",
        r"x86_64-pc-windows-msvc +skipped +gh release upload .* \(with \*\*\*\)",
        "6 calls of GitHub",
    ],
    "from_elsewhere/makefile_books.py": [
        r"make dats: success abyss\.dat isles\.dat last\.dat",
        r"dats\[0\] skipped abyss\.dat is up to date",
        r"dats\[2\] success ",
        r"isles 3 1 3\.00",
    ],
    "from_elsewhere/snakemake_variants.py": [
        r"success - chr1 of 6 files \+ chr2 of 6 files \+ chr3 of 6 files \+ chrX of 6 files",
        "at most 8 cores at once",
        r"6 units, each with its own run: .*/mapping\[0\]/1",
    ],
    "going_on.py": [
        "downloaded 3 files",
        r"failed: vect 'monday/import/1' of flow 'import' failed: step 'load': RuntimeError: .*",
        "loaded 3 files",
        "success: attempt 2, in vect monday/import/1",
    ],
    "each_item.py": [
        r"failed: 1 of its 4 items failed, first each\[0\] \(Bern\): vect .*: no data",
        r"success: \['8 half millimetres', .*\], `each\[0\]` \(Bern\) succeeded",
    ],
    "map.py": [
        r"failed: 1 of its 3 items failed, first count\[1\]: ValueError: b.txt is empty",
        r"success: 6 words, \[3, 1, 2\]",
    ],
    "nightly.py": [
        "2026-11-23: success +46, told success 24 Nov, 08:00 UTC",
        "2026-11-24: success +48, told success 25 Nov, 08:00 UTC",
        "2026-11-25: failed None, told upstream_failed 26 Nov, 02:00 UTC",
    ],
    "original.py": ["success", "file1", "file2"],
    "orders_api.py": [
        r"order 17 is running with \{'item': 'tea', 'count': 2\}",
        "flow 'order': parameter 'count' is missing",
        r"\['vect.created', 'vect.started', 'step.started'\]",
        r"`ship` waits for `check`, which waits for an approval \('is it in stock\?'\)",
        "approved: 200",
        "409 too late, Ada has approved it",
        r"\['step.succeeded', 'step.started', .*'vect.succeeded'.*\]",
        r"\(200, \[\{'number': '17', 'state': 'success'\}\]\)",
    ],
    "page.py": [
        r'\{"order":"17"\}',
        "in the inbox: True",
        "the token is missing or wrong, and nothing was done",
        "the run: success",
    ],
    "order_service.py": [
        "ship     step.succeeded",
        "with-courier: success; booked: charge, reserve, ship",
        "charge   step.compensated",
        "without-courier: failed; booked: nothing",
    ],
    "own_execution.py": ["INFO waiting for letter.txt", "success - Dear reader"],
    "people.py": [
        r"asked: ship version 2\?",
        "paused, resumed",
        "failed - the command exited with code 1: cat: crate: No such file or directory",
        "success - shipped - approved by Ada",
        r"attempts: \{'approval': 1, 'ship': 2\}",
    ],
    "plans.py": [
        r"tick@.*Z on time",
        r"tick@.*Z on time",
        "the program is down",
        r"tick@.*Z caught up",
        r"tick@.*Z on time",
        r"\d times, then \d more: none is missed, and none comes twice",
    ],
    "pools.py": [
        "in this order: load orders, load customers, mail, load prices, load items, load log",
        "at the database at once: 2",
    ],
    "rates.py": [
        "success: 1001 calls in 20 minutes",
        "from a call to the fiftieth after it: 60 s or more",
    ],
    "retries.py": [
        "fetch, attempt 1: ConnectionError: no route to host",
        "fetch, attempt 2: ConnectionError: no route to host",
        r"slow, attempt 1: it took longer than its timeout of 0\.2 seconds",
        "fetch success 3 42 rows",
        r"slow failed 2 it took longer than its timeout of 0\.2 seconds",
        "wrong failed 1 the command exited with code 3",
    ],
    "rules.py": [
        "news     skipped  nothing new",
        r"mail     skipped  its trigger rule is 'all_success', .*",
        "weather  failed   the command exited with code 7",
        "page     success  made",
        r"alarm    skipped  its trigger rule is 'one_failed', .*",
        "clean up success  done",
        "the flow: success",
    ],
    "stdlib_report.py": [
        r" +0\.\d\d s  stdlib report +nothing -> pending",
        r" +\d\.\d\d s  find sources +pending -> running",
        r" +\d+\.\d\d s  count email +running -> success",
        r" +\d+\.\d\d s  archive email +running -> success",
        r" +\d+\.\d\d s  verify +running -> success",
        r" +\d+\.\d\d s  clean up +running -> success",
        r" +\d+\.\d\d s  stdlib report +running -> success",
        r"email +\d+ +[\d,]+ +[\d,]+ +[\d,]+",
        r"total +\d+ +[\d,]+ +[\d,]+ +[\d,]+",
        r"all \d+ files came out of their archives as they went in",
    ],
    "subscription.py": [
        "INFO    vect monday: step 'pack' succeeded",
        "monday is over: success",
        r"WARNING subscription 'billing' raised on event 7 \(vect\.succeeded\), attempt 1; .*",
        "billed monday",
        "tuesday is over: success",
        "billed tuesday",
        "billed wednesday",
    ],
    "values.py": [
        r"2026-11-24: \{\"Tuesday\":42\.0,\"most\":40\.0\} - it's good; \$\(rm -rf /\)",
        r"24 November 2026: 40\.0",
    ],
    "secret.py": [
        r"asking with \*\*\*",
        r"fetch: success, 28",
        r"fail: failed, ConnectionError: refused: \*\*\*",
        r"upload: failed, its output contains secret\('API_KEY'\), and is not kept; .*",
        r"header: failed, its output contains secret\('API_KEY'\), and is not kept; .*",
    ],
    "versions.py": [
        r"order 17 waits: `ask` waits for an approval \('ship it\?'\)",
        r"oautom\.recovery: vect 'order 17' of flow 'order' cannot go on, since .*",
        r"order 18 success shipped \['a box', 'a label'\]",
        "order 17 running - and it says why:",
        "it began with version '1', the program has '2'",
        "order 17 success shipped a box",
    ],
    "waiting_turns.py": [
        "at first: running running pending pending pending pending",
        r"`fetch` waits for the turn of its vect, which is number 2 in line: 1 goes before it, .*",
        "in the end: success success success success success success",
        "acme: days 1 2 3",
        "bolt: days 1 2 3",
    ],
    "wait.py": [
        "Mon 23 Nov, 09:00  send the invoice",
        "Thu 26 Nov, 09:00  three days",
        "Thu 26 Nov, 09:00  send a reminder",
        "Fri 27 Nov, 18:00  the end of the week",
        "Fri 27 Nov, 18:00  close the books",
        "success",
    ],
    "subscriber.py": [
        r"nightly: 1 vect\.created \(nightly\)",
        "Subject: nightly/load failed",
        r"the command exited with code 3: no such table: sales",
        r"oautom\.signals: receiver <function broken at .*> raised on event 5 \(step\.blocked\);.*",
        r"nightly: 6 vect\.failed \(nightly\)",
        "nightly: failed",
    ],
}


def name_of(example: Path) -> str:
    return str(example.relative_to(HOME))


class Place:
    """Where an example runs: an empty working directory, and one for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "cwd"
        self.temporary = folder / "temporary"
        self.cwd.mkdir()
        self.temporary.mkdir()
        self.env = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
        }

    def run(self, example: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", str(example), *arguments],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def assert_empty(self) -> None:
        left = [*self.cwd.iterdir(), *self.temporary.iterdir()]
        assert [each for each in left if each.name != SCRATCH] == []


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def assert_lines(patterns: list[str], output: str) -> None:
    """Hold that each pattern matches a line, in this order."""
    lines = iter(output.splitlines())
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in lines), f"{pattern!r} in\n{output}"


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_runs_says_what_it_should_and_leaves_nothing_behind(example, place):
    if name_of(example) in NEEDS:
        pytest.importorskip(NEEDS[name_of(example)], reason="pip install -e .[dev]")
    done = place.run(example)
    assert (done.returncode, done.stderr) == (0, "")
    if example == REPORT:  # branches run side by side, so the order of their lines varies
        for pattern in KEY_LINES[name_of(example)]:
            assert_lines([pattern], done.stdout)
    else:
        assert_lines(KEY_LINES[name_of(example)], done.stdout)
    place.assert_empty()


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_says_at_its_top_how_to_run_it(example):
    source = example.read_text(encoding="utf-8")
    assert source.startswith('"""')
    assert f"Run it:  python examples/{name_of(example)}" in source.split('"""')[1]


def test_the_report_is_kept_where_it_is_told(place):
    done = place.run(REPORT, "kept here")
    assert (done.returncode, done.stderr) == (0, "")
    folder = place.cwd / "kept here"
    report = (folder / "report.txt").read_text(encoding="utf-8")
    assert done.stdout.endswith("\n\n" + report)
    sums = dict(
        reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    with tarfile.open(folder / "json.tar.gz") as archive:
        content = archive.extractfile("json/__init__.py").read()
    assert hashlib.sha256(content).hexdigest() == sums["json/__init__.py"]
    archives = {path.name.removesuffix(".tar.gz") for path in folder.glob("*.tar.gz")}
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.tar.gz" for name in archives),
        "SHA256SUMS",
        "report.txt",
    }
    assert archives == {name.split("/")[0] for name in sums}


FAILS = "exit 7"
DOES_NOTHING = ""
CHANGES_A_FILE = """
PATH=${PATH#*:} tar "$@" || exit
case "$1" in -x*) [ ! -d "$4/json" ] || echo >>"$4/json/__init__.py";; esac
"""
FAILS_ONCE = """
case "$*" in -c*" json") [ -e "$0 has failed" ] || { touch "$0 has failed"; exit 1; };; esac
PATH=${PATH#*:} exec tar "$@"
"""


def put_before_tar(script: str, place: Place, folder: Path) -> None:
    """Have what the example takes for `tar` be a script."""
    stubs = folder / "stubs"
    stubs.mkdir()
    (stubs / "tar").write_text(f"#!/bin/sh\n{script}\n")
    (stubs / "tar").chmod(0o755)
    place.env["PATH"] = f"{stubs}:{place.env['PATH']}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (FAILS, "archive json failed: the command exited with code 7"),
        (
            DOES_NOTHING,
            r"archive json failed: the command exited with code 1: .*/json\.tar\.gz: .*",
        ),
        (
            CHANGES_A_FILE,
            r"verify failed: the command exited with code 1: .*json/__init__\.py: FAILED.*",
        ),
    ],
)
def test_what_tar_does_wrong_is_told_in_a_line_and_by_the_exit_code(
    script, message, place, tmp_path
):
    put_before_tar(script, place, tmp_path)
    done = place.run(REPORT)
    assert done.returncode == 1
    assert_lines([message], done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    place.assert_empty()


def test_what_was_unpacked_is_cleaned_up_also_where_it_is_wrong(place, tmp_path):
    put_before_tar(CHANGES_A_FILE, place, tmp_path)
    done = place.run(REPORT, "kept")
    assert done.returncode == 1
    assert_lines([".* verify +running -> failed", ".* clean up +running -> success"], done.stdout)
    kept = sorted(path.name for path in (place.cwd / "kept").iterdir())
    assert (kept[0], "json.tar.gz" in kept, "report.txt" in kept) == ("SHA256SUMS", True, False)


def test_a_package_whose_archive_fails_once_is_archived_again(place, tmp_path):
    put_before_tar(FAILS_ONCE, place, tmp_path)
    done = place.run(REPORT)
    assert (done.returncode, done.stderr) == (0, "")
    moves = ["running -> up_for_retry", "up_for_retry -> pending", "running -> success"]
    assert_lines([f".* archive json +{move}" for move in moves], done.stdout)


def test_a_folder_that_cannot_be_written_is_told_in_a_line(place):
    done = place.run(REPORT, "/dev/null/folder")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot write: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_report_in_good_order(place):
    # Where the tests run in the background of a shell, SIGINT is ignored, and that is inherited.
    program = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.argv = [{str(REPORT)!r}]\n"
        f"runpy.run_path({str(REPORT)!r}, run_name='__main__')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=place.cwd,
        env=place.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=60)
    assert "nothing -> pending" in first
    assert (child.returncode, errors) == (130, "interrupted\n")
    assert "stdlib report        running -> cancelled" in output
    place.assert_empty()


@pytest.fixture
def sources(tmp_path):
    """A standard library of which most is missing, and some is odd."""
    folder = tmp_path / "a 'standard' library $HOME"
    package = folder / "json"
    (package / "tests" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("def one(): pass\nasync def two(): pass\n")
    (package / "latin.py").write_bytes(
        "# coding: latin-1\ndef trois(): return 'é'\n".encode("latin1")
    )
    (package / "tests" / "wrong.py").write_text("def (:\n")
    (package / "tests" / "binary.py").write_bytes(b"\0\xff\n")
    (package / "tests" / "__pycache__" / "stale.pyc").write_bytes(b"stale")
    (package / "elsewhere.py").symlink_to(package / "__init__.py")
    (folder / "xml").mkdir()  # without a source
    return folder


def test_sources_that_are_missing_or_odd_are_coped_with(sources, tmp_path, capfd):
    folder = tmp_path / "out"
    folder.mkdir()
    example = runpy.run_path(str(REPORT))
    assert example["report_on"](sources, folder) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    assert_lines(
        [r"json +5 +8 +5 +\d+", r"-+", r"total +5 +8 +5 +\d+", r"all 5 files came out .*"], output
    )
    with tarfile.open(folder / "json.tar.gz") as archive:
        assert not [name for name in archive.getnames() if "__pycache__" in name]


def test_a_python_without_sources_is_told_in_a_line(tmp_path, capfd):
    example = runpy.run_path(str(REPORT))
    assert example["report_on"](tmp_path, tmp_path) == 1
    assert capfd.readouterr().err == f"there are no sources of packages in {tmp_path}\n"
