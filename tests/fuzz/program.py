"""The program of a round, once: it runs the flows, and does to their Vects what the round says.

Run as `python program.py scenario.json LIFE`. It says on standard output how far it is, and when it
closes its app it writes down how all stands then.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

from oautom import OAutom, OAutomError, OAutomMode, Vect  # noqa: E402 - see above
from oautom.machine.tables import VECT_ENDS  # noqa: E402
from tests.fuzz.flows import declare  # noqa: E402

PATIENCE = 50.0


def tell(phase: str) -> None:
    """Say how far the program is."""
    os.write(1, f"{phase}\n".encode())


class Program:
    """A life of the program.

    Args:
        scenario: What is run.
        life: What becomes of it.
        number: Which life it is, from 0.
    """

    def __init__(self, scenario: dict[str, Any], number: int) -> None:
        self.life = scenario["lives"][number]
        self.number = number
        self.may_prune = scenario["may_prune"]
        self.is_last = self.life["how"] == "end"
        self.chance = random.Random(f"{scenario['seed']} {number}")
        self.is_over = threading.Event()
        tell("begun")
        self.app = OAutom(
            OAutomMode(scenario["mode"]),
            log="runs.db",
            executor=scenario["executor"],
            max_workers=1 if scenario["executor"] == "inline" else self.life["max_workers"],
        )
        declare(self.app, scenario)

    def run(self) -> None:
        """Live until the end, which may come sooner."""
        tell("opened")
        self.app.recover()
        tell("recovered")
        plan = None
        if (drawn := self.life["plan"]) is not None:
            seconds, catch_up = drawn["seconds"], drawn["catch_up"]
            plan = self.app.plan(drawn["flow"], seconds=seconds, catch_up=catch_up)
        acting = threading.Thread(target=self._act)
        tidying = threading.Thread(target=self._tidy)
        acting.start()
        tidying.start()
        tell("started")
        self._drive()
        acting.join()
        try:
            if self.is_last:
                if plan is not None:
                    plan.cancel()  # else it may start one more just before the app is closed
                    self.app.prune(older_than=timedelta(days=9999))  # behind what it has started
                self._drive_to_the_end()
        finally:
            self.is_over.set()
            tidying.join()
        self.app.close(drain=self.life["drain"])
        status = {vect.id: vect.status() for vect in self.app.vects()}
        Path("status.json").write_text(json.dumps(status))
        tell("done")

    def _drive(self) -> None:
        until = time.monotonic() + self.life["seconds"]
        if self.life["plan"] is not None:
            threading.Timer(self.life["seconds"], self.app.stop).start()
            self.app.run()
        while (seconds := until - time.monotonic()) > 0:
            self._wait(min(seconds, 0.05))

    def _wait(self, seconds: float) -> None:
        open_vects = [vect for vect in self.app.vects() if not vect.ended]
        if not open_vects:
            time.sleep(seconds)
            return
        with suppress(TimeoutError):
            self.chance.choice(open_vects).wait(seconds)

    def _drive_to_the_end(self) -> None:
        until = time.monotonic() + PATIENCE
        while left := [vect for vect in self.app.vects() if not vect.ended]:
            if time.monotonic() > until:
                told = [f"{v.id}: {v.state}, {[v.explain(step) for step in v.steps]}" for v in left]
                raise SystemExit(f"not at their ends: {told}")
            self._wait(0.05)

    def _act(self) -> None:
        """Do what the life says, each at its time."""
        begin = time.monotonic()
        for number, act in enumerate(self.life["acts"]):
            time.sleep(max(0.0, begin + act["after"] - time.monotonic()))
            with suppress(OAutomError):  # much of it makes no sense just then
                self._do(act, f"v{self.number}-{number}")

    def _do(self, act: dict[str, Any], vect_id: str) -> None:
        vects, flows = self.app.vects(), self.app.flows()
        vect = vects[act["which"] % len(vects)] if vects else None
        match act["act"]:
            case "start":
                flow, params = flows[act["which"] % len(flows)], {"lane": act["lane"]}
                self.app.start(flow, params, vect_id=vect_id, when_full=act["when_full"])
            case "prune" if self.may_prune:
                self.app.prune(older_than=timedelta(0))
            case "cancel" if vect is not None:
                vect.cancel("as drawn")
            case "pause" | "resume" | "retry" if vect is not None:
                getattr(vect, act["act"])()

    def _tidy(self) -> None:
        """Decide what is asked, and have go on what was paused, as soon as nothing else is done."""
        while not self.is_over.wait(0.05):
            for vect in self.app.vects():
                if vect.state not in VECT_ENDS and (self.is_last or self.chance.random() < 0.2):
                    with suppress(OAutomError):
                        self._tidy_up(vect)

    def _tidy_up(self, vect: Vect) -> None:
        if vect.state == "paused" and self.is_last:
            vect.resume()
        for name, step in vect.flow.steps.items():
            if step.kind == "approval" and vect.steps[name].state == "running":
                decide = vect.reject if self.chance.random() < 0.2 else vect.approve
                decide(name, by="program")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Program(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])).run()
