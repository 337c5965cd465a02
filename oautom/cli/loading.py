"""APP: the user's code, named as `package.module:app` or `file.py:app`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from oautom.app import OAutom
from oautom.cli.exits import NOT_FOUND, USAGE, Refusal, near_miss

T = TypeVar("T")


def load_app(named: str) -> OAutom:
    """Return the app that an argument names: an `OAutom`, or a function that makes one.

    Args:
        named: `package.module:app` or `file.py:app`. Without `:app`, its only `OAutom`.

    Raises:
        Refusal: There is no such module, file or app, or it cannot be imported.
    """
    place, _, attribute = named.rpartition(":") if ":" in named else (named, "", "")
    if not place:
        raise Refusal(f"APP is '{named}', write package.module:app or file.py:app", USAGE)
    module = _module(place)
    found = _attribute(module, place, attribute) if attribute else _only_app(module, place)
    if not isinstance(found, OAutom) and callable(found):
        found = _guarded(found, f"'{named}' cannot be called without arguments")
    if not isinstance(found, OAutom):
        kind = type(found).__name__
        raise Refusal(
            f"'{named}' is no OAutom but of type {kind}; name an OAutom, or a function that makes "
            "one",
            USAGE,
        )
    return found


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        sys.path.insert(0, "")  # as `python -m` has it: what lies in the folder that one is in
        return _imported(place)
    path = Path(place).resolve()
    if not path.is_file():
        there = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise Refusal(f"there is no file '{place}'{near_miss(path.name, there)}", NOT_FOUND)
    sys.path.insert(0, str(path.parent))  # as for a program: what lies beside it is imported
    name = path.stem if path.stem not in sys.modules else f"_oautom_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "any file that ends in .py has one"
    assert spec.loader is not None, "as above"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # functions in it are pickled by its name
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), f"'{place}' cannot be imported")
    return module


def _imported(name: str) -> ModuleType:
    try:
        is_there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):  # of the package above it, or of no name
        is_there = name.partition(".")[0] in sys.modules
    if not is_there:
        hint = f"; is it the file '{name}.py'?" if Path(f"{name}.py").is_file() else ""
        raise Refusal(f"there is no module '{name}'{hint}", NOT_FOUND)
    return _guarded(lambda: importlib.import_module(name), f"'{name}' cannot be imported")


def _guarded(function: Callable[[], T], what: str) -> T:
    """Call the user's code; what it raises is told in one sentence, with the line."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [each for each in frames if each.filename != __file__ and each.filename[0] != "<"]
        where = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
        said = f"{type(error).__name__}: {error}"
        raise Refusal(f"{what}: {said}{where}", NOT_FOUND) from error


def _attribute(module: ModuleType, place: str, attribute: str) -> object:
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            known = [each for each in dir(found) if not each.startswith("_")]
            raise Refusal(f"'{place}' has no '{name}'{near_miss(name, known)}", NOT_FOUND)
        found = getattr(found, name)
    return found


def _only_app(module: ModuleType, place: str) -> OAutom:
    apps = {name: each for name, each in vars(module).items() if isinstance(each, OAutom)}
    if len(set(map(id, apps.values()))) == 1:
        return next(iter(apps.values()))
    if not apps:
        raise Refusal(
            f"'{place}' has no OAutom; name a function that makes one: {place}:function", NOT_FOUND
        )
    names = ", ".join(f"{place}:{name}" for name in apps)
    raise Refusal(f"'{place}' has several; name one of them: {names}", USAGE)
