"""What TensorRT's Python bindings have, as JSON on stdout: run with them and their libraries on the paths.

    {"version": "10.16.1.11",
     "classes": {"ILogger.Severity": {
         "bases": [], "members": ["ERROR", ...], "properties": {name: [type, settable]},
         "methods": {name: [signature, ...]}}},
     "values": {"float32": "DataType", ...}}

A signature is the line that pybind11 writes into a docstring. " or None" behind one says that the text does.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tensorrt_bindings as trt

_PLAIN = re.compile(r"^(?:\d+\. )?(\w+\(self: .*\) -> .+)$", re.MULTILINE)


def signatures(function: Any) -> list[str]:
    doc = function.__doc__ or ""
    parts = re.split(r"^(?=\d+\. \w+\()", doc, flags=re.MULTILINE)
    found = []
    for part in parts:
        line = _PLAIN.search(part)
        if line:
            returns = re.search(r":returns:(.*)", part, re.DOTALL)
            found.append(line[1] + (" or None" if returns and "None" in returns[1] else ""))
    return found


def kind(one: property) -> list[Any]:
    getter = re.search(r"-> (.+)", one.fget.__doc__ or "") if one.fget else None
    return [getter[1].strip() if getter else "object", one.fset is not None]


def describe(cls: type) -> dict[str, Any]:
    own = vars(cls)
    members = list(own["__members__"].__get__(None, cls)) if "__members__" in own else None
    return {
        "bases": [base.__qualname__ for base in cls.__mro__[1:] if base.__module__.startswith("tensorrt")],
        "members": members,
        "properties": {name: kind(one) for name, one in own.items() if type(one) is property},
        "methods": {name: found for name, one in own.items() if (found := signatures(one))},
    }


def all_classes(owner: Any) -> dict[str, type]:
    found = {}
    for one in vars(owner).values():
        if isinstance(one, type) and one.__module__.startswith("tensorrt"):
            found[one.__qualname__] = one
            if one is not owner:
                found |= {k: v for k, v in all_classes(one).items() if k.startswith(one.__qualname__)}
    return found


classes = all_classes(trt)
description = {
    "version": trt.__version__,
    "classes": {name: describe(cls) for name, cls in classes.items()},
    "values": {
        name: type(value).__qualname__
        for name, value in vars(trt).items()
        if type(value).__qualname__ in classes and not name.startswith("_")
    },
}
print(json.dumps(description))
