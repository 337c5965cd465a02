"""Internal. Pictures of flows and runs: SVG and Mermaid from the names, edges and states of steps.

It is pure: no file, no clock, no chance, so the same steps make the same picture in every process.
The parts follow each other: `nodes` says what a step is to a picture; `folding` puts steps together
until few boxes are left; `layout` says where boxes and lines are; `graph` and `timeline` draw, with
the words, colours and signs of `style`, safely by `svg`; `text` writes Mermaid and DOT.

`drawn` is the base class of flows and runs. The others are imported where a picture is made, not
before: a program that draws nothing pays nothing.
"""
