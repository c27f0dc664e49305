"""What ComfyUI writes, as requests of sdrt."""

from __future__ import annotations

import numpy as np
import pytest
from foreign_pictures import graph, picture, refusal
from PIL import Image

from sdrt.metadata import NamedFile, read_settings


@pytest.fixture
def told(tmp_path):
    return lambda **changes: read_settings(picture(tmp_path / "x.png", prompt=graph(**changes)))


def test_the_default_workflow(told):
    found = told()
    assert found.writer == "ComfyUI"
    assert found.settings == {
        "prompt": "a bottle [of] AND glass",
        "negative_prompt": "text, watermark",
        "prompt_syntax": "plain",
        "seed": 8566257,
        "steps": 20,
        "guidance_scale": 8.0,
        "sampler": "euler",
        "schedule": "comfyui:normal",
        "width": 512,
        "height": 448,
    }
    assert (found.model.name, found.notes, found.wanted) == ("v1-5-pruned", (), {})


def test_links_decide_and_not_the_order(told):
    found = told(n3_positive=["7", 0], n3_negative=["6", 0])
    assert (found.settings["prompt"], found.settings["negative_prompt"]) == (
        "text, watermark",
        "a bottle [of] AND glass",
    )


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [
        ("dpmpp_2m", "karras", ("dpmpp_2m", "comfyui:karras")),
        ("dpmpp_2m_sde_gpu", "exponential", ("dpmpp_2m_sde", "comfyui:exponential")),
        ("euler_ancestral", "normal", ("euler_a", "comfyui:normal")),
        ("uni_pc", "simple", ("unipc_bh1_3", "comfyui:simple")),
        ("uni_pc_bh2", "beta", ("unipc_3", "comfyui:beta")),
        ("ddim", "sgm_uniform", ("euler", "comfyui:sgm_uniform")),
        ("ddpm", "normal", ("euler_a", "comfyui:normal")),
        ("deis", "kl_optimal", ("deis_3", "comfyui:kl_optimal")),
        ("heun", "linear_quadratic", ("heun", "comfyui:linear_quadratic")),
        ("lms", "ddim_uniform", ("lms", "comfyui:ddim_uniform")),
    ],
)
def test_samplers(told, sampler, scheduler, expected):
    settings = told(n3_sampler_name=sampler, n3_scheduler=scheduler).settings
    assert (settings["sampler"], settings["schedule"]) == expected
    assert "spacing" not in settings and "sigma_schedule" not in settings


def test_weights_are_kept_and_brackets_are_text(told):
    found = told(n6_text=r"a (red:1.3) \(cat\) [x|y] AND z")
    assert found.settings["prompt_syntax"] == "a1111"
    assert found.settings["prompt"] == r"a (red:1.3) \(cat\) \[x\|y\] A\ND z"
    assert found.notes == ("weights in its prompts are applied as AUTOMATIC1111 does, not as ComfyUI",)


def test_loras_in_a_row(told):
    found = told(
        n3_model=["11", 0],
        n6_clip=["11", 1],
        n10=("LoraLoader", {"lora_name": "one.safetensors", "strength_model": 1, "strength_clip": 1,
                            "model": ["4", 0], "clip": ["4", 1]}),
        n11=("LoraLoader", {"lora_name": "sub\\two.safetensors", "strength_model": 0.5,
                            "strength_clip": 0.25, "model": ["10", 0], "clip": ["10", 1]}),
    )  # fmt: skip
    assert [(one.file.name, one.weight) for one in found.loras] == [
        ("one.safetensors", 1.0),
        ("two.safetensors", 0.5),
    ]
    assert found.notes == ("the LoRA 'two.safetensors' has 0.5 for all, not 0.25 for the text",)


def test_clip_skip(told):
    found = told(n6_clip=["12", 0], n12=("CLIPSetLastLayer", {"stop_at_clip_layer": -2, "clip": ["4", 1]}))
    assert found.settings["clip_skip"] == 2


def test_a_picture_to_begin_with(told):
    # ComfyUI lays 20 / 0.4 = 50 steps and takes the last 20
    found = told(
        n3_denoise=0.4,
        n3_latent_image=["13", 0],
        n13=("VAEEncode", {"pixels": ["14", 0], "vae": ["4", 2]}),
        n14=("LoadImage", {"image": "../secret/cat.png", "upload": "image"}),
    )
    assert (found.settings["steps"], found.settings["start_step"]) == (50, 30)
    assert found.pictures == {"init_image": NamedFile(name="cat.png")}
    assert "width" not in found.settings


def test_advanced(told):
    inputs = graph()["3"]["inputs"] | {"noise_seed": 3, "add_noise": "enable", "start_at_step": 0}
    found = told(n3=("KSamplerAdvanced", inputs | {"end_at_step": 10000}))
    assert found.settings["seed"] == 3


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"n5_batch_size": 4}, "it is one of a batch"),
        ({"n3_sampler_name": "dpmpp_sde"}, "in an order of ComfyUI's own"),
        ({"n6_text": "a embedding:style.pt cat"}, "'style.pt' is an embedding; give it with"),
        (
            {
                "n3_positive": ["15", 0],
                "n15": ("ControlNetApply", {"conditioning": ["6", 0], "strength": 1}),
            },
            "the node 'ControlNetApply' is not carried over",
        ),
        (
            {"n3_model": ["15", 0], "n15": ("ModelSamplingDiscrete", {"model": ["4", 0]})},
            "the node 'ModelSamplingDiscrete' is not carried over",
        ),
        (
            {"n9_images": ["15", 0], "n15": ("ImageScale", {"images": ["8", 0]})},
            "the node 'ImageScale' is not carried over",
        ),
        (
            {"n8_vae": ["15", 0], "n15": ("VAELoader", {"vae_name": "x.pt"})},
            "the node 'VAELoader' is not carried over",
        ),
    ],
)
def test_what_cannot_be_carried_over_is_said(told, changes, note):
    (found,) = told(**changes).notes
    assert note in found


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n3": ("KSampler (Efficient)", {})}, "samples with 'KSampler (Efficient)'"),
        ({"n9_images": "x", "n3": ("None", {})}, "no sampler"),
        ({"n3_positive": ["99", 0]}, "a node that is not there"),
        ({"n3_positive": ["4", 0]}, "comes from no CLIPTextEncode"),
        ({"n3_positive": ["15", 0], "n15": ("X", {"conditioning": ["15", 0]})}, "runs in a circle"),
        ({"n3_seed": "7"}, "seed of its KSampler is '7'"),
        ({"n3_seed": True}, "seed of its KSampler is true"),
        ({"n3_cfg": float("nan")}, "cfg of its KSampler is nan"),
        ({"n3_steps": None}, "steps of its KSampler is null"),
        ({"n3_denoise": 0}, "denoise of its KSampler is 0"),
        ({"n6_text": ["4", 0]}, "its prompt comes from a 'CheckpointLoaderSimple'"),
        ({"n3_latent_image": ["15", 0], "n15": graph()["3"]}, "two samplers in a row"),
        ({"n15": ("SaveImage", {"images": ["16", 0]}), "n16": ("VAEDecode", {"samples": ["17", 0]}),
          "n17": ("KSampler", {})}, "several samplers"),
    ],
)  # fmt: skip
def test_what_makes_it_meaningless_is_an_error(tmp_path, changes, says):
    if isinstance(changes.get("n15"), dict):
        changes["n15"] = ("KSampler", changes["n15"]["inputs"])
    assert says in refusal(picture(tmp_path / "x.png", prompt=graph(**changes)))


def test_makes_a_picture(sdrt_main, tmp_path, pipeline):
    small = {"n5_width": 64, "n5_height": 64, "n3_steps": 3, "n3_cfg": 2}
    picture(tmp_path / "x.png", prompt=graph(**small, n6_text="a red star", n7_text=""))
    result = sdrt_main("generate", "--from", "x.png", "-m", "demo", "-o", "y.png")
    assert result.code == 0, result.err
    expected = pipeline.generate(
        "a red star", steps=3, sampler="euler", schedule="comfyui:normal", guidance_scale=2, seed=8566257
    )
    np.testing.assert_array_equal(Image.open("y.png"), expected[0].pixels)


class TestPrompts:
    """Where a prompt may come from beside a CLIPTextEncode."""

    def test_zeros_for_a_negative_prompt(self, told):
        settings = told(
            n3_negative=["15", 0], n15=("ConditioningZeroOut", {"conditioning": ["6", 0]})
        ).settings
        assert settings["negative_prompt"] == "" and settings["zero_negative"] is True
        assert settings["prompt"] == "a bottle [of] AND glass"

    def test_zeros_are_what_the_negative_row_is_told(self, pipeline):
        """Guidance 1 has no such row; guidance has another picture than without a negative prompt."""
        seed = {"seed": 1, "steps": 4}
        plain, zero = (
            pipeline.generate("a red star", guidance_scale=3, zero_negative=zero, **seed)[0].pixels
            for zero in (False, True)
        )
        unguided = [
            pipeline.generate("a red star", guidance_scale=1, zero_negative=zero, **seed)[0].pixels
            for zero in (False, True)
        ]
        assert not np.array_equal(plain, zero)
        np.testing.assert_array_equal(*unguided)

    def test_what_a_wildcard_drew(self, told):
        node = {"wildcard_text": "__colour__ cat", "populated_text": "red cat", "mode": "populate"}
        assert told(n6_text=["15", 0], n15=("ImpactWildcardProcessor", node)).settings["prompt"] == "red cat"
        encode = ("ImpactWildcardEncode", {**node, "clip": ["4", 1]})
        assert told(n3_positive=["15", 0], n15=encode).settings["prompt"] == "red cat"

    @pytest.mark.parametrize("kind", ["DPRandomGenerator", "Wildcard Processor", "Text Random Line"])
    def test_a_template_alone_is_no_prompt(self, tmp_path, kind):
        changes = {"n6_text": ["15", 0], "n15": (kind, {"text": "a {red|blue} cat"})}
        assert kind in refusal(picture(tmp_path / "x.png", prompt=graph(**changes)))

    def test_two_encoders_of_xl(self, told):
        node = {"text_g": "a cat", "text_l": "a cat", "width": 1024, "height": 1024, "clip": ["4", 1]}
        found = told(n3_positive=["15", 0], n15=("CLIPTextEncodeSDXL", node))
        assert found.settings["prompt"] == "a cat" and found.notes == ()
        found = told(n3_positive=["15", 0], n15=("CLIPTextEncodeSDXL", node | {"text_l": "a dog"}))
        assert found.settings["prompt"] == "a cat" and len(found.notes) == 1


def test_other_empty_latents(told):
    found = told(n5=("EmptySD3LatentImage", {"width": 640, "height": 384, "batch_size": 1}))
    assert (found.settings["width"], found.settings["height"], found.wanted) == (640, 384, {})
    found = told(n3_latent_image=["15", 0], n15=("RepeatLatentBatch", {"samples": ["5", 0], "amount": 4}))
    assert (found.settings["width"], found.wanted, len(found.notes)) == (512, {}, 1)


@pytest.mark.parametrize(
    "node",
    [
        ("Reroute", {"": ["6", 0]}),
        ("ImpactSwitch", {"select": 2, "input1": ["7", 0], "input2": ["6", 0]}),
        ("Any Switch (rgthree)", {"any_01": ["6", 0], "any_02": ["7", 0]}),
        ("ComfySwitchNode", {"switch": True, "on_true": ["6", 0], "on_false": ["7", 0]}),
        ("ComfySwitchNode", {"switch": False, "on_true": ["7", 0], "on_false": ["6", 0]}),
    ],
)
def test_what_passes_on_one_of_its_inputs(told, node):
    found = told(n3_positive=["15", 0], n15=node)
    assert found.settings["prompt"] == "a bottle [of] AND glass" and found.notes == ()


def test_less_noise_on_an_empty_latent(told, pipeline):
    """ComfyUI lays 20 / 0.5 = 40 steps, and begins with the noise of the 21st on nothing."""
    settings = told(n3_denoise=0.5).settings
    assert (settings["steps"], settings["start_step"]) == (40, 20)
    found = pipeline.request("a red star", steps=8, start_step=4, schedule="comfyui:normal", sampler="euler")
    assert found.compile(pipeline.manifest).evaluations == 4
    assert pipeline.run(found)
