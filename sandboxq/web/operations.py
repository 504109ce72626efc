"""Reads and actions as HTTP operations: parameters and answers come from their signatures.

    @read("/queues/{queue}/jobs")
    async def read_jobs(dashboard: Dashboard, queue: str, *, start: int = 0) -> Jobs: …
                                              in the path    in the query; of actions in the body

Parameters are ``str``, ``int``, ``float``, ``bool``, ``Literal[…]``, ``list[str]``, a union of
these with None, or ``Any`` (JSON). Answers are TypedDicts of plain JSON values; what they say is in
the OpenAPI document, and a test holds the answers against it.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import (
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from sandboxq.errors import UsageError
from sandboxq.model.validation import MAX_SAFE_INTEGER, shown

Function = Callable[..., Awaitable[Any]]
# Characters of a parameter in a path or a query, and of a number.
MOST_TEXT = 2000
_MOST_DIGITS = 20
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}
_UNIONS = (Union, types.UnionType)
_FLAGS = {"true": True, "1": True, "on": True, "false": False, "0": False, "": False, "off": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: ``is_in_path``, or in the query or body."""

    name: str
    hint: Any
    default: Any
    is_in_path: bool

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Operation:
    """A read or an action at a path such as ``/queues/{queue}/pause``."""

    path: str
    function: Function
    method: Literal["GET", "POST"] = "GET"

    @functools.cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is asked for; the first parameter of the function is the dashboard or the visit."""
        hints = get_type_hints(self.function)
        _, *own = inspect.signature(self.function).parameters.values()
        return tuple(
            Parameter(it.name, hints[it.name], it.default, f"{{{it.name}}}" in self.path)
            for it in own
        )

    @functools.cached_property
    def answer(self) -> Any:
        """The type of the answer."""
        return get_type_hints(self.function)["return"]

    @functools.cached_property
    def summary(self) -> str:
        """What it does, in a line."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def route(self) -> str:
        """The path as the routes have it: names may be of any characters."""
        return self.path.replace("}", ":sandboxq}")

    def values_of_form(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields of a form, JSON where it is any JSON. Raises: UsageError."""
        of_json = {each.name for each in self.parameters if each.hint is Any}
        return {
            name: _json_of_text(name, text) if name in of_json else text
            for name, text in form.items()
        }

    def arguments(self, in_path: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked arguments. Raises: UsageError."""
        known = {each.name for each in self.parameters if not each.is_in_path}
        for name in given:
            if name not in known:
                choices = ", ".join(sorted(known)) or "none"
                message = f"there is no parameter {shown(name)} here; there are: {choices}"
                raise UsageError(message)
        return {
            each.name: _argument(each, in_path if each.is_in_path else given)
            for each in self.parameters
        }


READS: list[Operation] = []
R = TypeVar("R", bound=Function)


def read(path: str) -> Callable[[R], R]:
    """List a function as a read: GET at this path under /api/v1."""

    def decorate(function: R) -> R:
        READS.append(Operation(path, function))
        return function

    return decorate


def _argument(parameter: Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name in given:
        return converted(parameter.name, given[parameter.name], parameter.hint)
    if parameter.is_required:
        message = f"the parameter {parameter.name} is missing"
        raise UsageError(message)
    return parameter.default


def converted(name: str, value: Any, hint: Any) -> Any:
    """Return a parameter as its type, from JSON or from the text of a form. Raises: UsageError."""
    if get_origin(hint) in _UNIONS:
        return _optional(name, value, hint)
    if get_origin(hint) is Literal:
        return _one_of(name, value, get_args(hint))
    if get_origin(hint) is list:
        return _texts(name, value)
    return _CONVERTERS[hint](name, value)


def _optional(name: str, value: Any, hint: Any) -> Any:
    (other,) = (each for each in get_args(hint) if each is not type(None))
    is_left_out = value is None or (value == "" and other is not str)
    return None if is_left_out else converted(name, value, other)


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        message = f"{name} must be one of {', '.join(choices)}, not {shown(value)}"
        raise UsageError(message)
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        message = f"{name} must be a text of at most {MOST_TEXT} characters"
        raise UsageError(message)
    return value


def _texts(name: str, value: Any) -> list[str]:
    values = value.split() if isinstance(value, str) else value
    if not isinstance(values, list):
        message = f"{name} must be a list of texts, not {shown(value)}"
        raise UsageError(message)
    return [_text(name, each) for each in values]


def _whole(name: str, value: Any) -> int:
    number = value
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and value.isascii():
        try:
            number = int(value)
        except ValueError:
            number = None
    if type(number) is not int or abs(number) > MAX_SAFE_INTEGER:
        message = f"{name} must be a whole number, not {shown(value)}"
        raise UsageError(message)
    return number


def _number(name: str, value: Any) -> float:
    number = value
    if isinstance(value, str):
        try:
            number = float(value[:100])
        except ValueError:
            number = None
    if type(number) not in {int, float} or not abs(number) <= MAX_SAFE_INTEGER:
        message = f"{name} must be a number, not {shown(value)}"
        raise UsageError(message)
    return float(number)


def _flag(name: str, value: Any) -> bool:
    flag = _FLAGS.get(value.lower()) if isinstance(value, str) else value
    if type(flag) is not bool:
        message = f"{name} must be true or false, not {shown(value)}"
        raise UsageError(message)
    return flag


def _json(_: str, value: Any) -> Any:
    return value


def _json_of_text(name: str, value: str) -> Any:
    try:
        return json.loads(value or "null")
    except (ValueError, RecursionError) as error:
        message = f"{name} must be JSON: {error}"
        raise UsageError(message) from error


_CONVERTERS: dict[Any, Callable[[str, Any], Any]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _flag,
    Any: _json,
}


# ── the document ────────────────────────────────────────────────────────────


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type."""
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if is_typeddict(hint):
        return _object(hint)
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in _UNIONS:
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    message = f"no JSON schema for {hint}"
    raise TypeError(message)


def _object(hint: Any) -> dict[str, Any]:
    hints = get_type_hints(hint, include_extras=True)
    plain = {
        name: get_args(each)[0] if get_origin(each) is NotRequired else each
        for name, each in hints.items()
    }
    return {
        "type": "object",
        "title": hint.__name__,
        "properties": {name: schema_of(each) for name, each in plain.items()},
        "required": sorted(hint.__required_keys__),
        "additionalProperties": False,
    }


def document_of(operation: Operation) -> dict[str, Any]:
    """Return what OpenAPI says of an operation."""
    told: dict[str, Any] = {
        "operationId": operation.function.__name__,
        "summary": operation.summary,
        "parameters": [
            _parameter(each, "path" if each.is_in_path else "query")
            for each in operation.parameters
            if each.is_in_path or operation.method == "GET"
        ],
        "responses": {
            "200": _json_content(schema_of(operation.answer), "what was asked for"),
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if operation.method == "POST":
        told["requestBody"] = _body([it for it in operation.parameters if not it.is_in_path])
    return told


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    schema = schema_of(parameter.hint)
    if not parameter.is_required and parameter.default is not None:
        schema["default"] = parameter.default
    is_required = parameter.is_required or where == "path"
    return {"name": parameter.name, "in": where, "required": is_required, "schema": schema}


def _body(parameters: list[Parameter]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {it.name: _parameter(it, "body")["schema"] for it in parameters},
        "required": [it.name for it in parameters if it.is_required],
        "additionalProperties": False,
    }
    return {"content": {"application/json": {"schema": schema}}}


def _json_content(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def openapi(operations: tuple[Operation, ...], version: str, base: str) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = document_of(operation)
    text = {"type": "string"}
    error: dict[str, Any] = {"type": "object", "properties": {"type": text, "message": text}}
    error |= {"required": ["type", "message"], "additionalProperties": False}
    body: dict[str, Any] = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sandboxq", "version": version},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"responses": {"Error": _json_content(body, "why it was not done")}},
    }
