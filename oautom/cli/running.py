"""The verbs that run flows: `run` and `serve`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, Protocol

import click

from oautom.app import OAutom
from oautom.cli.declared import after, in_order
from oautom.cli.declared import steps_of as listed
from oautom.cli.exits import OF_STATES, SUCCESS, TIMEOUT, USAGE, Refusal
from oautom.cli.file import found
from oautom.cli.loading import load_app
from oautom.cli.output import (
    is_terminal,
    json_option,
    lead_on_after_failure,
    note,
    only_json,
    print_json,
    verb,
)
from oautom.cli.page import served
from oautom.cli.params import params_of
from oautom.cli.progress import Watch, known_past, last_lines, print_event
from oautom.client import Client, VectView
from oautom.client.client import ANSWER_SECONDS
from oautom.client.forecast import Past
from oautom.engine.asked import asked_of
from oautom.engine.modes import OAutomMode
from oautom.errors import EngineError
from oautom.events.sqlite import SqliteEventLog
from oautom.flows.flow import Flow
from oautom.machine.graph import Graph
from oautom.machine.tables import VECT_EVENTS
from oautom.vects.vect import Vect

EXECUTORS = ("threads", "inline", "processes")
_LOOK_SECONDS: Final = 0.01


def texts_of(flow: Flow) -> set[str]:
    """Return the names of the parameters of a flow whose type is text."""
    return {name for name, param in flow.params.items() if param.annotation is str}


def configured(app: OAutom, log: str | None, executor: str | None, workers: int | None) -> None:
    """Have an app use what the command line says."""
    given = {"log": log, "executor": executor, "max_workers": workers}
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return
    try:
        app.configure(**said)  # type: ignore[arg-type] # each has its type
    except EngineError as error:
        names = ", ".join(f"--{'workers' if name == 'max_workers' else name}" for name in said)
        raise Refusal(
            f"{names} cannot be used: this APP has begun to run when it was imported; have it do "
            "so only under `if __name__ == '__main__':`",
            USAGE,
        ) from error


@verb(
    "Run a flow, and show how it goes on.",
    example="oautom run pipeline.py:app etl day=2026-11-24 --log runs.db",
)
@click.argument("app")
@click.argument("flow")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--id", "vect_id", help="The id of the run. An id that is there already goes on.")
@click.option("--log", metavar="FILE", help="Keep the run in this file, so that it can be resumed.")
@click.option("--workers", type=int, metavar="N", help="How many steps run at once.")
@click.option("--executor", type=click.Choice(EXECUTORS), help="Where steps run.")
@click.option("--until", multiple=True, metavar="STEP", help="End with this step. Can be repeated.")
@click.option("--only", metavar="STEP", help="Run this step alone, with the outputs of --from.")
@click.option("--from", "source", metavar="VECT", help="The run that has the inputs of --only.")
@click.option("--timeout", type=float, metavar="S", help="Wait so many seconds for its end.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing; the exit code says it.")
@json_option
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
def run(
    app: str,
    flow: str,
    params: tuple[str, ...],
    vect_id: str | None,
    log: str | None,
    workers: int | None,
    executor: str | None,
    until: tuple[str, ...],
    only: str | None,
    source: str | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
    dry_run: bool,
) -> int:
    """Run FLOW of APP in the foreground, and exit with what came of it."""
    engine = load_app(app)
    known = engine.flow(flow)
    given = params_of(params, texts_of(known))
    if source is not None and only is None:
        raise Refusal("--from needs --only: the step that gets the outputs of that run", USAGE)
    configured(engine, log, executor, workers)
    inputs = None if source is None else found(Client(engine), source, flow)
    if dry_run:
        return _dry_run(known, given, until or None, only, inputs, as_json=as_json)
    if missing := engine.missing_secrets(known):
        note(
            f"the environment has no {', '.join(missing)}: secrets that steps of '{flow}' ask for "
            "where they run"
        )
    vect_id = vect_id or os.urandom(8).hex()
    with only_json() if as_json else nullcontext(print_json) as print_it, engine:
        past = partial(Client(engine).past, flow)
        view = _view(engine, f"{flow} {vect_id}", past, is_silent=quiet or as_json)
        part = {"until": until or None, "only": only, "given": inputs and inputs.id}
        try:
            state = _run(engine, known, given or None, timeout, view, vect_id=vect_id, **part)
        except KeyboardInterrupt:
            _note_stopped(engine, vect_id)
            raise
        vect = engine.vect(vect_id)
        if as_json:
            print_it(vect.status())
        elif not quiet:
            for line in last_lines(vect.status()):
                click.echo(line)
            if state == "failed":
                _lead_on(engine, vect)
        if state is None:
            _note_open(engine, vect)
            return TIMEOUT
    return OF_STATES[state]


def _run(
    app: OAutom,
    flow: Flow,
    params: dict[str, Any] | None,
    timeout: float | None,
    view: AbstractContextManager[_View],
    **how: Any,
) -> str | None:
    """Run a flow; return the state in which its Vect ends, None where it has not in time."""
    with view as watch:
        vect = app.start(flow, params, **how)
        if vect.ended:
            _retry_as_asked(app, vect)
        watch.begin(vect)
        try:
            return vect.wait(timeout)
        except TimeoutError:
            return None


def _lead_on(app: OAutom, vect: Vect) -> None:
    """Say how to see more of what has failed, where it is kept."""
    path = getattr(app.log, "path", None)
    if path is None:
        note("next: run it with --log FILE, and `oautom logs` and `oautom retry` lead on")
        return
    context = click.get_current_context()
    context.obj = context.params["log"] or str(path)
    steps = vect.status()["executions"]
    lead_on_after_failure(vect.id, [each["name"] for each in steps if each["state"] == "failed"])


class _View(Protocol):
    def begin(self, vect: Vect) -> None: ...


def _view(
    app: OAutom, title: str, past: Callable[[], Past], *, is_silent: bool
) -> AbstractContextManager[_View]:
    """Return what shows a run of this process: a live view on a terminal, plain lines elsewhere."""
    if is_silent or not is_terminal():
        return Watch(None if is_silent else print_event)
    from oautom.cli.live import live_run  # noqa: PLC0415 - rich: half of the time of a verb

    return live_run(title, app.log, known_past(past))


def _retry_as_asked(app: OAutom, vect: Vect) -> None:
    """Retry a run that has ended, where that waits in the file: nobody would wait for it else."""
    log = app.log
    if not isinstance(log, SqliteEventLog):
        return
    numbers = [each.id for each in log.asked() if (each.vect, each.action) == (vect.id, "retry")]
    if app.mode is OAutomMode.background:  # its own thread does it
        until = time.monotonic() + ANSWER_SECONDS
        while any(map(log.is_asked_for, numbers)) and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        return
    if not numbers:
        return
    vect.retry()
    reopened = [event.seq for event in vect.events() if event.name == VECT_EVENTS["reopen"]]
    for number in numbers:
        log.settle(number, reopened[-1])


def _note_stopped(app: OAutom, vect_id: str) -> None:
    if app.log.id is None:
        return
    more = "" if click.get_current_context().params["vect_id"] else f" and --id {vect_id}"
    note(f"vect '{vect_id}' is '{app.vect(vect_id).state}'; the same command{more} goes on with it")


def _note_open(app: OAutom, vect: Vect) -> None:
    is_kept = app.log.id is not None
    end = "it goes on when it is run again with this --id" if is_kept else "it is cancelled now"
    note(f"the time is up, and vect '{vect.id}' is '{vect.state}'; {end}")


def _dry_run(
    flow: Flow,
    params: dict[str, Any],
    until: Sequence[str] | None,
    only: str | None,
    inputs: VectView | None,
    *,
    as_json: bool,
) -> int:
    """Print which steps would run, each after those that it waits for."""
    flow.validate()
    asked = asked_of(flow, until, only, inputs and inputs.id)
    own = {} if inputs is None else {k: v for k, v in inputs.params.items() if k in flow.params}
    plain = flow.params.plain({**own, **params})
    graph = flow.part(asked.until or None)
    if asked.only is not None:  # those before it do not run
        graph = Graph({asked.only: ()})
    order = in_order(graph)
    if as_json:
        print_json({"flow": flow.name, "params": dict(plain), "steps": listed(graph)})
        return 0
    for name in order:
        click.echo(f"{name}  {after(graph.upstreams[name])}".rstrip())
    note(f"{len(order)} steps of flow '{flow.name}' would run; nothing was run")
    return 0


@verb(
    "Serve the plans of an app until it is stopped.",
    example="oautom serve pipeline.py:app --log runs.db",
)
@click.argument("app")
@click.option("--log", metavar="FILE", help="Keep the runs in this file.")
@click.option("--workers", type=int, metavar="N", help="How many steps run at once.")
@click.option("--executor", type=click.Choice(EXECUTORS), help="Where steps run.")
@click.option(
    "--page",
    metavar="[HOST:]PORT",
    is_flag=False,
    flag_value="",
    help="Serve the page, too; see `oautom page`.",
)
@click.option("--steer", is_flag=True, help="The page has buttons, for those who have its token.")
@json_option
def serve(
    app: str,
    log: str | None,
    workers: int | None,
    executor: str | None,
    page: str | None,
    steer: bool,
    as_json: bool,
) -> int:
    """Serve the plans of APP, and go on with all that is open, until Ctrl-C or SIGTERM."""
    engine = load_app(app)
    if engine.mode is not OAutomMode.foreground:
        raise Refusal(
            "serve needs an app in foreground mode, and this one is in background mode; run its "
            "program instead",
            USAGE,
        )
    configured(engine, log, executor, workers)
    printer = only_json() if as_json else nullcontext(_tell_nothing)
    with _ended_by_sigterm(), printer as tell, served(engine, page, steer=steer), engine:
        engine.recover()
        path = getattr(engine.log, "path", None)
        tell({"flows": engine.flows(), "log": path and str(path), "pid": os.getpid()})
        note(f"serving {', '.join(engine.flows()) or 'no flow'}; stop it with Ctrl-C")
        engine.run()
    return 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the program in good order, until the engine drives: then it drains."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(SUCCESS))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell_nothing(_: object) -> None:
    """Print no document."""
