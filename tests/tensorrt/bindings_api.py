"""The classes of a library's bindings, in Python's own words: signatures that `ast` can read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_RENAMED = {
    "nvonnxparser::IParserError": "ParserError",
    "typing.SupportsInt": "int",
    "numpy.ndarray": "Array",
}


@dataclass(frozen=True)
class Signature:
    """One overload. parameters: without self, with those that need no value marked True."""

    text: str
    parameters: tuple[tuple[str, bool], ...]
    returns: str

    @classmethod
    def parse(cls, line: str) -> Signature | None:
        """A line of a docstring; None if Python cannot read it, as where a parameter is called `in`."""
        try:
            tree = ast.parse(f"def {_in_python(line)}: ...").body[0]
        except SyntaxError:
            return None
        assert isinstance(tree, ast.FunctionDef) and tree.returns is not None
        given = tree.args
        given.args[:0], given.posonlyargs = given.posonlyargs, []
        if given.args and given.args[0].arg == "self":
            given.args[0].annotation = None
        count = len(given.args) - len(given.defaults)
        parameters = [(one.arg, index >= count) for index, one in enumerate(given.args)]
        text = f"({ast.unparse(given)}) -> {ast.unparse(tree.returns)}"
        return cls(text, tuple(parameters[1:]), ast.unparse(tree.returns))

    def takes(self, positional: int, named: Iterable[str]) -> bool:
        """Whether a call with so many arguments and these keywords fits."""
        left = dict(self.parameters[positional:])
        if positional > len(self.parameters) or not set(named) <= set(left):
            return False
        return all(optional or name in set(named) for name, optional in left.items())


def _in_python(line: str) -> str:
    for old, new in _RENAMED.items():
        line = line.replace(old, new)
    line = re.sub(r"<[^>]*>", "...", line)  # a default that is an object
    line = re.sub(r"= (?!\.\.\.|None)[^,)]+", "= ...", line)
    line = re.sub(r"(\w+): ([\w.]+) = None", r"\1: \2 | None = ...", line)
    return _type(line)


def _type(text: str) -> str:
    text = re.sub(r"(?:\w+::)+(\w+)", r"\1", text.replace("tensorrt_bindings.tensorrt.", ""))
    return text.removesuffix(" or None") + (" | None" if text.endswith(" or None") else "")


@dataclass(frozen=True)
class Class:
    """One class. members: of an enumeration, else None. properties: type, and whether it can be set."""

    bases: tuple[str, ...] = ()
    members: tuple[str, ...] | None = None
    properties: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    methods: Mapping[str, tuple[Signature, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Api:
    """version: of the library. values: names of the module that are members of enumerations."""

    version: str
    classes: Mapping[str, Class]
    values: Mapping[str, str]

    def lineage(self, name: str) -> Iterable[Class]:
        """A class and its bases."""
        found = self.classes[name]
        return (found, *(self.classes[base] for base in found.bases))


def read_api(description: Mapping[str, Any]) -> Api:
    """What describe_bindings.py printed."""
    classes = {
        name: Class(
            tuple(one["bases"]),
            None if one["members"] is None else tuple(one["members"]),
            {key: (_type(kind), settable) for key, (kind, settable) in one["properties"].items()},
            {key: tuple(filter(None, map(Signature.parse, lines))) for key, lines in one["methods"].items()},
        )
        for name, one in description["classes"].items()
    }
    return Api(description["version"], classes, description["values"])


def shared(one: Api, other: Api) -> Api:
    """What two versions have alike."""
    both = sorted(one.classes.keys() & other.classes.keys())
    return Api(
        f"{one.version} and {other.version}",
        {name: _shared_class(one.classes[name], other.classes[name]) for name in both},
        {name: kind for name, kind in one.values.items() if other.values.get(name) == kind},
    )


def _shared_class(one: Class, other: Class) -> Class:
    members = None
    if one.members is not None:
        members = tuple(name for name in one.members if name in (other.members or ()))
    properties = {
        name: (
            kind if kind == other.properties[name][0] else "object",
            settable and other.properties[name][1],
        )
        for name, (kind, settable) in one.properties.items()
        if name in other.properties
    }
    methods = {
        name: tuple(one for one in overloads if one in other.methods.get(name, ()))
        for name, overloads in one.methods.items()
    }
    return Class(one.bases, members, properties, {name: found for name, found in methods.items() if found})
