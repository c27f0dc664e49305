"""What can stand as SOURCE in `sdrt export SOURCE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdrt.errors import ExportError, InputError, UnknownNameError

from .checkpoint import Checkpoint
from .folder import open_folder
from .hub import find_snapshot, is_hub_id
from .weights import PICKLES

DEMO_FOLDER = Path(__file__).parent / "demo" / "checkpoint"
RANDOM = "random:"


def open_source(
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Checkpoint:
    """Open `demo`, `random:sd15`, `random:sd21`, `random:sdxl`, a local folder, or an id of the hub.

    Folders and repositories are in diffusers layout. A local path goes before an id of the same name.
    revision, token: of the hub, see `find_snapshot`. variant: of the weight files, see `choose_weights`.
    Raises InputError if it is something else, ExportError if it is damaged or of another family.
    """
    if is_hub_id(source) and source != "demo":
        snapshot = find_snapshot(source, revision=revision, variant=variant, token=token, progress=progress)
        return open_folder(snapshot.folder, source=source, variant=variant, revision=snapshot.revision)
    for option, value in (("--revision", revision), ("--token", token)):
        if value is not None:
            raise InputError(f"{option} is for a repository of the hub, and {source} is none; leave it out")
    if variant is not None and not Path(source).expanduser().is_dir():
        raise InputError(
            f"--variant is for a folder or a repository of the hub, and {source} is none; leave it out"
        )
    if source == "demo":
        if not DEMO_FOLDER.is_dir():
            raise ExportError("the demo checkpoint is not part of this installation; install sdrt again")
        return open_folder(DEMO_FOLDER, source=source)
    if source.startswith(RANDOM):
        return _open_random(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path, source=source, variant=variant)
    if path.suffix in PICKLES:
        raise InputError(
            f"{source} is a pickle, which can run any code when loaded, so it is refused; convert it"
        )
    if path.is_file():
        raise InputError(
            f"{source} is a single file, which sdrt cannot export yet; "
            "convert it to a folder with: StableDiffusionPipeline.from_single_file(...).save_pretrained(...)"
        )
    raise InputError(
        f"{source} is no folder; give demo, random:sd15, random:sd21, random:sdxl, a local folder in "
        "diffusers layout, or the id of a repository of the hub: name/name"
    )


def _open_random(source: str) -> Checkpoint:
    from .random_models import ARCHITECTURES, open_random

    name = source.removeprefix(RANDOM)
    if name not in ARCHITECTURES:
        raise UnknownNameError("random model", source, [RANDOM + known for known in ARCHITECTURES])
    return open_random(source, ARCHITECTURES[name])
