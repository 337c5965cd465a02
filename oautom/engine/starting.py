"""How a run begins: the checks of a start, and the run that it makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from oautom.engine.asked import ALL, Asked, Parts, asked_of, check_same
from oautom.engine.recovery import Recovery
from oautom.engine.scheduler import Scheduler
from oautom.errors import (
    FlowError,
    UnknownFlowError,
    ValueTooLargeError,
    shown,
)
from oautom.events.log import EventLog, keeps_objects
from oautom.events.requests import Request
from oautom.flows.flow import Flow, WhenFull
from oautom.flows.part import WHOLE, Part
from oautom.machine.commands import Begin
from oautom.machine.event import NO_DATA
from oautom.processes.forked import Home
from oautom.steps.options import word_of
from oautom.values.json import at_heart
from oautom.values.names import check_name
from oautom.vects.run import Run


class Starting:
    """Makes new runs.

    Args:
        log: The log of the app.
        scheduler: Drives the runs.
        recovery: Goes on with the open runs of earlier programs, before any new one.
        home: The process of the app, and its lock.
    """

    def __init__(self, log: EventLog, scheduler: Scheduler, recovery: Recovery, home: Home) -> None:
        self._log = log
        self._scheduler = scheduler
        self._recovery = recovery
        self._home = home
        self._parts = Parts(log, scheduler.registry.find)
        scheduler.admit["start"] = self.admit_asked

    def admit_asked(self, request: Request) -> list[Run]:
        """Return the run that another process asks for; as `admit`, but takes the app's lock."""
        data = request.data
        with self._home.lock:
            flow = flow_of(None, self._scheduler.registry.flows, data["flow"])
            vect_id = check_name("vect", request.vect)
            when_full = word_of("when_full", data.get("when_full", flow.when_full), WhenFull)
            asked = asked_of(flow, *(data.get(name) for name in ("until", "only", "given")))
            return [self.admit(flow, data.get("params"), vect_id, when_full, asked)]

    def admit(
        self,
        flow: Flow,
        params: object,
        vect_id: str | None,
        when_full: WhenFull,
        asked: Asked = ALL,
    ) -> Run:
        """Return the run of this id, or admit a new one, which is still to be created.

        Under the lock of the app; recovers first, if that was not done.

        Raises:
            VectAlreadyRunningException: `max_active_vects` Vects of the flow are open, and
                `when_full` is `'raise'`.
            ParamError: A parameter is unknown, missing, wrong, or differs from that of this Vect.
            FlowError: The Vect of this id has other steps, or an output is missing.
            EngineError: The engine is being stopped.
            All errors of `Registry.find_of` and `Flow.freeze`.
        """
        registry = self._scheduler.registry
        self._recovery.recover_for(flow)
        known = None if vect_id is None else registry.find_of(flow, vect_id)
        if known is not None:
            if params is not None:
                flow.params.check_same(known.id, registry.engine.status(known)["params"], params)
            check_same(known, asked)
            return known
        self._scheduler.check_starting(flow)
        part, params = self._parts.of(flow, asked, params)
        run = self.new(flow, vect_id or os.urandom(8).hex(), params, part=part)
        registry.admit(run, may_wait=when_full == "wait")
        return run

    def new(
        self,
        flow: Flow,
        vect_id: str,
        params: object,
        origin: Mapping[str, Any] = NO_DATA,
        *,
        part: Part = WHOLE,
    ) -> Run:
        """Return a new run, for `begin`; any thread.

        Args:
            flow: The flow.
            vect_id: An id that no Vect has.
            params: The parameters, as of `OAutom.start`.
            origin: The plan or the step that starts it, if any; see `Run`.
            part: The part of the flow that it runs.

        Raises:
            ParamError: A parameter is unknown, missing or wrong.
            All errors of `Flow.freeze`.
        """
        plain = flow.params.plain(params)
        flow.freeze()
        if plain:
            try:
                self._log.check_value(dict(plain))
            except ValueTooLargeError as error:
                raise flow.params.error(f"its parameters cannot be kept: {error}") from error
        is_durable = not keeps_objects(self._log)
        return Run(flow, vect_id, plain, origin, part=part, is_durable=is_durable)

    def begin(self, run: Run, *, may_wait: bool) -> None:
        """Create a new run with the next tick, and start it then, or when its turn comes.

        Any thread; arguments and errors are those of `Registry.admit`.
        """
        self._scheduler.registry.admit(run, may_wait=may_wait)
        self._scheduler.put(Begin(run.id))


def flow_of(app: object, flows: Mapping[str, Flow], flow: object) -> Flow:
    """Return the flow of an app that an argument names, or is.

    Args:
        app: The app.
        flows: Its flows, by name.
        flow: The argument.

    Raises:
        UnknownFlowError: There is no flow of this name.
        FlowError: The argument is a flow of another app, or neither a flow nor a name.
    """
    if issubclass(type(flow), Flow):
        declared = cast("Flow", flow)
        if declared.app is not app:
            raise FlowError(
                f"flow '{declared.name}' belongs to another app; start it there", flow=declared.name
            )
        return declared
    name = at_heart(flow)
    if type(name) is not str:
        raise FlowError(f"flow must be a Flow or the name of one, not {shown(flow)}")
    if name not in flows:
        raise UnknownFlowError(name, flows)
    return flows[name]
