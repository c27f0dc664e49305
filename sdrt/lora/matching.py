"""LoRA files and a model: which module changes which parameter, found by names and shapes alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sdrt.errors import InputError
from sdrt.lora.changes import Adaptation, AppliedLora, Change
from sdrt.lora.factors import Size
from sdrt.lora.keys import Key, kind_of, parse_key
from sdrt.lora.kinds import Kind, kind_of_factors
from sdrt.lora.magnitudes import LYCORIS, PEFT, axis_of
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
        file = SafetensorsFile(path, whole_numbers=True)
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
        keys = {part: key for part, key in parts.items() if part not in ("alpha", PEFT, LYCORIS)}
        called = min(parts.values())
        kind, size = _measure(file, called, keys, target)
        alpha = parts.get("alpha")
        scale = weight * scales.of(alpha, size.rank, target)
        if kind.takes_alpha and alpha is not None:
            scales.number(alpha, target)
            keys["alpha"] = alpha
        found.append(
            Change(
                file=file,
                module=called,
                kind=kind,
                keys=keys,
                scale=scale,
                target=target,
                magnitudes=_magnitudes(file, parts, kind, target),
            )
        )
    return found


def _modules(file: SafetensorsFile) -> dict[Key, dict[str, str]]:
    """The keys of each module by part; the modules' own `part` is empty."""
    modules: dict[Key, dict[str, str]] = {}
    for name in file:
        key = _scales_of_ia3(file, name) or parse_key(name)
        if key is None:
            raise InputError(
                f"{file.path} is not applied: {name} is of {kind_of(name)}; sdrt applies LoRA and DoRA of "
                "linear layers and convolutions, LoHa, LoKr, GLoRA, OFT, BOFT, IA3 and full differences"
            )
        parts = modules.setdefault(replace(key, part=""), {})
        if key.part == "on_input":  # it says what the scales beside it are
            if f"{name.removesuffix('on_input')}weight" not in file:
                raise InputError(f"{file.path} lacks a factor of {name}: its weight; download it again")
            continue
        if key.part in parts:
            raise InputError(f"{file.path} says the same twice: {parts[key.part]} and {name}")
        parts[key.part] = name
    if not modules:
        raise InputError(f"{file.path} has no tensors; download it again")
    return modules


def _scales_of_ia3(file: SafetensorsFile, name: str) -> Key | None:
    """The key of IA3's scales, told by the flag beside them; None if it is none."""
    module = name.removesuffix(".weight")
    flag = f"{module}.on_input"
    if module == name or flag not in file:
        return None
    key = parse_key(flag)
    if key is None or math.prod(file.shape(flag)) != 1:
        raise InputError(f"{flag} in {file.path} should be one number; the file is damaged")
    return replace(key, part="inputs" if file[flag].item() else "outputs")


def _check_targets(file: SafetensorsFile, modules: Mapping[Key, Mapping[str, str]], targets: Targets) -> None:
    """Every module must have a target: half a LoRA is another picture than its maker's."""
    unmatched = [module for module in modules if targets.find(module) is None]
    if not unmatched:
        return
    first = min(modules[unmatched[0]].values(), default=unmatched[0].path)
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
    for key in keys.values():
        if not file.is_floating(key):
            raise InputError(
                f"{key} in {file.path} is of whole numbers; take a file in FP32, FP16, BF16 or FP8"
            )
    shapes = {part: file.shape(key) for part, key in keys.items()}
    try:
        if any(0 in shape for shape in shapes.values()):
            raise ValueError
        size = kind.measure(shapes)
    except (ValueError, IndexError):
        said = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        raise InputError(
            f"the factors of {called} in {file.path} do not fit together: {said}; download it again"
        ) from None
    _check_size(file, called, size, target)
    return kind, size


def _check_size(file: SafetensorsFile, called: str, size: Size, target: Target) -> None:
    rows, columns = target.shape[0], math.prod(target.shape[1:])
    inputs = target.shape[1] if len(target.shape) > 1 else 0
    wanted = ((size.rows, rows), (size.columns, columns), (size.inputs, inputs))
    if all(one is None or one == other for one, other in wanted):
        return
    across = size.columns if size.columns is not None else size.inputs
    said = " x ".join("any" if one is None else str(one) for one in (size.rows, across))
    raise InputError(
        f"{called} in {file.path} is for a weight of {said}, the model's "
        f"{target.parameter} is {rows} x {columns}; take a LoRA made for this kind of model"
    )


def _magnitudes(
    file: SafetensorsFile, parts: Mapping[str, str], kind: Kind, target: Target
) -> tuple[str, int] | None:
    given = {part: parts[part] for part in (PEFT, LYCORIS) if part in parts}
    if not given:
        return None
    ((part, key), *more) = given.items()
    shape = file.shape(key)
    if more or not kind.takes_magnitude or len(target.shape) < 2:
        raise InputError(f"{key} in {file.path} makes DoRA of {kind.name}, which sdrt does not know")
    try:
        return key, axis_of(part, shape, target.shape)
    except ValueError:
        raise InputError(
            f"{key} {list(shape)} in {file.path} is for another weight than the model's {target.parameter} "
            f"{list(target.shape)}; take a LoRA made for this kind of model"
        ) from None


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
