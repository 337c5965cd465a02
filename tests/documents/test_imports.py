"""Which module may import which: never each other, not for types either; and who is internal."""

from __future__ import annotations

import ast
from pathlib import Path

import oautom

ROOT = Path(oautom.__file__).parent
PUBLIC = {
    "oautom",
    "oautom.client",
    "oautom.events",
    "oautom.events.sqlite",
    "oautom.events.subscribers",
    "oautom.testing",
    "oautom.web",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def imported_by(module: str, tree: ast.Module) -> set[str]:
    """Return the modules of oautom that a module imports anywhere, as under `TYPE_CHECKING`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; write the whole name"
            names = (f"{node.module}.{each.name}" for each in node.names)
            found.update(name if name in MODULES else node.module or "" for name in names)
    return found & MODULES.keys() - {module}


def test_no_two_modules_import_each_other() -> None:
    imports = {module: imported_by(module, tree) for module, tree in MODULES.items()}
    assert sum(map(len, imports.values())) > len(MODULES)  # else nothing was found
    mutual = [(one, two) for one in imports for two in imports[one] if one in imports[two]]
    assert mutual == []


def test_each_folder_that_is_not_public_says_that_it_is_internal() -> None:
    folders = {name_of(path) for path in ROOT.rglob("__init__.py")}
    assert folders >= PUBLIC
    internal = {
        name for name in folders if (ast.get_docstring(MODULES[name]) or "").startswith("Internal.")
    }
    assert internal == folders - PUBLIC
