"""`keep_remote=True`: outputs that stay in a Dask cluster, and what becomes of them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import (
    BashExecution,
    Flow,
    FlowExecution,
    LostOutputError,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
)
from oautom.testing import check_history

from .conftest import HERE, lines, until

pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),  # Dask has its own
    pytest.mark.filterwarnings("error:Sending large graph"),
]
LOST = "LostOutputError: the output of step 'made' of flow 'flow' in vect "


@pytest.fixture
def log(tmp_path: Path) -> SqliteEventLog:
    return SqliteEventLog(tmp_path / "log.db")


@pytest.fixture(params=["memory", "file"])
def app(client: Any, tmp_path: Path, request: Any) -> Iterator[OAutom]:
    more = {} if request.param == "memory" else {"log": SqliteEventLog(tmp_path / "log.db")}
    with OAutom(OAutomMode.background, executor=client, **more) as app:
        yield app
        assert not [each for each in app.log.read() if each.name == "engine.error"]
        check_history(app.log.read())


class Passed:
    """Counts the bytes of the messages of this program."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from distributed.comm import tcp

        self.count = 0
        written, read = tcp.to_frames, tcp.from_frames

        async def to_frames(*args: Any, **more: Any) -> Any:
            frames = await written(*args, **more)
            self.count += sum(memoryview(frame).nbytes for frame in frames)
            return frames

        async def from_frames(frames: Any, *args: Any, **more: Any) -> Any:
            self.count += sum(memoryview(frame).nbytes for frame in frames)
            return await read(frames, *args, **more)

        monkeypatch.setattr(tcp, "to_frames", to_frames)
        monkeypatch.setattr(tcp, "from_frames", from_frames)


@pytest.mark.parametrize("keep_remote", [True, False])
def test_a_kept_output_does_not_come_through_the_program(
    client: Any,
    steps: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    keep_remote: bool,
) -> None:
    size = 100_000_000
    with OAutom(executor=client) as app:
        flow = Flow("flow", app)
        made = PythonExecution("made", flow, steps.repeat, [size], keep_remote=keep_remote)
        sized = PythonExecution("sized", flow, steps.size, [made])
        passed = Passed(monkeypatch)
        vect = app.run(flow)
        assert vect.result(sized) == size
        if keep_remote:
            assert passed.count < 1_000_000  # LocalCluster has its scheduler here, too
        else:
            assert passed.count > 2 * size  # it comes, and it goes
        monkeypatch.undo()
        assert len(vect.result(made)) == size


def test_the_log_has_a_handle_and_the_value_may_be_of_any_kind(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    flow = Flow("flow", app)
    made = PythonExecution("made", flow, steps.make, [str(side), 1000], keep_remote=True)
    sized = PythonExecution("sized", flow, len, [made])
    named = PythonExecution("named", flow, lambda context: "+".join(dict(context.inputs)))
    made >> named
    vect = app.run(flow)
    assert vect.state == "success", [step.error for step in vect.steps.values()]
    assert (vect.result(sized), vect.result(named)) == (1000, "made")
    (told,) = [e.data["output"] for e in vect.events() if e.name == "step.succeeded"][:1]
    assert list(told) == ["kept_remote"]
    assert set(told["kept_remote"]) == {"key", "bytes", "type"}
    assert 1000 < told["kept_remote"]["bytes"] < 1200
    assert told["kept_remote"]["type"].endswith("Plain")
    assert len(vect.result(made)) == len(vect.steps["made"].output) == 1000
    assert vect.result(made) is not vect.result(made)  # made anew for each reader
    assert len(lines(side)) == 1


def test_the_instances_of_a_map_keep_their_outputs(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("flow", app)
    items = PythonExecution("items", flow, lambda: [1, 2, 3])
    made = MapExecution("made", flow, lambda n: bytes(1000 * n), items, keep_remote=True)
    sizes = PythonExecution("sizes", flow, lambda each: [len(one) for one in each], [made])
    vect = app.run(flow)
    assert vect.state == "success", [step.error for step in vect.steps.values()]
    assert vect.result(sizes) == [1000, 2000, 3000]
    assert [len(one) for one in vect.result(made)] == [1000, 2000, 3000]
    assert len(vect.steps["made[1]"].output) == 2000


def test_what_runs_in_the_program_fetches_it(app: OAutom, tmp_path: Path) -> None:
    undone = tmp_path / "undone"
    child = Flow("child", app, params={"text": str})
    PythonExecution("size", child, len, [child.param("text")])
    flow = Flow("flow", app)
    made = PythonExecution(
        "made", flow, lambda: "x" * 1000, keep_remote=True, compensate=f'echo "$OUTPUT" > {undone}'
    )
    told = BashExecution("told", flow, 'echo "${#TEXT}"', env={"TEXT": made})
    below = FlowExecution("below", flow, child, {"text": made})
    fails = PythonExecution("fails", flow, int, ["no"])
    [told, below] >> fails
    vect = app.run(flow)
    assert vect.steps["fails"].error.startswith("ValueError"), [
        step.error for step in vect.steps.values()
    ]
    assert vect.result(told) == "1000"
    assert vect.result(below) == {"size": 1000}
    assert len(undone.read_text().strip()) == 1000


def test_an_output_that_no_pickle_has_fails_its_step(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("flow", app)
    PythonExecution("made", flow, steps.unpicklable, keep_remote=True)
    vect = app.run(flow)
    assert vect.state == "failed"
    assert vect.steps["made"].error.startswith("its output cannot be kept: TypeError: ")


def test_it_is_there_for_a_retry_of_the_vect(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    side, go_on = tmp_path / "side", tmp_path / "go on"
    flow = Flow("flow", app)
    made = PythonExecution("made", flow, steps.make, [str(side), 10], keep_remote=True)
    PythonExecution(
        "needs", flow, lambda x, path: len(x) + len(Path(path).read_text()), [made, str(go_on)]
    )
    vect = app.run(flow)
    assert vect.state == "failed"
    go_on.touch()
    vect.retry()
    assert vect.wait(60) == "success"
    assert vect.result("needs") == 10
    assert len(lines(side)) == 1


def kill(path: Path, line: str) -> None:
    """Kill the worker that has written a line."""
    (pid,) = [each.split()[-1] for each in lines(path) if each.startswith(line)][-1:]
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("large", [0, 3_000_000])
def test_an_output_whose_worker_dies_is_lost_and_its_step_does_not_run_again(
    app: OAutom, client: Any, steps: ModuleType, tmp_path: Path, large: int
) -> None:
    side, go_on = tmp_path / "side", tmp_path / "go on"
    flow = Flow("flow", app)
    made = PythonExecution(
        "made", flow, steps.make, [str(side), 1000, large * "x"], keep_remote=True
    )
    PythonExecution("waits", flow, steps.ignore, [str(tmp_path / "waits"), str(go_on)])
    takes = PythonExecution("takes", flow, len, [made], retry=RetryPolicy(max_attempts=5, delay=0))
    other = PythonExecution("other", flow, lambda: "needs it not")
    flow.steps["waits"] >> takes
    [flow.steps["waits"], made] >> other
    vect = app.start(flow)
    until(lambda: vect.steps["made"].state == "success" and lines(tmp_path / "waits"))
    kill(side, "make")
    until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2)
    go_on.touch()
    assert vect.wait(90) == "failed"
    assert vect.steps["takes"].error.startswith(LOST + f"'{vect.id}' was kept in the cluster by ")
    assert vect.result(other) == "needs it not"
    assert vect.steps["made"].state == "success"
    with pytest.raises(LostOutputError, match="start the flow again, or without keep_remote") as e:
        vect.result(made)
    assert (e.value.flow, e.value.vect, e.value.step) == ("flow", vect.id, "made")
    assert len(lines(side)) == 1  # the success in the log ran once
    starts = [e for e in vect.events() if e.name == "step.started" and e.step == "takes"]
    losses = [e for e in vect.events() if e.name == "step.interrupted" and e.step == "takes"]
    assert len(starts) == 1 + len(losses)  # no retry: it would not come back


def test_an_output_that_is_lost_while_its_dependant_has_it_is_not_missed(
    app: OAutom, client: Any, steps: ModuleType, tmp_path: Path
) -> None:
    side, go_on = tmp_path / "side", tmp_path / "go on"
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    flow = Flow("flow", app)
    made = PythonExecution(
        "made", flow, steps.make, [str(side), 10], keep_remote=True, submit={"workers": workers[:1]}
    )
    takes = PythonExecution(
        "takes",
        flow,
        steps.make_once_let_go,
        [str(tmp_path / "takes"), str(go_on), made],
        submit={"workers": workers[1:]},
    )
    vect = app.start(flow)
    until(lambda: lines(tmp_path / "takes"))
    kill(side, "make")
    go_on.touch()
    assert vect.wait(60) == "success", vect.steps["takes"].error
    assert vect.result(takes) == 10


def test_the_cluster_does_not_fill_over_many_runs(
    client: Any, steps: ModuleType, tmp_path: Path
) -> None:
    def there(dask_scheduler: Any) -> list[str]:
        tasks = [key for key in dask_scheduler.tasks if str(key).startswith("oautom.")]
        return [*dask_scheduler.plugins["oautom-1"]._entries, *tasks]

    with OAutom(executor=client) as app:
        flow = Flow("flow", app)
        made = PythonExecution("made", flow, steps.repeat, [1000], keep_remote=True)
        sized = PythonExecution("sized", flow, steps.size, [made])
        vects = [app.run(flow) for _ in range(20)]
        assert [vect.result(sized) for vect in vects] == 20 * [1000]
        kept = vects.pop()
        del vects
        gc.collect()
        until(lambda: len(client.futures) == 1)
        until(lambda: len(client.run_on_scheduler(there)) == 2)
        assert kept.result(made) == 1000 * "x"
        del kept
        gc.collect()
        until(lambda: client.run_on_scheduler(there) == [])


PROGRAM = """
import os, signal, sys
sys.path.insert(0, {here!r})
import dask_steps
from distributed import Client
from oautom import Flow, LostOutputError, OAutom, PythonExecution, SqliteEventLog

with Client({address!r}) as client, OAutom(log=SqliteEventLog({log!r}), executor=client) as app:
    flow = Flow("flow", app)
    made = PythonExecution("made", flow, dask_steps.make, [{side!r}, 100], keep_remote=True)
    waits = PythonExecution("waits", flow, dask_steps.ignore, [{begun!r}, {go_on!r}])
    takes = PythonExecution("takes", flow, len, [made])
    other = PythonExecution("other", flow, len, ["it needs nothing"])
    made >> waits >> [takes, other]
    made >> other
    if sys.argv[1] == "run":
        app.run(flow)
    (vect,) = app.recover()
    assert vect.wait() == "failed"
    assert vect.result(other) == 16
    print(vect.steps["takes"].error)
    try:
        vect.result(made)
    except LostOutputError as error:
        print(error)
"""


def test_an_output_is_lost_with_its_program_and_its_step_does_not_run_again(
    cluster: Any, client: Any, tmp_path: Path
) -> None:
    names = {name: str(tmp_path / name) for name in ("log", "side", "begun", "go_on")}
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(here=str(HERE), address=cluster.scheduler_address, **names))
    first = subprocess.Popen([sys.executable, program, "run"])
    until(lambda: lines(tmp_path / "begun"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    (tmp_path / "go_on").touch()
    second = subprocess.run(
        [sys.executable, program, "recover"], capture_output=True, text=True, timeout=90, check=True
    )
    of_step, of_reader = second.stdout.splitlines()
    assert of_step.startswith(LOST)
    assert of_step == f"LostOutputError: {of_reader}"
    assert len(lines(tmp_path / "side")) == 1
