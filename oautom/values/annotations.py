"""Annotations: the declared types of a function, and whether one type fits another. Pure.

A missing annotation, or one that cannot be resolved, is `UNKNOWN`, which fits everything: only
types that certainly cannot work are reported.
"""

from __future__ import annotations

import collections
import dataclasses
import inspect
import types
import typing
from abc import ABCMeta
from collections import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Final, Generic, Literal, NoReturn, Protocol, TypeVar, Union, cast
from uuid import UUID

import msgspec

UNKNOWN: Final = Any
"""The type of a missing annotation, or of one that cannot be resolved."""

_WRAPPERS: Final = frozenset({typing.Final, typing.ClassVar, typing.Required, typing.NotRequired})
_OF_ONE: Final = (list, tuple, set, frozenset, collections.deque, abc.Iterable)
_SCALARS: Final = (int, float, complex, date, time, timedelta, Decimal, UUID, types.NoneType)
_PROMOTED: Final = {(int, float), (int, complex), (float, complex), (bytearray, bytes)}
_BUILTINS: Final = (str, bytes, bytearray, list, tuple, set, frozenset, dict, *_SCALARS)


_BY_NAME: Final = {kind.__name__: kind for kind in _BUILTINS if kind.__module__ == "builtins"} | {
    "None": types.NoneType
}


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The type of a part that certainly does not exist."""


# What is said


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the parameters of a callable, and of its `return`.

    Annotations that cannot be resolved are left out. A class returns itself.
    """
    called = _called(function)
    if isinstance(called, type):
        maker: Any = called
        return _resolved(maker.__init__) | {"return": called}
    return _resolved(called)


def return_type(function: Callable[..., Any]) -> Any:
    """Return the return annotation of a callable."""
    called = _called(function)
    if isinstance(called, type):
        return called
    hint = _resolved(called, ("return",)).get("return", UNKNOWN)
    is_async = typing.get_origin(hint) in (abc.Coroutine, abc.Awaitable)
    return UNKNOWN if is_async else hint


def _called(function: Any) -> Any:
    """Return the function whose annotations a callable has, or the class."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type) or inspect.isroutine(function):
        return function
    return type(function).__call__


def _resolved(function: Any, wanted: Collection[str] | None = None) -> dict[str, Any]:
    """Return the annotations of a function, each resolved by itself: one may not exist (yet).

    Args:
        function: A function, or a class.
        wanted: The names of the parameters that are needed; None for all.
    """
    try:
        raw = dict(getattr(function, "__annotations__", {}))
    except Exception:  # they are code of the user's where Python resolves them late
        return {}
    if isinstance(function, type):
        names = getattr(inspect.getmodule(function), "__dict__", {})
    else:
        names = getattr(inspect.unwrap(function), "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in raw.items():
        if wanted is None or name in wanted:
            with suppress(Exception):  # as above
                hints[name] = _meant(annotation, names)
    return hints


def _meant(annotation: Any, names: dict[str, Any]) -> Any:
    """Return the type that an annotation stands for; the mere name of a class needs no `eval`.

    Each step that runs needs this: compiling and evaluating `'None'` takes 60 times as long, a
    quarter of the time of a durable step.
    """
    found = (
        names.get(annotation, _BY_NAME.get(annotation)) if type(annotation) is str else annotation
    )
    if issubclass(type(found), type) and found is not Generic and found is not Protocol:
        return found
    one: Any = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(one, names, include_extras=True)["it"]


def shown_type(annotation: Any) -> str:
    """Return an annotation as people write it."""
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return repr(annotation).replace("typing.", "")


# The parts of a type


def part_type(annotation: Any, key: str | int) -> Any:
    """Return the type of the part at `key` in a value of a type; or `UNKNOWN`, or `MISSING`."""
    members = _members(annotation)
    parts = [_part_of_one(member, key) for member in members]
    found = [part for part in parts if part is not MISSING]
    if not found:
        return MISSING
    return UNKNOWN if any(part is UNKNOWN for part in found) else _union(found)


def key_in_json(annotation: Any, key: str | int) -> str | int:
    """Return the key in JSON of the part at `key` in a value of a type.

    JSON has a list for a named tuple, and a `Struct` may rename its fields.
    """
    for member in _members(annotation):
        kind, _ = _class_and_args(member)
        names = field_names(kind) if isinstance(kind, type) else None
        if names is None or key not in names:
            continue
        place = names.index(str(key))
        if issubclass(kind, tuple):
            return place
        if issubclass(kind, msgspec.Struct):
            config = kind.__struct_config__
            is_tagged = config.tag is not None
            return place + is_tagged if config.array_like else kind.__struct_encode_fields__[place]
    return key


def _union(members: list[Any]) -> Any:
    return members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007 - made at run time


def _part_of_one(annotation: Any, key: str | int) -> Any:
    kind, args = _class_and_args(annotation)
    if not isinstance(kind, type):
        return UNKNOWN
    if (fields := _fields(kind)) is not None and isinstance(key, str):
        return fields.get(key, MISSING)
    if issubclass(kind, tuple):
        return _item_of_tuple(kind, args, key)
    if issubclass(kind, abc.Mapping):
        fits_key = not args or fits(type(key), args[0])
        return (args[1] if len(args) == 2 else UNKNOWN) if fits_key else MISSING
    if issubclass(kind, str):
        return str if isinstance(key, int) else MISSING
    if issubclass(kind, abc.Sequence):
        return (args[0] if args else UNKNOWN) if isinstance(key, int) else MISSING
    return MISSING if issubclass(kind, _SCALARS) else UNKNOWN


def _item_of_tuple(kind: type, args: tuple[Any, ...], key: str | int) -> Any:
    if isinstance(key, str):
        return MISSING
    if (fields := _fields(kind)) is not None:
        args = tuple(fields.values())
    elif len(args) == 2 and args[1] is Ellipsis:
        return args[0]
    elif not args:
        return UNKNOWN
    return args[key] if -len(args) <= key < len(args) else MISSING


def _fields(kind: type) -> Mapping[str, Any] | None:
    """Return the fields of a class whose instances have parts by name, else None."""
    if typing.is_typeddict(kind):
        names: Iterable[str] = (*kind.__required_keys__, *kind.__optional_keys__)  # type: ignore[attr-defined] # it has them
    elif (found := field_names(kind)) is not None:
        names = found
    else:
        return None
    hints: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        hints |= _resolved(each)
    return {name: hints.get(name, UNKNOWN) for name in names}


def field_names(kind: type) -> tuple[str, ...] | None:
    """Return the names of the parts that instances of a class have as attributes, else None."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple(kind._fields)
    return None


# Whether one fits the other


def takes_object(annotation: Any) -> bool:
    """Whether a value of a type may be written as an object in JSON, as far as the type says so."""
    return any(_is_object(member) for member in _members(annotation))


def is_object(annotation: Any) -> bool | None:
    """Whether each value of a type is a mapping, or none is; None if that is not known."""
    members = _members(annotation)
    if any(_is_open(member) for member in members):
        return None
    kinds = {_is_mapping(member) for member in members}
    return kinds.pop() if len(kinds) == 1 else None


def _is_mapping(annotation: Any) -> bool:
    kind, _ = _class_and_args(annotation)
    is_class = isinstance(kind, type)
    return is_class and (typing.is_typeddict(kind) or issubclass(kind, abc.Mapping))


def _is_object(annotation: Any) -> bool:
    kind, _ = _class_and_args(annotation)
    is_record = isinstance(kind, type) and field_names(kind) is not None
    return _is_mapping(annotation) or (is_record and not issubclass(kind, tuple))


def fits(produced: Any, wanted: Any) -> bool:
    """Return False only if no value of the type `produced` can be one of the type `wanted`."""
    return any(
        _fits_one(mine, theirs) for mine in _members(produced) for theirs in _members(wanted)
    )


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value of a type may have, without `Annotated` and the like."""
    return _members(annotation)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself, without `Annotated` and the like."""
    annotation = _bare(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(each for arg in typing.get_args(annotation) for each in _members(arg))
    return (annotation,)


def _bare(annotation: Any) -> Any:
    """Strip `Annotated`, `NewType` and aliases from an annotation."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            annotation = annotation.__origin__
        elif origin in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
            try:
                annotation = annotation.__value__
            except Exception:  # it is resolved late, by code of the user's
                return UNKNOWN
        else:
            return types.NoneType if annotation is None else annotation


def _class_and_args(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the class behind a type, if there is one, and the arguments in its brackets."""
    annotation = _bare(annotation)
    origin = typing.get_origin(annotation) or annotation
    if typing.is_typeddict(origin):
        return origin, ()
    return origin, typing.get_args(annotation)


def _fits_one(produced: Any, wanted: Any) -> bool:
    if any(_is_open(each) for each in (produced, wanted)):
        return True
    mine, theirs = _literals(produced), _literals(wanted)
    if mine is not None and theirs is not None:
        return any(value in theirs for value in mine)
    if mine is not None or theirs is not None:
        mine_types = [produced] if mine is None else [type(value) for value in mine]
        their_types = [wanted] if theirs is None else [type(value) for value in theirs]
        return any(fits(one, other) for one in mine_types for other in their_types)
    kind, args = _class_and_args(produced)
    other, other_args = _class_and_args(wanted)
    if not isinstance(kind, type) or not isinstance(other, type):
        return True
    return _classes_fit(kind, other) and _args_fit(kind, args, other, other_args)


def _is_open(annotation: Any) -> bool:
    """Whether the type may stand for anything."""
    return annotation in (Any, object, NoReturn, typing.Never) or isinstance(annotation, TypeVar)


def _literals(annotation: Any) -> tuple[Any, ...] | None:
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else None


def _classes_fit(kind: type, other: type) -> bool:
    kind, other = (dict if typing.is_typeddict(each) else each for each in (kind, other))
    if any(getattr(each, "_is_protocol", False) for each in (kind, other)) and not (
        kind.__module__ == other.__module__ == "collections.abc"
    ):
        return True
    try:
        if issubclass(kind, other) or issubclass(other, kind) or (kind, other) in _PROMOTED:
            return True
    except Exception:  # some special form, or a metaclass of the user's
        return True
    # A value of an abstract class may have any other class, too; one of a built-in class may not.
    abstract = [each for each in (kind, other) if isinstance(each, ABCMeta)]
    return bool(abstract) and not any(each in _BUILTINS for each in (kind, other))


def _args_fit(kind: type, args: tuple[Any, ...], other: type, other_args: tuple[Any, ...]) -> bool:
    """Whether the arguments in brackets fit; unknown ones, and those of an unknown class, do."""
    if not args or not other_args:
        return True
    if issubclass(kind, abc.Mapping) and issubclass(other, abc.Mapping):
        pairs = zip(args, other_args, strict=False)
        return len(args) != len(other_args) or all(fits(one, two) for one, two in pairs)
    if kind is tuple and other is tuple and Ellipsis not in (*args, *other_args):
        pairs = zip(args, other_args, strict=False)
        return len(args) == len(other_args) and all(fits(one, two) for one, two in pairs)
    if not all(_is_of_one(each) for each in (kind, other)):
        return True
    mine = [arg for arg in args if arg is not Ellipsis]
    theirs = [arg for arg in other_args if arg is not Ellipsis]
    return all(any(fits(one, two) for two in theirs) for one in mine)


def _is_of_one(kind: type) -> bool:
    """Whether the argument in the brackets of a class is the type of its items."""
    is_plain = kind in _OF_ONE or kind.__module__ == "collections.abc"
    return (
        is_plain
        and issubclass(kind, cast("type", abc.Iterable))
        and not issubclass(kind, abc.Mapping | abc.Generator)
    )
