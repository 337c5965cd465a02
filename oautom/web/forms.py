"""Forms: what a browser sends, and the fields that are made of the types of a flow's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from oautom.errors import SettingError
from oautom.web.guard import BODY_BYTES

_FIELDS_MAX: Final = 1_000
_PARAM: Final = "param."
_TYPES: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


class FormError(Exception):
    """What was sent is no form, or is too large.

    Attributes:
        status: The status of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form; no more is read of it than is allowed.

    Raises:
        FormError: It is none, or is too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormError("this is no form", 415)
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES:
                raise FormError(f"a form has at most {BODY_BYTES} bytes", 413)
    except ClientDisconnect as error:
        raise FormError("it was broken off", 400) from error
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict"
        )
    except ValueError as error:  # nor is it text
        raise FormError("this is no form", 400) from error
    return dict(pairs)


class Field(NamedTuple):
    """One parameter, as a field of a form.

    Attributes:
        name: Its name.
        key: The name of the field.
        kind: `text`, `long`, `integer`, `number`, `boolean`, `choice` or `json`.
        is_required: It must be given.
        is_nullable: It may be null: of one that must be given, an empty field says so.
        default: What it is otherwise, as JSON; empty where that is not known.
        choices: What can be chosen: as JSON, and as it is shown.
        hint: What is expected.
    """

    name: str
    key: str
    kind: str
    is_required: bool
    is_nullable: bool
    default: str
    choices: list[tuple[str, str]]
    hint: str


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """Return a field for each parameter of a flow, in the order of declaration.

    Args:
        schema: The JSON Schema of what a start takes.
    """
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, Mapping):
        return []
    names = required if isinstance(required, list) else []
    return [_field(name, each, schema, name in names) for name, each in properties.items()]


def _field(name: str, given: Any, schema: Mapping[str, Any], is_required: bool) -> Field:
    told = _resolved(given, schema)
    is_nullable = _is_nullable(given)
    default = json.dumps(told["default"], ensure_ascii=False) if "default" in told else ""
    choices = told.get("enum")
    hint = str(told.get("format") or told.get("description") or "")
    if isinstance(choices, list) and choices:
        listed = [(json.dumps(each), _said(each)) for each in choices]
        return Field(name, _PARAM + name, "choice", is_required, is_nullable, default, listed, hint)
    kind = _TYPES.get(str(told.get("type")), "json")
    return Field(name, _PARAM + name, kind, is_required, is_nullable, default, [], hint)


def _said(choice: Any) -> str:
    return choice if type(choice) is str else json.dumps(choice)


def _is_nullable(given: Any) -> bool:
    options = given.get("anyOf") if isinstance(given, Mapping) else None
    return isinstance(options, list) and {"type": "null"} in options


def _resolved(given: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of a parameter; where it may be null too, what is said otherwise."""
    told = given if isinstance(given, Mapping) else {}
    for _ in range(8):
        options = told.get("anyOf")
        if isinstance(told.get("$ref"), str):
            found: Any = schema
            for part in told["$ref"].removeprefix("#/").split("/"):
                found = found.get(part, {}) if isinstance(found, Mapping) else {}
            told = {**(found if isinstance(found, Mapping) else {}), **_without(told, "$ref")}
        elif isinstance(options, list):
            rest = [each for each in options if each != {"type": "null"}]
            if len(rest) != 1 or not isinstance(rest[0], Mapping):
                break
            told = {**rest[0], **_without(told, "anyOf")}
        else:
            break
    return told


def _without(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: each for key, each in told.items() if key != name}


def values_of(fields: list[Field], form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a form; an empty field that need not be given is left out.

    Raises:
        SettingError: A value is not what its field expects.
    """
    values: dict[str, Any] = {}
    for field in fields:
        given = form.get(field.key, "")
        if given == "" and field.is_required and field.is_nullable:
            values[field.name] = None
            continue
        if given == "" and not (field.is_required and field.kind == "text"):
            continue
        values[field.name] = given if field.kind == "text" else _value(field, given)
    return values


def _value(field: Field, given: str) -> Any:
    if field.kind in ("integer", "number"):
        return given.strip()  # the engine makes it a number, or says what is wrong
    return from_json(given, f"parameter '{field.name}'")


def from_json(given: str, what: str) -> Any:
    """Return the value that a text has as JSON.

    Raises:
        SettingError: It is no JSON, or is nested too deep; the error begins with `what`.
    """
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{what} must be JSON: {error}") from error
