"""What AUTOMATIC1111 writes, as requests of sdrt."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from foreign_pictures import PIXELS, picture
from PIL import Image

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.manifest import FILE_NAME, read
from sdrt.metadata import NamedFile, model_hash, read_settings

MANIFEST = read(DEMO / FILE_NAME)


@pytest.fixture
def told(tmp_path):
    """What a text is read as; `rest` is the line of settings after the seed and size."""

    def told(prompt="a cat", rest="", *, sampler="Euler", seed="7"):
        line = f"Steps: 20, Sampler: {sampler}, CFG scale: 7, Seed: {seed}, Size: 512x768{rest}"
        return read_settings(picture(tmp_path / "x.png", parameters=f"{prompt}\n{line}"))

    return told


def test_a_text_of_version_1_10(told):
    found = told(
        "a (fluffy:1.2) cat, [red:blue:0.4]\nby nobody\nNegative prompt: ugly, dog\nblurry",
        ", Model hash: 6CE0161689, Model: v1-5-pruned-emaonly, Clip skip: 2, RNG: CPU, Version: v1.10.1",
        sampler="DPM++ 2M, Schedule type: Karras",
    )
    assert found.writer == "AUTOMATIC1111 v1.10.1"
    assert found.settings == {
        "prompt": "a (fluffy:1.2) cat, [red:blue:0.4]\nby nobody",
        "negative_prompt": "ugly, dog\nblurry",
        "prompt_syntax": "a1111",
        "steps": 20,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "guidance_scale": 7.0,
        "seed": 7,
        "width": 512,
        "height": 768,
        "clip_skip": 2,
    }
    assert (found.model.name, found.model.hash) == ("v1-5-pruned-emaonly", "6ce0161689")
    assert (found.notes, found.wanted) == ((), {})


@pytest.mark.parametrize(
    ("sampler", "name", "levels"),
    [
        ("Euler a", "euler_a", {"schedule": "normal"}),
        ("DPM++ 2M Karras", "dpmpp_2m", {"schedule": "karras"}),  # before 1.9
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", {"schedule": "exponential"}),
        ("DPM++ 2M", "dpmpp_2m", {"schedule": "normal"}),
        ("DPM++ 2M, Schedule type: Automatic", "dpmpp_2m", {"schedule": "karras"}),
        ("DPM++ 3M SDE, Schedule type: Automatic", "dpmpp_3m_sde", {"schedule": "exponential"}),
        ("Euler, Schedule type: Automatic", "euler", {"schedule": "normal"}),
        ("DPM++ 2M, Schedule type: Uniform", "dpmpp_2m", {"schedule": "normal"}),
        ("Euler, Schedule type: Simple", "euler", {"schedule": "simple"}),
        ("Euler, Schedule type: SGM Uniform", "euler", {"schedule": "sgm_uniform"}),
        ("Euler, Schedule type: Beta", "euler", {"schedule": "beta"}),
        ("Euler, Schedule type: DDIM", "euler", {"schedule": "ddim_uniform"}),
        ("Heun, Schedule type: KL Optimal", "heun", {"schedule": "kl_optimal"}),
        ("LMS, Schedule type: Align Your Steps", "lms", {"schedule": "align_your_steps"}),
        ("DDIM", "ddim", {"sigma_schedule": "plain", "spacing": "leading"}),
        ("PLMS", "pndm", {"sigma_schedule": "plain", "spacing": "leading"}),
        ("UniPC", "unipc_bh1_3", {"schedule": "time_uniform"}),
        ("LCM, Schedule type: Karras", "lcm", {"sigma_schedule": "plain"}),
    ],
)
def test_samplers_and_schedules(told, sampler, name, levels):
    settings = told(rest=", RNG: CPU", sampler=sampler).settings
    assert settings["sampler"] == name
    found = {key: settings[key] for key in ("schedule", "sigma_schedule", "spacing") if key in settings}
    assert found == levels


@pytest.mark.parametrize(("steps", "runs"), [(20, 20), (30, 31), (7, 8), (1000, 1000), (1001, 1001)])
def test_unipc_takes_as_many_steps_as_there_are_timesteps(told, steps, runs):
    """len(range(0, 1000, 1000 // steps)); AUTOMATIC1111 itself fails at more than 1000."""
    found = told(rest=", RNG: CPU", sampler=f"UniPC, Steps: {steps}")
    assert found.settings["steps"] == runs
    assert told(rest=", RNG: CPU", sampler=f"Euler, Steps: {steps}").settings["steps"] == steps


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS"])
def test_ddim_and_plms_of_other_timesteps_are_said(told, sampler):
    (note,) = told(rest=", RNG: CPU", sampler=sampler).notes
    assert note == f"its {sampler} ends one timestep early, and may begin at another than sdrt's"
    assert told(rest=", RNG: CPU", sampler="Euler").notes == ()


def test_an_unknown_schedule_is_wanted(told):
    found = told(rest=", Schedule type: Turbo, RNG: CPU")
    assert found.wanted.keys() == {"schedule"} and "schedule" not in found.settings


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        ("", "its noise was drawn by another generator (RNG: GPU)"),
        (", RNG: NV", "(RNG: NV)"),
        (', ControlNet 0: "Module: canny, Weight: 1"', "ControlNet 0: Module: canny, Weight: 1 is not"),
        (", Face restoration: CodeFormer", "Face restoration: CodeFormer is not carried over"),
        (", VAE hash: 735e4c3a44, VAE: vae-ft-mse.ckpt", "VAE: vae-ft-mse.ckpt is not carried over"),
        (", Seed resize from: 512x512", "Seed resize from: 512x512 is not carried over"),
        (", Tiling: True", "Tiling: True is not carried over"),
    ],
)
def test_what_cannot_be_carried_over_is_said(told, rest, note):
    (found,) = (one for one in told(rest=rest).notes if note in one)
    assert "\n" not in found


def test_noise_of_samplers_that_draw_more(told):
    notes = told(rest=", ENSD: 31337, RNG: CPU", sampler="DPM++ SDE").notes
    assert len(notes) == 2
    assert "ENSD: 31337" in notes[0] and "Brownian tree" in notes[1]
    assert told(rest=", ENSD: 31337, RNG: CPU").notes == ()  # Euler draws none


def test_hires_fix_is_the_first_pass(told):
    rest = ", Denoising strength: 0.7, Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, RNG: CPU"
    found = told(rest=rest)
    assert found.wanted == {} and "start_step" not in found.settings
    (note,) = found.notes
    assert note.startswith("this is the first pass: its hires fix is not carried over (Hires upscale: 2,")


def test_old_hires_fix_says_the_first_size(told):
    found = told(rest=", First pass size: 256x384, Denoising strength: 0.7, RNG: CPU")
    assert (found.settings["width"], found.settings["height"]) == (256, 384)
    assert (told(rest=", First pass size: 0x0, RNG: CPU").settings["width"]) == 512


@pytest.mark.parametrize(
    ("sampler", "strength", "start"),
    [("Euler", "0.75", 4), ("Euler", "1", 0), ("Euler", "0", 19), ("DDIM", "0.75", 5)],
)
def test_img2img_wants_its_picture(told, sampler, strength, start):
    # int(0.75 * 20) = 15 steps are encoded; k-diffusion's samplers take the sigma before them as well
    found = told(rest=f", Denoising strength: {strength}, Mask blur: 4, RNG: CPU", sampler=sampler)
    assert found.settings["start_step"] == start
    assert found.settings["mask_blur"] == 4.0
    assert found.wanted.keys() == {"init_image", "mask"}


def test_variations(told):
    found = told(rest=", Variation seed: 9, Variation seed strength: 0.25, RNG: CPU")
    assert (found.settings["variation_seed"], found.settings["variation_strength"]) == (9, 0.25)
    assert found.notes == ()


def test_loras_and_embeddings(told):
    found = told(
        "a cat <lora:a style:0.8>, <lora:sub/two:1:0.5> by <hypernet:x:1> blob\nNegative prompt: <lora:n:-1>",
        ', Lora hashes: "a style: 0123456789ab, n: abcdef012345", TI hashes: "blob: 00112233aabb", RNG: CPU',
    )
    assert found.settings["prompt"] == "a cat ,  by  blob"
    assert found.settings["negative_prompt"] == ""
    assert [(one.file, one.weight) for one in found.loras] == [
        (NamedFile(name="a style", sha256="0123456789ab", part="tensors"), 0.8),
        (NamedFile(name="two", part="tensors"), 0.5),
        (NamedFile(name="n", sha256="abcdef012345", part="tensors"), -1.0),
    ]
    (embedding,) = found.embeddings
    assert (embedding.file, embedding.token) == (NamedFile(name="blob", sha256="00112233aabb"), "blob")
    text, network = found.notes
    assert "'sub/two' has 0.5 for all, not 1 for the text" in text
    assert "'<hypernet:x:1>' is not carried over" in network


def test_lines_that_extensions_write_behind(told):
    assert told(rest=", RNG: CPU\nTemplate: a {cat|dog}\nNegative Template: x").settings["seed"] == 7


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
def test_in_each_format(tmp_path, name):
    # piexif.helper.UserComment.dump(text, encoding="unicode") in an EXIF block of piexif
    text = "קט 🐸 cat\nNegative prompt: dog\nSteps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64"
    if name == "x.png":
        picture(tmp_path / name, parameters=text)
    else:
        comment = b"UNICODE\0" + text.encode("utf-16-be")
        exif = (
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\4\0\0\0\1\0\0\0\x1a\0\0\0\0"
            b"\0\1\x92\x86\0\7" + len(comment).to_bytes(4, "big") + b"\0\0\0\x28" + comment
        )
        Image.fromarray(PIXELS).save(tmp_path / name, exif=exif)
    found = read_settings(tmp_path / name)
    assert (found.settings["prompt"], found.settings["seed"]) == ("קט 🐸 cat", 5)


@pytest.mark.parametrize("order", ["utf-16-le", "ascii"])
def test_other_comments(tmp_path, order):
    text = "cat\nSteps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64"
    exif = Image.Exif()
    start = b"ASCII\0\0\0" if order == "ascii" else b"UNICODE\0"
    exif.get_ifd(0x8769)[0x9286] = start + text.encode(order)
    Image.fromarray(PIXELS).save(tmp_path / "x.jpg", exif=exif)
    assert read_settings(tmp_path / "x.jpg").settings["seed"] == 5


def test_makes_a_picture_of_the_same_words(sdrt_main, tmp_path, pipeline):
    line = "Steps: 3, Sampler: Euler a, CFG scale: 2, Seed: 5, Size: 64x64"
    picture(tmp_path / "x.png", parameters=f"a red star\n{line}, Model: {MANIFEST.name}")
    result = sdrt_main("generate", "--from", "x.png", "-o", "y.png")
    assert result.code == 0, result.err
    rng, model, verdict = result.err.splitlines()
    assert rng == "Warning: x.png: its noise was drawn by another generator (RNG: GPU)"
    assert "no hash can tell" in model
    assert verdict == "the pixels differ from those of x.png: AUTOMATIC1111 made it"
    expected = pipeline.generate(
        "a red star", steps=3, sampler="euler_a", schedule="normal", guidance_scale=2, seed=5
    )
    np.testing.assert_array_equal(Image.open("y.png"), expected[0].pixels)


@pytest.mark.parametrize(
    ("model", "warning"),
    [
        ("Model hash: 6CE0161689, Model: what they call it", None),
        (
            "Model hash: 1111111111, Model: other",
            "(hash 6ce0161689) is not its model, 'other' (hash 1111111111)",
        ),
        ("Model hash: 81761151, Model: old", "is its model, 'old' (hash 81761151), no hash can tell"),
    ],
)
def test_model_is_known_by_the_hash_of_the_file_it_was_exported_from(
    sdrt_main, tmp_path, bundle, edit_manifest, monkeypatch, model, warning
):
    edit_manifest(lambda fields: fields["made_by"].update(file_sha256="6ce0161689" + "b" * 54))
    shutil.copytree(bundle, tmp_path / "engines" / "mine")
    monkeypatch.setattr("sdrt.remake.exported_bundles", lambda: ["mine"])
    line = "Steps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64, RNG: CPU"
    picture(tmp_path / "x.png", parameters=f"a red star\n{line}, {model}")
    asked = [] if warning is None else ["-m", "mine"]
    result = sdrt_main("generate", "--from", "x.png", *asked, "-o", "y.png")
    assert result.code == 0, result.err
    *warnings, _ = result.err.splitlines()
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]
    # and it is what other programs are told
    assert "Model hash: 6ce0161689" in Image.open("y.png").text["parameters"]


def test_sdrts_own_text_alone(sdrt_main, pipeline, tmp_path):
    made = pipeline.generate("a red star", steps=3, seed=5)[0]
    picture(tmp_path / "x.png", parameters=made.texts["parameters"])
    found = read_settings(tmp_path / "x.png")
    assert found.writer.startswith("sdrt ") and found.model.hash == model_hash(MANIFEST)
    sdrt_main("generate", "--from", "x.png", "-o", "y.png")
    np.testing.assert_array_equal(Image.open("y.png"), made.pixels)


@pytest.mark.parametrize(
    ("text", "says", "option"),
    [
        ("a\nSteps: 3, Sampler: Restart, Seed: 1, Size: 64x64", "unknown sampler 'Restart'", "--sampler"),
        ("a\nSteps: x, Sampler: Euler, Seed: 1, Size: 64x64", "Steps is 'x'", "--steps"),
        ("a\nSteps: 3, Sampler: Euler, Seed: nan", "Seed is 'nan'", "--seed"),
        ("a\nSteps: 3, Sampler: Euler, CFG scale: inf", "CFG scale is 'inf'", "--guidance"),
        ("a\nSteps: 3, Sampler: Euler, Size: bigxbig", "Size is 'bigxbig'", "--width"),
        ("a <lora:x:y>\nSteps: 3, Sampler: Euler", "the weight of the LoRA", "--lora"),
        (
            "a\nSteps: 3, Sampler: Euler, Denoising strength: 0.5",
            "made from another picture",
            "--init-image",
        ),
    ],
)
def test_what_makes_it_meaningless_is_an_error(refused, tmp_path, text, says, option):
    picture(tmp_path / "x.png", parameters=text)
    refused("generate", "--from", "x.png", "-m", "demo", says=("x.png", says, f"give it with {option}"))


def test_unless_an_option_mends_it(sdrt_main, tmp_path):
    picture(tmp_path / "x.png", parameters="a\nSteps: 3, Sampler: Restart, Seed: 1, Size: 64x64")
    result = sdrt_main("generate", "--from", "x.png", "-m", "demo", "--sampler", "euler", "-o", "y.png")
    assert result.code == 0, result.err


def test_a_model_that_is_not_here(refused, tmp_path):
    text = "a\nSteps: 3, Sampler: Euler, Model: dreamshaper, Model hash: 879db523c3"
    picture(tmp_path / "x.png", parameters=text)
    refused("generate", "--from", "x.png", says=("'dreamshaper' (hash 879db523c3)", "sdrt export", "-m"))


LINE = "Steps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64, RNG: CPU"


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"Negative prompt: small\n{LINE}", "", "small"),
        (f"Negative prompt:small\n{LINE}", "", "small"),
        (f"a cat\r\nNegative prompt: small\r\n{LINE}", "a cat", "small"),
        (f"a cat\nNegative prompt: small\n{LINE.replace(': ', ':').replace(', ', ',')}", "a cat", "small"),
        (LINE, "", ""),
    ],
)
def test_texts_that_others_lay_out(tmp_path, text, prompt, negative):
    found = read_settings(picture(tmp_path / "x.png", parameters=text))
    assert (found.settings["prompt"], found.settings["negative_prompt"]) == (prompt, negative)
    assert (found.settings["steps"], found.settings["seed"], found.settings["width"]) == (3, 5, 64)
    assert found.notes == ()


def test_resources_of_civitai(told):
    resources = (
        '[{"type":"checkpoint","modelVersionId":1,"modelName":"x, y","modelVersionName":"v1"},'
        '{"type":"lora","weight":0.65,"modelVersionId":2,"modelName":"A [fine] style, really"}]'
    )
    found = told(rest=f", RNG: CPU, Civitai resources: {resources}, Civitai metadata: {{}}, Clip skip: 2")
    first, second = found.notes
    assert "A [fine] style, really" in first and "0.65" in first
    assert "Civitai metadata" in second
    assert found.settings["clip_skip"] == 2, "what follows is read too"


def test_hashes_of_loras_with_odd_names(told):
    rest = ', Lora hashes: "a, b [c]: 0123456789ab, (d): abcdef012345", RNG: CPU'
    found = told("x <lora:a, b [c]:0.5> <lora:(d):1>", rest)
    assert [(one.file.name, one.file.sha256, one.weight) for one in found.loras] == [
        ("a, b [c]", "0123456789ab", 0.5),
        ("(d)", "abcdef012345", 1.0),
    ]


@pytest.mark.parametrize(
    ("texts", "program"),
    [
        (
            {"parameters": '{"prompt": "a", "metadata_scheme": "fooocus"}', "fooocus_scheme": "fooocus"},
            "Fooocus",
        ),
        ({"Software": "NovelAI", "Comment": '{"prompt": "a"}'}, "NovelAI"),
        ({"parameters": '{"sui_image_params": {"prompt": "a"}}'}, "SwarmUI"),
        ({"workflow": '{"nodes": []}'}, "ComfyUI"),
    ],
)
def test_pictures_of_programs_that_are_not_read_say_whose_they_are(tmp_path, texts, program):
    with pytest.raises(InputError) as refused:
        read_settings(picture(tmp_path / "x.png", **texts))
    assert f"was made by {program}" in str(refused.value)
