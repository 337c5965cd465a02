"""Arguments `name=value`, and values in JSON, as command lines have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from oautom.cli.exits import USAGE, Refusal


def params_of(pairs: Sequence[str], texts: Collection[str] = ()) -> dict[str, Any]:
    """Return the parameters that arguments `name=value` give.

    A value is text, which the engine converts to the type of the parameter. A list or an object is
    written as JSON.

    Args:
        pairs: The arguments.
        texts: The parameters whose type is text: their values are never JSON.

    Raises:
        Refusal: One is not of this form, or stands twice.
    """
    params: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise Refusal(f"'{pair}' is no parameter; write name=value", USAGE)
        if name in params:
            raise Refusal(f"parameter '{name}' is given twice", USAGE)
        is_json = name not in texts and text.startswith(("[", "{"))
        params[name] = from_json(text, f"parameter '{name}'") if is_json else text
    return params


def from_json(text: str, what: str) -> Any:
    """Return the value that a text has as JSON.

    Raises:
        Refusal: It is no JSON; the error begins with `what`.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(f"{what} is no JSON: {error}", USAGE) from error
