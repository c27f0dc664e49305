"""Which files of a repository in diffusers layout an export reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sdrt.errors import ExportError

from .config_folder import DEFAULTS_NAME, INDEX_NAME, components_of
from .configs import TEXT_ENCODERS, TOKENIZERS
from .folder import stem
from .variants import check_variant, choose_weights
from .weights import shards, why_no_weights

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def wanted_files(
    index: Mapping[str, Any], names: Collection[str], variant: str | None, called: str
) -> list[str]:
    """The files to have of a repository, the weights last; of shards, their list.

    index: its model_index.json. names: the files there are, as far as is known; those that must be there and
    are not are among the wanted too. Raises ExportError if it is for another family.
    """
    components = components_of(index, f"{INDEX_NAME} of {called}")
    wanted = [
        INDEX_NAME,
        "scheduler/scheduler_config.json",
        *(name for name in (DEFAULTS_NAME,) if name in names),
    ]
    wanted += [f"{component}/config.json" for component in components]
    for component in components:
        if component in TEXT_ENCODERS:
            wanted += _tokenizer(TOKENIZERS[component], names)
    chosen = {c: choose_weights(_inside(c, names), stem(c), variant) for c in components}
    if variant and not any(found and found[1] == variant for found in chosen.values()):
        chosen = dict.fromkeys(
            components
        )  # of other weights there may be some, but nothing of those asked for
    part = f".{variant}" if variant else ""
    for component, found in chosen.items():
        wanted.append(f"{component}/{found[0] if found else stem(component) + part + '.safetensors'}")
    return wanted


def check_listing(index: Mapping[str, Any], names: Collection[str], variant: str | None, called: str) -> None:
    """Raise ExportError, saying why, if the wanted files are not all among the files of a repository."""
    components = components_of(index, f"{INDEX_NAME} of {called}")
    check_variant(variant, {component: stem(component) for component in components}, names, called)
    for component in components:
        inside = _inside(component, names)
        if choose_weights(inside, stem(component), variant) is None:
            raise ExportError(why_no_weights(inside, stem(component), f"{component} of {called}"))
    absent = [name for name in wanted_files(index, names, variant, called) if name not in names]
    if absent:
        raise ExportError(f"{called} has no {' and no '.join(absent)}; the checkpoint is incomplete")


def missing_files(folder: Path, wanted: Iterable[str]) -> list[str]:
    """The wanted files that are not in `folder`, and the missing shards of those lists that are."""
    files = list(wanted)
    for name in wanted:
        if ".safetensors.index." in name and (folder / name).exists():
            files += [f"{Path(name).parent.as_posix()}/{shard}" for shard in shards(folder / name)]
    return [name for name in files if not (folder / name).exists()]


def _tokenizer(folder: str, names: Collection[str]) -> list[str]:
    there = [f"{folder}/{name}" for name in TOKENIZER_FILES if f"{folder}/{name}" in names]
    if f"{folder}/tokenizer.json" in there:
        return there
    return list(dict.fromkeys([f"{folder}/vocab.json", f"{folder}/merges.txt", *there]))


def _inside(folder: str, names: Collection[str]) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")}
