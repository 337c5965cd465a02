"""A Makefile with a pattern rule: count the words of each book, and sum the counts up.

Run it:  python examples/from_elsewhere/makefile_books.py

The definition: code/08-self-doc/Makefile in swcarpentry/make-novice on GitHub (commit 603e381), the
lesson "Automation and Make". Written anew; the two Python scripts of the lesson are stubs in awk.

| there | here |
|---|---|
| `$(wildcard books/*.txt)` | the output of a step: the books that are there when it runs |
| `%.dat : books/%.txt` with a recipe | `MapExecution` with a `Bash` for each item |
| `$<`, `$@`, `$*` | `$ITEM`, and what Bash makes of it |
| "the file is newer" | the command skips itself: exit code 99 |
| `make dats` | `app.run(flow, until="dats")` |
| `make clean` | a flow of its own: here, the temporary folder |
"""

import tempfile
from pathlib import Path

from oautom import Bash, BashExecution, Flow, MapExecution, OAutom, PythonExecution, TriggerRule

BOOKS = {
    "abyss": "the sea the ice and the dark",
    "isles": "the coast the birds and the wind",
    "last": "the end",
}

with tempfile.TemporaryDirectory() as name, OAutom() as app:
    home = Path(name)
    (home / "books").mkdir()
    for title, text in BOOKS.items():
        (home / f"books/{title}.txt").write_text(text)

    flow = Flow("zipf", app)
    books = PythonExecution(
        "books", flow, lambda: sorted(each.stem for each in home.glob("books/*.txt"))
    )
    dats = MapExecution(
        "dats",
        flow,
        Bash(
            """
            source=books/$ITEM.txt target=$ITEM.dat
            [ "$target" -ot "$source" ] || { echo "$target is up to date"; exit 99; }
            tr ' ' '\\n' <"$source" | sort | uniq -c | sort -rn |
                awk '{ print $2, $1 }' >"$target"
            """,
            cwd=str(home),
        ),
        over=books,
        label="{}.dat",
    )
    results = BashExecution(
        "results.txt",
        flow,
        """
        for dat in *.dat; do
            awk -v book="${dat%.dat}" '
                NR == 1 { first = $2 } NR == 2 { second = $2 }
                END { printf "%s %d %d %.2f\\n", book, first, second, first / second }
            ' "$dat"
        done | tee results.txt
        """,
        cwd=str(home),
        output="text",
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    dats >> results

    part = app.run(flow, until="dats")
    print("make dats:", part.state, *sorted(each.name for each in home.glob("*.dat")))
    (home / "books/last.txt").write_text("the very end of the very last of all books of the sea")
    vect = app.run(flow)
    for number in range(len(BOOKS)):
        step = vect.steps[f"dats[{number}]"]
        print(step.name, step.state, step.error or "")
    print(vect.result("results.txt"), end="")
