"""A flow, and a Bash command, for each item of a list.

Run it:  python examples/each_item.py

One city has no data at first; a retry of the Vect goes on in its child, and in no other.
"""

from oautom import Bash, Flow, MapExecution, OAutom, PythonExecution

app = OAutom(max_workers=2)
rain = {"Rome": 3, "Oslo": 7, "Bern": None, "Cork": 9}

city = Flow("city", app, params={"name": str}, max_active_vects=None)


@city.step
def fetch(name: str) -> int:
    """Fetch the rain of a city."""
    if (found := rain[name]) is None:
        raise ValueError("no data")
    return found


@city.step
def double(millimetres: int) -> int:
    """Say it in half millimetres."""
    return 2 * millimetres


double(fetch(city.param("name")))

year = Flow("year", app)
cities = PythonExecution("cities", year, lambda: sorted(rain))
each = MapExecution("each", year, city, cities, label="{}")
said = MapExecution(
    "say", year, Bash('echo "$ITEM_double half millimetres"'), each, label="{double}"
)

vect = app.run(year, vect_id="2026")
print(f"{vect.state}: {vect.steps['each'].error}")
rain["Bern"] = 4
vect.retry()
print(f"{vect.wait()}: {vect.result(said)}, {vect.explain('each[0]').partition(' at ')[0]}")
