"""One run at a time for each customer: one more start waits for its turn, and holds up nobody else.

Run it:  python examples/waiting_turns.py
"""

import time

from oautom import Flow, OAutom, OAutomMode

with OAutom(OAutomMode.background) as app:
    load = Flow(
        "load",
        app,
        params={"customer": str, "day": int},
        max_active_vects=1,
        limit_by="customer",
        when_full="wait",
    )

    @load.step
    def fetch(customer: str, day: int) -> str:
        """Fetch what one customer has sent on a day; two at once would be in each other's way."""
        time.sleep(0.1)
        return f"{customer}, day {day}"

    fetch(load.param("customer"), load.param("day"))

    vects = [
        app.start(load, {"customer": customer, "day": day})
        for day in (1, 2, 3)
        for customer in ("acme", "bolt")
    ]
    print("at first:", " ".join(vect.state for vect in vects))
    print(vects[4].explain("fetch"))
    for vect in vects:
        vect.wait()
    print("in the end:", " ".join(vect.state for vect in vects))
    for customer in ("acme", "bolt"):
        started = [e.vect for e in app.log.read() if e.name == "vect.started"]
        mine = [app.vect(vect) for vect in started if app.vect(vect).params["customer"] == customer]
        print(f"{customer}: days", *(vect.params["day"] for vect in mine))
