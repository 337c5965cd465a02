"""Pictures as text."""

from oautom.pictures.nodes import Node
from oautom.pictures.text import dot, mermaid


def test_a_flow_is_a_flowchart_without_colours():
    nodes = [Node("a"), Node('b "x"\ny', ("a",))]
    assert mermaid(nodes) == (
        'flowchart LR\n    n0["a"]\n    n1["b #quot;x#quot; y"]\n    n0 --> n1\n'
    )
    assert dot("f", nodes) == (
        'digraph "f" {\n    rankdir=LR;\n    node [shape=box];\n    n0 [label="a"];\n'
        '    n1 [label="b \\"x\\" y"];\n    n0 -> n1;\n}\n'
    )


def test_the_steps_of_a_run_have_the_colours_of_their_states():
    nodes = [Node("a", (), "success"), Node("b", ("a",), "skipped"), Node("c", ("a",), "success")]
    lines = mermaid(nodes).splitlines()
    assert lines[1:4] == [
        '    n0["a"]:::success',
        '    n1["b"]:::skipped',
        '    n2["c"]:::success',
    ]
    assert lines[6:] == [
        "    classDef skipped fill:#f3f5f7,stroke:#57606a,color:#1f2328,stroke-dasharray:3 3",
        "    classDef success fill:#e6f6ef,stroke:#00694c,color:#1f2328",
    ]
