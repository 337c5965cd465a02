"""Several threads wait at once: one of them drives, the others sleep until there is news."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from oautom import Flow, OAutom, PythonExecution

from .conftest import SECONDS, Gate, NewApp, nothing


def gated_chain(app: OAutom, steps: int = 1) -> Gate:
    """Declare flow 'f': a gate, and a chain of steps behind it."""
    flow, gate = Flow("f", app), Gate()
    last = PythonExecution("gate", flow, gate)
    for number in range(steps):
        step = PythonExecution(f"step {number}", flow, nothing)
        last >> step
        last = step
    return gate


def in_thread(target: Any) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_of_all_who_wait_only_one_drives(new_app: NewApp, connect: Any) -> None:
    app, drivers, ended = new_app(), set(), []
    gate = gated_chain(app, steps=30)
    vect = app.start("f")
    connect(lambda flow, **_: drivers.add(threading.get_ident()))

    threads = [in_thread(lambda: ended.append(vect.wait(timeout=SECONDS)))]
    assert gate.reached.wait(SECONDS)
    threads += [in_thread(lambda: ended.append(vect.wait(timeout=SECONDS))) for _ in range(3)]
    time.sleep(0.1)  # so that they wait already; if they do not, this tests less
    gate.opened.set()
    for thread in threads:
        thread.join(SECONDS)

    assert ended == ["success"] * 4
    assert drivers == {threads[0].ident}


def test_who_waits_for_one_who_drives_takes_over_when_that_one_gives_up(new_app: NewApp) -> None:
    app, ended = new_app(), []
    gate = gated_chain(app)
    vect = app.start("f")

    def gives_up() -> None:
        with pytest.raises(TimeoutError):
            vect.wait(timeout=0.2)
        ended.append("given up")

    first = in_thread(gives_up)
    assert gate.reached.wait(SECONDS)  # the first one drives
    second = in_thread(lambda: ended.append(vect.wait(timeout=SECONDS)))
    first.join(SECONDS)
    gate.opened.set()
    second.join(SECONDS)

    assert ended == ["given up", "success"]


@pytest.mark.parametrize("is_driven_by_another", [False, True], ids=["drives", "waits"])
def test_to_wait_takes_no_time_of_the_processor(
    new_app: NewApp, is_driven_by_another: bool
) -> None:
    app = new_app()
    gate = gated_chain(app)
    vect = app.start("f")
    threads = []
    if is_driven_by_another:
        threads = [in_thread(lambda: vect.wait(timeout=SECONDS))]
        assert gate.reached.wait(SECONDS)

    before = time.thread_time()
    with pytest.raises(TimeoutError):
        vect.wait(timeout=0.3)
    taken = time.thread_time() - before
    gate.opened.set()
    for thread in threads:
        thread.join(SECONDS)

    assert taken < 0.1


def test_who_waits_is_not_kept_by_the_one_who_drives_for_longer(new_app: NewApp) -> None:
    """The one who drives waits for another Vect, which goes on."""
    app = new_app()
    gate = gated_chain(app)
    PythonExecution("short", Flow("g", app), nothing)
    long, short = app.start("f"), app.start("g")

    driver = in_thread(lambda: long.wait(timeout=SECONDS))
    assert gate.reached.wait(SECONDS)
    began = time.monotonic()
    assert short.wait(timeout=SECONDS) == "success"
    taken = time.monotonic() - began
    gate.opened.set()
    driver.join(SECONDS)

    assert taken < SECONDS / 2
