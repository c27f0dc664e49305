"""LoRA files and a model: which module changes which parameter, found by names and shapes alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from sdrt.errors import InputError
from sdrt.lora.changes import Adaptation, AppliedLora, Change
from sdrt.lora.factors import Kind, Size, kind_of_factors
from sdrt.lora.keys import Key, kind_of, parse_key
from sdrt.lora.scale import Scales
from sdrt.lora.targets import Parameters, Target, Targets
from sdrt.safetensors_file import SafetensorsFile


def adapt(loras: Iterable[tuple[Path, float]], parameters: Parameters) -> Adaptation:
    """Match LoRA files, each with its weight, with a model's parameters.

    Raises InputError, naming file and module, if a file is damaged, of an unknown kind, or has one module
    that the model has not or that is of another width; then nothing is applied.
    """
    targets = Targets(parameters)
    applied = []
    changes: dict[str, dict[str, list[Change]]] = {}
    for path, weight in loras:
        if not math.isfinite(weight):
            raise InputError(f"the weight of {path} is {weight}; give a finite number, such as 0.8")
        file = SafetensorsFile(path)
        for change in _changes(file, weight, targets):
            of_component = changes.setdefault(change.target.component, {})
            of_component.setdefault(change.target.parameter, []).append(change)
        applied.append(_applied(file, weight))
    return Adaptation(loras=tuple(applied), changes=changes)


def _changes(file: SafetensorsFile, weight: float, targets: Targets) -> list[Change]:
    modules = _modules(file)
    _check_targets(file, modules, targets)
    scales = Scales(file)
    found = []
    for module, parts in modules.items():
        target = targets.find(module)
        assert target is not None
        keys = {part: key for part, key in parts.items() if part != "alpha"}
        called = min(parts.values())
        kind, size = _measure(file, called, keys, target)
        scale = weight * scales.of(parts.get("alpha"), size.rank, target)
        found.append(Change(file=file, module=called, kind=kind, keys=keys, scale=scale, target=target))
    return found


def _modules(file: SafetensorsFile) -> dict[Key, dict[str, str]]:
    """The keys of each module by part; the modules' own `part` is empty."""
    modules: dict[Key, dict[str, str]] = {}
    for name in file:
        key = parse_key(name)
        if key is None:
            raise InputError(
                f"{file.path} is not applied: {name} is of {kind_of(name)}; "
                "sdrt applies LoRA of linear layers and convolutions, LoHa and LoKr"
            )
        parts = modules.setdefault(Key(component=key.component, path=key.path, part=""), {})
        if key.part in parts:
            raise InputError(f"{file.path} says the same twice: {parts[key.part]} and {name}")
        parts[key.part] = name
    if not modules:
        raise InputError(f"{file.path} has no tensors; download it again")
    return modules


def _check_targets(file: SafetensorsFile, modules: Mapping[Key, Mapping[str, str]], targets: Targets) -> None:
    """Every module must have a target: half a LoRA is another picture than its maker's."""
    unmatched = [module for module in modules if targets.find(module) is None]
    if not unmatched:
        return
    first = min(modules[unmatched[0]].values())
    absent = sorted({key.component for key in unmatched if key.component} - {*targets.components})
    why = f"the model has no {absent[0]}" if absent else "the model has no such module"
    raise InputError(
        f"{file.path} does not fit: {why} as in {first} "
        f"({len(unmatched)} of {len(modules)} modules); take a LoRA made for this kind of model"
    )


def _measure(
    file: SafetensorsFile, called: str, keys: Mapping[str, str], target: Target
) -> tuple[Kind, Size]:
    kind = kind_of_factors(set(keys))
    if kind is None:
        raise InputError(f"{file.path} lacks a factor of {called}: it has {', '.join(keys) or 'alpha'} only")
    shapes = {part: file.shape(key) for part, key in keys.items()}
    try:
        size = kind.measure(shapes)
        if size.rank == 0:
            raise ValueError
    except (ValueError, IndexError):
        said = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        raise InputError(f"the factors of {called} in {file.path} do not fit together: {said}") from None
    rows, columns = target.shape[0], math.prod(target.shape[1:])
    if (size.rows, size.columns) != (rows, columns):
        raise InputError(
            f"{called} in {file.path} is for a weight of {size.rows} x {size.columns}, the model's "
            f"{target.parameter} is {rows} x {columns}; take a LoRA made for this kind of model"
        )
    return kind, size


def _applied(file: SafetensorsFile, weight: float) -> AppliedLora:
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    with file.path.open("rb") as stream:
        whole.update(stream.read(file.data_start))
        while chunk := stream.read(1 << 20):
            whole.update(chunk)
            tensors.update(chunk)
    return AppliedLora(
        file=file.path, weight=weight, sha256=whole.hexdigest(), tensors_sha256=tensors.hexdigest()
    )
