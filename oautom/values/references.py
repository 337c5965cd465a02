"""References: placeholders for values that exist only when a step runs. Pure.

A reference knows the source of its value, and the keys that lead to a part of it. It is no value,
so it refuses all uses that would silently give a wrong one: as text, as truth value, in a loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Protocol, Self

from oautom.errors import FlowError, shown
from oautom.values.annotations import field_names
from oautom.values.json import at_heart

Key = str | int


class Named(Protocol):
    """A flow; only its name is known here."""

    name: str


class UnresolvedError(Exception):
    """The value of a reference does not exist; says why in a line. Never leaves oautom."""


class Reference(ABC):
    """A placeholder for a value that exists only when the step runs that takes it.

    `reference[key]` is a part: an item of a dictionary, list or tuple, or a field of a dataclass.

    Args:
        flow: The flow that it belongs to; None in a worker process.
        name: Name of the step or parameter that has the value.
        path: The keys that lead to the part, in order.
    """

    __slots__ = ("flow", "name", "path")

    source_kind: ClassVar[str]

    def __init__(self, flow: Named | None, name: str, path: tuple[Key, ...] = ()) -> None:
        self.flow = flow
        self.name = name
        self.path = path

    def __getitem__(self, key: Key) -> Self:
        """Return a reference to a part.

        Raises:
            FlowError: The key is neither text nor a whole number.
        """
        given, key = key, at_heart(key)
        if type(key) is not str and type(key) is not int:
            raise FlowError(
                f"{self!r} has no part [{shown(given)}]; a key must be text or a whole number",
                flow=getattr(self.flow, "name", None),
            )
        return type(self)(self.flow, self.name, (*self.path, key))

    @abstractmethod
    def source(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return the whole value, in which `path` leads to the part.

        Raises:
            UnresolvedError: There is no such value.
        """

    def resolve(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return the value.

        Args:
            inputs: The outputs of the upstreams that have succeeded.
            params: The parameters of the Vect.

        Raises:
            UnresolvedError: There is no such value.
        """
        value = self.source(inputs, params)
        for depth, key in enumerate(self.path):
            try:
                value = part_of(value, key)
            except Exception as error:  # whatever `__getitem__` of a user's class raises
                there = type(self)(None, self.name, self.path[:depth])
                raise UnresolvedError(
                    f"{there!r} has no part [{key!r}], it is a {type(value).__name__}: "
                    f"{shown(value)}"
                ) from error
        return value

    def _refusal(self, what: str, remedy: str) -> FlowError:
        return FlowError(
            f"{self!r} of flow '{getattr(self.flow, 'name', '')}' has no value before its step "
            f"runs, so it {what}; {remedy}",
            flow=getattr(self.flow, "name", None),
        )

    def __str__(self) -> str:
        """Refuse: a value is never pasted into a text, where a shell would run it.

        Raises:
            FlowError: Always.
        """
        raise self._refusal("cannot be part of a text", "give it to a command by env={'NAME': ...}")

    def __format__(self, spec: str) -> str:
        """Refuse, as `str()` does."""
        return str(self)

    def __add__(self, other: object) -> NoReturn:
        """Refuse: it is no text or number yet."""
        raise self._refusal(
            "cannot be added to anything", "do so in a step, or use env= of a command"
        )

    __radd__ = __add__

    def __bool__(self) -> bool:
        """Refuse: its truth is not known yet."""
        raise self._refusal("is neither true nor false", "decide in a step")

    def __iter__(self) -> NoReturn:
        """Refuse: its items are not known yet."""
        raise self._refusal(
            "cannot be iterated over", "do so in a step, or name its parts: [0], ['key']"
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process without the flow."""
        return type(self), (None, self.name, self.path)

    def _keys(self) -> str:
        return "".join(f"[{key!r}]" for key in self.path)


class OutputReference(Reference):
    """The output of a step, or a part of it."""

    __slots__ = ()

    source_kind = "step"

    def source(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return the whole output."""
        if self.name not in inputs:
            raise UnresolvedError(f"step '{self.name}' has no output, it has not succeeded")
        return inputs[self.name]

    def __repr__(self) -> str:
        """Return it as it is written."""
        return f"{self.name}.output{self._keys()}"


class ParamReference(Reference):
    """A parameter of the flow, or a part of it."""

    __slots__ = ()

    source_kind = "param"

    def source(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return the whole value of the parameter."""
        return params[self.name]

    def __repr__(self) -> str:
        """Return it as it is written."""
        return f"param({self.name!r}){self._keys()}"


class SecretReference(Reference):
    """A secret: a text that the step gets, and that is stored nowhere."""

    __slots__ = ()

    source_kind = "secret"

    def __getitem__(self, key: Key) -> Self:
        """Refuse: it is one text.

        Raises:
            FlowError: Always.
        """
        raise FlowError(
            f"{self!r} has no part [{shown(key)}], it is one text; take it apart in a step",
            flow=getattr(self.flow, "name", None),
        )

    def source(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Refuse: only the context of a step has it."""
        raise UnresolvedError("a secret is for the arguments of functions and the env of commands")

    def __repr__(self) -> str:
        """Return it as it is written: its name, and never its value."""
        return f"secret({self.name!r})"


def secret_in(value: object, levels: int = 20) -> SecretReference | None:
    """Return a secret that lists and dictionaries contain, down to some levels, or None."""
    if type(value) is SecretReference:
        return value
    if not levels or not isinstance(value, list | tuple | dict):
        return None
    parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
    found = (secret_in(part, levels - 1) for part in parts)
    return next((each for each in found if each is not None), None)


def part_of(value: Any, key: Key) -> Any:
    """Return the part at `key` in a value: an item, or a field by its name.

    Raises:
        Exception: There is no such part.
    """
    names = field_names(type(value))
    if names is not None and isinstance(key, str):
        if key not in names:
            raise KeyError(key)
        return getattr(value, key)
    return value[key]
