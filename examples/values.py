"""Parameters from the command line, and values that go from step to step, as their types.

Run it:  python examples/values.py
         python examples/values.py day=2026-11-25 'prices=[9.5, 0.5]'
"""

import sys
from datetime import date

from oautom import BashExecution, Flow, OAutom, Param, ParamError

app = OAutom()
shop = Flow("shop", app, params={"day": date, "prices": Param(list[float], [40, 2])})


@shop.step
def sell(day: date, prices: list[float]) -> dict[str, float]:
    """Return what was sold, by the day of the week."""
    return {f"{day:%A}": sum(prices), "most": max(prices)}


@shop.step
def judge(most: float, *, enough: float = 10) -> str:
    """Say whether that is good; what it returns may hold anything."""
    return f"it's {'good' if most >= enough else 'bad'}; $(rm -rf /)"


sold = sell(shop.param("day"), shop.param("prices"))
judged = judge(sold.output["most"])  # a part of what `sell` returns; `judge` waits for it
tell = BashExecution(
    "tell",
    shop,
    'echo "$DAY: $SOLD - $JUDGED"',
    env={"DAY": shop.param("day"), "SOLD": sold, "JUDGED": judged},  # never part of the command
)


def main(arguments: list[str]) -> None:
    """Run the flow with parameters like `day=2026-11-25`."""
    given = dict(argument.split("=", 1) for argument in arguments or ["day=2026-11-24"])
    try:
        vect = app.run(shop, given)
    except ParamError as error:
        sys.exit(str(error))
    print(vect.result("tell"))
    print(f"{vect.params['day']:%d %B %Y}:", vect.result("sell")["most"])


if __name__ == "__main__":
    main(sys.argv[1:])
