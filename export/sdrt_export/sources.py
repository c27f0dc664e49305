"""What can stand as SOURCE in `sdrt export SOURCE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from sdrt.errors import ExportError, InputError, UnknownNameError
from sdrt.textual_inversion import read_embedding

from .checkpoint import Checkpoint
from .folder import open_folder
from .hub import find_snapshot, is_hub_id
from .lora import with_loras
from .optimum import OnnxModel, is_onnx_folder, open_onnx_folder
from .original import open_single_file, with_vae
from .source_options import NAMES, SourceOptions
from .textual_inversion import with_embeddings

DEMO_FOLDER = Path(__file__).parent / "demo" / "checkpoint"
RANDOM = "random:"
Progress = Callable[[str], None]


def open_model(
    source: str,
    *,
    half_weights: bool = False,
    progress: Progress = lambda line: None,
    **options: Unpack[SourceOptions],
) -> Checkpoint | OnnxModel:
    """Open what `open_source` opens, or a folder of graphs, which takes no options; see `open_onnx_folder`.

    half_weights: keep changed weights in FP16, see `with_loras`.
    Raises InputError and ExportError as these do.
    """
    if is_onnx_folder(Path(source).expanduser()):
        given = [NAMES[option] for option, value in options.items() if value and option in NAMES]
        return open_onnx_folder(source, given)
    # errors of these small files come before the large ones are read
    pickles = options.get("allow_pickle", False)
    learned = [
        read_embedding(file, word, allow_pickle=pickles) for file, word in options.get("embeddings", ())
    ]
    checkpoint = open_source(source, progress=progress, **options)
    if loras := options.get("loras"):
        checkpoint = with_loras(checkpoint, loras, half_weights=half_weights)
    return with_embeddings(checkpoint, learned) if learned else checkpoint


def open_source(
    source: str, *, progress: Progress = lambda line: None, **options: Unpack[SourceOptions]
) -> Checkpoint:
    """Open `demo`, `random:sd15`, `random:sd21`, `random:sdxl`, a folder, a file, or an id of the hub.

    Folders and repositories are in diffusers layout, files in the original one. A local path goes before an
    id of the same name. LoRAs and embeddings are left to `open_model`.
    Raises InputError if it is something else, ExportError if it is damaged or of another family.
    """
    path = Path(source).expanduser()
    hub = is_hub_id(source) and source != "demo"
    for option, fits, kind in (
        ("revision", hub, "a repository of the hub"),
        ("token", hub, "a repository of the hub"),
        ("variant", hub or path.is_dir(), "a folder or a repository of the hub"),
        ("config", path.is_file(), "a single file"),
    ):
        if options.get(option) is not None and not fits:
            raise InputError(f"{NAMES[option]} is for {kind}, and {source} is none; leave it out")
    checkpoint = _open(source, path, hub, progress, options)
    vae = options.get("vae")
    pickles = options.get("allow_pickle", False)
    return checkpoint if vae is None else with_vae(checkpoint, vae, allow_pickle=pickles)


def _open(source: str, path: Path, hub: bool, progress: Progress, options: SourceOptions) -> Checkpoint:
    variant = options.get("variant")
    if hub:
        revision, token = options.get("revision"), options.get("token")
        snapshot = find_snapshot(source, revision=revision, variant=variant, token=token, progress=progress)
        return open_folder(snapshot.folder, source=source, variant=variant, revision=snapshot.revision)
    if source == "demo":
        if not DEMO_FOLDER.is_dir():
            raise ExportError("the demo checkpoint is not part of this installation; install sdrt again")
        return open_folder(DEMO_FOLDER, source=source)
    if source.startswith(RANDOM):
        return _open_random(source)
    if path.is_dir():
        return open_folder(path, source=source, variant=variant)
    if path.is_file():
        pickles = options.get("allow_pickle", False)
        return open_single_file(
            path,
            source=source,
            config=options.get("config"),
            allow_pickle=pickles,
            own_vae=options.get("vae") is None,
        )
    raise InputError(
        f"{source} is no folder and no file; give demo, random:sd15, random:sd21, random:sdxl, a folder "
        "in diffusers layout, a .safetensors file, or the id of a repository of the hub: name/name"
    )


def _open_random(source: str) -> Checkpoint:
    from .random_models import ARCHITECTURES, open_random

    name = source.removeprefix(RANDOM)
    if name not in ARCHITECTURES:
        raise UnknownNameError("random model", source, [RANDOM + known for known in ARCHITECTURES])
    return open_random(source, ARCHITECTURES[name])
