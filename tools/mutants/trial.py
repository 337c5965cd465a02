"""A trial: the tests against a mutant, each in a process of its own that is forked and thrown away.

Most mutants change the body of a function. All tests are then collected once, with oautom as it is;
for each mutant that process is forked, and in the fork the function is given its changed code. What
is run at import (tables, classes, defaults) cannot be exchanged so: such a mutant, and any that has
survived, is imported instead of the module, by a process that has not imported oautom yet. The
files of the checkout are never touched.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from types import CodeType, FunctionType, ModuleType
from typing import NoReturn

import coverage
import hypothesis.stateful  # noqa: F401 - so that no trial has to
import msgspec  # noqa: F401
import pytest
import transitions  # noqa: F401
from hypothesis import HealthCheck, Phase, settings

from .mutate import Mutant

ROOT = Path(__file__).parents[2]
TESTS = [
    *(f"tests/{name}" for name in ("unit", "golden", "behaviour", "property")),
    *(f"tests/testkit/test_{name}.py" for name in ("lines_of_json", "log_format", "whole_app")),
    "tests/corpus/test_trigger_rules.py",
]
# Their child processes would import oautom as it is on the disk.
NOT_RUN = ["tests/behaviour/test_process_executors.py"]
OPTIONS = [
    *("-q", "--tb=native", "--capture=no", "--timeout=0", f"--rootdir={ROOT}"),
    *("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that are imported already
    *(f"--ignore={path}" for path in NOT_RUN),
]
LONGEST = 0.5  # seconds of work for a test, measured; the longer ones are left out
QUICK = 0.02  # seconds of work
TIMEOUT = 3  # seconds for a test, and twenty times what it took without a mutant; longer is endless
MEMORY = 4 * 2**30  # bytes of addresses: an endless list is an error before the machine suffers
SURVIVED, KILLED = 0, 1


@dataclass(frozen=True)
class Measured:
    """How much work a test is, whatever else the machine does, and which lines it reaches."""

    seconds: float
    lines: Mapping[str, set[int]]


Tests = Mapping[str, Measured]
"""By the name that pytest has for a test."""

Functions = dict[tuple[str, str], list[FunctionType]]
"""By path and qualified name."""


def prepare() -> None:
    """Make this process one to fork trials from: all is imported but oautom and its tests."""
    os.environ["OAUTOM_EXAMPLES"] = "10"
    os.environ["COVERAGE_CORE"] = "ctrace"  # the one that knows which test reaches a line
    settings.register_profile(
        "mutants",
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    sys.dont_write_bytecode = True
    os.chdir(ROOT)


class _Loop:
    """A pytest plugin that is given the collected tests instead of pytest's own loop."""

    def __init__(self, run: Callable[[pytest.Session], None]) -> None:
        self._run = run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:
            self._run(session)
        return True


def _pytest(run: Callable[[pytest.Session], None], paths: Iterable[str] = TESTS) -> NoReturn:
    """Collect and run in this process, which was forked for it."""
    code = pytest.main([*OPTIONS, *paths], plugins=[_Loop(run)])
    _leave(SURVIVED if code == 0 else KILLED)


def _fork(work: Callable[[], object], said: str | Path = os.devnull) -> int:
    """Return the process in which `work` is done; it ends with it; it prints to `said`."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        file = os.open(said, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        for standard in range(3):
            os.dup2(file, standard)
        work()
        _leave(SURVIVED)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(KILLED)


def _leave(code: int) -> NoReturn:
    """End this process at once: no exit handlers, no thread to wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end(pid: int) -> int:
    """Return the exit code of a process, and end what it has left behind."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return code


def _run(session: pytest.Session, items: Sequence[pytest.Item], tests: Tests) -> None:
    """Run the tests one by one until one fails, and end this process."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        signal.alarm(TIMEOUT + int(20 * tests[item.nodeid].seconds))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            _leave(KILLED)
    _leave(SURVIVED)


# What the tests do without any mutant


def measure(paths: Sequence[str], processes: int) -> Tests:
    """Return all tests, the fastest first.

    Raises:
        SystemExit: A test fails.
    """
    folder = Path(mkdtemp(dir=os.environ["PYTEST_DEBUG_TEMPROOT"]))
    said = folder / "said.txt"

    def measure_all(session: pytest.Session) -> None:
        parts = [session.items[part::processes] for part in range(processes)]
        runs = [
            partial(_measure, session, part, paths, folder / f"{number}.json")
            for number, part in enumerate(parts)
        ]
        codes = [_end(pid) for pid in [_fork(run, said) for run in runs]]
        _leave(max(codes))

    if _end(_fork(lambda: _pytest(measure_all), said)) != 0:
        print(said.read_text())
        raise SystemExit("the tests fail without any mutant, or cannot be collected")
    tests = {}
    for part in folder.glob("*.json"):
        for name, (seconds, lines) in json.loads(part.read_text()).items():
            if seconds <= LONGEST:
                tests[name] = Measured(seconds, {path: set(each) for path, each in lines.items()})
    return dict(sorted(tests.items(), key=lambda test: test[1].seconds))


def _measure(
    session: pytest.Session, items: Sequence[pytest.Item], paths: Sequence[str], file: Path
) -> None:
    seconds: dict[str, float] = {}
    places = [str(ROOT / path) for path in paths]
    measured = coverage.Coverage(data_file=None, include=places, config_file=False)
    measured.start()
    for item, following in zip(items, [*items[1:], None], strict=True):
        measured.switch_context(item.nodeid)
        began = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item.nodeid] = time.process_time() - began
    measured.stop()
    lines: dict[str, dict[str, list[int]]] = {item.nodeid: {} for item in items}
    for path, place in zip(paths, places, strict=True):
        for line, names in measured.get_data().contexts_by_lineno(place).items():
            for name in names:
                lines.get(name, {}).setdefault(path, []).append(line)
    file.write_text(json.dumps({name: (seconds[name], lines[name]) for name in lines}))
    _leave(KILLED if session.testsfailed else SURVIVED)


# Trials


class Lane:
    """Tries mutants one after the other. Belongs to a process that never imports oautom."""

    def __init__(self, tests: Tests) -> None:
        self._tests = tests
        self._mine, theirs = Pipe()
        self._server = _fork(lambda: self._serve(theirs))
        self._at_import: set[tuple[str, str]] = self._mine.recv()

    def try_out(self, mutant: Mutant, *, is_explained: bool) -> bool:
        """Return whether a test fails with this mutant.

        One that is explained is tried with quick tests only, and the fast way only.
        """
        if not mutant.inside or (mutant.path, mutant.inside) in self._at_import:
            module = Path(mutant.path).relative_to("oautom")
            first = ROOT / "tests" / "unit" / module.with_name(f"test_{module.stem}.py")
            if first.exists() and self._import(mutant, list(self._tests), [str(first)]):
                return True
            return not is_explained and self._import(mutant, list(self._tests))
        # Some lines are optimized away, so nobody is seen to reach them.
        names = self._reaching(mutant) or list(self._tests)
        if is_explained:
            names = [name for name in names if self._tests[name].seconds < QUICK]
        self._mine.send((mutant, names))
        return self._mine.recv() or (not is_explained and self._import(mutant, names))

    def close(self) -> None:
        """End the process that has collected the tests."""
        os.kill(self._server, signal.SIGKILL)
        _end(self._server)

    def _reaching(self, mutant: Mutant) -> list[str]:
        changed = range(mutant.first, mutant.last + 1)
        return [
            name
            for name, measured in self._tests.items()
            if not measured.lines.get(mutant.path, set()).isdisjoint(changed)
        ]

    def _import(self, mutant: Mutant, names: Sequence[str], paths: Iterable[str] = TESTS) -> bool:
        def trial() -> None:
            _limit()
            sys.meta_path.insert(0, _Importer(mutant))
            _pytest(lambda session: _run(session, _chosen(session, names), self._tests), paths)

        return _end(_fork(trial)) != SURVIVED

    def _serve(self, connection: Connection) -> NoReturn:
        self._mine.close()  # so that this process ends with the one that asks it
        at_import = _import_oautom()

        def serve(session: pytest.Session) -> None:
            functions = _functions({path for path, _ in at_import})
            connection.send(at_import)
            gc.collect()
            gc.freeze()
            while True:
                trial = partial(self._exchange, session, functions, *connection.recv())
                connection.send(_end(_fork(trial)) != SURVIVED)

        _pytest(serve)

    def _exchange(
        self,
        session: pytest.Session,
        functions: Functions,
        mutant: Mutant,
        names: Sequence[str],
    ) -> None:
        _limit()
        if _exchange(mutant, functions):
            _run(session, _chosen(session, names), self._tests)


def _limit() -> None:
    signal.alarm(60)  # until the first test starts
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    root = os.environ["PYTEST_DEBUG_TEMPROOT"]
    os.environ["PYTEST_DEBUG_TEMPROOT"] = mkdtemp(dir=root)


def _chosen(session: pytest.Session, names: Sequence[str]) -> list[pytest.Item]:
    item_by_name = {item.nodeid: item for item in session.items}
    return [item_by_name[name] for name in names if name in item_by_name]


def _import_oautom() -> set[tuple[str, str]]:
    """Import all of oautom, and return (path, name) of each function that this has called."""
    called: set[tuple[str, str]] = set()

    def note(frame: object, event: str, arg: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT / "oautom")):
            path = str(Path(code.co_filename).relative_to(ROOT))
            called.add((path, code.co_qualname.split(".<")[0]))

    sys.setprofile(note)
    import oautom.testing  # noqa: F401 - in forks only

    sys.setprofile(None)
    return called


def _functions(paths: set[str]) -> Functions:
    """Return the functions of these modules, wherever they are held."""
    found: Functions = {}
    places = {str(ROOT / path): path for path in paths}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in places:
            key = places[each.__code__.co_filename], each.__code__.co_qualname
            found.setdefault(key, []).append(each)
    return found


def _exchange(mutant: Mutant, functions: Functions) -> bool:
    """Give a function the code of the mutant; return whether that could be done."""
    module = compile(mutant.source, str(ROOT / mutant.path), "exec", dont_inherit=True)
    (code,) = _codes(module, mutant.inside)
    mine = functions.get((mutant.path, mutant.inside), [])
    for function in mine:
        function.__code__ = code
    return bool(mine)


def _codes(code: CodeType, name: str) -> list[CodeType]:
    if code.co_qualname == name:
        return [code]
    return [
        found
        for inner in code.co_consts
        if isinstance(inner, CodeType)
        for found in _codes(inner, name)
    ]


class _Importer(MetaPathFinder):
    """Has a mutant imported in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        place = str(ROOT / self._mutant.path)
        return spec_from_file_location(name, place, loader=_Loader(name, place, self._mutant))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, place: str, mutant: Mutant) -> None:
        super().__init__(name, place)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._mutant.source, self.path, "exec", dont_inherit=True)
