"""Draws the pictures anew that `test_graph` and `test_timeline` compare with."""

from pathlib import Path

from oautom.pictures.graph import graph_svg
from tests.unit.pictures.test_graph import FLOW, RUN

HERE = Path(__file__).parent

if __name__ == "__main__":
    for name, nodes in (("flow", FLOW), ("run", RUN)):
        svg = graph_svg(nodes, name, style=False, plain=True)
        (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
