"""Write typings/tensorrt/__init__.pyi: of TensorRT's bindings, what 10 and 11 have alike and sdrt names.

    python tests/tensorrt/make_typings.py

mypy then checks every call that sdrt makes against both versions, on machines that have neither. A test holds
that the file is up to date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from api_uses import mentioned
from bindings_api import Api, Class, Signature, shared
from real_bindings import VERSIONS, api

ROOT = Path(__file__).parents[2]
TYPINGS = ROOT / "typings/tensorrt/__init__.pyi"
_HEAD = '''"""TensorRT as sdrt uses it: what the bindings of {version} have alike.

Made by tests/tensorrt/make_typings.py.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias, overload

from numpy.typing import NDArray
from typing_extensions import Buffer

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = Dims | Sequence[int]
__version__: str
'''
_SPELT = {"typing_extensions.Buffer": "Buffer", "tuple": "tuple[int, ...]", "list": "list[int]"}
_BUILT_IN = {
    *("int", "str", "bool", "float", "object", "None", "Array", "list", "tuple"),
    *("typing_extensions.Buffer", "collections.abc.Sequence"),
}
# what their docstrings say, and no signature: they have the buffer protocol; a build that failed gives None
_ADDED = {"IHostMemory": "def __buffer__(self, flags: int, /) -> memoryview: ..."}
_MAY_BE_NONE = {"build_serialized_network", "create_execution_context", "create_timing_cache"}
_DUNDERS = {"__init__", "__len__", "__getitem__"}


def sources() -> list[Path]:
    """Where sdrt may use TensorRT."""
    return [*ROOT.glob("sdrt/**/*.py"), *ROOT.glob("export/**/*.py")]


def typings() -> str:
    """The text of the stubs."""
    both = shared(*(api(version) for version in VERSIONS))
    named = set().union(*(mentioned(path.read_text()) for path in sources()))
    return stubs(both, named | {"Dims"})


def stubs(both: Api, named: set[str]) -> str:
    """Stubs of the classes that are named, without what needs any other class."""
    kept = {name for name in both.classes if name.partition(".")[0] in named}
    parts = [_HEAD.format(version=both.version)]
    parts += ["\n".join(_class(both, name, kept)) for name in sorted(kept) if "." not in name]
    return "\n\n".join(parts) + "\n"


def _class(both: Api, name: str, kept: set[str], indent: str = "") -> Iterator[str]:
    one, inner = both.classes[name], indent + "    "
    bases = [base for base in one.bases if base in kept]
    yield f"{indent}class {name.rpartition('.')[2]}" + (f"({', '.join(bases)}):" if bases else ":")
    lines = list(_body(both, name, one, kept, inner))
    yield from lines or [f"{inner}..."]


def _body(both: Api, name: str, one: Class, kept: set[str], indent: str) -> Iterator[str]:
    for nested in (other for other in sorted(kept) if other.rpartition(".")[0] == name):
        yield from _class(both, nested, kept, indent)
    if one.members is not None:
        yield from (f"{indent}{member}: {name}" for member in one.members)
        yield f"{indent}def __int__(self) -> int: ..."
        return
    for key, (kind, settable) in one.properties.items():
        if _known(kind, kept):
            yield f"{indent}@property"
            yield f"{indent}def {key}(self) -> {_spelt(kind)}: ..."
            if settable:
                yield f"{indent}@{key}.setter"
                yield f"{indent}def {key}(self, value: {_spelt(kind, given=True)}) -> None: ..."
    for key, overloads in one.methods.items():
        if not key.startswith("_") or key in _DUNDERS:
            lines = dict.fromkeys(line for signature in overloads if (line := _line(key, signature, kept)))
            for line in lines:
                yield from [f"{indent}@overload"] * (len(lines) > 1)
                yield f"{indent}{line}"
    if name in _ADDED:
        yield f"{indent}{_ADDED[name]}"


def _line(name: str, signature: Signature, kept: set[str]) -> str | None:
    """A method with one signature; None if that names a class that is not kept."""
    tree = ast.parse(f"def {name}{signature.text}: ...").body[0]
    assert isinstance(tree, ast.FunctionDef) and tree.returns is not None
    annotations = [ast.unparse(one.annotation) for one in tree.args.args if one.annotation is not None]
    if not all(_known(kind, kept) for kind in (*annotations, signature.returns)):
        return None
    for one in tree.args.args:
        if one.annotation is not None:
            one.annotation = ast.Name(_spelt(ast.unparse(one.annotation), given=True))
    returns = _spelt(signature.returns)
    if name in _MAY_BE_NONE and not returns.endswith("None"):
        returns += " | None"
    return f"def {name}({ast.unparse(tree.args)}) -> {returns}: ..."


def _known(kind: str, kept: set[str]) -> bool:
    parts = {part for part in re.split(r"[^\w.]+", kind) if part}
    return parts <= kept | _BUILT_IN


def _spelt(kind: str, *, given: bool = False) -> str:
    """A type in the stubs' names. given: to the library, which takes more."""
    kind, optional = kind.removesuffix(" | None"), kind.endswith(" | None")
    kind = _SPELT.get(kind, kind).replace("collections.abc.", "")
    if given and kind == "Dims":
        kind = "Shape"
    return f"{kind} | None" if optional else kind


if __name__ == "__main__":
    TYPINGS.write_text(typings())
    print(TYPINGS)
