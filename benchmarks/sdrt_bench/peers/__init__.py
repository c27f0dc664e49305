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
}
# known, and not driven yet: the report says whether they are installed -> module that is looked for
NOT_DRIVEN: Mapping[str, str] = {
    "openvino-genai": "openvino_genai",
    "stable-diffusion-cpp": "stable_diffusion_cpp",
}


class PeerStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is told when it starts.

    model: the bundle's folder for sdrt, else the checkpoint's. guidance_interval: see `sdrt generate`.
    """

    runner: str
    precision: str
    backend: str
    model: str
    guidance_interval: tuple[float, float] | None = None


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
    """One line to a child. `operations` counts those of the graphs at the job's size; sdrt's alone."""

    do: Literal["load", "generate", "operations"]
    job: Job | None = None


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """How long a job took, in seconds.

    evaluations: each run of the U-Net; text, vae: all runs of the text encoders and of the VAE's decoder.
    """

    seconds: float
    text: float
    evaluations: tuple[float, ...]
    vae: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line from a child. absent: what could not be imported. peak_mb: most memory it has held so far."""

    absent: str | None = None
    error: str | None = None
    generated: Generated | None = None
    operations: dict[str, float] | None = None
    peak_mb: float | None = None


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
