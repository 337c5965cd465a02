"""Without its extra, the page says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "uvicorn"])
def test_a_library_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.path.insert(0, {str(ROOT)!r})\n"
        "from oautom.cli.main import main\n"
        "main(['page', '--log', 'none.db', '--port', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 2
    assert f"oautom's page needs {missing}: pip install 'oautom[web]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_templates_are_in_the_package() -> None:
    files = {each.suffix for each in (ROOT / "oautom" / "web").rglob("*.*")}
    assert {".html", ".css", ".js", ".svg"} <= files
    for script in (ROOT / "oautom" / "web").rglob("*.js"):
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 300
    for page in (ROOT / "oautom" / "web").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "| safe" not in text
        assert "://" not in text
