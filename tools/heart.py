"""Counts the heart: `python -m tools.heart`, or `make heart`; `--files` names its files only.

The heart is what README lists under "Read the code in an hour". A line of code is one that has
something on it that is no comment and no docstring.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECTION = "## Read the code in an hour"
NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def heart() -> list[str]:
    """Return the paths of the files that README numbers, in the order in which they are read."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n{SECTION}\n")[1]
    section = section.split("\n## ")[0]
    return re.findall(r"^\d+\. \[.+?\]\((oautom/.+?\.py)\)", section, re.MULTILINE)


def lines_of_code(source: str) -> int:
    """Count the lines of a module without docstrings, comments and blank lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - _docstrings(source))


def _docstrings(source: str) -> set[int]:
    """Return the lines of strings that stand alone: of modules, classes, functions, attributes."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def main() -> None:
    """Print the files, or a table of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.heart", description=__doc__)
    parser.add_argument("--files", action="store_true", help="print the paths, with commas between")
    if parser.parse_args().files:
        print(",".join(heart()))
        return
    counts = {path: lines_of_code((ROOT / path).read_text(encoding="utf-8")) for path in heart()}
    for path, count in counts.items():
        print(f"{path:<32}{count:>6}")
    print(f"{'in all':<32}{sum(counts.values()):>6}")


if __name__ == "__main__":
    main()
