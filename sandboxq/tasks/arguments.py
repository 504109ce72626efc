"""The arguments of a task's function, by name in a job's data, and its value."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sandboxq.errors import InvalidArguments, UnexpectedResult, UsageError
from sandboxq.tasks.values import Misfit, fitted, plain

if TYPE_CHECKING:
    from collections.abc import Callable

_Kind = inspect.Parameter


class Arguments:
    """What a function takes and returns, as its signature and its annotations say."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Read them. Raises: UsageError when they cannot be read, or arguments have no names."""
        self._task = f"task {name!r}"
        self._signature = inspect.signature(function)
        self._hints = self._hints_of(function)
        self._more: str | None = None  # the name of **more
        self._known: dict[str, inspect.Parameter] = {}
        for parameter in self._signature.parameters.values():
            if parameter.kind is _Kind.VAR_POSITIONAL:
                message = (
                    f"{self._task} takes *{parameter.name}: its arguments travel by name, so give "
                    "it a list instead"
                )
                raise UsageError(message)
            if parameter.kind is _Kind.VAR_KEYWORD:
                self._more = parameter.name
            else:
                self._known[parameter.name] = parameter

    def _hints_of(self, function: Callable[..., Any]) -> dict[str, Any]:
        try:
            return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
        except (NameError, AttributeError, TypeError) as error:
            message = (
                f"the annotations of {self._task} cannot be read: {error}. They are needed at run "
                "time: import such names outside of `if TYPE_CHECKING:`"
            )
            raise UsageError(message) from error

    def data_from(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a job that calls the function so. Raises: InvalidArguments."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            message = f"{self._task}: {error}"
            raise InvalidArguments(message) from None
        given = dict(bound.arguments)
        more = given.pop(self._more, {}) if self._more is not None else {}
        twice = given.keys() & more.keys()
        if twice:
            message = f"{self._task}: argument {twice.pop()} is given twice, by place and by name"
            raise InvalidArguments(message)
        return self._fitting({**given, **more})

    def _fitting(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as JSON has them, when they fit as they will in a child."""
        with _told(self._task, InvalidArguments):
            data: dict[str, Any] = plain(given)
        self._fitted(data)
        return data

    def checked(self, data: Any) -> dict[str, Any]:
        """Return arguments by name as JSON has them. Raises: InvalidArguments."""
        self._refuse_names(data)
        return self._fitting(data)

    def arguments_from(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and named arguments for the function. Raises: InvalidArguments."""
        self._refuse_names(data)
        values = self._fitted(data)
        bound = inspect.BoundArguments(self._signature, {})
        for name in self._signature.parameters:
            if name == self._more:
                bound.arguments[name] = {k: v for k, v in values.items() if k not in self._known}
            elif name in values:
                bound.arguments[name] = values[name]
        return bound.args, bound.kwargs

    def _refuse_names(self, data: Any) -> None:
        if not isinstance(data, Mapping):
            message = (
                f"{self._task}: the job's data must be an object of arguments, not "
                f"{type(data).__name__}"
            )
            raise InvalidArguments(message)
        known = self._known
        missing = [
            name
            for name, parameter in known.items()
            if parameter.default is _Kind.empty and name not in data
        ]
        unknown = [] if self._more else [name for name in data if name not in known]
        if missing or unknown:
            what = f"argument {(missing or unknown)[0]} is {'missing' if missing else 'unknown'}"
            message = f"{self._task}: {what}; it takes {', '.join(known) or 'none'}"
            raise InvalidArguments(message)

    def _fitted(self, data: Mapping[str, Any]) -> dict[str, Any]:
        with _told(self._task, InvalidArguments):
            return {
                name: fitted(self._hint(name), value, f"argument {name}")
                for name, value in data.items()
            }

    def _hint(self, name: str) -> Any:
        return self._hints.get(name if name in self._known else self._more or "", Any)

    def value_from(self, result: Any) -> Any:
        """Return what the function returned, from JSON. Raises: UnexpectedResult."""
        with _told(f"the job of {self._task} completed, but", UnexpectedResult, " "):
            return fitted(self._hints.get("return", Any), result, "its value")


@contextmanager
def _told(
    what: str, kind: type[InvalidArguments | UnexpectedResult], between: str = ": "
) -> Iterator[None]:
    """Translate every error that a value of the wrong type may raise into one."""
    try:
        yield
    except RecursionError:
        message = f"{what}{between}the values are nested too deep"
        raise kind(message) from None
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        # A Misfit says where; others come from classes that are made of the value.
        where = "" if isinstance(error, Misfit) else f"{type(error).__name__}: "
        message = f"{what}{between}{where}{error}"
        raise kind(message) from None
