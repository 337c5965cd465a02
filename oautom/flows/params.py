"""Parameters: the values of a start, checked and converted before anything begins. Pure.

A Vect has its parameters twice: plain, as in JSON, in its first event and its state; and typed,
made anew from these for each reader, so that no reader changes them for others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from oautom.errors import FlowError, NotJsonError, ParamError, UnknownParamError, shown
from oautom.values.annotations import UNKNOWN, shown_type
from oautom.values.convert import NotConvertibleError, converted, keep, restore, why_unsupported
from oautom.values.json import at_heart, copy_of_plain
from oautom.values.names import one_of

_REQUIRED: Final = object()
NO_PARAMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Param:
    """A parameter that may be left out at a start.

    Args:
        annotation: Its type.
        default: Its value if it is left out.

    Attributes:
        annotation, default: See above.
    """

    __slots__ = ("annotation", "default")

    def __init__(self, annotation: Any, default: Any = _REQUIRED) -> None:
        self.annotation = annotation
        self.default = default

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is _REQUIRED

    def __str__(self) -> str:
        """Return type and default, as in the signature of a function."""
        kind = shown_type(self.annotation)
        return kind if self.is_required else f"{kind} = {shown(self.default)}"

    def __repr__(self) -> str:
        """Return the call that makes it."""
        default = "" if self.is_required else f", {shown(self.default)}"
        return f"Param({shown_type(self.annotation)}{default})"


class Params(Mapping[str, Param]):
    """The parameters that a flow declares, by name.

    Args:
        flow: Name of the flow.
        declared: Name -> type, or `Param`.

    Raises:
        FlowError: The declaration is wrong.
    """

    def __init__(self, flow: str, declared: object) -> None:
        self._flow = flow
        if declared is not None and not isinstance(declared, Mapping):
            raise FlowError(
                f"flow '{flow}': params must be a dictionary from names to types, not "
                f"{shown(declared)}",
                flow=flow,
            )
        self._defaults: dict[str, Any] = {}  # plain
        self._by_name = {
            at_heart(name): self._checked(at_heart(name), given)
            for name, given in (declared or {}).items()
        }

    def _checked(self, name: object, given: object) -> Param:
        if type(name) is not str or not name.strip() or not name.isprintable():
            raise FlowError(
                f"flow '{self._flow}': a parameter must have a name that is text, not "
                f"{shown(name)}",
                flow=self._flow,
            )
        param = given if isinstance(given, Param) else Param(given)
        what = f"flow '{self._flow}': parameter '{name}'"
        if (why := why_unsupported(param.annotation)) is not None:
            if why.startswith("Enums"):
                raise FlowError(
                    f"{what} cannot be of type {shown_type(param.annotation)}: {why}; give all "
                    "members of the enum values of one type",
                    flow=self._flow,
                )
            raise FlowError(
                f"{what} must be declared with a type or a Param, not {shown(param.annotation)}",
                flow=self._flow,
            )
        if not param.is_required:
            try:
                self._defaults[name] = self._kept(param, param.default)
            except (NotConvertibleError, NotJsonError) as error:
                raise FlowError(
                    f"{what} has a default that is no {shown_type(param.annotation)}, "
                    f"{shown(param.default)}: {error}",
                    flow=self._flow,
                ) from error
        return param

    @staticmethod
    def _kept(param: Param, value: object) -> Any:
        return keep(converted(value, param.annotation), param.annotation)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the parameters, for programs without their types.

        A type without a schema has an empty one: the program itself refuses wrong values.
        """
        annotations = [param.annotation for param in self._by_name.values()]
        schemas, components = _schemas(annotations)
        properties = {}
        for (name, param), schema in zip(self._by_name.items(), schemas, strict=True):
            is_optional = not param.is_required
            default = {"default": copy_of_plain(self._defaults[name])} if is_optional else {}
            properties[name] = {**schema, **default}
        told: dict[str, Any] = {"type": "object", "properties": properties}
        told["required"] = [name for name, param in self._by_name.items() if param.is_required]
        told["additionalProperties"] = False
        return {**told, "$defs": components} if components else told

    @property
    def told(self) -> str:
        """The declaration, for people: `day: date, limit: int = 10`."""
        return ", ".join(f"{name}: {param}" for name, param in self._by_name.items())

    @property
    def listed(self) -> str:
        """A clause that lists the parameters, for an error."""
        if self._by_name:
            return f"its parameters: {self.told}"
        return "it takes no parameters; declare them: Flow(..., params={'name': type})"

    def plain(self, given: object) -> Mapping[str, Any]:
        """Return the plain parameters of a start, from its arguments; defaults included.

        Raises:
            ParamError: A parameter is unknown, missing or wrong.
        """
        plain = self.plain_of_given(given)
        self.check_names(plain)
        for name in self._by_name:
            if name not in plain:
                plain[name] = copy_of_plain(self._defaults[name])
        return MappingProxyType({name: plain[name] for name in self}) if plain else NO_PARAMS

    def check_names(self, names: Collection[str]) -> None:
        """Refuse a start whose parameters have other names than the declared ones.

        Raises:
            ParamError: A parameter is unknown or missing.
        """
        for name in names:
            self[name]
        for name, param in self._by_name.items():
            if name not in names and param.is_required:
                raise self.error(f"parameter '{name}' is missing", name)

    def plain_of_given(self, given: object) -> dict[str, Any]:
        """Return the given parameters as plain values, without defaults.

        Raises:
            ParamError: A parameter is unknown or wrong.
        """
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise self.error(f"params must be a dictionary, not {shown(given)}")
        plain = {}
        for name, value in given.items():
            plain[at_heart(name)] = self._plain_of(at_heart(name), self[name], value)
        return plain

    def _plain_of(self, name: str, param: Param, value: object) -> Any:
        try:
            return self._kept(param, value)
        except (NotConvertibleError, NotJsonError) as error:
            kind = shown_type(param.annotation)
            raise self.error(
                f"parameter '{name}' must be {kind}, not {shown(value)}: {error}", name
            ) from error

    def check_same(self, vect: str, own: Mapping[str, Any], given: object) -> None:
        """Refuse params that differ from those with which a Vect was started.

        Raises:
            ParamError: A parameter is unknown, wrong, or differs.
        """
        for name, value in self.plain_of_given(given).items():
            if name not in own or own[name] != value:
                then = shown(own[name]) if name in own else "without it"
                raise self.error(
                    f"vect '{vect}' was started with another '{name}': then {then}, "
                    f"now {shown(value)}; give this one another vect_id",
                    name,
                )

    def differences(self, plain: Mapping[str, Any]) -> list[str]:
        """Return why a Vect with these plain parameters cannot go on, a clause for each."""
        told = [f"parameter '{name}' is gone" for name in plain if name not in self]
        for name, param in self._by_name.items():
            if name not in plain:
                told.append(f"parameter '{name}' is new")
                continue
            try:
                restore(plain[name], param.annotation)
            except NotConvertibleError as error:
                told.append(
                    f"parameter '{name}' is now {shown_type(param.annotation)}, which "
                    f"{shown(plain[name])} is not: {error}"
                )
        return told

    def typed(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return plain parameters as values of their types, each made when it is read."""
        return TypedParams(self, plain) if plain or self else NO_PARAMS

    def value(self, name: str, plain: Mapping[str, Any]) -> Any:
        """Return a plain parameter as a value of its type.

        A parameter that the flow does not declare (any more) stays plain.

        Raises:
            UnknownParamError: There is no parameter of this name.
            ParamError: Its value does not fit its type (any more).
        """
        if (known := one_of(name, plain)) is None:
            raise UnknownParamError(self._flow, name, self._by_name, self.listed)
        annotation = self._by_name[known].annotation if known in self._by_name else UNKNOWN
        try:
            return restore(plain[known], annotation)  # all of it made anew
        except NotConvertibleError as error:
            what = f"parameter '{known}' was {shown(plain[known])}, which is no longer its type"
            raise self.error(f"{what}: {error}", known) from error

    def error(self, what: str, name: str | None = None) -> ParamError:
        """Return an error that says what is wrong, and lists the parameters."""
        return ParamError(self._flow, f"{what}; {self.listed}", name)

    def __getitem__(self, name: str) -> Param:
        """Return a parameter.

        Raises:
            UnknownParamError: There is no parameter of this name; the error lists all.
        """
        if (known := one_of(name, self._by_name)) is None:
            raise UnknownParamError(self._flow, name, self._by_name, self.listed)
        return self._by_name[known]

    def __contains__(self, name: object) -> bool:
        """Whether there is a parameter of this name."""
        return one_of(name, self._by_name) is not None

    def __iter__(self) -> Iterator[str]:
        """Yield the names, in the order of declaration."""
        return iter(self._by_name)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self._by_name)

    def __repr__(self) -> str:
        """Return the declaration."""
        return f"<Params {self.told}>"


def _schemas(annotations: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON Schema of each of some types, and of what these refer to."""
    found: list[dict[str, Any]] = []
    components: dict[str, Any] = {}
    for annotation in annotations:
        kind = Any if annotation is UNKNOWN else annotation
        try:
            (schema,), more = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        except Exception:  # of many kinds, as the type may be anything
            schema, more = {}, {}
        found.append(schema)
        components.update(more)
    return found, components


class TypedParams(Mapping[str, Any]):
    """The parameters of a Vect, as values of their types; read-only."""

    def __init__(self, declared: Params, plain: Mapping[str, Any]) -> None:
        self._declared = declared
        self._plain = plain

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter, made anew.

        Raises:
            UnknownParamError: There is no parameter of this name.
        """
        return self._declared.value(name, self._plain)

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._plain)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self._plain)

    def __repr__(self) -> str:
        """Return the plain values."""
        return repr(dict(self._plain))
