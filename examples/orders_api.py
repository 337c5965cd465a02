"""Orders over HTTP, by several web workers: one runs the engine, all start, show and approve.

Each worker would run the engine, and one gets the log; the others ask that one by a `Client`. When
it ends, another one takes over, and the orders go on.

    pip install fastapi uvicorn
    uvicorn --app-dir examples orders_api:api --workers 2

Run it:  python examples/orders_api.py      (serves itself to a customer, in a folder of its own)
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse

from oautom import (
    ApprovalExecution,
    Client,
    Event,
    Flow,
    LogError,
    LogLockedError,
    NoEngineError,
    OAutom,
    OAutomError,
    OAutomMode,
    ParamError,
    PythonExecution,
    UnknownVectError,
    VectStateError,
    WithdrawnError,
)

LOG = os.environ.get("ORDERS_LOG", "orders.db")

app = OAutom(OAutomMode.background, log=LOG)
order = Flow("order", app, params={"item": str, "count": int}, max_active_vects=None)
check = ApprovalExecution("check", order, "is it in stock?")
ship = PythonExecution("ship", order, lambda context: f"sent {context.params['item']}")
check >> ship

client = Client(LOG)


async def run_engine() -> None:
    """Run the engine as soon as no other worker does."""
    while True:
        with suppress(LogLockedError):
            await asyncio.to_thread(app.run)  # in the background: it returns at once
            return
        await asyncio.sleep(0.5)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Have the engine run while the worker does, here or in another one."""
    engine = asyncio.create_task(run_engine())
    yield
    engine.cancel()
    await app.aclose(drain=5)


api = FastAPI(lifespan=lifespan)

STATUS = {
    UnknownVectError: 404,
    ParamError: 422,
    VectStateError: 409,
    NoEngineError: 503,
    WithdrawnError: 503,
}


@api.exception_handler(OAutomError)
def tell(_: Request, error: OAutomError) -> JSONResponse:
    """Tell a customer what was wrong, by the sentence of the error."""
    known = (code for kind, code in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, next(known, 500))


@api.put("/orders/{number}")
def start(number: str, params: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Take an order; the same one may be sent again."""
    return client.vect(client.start("order", params, vect_id=number)).status()


@api.get("/orders")
def orders(state: str | None = None) -> list[dict[str, str]]:
    """List the newest orders."""
    return [{"number": view.id, "state": view.state} for view in client.vects("order", state)]


@api.get("/orders/{number}")
def show(number: str) -> dict[str, Any]:
    """Show an order, and what each of its steps waits for."""
    view = client.vect(number)
    why = {name: view.explain(name) for name in view.steps}
    return {**view.status(), "why": why, "worker": os.getpid()}


@api.post("/orders/{number}/approval")
def approve(number: str, by: str) -> dict[str, int | None]:
    """Say that it is in stock. Whoever is too late is told who was quicker."""
    return {"event": client.approve(number, "check", by=by).seq}


@api.get("/orders/{number}/events")
def events(number: str, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
    """Stream what happens to an order. A browser that reconnects says what it has heard last."""
    follow = client.follow(after=last_event_id, vect=number)

    async def stream() -> AsyncIterator[str]:
        async for event in follow:
            yield told(event)

    return StreamingResponse(stream(), media_type="text/event-stream")


def told(event: Event) -> str:
    """Return an event as a browser's EventSource has it: its number is the id."""
    data = json.dumps({"step": event.step, "state": event.dest})
    return f"id: {event.seq}\nevent: {event.name}\ndata: {data}\n\n"


# A customer


class Customer:
    """Talks to the workers: each request by a connection of its own, so by whichever is free."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make a request, and return status and answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer

    def hear(self, number: str, after: int, count: int | None = None) -> list[tuple[int, str]]:
        """Return so many events of an order, or all until it is over."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/orders/{number}/events", headers={"Last-Event-ID": str(after)})
        heard: list[tuple[int, str]] = []
        seq = 0
        for line in connection.getresponse():
            key, _, value = line.decode().strip().partition(": ")
            if key == "id":
                seq = int(value)
            elif key == "event":
                heard.append((seq, value))
            elif not key and len(heard) == count:
                break
        connection.close()
        return heard


def wait_for_engine(client: Client) -> None:
    """Wait until a worker runs the engine: before that there is no log yet."""
    while True:
        with suppress(LogError):
            if client.engine is not None:
                return
        time.sleep(0.05)


def main(folder: str) -> None:
    """Serve by two workers, and be the customer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = str(Path(__file__).parent)
    serve = [sys.executable, "-m", "uvicorn", "--app-dir", here, "orders_api:api"]
    options = ["--port", str(port), "--workers", "2", "--log-level", "error"]
    log = str(Path(folder, "orders.db"))
    server = subprocess.Popen([*serve, *options], env={**os.environ, "ORDERS_LOG": log})
    customer = Customer(port)
    try:
        wait_for_engine(Client(log))
        _, status = customer.ask("PUT", "/orders/17", {"item": "tea", "count": "2"})
        print("order 17 is", status["state"], "with", status["params"])
        print(customer.ask("PUT", "/orders/18", {"item": "tea"})[1]["error"].partition(";")[0])
        first = customer.hear("17", 0, count=3)
        print([name for _, name in first])
        print(customer.ask("GET", "/orders/17")[1]["why"]["ship"])
        print("approved:", customer.ask("POST", "/orders/17/approval?by=Ada")[0])
        late, why = customer.ask("POST", "/orders/17/approval?by=Grace")
        print(late, why["error"].partition("; ")[2])
        print([name for _, name in customer.hear("17", first[-1][0])])
        print(customer.ask("GET", "/orders?state=success"))
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
