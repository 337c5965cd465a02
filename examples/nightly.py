"""A nightly plan counts the day before, and reports when the office opens: on a simulated clock.

Run it:  python examples/nightly.py

The plan passes each start its times (`PLANNED`), a step passes another one the folder to work in,
and a wait ends at a time that is a parameter. A command ends with the first failure in it, as in a
CI: for the third night there is no file, and the pipe behind it does not hide that.
"""

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from oautom import PLANNED, BashExecution, Flow, OAutom, PythonExecution, WaitExecution
from oautom.testing import SimulatedClock


def folder_of(day: date) -> str:
    """Return where the sales of a day are, and make those of the first days up."""
    folder = home / f"{day}"
    folder.mkdir()
    if day < date(2026, 11, 25):
        (folder / "sales").write_text("nuts\nbolts\n" * day.day)
    return str(folder)


clock = SimulatedClock(datetime(2026, 11, 23, 12, tzinfo=UTC))
with tempfile.TemporaryDirectory() as name, OAutom(executor="inline", clock=clock) as app:
    home = Path(name)
    flow = Flow("nightly", app, params={"day": date, "opens": datetime})
    folder = PythonExecution("folder", flow, folder_of, (flow.param("day"),))
    count = BashExecution("count", flow, "sort <sales | tee sorted | wc -l", cwd=folder)
    opens = WaitExecution("the office opens", flow, until=flow.param("opens"))
    count >> opens

    params = {"day": PLANNED - timedelta(days=1), "opens": PLANNED + timedelta(hours=6)}
    app.plan(flow, cron="0 3 * * *", timezone="Europe/Paris", params=params)
    clock.call_later(3 * 24 * 3600, app.stop)
    app.run()

    for vect in app.vects():
        day, counted, told = vect.params["day"], vect.steps["count"], vect.steps["the office opens"]
        when = f"{told.end_date:%d %b, %H:%M}"
        print(f"{day}: {counted.state} {counted.output}, told {told.state} {when} UTC")
