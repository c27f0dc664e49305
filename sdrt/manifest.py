"""The manifest of a bundle, `sdrt.json`: what the folder holds, what made it, how to run it.

Written by sdrt_export alone and read by the runtime. Unknown fields, unknown schema versions and duplicate
keys are refused: a manifest that is half understood would give half-right pictures.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from sdrt.errors import BundleError, InputError
from sdrt.manifest_checks import check_manifest
from sdrt.private_files import read_plain, said
from sdrt.samplers.schedule import NoiseSchedule
from sdrt.samplers.schedules import Model
from sdrt.strict_json import read_json
from sdrt.tensors import TensorSpec

SCHEMA = 2
FILE_NAME = "sdrt.json"
_MAX_BYTES = 64_000_000

Family = Literal[
    "stable-diffusion-1", "stable-diffusion-2", "stable-diffusion-xl", "stable-diffusion-xl-refiner"
]
TextEncoderName = Literal["text_encoder", "text_encoder_2"]
GraphName = Literal[TextEncoderName, "unet", "unet_shallow", "vae_decoder", "vae_decoder_fp32", "vae_encoder"]
Precision = Literal["fp32", "fp16"]
# the backends whose library has the operators of `GraphEntry.onnxruntime`
_FUSED_ATTENTION = ("onnxruntime", "onnxruntime:cuda")
Positive = Annotated[int, msgspec.Meta(ge=1)]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """size: bytes; sha256: lower-case hex of the whole file."""

    size: int
    sha256: str


class Fidelity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One graph against its PyTorch module on one set of random inputs, measured at export.

    inputs: the shapes that were fed, by input name.
    relative_l2: ||graph - torch|| / ||torch|| of the first output; max_abs: largest absolute difference;
    cosine: cosine of the angle between both. All computed in float64.
    """

    inputs: dict[str, tuple[int, ...]]
    relative_l2: float
    max_abs: float
    cosine: float


class GraphEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX graph.

    path: of the `.onnx` file, relative to the bundle; its weights lie beside it in `model.onnx.data`.
    onnxruntime: a file of the same inputs, outputs and weights that has operators of onnxruntime's own.
    tolerance: the relative L2 that the export was held to; None if it ran with --no-verify.
    """

    path: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    tolerance: float | None
    fidelity: tuple[Fidelity, ...]
    onnxruntime: str | None = None

    def path_for(self, backend: str) -> str:
        """The file that a backend of this name runs."""
        return self.onnxruntime if self.onnxruntime and backend in _FUSED_ATTENTION else self.path

    @property
    def paths(self) -> tuple[str, ...]:
        """All its `.onnx` files."""
        return (self.path,) if self.onnxruntime is None else (self.path, self.onnxruntime)


class TextSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One text encoder and its tokenizer.

    Its window is max_length tokens, begin and end included, padded with pad_token_id.
    tokenizer: path of its tokenizer.json. hidden_states: the output that the U-Net attends to;
    pooled: the output that stands for the whole prompt, where the U-Net takes one.
    clip_skip_outputs: outputs that may stand in for `hidden_states`, the one of the last layer first.
    """

    max_length: Positive
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    graph: TextEncoderName = "text_encoder"
    tokenizer: str = "tokenizer/tokenizer.json"
    hidden_states: str = "last_hidden_state"
    pooled: str | None = None
    clip_skip_outputs: tuple[str, ...] = ()

    @property
    def clip_skip(self) -> int:
        """The layer that the model was trained with, counted from the last, 1."""
        known = self.hidden_states in self.clip_skip_outputs
        return self.clip_skip_outputs.index(self.hidden_states) + 1 if known else 1

    def layer(self, clip_skip: int) -> str:
        """The output of a layer. Raises InputError if the graph has none of that number."""
        outputs = self.clip_skip_outputs or (self.hidden_states,)
        if not 1 <= clip_skip <= len(outputs):
            raise InputError(f"clip skip is {clip_skip}; expected 1 to {len(outputs)} for this model")
        return outputs[clip_skip - 1]


class Conditioning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the U-Net is told beside the hidden states of the prompt.

    time_ids: six numbers, original size, crop and target size; or five, with an aesthetic score for the last
    two (Podell et al. 2023, https://arxiv.org/abs/2307.01952). zeros_without_negative: no negative prompt is
    hidden states of zero, not those of an empty prompt.
    guidance_embedding: width of the embedding of the guidance scale, of models distilled with it, which take
    one row (Luo et al. 2023, https://arxiv.org/abs/2310.04378). picture: what the U-Net is shown, a masked
    picture and its mask (inpainting), or the one to change (edit; Brooks et al. 2022, arXiv:2211.09800).
    """

    time_ids: Literal["sizes", "aesthetic_score"] | None = None
    zeros_without_negative: bool = False
    guidance_embedding: Positive | None = None
    picture: Literal["inpainting", "edit"] | None = None


Rgb = tuple[float, float, float]


class LatentRgb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a latent pixel looks like without decoding: bias + sum over channels of latent * factor.

    RGB in -1..1, of latents as a sampler has them. factors: one for each latent channel. psnr: dB against the
    means of drawn pictures that it was not fitted to.
    """

    factors: tuple[Rgb, ...]
    bias: Rgb
    psnr: float


class VaeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """latents = encoder mean * scaling_factor; a latent pixel is scale_factor x scale_factor image pixels.

    latent_rgb: None in bundles that were exported without it.
    """

    scaling_factor: float
    scale_factor: Positive
    latent_channels: Positive
    latent_rgb: LatentRgb | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model was made for, used where a request is silent. width, height: pixels."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str


class MadeBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a bundle comes from.

    source: as given to `sdrt export`; revision: of a hub repository; tools: package name -> version.
    file_sha256: of a checkpoint in a single file, whose first ten digits are AUTOMATIC1111's "Model hash".
    """

    source: str
    revision: str | None
    opset: int
    tools: dict[str, str]
    file_sha256: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `sdrt.json`. `files` has every file of the bundle but the manifest itself, by POSIX path.

    graphs: `vae_decoder_fp32` is the FP16 `vae_decoder` with its weights, computing in FP32: for pictures
    that leave FP16's range.
    """

    schema: int
    name: str
    family: Family
    precision: Precision
    made_by: MadeBy
    graphs: dict[GraphName, GraphEntry]
    text: Annotated[tuple[TextSettings, ...], msgspec.Meta(min_length=1, max_length=2)]
    conditioning: Conditioning
    schedule: NoiseSchedule
    vae: VaeSettings
    defaults: Defaults
    files: dict[str, FileEntry]

    @property
    def published_levels(self) -> Model:
        """Whose published noise levels are this model's, where a schedule has several."""
        return "sd1" if self.conditioning.time_ids is None else "sdxl"

    def files_of(self, entry: GraphEntry) -> dict[str, FileEntry]:
        """A graph's own files: it reads its weights from beside it or below."""
        folder = PurePosixPath(entry.path).parent
        return {
            name: file
            for name, file in sorted(self.files.items())
            if PurePosixPath(name).is_relative_to(folder)
        }

    def digest_of(self, entry: GraphEntry) -> str:
        """SHA-256 over a graph and its weights, from theirs."""
        # graphs may share a folder and their weights
        content = [("", entry.path), *((name, file.sha256) for name, file in self.files_of(entry).items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises BundleError if it is absent, not JSON, has duplicate keys, is of another schema version, or
    contradicts itself.
    """
    try:
        text = read_plain(path, _MAX_BYTES).decode()
    except FileNotFoundError:
        raise BundleError(
            f"{path.parent} is no bundle: it has no {FILE_NAME}; make one with: sdrt export"
        ) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {said(error)}") from None
    except UnicodeDecodeError as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    if text.startswith("version https://git-lfs"):
        raise BundleError(f"{path} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull")
    try:
        fields = read_json(text)
    except ValueError as error:
        raise BundleError(f"{path} is not a valid manifest: {error}; export the bundle again") from None
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{path} has manifest schema {schema!r}, this sdrt reads schema {SCHEMA}; "
            "export the bundle again, or use the sdrt that made it"
        )
    try:
        manifest = msgspec.convert(fields, Manifest)
        check_manifest(manifest)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleError(f"{path} is not a valid manifest: {error}; export the bundle again") from None
    return manifest


def write(manifest: Manifest, path: Path) -> None:
    """Write `manifest` as indented JSON."""
    text = json.dumps(msgspec.to_builtins(manifest), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
