"""What Python source calls of CUDA's runtime, held against what its bindings have."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

_CUDA = re.compile(r"cuda[A-Z]\w*")


def misuses(source: str, known: Mapping[str, Any]) -> list[str]:
    """Every name of CUDA's that is not there, and every call with another number of arguments."""
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _CUDA.fullmatch(node.attr):
            found += _of_name(node, known, _members_behind(tree, known))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parameters = known["functions"].get(node.func.attr)
            if parameters is not None and len(parameters) != len(node.args):
                found.append(f"{node.func.attr} takes {parameters}, not {len(node.args)} arguments")
    return list(dict.fromkeys(found))


def _of_name(node: ast.Attribute, known: Mapping[str, Any], behind: Mapping[str, list[str]]) -> list[str]:
    name, owner = node.attr, node.value
    members = None
    if isinstance(owner, ast.Attribute):
        members = known["members"].get(owner.attr)
    elif isinstance(owner, ast.Name):
        members = behind.get(owner.id)
    if members is not None:
        return [] if name in members else [f"no {ast.unparse(node)}"]
    there = name in known["functions"] or name in known["members"] or name in known["constants"]
    return [] if there else [f"no {name}"]


def _members_behind(tree: ast.AST, known: Mapping[str, Any]) -> dict[str, list[str]]:
    """Variables that hold an enumeration: `kind = runtime.cudaMemcpyKind`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            targets, values = [node.targets[0]], [node.value]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                targets, values = node.targets[0].elts, node.value.elts
            for target, value in zip(targets, values, strict=True):
                members = known["members"].get(value.attr) if isinstance(value, ast.Attribute) else None
                if isinstance(target, ast.Name) and members is not None:
                    found[target.id] = members
    return found
