"""What `sdrt bench` measures: a scenario, read from TOML with nothing left to guess."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sdrt.errors import InputError, UnknownNameError

FOLDER = Path(__file__).parent / "scenarios"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
RunnerName = Literal[
    "sdrt", "diffusers", "diffusers-compiled", "optimum", "openvino-genai", "stable-diffusion-cpp"
]


Device = Literal["cpu", "cuda"]


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to make the pictures.

    runner: which program; backend: of sdrt; device: of diffusers. precision: what its networks compute in.
    bundle: for sdrt, a folder or a name under engines/; without it the scenario's source is exported.
    guidance_interval: of sdrt, the part of the steps that is guided; None is all of them.
    deep_cache: of sdrt, one evaluation in so many runs the whole U-Net; its bundle is exported for that.
    cuda_graphs: of sdrt with the backend aoti:cuda; false queues each kernel by itself.
    autotune: on CUDA, of sdrt with aoti and of diffusers-compiled: try several kernels for each product and
    convolution and take the quickest (inductor's `max_autotune`), which takes minutes more to compile.
    least_psnr (dB), least_ssim: of each picture against the reference's; least_right: the share of the demo
    model's pictures that are right in colour, shape and background; None is no gate.
    """

    runner: RunnerName
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    backend: str = "onnxruntime"
    device: Device = "cpu"
    bundle: str | None = None
    guidance_interval: tuple[float, float] | None = None
    deep_cache: Positive = 1
    cuda_graphs: bool = True
    autotune: bool = False
    least_psnr: float | None = None
    least_ssim: float | None = None
    least_right: float | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether its networks run on a GPU."""
        return self.device == "cuda" or self.backend.partition(":")[0] == "tensorrt" or "cuda" in self.backend

    @property
    def evaluations_alike(self) -> bool:
        """Whether all evaluations do the same work; if not, a median of their times tells of none of them."""
        return self.guidance_interval is None and self.deep_cache == 1


class FidelitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pictures are compared: prompts x seeds x samplers.

    scored: how many prompts of the demo model are judged for colour, shape and background.
    """

    prompts: tuple[str, ...]
    seeds: tuple[Count, ...] = (1,)
    samplers: tuple[str, ...] = ()
    scored: Count = 0


class ScalingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values that replace the scenario's, one at a time. sizes: width and height in pixels."""

    peers: tuple[str, ...]
    batch: tuple[Positive, ...] = ()
    sizes: tuple[Positive, ...] = ()
    steps: tuple[Positive, ...] = ()


class WholeProcessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whole processes from start to exit: `sdrt generate` against a script of diffusers.

    peer: whose bundle and backend sdrt runs with. runs: of each, in turn, after one that is not counted.
    """

    peer: str
    runs: Positive = 7


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, a request, and who is to answer it.

    source: as given to `sdrt export`. rounds: how often each peer is started anew, in turn; warm: pictures
    it makes each time after its first. reference: the peer whose pictures are the right ones.
    together: all peers are started once, at the same time, stay open and take turns in each round; for GPUs
    whose memory holds them all. Their starts are slower then than they would be alone.
    """

    title: str
    source: str
    prompt: str
    width: Positive
    height: Positive
    steps: Positive
    sampler: str
    guidance_scale: float
    batch: Positive = 1
    rounds: Positive = 3
    warm: Positive = 5
    together: bool = False
    reference: str
    peers: dict[str, PeerSettings]
    fidelity: FidelitySettings
    scaling: ScalingSettings | None = None
    whole_process: WholeProcessSettings | None = None

    @property
    def device(self) -> Device:
        """Whose limits the peers are measured against: the GPU's if any of them runs there."""
        return "cuda" if any(peer.on_gpu for peer in self.peers.values()) else "cpu"


def find(name: str) -> Path:
    """The file of a scenario: a path, or the name of one that comes with sdrt.

    Raises UnknownNameError with the names there are.
    """
    path = FOLDER / f"{name}.toml"
    if Path(name).name == name and path.is_file():
        return path
    if Path(name).is_file():
        return Path(name)
    raise UnknownNameError("scenario", name, sorted(file.stem for file in FOLDER.glob("*.toml")))


def read(path: Path) -> Scenario:
    """Read and check a scenario. Raises InputError naming the field."""
    try:
        scenario = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Scenario)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path} is not a scenario: {error}") from None
    for name, peer in scenario.peers.items():
        own = (
            peer.bundle,
            peer.guidance_interval,
            None if peer.deep_cache == 1 else peer.deep_cache,
            None if peer.cuda_graphs else False,
        )
        if peer.runner != "sdrt" and any(setting is not None for setting in own):
            raise InputError(f"{path}: peers.{name} has settings of the runner sdrt, and is {peer.runner}")
        if not peer.cuda_graphs and not peer.backend.startswith("aoti"):
            raise InputError(f"{path}: peers.{name}.cuda_graphs is for the backend aoti, not {peer.backend}")
        if peer.device != "cpu" and not peer.runner.startswith("diffusers"):
            raise InputError(f"{path}: peers.{name}.device is for diffusers, and it is {peer.runner}")
    whole = scenario.whole_process
    for named in (
        scenario.reference,
        *(scenario.scaling.peers if scenario.scaling else ()),
        *((whole.peer,) if whole else ()),
    ):
        if named not in scenario.peers:
            raise InputError(f"{path} names the peer {named!r}, which is not among its [peers]")
    if whole and scenario.peers[whole.peer].runner != "sdrt":
        raise InputError(f"{path}: whole_process.peer is {whole.peer!r}, which is not of the runner sdrt")
    return scenario


def adjusted(
    scenario: Scenario, *, rounds: int | None, warm: int | None, steps: int | None, only: Sequence[str]
) -> Scenario:
    """A scenario with what is not None in place of its own; only: peers that stay, beside the reference.

    Raises UnknownNameError for a peer that it does not have.
    """
    for name in only:
        if name not in scenario.peers:
            raise UnknownNameError("peer", name, scenario.peers)
    kept = {*only, scenario.reference} if only else set(scenario.peers)
    changes = {"rounds": rounds, "warm": warm, "steps": steps}
    scaling, whole = scenario.scaling, scenario.whole_process
    return msgspec.structs.replace(
        scenario,
        peers={name: peer for name, peer in scenario.peers.items() if name in kept},
        scaling=scaling
        and msgspec.structs.replace(scaling, peers=tuple(name for name in scaling.peers if name in kept)),
        whole_process=whole if whole and whole.peer in kept else None,
        **{name: value for name, value in changes.items() if value is not None},
    )
