"""Ctrl-C and SIGTERM: the Vects are cancelled, the processes end, the log is whole."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from .conftest import Marked, Program

BODY = """
import json, sys, time
from oautom import *
from oautom.events import replay

def report(app, vect):
    print(json.dumps({
        "state": vect.state,
        "fold": replay(app.log.read())[vect.id].state,
        "names": [event.name for event in vect.events()],
        "seqs": [event.seq for event in vect.events()],
        "reason": vect.events()[-1].data.get("reason"),
    }), flush=True)
"""

BASH = """
app = OAutom(executor=%r)
flow = Flow("flow", app)
first = BashExecution("first", flow, "sleep 1000 & sleep 1000")
second = BashExecution("second", flow, "true")
first >> second
vect = app.start(flow)
print("going", flush=True)
"""

Start = Callable[[str], Program]


def outcome(program: Program) -> tuple[int, str, str]:
    done = program.end()
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("executor", ["threads", "inline"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_a_signal_cancels_the_vects_and_ends_the_processes(
    program: Start, marked: Marked, executor: str, number: int, code: int
) -> None:
    running = program(
        BODY + BASH % executor + "try: vect.wait()\nfinally:\n    report(app, vect)\nprint('never')"
    )
    running.wait_for_line("going")
    marked.wait_for(4)  # this program, bash, two sleeps
    running.signal(number)
    returncode, stdout, _ = outcome(running)
    assert returncode == code
    assert '"state": "cancelled", "fold": "cancelled"' in stdout
    assert '"second"' not in stdout
    assert "never" not in stdout
    assert marked.alive() == []


def test_ctrl_c_interrupts_a_python_step_that_holds_the_thread(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
app = OAutom(executor="inline")
flow = Flow("flow", app)
PythonExecution("sleeps", flow, lambda: (print("asleep", flush=True), time.sleep(1000)))
vect = app.start(flow)
try:
    vect.wait()
except KeyboardInterrupt:
    report(app, vect)
"""
    )
    running.wait_for_line("asleep")
    running.signal(signal.SIGINT)
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert '"state": "cancelled"' in stdout
    assert "step.late_result" in stdout


def test_a_thread_that_does_not_listen_does_not_hold_the_program(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
app = OAutom()
flow = Flow("flow", app)
PythonExecution("sleeps", flow, lambda: (print("asleep", flush=True), time.sleep(1000)))
app.run(flow)
"""
    )
    running.wait_for_line("asleep")
    running.signal(signal.SIGINT)
    returncode, _, stderr = outcome(running)
    assert returncode == -signal.SIGINT
    assert stderr.strip().endswith("KeyboardInterrupt")


def test_a_second_ctrl_c_does_not_wait_for_the_grace_period(program: Start, marked: Marked) -> None:
    running = program(
        BODY
        + """
app = OAutom()
flow = Flow("flow", app)
BashExecution("deaf", flow, "trap '' TERM; while true; do sleep 0.1; done", grace_period=3)
vect = app.start(flow)
print("going", flush=True)
try:
    vect.wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    )
    running.wait_for_line("going")
    marked.wait_for(3)
    running.signal(signal.SIGINT)
    running.signal(signal.SIGINT)
    running.wait_for_line("interrupted")
    assert running.end().returncode == 0
    assert marked.alive() == []


def test_handlers_of_the_program_are_back_after_the_run_and_get_the_signal(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
import signal
import sys
def mine(number, frame): print("mine", number, flush=True)
signal.signal(signal.SIGTERM, mine)
"""
        + BASH % "threads"
        + """
vect.wait()
report(app, vect)
assert signal.getsignal(signal.SIGTERM) is mine
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    )
    running.wait_for_line("going")
    marked.wait_for(4)
    running.signal(signal.SIGTERM)
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert "mine 15" in stdout
    assert '"reason": "SIGTERM"' in stdout or "late_result" in stdout


def test_serving_ends_with_the_signal(program: Start, marked: Marked) -> None:
    running = program(
        BODY + BASH % "threads" + "app.run()\nreport(app, vect)\nprint('served', flush=True)\n"
    )
    running.wait_for_line("going")
    marked.wait_for(4)
    running.signal(signal.SIGTERM)
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert "served" in stdout
    assert '"state": "cancelled"' in stdout
    assert marked.alive() == []


STARTS_NOTHING_AT_END = (3, 12) <= sys.version_info[:3] < (3, 12, 2)


@pytest.mark.skipif(STARTS_NOTHING_AT_END, reason="this Python starts nothing at its end")
def test_a_background_program_ends_when_its_vects_have(program: Start, marked: Marked) -> None:
    running = program(
        BODY
        + """
app = OAutom(OAutomMode.background)
flow = Flow("flow", app)
first = BashExecution("first", flow, "sleep 0.3")
last = PythonExecution("last", flow, lambda: print("last step", flush=True))
first >> last
app.start(flow)
print("end of main", flush=True)
"""
    )
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert stdout.split("\n")[:2] == ["end of main", "last step"]


@pytest.mark.skipif(not STARTS_NOTHING_AT_END, reason="this Python starts threads at its end")
def test_where_nothing_can_be_started_at_the_end_the_vect_is_left_for_the_next_program(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
app = OAutom(OAutomMode.background, log="runs.db")
flow = Flow("flow", app)
WaitExecution("first", flow, seconds=0.5) >> BashExecution("last", flow, "echo done")
app.start(flow)
print("end of main", flush=True)
"""
    )
    returncode, _, stderr = outcome(running)
    assert returncode == 0
    assert "starts no thread and no process once the last line" in stderr
    again = program(
        BODY
        + """
app = OAutom(log="runs.db")
flow = Flow("flow", app)
WaitExecution("first", flow, seconds=0.5) >> BashExecution("last", flow, "echo done")
[vect] = app.recover()
print(vect.wait(), vect.result("last"), flush=True)
"""
    )
    assert outcome(again) == (0, "success done\n", "")


def test_leaving_by_an_error_leaves_no_process(program: Start, marked: Marked) -> None:
    running = program(
        BODY
        + BASH % "threads"
        + """
try:
    vect.wait(0.5)
except TimeoutError:
    print("left", flush=True)
raise SystemExit(5)
"""
    )
    running.wait_for_line("left")
    assert running.end().returncode == 5
    assert marked.alive() == []


def test_a_signal_that_another_thread_receives_wakes_the_main_thread(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
import signal, threading
def signal_this_thread():
    time.sleep(0.1)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(1000)
app = OAutom()
flow = Flow("flow", app)
PythonExecution("signals", flow, signal_this_thread)
app.run(flow)
"""
    )
    assert running.end().returncode == 143


STEPS = {
    "bash": 'BashExecution("step", flow, "echo $$ >&2; sleep 1000")',
    "listens": 'PythonExecution("step", flow, lambda context: context.cancelled.wait(1000))',
    "deaf": 'PythonExecution("step", flow, lambda: time.sleep(1000))',
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_signal_that_another_thread_receives_ends_a_step_that_has_the_main_thread(
    program: Start, marked: Marked, step: str
) -> None:
    """As when it comes while a process is started, during which Python blocks all signals."""
    running = program(
        BODY
        + f"""
import signal, threading
def signal_this_thread():
    time.sleep(0.3)  # until the main thread waits for the step
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(1000)
app = OAutom(executor="inline")
flow = Flow("flow", app)
{step}
threading.Thread(target=signal_this_thread, daemon=True).start()
vect = app.start(flow)
try: vect.wait()
finally: report(app, vect)
"""
    )
    returncode, stdout, _ = outcome(running)
    assert returncode == 143
    assert '"state": "cancelled", "fold": "cancelled"' in stdout
    assert marked.alive() == []


def test_a_handler_does_not_wait_for_what_the_main_thread_holds(program: Start) -> None:
    """As the lock of the event, in the moment in which a step begins to wait for it."""
    running = program(
        BODY
        + """
import signal
import sys
def work(context):
    with context.cancelled._cond:
        signal.raise_signal(signal.SIGINT)
        print("handled", flush=True)
    context.cancelled.wait(1000)
app = OAutom(executor="inline")
flow = Flow("flow", app)
PythonExecution("step", flow, work)
vect = app.start(flow)
try:
    vect.wait()
except KeyboardInterrupt:
    report(app, vect)
"""
    )
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert stdout.startswith("handled")
    assert '"state": "cancelled"' in stdout


def test_a_signal_is_not_meant_for_what_is_begun_after_it(program: Start) -> None:
    running = program(
        BODY
        + """
import signal
import sys
app = OAutom(executor="inline")
flow, other = Flow("flow", app), Flow("other", app)
PythonExecution("step", flow, lambda context: signal.raise_signal(signal.SIGINT))
PythonExecution("step", other, lambda context: context.cancelled.wait(0.01))
for _ in range(100):
    try:
        app.run(flow)
    except KeyboardInterrupt:
        print(app.run(other).result("step"), flush=True)
"""
    )
    assert outcome(running) == (0, "False\n" * 100, "")


def test_a_forked_process_hears_its_own_signals(program: Start) -> None:
    running = program(
        BODY
        + """
import os, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
def run():
    app = OAutom(executor="inline")
    flow = Flow("flow", app)
    PythonExecution("step", flow, lambda context: signal.raise_signal(signal.SIGTERM))
    app.run(flow)
try:
    run()
except SystemExit:
    pid = os.fork()
    if not pid:
        run()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert outcome(running) == (0, "143\n", "")


def test_two_signals_in_the_middle_of_a_tick_do_not_break_it(
    program: Start, marked: Marked
) -> None:
    running = program(
        BODY
        + """
import signal
import sys
from oautom.events import signals
class Log(MemoryEventLog):
    def append(self, sender, event):
        super().append(sender, event)
        if event.name == "step.started":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
app = OAutom(log=Log())
flow = Flow("flow", app)
BashExecution("sleeps", flow, "sleep 1000")
vect = app.start(flow)
try:
    vect.wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
app.close()
report(app, vect)
"""
    )
    returncode, stdout, stderr = outcome(running)
    assert (returncode, stderr) == (0, "")
    assert stdout.startswith("interrupted\n")
    assert '"state": "cancelled", "fold": "cancelled"' in stdout
    assert marked.alive() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("log", [None, "runs.db"])
def test_a_signal_ends_the_serving_of_plans_and_none_starts_anything_meanwhile(
    program: Start, marked: Marked, number: int, log: str | None
) -> None:
    """Its commands do not listen to SIGTERM, so it takes a second, in which the plan is due."""
    running = program(
        BODY
        + f"""
app = OAutom(log={log!r})
flow = Flow("flow", app, max_active_vects=9)
BashExecution("deaf", flow, "trap '' TERM; sleep 1000 & wait; sleep 1000", grace_period=1)
app.plan(flow, seconds=0.4)
from oautom.events import signals
signals.vect_started.connect(lambda flow, **_: print("going", flush=True))
app.run()
print("served", flush=True)
names = [event.name for event in app.log.read() if event.step is None]
first = names.index("vect.cancelled") if "vect.cancelled" in names else len(names)
print("late" if "vect.created" in names[first:] else "in time", flush=True)
"""
    )
    running.wait_for_line("going")
    marked.wait_for(3)
    running.signal(number)
    returncode, stdout, errors = outcome(running)
    assert (returncode, errors) == (0, "")
    assert stdout.endswith("served\nin time\n")
    assert marked.alive() == []


def test_an_event_loop_of_the_program_hears_its_signals_after_the_run(program: Start) -> None:
    code = """
import asyncio, os, signal
heard = []

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "usr1")
    loop.add_signal_handler(signal.SIGTERM, heard.append, "term")
    app = OAutom()
    flow = Flow("flow", app)
    PythonExecution("a", flow, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert app.run(flow).state == "success"
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if len(heard) == 2:
            break
    print(sorted(heard))

asyncio.run(main())
"""
    returncode, stdout, stderr = outcome(program(BODY + code))
    assert (returncode, stdout.strip()) == (0, "['term', 'usr1']"), stderr
