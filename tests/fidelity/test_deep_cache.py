"""The U-Net in two graphs against diffusers' modules, and pictures of both against diffusers' pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.lora import merged_initializers
from sdrt.lora.overrides import adapt_bundle
from sdrt.onnx_initializers import read_initializers
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import lora_files  # noqa: E402
import onnxruntime  # noqa: E402
import tiny_models  # noqa: E402
from reference import open_pipeline, picture, psnr  # noqa: E402

PROMPT = "a large red circle on a blue background"
SETTINGS = {"width": 64, "height": 64, "steps": 10, "seed": 6, "guidance_scale": 3.0, "sampler": "ddim"}
SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
}
# FP32 graphs differ from one another in the order of sums: 1e-6 was measured
SAME = 1e-5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The demo model, in FP32."""
    import sdrt_export

    target = tmp_path_factory.mktemp("deep") / "demo"
    return sdrt_export.export("demo", target, deep_cache=True, verify=False)


@pytest.fixture(scope="module")
def pipeline(bundle):
    with Pipeline.load(bundle) as pipeline:
        yield pipeline


def write_unet(checkpoint, folder):
    """Both graphs of a checkpoint's U-Net, each measured against its own forward; their specs."""
    from sdrt_export.fidelity import measure, run_references
    from sdrt_export.graphs import write_graph
    from sdrt_export.specs import graph_specs

    specs = [one for one in graph_specs(checkpoint.configs, deep_cache=True) if one.component == "unet"]
    for spec in specs:
        model, weights = checkpoint.build("unet"), checkpoint.weights("unet")
        trials = run_references(spec, model, weights)
        (folder / spec.name).mkdir()
        options = {"precision": "fp32", "opset": 23, "half_weights": False}
        write_graph(spec, model, weights, folder / spec.name, **options)
        measure(spec, folder / spec.name / "model.onnx", trials, "fp32")
    return specs


def relative_l2(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize(
    "family",
    [
        # its last layer has no transformer, as that of the demo model below has
        pytest.param(family, marks=[] if family == "sdxl" else pytest.mark.slow)
        for family in tiny_models.FAMILIES
    ],
)
def test_shallow_graph_goes_on_where_the_full_one_left_off(family, tmp_path):
    from sdrt_export.sources import open_source

    folder = tiny_models.write(family, tmp_path / "checkpoint")
    full, shallow = write_unet(open_source(str(folder)), tmp_path)
    assert (full.name, shallow.name) == ("unet", "unet_shallow")

    def run(spec, feeds):
        path = tmp_path / spec.name / "model.onnx"
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
        assert set(wanted) == set(spec.inputs)
        return session.run(None, wanted)

    inputs = full.random_inputs(batch=3, height=9, width=13, sequence=77, seed=5)
    feeds = {name: value.numpy() for name, value in inputs.items()}
    out_sample, deep = run(full, feeds)
    (again,) = run(shallow, {**feeds, "deep_features": deep})
    assert relative_l2(again, out_sample) < SAME
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    assert relative_l2(out_sample, full.reference(unet, inputs)["out_sample"].numpy()) < SAME
    # and both of its inputs matter
    (other,) = run(shallow, {**feeds, "deep_features": 1.1 * deep})
    assert relative_l2(other, out_sample) > 1e-3
    (other,) = run(shallow, {**feeds, "deep_features": deep, "sample": 1.1 * feeds["sample"]})
    assert relative_l2(other, out_sample) > 1e-3
    sizes = [(tmp_path / spec.name / "model.onnx.data").stat().st_size for spec in (shallow, full)]
    assert sizes[0] < 0.5 * sizes[1]  # what is not run is not stored


def test_optimum_finds_a_graph_of_one_output(bundle, pipeline):
    """It takes any other output of a U-Net for the prediction; both graphs read one file of weights."""
    whole = bundle / pipeline.manifest.graphs["unet"].path
    sessions = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (bundle / "unet" / "model.onnx", whole)
    ]
    plain, deep = ([value.name for value in session.get_outputs()] for session in sessions)
    assert (plain, deep) == (["out_sample"], ["out_sample", "deep_features"])
    random = np.random.default_rng(0)
    feeds = {
        "sample": random.normal(size=(2, 4, 8, 8)).astype(np.float32),
        "timestep": np.array([500.0], np.float32),
        "encoder_hidden_states": random.normal(size=(2, 77, 128)).astype(np.float32),
    }
    np.testing.assert_array_equal(*(session.run(["out_sample"], feeds)[0] for session in sessions))
    assert [path.name for path in whole.parent.glob("*.data")] == ["model.onnx.data"]


class Reusing:
    """A U-Net of diffusers that, in all evaluations but `full`, puts its last layer's old input in."""

    def __init__(self, unet, full):
        self._full, self._channels = full, unet.conv_in.out_channels
        self._deep = None
        self.evaluations = 0
        self._hook = unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(self._replace)

    def _replace(self, _, given):
        hidden_states, *rest = given
        if self.evaluations in self._full:
            self._deep = hidden_states[:, : -self._channels]
        self.evaluations += 1
        return torch.cat([self._deep, hidden_states[:, -self._channels :]], dim=1), *rest

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._hook.remove()


def through_diffusers(theirs, request, full, **options):
    """What diffusers makes of a request if the evaluations in `full` are; how many there were."""
    theirs.scheduler = SCHEDULERS[request.sampler].from_config(
        {**theirs.scheduler.config, "timestep_spacing": request.spacing, "clip_sample": False}
    )
    with Reusing(theirs.unet, full) as reusing:
        pixels = picture(theirs, request, **options)
    return pixels, reusing.evaluations


@pytest.fixture(scope="module")
def theirs(demo_checkpoint):
    return open_pipeline(demo_checkpoint)


@pytest.mark.parametrize(
    ("sampler", "interval", "evaluations"),
    [("ddim", 3, 10), ("dpmpp_2m", 2, 10), ("dpmpp_2m", 5, 10), ("heun", 3, 19)],
)
def test_picture_of_the_same_full_evaluations(sampler, interval, evaluations, pipeline, theirs):
    settings = {**SETTINGS, "sampler": sampler}
    (ours,) = pipeline.generate(PROMPT, negative_prompt="small", deep_cache=interval, **settings)
    full = range(0, evaluations, interval)
    pixels, done = through_diffusers(theirs, ours.request, full)
    assert done == evaluations
    assert psnr(ours.pixels, pixels) >= 50.0
    neighbour, _ = through_diffusers(theirs, ours.request, [0, *(k + 1 for k in full)])
    assert psnr(ours.pixels, neighbour) < psnr(ours.pixels, pixels) - 5  # else this could not fail


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "least"),
    [({"precision": "fp16"}, 35.0), ({"half_weights": True}, 50.0)],
    ids=["fp16", "half"],
)
def test_picture_in_half_precision(options, least, tmp_path, theirs):
    """FP16 graphs exchange FP16 features; half weights are FP16 on disk alone."""
    import sdrt_export

    made = sdrt_export.export("demo", tmp_path / "demo", deep_cache=True, **options)
    with Pipeline.load(made) as pipeline:
        features = pipeline.manifest.graphs["unet_shallow"].inputs["deep_features"]
        assert features.dtype == ("float16" if "precision" in options else "float32")
        (ours,) = pipeline.generate(PROMPT, negative_prompt="small", deep_cache=3, **SETTINGS)
    pixels, _ = through_diffusers(theirs, ours.request, range(0, 10, 3))
    assert psnr(ours.pixels, pixels) >= least


def test_guidance_interval_starts_anew(pipeline, theirs):
    """Where the negative prompt's row ends, nothing is left of its features."""
    (ours,) = pipeline.generate(PROMPT, deep_cache=3, guidance_interval=(0.0, 0.5), **SETTINGS)

    def stop_guiding(theirs, step, _, tensors):
        if step + 1 == 5:
            theirs._guidance_scale = 1.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    callback = {"callback_on_step_end": stop_guiding, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    pixels, _ = through_diffusers(theirs, ours.request, {0, 3, 5, 8}, **callback)
    assert psnr(ours.pixels, pixels) >= 50.0


def test_interval_1_is_the_picture_of_a_bundle_without_it(pipeline):
    """Bit for bit; the packaged bundle has the same weights."""
    settings = {"width": 64, "height": 72, "seed": 3, "count": 2}
    ones = pipeline.generate(PROMPT, deep_cache=1, **settings)
    with Pipeline.load(DEMO) as without:
        for ours, plain in zip(ones, without.generate(PROMPT, **settings), strict=True):
            np.testing.assert_array_equal(ours.pixels, plain.pixels)
    three = pipeline.generate(PROMPT, deep_cache=3, **settings)
    assert not np.array_equal(three[0].pixels, ones[0].pixels)
    (alone,) = pipeline.generate(PROMPT, deep_cache=3, **{**settings, "seed": 4, "count": 1})
    np.testing.assert_array_equal(three[1].pixels, alone.pixels)
    assert '"deep_cache": 3' in alone.texts["sdrt"]


@pytest.fixture(scope="module")
def lora(demo_checkpoint, tmp_path_factory):
    """For every matrix and convolution of the demo's U-Net."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(demo_checkpoint / "unet")
    shapes = {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in unet.named_parameters()
        if weight.ndim > 1
    }
    tensors = lora_files.kohya({"unet": lora_files.random_factors(shapes, 4)})
    return lora_files.write(tmp_path_factory.mktemp("lora") / "lora.safetensors", tensors)


def test_lora_is_merged_into_both_graphs(bundle, lora, theirs, demo_checkpoint):
    pytest.importorskip("peft")
    with Pipeline.load(bundle, loras=[(lora, 0.5)]) as pipeline:
        (ours,) = pipeline.generate(PROMPT, deep_cache=3, **SETTINGS)
    with Pipeline.load(bundle) as pipeline:
        (plain,) = pipeline.generate(PROMPT, deep_cache=3, **SETTINGS)
    fused = open_pipeline(demo_checkpoint)
    fused.load_lora_weights(lora.parent, weight_name=lora.name)
    fused.fuse_lora(lora_scale=0.5)
    fused.unload_lora_weights()
    pixels, _ = through_diffusers(fused, ours.request, range(0, 10, 3))
    assert psnr(ours.pixels, pixels) >= 50.0
    assert psnr(ours.pixels, plain.pixels) < 40.0


def test_lora_at_export_is_what_it_is_at_load(bundle, lora, tmp_path):
    """The shallow graph's weights, bit for bit; those of the full one are tested in test_lora.py."""
    from sdrt_export.graphs import write_graph
    from sdrt_export.sources import open_model
    from sdrt_export.specs import graph_specs

    checkpoint = open_model("demo", loras=[(lora, 0.5)])
    spec = next(s for s in graph_specs(checkpoint.configs, deep_cache=True) if s.name == "unet_shallow")
    model, weights = checkpoint.build("unet"), checkpoint.weights("unet")
    write_graph(spec, model, weights, tmp_path, precision="fp32", opset=23, half_weights=False)
    with Pipeline.load(bundle) as pipeline:
        changes = adapt_bundle(pipeline.bundle, [(lora, 0.5)]).changes["unet"]
    graph = bundle / "unet_shallow" / "model.onnx"
    at_load, at_export = merged_initializers(graph, changes), read_initializers(tmp_path / "model.onnx")
    matrices = {name for name, one in read_initializers(graph).items() if len(one.shape) > 1}
    assert at_load.keys() <= matrices and len(at_load) > 15
    for name, merged in at_load.items():
        np.testing.assert_array_equal(merged, at_export[name].read())
