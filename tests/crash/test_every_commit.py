"""A program that dies at its 1st, 2nd, ... commit, each followed by a life to the end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from .checks import Evidence
from .harness import IS_LONG, Life, finish, swept
from .plans import Plan, drawn

PLACES = ("before", "middle", "uncommitted", "after")


def plan_of(mode: str, executor: str) -> Plan:
    def step(name: str, kind: str, upstreams: list[str], **options: object) -> dict[str, object]:
        unless_said = {"seconds": 0.01, "outcome": "end", "on_crash": "rerun"}
        return {"name": name, "kind": kind, "upstreams": upstreams} | unless_said | options

    steps = [
        step("a", "tree", []),
        step("b", "python", ["a"], gives=3),
        step("c", "bash", ["a"], outcome="fail"),
        step("d", "deaf", ["b"], on_crash="fail"),
        step("e", "bash", ["c", "d"]),
        step("f", "bash", ["a"], outcome="flaky"),
        step("m", "map", ["b"], over="b", items=["end", "flaky", "end"], max_parallel=2),
        step("n", "map", ["m"], over="m", items=["end", "end", "skip"], max_parallel=None),
        step("g", "approval", ["a"], by="program", on_crash="fail"),
        step("h", "python", ["g", "n"]),
    ]
    return drawn(1, mode=mode, executor=executor, max_workers=2, flows={"flow": steps}) | {
        "vects": {"one": "flow", "two": "flow"} if IS_LONG else {"one": "flow"},
        "pauses": {},
    }


@pytest.mark.timeout(900 if IS_LONG else 120)
@pytest.mark.parametrize("place", PLACES if IS_LONG else ["all"])
@pytest.mark.parametrize(
    ("mode", "executor"),
    [("background", "threads"), ("foreground", "inline"), ("background", "processes")]
    if IS_LONG
    else [("foreground", "threads")],
)
def test_whichever_commit_the_program_dies_at_the_next_life_goes_on(
    tmp_path: Path, mode: str, executor: str, place: str
) -> None:
    """In the short form, every third commit has one of the four places by turns."""
    for n in range(1, 100, 1 if IS_LONG else 3):
        where = PLACES[n // 3 % len(PLACES)] if place == "all" else place
        plan = plan_of(mode, executor) | {"dies": (where, n)}
        with swept(tmp_path / str(n)) as folder:
            (folder / "plan.json").write_text(json.dumps(plan))
            (folder / "next.json").write_text(json.dumps(plan_of(mode, executor)))
            evidence = Evidence(folder, plan)
            code = Life(folder, "plan.json").end()
            evidence.look()
            finish(folder, evidence, "next.json")
            assert (n, where, evidence.violations) == (n, where, [])
            assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
    assert 5 <= n < 99
