"""One call for each item of a list that is known only while the flow runs.

Run it:  python examples/map.py

One of the files is broken at first; a retry of the Vect runs that one only.
"""

from oautom import Flow, MapExecution, OAutom

app = OAutom(executor="inline")
flow = Flow("count words", app)
texts = {"a.txt": "one two three", "b.txt": "", "c.txt": "four five"}


@flow.step
def find() -> list[str]:
    """Find the files; how many there are, nobody has to know before."""
    return sorted(texts)


def count(name: str) -> int:
    """Count the words of one file."""
    print("  reading", name)
    if not texts[name]:
        raise ValueError(f"{name} is empty")
    return len(texts[name].split())


@flow.step
def add(counts: list[int]) -> int:
    """Add up."""
    return sum(counts)


counted = MapExecution("count", flow, count, find(), max_parallel=2)
add(counted.output)

vect = app.run(flow)
print(f"{vect.state}: {vect.steps['count'].error}")
texts["b.txt"] = "six"
vect.retry()
print(f"{vect.wait()}: {vect.result('add')} words, {vect.result('count')}")
