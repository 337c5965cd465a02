"""Functions and values that worker processes import by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oautom import Context, Skip


def pid() -> int:
    return os.getpid()


def add_inputs(context: Context) -> tuple[int, Any]:
    context.log.info("adding %s in %s of %s", context.step, context.vect_id, context.flow)
    context.progress(1, "done")
    return sum(context.inputs.values()), context.attempt


def seven() -> int:
    return 7


async def later() -> str:
    return "later"


def leave(code: int) -> None:
    os._exit(code)


def leave_unless(sign: Path) -> str:
    if not sign.exists():
        os._exit(3)
    return "stayed"


def raise_(error: BaseException) -> None:
    raise error


def log_and_fail(context: Context) -> None:
    context.log.warning("about to fail")
    raise ValueError("mine")


def endless() -> None:
    endless()


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("this error stays here")


class ManyArgumentsError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("even here")


def raise_unpicklable() -> None:
    raise UnpicklableError("mine")


def raise_many_arguments() -> None:
    raise ManyArgumentsError("one", "two")


def raise_unprintable() -> None:
    raise UnprintableError


def give_lambda() -> Callable[[], None]:
    return lambda: None


def _explode() -> None:
    raise SystemExit("unpacked")


class Bomb:
    """Can be packed anywhere, and be unpacked nowhere."""

    def __reduce__(self) -> Any:
        return _explode, ()


def give_bomb() -> Bomb:
    return Bomb()


def take(value: object) -> None:
    raise AssertionError("never called with what cannot be unpacked")


def skip_itself() -> None:
    raise Skip("not here")


class UnpicklableLookupError(LookupError):
    def __reduce__(self) -> Any:
        raise RuntimeError("this error stays here")


def fail_until(attempt: int, kind: str, context: Context) -> str:
    if context.attempt >= attempt:
        return "well"
    kinds = {"lookup": KeyError, "unpicklable": UnpicklableLookupError, "value": ValueError}
    raise kinds[kind]("not yet")


def choose_b() -> str:
    return "b"


def double(item: int) -> int:
    return 2 * item
