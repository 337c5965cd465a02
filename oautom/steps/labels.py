"""Labels: names of the instances of a map for people, made from their items.

A label is a function of the item, or a text with `{}` for the item and `{name}` for a part of it.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from oautom.errors import SettingError, shown
from oautom.machine.wording import in_line
from oautom.steps.callee import is_async
from oautom.values.annotations import field_names
from oautom.values.convert import plain_of
from oautom.values.json import at_heart, to_json
from oautom.values.text import error_of

Label = str | Callable[[Any], str]
LABEL_MAX: Final = 80
"""Characters of a label that are kept."""


def label_of(given: object) -> Label | None:
    """Return a checked label.

    Raises:
        SettingError: It is neither a function nor a text with parts of an item.
    """
    text = at_heart(given)
    if given is None or (callable(given) and type(text) is not str):
        if is_async(given):
            raise SettingError("label must be a plain function, not an async one")
        return given
    if type(text) is not str:
        raise SettingError(f"label must be a function of an item or a text, not {shown(given)}")
    try:
        parts(text)
    except ValueError as error:
        raise SettingError(
            f"label {shown(text)} cannot be filled in: {error}; write {{}} for the item, and "
            "{name} for that key of a dictionary"
        ) from error
    return text


def labels_of(
    label: Label, items: Iterable[Callable[[], Any]]
) -> tuple[list[str | None], str | None]:
    """Return the label of each item, and the first reason why one has none. Never raises.

    A label is one line without control characters, cut after `LABEL_MAX` characters.

    Args:
        label: As `label_of` returns it.
        items: Functions that return the items; each may raise.
    """
    labels: list[str | None] = []
    problem = None
    for index, item in enumerate(items):
        try:
            labels.append(_label(label, item()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a function or a class of the user's may raise anything
            labels.append(None)
            what = f"the label of item {index} could not be made: {error_of(error)}"
            problem = problem or in_line(what)
    return labels, problem


def _label(label: Label, item: Any) -> str:
    given = _filled(label, item) if isinstance(label, str) else label(item)
    text = at_heart(given)
    if type(text) is not str or not text.strip():
        raise ValueError(f"it must be a text that is not blank, not {shown(given)}")
    return in_line(text, LABEL_MAX)


def _filled(label: str, item: Any) -> str:
    told = (literal + ("" if name is None else _part(name, item)) for literal, name in parts(label))
    return "".join(told)


def _part(name: str, item: Any) -> str:
    """Return the item, or a part of it, as text: a text as it is, any other value as JSON."""
    value = item
    if name and isinstance(item, Mapping):
        value = item[name]
    elif name:
        if name not in (field_names(type(item)) or ()):
            raise KeyError(name)
        value = getattr(item, name)
    plain = plain_of(value)
    return plain if isinstance(plain, str) else to_json(plain).decode()


def parts(label: str) -> list[tuple[str, str | None]]:
    """Return the parts of a text: what stands before a name in braces, and that name.

    Raises:
        ValueError: A brace is not closed, or something besides a name is in it.
    """
    found = []
    for literal, name, spec, conversion in string.Formatter().parse(label):
        if spec or conversion:
            raise ValueError("only a name can be in braces, without ! and :")
        found.append((literal, "" if name == "0" else name))
    return found
