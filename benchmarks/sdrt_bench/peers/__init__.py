"""Peers: programs that make the same pictures, each in a child process, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
from numpy.typing import NDArray

# runner -> module of this package; imported in the child alone
MODULES: Mapping[str, str] = {
    "sdrt": "runtime",
    "diffusers": "diffusers",
    "diffusers-compiled": "diffusers",
    "optimum": "optimum",
    "openvino-genai": "openvino_genai",
    "stable-diffusion-cpp": "stable_diffusion_cpp",
}
# runners that cannot read a checkpoint as it is: each converts it once, before anything is measured
CONVERTING = frozenset({"optimum", "openvino-genai"})
# runner, or backend of sdrt -> distributions whose versions belong into the report
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "aoti": ("torch",),
    "tensorrt": ("tensorrt",),
    "diffusers": ("diffusers", "torch", "transformers"),
    "diffusers-compiled": ("diffusers", "torch", "transformers"),
    "optimum": ("optimum", "optimum-onnx", "onnxruntime", "diffusers", "torch", "transformers"),
    "openvino-genai": ("openvino-genai", "openvino", "optimum-intel"),
    "stable-diffusion-cpp": ("stable-diffusion-cpp-python",),
}


class PeerStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is told when it starts.

    model: the bundle's folder for sdrt, else the checkpoint's. guidance_interval, deep_cache: see
    `sdrt generate`.
    converted: where a peer keeps what it makes of the checkpoint, a folder that need not exist yet.
    device: of diffusers. cuda_graphs: of sdrt with aoti. autotune: of diffusers-compiled.
    """

    runner: str
    precision: str
    backend: str
    model: str
    guidance_interval: tuple[float, float] | None = None
    deep_cache: int = 1
    converted: str = ""
    device: str = "cpu"
    cuda_graphs: bool = True
    autotune: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to make, `batch` of them from seeds seed, seed + 1, ...

    keep: write `pixels` [B, H, W, 3] uint8 and `latents` [steps, C, h, w] float32, those of the first picture
    after each step, to this .npz file.
    """

    prompt: str
    seed: int
    width: int
    height: int
    steps: int
    sampler: str
    guidance_scale: float
    batch: int = 1
    keep: str | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One line to a child. `work` is that of the graphs at the job's size; of sdrt's alone."""

    do: Literal["convert", "load", "generate", "work"]
    job: Job | None = None


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """How long a job took, in seconds.

    evaluations: each run of the U-Net; text, vae: all runs of the text encoders and of the VAE's decoder.
    Any of them is None where the peer does not tell. uncompared: why the picture is no measure of fidelity.
    notes: in what the peer did otherwise than asked.
    """

    seconds: float
    text: float | None = None
    evaluations: tuple[float, ...] | None = None
    vae: float | None = None
    uncompared: str | None = None
    notes: tuple[str, ...] = ()


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one run of a graph: floating-point operations, a multiply-add being two, and traffic.

    traffic: bytes that matrix products, convolutions and attention take and give, each tensor once, in FP32.
    """

    operations: float
    traffic: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line from a child.

    absent: what could not be imported. versions: of the distributions it runs, said once, at the start.
    peak_mb: most memory it has held so far. device_mb: of the GPU: the most that this process has held, or
    where its library does not tell that, what all processes hold now.
    """

    absent: str | None = None
    versions: dict[str, str] = {}
    error: str | None = None
    generated: Generated | None = None
    work: dict[str, Work] | None = None
    peak_mb: float | None = None
    device_mb: float | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a job made: see `Job.keep`."""

    pixels: NDArray[Any]
    latents: NDArray[Any]


class Peer(Protocol):
    """A program in its child process. Its constructor imports what it needs, and raises ImportError."""

    def load(self) -> None:
        """Make the model ready."""
        ...

    def generate(self, job: Job) -> tuple[Generated, Kept]:
        """Make the pictures."""
        ...
