"""Async steps: thirty at once beside a single worker, and one that has no time to finish.

Run it:  python examples/async_steps.py
"""

import asyncio
import time

from oautom import Flow, MapExecution, OAutom, PythonExecution

app = OAutom(max_workers=1)
weather = Flow("weather", app, max_async=100)


async def ask(station: int) -> int:
    """Ask a station, which takes its time."""
    await asyncio.sleep(0.2)
    return station % 7


async def ask_the_moon() -> None:
    """Wait for an answer, and hang up when nobody wants it any more."""
    try:
        await asyncio.sleep(60)
    finally:
        print("hung up")


stations = PythonExecution("stations", weather, lambda: list(range(30)))
answers = MapExecution("answers", weather, ask, over=stations)
PythonExecution("warmest", weather, max, (answers.output,))
PythonExecution("moon", weather, ask_the_moon, timeout=0.5, allow_failure=True)

begun = time.monotonic()
vect = app.run(weather)
print(f"{vect.state}: the warmest has {vect.result('warmest')} degrees")
print(f"the moon: {vect.steps['moon'].error}")
print("all at once:", time.monotonic() - begun < 0.2 * 30)
app.close()
