"""A page of runs whose steps leak their secret in every way that oautom watches."""

from __future__ import annotations

from pathlib import Path

import pytest

from oautom import OAutom
from tests.behaviour import secret_program

from .conftest import served

VALUE = "s3cr'et <b>&\"Ü\\.*+[value]"


def test_a_page_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", VALUE)
    path = tmp_path / "runs.db"
    with OAutom(log=path) as app:
        vect = app.run(secret_program.declare(app), vect_id="v")
        names = list(vect.steps)
    with served(path) as site:
        answers = {name: site.get("step", id="v", step=name) for name in names}
        answers |= {"run": site.get("run", id="v"), "runs": site.get("")}
    assert {answer.status for answer in answers.values()} == {200}
    for what, answer in answers.items():
        for form in ("s3cr", "[value]"):
            assert form not in answer.text, what
    assert "***" in answers["prints"].text
