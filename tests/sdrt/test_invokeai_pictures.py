"""What InvokeAI writes, as requests of sdrt; and `sdrt info` of all."""

from __future__ import annotations

import json

import pytest
from foreign_pictures import INVOKE, OLD_INVOKE, graph, picture, refusal

from sdrt.metadata import NamedFile, read_settings


@pytest.fixture
def told(tmp_path):
    return lambda **changes: read_settings(picture(tmp_path / "x.png", invokeai_metadata=INVOKE | changes))


def test_since_version_3(told):
    found = told()
    assert found.writer == "InvokeAI 5.4.2"
    assert found.settings == {
        "prompt": "a cat in a hat",
        "negative_prompt": "dog",
        "prompt_syntax": "plain",
        "seed": 1234,
        "steps": 30,
        "guidance_scale": 7.5,
        "sampler": "dpmpp_2m",
        "sigma_schedule": "karras",
        "width": 512,
        "height": 640,
    }
    ((lora, weight),) = ((one.file.name, one.weight) for one in found.loras)
    assert (found.model.name, lora, weight) == ("dreamshaper", "a style", 0.75)
    assert (found.notes, found.wanted) == ((), {})


def test_names_of_version_3(told):
    found = told(
        model={"model_name": "sd", "base_model": "sd-1", "model_type": "main"},
        loras=[{"lora": {"model_name": "x", "base_model": "sd-1"}, "weight": 1}],
    )
    assert (found.model.name, found.loras[0].file.name, found.loras[0].weight) == ("sd", "x", 1.0)


def test_before_version_3(tmp_path):
    found = read_settings(picture(tmp_path / "x.png", sd_metadata=OLD_INVOKE))
    assert found.writer == "InvokeAI v2.2.4"
    assert found.settings == {
        "prompt": "a robot  reading",
        "negative_prompt": "blurry text",
        "prompt_syntax": "plain",
        "seed": 42,
        "steps": 50,
        "guidance_scale": 7.5,
        "sampler": "lms",
        "sigma_schedule": "plain",
        "width": 448,
        "height": 512,
    }
    assert found.model.name == "stable-diffusion-1.5"
    assert found.notes == ()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"rand_device": "cuda"}, "another generator (rand_device: cuda)"),
        ({"scheduler": "euler_a"}, "from another seed"),
        ({"positive_prompt": "a cat++ (in a hat)1.3"}, "are text here"),
        ({"controlnets": [{"control_weight": 1}]}, "controlnets: "),
        ({"hrf_enabled": True}, "hrf_enabled: true is not carried over"),
        ({"vae": {"name": "mse"}}, "vae: "),
        ({"positive_style_prompt": "oil"}, "positive_style_prompt: oil is not carried over"),
    ],
)
def test_what_cannot_be_carried_over_is_said(told, changes, note):
    (found,) = told(**changes).notes
    assert note in found


def test_img2img(told):
    found = told(generation_mode="img2img", strength=0.6, init_image="7c0a.png", clip_skip=1)
    assert found.settings["start_step"] == 12  # 30 - int(30 * 0.6), as in diffusers
    assert found.settings["clip_skip"] == 2
    assert found.pictures == {"init_image": NamedFile(name="7c0a.png")}
    assert told(generation_mode="inpaint").wanted.keys() == {"init_image", "mask"}


def test_another_sampler_is_wanted(told):
    assert "unknown sampler 'dpm_new'" in told(scheduler="dpm_new").wanted["sampler"]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"invokeai_metadata": {"app_version": "5"}}, "no positive_prompt"),
        ({"invokeai_metadata": INVOKE | {"steps": "30"}}, "steps is '30'"),
        ({"invokeai_metadata": INVOKE | {"cfg_scale": [7, 5]}}, "cfg_scale is [7, 5]"),
        ({"invokeai_metadata": INVOKE | {"loras": [7]}}, "loras is [7]"),
        ({"sd_metadata": {"app_version": "v2"}}, "`image` of its sd-metadata"),
        ({"sd_metadata": OLD_INVOKE | {"image": {"prompt": 7}}}, "`prompt` of its sd-metadata is 7"),
    ],
)
def test_what_makes_it_meaningless_is_an_error(tmp_path, texts, says):
    assert says in refusal(picture(tmp_path / "x.png", **texts))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"prompt": graph()}, ("made by ComfyUI", "a bottle [of] AND glass", "8566257")),
        ({"invokeai_metadata": INVOKE}, ("made by InvokeAI 5.4.2", "dpmpp_2m", "a style")),
        ({"sd_metadata": OLD_INVOKE}, ("made by InvokeAI v2.2.4", "a robot")),
        (
            {"parameters": "a\nSteps: 3, Sampler: Restart, Tiling: True"},
            ("made by AUTOMATIC1111", "Sampler: Restart", "note: Tiling: True", "sampler is wanted"),
        ),
        ({"prompt": {"3": 7}}, ("note: it cannot be made again: its ComfyUI graph has no sampler",)),
    ],
)
def test_says_who_wrote_it_and_what(sdrt_main, tmp_path, texts, says):
    picture(tmp_path / "x.png", **texts)
    shown = sdrt_main("info", "x.png")
    assert shown.code == 0
    for words in says:
        assert words in shown.out
    told = json.loads(sdrt_main("info", "x.png", "--json").out)
    assert told["size"] == [64, 64]
    keyword, value = next(iter(texts.items()))
    if keyword != "parameters":
        assert told[keyword.replace("sd_", "sd-")] == value  # all of it
