"""Reports on Python's own standard library: counts, archives, verifies, and prints a table.

Run it:  python examples/stdlib_report.py [FOLDER]
or, in the live view:  oautom run examples/stdlib_report.py:sample 'stdlib report'

A realistic job on real input: the sources of the Python that runs this. For each of some packages,
one branch of the flow counts lines and functions (in Python) while another archives the package (in
Bash). The archives are then unpacked again and compared with checksums (in Bash), which are cleaned
up whether they match or not, and a last step merges all results into a report. The program shows
every event as it happens. Archives, checksums and report stay in FOLDER; without one, nothing is
left.
"""

from __future__ import annotations

import argparse
import ast
import atexit
import hashlib
import shutil
import sys
import sysconfig
import tempfile
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from oautom import (
    BashExecution,
    Context,
    Event,
    Flow,
    OAutom,
    Param,
    PythonExecution,
    RetryPolicy,
    TriggerRule,
    Vect,
)
from oautom.events import signals

STDLIB = Path(sysconfig.get_path("stdlib"))
PACKAGES = ("asyncio", "concurrent", "email", "http", "json", "logging", "unittest", "xml")

# Paths come in by the environment and are never pasted into a command: they may hold any character.
ARCHIVE = """
set -u
tar -czhf "$FOLDER/$PACKAGE.tar.gz" --exclude __pycache__ -C "$STDLIB" "$PACKAGE"
wc -c <"$FOLDER/$PACKAGE.tar.gz"
"""
VERIFY = """
set -u
unpacked=$FOLDER/.stdlib-report
rm -rf "$unpacked"  # of a run that was interrupted
mkdir "$unpacked"
for package in $PACKAGES; do tar -xzf "$FOLDER/$package.tar.gz" -C "$unpacked"; done
cd "$unpacked"
if command -v sha256sum >/dev/null; then check=sha256sum; else check="shasum -a 256"; fi  # macOS
LC_ALL=C $check -c "$FOLDER/SHA256SUMS" | { grep -v ': OK$' || true; }  # only what is wrong
wc -l <"$FOLDER/SHA256SUMS"
"""
CLEAN_UP = 'rm -rf "$FOLDER/.stdlib-report"'


def main() -> int:
    """Make the report, in a temporary folder or in the one that is given; return the exit code."""
    parser = argparse.ArgumentParser(description="Reports on Python's own standard library.")
    parser.add_argument("folder", nargs="?", type=Path, help="where to keep archives and report")
    folder: Path | None = parser.parse_args().folder
    try:
        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                return report_on(STDLIB, Path(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        return report_on(STDLIB, folder.resolve())
    except OSError as error:
        print(f"cannot write: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # by now all steps have ended, and no process of theirs is left
        print("interrupted", file=sys.stderr)
        return 130


def report_on(stdlib: Path, folder: Path) -> int:
    """Run the flow, showing each event, and print the report; return the exit code."""
    packages = [name for name in PACKAGES if (stdlib / name / "__init__.py").is_file()]
    if not packages:
        print(f"there are no sources of packages in {stdlib}", file=sys.stderr)
        return 1
    with OAutom() as app:
        flow = declare(app, packages)
        signals.event.connect(show, sender=flow)
        vect = app.run(flow, {"stdlib": stdlib, "folder": folder})
    if vect.state != "success":
        return tell_failures(vect)
    print("\n" + vect.result("report"))
    return 0


def sample() -> OAutom:
    """Return an app for the command line, whose flow needs no parameters and prints its report."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    app = OAutom()
    packages = [name for name in PACKAGES if (STDLIB / name / "__init__.py").is_file()]
    flow = declare(app, packages, stdlib=STDLIB, folder=folder)
    PythonExecution("print it", flow, print, (flow.steps["report"].output,))
    return app


def declare(app: OAutom, packages: list[str], **defaults: Path) -> Flow:
    """Say which steps there are, which waits for which, and what each is given.

    A step that is given the output of another one waits for it; `>>` says so for all others.
    """
    params = {name: Param(Path, path) for name, path in defaults.items()}
    flow = Flow("stdlib report", app, params={"stdlib": Path, "folder": Path} | params)
    stdlib, folder = flow.param("stdlib"), flow.param("folder")
    places = {"STDLIB": stdlib, "FOLDER": folder}
    again = RetryPolicy(max_attempts=2, delay=0.1)  # tar fails if a file changes while it reads

    find = PythonExecution("find sources", flow, find_sources, (stdlib, folder, packages))
    counts, archives = {}, {}
    for package in packages:
        names = find.output[package]
        counts[package] = PythonExecution(f"count {package}", flow, count, (stdlib, names))
        archives[package] = BashExecution(
            f"archive {package}", flow, ARCHIVE, {**places, "PACKAGE": package}, retry=again
        )
    verify = BashExecution("verify", flow, VERIFY, {**places, "PACKAGES": " ".join(packages)})
    clean_up = BashExecution(
        "clean up", flow, CLEAN_UP, {"FOLDER": folder}, trigger_rule=TriggerRule.ALL_DONE
    )
    PythonExecution("report", flow, write_report, (folder, counts, archives, verify))
    find >> [*archives.values()] >> verify >> clean_up
    return flow


def find_sources(stdlib: Path, folder: Path, packages: list[str]) -> dict[str, list[str]]:
    """Return the source files of each package, and write down their checksums."""
    sources = {
        package: sorted(
            path.relative_to(stdlib).as_posix()
            for path in (stdlib / package).rglob("*.py")
            if path.is_file()
        )
        for package in packages
    }
    with (folder / "SHA256SUMS").open("w", encoding="utf-8") as sums:
        for names in sources.values():
            for name in names:
                digest = hashlib.sha256((stdlib / name).read_bytes()).hexdigest()
                sums.write(f"{digest}  {name}\n")
    return sources


def count(stdlib: Path, names: list[str], context: Context) -> dict[str, int]:
    """Return how many files, lines and functions a package has."""
    counts = {"files": len(names), "lines": 0, "functions": 0}
    for name in names:
        source = (stdlib / name).read_bytes()
        counts["lines"] += len(source.splitlines())
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # some tests of Python are wrong on purpose
            context.log.info("%s is no valid Python: its functions are not counted", name)
            continue
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        counts["functions"] += sum(isinstance(node, functions) for node in ast.walk(tree))
    return counts


def write_report(
    folder: Path, counts: dict[str, dict[str, int]], sizes: dict[str, str], verified: str
) -> str:
    """Merge what the steps before have found into a table; what Bash has printed is text."""
    rows = [(package, *counts[package].values(), int(sizes[package])) for package in counts]
    total = ("total", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    lines = ["package       files     lines  functions  archive bytes"]
    lines += ["{:<12}{:>7,}{:>10,}{:>11,}{:>15,}".format(*row) for row in (*rows, total)]
    lines.insert(-1, "-" * len(lines[0]))
    lines.append(f"all {int(verified)} files came out of their archives as they went in")
    text = "\n".join(lines)
    (folder / "report.txt").write_text(text + "\n", encoding="utf-8")
    return text


def show(flow: Flow, event: Event, **_: object) -> None:
    """Print an event: when it happened, to which step (or the Vect), and from which state."""
    seconds = (event.time - BEGUN).total_seconds()
    move = f"{event.source or 'nothing'} -> {event.dest}"
    with suppress(BrokenPipeError):  # nobody reads any more, as in `make start | head`
        print(f"{seconds:6.2f} s  {event.step or flow.name:<20} {move}", flush=True)


def tell_failures(vect: Vect) -> int:
    """Say what went wrong, and return the exit code."""
    for step in vect.steps.values():
        if step.state == "failed":
            print(f"{step.name} failed: {step.error}", file=sys.stderr)
    return 1


BEGUN = datetime.now(UTC)

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those are about the sources that are read
    sys.exit(main())
