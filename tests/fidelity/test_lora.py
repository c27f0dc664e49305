"""LoRA files against diffusers and PEFT, which load and fuse the same files: weights and pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sdrt.lora import adapt_bundle, merged_initializers
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("peft")

import lora_files  # noqa: E402
import reference  # noqa: E402
from reference import open_pipeline, psnr  # noqa: E402

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = (*ATTENTION, "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
SETTINGS = {"width": 64, "height": 64, "steps": 3, "seed": 3, "guidance_scale": 3.0, "sampler": "ddim"}
SCALE = 0.7


@pytest.fixture(scope="module")
def models(exported, demo_checkpoint, tmp_path_factory):
    """Checkpoint and FP32 bundle: the demo model, which is a Stable Diffusion 1, or a small random XL."""
    import sdrt_export

    @cache
    def demo():
        return sdrt_export.export("demo", tmp_path_factory.mktemp("sd1") / "bundle", verify=False)

    return lambda family: exported("sdxl") if family == "sdxl" else (demo_checkpoint, demo())


@pytest.fixture
def through_diffusers(models):
    def load(family, loras):
        """A diffusers pipeline with the files fused in, one after the other."""
        pipeline = open_pipeline(models(family)[0])
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
        for i, (path, scale) in enumerate(loras):
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"adapter{i}")
            pipeline.fuse_lora(lora_scale=scale, adapter_names=[f"adapter{i}"])
            pipeline.unload_lora_weights()
        return pipeline

    return load


@cache
def modules_of(checkpoint, unet=CONVOLUTIONS, text=TEXT):
    """Shapes of the weights that a LoRA of all these modules changes."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(checkpoint, safety_checker=None)
    return {
        component: {
            name.removesuffix(".weight"): tuple(weight.shape)
            for name, weight in getattr(pipeline, component).state_dict().items()
            if name.removesuffix(".weight").endswith(tuple(f".{end}" for end in ends))
        }
        for component, ends in (("unet", unet), ("text_encoder", text), ("text_encoder_2", text))
        if getattr(pipeline, component, None) is not None
    }


def factors(shapes, rank, **options):
    return {
        component: lora_files.random_factors(of_one, rank, seed=i, **options)
        for i, (component, of_one) in enumerate(shapes.items())
    }


def assert_same(models, through_diffusers, family, loras, changed):
    """Weights to 1e-5 of their largest, pictures to 50 dB; and it is another picture than without."""
    bundle = models(family)[1]
    theirs = through_diffusers(family, loras)
    with Pipeline.load(bundle, loras=loras) as pipeline:
        (picture,) = pipeline.generate("a red star", **SETTINGS)
        graphs = pipeline.manifest.graphs
        adaptation = adapt_bundle(pipeline.bundle, loras)
    assert {name: set(of_one) for name, of_one in adaptation.changes.items()} == changed
    for component, changes in adaptation.changes.items():
        state = getattr(theirs, component).state_dict()
        merged = merged_initializers(bundle / graphs[component].path, changes)
        assert len(merged) == len(changed[component])
        for name, ours in merged.items():
            expected = state[name.removesuffix(".transposed")].numpy()
            expected = expected.T if name.endswith(".transposed") else expected
            tolerance = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance, err_msg=name)
    assert psnr(picture.pixels, reference.picture(theirs, picture.request)) >= 50.0
    with Pipeline.load(bundle) as pipeline:
        (plain,) = pipeline.generate("a red star", **SETTINGS)
    assert psnr(picture.pixels, plain.pixels) < 40.0


def parameters(shapes):
    return {component: {f"{module}.weight" for module in of_one} for component, of_one in shapes.items()}


@pytest.mark.parametrize(("rank", "alpha"), [(1, None), (4, None), (4, 2.0), (64, 32.0)])
@pytest.mark.parametrize("spelling", [lora_files.kohya, lora_files.peft])
def test_stable_diffusion_1(spelling, rank, alpha, models, through_diffusers, tmp_path):
    shapes = modules_of(models("sd1")[0])
    if spelling is lora_files.peft:
        metadata = {} if alpha is None else {"lora_adapter_metadata": peft_config(shapes, rank, alpha)}
        tensors = lora_files.peft(factors(shapes, rank))
    else:
        metadata, tensors = {}, lora_files.kohya(factors(shapes, rank, alpha=alpha))
    path = lora_files.write(tmp_path / "lora.safetensors", tensors, **metadata)
    assert_same(models, through_diffusers, "sd1", [(path, SCALE)], parameters(shapes))


def peft_config(shapes, rank, alpha):
    return {
        f"{component}.{name}": value
        for component, of_one in shapes.items()
        for name, value in {"r": rank, "lora_alpha": alpha, "target_modules": sorted(of_one)}.items()
    }


@pytest.mark.parametrize("spelling", [lora_files.kohya, lora_files.original, lora_files.peft])
def test_stable_diffusion_xl(spelling, models, through_diffusers, tmp_path):
    shapes = modules_of(models("sdxl")[0])
    path = lora_files.write(tmp_path / "lora.safetensors", spelling(factors(shapes, 4)))
    assert_same(models, through_diffusers, "sdxl", [(path, SCALE)], parameters(shapes))


def decomposed(factors):
    """With DoRA's magnitudes, in PEFT's shapes."""
    rng = np.random.default_rng(5)
    for modules in factors.values():
        for parts in modules.values():
            out, kernel = len(parts["up"]), parts["down"].shape[2:]
            magnitudes = (1 + rng.random(out)).astype(np.float32)
            parts["dora_scale"] = magnitudes.reshape([1, out, *(1 for _ in kernel)] if kernel else [out])
    return factors


def test_dora(models, through_diffusers, tmp_path):
    """Of the U-Net: transformers 5.23 leaves the magnitudes of text encoders in the file."""
    shapes = {"unet": modules_of(models("sd1")[0])["unet"]}
    config = peft_config(shapes, 4, 3.0) | {"unet.use_dora": True}
    tensors = lora_files.peft(decomposed(factors(shapes, 4)))
    path = lora_files.write(tmp_path / "lora.safetensors", tensors, lora_adapter_metadata=config)
    assert_same(models, through_diffusers, "sd1", [(path, SCALE)], parameters(shapes))


@pytest.mark.parametrize("component", ["text_encoder", "unet"])
def test_dora_as_peft_merges_it(component, models, tmp_path):
    import peft

    from sdrt_export.folder import open_folder
    from sdrt_export.lora import with_loras

    torch.manual_seed(0)
    folder, bundle = models("sd1")
    targets = [f".{end}" for end in (TEXT if component == "text_encoder" else CONVOLUTIONS)]
    model = getattr(open_pipeline(folder), component)
    names = [name for name, _ in model.named_modules() if name.endswith(tuple(targets))]
    config = peft.LoraConfig(r=3, lora_alpha=2, target_modules=names, use_dora=True)
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            if "magnitude" in name:
                parameter *= torch.rand_like(parameter) + 0.5
    state = {
        f"{component}.{key.removeprefix('base_model.model.')}": value.clone()
        for key, value in peft.get_peft_model_state_dict(adapted).items()
    }
    assert sum("magnitude" in key for key in state) == len(names)
    alpha = {f"{component}.lora_alpha": 2}
    path = lora_files.write(
        tmp_path / "dora.safetensors",
        {key: value.numpy() for key, value in state.items()},
        lora_adapter_metadata=alpha,
    )
    expected = adapted.merge_and_unload().state_dict()
    with Pipeline.load(bundle) as pipeline:
        graph = bundle / pipeline.manifest.graphs[component].path
        changes = adapt_bundle(pipeline.bundle, [(path, 1.0)]).changes[component]
    merged = merged_initializers(graph, changes)
    assert len(merged) == len(names)
    exported = with_loras(open_folder(folder, source="demo"), [(path, 1.0)]).weights(component)
    for name, ours in merged.items():
        theirs = expected[name.removesuffix(".transposed")].numpy()
        tolerance = 1e-5 * np.abs(theirs).max()
        ours = ours.T if name.endswith(".transposed") else ours
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)
        np.testing.assert_array_equal(exported[name.removesuffix(".transposed")].numpy(), ours)


def test_two_files_one_of_them_subtracted(models, through_diffusers, tmp_path):
    shapes = modules_of(models("sd1")[0])
    some = modules_of(models("sd1")[0], unet=ATTENTION[:2], text=TEXT[:1])
    first = lora_files.write(tmp_path / "a.safetensors", lora_files.kohya(factors(shapes, 4, alpha=3.0)))
    second = lora_files.write(tmp_path / "b.safetensors", lora_files.peft(factors(some, 2)))
    assert_same(models, through_diffusers, "sd1", [(first, SCALE), (second, -1.5)], parameters(shapes))


def test_ranks_of_their_own(models, through_diffusers, tmp_path):
    shapes = modules_of(models("sd1")[0])["unet"]
    modules = {
        module: lora_files.random_factors({module: shape}, 1 + i % 5, seed=i, alpha=2.0)[module]
        for i, (module, shape) in enumerate(shapes.items())
    }
    path = lora_files.write(tmp_path / "lora.safetensors", lora_files.kohya({"unet": modules}))
    assert_same(models, through_diffusers, "sd1", [(path, SCALE)], parameters({"unet": shapes}))


def test_weights_stored_in_half(models, through_diffusers, tmp_path):
    """The packaged bundle stores FP16: sums are rounded to it."""
    path = lora_files.write(
        tmp_path / "lora.safetensors", lora_files.kohya(factors(modules_of(models("sd1")[0]), 4))
    )
    pictures = []
    for bundle in (None, models("sd1")[1]):
        with Pipeline.load(bundle, loras=[(path, SCALE)]) as pipeline:
            pictures += pipeline.generate("a red star", **SETTINGS)
    assert 35.0 <= psnr(pictures[0].pixels, pictures[1].pixels) < np.inf


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "other kinds"])
def test_at_export_it_is_what_it_is_at_load(half, kind, models, tmp_path):
    """Bit for bit, with the graphs compared with PyTorch as ever; and the manifest says it."""
    import sdrt_export

    if kind == "other kinds":
        tensors = other_kinds(open_pipeline(models("sd1")[0]).unet)
    else:
        made = factors(modules_of(models("sd1")[0]), 4)
        tensors = lora_files.peft(decomposed(made) if kind == "DoRA" else made)
    path = lora_files.write(tmp_path / "style.safetensors", tensors)
    loras = [(path, SCALE), (path, -0.25)]
    bundle = sdrt_export.export("demo", tmp_path / "bundle", half_weights=half, loras=loras)
    with Pipeline.load(bundle) as pipeline:
        assert pipeline.manifest.made_by.source == "demo + style:0.7 + style:-0.25"
        (merged,) = pipeline.generate("a red star", **SETTINGS)
    with Pipeline.load(None if half else models("sd1")[1], loras=loras) as pipeline:
        (loaded,) = pipeline.generate("a red star", **SETTINGS)
    np.testing.assert_array_equal(merged.pixels, loaded.pixels)
    with Pipeline.load(None if half else models("sd1")[1]) as pipeline:
        (plain,) = pipeline.generate("a red star", **SETTINGS)
    assert psnr(merged.pixels, plain.pixels) < 40.0


def other_kinds(unet):
    """Changes of norms and biases, rotations and scales, for as many modules of a U-Net as take them."""
    rng = np.random.default_rng(7)
    tensors = {}
    for module, one in unet.named_modules():
        name = f"lora_unet_{module.replace('.', '_')}"
        shapes = {key: tuple(value.shape) for key, value in one.named_parameters(recurse=False)}
        if "norm" in module:
            made = {"w_norm": shapes["weight"], "b_norm": shapes["bias"]}
        elif module.endswith(("conv1", "to_out.0")):
            made = {"diff": shapes["weight"], "diff_b": shapes["bias"]}
        elif module.endswith("to_q"):
            made = {"oft_blocks": (shapes["weight"][0] // 4, 4, 4)}
        elif module.endswith("to_v"):
            made = {"weight": shapes["weight"][:1]}
            tensors[f"{name}.on_input"] = np.array(0)
        else:
            continue
        for key, shape in made.items():
            tensors[f"{name}.{key}"] = rng.normal(0, 0.05, shape).astype(np.float32)
    return tensors


def test_parameters_that_no_file_changes_stay_in_their_dtype(demo_checkpoint, tmp_path):
    from sdrt_export.folder import open_folder
    from sdrt_export.lora import with_loras

    checkpoint = replace(open_folder(demo_checkpoint, source="demo"), file_sha256="of one file")
    shapes = {"unet": dict([next(iter(modules_of(demo_checkpoint)["unet"].items()))])}
    path = lora_files.write(tmp_path / "one.safetensors", lora_files.peft(factors(shapes, 1)))
    adapted = with_loras(checkpoint, [(path, 1.0)])
    (module,) = shapes["unet"]
    plain, weights = checkpoint.weights("unet"), adapted.weights("unet")
    assert weights[f"{module}.weight"].dtype == torch.float32
    assert weights["conv_in.weight"].dtype == plain["conv_in.weight"].dtype == torch.float16
    assert "nothing" not in weights and weights.shape("conv_in.weight") == plain.shape("conv_in.weight")
    others = [with_loras(checkpoint, [(path, weight)]).fingerprint for weight in (1.0, 0.5)]
    assert others[0] == adapted.fingerprint
    assert len({*others, checkpoint.fingerprint}) == 3
    assert adapted.file_sha256 is None  # it is not that file's model any more


def test_an_export_with_a_file_that_does_not_fit(tmp_path):
    from click.testing import CliRunner

    from sdrt.cli import cli
    from sdrt.errors import InputError

    path = lora_files.write(tmp_path / "xl.safetensors", {"lora_te2_x.alpha": np.float32(1)})
    arguments = ["export", "demo", "-o", str(tmp_path / "bundle"), "--lora", f"{path}:0.5"]
    with pytest.raises(InputError, match=r"xl\.safetensors does not fit: the model has no text_encoder_2"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert [file.name for file in tmp_path.iterdir()] == ["xl.safetensors"]
