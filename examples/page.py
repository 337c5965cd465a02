"""The page in a web application of yours: runs beside your own routes, in the same process.

The page is mounted below `/flows`; here the application approves an order through it, as a browser
would.

    pip install fastapi uvicorn 'oautom[web]'
    uvicorn --app-dir examples page:api

Run it:  python examples/page.py      (serves itself to a customer, in a folder of its own)
"""

import os
import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI

from oautom import ApprovalExecution, Flow, OAutom, OAutomMode, PythonExecution
from oautom.web import page

TOKEN = os.environ.get("PAGE_TOKEN", "only for this example")

app = OAutom(OAutomMode.background, log=os.environ.get("ORDERS_LOG", "orders.db"))
order = Flow("order", app, params={"item": str}, max_active_vects=None)
check = ApprovalExecution("check", order, "is it in stock?")
check >> PythonExecution("ship", order, lambda context: f"sent {context.params['item']}")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Have the engine run while the application does."""
    app.run()  # in the background: it returns at once
    yield
    await app.aclose(drain=5)


api = FastAPI(lifespan=lifespan)
api.mount("/flows", page(app, steer=True, token=TOKEN))


@api.put("/orders/{number}")
def start(number: str, item: str) -> dict[str, str]:
    """Take an order."""
    return {"order": app.start(order, {"item": item}, vect_id=number).id}


# A customer


def ask(port: int, method: str, path: str, form: dict[str, str] | None = None) -> str:
    """Make a request, and return what came."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(method, path, urlencode(form or {}), kind)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def shown(text: str) -> str:
    """Return what a reader sees of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text.partition("<main")[2])).split())


def main(folder: str) -> None:
    """Serve, and be the customer."""
    app.configure(log=str(Path(folder, "orders.db")))
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        print(ask(port, "PUT", "/orders/17?item=tea"))
        while "is it in stock?" not in ask(port, "GET", "/flows/inbox"):
            time.sleep(0.01)
        print("in the inbox:", "is it in stock?" in shown(ask(port, "GET", "/flows/inbox")))
        decision = {"action": "approve", "id": "17", "step": "check", "by": "Ada"}
        print(ask(port, "POST", "/flows/do", decision).strip())
        ask(port, "POST", "/flows/do", {**decision, "token": TOKEN})
        app.vect("17").wait(60)
        print("the run:", re.findall("success", shown(ask(port, "GET", "/flows/run?id=17")))[0])
    finally:
        server.should_exit = True
        thread.join(60)


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
