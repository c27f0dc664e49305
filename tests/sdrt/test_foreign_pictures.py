"""What other programs write into pictures, in the form that they write it, as requests of sdrt."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.bundle import DEMO
from sdrt.errors import InputError
from sdrt.manifest import FILE_NAME, read
from sdrt.metadata import NamedFile, model_hash, read_settings

MANIFEST = read(DEMO / FILE_NAME)
PIXELS = np.zeros((64, 64, 3), np.uint8)


def picture(path, **texts):
    """A PNG with text chunks; what is no text is written as JSON."""
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword.replace("_metadata", "-metadata") if keyword[0] == "s" else keyword,
                      text if isinstance(text, str) else json.dumps(text))  # fmt: skip
    Image.fromarray(PIXELS).save(path, pnginfo=info)
    return path


def refusal(path):
    with pytest.raises(InputError) as refused:
        read_settings(path)
    assert str(refused.value).startswith(f"{path}: ")
    return str(refused.value).removeprefix(f"{path}: ")


class TestAutomatic1111:
    @pytest.fixture
    def told(self, tmp_path):
        """What a text is read as; `rest` is the line of settings after the seed and size."""

        def told(prompt="a cat", rest="", *, sampler="Euler", seed="7"):
            line = f"Steps: 20, Sampler: {sampler}, CFG scale: 7, Seed: {seed}, Size: 512x768{rest}"
            return read_settings(picture(tmp_path / "x.png", parameters=f"{prompt}\n{line}"))

        return told

    def test_a_text_of_version_1_10(self, told):
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
            "sigma_schedule": "karras",
            "spacing": "linspace",
            "guidance_scale": 7.0,
            "seed": 7,
            "width": 512,
            "height": 768,
            "clip_skip": 2,
        }
        assert (found.model.name, found.model.hash) == ("v1-5-pruned-emaonly", "6ce0161689")
        assert (found.notes, found.wanted) == ((), {})

    @pytest.mark.parametrize(
        ("sampler", "name", "levels", "spacing"),
        [
            ("Euler a", "euler_a", "plain", "linspace"),
            ("DPM++ 2M Karras", "dpmpp_2m", "karras", "linspace"),  # before 1.9
            ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential", "linspace"),
            ("DPM++ 2M, Schedule type: Automatic", "dpmpp_2m", "karras", "linspace"),
            ("DPM++ 3M SDE, Schedule type: Automatic", "dpmpp_3m_sde", "exponential", "linspace"),
            ("Euler, Schedule type: Automatic", "euler", "plain", "linspace"),
            ("DPM++ 2M, Schedule type: Uniform", "dpmpp_2m", "plain", "linspace"),
            ("Euler, Schedule type: Simple", "euler", "plain", "trailing"),
            ("Euler, Schedule type: SGM Uniform", "euler", "plain", "trailing"),
            ("Euler, Schedule type: Beta", "euler", "beta", "linspace"),
            ("DDIM", "ddim", "plain", "leading"),
            ("PLMS", "pndm", "plain", "leading"),
            ("UniPC", "unipc", "plain", "leading"),
            ("LCM, Schedule type: Karras", "lcm", "plain", None),
        ],
    )
    def test_samplers_and_schedules(self, told, sampler, name, levels, spacing):
        settings = told(rest=", RNG: CPU", sampler=sampler).settings
        assert (settings["sampler"], settings["sigma_schedule"]) == (name, levels)
        assert settings.get("spacing") == spacing

    @pytest.mark.parametrize(
        ("rest", "note"),
        [
            ("", "its noise was drawn by another generator (RNG: GPU)"),
            (", RNG: NV", "(RNG: NV)"),
            (", Schedule type: Align Your Steps", "the schedule 'Align Your Steps' is none of sdrt's"),
            (', ControlNet 0: "Module: canny, Weight: 1"', "ControlNet 0: Module: canny, Weight: 1 is not"),
            (", Face restoration: CodeFormer", "Face restoration: CodeFormer is not carried over"),
            (", VAE hash: 735e4c3a44, VAE: vae-ft-mse.ckpt", "VAE: vae-ft-mse.ckpt is not carried over"),
            (", Seed resize from: 512x512", "Seed resize from: 512x512 is not carried over"),
            (", Tiling: True", "Tiling: True is not carried over"),
        ],
    )
    def test_what_cannot_be_carried_over_is_said(self, told, rest, note):
        (found,) = (one for one in told(rest=rest).notes if note in one)
        assert "\n" not in found

    def test_noise_of_samplers_that_draw_more(self, told):
        notes = told(rest=", ENSD: 31337, RNG: CPU", sampler="DPM++ SDE").notes
        assert len(notes) == 2
        assert "ENSD: 31337" in notes[0] and "Brownian tree" in notes[1]
        assert told(rest=", ENSD: 31337, RNG: CPU").notes == ()  # Euler draws none

    def test_hires_fix_is_the_first_pass(self, told):
        rest = (
            ", Denoising strength: 0.7, Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, RNG: CPU"
        )
        found = told(rest=rest)
        assert found.wanted == {} and "start_step" not in found.settings
        (note,) = found.notes
        assert note.startswith("this is the first pass: its hires fix is not carried over (Hires upscale: 2,")

    def test_old_hires_fix_says_the_first_size(self, told):
        found = told(rest=", First pass size: 256x384, Denoising strength: 0.7, RNG: CPU")
        assert (found.settings["width"], found.settings["height"]) == (256, 384)
        assert (told(rest=", First pass size: 0x0, RNG: CPU").settings["width"]) == 512

    @pytest.mark.parametrize(
        ("sampler", "strength", "start"),
        [("Euler", "0.75", 4), ("Euler", "1", 0), ("Euler", "0", 19), ("DDIM", "0.75", 5)],
    )
    def test_img2img_wants_its_picture(self, told, sampler, strength, start):
        # int(0.75 * 20) = 15 steps are encoded; k-diffusion's samplers take the sigma before them as well
        found = told(rest=f", Denoising strength: {strength}, Mask blur: 4, RNG: CPU", sampler=sampler)
        assert found.settings["start_step"] == start
        assert found.settings["mask_blur"] == 4.0
        assert found.wanted.keys() == {"init_image", "mask"}

    def test_variations(self, told):
        found = told(rest=", Variation seed: 9, Variation seed strength: 0.25, RNG: CPU")
        assert (found.settings["variation_seed"], found.settings["variation_strength"]) == (9, 0.25)
        assert found.notes == ()

    def test_loras_and_embeddings(self, told):
        found = told(
            "a cat <lora:a style:0.8>, <lora:sub/two:1:0.5> by <hypernet:x:1> blob\n"
            "Negative prompt: <lora:n:-1>",
            ', Lora hashes: "a style: 0123456789ab, n: abcdef012345"'
            ', TI hashes: "blob: 00112233aabb", RNG: CPU',
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

    def test_lines_that_extensions_write_behind(self, told):
        assert told(rest=", RNG: CPU\nTemplate: a {cat|dog}\nNegative Template: x").settings["seed"] == 7

    @pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
    def test_in_each_format(self, tmp_path, name):
        # piexif.helper.UserComment.dump(text, encoding="unicode") in an EXIF block of piexif
        text = "קט 🐸 cat\nNegative prompt: dog\nSteps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64"
        if name == "x.png":
            picture(tmp_path / name, parameters=text)
        else:
            comment = b"UNICODE\0" + text.encode("utf-16-be")
            exif = (
                b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\4\0\0\0\1\0\0\0\x1a\0\0\0\0"
                b"\0\1\x92\x86\0\7" + len(comment).to_bytes(4, "big") + b"\0\0\0\x2c\0\0\0\0" + comment
            )
            Image.fromarray(PIXELS).save(tmp_path / name, exif=exif)
        found = read_settings(tmp_path / name)
        assert (found.settings["prompt"], found.settings["seed"]) == ("קט 🐸 cat", 5)

    @pytest.mark.parametrize("order", ["utf-16-le", "ascii"])
    def test_other_comments(self, tmp_path, order):
        text = "cat\nSteps: 3, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64"
        exif = Image.Exif()
        start = b"ASCII\0\0\0" if order == "ascii" else b"UNICODE\0"
        exif.get_ifd(0x8769)[0x9286] = start + text.encode(order)
        Image.fromarray(PIXELS).save(tmp_path / "x.jpg", exif=exif)
        assert read_settings(tmp_path / "x.jpg").settings["seed"] == 5

    def test_makes_a_picture_of_the_same_words(self, sdrt_main, tmp_path, pipeline):
        line = "Steps: 3, Sampler: Euler a, CFG scale: 2, Seed: 5, Size: 64x64"
        picture(tmp_path / "x.png", parameters=f"a red star\n{line}, Model: {MANIFEST.name}")
        result = sdrt_main("generate", "--from", "x.png", "-o", "y.png")
        assert result.code == 0, result.err
        rng, model, verdict = result.err.splitlines()
        assert rng == "Warning: x.png: its noise was drawn by another generator (RNG: GPU)"
        assert "no hash can tell" in model
        assert verdict == "the pixels differ from those of x.png: AUTOMATIC1111 made it"
        expected = pipeline.generate(
            "a red star", steps=3, sampler="euler_a", spacing="linspace", guidance_scale=2, seed=5
        )
        np.testing.assert_array_equal(Image.open("y.png"), expected[0].pixels)

    def test_sdrts_own_text_alone(self, sdrt_main, pipeline, tmp_path):
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
    def test_what_makes_it_meaningless_is_an_error(self, refused, tmp_path, text, says, option):
        picture(tmp_path / "x.png", parameters=text)
        refused("generate", "--from", "x.png", "-m", "demo", says=("x.png", says, f"give it with {option}"))

    def test_unless_an_option_mends_it(self, sdrt_main, tmp_path):
        picture(tmp_path / "x.png", parameters="a\nSteps: 3, Sampler: Restart, Seed: 1, Size: 64x64")
        result = sdrt_main("generate", "--from", "x.png", "-m", "demo", "--sampler", "euler", "-o", "y.png")
        assert result.code == 0, result.err

    def test_a_model_that_is_not_here(self, refused, tmp_path):
        text = "a\nSteps: 3, Sampler: Euler, Model: dreamshaper, Model hash: 879db523c3"
        picture(tmp_path / "x.png", parameters=text)
        refused("generate", "--from", "x.png", says=("'dreamshaper' (hash 879db523c3)", "sdrt export", "-m"))


def graph(**changes):
    """ComfyUI's default workflow, as its API has it; changes by `node_input`."""
    nodes = {
        "3": ("KSampler", seed := {"seed": 8566257, "steps": 20, "cfg": 8, "sampler_name": "euler"}),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "sub/v1-5-pruned.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 448, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a bottle [of] AND glass", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "text, watermark", "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]}),
    }
    seed |= {"scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["6", 0]}
    seed |= {"negative": ["7", 0], "latent_image": ["5", 0]}
    found = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}
    for name, value in changes.items():
        node, _, key = name.removeprefix("n").partition("_")
        if key:
            found[node]["inputs"][key] = value
        else:
            found[node] = {"class_type": value[0], "inputs": value[1]}
    return found


class TestComfyUI:
    @pytest.fixture
    def told(self, tmp_path):
        return lambda **changes: read_settings(picture(tmp_path / "x.png", prompt=graph(**changes)))

    def test_the_default_workflow(self, told):
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
            "sigma_schedule": "plain",
            "spacing": "linspace",
            "width": 512,
            "height": 448,
        }
        assert (found.model.name, found.notes, found.wanted) == ("v1-5-pruned", (), {})

    def test_links_decide_and_not_the_order(self, told):
        found = told(n3_positive=["7", 0], n3_negative=["6", 0])
        assert (found.settings["prompt"], found.settings["negative_prompt"]) == (
            "text, watermark",
            "a bottle [of] AND glass",
        )

    @pytest.mark.parametrize(
        ("sampler", "scheduler", "expected"),
        [
            ("dpmpp_2m", "karras", ("dpmpp_2m", "karras", "linspace")),
            ("dpmpp_2m_sde_gpu", "exponential", ("dpmpp_2m_sde", "exponential", "linspace")),
            ("euler_ancestral", "normal", ("euler_a", "plain", "linspace")),
            ("uni_pc", "simple", ("unipc", "plain", "leading")),
            ("heun", "sgm_uniform", ("heun", "plain", "trailing")),
            ("lms", "ddim_uniform", ("lms", "plain", "leading")),
        ],
    )
    def test_samplers(self, told, sampler, scheduler, expected):
        settings = told(n3_sampler_name=sampler, n3_scheduler=scheduler).settings
        assert (settings["sampler"], settings["sigma_schedule"], settings["spacing"]) == expected

    def test_weights_are_kept_and_brackets_are_text(self, told):
        found = told(n6_text=r"a (red:1.3) \(cat\) [x|y] AND z")
        assert found.settings["prompt_syntax"] == "a1111"
        assert found.settings["prompt"] == r"a (red:1.3) \(cat\) \[x\|y\] A\ND z"
        assert found.notes == ("weights in its prompts are applied as AUTOMATIC1111 does, not as ComfyUI",)

    def test_loras_in_a_row(self, told):
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

    def test_clip_skip(self, told):
        found = told(
            n6_clip=["12", 0], n12=("CLIPSetLastLayer", {"stop_at_clip_layer": -2, "clip": ["4", 1]})
        )
        assert found.settings["clip_skip"] == 2

    def test_a_picture_to_begin_with(self, told):
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

    def test_advanced(self, told):
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
    def test_what_cannot_be_carried_over_is_said(self, told, changes, note):
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
    def test_what_makes_it_meaningless_is_an_error(self, tmp_path, changes, says):
        if isinstance(changes.get("n15"), dict):
            changes["n15"] = ("KSampler", changes["n15"]["inputs"])
        assert says in refusal(picture(tmp_path / "x.png", prompt=graph(**changes)))

    def test_makes_a_picture(self, sdrt_main, tmp_path, pipeline):
        small = {"n5_width": 64, "n5_height": 64, "n3_steps": 3, "n3_cfg": 2}
        picture(tmp_path / "x.png", prompt=graph(**small, n6_text="a red star", n7_text=""))
        result = sdrt_main("generate", "--from", "x.png", "-m", "demo", "-o", "y.png")
        assert result.code == 0, result.err
        expected = pipeline.generate(
            "a red star", steps=3, sampler="euler", spacing="linspace", guidance_scale=2, seed=8566257
        )
        np.testing.assert_array_equal(Image.open("y.png"), expected[0].pixels)


INVOKE = {
    "generation_mode": "txt2img",
    "positive_prompt": "a cat in a hat",
    "negative_prompt": "dog",
    "width": 512,
    "height": 640,
    "seed": 1234,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "seamless_x": False,
    "clip_skip": 0,
    "model": {"key": "k", "hash": "blake3:00", "name": "dreamshaper", "base": "sd-1", "type": "main"},
    "controlnets": [],
    "loras": [
        {"model": {"key": "l", "hash": "blake3:01", "name": "a style", "type": "lora"}, "weight": 0.75}
    ],
    "app_version": "5.4.2",
}
OLD_INVOKE = {
    "model": "stable diffusion",
    "model_weights": "stable-diffusion-1.5",
    "model_hash": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "v2.2.4",
    "image": {
        "prompt": [{"prompt": "a robot [blurry] reading [text]", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 7.5,
        "threshold": 0,
        "perlin": 0,
        "height": 512,
        "width": 448,
        "seed": 42,
        "seamless": False,
        "hires_fix": False,
        "type": "txt2img",
        "postprocessing": None,
        "sampler": "k_lms",
        "variations": [],
    },
}


class TestInvokeAI:
    @pytest.fixture
    def told(self, tmp_path):
        return lambda **changes: read_settings(
            picture(tmp_path / "x.png", invokeai_metadata=INVOKE | changes)
        )

    def test_since_version_3(self, told):
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

    def test_names_of_version_3(self, told):
        found = told(
            model={"model_name": "sd", "base_model": "sd-1", "model_type": "main"},
            loras=[{"lora": {"model_name": "x", "base_model": "sd-1"}, "weight": 1}],
        )
        assert (found.model.name, found.loras[0].file.name, found.loras[0].weight) == ("sd", "x", 1.0)

    def test_before_version_3(self, tmp_path):
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
    def test_what_cannot_be_carried_over_is_said(self, told, changes, note):
        (found,) = told(**changes).notes
        assert note in found

    def test_img2img(self, told):
        found = told(generation_mode="img2img", strength=0.6, init_image="7c0a.png", clip_skip=1)
        assert found.settings["start_step"] == 12  # 30 - int(30 * 0.6), as in diffusers
        assert found.settings["clip_skip"] == 2
        assert found.pictures == {"init_image": NamedFile(name="7c0a.png")}
        assert told(generation_mode="inpaint").wanted.keys() == {"init_image", "mask"}

    def test_another_sampler_is_wanted(self, told):
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
    def test_what_makes_it_meaningless_is_an_error(self, tmp_path, texts, says):
        assert says in refusal(picture(tmp_path / "x.png", **texts))


class TestInfo:
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
    def test_says_who_wrote_it_and_what(self, sdrt_main, tmp_path, texts, says):
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
