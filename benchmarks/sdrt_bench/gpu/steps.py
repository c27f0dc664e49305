"""What each step does, in a process of its own. What is heavy is imported by the step that needs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import isinf
from pathlib import Path

import msgspec

from sdrt_bench import scenario as scenarios
from sdrt_bench.bench import Limits, bench
from sdrt_bench.gpu.plan import Scale
from sdrt_bench.gpu.report import Bench, Device, Outcomes, Peaks, Record, Sameness
from sdrt_bench.models import Preparation, prepare
from sdrt_bench.scenario import PeerSettings, Scenario

ROOT = Path(__file__).parents[3]
SAME_FP32 = 50.0  # dB: what every backend holds of the demo model
COMMAND = "benchmarks/gpu/run.sh"
DEMO_PROMPT = "a large red circle on a blue background"
_SMI = (
    "name", "driver_version", "memory.total", "compute_cap", "clocks.sm", "clocks.max.sm", "clocks.mem",
    "clocks.max.mem", "power.limit", "temperature.gpu",
)  # fmt: skip
_OUTCOME = re.compile(r"^(\S+::.*?) (PASSED|FAILED|SKIPPED|ERROR)\b")


@dataclass(frozen=True, kw_only=True)
class Context:
    """work: a folder for models and engines, kept from run to run. record: whoever collects the figures."""

    work: Path
    scale: Scale
    record: Callable[[Record], None]

    @property
    def limits(self) -> Path:
        """Where the first step leaves the device's limits for those that compare with them."""
        return self.work / "limits.json"


def say(line: str) -> None:
    """A line of the log."""
    print(line, flush=True)


def machine(context: Context) -> None:
    """Name the card and its libraries, then measure matrix products and memory."""
    import torch

    facts = {"build of torch": str(torch.__version__)}
    if context.scale.device == "cuda":
        facts |= {"CUDA of torch": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
        facts |= nvidia_smi(_SMI)
        properties = torch.cuda.get_device_properties(0)
        facts["multiprocessors"] = str(properties.multi_processor_count)
    context.record(Device(facts=facts))
    limits = Limits.measure(context.scale.device)
    context.record(Peaks(limits=limits))
    context.limits.write_bytes(msgspec.json.encode(limits))


def nvidia_smi(fields: tuple[str, ...]) -> dict[str, str]:
    """What the driver tells of the first GPU, by field; empty if it does not."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, map(str.strip, done.stdout.strip().split(",")), strict=False))


def demo_engines(context: Context) -> None:
    """Build the engines of a copy of the packaged demo model, which computes in FP32."""
    from sdrt.bundle import DEMO
    from sdrt.profiles import Range
    from sdrt_export.engine_shapes import Shapes

    bundle = context.work / "demo"
    if not bundle.exists():
        shutil.copytree(DEMO, bundle)
    _build(context, bundle, Shapes(batch=Range(1, 1, 2)))


def _build(context: Context, bundle: Path, *shapes: object, only: tuple[str, ...] = ()) -> None:
    from sdrt_export.engine_builders import BuilderOptions, open_builder
    from sdrt_export.engines import build_engines

    builder = open_builder("aoti", BuilderOptions())
    build_engines(bundle, builder, shapes, say, only=only, jobs=context.scale.jobs)  # type: ignore[arg-type]


def demo(context: Context) -> None:
    """Compare pictures with those that onnxruntime makes on the CPU; later runs replay captured graphs."""
    from sdrt.bundle import DEMO
    from sdrt.pipeline import Pipeline
    from sdrt_bench.image_quality import psnr

    start = context.work / "start.png"
    start.unlink(missing_ok=True)
    settings: Mapping[str, Mapping[str, object]] = {
        "DDIM, 20 steps": {"sampler": "ddim", "steps": 20},
        "Euler a": {"sampler": "euler_a"},
        "DPM++ 2M Karras": {"sampler": "dpmpp_2m_karras"},
        "Heun": {"sampler": "heun"},
        "two at once": {"count": 2},
        "guidance in part of the steps": {"guidance_interval": (0.2, 0.7)},
        "a prompt of two parts": {"prompt": "a red circle AND a blue square"},
        "from a picture": {"init_image": start, "strength": 0.6},
    }
    theirs = Pipeline.load(DEMO, backend="onnxruntime")
    theirs.generate(DEMO_PROMPT, seed=7)[0].save(start)
    ours = Pipeline.load(context.work / "demo", backend=context.scale.backend)
    for what, own in settings.items():
        words = {"prompt": DEMO_PROMPT, "seed": 1, "steps": 8, **own}
        expected = [one.pixels for one in theirs.generate(**words)]  # type: ignore[arg-type]
        made = [one.pixels for _ in range(3) for one in ours.generate(**words)]  # type: ignore[arg-type]
        found = [psnr(one, expected[i % len(expected)]) for i, one in enumerate(made)]
        context.record(
            Sameness(
                what=f"demo model, FP32, {context.scale.backend}: {what}",
                reference="onnxruntime on the CPU",
                psnr=tuple(None if isinf(one) else one for one in found),
                gate=SAME_FP32,
            )
        )


def _scenario(context: Context, name: str) -> Scenario:
    """A scenario of the GPU at the run's scale; its peers are started once, together, to save time."""
    scale = context.scale
    asked = scenarios.read(scenarios.find(name))
    xl = asked.source != scenarios.read(scenarios.find("gpu-sd15")).source
    size = asked.width if scale.device == "cuda" else scale.xl_size if xl else scale.sd_size
    peers = {}
    for peer, settings in asked.peers.items():
        if settings.backend == "aoti:cuda":
            settings = msgspec.structs.replace(settings, backend=scale.backend)
        if settings.device == "cuda":
            settings = msgspec.structs.replace(settings, device=scale.device)
        peers[peer] = msgspec.structs.replace(settings, autotune=False)
    title = asked.title
    if scale.device == "cpu":
        title = f"Rehearsal of {name}"
        if xl:  # compiling takes a minute on two cores, and gpu-sd15 has done it
            del peers["diffusers-compiled"]
    return msgspec.structs.replace(
        asked,
        title=title,
        source=scale.xl if xl else scale.sd,
        width=size,
        height=size,
        steps=min(asked.steps, scale.steps),
        rounds=scale.rounds,
        warm=scale.warm,
        together=True,
        scaling=None,
        peers=peers,
    )


def _sd15(context: Context) -> Scenario:
    """With and without CUDA graphs."""
    asked = _scenario(context, "gpu-sd15")
    ours = asked.peers["sdrt-aoti-fp16"]
    peers = {
        "sdrt-aoti-fp16": ours,
        "sdrt-aoti-fp16-without-cuda-graphs": msgspec.structs.replace(ours, cuda_graphs=False),
        **asked.peers,
    }
    return msgspec.structs.replace(asked, peers=peers)


def _sd15_autotuned(context: Context) -> Scenario:
    """Against torch.compile, both with every kernel tried out."""
    asked = _scenario(context, "gpu-sd15")
    tuned = ("sdrt-aoti-fp16", "diffusers-compiled")
    peers = {f"{name}-autotuned": msgspec.structs.replace(asked.peers[name], autotune=True) for name in tuned}
    return msgspec.structs.replace(
        asked,
        title=f"{asked.title}, kernels tried out",
        peers={**peers, asked.reference: asked.peers[asked.reference]},
    )


def _turbo(context: Context) -> Scenario:
    return _scenario(context, "gpu-turbo")


def _sdxl(context: Context) -> Scenario:
    return _scenario(context, "gpu-sdxl")


def _prepare(context: Context, scenario: Scenario, wanted: Callable[[PeerSettings], bool]) -> None:
    peers = {name: peer for name, peer in scenario.peers.items() if wanted(peer)}
    part = msgspec.structs.replace(scenario, peers=peers)
    prepare(part, context.work / "models", say, _how(context))


def _how(context: Context) -> Preparation:
    # compared with PyTorch they are on the GPU itself, by `rows` and by pictures
    return Preparation(verify=False, jobs=context.scale.jobs)


def _is_ours(peer: PeerSettings) -> bool:
    return peer.runner == "sdrt"


def _is_another(peer: PeerSettings) -> bool:
    return peer.runner != "sdrt"


def sd15_bundle(context: Context) -> None:
    """Export the bundle and build its engines."""
    _prepare(context, _sd15(context), _is_ours)


def sd15_checkpoint(context: Context) -> None:
    """Write the weights as diffusers reads them."""
    _prepare(context, _sd15(context), _is_another)


def sd15_autotuned_bundle(context: Context) -> None:
    """Build engines with the quickest of several kernels."""
    _prepare(context, _sd15_autotuned(context), _is_ours)


def sdxl_bundle(context: Context) -> None:
    """Export the bundle and build its engines."""
    _prepare(context, _sdxl(context), _is_ours)


def sdxl_checkpoint(context: Context) -> None:
    """Write the weights as diffusers reads them."""
    _prepare(context, _sdxl(context), _is_another)


def turbo_engines(context: Context) -> None:
    """Build engines for pictures without guidance."""
    _prepare(context, _turbo(context), _is_ours)


def sd15(context: Context) -> None:
    """Measure Stable Diffusion 1.5."""
    _bench(context, "sd15", _sd15(context))


def sd15_autotuned(context: Context) -> None:
    """Measure it with kernels that were tried out."""
    _bench(context, "sd15-autotuned", _sd15_autotuned(context))


def sdxl(context: Context) -> None:
    """Measure Stable Diffusion XL."""
    _bench(context, "sdxl", _sdxl(context))


def turbo(context: Context) -> None:
    """Measure one step without guidance."""
    _bench(context, "turbo", _turbo(context))


def _bench(context: Context, name: str, scenario: Scenario) -> None:
    report, _ = bench(
        scenario,
        f"{COMMAND}{'' if context.scale.device == 'cuda' else ' --rehearse'}",
        models=context.work / "models",
        pythons={},
        progress=say,
        how=_how(context),
        limits=msgspec.json.decode(context.limits.read_bytes(), type=Limits),
        so_far=lambda report: context.record(Bench(name=name, report=report)),
    )
    context.record(Bench(name=name, report=report))


def _sd15_folders(context: Context) -> tuple[Path, Path]:
    """Bundle and checkpoint of Stable Diffusion 1.5, from the steps before."""
    starts = prepare(_sd15(context), context.work / "models", say, _how(context))
    return Path(starts["sdrt-aoti-fp16"].model), Path(starts["diffusers-fp32"].model)


def rows_engines(context: Context) -> None:
    """Build networks for each number of pictures but one, whose engines are there."""
    from sdrt.profiles import Range
    from sdrt_export.engine_shapes import Shapes

    bundle, _ = _sd15_folders(context)
    size = Range.at(context.scale.sd_size)
    shapes = [
        Shapes(width=size, height=size, batch=Range.at(pictures), static=True, guided=True)
        for pictures in context.scale.pictures
        if pictures > 1
    ]
    _build(context, bundle, *shapes, only=("unet", "vae_decoder"))


def rows(context: Context) -> None:
    """Time the networks alone, and compare them with PyTorch in FP32 on the same inputs."""
    from sdrt_bench.gpu.networks import compare_networks, time_networks

    bundle, checkpoint = _sd15_folders(context)
    scale = context.scale
    seconds = 1.0 if scale.device == "cuda" else 0.1
    where = scale.backend, scale.sd_size
    found: Iterator[Record] = chain(
        time_networks(scale.sd, bundle, *where, scale.pictures, seconds),
        compare_networks(scale.sd, bundle, checkpoint, *where),
    )
    for record in found:
        context.record(record)


def tests(context: Context) -> None:
    """Run what is marked as needing a GPU, and count as it goes on."""
    words = ["-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider"]
    counted: dict[str, list[str]] = {"PASSED": [], "FAILED": [], "SKIPPED": [], "ERROR": []}
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip("\n"))
        if found := _OUTCOME.match(line):
            counted[found[2]].append(found[1])
            context.record(
                Outcomes(
                    command=" ".join(("python", *words)),
                    passed=len(counted["PASSED"]),
                    failed=tuple(counted["FAILED"] + counted["ERROR"]),
                    skipped=tuple(counted["SKIPPED"]),
                )
            )
    code = process.wait()
    if code not in (0, 1):  # 1: some failed, and which is told
        raise SystemExit(f"pytest ended with exit code {code}")
