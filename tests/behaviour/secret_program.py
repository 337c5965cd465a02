"""A program whose steps leak their secret in every way that oautom watches, until it is killed.

Run as `secret_program.py LOG EXECUTOR`; the secret is in the environment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from oautom import (
    BashExecution,
    BranchExecution,
    Context,
    Flow,
    MapExecution,
    OAutom,
    PythonExecution,
    RetryPolicy,
    Skip,
    StepError,
)

NAME = "API_KEY"


def prints(key: str, context: Context) -> int:
    print("it is", key)
    for character in key:
        print(character, end="")
    print("\ntorn", key[:7], end="", flush=True)
    print(key, file=sys.stderr)
    print(key[7:])
    print(json.dumps({"key": key}), repr(key))
    context.log.info("log %s", key, extra={"also": key, "deep": [key]})
    context.progress(0.5, key)
    try:
        {}[key]
    except KeyError:
        logging.getLogger("library").exception("with %s", {"key": key})
    return len(key)


async def later(key: str) -> str:
    print("async", key)
    await asyncio.sleep(0)
    raise LookupError(key)


def raises(key: str) -> None:
    error = ValueError(f"no {key}")
    error.key = key  # type: ignore[attr-defined]
    error.add_note(f"note {key}")
    raise RuntimeError(key) from error


def with_details(key: str) -> None:
    raise StepError(f"refused {key}", tokens=[key])


def with_a_key_of_details(key: str) -> None:
    raise StepError("refused", headers={key: 1})


def raises_a_group(key: str) -> None:
    raise ExceptionGroup(key, [ValueError(key), KeyError(key)])


def raises_a_class(key: str) -> None:
    raise type(f"Error{key}", (Exception,), {})(key * 3000)


def skips(key: str) -> None:
    raise Skip(f"since {key}")


def returns(key: str) -> Any:
    return {"token": [f"Bearer {key}"]}


def returns_a_key(key: str) -> Any:
    return {key: 1}


def returns_bytes(key: str) -> Any:
    return key.encode()


@dataclass
class Login:
    password: str


def returns_an_object(key: str) -> Login:
    return Login(key)


def returns_what_json_cannot_keep(key: str) -> Any:
    return {"all": (key, object())}


def of_item(item: int, key: str) -> Any:
    return item if item else key


def items() -> list[int]:
    return [0, 1]


def chooses(key: str) -> str:
    return key


STEPS = [
    prints,
    later,
    raises,
    with_details,
    with_a_key_of_details,
    raises_a_group,
    raises_a_class,
    skips,
    returns,
    returns_a_key,
    returns_bytes,
    returns_an_object,
    returns_what_json_cannot_keep,
]
COMMANDS = {
    "traced": 'set -x; echo "$K"; : "$K" "x${K}y"',
    "children": 'python3 -c "import os; print(os.environ[\'K\'])" >&2; (echo "$K") >&2',
    "by byte": 'for ((i = 0; i < ${#K}; i++)); do printf %s "${K:i:1}" >&2; done',
    "fails": 'echo "$K" >&2; exit 3',
    "exits to skip": 'echo "$K" >&2; exit 99',
    "text": 'echo "$K"',
}


def declare(app: OAutom) -> Flow:
    flow = Flow("leaks", app)
    key = flow.secret(NAME)
    for function in STEPS:
        PythonExecution(
            function.__name__,
            flow,
            function,
            [key],
            retry=RetryPolicy(max_attempts=2, delay=0, jitter=0),
        )
    for name, command in COMMANDS.items():
        BashExecution(name, flow, command, env={"K": key})
        BashExecution(f"{name} there", flow, command, env={"K": key}, place="worker")
    MapExecution("map", flow, of_item, PythonExecution("items", flow, items), {"key": key})
    branch = BranchExecution("branch", flow, chooses, [key])
    branch >> PythonExecution("a", flow, items)
    made = BashExecution("undone", flow, "true", env={"K": key}, compensate='echo "$K" >&2; exit 1')
    made >> PythonExecution("bad", flow, raises, [key])
    return flow


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    app = OAutom(log=sys.argv[1], executor=sys.argv[2])  # type: ignore[arg-type]
    vect = app.run(declare(app), vect_id="v")
    print(vect.status(), [step.attempts for step in vect.steps.values()], vect.events())
    time.sleep(1.1)  # what runs is flushed once a second
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)  # before the checkpoint
