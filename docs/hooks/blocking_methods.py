"""Shows ``counts = blocking(Queue.counts)`` as the method that it is, with parameters and text."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Class, Docstring, Extension, Function, GriffeLoader, Module

_CALL = re.compile(r"blocking\((\w+)\.(\w+)(?:, (\w+))?\)")


class BlockingMethods(Extension):
    """Looks for them when the package has been read."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:
        """Put methods in the place of what only calls ``blocking``."""
        del loader
        for module in pkg["queue"].modules.values():
            for each in module.classes.values():
                _replace_in(each)


def _replace_in(of: Class) -> None:
    for member in list(of.attributes.values()):
        if call := _CALL.fullmatch(str(member.value)):
            kind, name, returning = call.groups()
            found = of.module[kind].all_members[name]
            returns = of[returning].returns if returning else found.returns
            of.set_member(member.name, _method(member, found, returns))


def _method(member: Attribute, found: Function, returns: Any) -> Function:
    method = Function(
        member.name, lineno=member.lineno, parameters=found.parameters, returns=returns
    )
    assert found.docstring is not None
    method.docstring = Docstring(found.docstring.value, parent=method)
    return method
