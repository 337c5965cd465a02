"""Commands end with the first failure in them, as those of a CI do; unless they shall not."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec import structs

from oautom import (
    BashExecution,
    Event,
    Flow,
    FlowError,
    OAutom,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
    TriggerRule,
    Vect,
)
from oautom.testing import ReplayDiffersError, assert_replays, check_history, simulate

FAILS = {
    "in the middle": "false; echo done",
    "in a pipe": "false | cat; echo done",
    "at the head of a pipe": "false | tee said",
    "in a substitution": 'found="$(false)"; echo done',
    "in a group": "{ false; true; }; echo done",
    "in a function": "work() { false; true; }; work; echo done",
    "in a subshell": "(false; true); echo done",
}
GOES_ON = {
    "is checked": "if false; then echo never; fi; echo done",
    "is replaced": "false || true; echo done",
    "is negated": "! false; echo done",
    "is left of the last one": "false && true || echo done",
    "is let be": "set +e; false; echo done",
}


def states(vect: Vect) -> list[str]:
    return [step.state for step in vect.steps.values()]


@pytest.mark.parametrize("command", FAILS.values(), ids=FAILS)
def test_a_failure_anywhere_in_a_command_fails_its_step(
    any_app: OAutom, tmp_path: Path, command: str
) -> None:
    flow = Flow("flow", any_app)
    BashExecution("strict", flow, command, cwd=tmp_path)
    BashExecution("loose", flow, command, cwd=tmp_path, strict=False)
    vect = any_app.run(flow)

    assert states(vect) == ["failed", "success"]
    assert vect.steps["strict"].error == "the command exited with code 1"
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


@pytest.mark.parametrize("command", GOES_ON.values(), ids=GOES_ON)
def test_a_failure_that_a_command_sees_to_itself_fails_nothing(
    inline: OAutom, command: str
) -> None:
    flow = Flow("flow", inline)
    BashExecution("step", flow, command)

    assert inline.run(flow).result("step") == "done"


@pytest.mark.parametrize("of_flow", [None, True, False])
@pytest.mark.parametrize("of_class", [None, True, False])
@pytest.mark.parametrize("of_step", [None, True, False])
def test_a_step_says_otherwise_than_its_flow(
    inline: OAutom, of_flow: bool | None, of_class: bool | None, of_step: bool | None
) -> None:
    """And than its class, which says otherwise than its flow."""
    kind = type("Kind", (BashExecution,), {} if of_class is None else {"strict": of_class})
    flow = Flow("flow", inline, **{} if of_flow is None else {"strict": of_flow})
    step = kind("step", flow, "false; true", strict=of_step)
    vect = inline.run(flow)

    is_strict = next(each for each in (of_step, of_class, of_flow, True) if each is not None)
    assert step.strict is is_strict
    assert states(vect) == ["failed" if is_strict else "success"]
    assert (vect.events()[0].data.get("bash") == "strict") is is_strict
    assert vect.events()[0].data.get("options", {}) == (
        {} if is_strict else {"step": {"strict": False}}
    )


def test_a_flow_without_commands_tells_nothing_of_them(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    PythonExecution("step", flow, str)

    assert set(inline.run(flow).events()[0].data) == {"params", "graph"}


@pytest.mark.parametrize("wrong", [0, 1, "no", [], "True"])
def test_what_is_neither_true_nor_false_is_refused(inline: OAutom, wrong: Any) -> None:
    flow = Flow("flow", inline)
    with pytest.raises(FlowError, match="step 'a' of flow 'flow': strict must be True or False, "):
        BashExecution("a", flow, "true", strict=wrong)
    with pytest.raises(FlowError, match="flow 'other': strict must be True or False, not "):
        Flow("other", inline, strict=wrong)
    with pytest.raises(FlowError, match="flow 'other': strict must be True or False, not None"):
        Flow("other", inline, strict=None)  # type: ignore[arg-type]


# Pipes


@pytest.mark.parametrize(
    "command",
    ["yes | head -1", "first=$(yes | head -1); echo $first", "yes | (read -r line; echo $line)"],
)
def test_a_failure_by_sigpipe_says_so(inline: OAutom, command: str) -> None:
    flow = Flow("flow", inline)
    BashExecution("strict", flow, command)
    BashExecution("loose", flow, command, strict=False)
    vect = inline.run(flow)

    error = vect.steps["strict"].error or ""
    assert error.startswith(
        "the command exited with code 141, since SIGPIPE has ended a command in a pipe: the one "
        "that reads from it ended first, as in `yes | head -1`; let that one read to the end, or "
        "turn pipefail off (strict=False)"
    )
    assert [e.data["exit_code"] for e in vect.events() if e.name == "step.failed"] == [141]
    assert vect.result("loose") == "y"


def test_no_other_exit_code_speaks_of_pipes(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    for code in (1, 13, 140, 142):
        BashExecution(str(code), flow, f"exit {code}")

    vect = inline.run(flow)
    for code in (1, 13, 140, 142):
        assert vect.steps[str(code)].error == f"the command exited with code {code}"


# Skips


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo 'nothing new'; exit 99", "nothing new"),
        ("echo first; echo last; echo; echo '  '; exit 99", "last"),
        ("echo 'nothing new' >&2; exit 99", "nothing new"),
        ("printf 'no end of line'; exit 99", "no end of line"),
        ("printf 'a\\tb\\033[31m\\r\\n'; exit 99", "a\\tb\\x1b[31m"),
        ("exit 99", "the command exited with code 99"),
        ("(echo up to date; exit 99); echo never", "up to date"),
        ("(echo up to date; exit 99) | cat", "up to date"),
    ],
)
def test_the_reason_of_a_skip_is_the_last_line(inline: OAutom, command: str, reason: str) -> None:
    flow = Flow("flow", inline)
    BashExecution("step", flow, command)
    vect = inline.run(flow)

    assert states(vect) == ["skipped"]
    assert vect.steps["step"].error == reason
    assert vect.events()[-2].data == {"reason": reason}


def test_a_reason_as_long_as_an_error_may_be_is_cut(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    BashExecution("step", flow, "head -c 1000000 /dev/zero | tr '\\0' x; exit 99")

    reason = inline.run(flow).steps["step"].error or ""
    assert 10_000 < len(reason) <= 16_384
    assert "characters left out" in reason


# Logs


def left_open(path: Path, count: int, *, is_old: bool) -> None:
    """Leave the first events of a Vect in a log, as an older version wrote them, or ours."""
    with OAutom(executor="inline") as app:
        flow = flow_of(app)
        events = simulate(flow).events()[:count]
    if is_old:
        events = [without_bash(event) for event in events]
    log = SqliteEventLog(path, synchronous="NORMAL")
    for event in events:
        log.append(None, structs.replace(event, vect="open"))
    log.commit()
    log.close()


def without_bash(event: Event) -> Event:
    data = {key: value for key, value in event.data.items() if key != "bash"}
    return structs.replace(event, data=MappingProxyType(data))


def flow_of(app: OAutom) -> Flow:
    flow = Flow("flow", app)
    PythonExecution("first", flow, str) >> BashExecution("work", flow, "false | cat; echo done")
    last = BashExecution("last", flow, "false; echo done", trigger_rule=TriggerRule.ALL_DONE)
    flow.steps["work"] >> last
    return flow


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize(
    ("executor", "count"),
    [*(("inline", count) for count in range(1, 6)), ("threads", 5), ("processes", 5)],
)
def test_a_vect_that_is_open_goes_on_as_it_began(
    tmp_path: Path, count: int, is_old: bool, executor: str
) -> None:
    """Whether it died before its command, or while that ran."""
    left_open(tmp_path / "runs.db", count, is_old=is_old)
    with OAutom(log=tmp_path / "runs.db", executor=executor, max_workers=1) as app:
        flow = flow_of(app)
        (vect,) = app.recover()
        vect.wait()
        work, last = (vect.steps[name].state for name in ("work", "last"))
        assert (work, last) == (("success",) * 2 if is_old else ("failed",) * 2)
        check_history(app.log.read(), flow)
        assert_replays(app.log, flow)

        begun = app.run(flow)  # what begins now is as new
        assert begun.steps["work"].state == "failed"


def test_a_vect_of_an_old_log_that_is_retried_goes_on_as_it_began(tmp_path: Path) -> None:
    with OAutom(executor="inline") as app:
        failed = simulate(flow_of(app), outcomes={"work": RuntimeError("no")}).events()
    log = SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")
    for event in failed:
        log.append(None, without_bash(event))
    log.commit()
    log.close()

    with OAutom(log=tmp_path / "runs.db") as app:
        flow_of(app)
        (vect,) = app.vects()
        vect.retry()
        assert vect.wait() == "success"
        assert states(vect) == ["success"] * 3


def test_what_a_vect_began_with_counts_and_not_what_its_step_says_now(tmp_path: Path) -> None:
    """Also where other options of the step are news, which the recovery tells."""

    def declared(app: OAutom, *, strict: bool) -> Flow:
        flow = Flow("flow", app, strict=strict)
        again = RetryPolicy(max_attempts=2, delay=0)
        BashExecution("work", flow, "false; echo done", retry=again if is_retried else None)
        return flow

    for then, now, is_news in product((True, False), (True, False), (True, False)):
        path = tmp_path / f"{then} {now} {is_news}.db"
        is_retried = False
        with OAutom(log=path) as app:
            app.start(declared(app, strict=then), vect_id="open")
        is_retried = is_news
        with OAutom(log=path) as app:
            declared(app, strict=now)
            (vect,) = app.recover()
            assert vect.wait() == ("failed" if then else "success")


def test_a_replay_tells_a_step_that_is_strict_now_from_one_that_was_not(inline: OAutom) -> None:
    def declared(name: str, **options: Any) -> Flow:
        flow = Flow(name, OAutom(), **options)
        BashExecution("work", flow, "true")
        return flow

    strict, loose = declared("flow"), declared("flow", strict=False)
    for one, other in ((strict, loose), (loose, strict)):
        log = simulate(one).events()
        assert_replays(log, one)
        with pytest.raises(ReplayDiffersError, match="strict of 'work' is "):
            assert_replays(log, other)
    old = [without_bash(event) for event in simulate(strict).events()]
    for each in (strict, loose):
        assert_replays(old, each)
