"""What can stand as SOURCE in `sdrt export SOURCE`."""

from __future__ import annotations

from pathlib import Path

from sdrt.errors import ExportError, InputError, UnknownNameError

from .checkpoint import Checkpoint
from .folder import open_folder
from .weights import PICKLES

DEMO_FOLDER = Path(__file__).parent / "demo" / "checkpoint"
RANDOM = "random:"


def open_source(source: str) -> Checkpoint:
    """Open `demo`, `random:sd15`, `random:sd21`, `random:sdxl`, or a local folder in diffusers layout.

    Raises InputError if it is something else, ExportError if it is damaged or of another family.
    """
    if source == "demo":
        if not DEMO_FOLDER.is_dir():
            raise ExportError("the demo checkpoint is not part of this installation; install sdrt again")
        return open_folder(DEMO_FOLDER, source=source)
    if source.startswith(RANDOM):
        return _open_random(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path, source=source)
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
        f"{source} is no folder; give demo, random:sd15, random:sd21, random:sdxl or a local folder "
        f"in diffusers layout (hub ids come later; download with: hf download {source})"
    )


def _open_random(source: str) -> Checkpoint:
    from .random_models import ARCHITECTURES, open_random

    name = source.removeprefix(RANDOM)
    if name not in ARCHITECTURES:
        raise UnknownNameError("random model", source, [RANDOM + known for known in ARCHITECTURES])
    return open_random(source, ARCHITECTURES[name])
