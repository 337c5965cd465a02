"""A Dask cluster as executor: two worker processes of one thread, and what can happen to them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution, RetryPolicy, SettingError
from oautom.testing import check_history

from .conftest import HERE, lines, until

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),  # Dask has its own
    pytest.mark.filterwarnings("error:Sending large graph"),
]


def names(app: OAutom, step: str) -> list[str]:
    return [event.name for event in app.log.read() if event.step == step]


def test_steps_run_on_the_workers_and_get_each_others_outputs(
    app: OAutom, steps: ModuleType
) -> None:
    flow = Flow("flow", app)
    first = PythonExecution("first", flow, steps.process)
    second = PythonExecution("second", flow, str, [first.output])
    first >> second
    vect = app.run(flow)
    assert vect.state == "success"
    assert vect.result(first) != os.getpid()
    assert vect.result(second) == str(vect.result(first))


def test_lambdas_and_functions_of_a_program_run_there(app: OAutom) -> None:
    def local(number: int) -> int:
        return number + added

    added = 40
    flow = Flow("flow", app)
    one = PythonExecution("one", flow, lambda: os.getpid())
    two = PythonExecution("two", flow, local, [2])
    vect = app.run(flow)
    assert vect.state == "success", [step.error for step in vect.steps.values()]
    assert vect.result(one) != os.getpid()
    assert vect.result(two) == 42


def test_an_executor_of_a_client_is_a_client_with_options(client: Any, steps: ModuleType) -> None:
    address, *_ = client.scheduler_info(n_workers=-1)["workers"]
    with OAutom(executor=client.get_executor(workers=[address], retries=3)) as app:
        flow = Flow("flow", app)
        made = [PythonExecution(f"s{number}", flow, steps.process) for number in range(4)]
        vect = app.run(flow)
        assert len({vect.result(step) for step in made}) == 1


def test_submit_says_which_worker_and_an_unknown_option_is_named(
    client: Any, app: OAutom, steps: ModuleType
) -> None:
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    pids = client.run(os.getpid)
    flow = Flow("flow", app)
    made = [
        PythonExecution(f"s{n}", flow, steps.process, submit={"workers": [address]})
        for n, address in enumerate(addresses)
    ]
    odd = PythonExecution("odd", flow, steps.process, submit={"gpus": 1})
    vect = app.run(flow)
    assert [vect.result(step) for step in made] == [pids[address] for address in addresses]
    error = vect.steps[odd.name].error
    assert "submit={'gpus': ...} is nothing that a Dask cluster takes; it takes " in error


def test_what_a_step_writes_comes_while_it_runs(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    flow = Flow("flow", app)
    PythonExecution("writes", flow, steps.write, [str(tmp_path / "go on")])
    vect = app.start(flow)
    until(lambda: "printed" in vect.steps["writes"].log_text)
    assert vect.steps["writes"].log_text == "INFO logged\nprinted\n"
    (tmp_path / "go on").touch()
    vect.wait(60)
    assert vect.steps["writes"].log_text == "INFO logged\nprinted\nprinted last\n"


@pytest.mark.parametrize("ship", [False, True])
def test_a_secret_is_masked_where_the_step_runs(
    client: Any, steps: ModuleType, tmp_path: Path, ship: bool
) -> None:
    value = "s3cret of the cluster"
    with OAutom(
        OAutomMode.background, executor=client, secrets=lambda name: value, ship_secrets=ship
    ) as app:
        flow = Flow("flow", app)
        key = flow.secret("KEY_OF_DASK")
        PythonExecution("leaks", flow, steps.leak, [str(tmp_path / "go on"), key])
        note = [str(tmp_path / "note"), key]
        PythonExecution("returns", flow, steps.noted, note)
        PythonExecution("keeps", flow, steps.noted, note, keep_remote=True)
        vect = app.start(flow)
        if not ship:
            vect.wait(60)
            for step in vect.steps.values():
                assert "takes secret('KEY_OF_DASK'), but the environment of its worker has no" in (
                    step.error or ""
                )
            return
        until(lambda: "it is" in vect.steps["leaks"].log_text)
        assert vect.steps["leaks"].log_text == "INFO with ***\nit is ***\nand "
        (tmp_path / "go on").touch()
        vect.wait(60)
        assert vect.steps["leaks"].log_text == "INFO with ***\nit is ***\nand ***\n"
        assert vect.steps["leaks"].error == "ValueError: no ***"
        for name in ("returns", "keeps"):
            assert "its output contains secret('KEY_OF_DASK')" in (vect.steps[name].error or "")
        assert "s3cret" not in repr(vect.events())


def test_much_text_comes_whole_and_in_order(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("flow", app)
    PythonExecution("writes", flow, steps.write_much, [5000])
    vect = app.run(flow)
    expected = "".join(f"line {number} {80 * 'x'}\n" for number in range(5000))
    assert vect.steps["writes"].log_text == expected


def test_a_cancel_takes_back_what_waits_and_reaches_what_runs(
    app: OAutom, steps: ModuleType, tmp_path: Path, client: Any
) -> None:
    side = tmp_path / "side"
    flow = Flow("flow", app)
    for number in range(2):
        PythonExecution(f"s{number}", flow, steps.wait, [str(side), 30])
    vect = app.start(flow)
    until(lambda: len(lines(side)) == 2)
    vect.cancel()
    assert vect.wait(60) == "cancelled"
    until(lambda: len(lines(side)) == 4)
    assert sorted(lines(side)[2:]) == ["end s0 1 cancelled", "end s1 1 cancelled"]


def test_a_cancel_takes_back_what_dask_has_not_begun(
    client: Any, steps: ModuleType, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    with OAutom(OAutomMode.background, executor=client, max_workers=8) as app:
        flow = Flow("flow", app)
        for number in range(8):
            PythonExecution(f"s{number}", flow, steps.wait, [str(side), 30])
        vect = app.start(flow)
        until(lambda: len(lines(side)) == 2)
        vect.cancel()
        assert vect.wait(60) == "cancelled"
    begun = [line for line in lines(side) if line.startswith("begin")]
    assert 2 <= len(begun) < 8  # one may begin in place of one that was cancelled before it
    assert len(lines(side)) == 2 * len(begun)


def test_a_step_that_ignores_its_cancel_ends_by_itself_and_is_waited_for(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    side, go_on = tmp_path / "side", tmp_path / "go on"
    flow = Flow("flow", app)
    PythonExecution("deaf", flow, steps.ignore, [str(side), str(go_on)])
    vect = app.start(flow)
    until(lambda: lines(side) == ["begin"])
    vect.cancel()
    assert vect.state == "cancelled"
    go_on.touch()
    vect.wait(60)
    until(lambda: "step.late_result" in names(app, "deaf"))
    assert lines(side) == ["begin", "end"]


@pytest.mark.parametrize("function", ["wait", "wait_async"])
def test_a_timeout_reaches_the_worker(
    app: OAutom, steps: ModuleType, tmp_path: Path, function: str
) -> None:
    side = tmp_path / "side"
    arguments = [str(side), 60] if function == "wait" else [str(side)]
    for seconds in (0.5, 3, 20):  # it counts from the start in the log: a slow machine needs longer
        flow = Flow(f"flow {seconds}", app)
        step = PythonExecution("late", flow, getattr(steps, function), arguments, timeout=seconds)
        vect = app.run(flow)
        assert vect.steps[step.name].error == (
            f"it took longer than its timeout of {seconds:g} seconds"
        )
        if lines(side):
            break
    begin, end = lines(side)
    assert begin.startswith("begin")
    assert end == ("end late 1 cancelled" if function == "wait" else "end")


def test_a_step_whose_worker_dies_is_interrupted_and_runs_again(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    flow = Flow("flow", app)
    step = PythonExecution("dies", flow, steps.die, [str(side), 2])
    vect = app.run(flow)
    assert vect.state == "success"
    assert vect.result(step) == 3
    starts = [event for event in app.log.read() if event.name == "step.started"]
    assert lines(side) == ["begin 1", "begin 2", "begin 3"]
    assert len(starts) == 3
    (first, _) = [event for event in app.log.read() if event.name == "step.interrupted"]
    assert "died, or its connection was cut, while it had the step" in first.data["reason"]


def test_a_module_that_the_workers_do_not_have_is_named(
    app: OAutom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def work():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    flow = Flow("flow", app)
    PythonExecution("step", flow, only_here.work)
    vect = app.run(flow)
    assert vect.state == "failed"
    error = vect.steps["step"].error
    assert error.startswith("the worker of step 'step' has no module 'only_here'")


def test_a_skip_an_error_and_one_that_no_pickle_has_come_back(
    app: OAutom, steps: ModuleType
) -> None:
    flow = Flow("flow", app)
    PythonExecution("skips", flow, steps.skip)
    PythonExecution("fails", flow, int, ["a"])
    PythonExecution("odd", flow, steps.fail_oddly, retry=RetryPolicy(max_attempts=2, delay=0))
    vect = app.run(flow)
    assert vect.steps["skips"].state == "skipped"
    assert vect.steps["fails"].error.startswith("ValueError: invalid literal for int()")
    assert vect.steps["odd"].error == "OddError: odd"
    assert vect.steps["odd"].attempt == 2


def test_large_arguments_and_outputs_pass_without_a_warning(
    app: OAutom, steps: ModuleType, recwarn: pytest.WarningsRecorder
) -> None:
    flow = Flow("flow", app)
    made = PythonExecution("made", flow, steps.repeat, [20_000_000])
    sized = PythonExecution("sized", flow, steps.size, [made.output])
    made >> sized
    vect = app.run(flow)
    assert vect.result(sized) == 20_000_000
    assert [str(each.message) for each in recwarn if "large" in str(each.message)] == []


def test_slots_follow_the_threads_of_the_cluster(cluster: Any, client: Any) -> None:
    with OAutom(OAutomMode.background, executor=client) as app:
        workers = app._scheduler.runner._workers
        assert workers.slots == 2
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address),
                *("--no-nanny", "--nthreads=3", "--no-dashboard"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: workers.slots == 5)
        finally:
            worker.terminate()
            worker.wait()
        until(lambda: workers.slots == 2)


def test_close_leaves_nothing(client: Any, steps: ModuleType, tmp_path: Path) -> None:
    side = tmp_path / "side"
    with OAutom(OAutomMode.background, executor=client, max_workers=4) as app:
        flow = Flow("flow", app)
        for number in range(4):
            PythonExecution(f"s{number}", flow, steps.wait, [str(side), 30])
        app.start(flow)
        until(lambda: len(lines(side)) == 2)
    until(lambda: not client.futures)
    until(lambda: have_ended(lines(side)))
    until(lambda: "oautom-dask" not in [thread.name for thread in threading.enumerate()])
    until(lambda: client.run_on_scheduler(entries) == [])
    assert have_ended(lines(side))
    assert client.status == "running"


def have_ended(noted: list[str]) -> bool:
    """Whether each step that has begun was cancelled; one may begin in the place of another."""
    begun = [line for line in noted if line.startswith("begin")]
    return len(begun) >= 2 and len(noted) == 2 * len(begun)


def entries(dask_scheduler: Any) -> list[str]:
    ledger = dask_scheduler.plugins["oautom-1"]
    tasks = [key for key in dask_scheduler.tasks if str(key).startswith("oautom.")]
    return [*ledger._entries, *ledger._clients, *tasks]


def test_clients_that_cannot_be_used_are_refused(client: Any) -> None:
    closed = distributed.Client(client.scheduler.address)
    closed.close()
    with pytest.raises(SettingError, match="executor is a Dask client that is closed"):
        OAutom(executor=closed)


def test_a_client_that_was_closed_is_a_problem(cluster: Any, steps: ModuleType) -> None:
    client = distributed.Client(cluster)
    with OAutom(OAutomMode.background, executor=client) as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, steps.process)
        assert app.run(flow).state == "success"
        client.close()
        app.start(flow)  # its step shows the workers that they have no client
        problem = "the Dask client of .* was closed; keep it open until the app is closed"
        workers = app._scheduler.runner._workers
        until(lambda: workers.problem and re.match(problem, workers.problem))


def test_a_step_goes_on_while_the_connection_is_cut(
    app: OAutom, client: Any, steps: ModuleType, tmp_path: Path
) -> None:
    side, go_on = tmp_path / "side", tmp_path / "go on"
    flow = Flow("flow", app)
    PythonExecution("step", flow, steps.ignore, [str(side), str(go_on)])
    vect = app.start(flow)
    until(lambda: lines(side) == ["begin"])
    comm = client.scheduler_comm
    client.loop.add_callback(comm.abort)
    until(lambda: client.status == "running" and client.scheduler_comm not in (None, comm))
    go_on.touch()
    assert vect.wait(60) == "success"
    assert names(app, "step") == ["step.started", "step.succeeded"]
    assert lines(side) == ["begin", "end"]


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import dask_steps
from distributed import Client
from oautom import Flow, OAutom, PythonExecution, SqliteEventLog

with Client({address!r}) as client, OAutom(log=SqliteEventLog({log!r}), executor=client) as app:
    flow = Flow("flow", app)
    PythonExecution("waits", flow, dask_steps.wait, [{side!r}, float(sys.argv[1])])
    app.run(flow) if sys.argv[2] == "run" else [vect.wait() for vect in app.recover()]
"""


def check_next_life(program: Path, side: Path) -> None:
    """Kill the program while its step waits, and run it again."""
    first = subprocess.Popen([sys.executable, program, "60", "run"])
    until(lambda: len(lines(side)) == 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.Popen([sys.executable, program, "0", "recover"])
    assert second.wait(90) == 0
    told = [line.rsplit(" ", 1)[0] if "begin" in line else line for line in lines(side)]
    assert told == [
        "begin waits 1",
        "end waits 1 cancelled",
        "begin waits 2",
        "end waits 2 not cancelled",
    ]


def test_the_next_life_of_a_program_ends_what_the_killed_one_has_left(
    cluster: Any, client: Any, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(
            here=str(HERE),
            address=cluster.scheduler_address,
            log=str(tmp_path / "log"),
            side=str(side),
        )
    )
    check_next_life(program, side)


class Own:
    """A scheduler and a worker as programs, at an address that stays."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._folder = folder
        self.paths = [str(HERE), *sys.path]
        self._programs: list[subprocess.Popen[bytes]] = []

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(self.paths)
        program = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments],
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": paths},
            stderr=subprocess.DEVNULL,
        )
        self._programs.append(program)
        return program

    def scheduler(self) -> subprocess.Popen[bytes]:
        where = ["--host=127.0.0.1", f"--port={self.port}"]
        return self._start("scheduler", *where, "--no-dashboard", "--dashboard-address=:0")

    def worker(self) -> subprocess.Popen[bytes]:
        how = ["--no-nanny", "--nthreads=1", "--no-dashboard"]
        return self._start("worker", self.address, *how)

    def close(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    own = Own(tmp_path)
    yield own
    own.close()


def test_a_scheduler_that_is_killed_and_started_again_interrupts_what_it_had(
    own: Own, steps: ModuleType, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    scheduler = own.scheduler()
    own.worker()
    with distributed.Client(own.address, timeout=20) as client:
        client.wait_for_workers(1, timeout=20)
        client._timeout = 0.5  # so that it has given up when a scheduler is there again
        with OAutom(OAutomMode.background, executor=client) as app:
            flow = Flow("flow", app)
            PythonExecution("first", flow, steps.wait, [str(side), 60], timeout=100)
            PythonExecution("second", flow, steps.process)
            vect = app.start(flow)
            until(lambda: len(lines(side)) == 1)
            scheduler.kill()
            scheduler.wait()
            says = f"the Dask scheduler {own.address} does not answer"
            until(lambda: says in str(vect.explain("second")))
            assert vect.steps["first"].state == "running"
            until(lambda: client.status == "closed")
            until(lambda: len(lines(side)) == 2)  # the worker ends, and cancels what it does
            own.scheduler()
            own.worker()
            until(lambda: len(lines(side)) == 3)
            assert names(app, "first")[:3] == ["step.started", "step.interrupted", "step.started"]
            vect.cancel()
            assert vect.wait(60) == "cancelled"
            check_history(app.log.read())
    starts = [line for line in lines(side) if line.startswith("begin")]
    assert len(starts) == names(app, "first").count("step.started") == 2


# A function that makes a client


def test_a_function_may_make_the_client_and_makes_another_when_that_is_closed(
    cluster: Any, steps: ModuleType
) -> None:
    made: list[Any] = []

    def make() -> Any:
        if len(made) == 1:
            made.append(None)
            raise OSError("the cluster is being started")
        made.append(distributed.Client(cluster))
        return made[-1]

    with OAutom(OAutomMode.background, executor=make) as app:
        flow = Flow("flow", app)
        step = PythonExecution("step", flow, steps.process)
        assert made == []
        vect = app.run(flow)
        assert vect.result(step) != os.getpid()
        assert app._scheduler.runner._workers.slots == 2
        made[0].close()
        vect = app.start(flow)
        assert vect.wait(60) == "success"
        assert len(made) == 3
        assert app.run(flow).state == "success"
    until(lambda: made[-1].status == "closed")  # oautom closes what was made for it
    assert len(made) == 3


def test_a_cancel_reaches_what_waits_for_its_client(cluster: Any, steps: ModuleType) -> None:
    go_on = threading.Event()

    def make() -> Any:
        go_on.wait(60)
        return distributed.Client(cluster).get_executor(pure=False)

    with OAutom(OAutomMode.background, executor=make) as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, steps.process)
        first = app.start(flow)
        first.cancel()
        assert first.wait(20) == "cancelled"
        second = app.start(flow)
        go_on.set()
        assert second.wait(60) == "success"


def test_a_client_that_is_made_ends_what_a_killed_program_has_left(
    cluster: Any, client: Any, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    text = PROGRAM.format(
        here=str(HERE),
        address=cluster.scheduler_address,
        log=str(tmp_path / "log"),
        side=str(side),
    )
    old = f"with Client({cluster.scheduler_address!r}) as client, "
    assert old in text
    text = text.replace(old, "with ").replace(
        "executor=client", f"executor=lambda: Client({cluster.scheduler_address!r})"
    )
    program = tmp_path / "program.py"
    program.write_text(text)
    check_next_life(program, side)


# Clusters of other kinds


def test_arguments_of_100_mb_come_there_and_the_output_comes_back(
    app: OAutom, steps: ModuleType, recwarn: pytest.WarningsRecorder
) -> None:
    text = 100_000_000 * "x"
    flow = Flow("flow", app, params={"text": str})
    given = PythonExecution("given", flow, steps.size, [text])
    param = PythonExecution("param", flow, steps.size, [flow.param("text")])
    back = PythonExecution("back", flow, steps.same, [text])
    vect = app.run(flow, {"text": text})
    assert [vect.result(step) for step in (given, param)] == [100_000_000] * 2
    assert vect.result(back) == text
    assert [str(each.message) for each in recwarn if "large" in str(each.message)] == []


NO_OAUTOM = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "oautom":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""


def test_a_scheduler_without_oautom_is_named(own: Own, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(NO_OAUTOM)
    own.paths.insert(0, str(tmp_path / "bare"))
    own.scheduler()
    with (
        distributed.Client(own.address, timeout=20) as client,
        pytest.raises(SettingError) as caught,
    ):
        OAutom(executor=client)
    assert str(caught.value).startswith(f"the Dask scheduler {own.address} cannot load oautom: ")
    assert "install oautom[dask] there" in str(caught.value)


def test_a_worker_without_oautom_is_named(own: Own, steps: ModuleType, tmp_path: Path) -> None:
    own.scheduler()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(NO_OAUTOM)
    own.paths.insert(0, str(tmp_path / "bare"))
    own.worker()
    with distributed.Client(own.address, timeout=20) as client, OAutom(executor=client) as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, steps.process)
        vect = app.run(flow)
        assert vect.state == "failed"
        error = vect.steps["step"].error
        assert "a Dask worker cannot load oautom: No module named 'oautom'; install" in error


def test_an_adaptive_cluster_begins_with_no_worker(steps: ModuleType) -> None:
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="100ms")
        with OAutom(OAutomMode.background, executor=client) as app:
            flow = Flow("flow", app)
            made = [PythonExecution(f"s{n}", flow, steps.process) for n in range(4)]
            kept = PythonExecution("kept", flow, steps.repeat, [2_000_000], keep_remote=True)
            sized = PythonExecution("sized", flow, steps.size, [kept])
            made[0] >> kept
            vect = app.run(flow)
            assert vect.state == "success", [step.error for step in vect.steps.values()]
            assert vect.result(sized) == 2_000_000
            until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) <= 1)
            assert app.run(flow).state == "success"


def test_a_fork_that_outlives_its_worker_does_not_hide_its_death(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    flow = Flow("flow", app)
    PythonExecution("step", flow, steps.fork_and_die, [str(tmp_path / "begun")])
    vect = app.start(flow)
    assert vect.wait(60) == "success"
    assert names(app, "step") == [
        *("step.started", "step.interrupted"),
        *("step.started", "step.succeeded"),
    ]
