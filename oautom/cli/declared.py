"""The verbs that look at flows as they are declared: `flows`, `check`, `graph`."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

import click

from oautom.cli.exits import SUCCESS, USAGE
from oautom.cli.loading import load_app
from oautom.cli.output import json_option, note, print_json, print_table, verb
from oautom.errors import FlowError
from oautom.flows.flow import Flow
from oautom.machine.graph import Graph

FORMATS = ("text", "mermaid", "dot", "svg")


@verb("List the flows of an app.", example="oautom flows pipeline.py:app")
@click.argument("app")
@json_option
def flows(app: str, as_json: bool) -> int:
    """List the flows of APP, with their parameters."""
    engine = load_app(app)
    declared = [engine.flow(name) for name in engine.flows()]
    if as_json:
        print_json([_facts(flow) for flow in declared])
        return SUCCESS
    if not declared:
        note(f"'{app}' has no flow")
        return SUCCESS
    rows = [(_signature(flow), _count(flow), flow.description) for flow in declared]
    print_table(rows)
    return SUCCESS


def _signature(flow: Flow) -> str:
    return f"{flow.name}({', '.join(f'{name}: {each}' for name, each in flow.params.items())})"


def _count(flow: Flow) -> str:
    return f"{len(flow.steps)} step{'' if len(flow.steps) == 1 else 's'}"


def _facts(flow: Flow) -> dict[str, Any]:
    params = {
        name: {"type": str(each).partition(" = ")[0], "required": each.is_required}
        for name, each in flow.params.items()
    }
    return {
        "name": flow.name,
        "description": flow.description,
        "version": flow.version,
        "params": params,
        "steps": list(flow.steps),
        "max_active_vects": flow.max_active_vects,
    }


@verb("Check the flows of an app.", example="oautom check pipeline.py:app")
@click.argument("app")
@click.argument("names", nargs=-1, metavar="[FLOW]...")
@json_option
def check(app: str, names: tuple[str, ...], as_json: bool) -> int:
    """Check the flows of APP, or some of them, without running anything."""
    engine = load_app(app)
    found = [(flow, _error_of(flow)) for flow in map(engine.flow, names or engine.flows())]
    if as_json:
        print_json(
            [
                {
                    "flow": flow.name,
                    "error": error,
                    "secrets": list(flow.secrets),
                    "missing_secrets": engine.missing_secrets(flow),
                }
                for flow, error in found
            ]
        )
    else:
        for flow, error in found:
            secrets = _secrets(flow, engine.missing_secrets(flow))
            click.echo(f"{flow.name}: {error or f'ok, {_count(flow)}'}{secrets}")
    return USAGE if any(error for _, error in found) else SUCCESS


def _secrets(flow: Flow, missing: list[str]) -> str:
    """Return the secrets of a flow, and those that are missing here, as people read them."""
    if not flow.secrets:
        return ""
    told = f"; secrets: {', '.join(flow.secrets)}"
    return f"{told}; not in this environment: {', '.join(missing)}" if missing else told


def _error_of(flow: Flow) -> str | None:
    try:
        flow.validate()
    except FlowError as error:
        return str(error)
    return None


@verb("Draw the steps of a flow.", example="oautom graph pipeline.py:app etl --format mermaid")
@click.argument("app")
@click.argument("flow")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@json_option
def graph(app: str, flow: str, form: str, as_json: bool) -> int:
    """Print which step of FLOW waits for which."""
    known = load_app(app).flow(flow)
    known.validate()
    if as_json:
        print_json({"flow": known.name, "steps": steps_of(known.graph)})
    elif form == "text":
        print_table([(name, after(known.graph.upstreams[name])) for name in in_order(known.graph)])
    else:
        drawn = {"mermaid": known.to_mermaid, "dot": known.to_dot, "svg": known.to_svg}
        click.echo(drawn[form](), nl=False)
    return SUCCESS


def steps_of(graph: Graph) -> list[dict[str, Any]]:
    """Return the steps of a graph for JSON, each behind those that it waits for."""
    return [{"name": name, "after": list(graph.upstreams[name])} for name in in_order(graph)]


def after(upstreams: tuple[str, ...]) -> str:
    """Return what a step waits for, as people read it; empty if that is nothing."""
    return f"after {', '.join(upstreams)}" if upstreams else ""


def in_order(graph: Graph) -> list[str]:
    """Return the names of the steps, each behind those that it waits for."""
    place = {name: at for at, name in enumerate(graph.upstreams)}
    sorter = TopologicalSorter(graph.upstreams)
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        sorter.done(*ready)
        order += ready
    return order
