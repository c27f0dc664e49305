"""The pickles of `torch.save`, read by a machine of our own.

A pickle is a program. Python's unpickler lets it call what it names, and even where it may name nothing it
can be made to take gigabytes (an index into its memo) or years (the hash of tuples that share their parts).
This machine knows the operations of torch's pickles alone. What it builds is inert, keys of dictionaries are
texts and numbers, and no operation takes longer than its operands account for.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdrt.errors import InputError

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """The elements of tensors. key: the file of the archive that has them."""

    dtype: str
    key: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements offset + sum(index * stride) of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class ParameterDict:
    """A torch module, which holds the tensors in files of the first implementation; only they are kept."""

    def __init__(self) -> None:
        self.tensors: Mapping[Any, Any] = {}


@dataclass(frozen=True, slots=True)
class _Global:
    """What a pickle names: a type of storage, or what `build` makes something of."""

    dtype: str | None = None
    build: Callable[..., Any] | None = None


class _Mark:
    """Where the operands of an operation with any number of them begin."""


def load(pickled: bytes) -> Any:
    """What a pickle stands for: dictionaries, lists, tuples, texts, numbers and `Tensor`.

    Raises InputError, which says what it asks for, if it names anything that no embedding needs; ValueError,
    IndexError, KeyError or TypeError if it is damaged.
    """
    return _Machine().run(pickled)


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        for operation, argument, _ in pickletools.genops(pickled):
            name = operation.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _TUPLES:
                self.stack.append(tuple(self.pop(_TUPLES[name])))
            elif name not in _NOTHING:
                getattr(self, _OPERATIONS[name])(argument)
        raise ValueError("it has no end")

    def pop(self, count: int) -> list[Any]:
        """The last so many values."""
        if count > len(self.stack):
            raise IndexError
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def to_mark(self) -> list[Any]:
        """The values behind the last mark."""
        taken: list[Any] = []
        while not isinstance(value := self.stack.pop(), _Mark):
            taken.append(value)
        return taken[::-1]

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def append_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.to_mark()))

    def append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self.extend(self.to_mark())

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError
        self.stack[-1].extend(values)

    def set_item(self, _: Any) -> None:
        self.update(self.pop(2))

    def set_items(self, _: Any) -> None:
        self.update(self.to_mark())

    def update(self, values: list[Any]) -> None:
        target, keys = self.stack[-1], values[0::2]
        if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
            raise TypeError
        target.update(zip(keys, values[1::2], strict=True))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_named(module, name))

    def name_of_stack(self, _: Any) -> None:
        module, name = self.pop(2)
        self.stack.append(_named(str(module), str(name)))

    def call(self, _: Any) -> None:
        called, arguments = self.pop(2)
        if not isinstance(called, _Global) or called.build is None or not isinstance(arguments, tuple):
            raise TypeError
        self.stack.append(called.build(*arguments))

    def build(self, _: Any) -> None:
        """Attributes: of a ParameterDict its tensors; those of an OrderedDict are notes of torch's."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ParameterDict):
            if not isinstance(state["_parameters"], dict):
                raise TypeError
            target.tensors = state["_parameters"]
        elif not isinstance(target, dict):
            raise TypeError

    def storage(self, _: Any) -> None:
        kind, named, key, _device, _count = self.stack.pop()
        if kind != "storage" or not isinstance(named, _Global) or named.dtype is None:
            raise TypeError
        if not isinstance(key, str):
            raise TypeError
        self.stack.append(Storage(named.dtype, key))


def _named(module: str, name: str) -> _Global:
    if module == "torch" and name in STORAGES:
        return _Global(dtype=STORAGES[name])
    build = _BUILDERS.get((module, name))
    if build is None:
        raise InputError(f"it asks for {module}.{name}, which no embedding needs")
    return _Global(build=build)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(type(one) is int and one >= 0 for one in numbers):
        raise TypeError
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _empty_dict() -> dict[Any, Any]:
    return {}


_BUILDERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _empty_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.modules.container", "ParameterDict"): ParameterDict,
}
_NOTHING = frozenset({"PROTO", "FRAME"})
_VALUES = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"},
)
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OPERATIONS = {
    "BINPUT": "put",
    "LONG_BINPUT": "put",
    "MEMOIZE": "memoize",
    "BINGET": "get",
    "LONG_BINGET": "get",
    "TUPLE": "append_tuple",
    "APPEND": "append",
    "APPENDS": "appends",
    "SETITEM": "set_item",
    "SETITEMS": "set_items",
    "GLOBAL": "name",
    "STACK_GLOBAL": "name_of_stack",
    "REDUCE": "call",
    "NEWOBJ": "call",
    "BUILD": "build",
    "BINPERSID": "storage",
}
