"""Flows in an asyncio program: its event loop goes on while many Vects are awaited.

Run it:  python examples/asyncio_program.py
"""

import asyncio

from oautom import Flow, OAutom

app = OAutom()
shop = Flow("shop", app, params={"fruit": str}, max_active_vects=10)


@shop.step
async def fetch(fruit: str) -> str:
    """Fetch something; an `async` step takes no worker."""
    await asyncio.sleep(0.05)
    if fruit == "kumquat":
        raise RuntimeError("no kumquat today")
    return f"{len(fruit)} letters"


fetched = fetch(shop.param("fruit"))


async def order(fruit: str) -> str:
    """Start a Vect and await its end: many tasks may do so at once, and none holds a thread."""
    vect = app.start(shop, {"fruit": fruit})
    state = await vect
    step = vect.steps["fetch"]
    return f"{fruit}: {state}, {step.output or step.error}"


async def tick(ticks: list[None]) -> None:
    """Count: the event loop is never blocked."""
    while True:
        ticks.append(None)
        await asyncio.sleep(0.01)


async def main() -> None:
    """Order all at once."""
    ticks: list[None] = []
    ticker = asyncio.create_task(tick(ticks))
    orders = await asyncio.gather(order("pear"), order("apricot"), order("kumquat"))
    ticker.cancel()
    print("\n".join(orders))
    print(f"the event loop has gone on: {len(ticks)} ticks")


asyncio.run(main())
