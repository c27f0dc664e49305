"""A checkpoint in a repository of the Hugging Face hub.

Files come through huggingface_hub, into its cache and with its settings: HF_HOME, HF_HUB_CACHE, HF_TOKEN,
HF_ENDPOINT, HF_HUB_OFFLINE. Only what an export reads is downloaded, and never a pickle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdrt.errors import ExportError

from .config_folder import INDEX_NAME
from .hub_errors import Asked, UnreachableError, no_index, not_cached, nothing_cached, telling
from .hub_files import check_listing, missing_files, wanted_files
from .noise import quiet
from .weights import read_json

TIMEOUT = 10.0  # seconds for the hub to say what there is, before the cache has to do
_NAME = r"\w(?:[\w.-]*\w)?"
_ID = re.compile(rf"{_NAME}(?:/{_NAME})?", re.ASCII)
_FILE = re.compile(r"\.(safetensors|onnx|json|bin|ckpt|pt|pth|pkl)$")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository at one commit. folder: its files, links into the cache; revision: the commit's SHA-1."""

    folder: Path
    revision: str


def is_hub_id(source: str) -> bool:
    """Whether SOURCE is spelled `name/name` or `name`, and neither is a path nor ends like a file."""
    return bool(_ID.fullmatch(source)) and not _FILE.search(source) and not Path(source).exists()


def find_snapshot(
    repo_id: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Snapshot:
    """Find the files that an export reads, and download those that the cache does not have.

    revision: branch, tag or commit. variant: of the weights, see `choose_weights`. token: None takes the
    one that `hf auth login` or HF_TOKEN left.
    With HF_HUB_OFFLINE=1 the network is not touched; where it is down, what is cached still works.
    Raises InputError if the hub has no such repository or revision; ExportError if access is denied, if the
    repository is none that sdrt exports, and offline, with the command that gets what is missing.
    """
    from huggingface_hub import HfApi, constants

    asked = Asked(repo_id=repo_id, revision=revision, variant=variant, token=token)
    if constants.HF_HUB_OFFLINE:
        return _cached(asked, "HF_HUB_OFFLINE is set")
    try:
        with telling(asked):
            info = HfApi(token=token).model_info(
                repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT
            )
    except UnreachableError as error:
        return _cached(asked, error.reason)
    return _download(asked, {file.rfilename: file.size or 0 for file in info.siblings or ()}, progress)


def _download(asked: Asked, sizes: Mapping[str, int], progress: Callable[[str], None]) -> Snapshot:
    """Download what is wanted of a repository that has files of these sizes in bytes."""
    if INDEX_NAME not in sizes:
        raise ExportError(no_index(asked, sizes))
    # By the name of the revision, so that the cache learns which commit that is.
    folder = _fetch(asked, INDEX_NAME, asked.revision).parent
    index = read_json(folder / INDEX_NAME)
    check_listing(index, sizes, asked.variant, asked.repo_id)
    wanted = wanted_files(index, sizes, asked.variant, asked.repo_id)
    for _ in range(2):  # shards are known once the list of them is there
        for name in missing_files(folder, wanted):
            progress(f"downloading {name} ({sizes.get(name, 0) / 1e6:.1f} MB)")
            _fetch(asked, name, folder.name)
    return Snapshot(folder=folder, revision=folder.name)


def _fetch(asked: Asked, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    with telling(asked), quiet():
        return Path(hf_hub_download(asked.repo_id, name, revision=revision, token=asked.token))


def _cached(asked: Asked, reason: str) -> Snapshot:
    """What the cache has. Raises ExportError if that is not all; reason: why the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    index_path = try_to_load_from_cache(asked.repo_id, INDEX_NAME, revision=asked.revision)
    if not isinstance(index_path, str):  # None, or an object that says that it is known to be absent
        raise ExportError(nothing_cached(asked, reason))
    folder = Path(index_path).parent
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.exists()}
    wanted = wanted_files(read_json(folder / INDEX_NAME), names, asked.variant, asked.repo_id)
    missing = missing_files(folder, wanted)
    if missing:
        raise ExportError(not_cached(asked, missing, reason))
    return Snapshot(folder=folder, revision=folder.name)
