"""Pictures as text: Mermaid, which many viewers of Markdown draw, and the DOT language. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oautom.pictures.nodes import Node
from oautom.pictures.style import LOOKS


def mermaid(nodes: Sequence[Node]) -> str:
    """Return a Mermaid flowchart; each step of a run has the colours of its state."""
    place = {node.name: i for i, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for i, node in enumerate(nodes):
        colours = f":::{node.state}" if node.state in LOOKS else ""
        lines.append(f"    n{i}[{_quoted(node.name, '#quot;')}]{colours}")
    lines += _edges(nodes, place, "    n{} --> n{}")
    used = {node.state: LOOKS[node.state] for node in nodes if node.state in LOOKS}
    for state in sorted(used):
        look = used[state]
        dashes = f",stroke-dasharray:{look.dashes}" if look.dashes else ""
        colours = f"fill:{look.light_fill},stroke:{look.light},color:#1f2328{dashes}"
        lines.append(f"    classDef {state} {colours}")
    return "\n".join(lines) + "\n"


def dot(name: str, nodes: Sequence[Node]) -> str:
    """Return the graph of a flow in the DOT language of Graphviz."""
    quote = chr(92) + chr(34)
    place = {node.name: i for i, node in enumerate(nodes)}
    lines = [f"digraph {_quoted(name, quote)} {{", "    rankdir=LR;", "    node [shape=box];"]
    lines += [f"    n{i} [label={_quoted(node.name, quote)}];" for i, node in enumerate(nodes)]
    lines += _edges(nodes, place, "    n{} -> n{};")
    return "\n".join([*lines, "}"]) + "\n"


def _edges(nodes: Sequence[Node], place: Mapping[str, int], form: str) -> list[str]:
    return [form.format(place[up], place[node.name]) for node in nodes for up in node.upstreams]


def _quoted(text: str, quote: str) -> str:
    """Return a label in double quotes, on one line."""
    escaped = text.replace("\\", "\\\\") if quote.startswith("\\") else text
    return '"' + " ".join(escaped.replace('"', quote).splitlines()) + '"'
