"""What can stand as SOURCE in `sdrt export SOURCE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdrt.errors import ExportError, InputError, UnknownNameError

from .checkpoint import Checkpoint
from .folder import open_folder
from .hub import find_snapshot, is_hub_id
from .original import open_single_file, with_vae

DEMO_FOLDER = Path(__file__).parent / "demo" / "checkpoint"
RANDOM = "random:"


def open_source(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    config: Path | None = None,
    vae: Path | None = None,
    allow_pickle: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Checkpoint:
    """Open `demo`, `random:sd15`, `random:sd21`, `random:sdxl`, a folder, a file, or an id of the hub.

    Folders and repositories are in diffusers layout, files in the original one. A local path goes before an
    id of the same name.
    revision, token: of the hub, see `find_snapshot`. variant: of the weight files, see `choose_weights`.
    config: of single files, see `open_single_file`. vae: another one, see `with_vae`.
    allow_pickle: read files that torch has pickled, tensors alone.
    Raises InputError if it is something else, ExportError if it is damaged or of another family.
    """
    path = Path(source).expanduser()
    hub = is_hub_id(source) and source != "demo"
    for option, value, fits, kind in (
        ("--revision", revision, hub, "a repository of the hub"),
        ("--token", token, hub, "a repository of the hub"),
        ("--variant", variant, hub or path.is_dir(), "a folder or a repository of the hub"),
        ("--config", config, path.is_file(), "a single file"),
    ):
        if value is not None and not fits:
            raise InputError(f"{option} is for {kind}, and {source} is none; leave it out")
    if hub:
        snapshot = find_snapshot(source, revision=revision, variant=variant, token=token, progress=progress)
        checkpoint = open_folder(snapshot.folder, source=source, variant=variant, revision=snapshot.revision)
    elif source == "demo":
        if not DEMO_FOLDER.is_dir():
            raise ExportError("the demo checkpoint is not part of this installation; install sdrt again")
        checkpoint = open_folder(DEMO_FOLDER, source=source)
    elif source.startswith(RANDOM):
        checkpoint = _open_random(source)
    elif path.is_dir():
        checkpoint = open_folder(path, source=source, variant=variant)
    elif path.is_file():
        checkpoint = open_single_file(path, source=source, config=config, allow_pickle=allow_pickle)
    else:
        raise InputError(
            f"{source} is no folder and no file; give demo, random:sd15, random:sd21, random:sdxl, a folder "
            "in diffusers layout, a .safetensors file, or the id of a repository of the hub: name/name"
        )
    return checkpoint if vae is None else with_vae(checkpoint, vae, allow_pickle=allow_pickle)


def _open_random(source: str) -> Checkpoint:
    from .random_models import ARCHITECTURES, open_random

    name = source.removeprefix(RANDOM)
    if name not in ARCHITECTURES:
        raise UnknownNameError("random model", source, [RANDOM + known for known in ARCHITECTURES])
    return open_random(source, ARCHITECTURES[name])
