"""What Python source does with TensorRT, held against what a version of its bindings has.

Types are followed as far as the source tells them: `trt.X(...)`, annotations, and what methods return. mypy
goes further, with the stubs of typings/; this looks at each version by itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from bindings_api import Api, Class

MODULE = "trt"


def mentioned(source: str) -> set[str]:
    """Names of the module that a source mentions, in code and in annotations."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == MODULE
    }


def misuses(source: str, api: Api) -> list[str]:
    """Every use of a name that is not there, or of a call that has no such signature."""
    tree = ast.parse(source)
    found = list(_Scope(api, {}).of_module(tree))
    return list(dict.fromkeys(found))


class _Scope:
    """One function or module. types: classes of variables by name, `self.x` among them."""

    def __init__(self, api: Api, types: Mapping[str, str]) -> None:
        self._api = api
        self._types = dict(types)

    def of_module(self, tree: ast.AST) -> Iterator[str]:
        attributes = dict(_annotated_attributes(tree, self))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):  # in annotations too
                yield from self._of_name(node)
            elif isinstance(node, ast.FunctionDef):
                yield from _Scope(self._api, {**attributes, **self._parameters(node)}).of_function(node)
            elif isinstance(node, ast.ClassDef):
                yield from self._of_class(node)

    def of_function(self, function: ast.FunctionDef) -> Iterator[str]:
        for node in _in_order(function):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._learn(node.targets[0], self.type_of(node.value))
                yield from self._of_target(node.targets[0])
            elif isinstance(node, ast.AnnAssign):
                self._learn(node.target, self.annotation(node.annotation))
            elif isinstance(node, ast.Attribute):
                yield from self._of_attribute(node)
            elif isinstance(node, ast.Call):
                yield from self._of_call(node)

    def _parameters(self, function: ast.FunctionDef) -> dict[str, str]:
        given = {one.arg: self.annotation(one.annotation) for one in function.args.args}
        return {name: kind for name, kind in given.items() if kind}

    def annotation(self, node: ast.AST | None) -> str | None:
        """The class that an annotation names: `trt.X`, or `trt.X | None`."""
        if isinstance(node, ast.BinOp):
            return self.annotation(node.left)
        name = _module_name(node)
        return name if name in self._api.classes else None

    def type_of(self, node: ast.AST) -> str | None:
        """The class of an expression; None if it is none of TensorRT's, or not known."""
        if isinstance(node, ast.Name):
            return self._types.get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr in self._types and isinstance(node.value, ast.Name) and node.value.id == "self":
                return self._types[node.attr]
            owner = self.type_of(node.value)
            kinds = [
                one.properties[node.attr][0] for one in self._lineage(owner) if node.attr in one.properties
            ]
            return self._plain(kinds[0]) if kinds else None
        if isinstance(node, ast.Call):
            name = _module_name(node.func)
            if name in self._api.classes:
                return name
            if isinstance(node.func, ast.Attribute):
                owner = self.type_of(node.func.value)
                for one in self._lineage(owner):
                    if node.func.attr in one.methods:
                        return self._plain(one.methods[node.func.attr][0].returns)
        return None

    def _plain(self, kind: str) -> str | None:
        kind = kind.removesuffix(" | None")
        return kind if kind in self._api.classes else None

    def _lineage(self, name: str | None) -> list[Class]:
        return list(self._api.lineage(name)) if name else []

    def _learn(self, target: ast.AST, kind: str | None) -> None:
        if isinstance(target, ast.Name) and kind:
            self._types[target.id] = kind

    def _of_class(self, node: ast.ClassDef) -> Iterator[str]:
        """A class that TensorRT calls: each public method must be one that it knows, with its parameters."""
        for base in map(_module_name, node.bases):
            if base not in self._api.classes:
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    count = len(method.args.args) - 1
                    overloads = self._api.classes[base].methods.get(method.name, ())
                    if not any(len(one.parameters) == count for one in overloads):
                        yield f"{base} calls no {method.name} with {count} arguments"

    def _of_target(self, target: ast.AST) -> Iterator[str]:
        if isinstance(target, ast.Attribute):
            owner = self.type_of(target.value)
            for one in self._lineage(owner):
                if target.attr in one.properties and not one.properties[target.attr][1]:
                    yield f"{owner}.{target.attr} cannot be set"

    def _of_name(self, node: ast.Attribute) -> Iterator[str]:
        """`trt.X`, `trt.X.Y`."""
        name = _module_name(node)
        if name and "." not in name and name not in {*self._api.classes, *self._api.values, "__version__"}:
            yield f"no {name}"
        outer = _module_name(node.value)
        if outer in self._api.classes:
            one = self._api.classes[outer]
            nested = f"{outer}.{node.attr}"
            if node.attr not in {*(one.members or ()), *one.methods} and nested not in self._api.classes:
                yield f"no {nested}"

    def _of_attribute(self, node: ast.Attribute) -> Iterator[str]:
        owner = self.type_of(node.value)
        if owner and not any({node.attr} & {*one.properties, *one.methods} for one in self._lineage(owner)):
            yield f"{owner} has no {node.attr}"

    def _of_call(self, node: ast.Call) -> Iterator[str]:
        positional, named = len(node.args), [one.arg or "**" for one in node.keywords]
        name = _module_name(node.func)
        if name in self._api.classes:
            owner, method = name, "__init__"
        elif isinstance(node.func, ast.Attribute):
            owner, method = (
                self.type_of(node.func.value) or _module_name(node.func.value) or "",
                node.func.attr,
            )
            if _module_name(node.func.value) in self._api.classes:
                positional -= 1  # a method called on the class, with self
        else:
            return
        if owner not in self._api.classes or self._api.classes[owner].members is not None:
            return
        overloads = next((one.methods[method] for one in self._lineage(owner) if method in one.methods), ())
        if overloads and not any(one.takes(positional, named) for one in overloads):
            yield f"{owner}.{method} takes no {positional} arguments with {named}"


def _module_name(node: ast.AST | None) -> str | None:
    """`X` of `trt.X`, `X.Y` of `trt.X.Y`."""
    if not isinstance(node, ast.Attribute):
        return None
    if isinstance(node.value, ast.Name):
        return node.attr if node.value.id == MODULE else None
    outer = _module_name(node.value)
    return f"{outer}.{node.attr}" if outer else None


def _annotated_attributes(tree: ast.AST, scope: _Scope) -> Iterator[tuple[str, str]]:
    """`self.x: trt.X`, and `self.x = x` of a parameter or call whose type is told."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        parameters = {one.arg: scope.annotation(one.annotation) for one in function.args.args}
        inner = _Scope(scope._api, {name: kind for name, kind in parameters.items() if kind})
        for node in ast.walk(function):
            pairs = []
            if isinstance(node, ast.AnnAssign):
                pairs = [(node.target, scope.annotation(node.annotation))]
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        values = [inner.type_of(one) for one in node.value.elts]
                        pairs += list(zip(target.elts, values, strict=True))
                    else:
                        pairs.append((target, inner.type_of(node.value)))
            for target, kind in pairs:
                if isinstance(target, ast.Attribute) and kind:
                    yield target.attr, kind


def _in_order(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What a function does, statement by statement, without the functions inside it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        yield node
        pending[:0] = list(ast.iter_child_nodes(node))
