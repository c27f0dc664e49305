"""Pictures with the texts of other programs, in the form that these write them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdrt.errors import InputError
from sdrt.metadata import read_settings

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
