"""LoRA files of random numbers, in every spelling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sdrt.original_names import original_unet_names

Factors = dict[str, dict[str, np.ndarray]]  # module -> part -> array
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def random_factors(
    shapes: Mapping[str, tuple[int, ...]], rank: int, *, seed: int = 0, alpha: float | None = None
) -> Factors:
    """Factors for weights [out, in] or [out, in, h, w], whose products are about 0.02 for alpha = rank."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(0, 1, shape).astype(np.float32)

    found: Factors = {}
    for module, shape in shapes.items():
        kernel = shape[2:]
        found[module] = {
            "down": normal(rank, *shape[1:]) * np.float32(0.02 / rank**0.5),
            "up": normal(shape[0], rank, *(1 for _ in kernel)),
        }
        if alpha is not None:
            found[module]["alpha"] = np.array(alpha, np.float32)
    return found


def delta(factors: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """What they add, by the definition."""
    up, down = factors["up"].astype(np.float64), factors["down"].astype(np.float64)
    rank = len(down)
    product = up.reshape(len(up), rank) @ down.reshape(rank, prod(down.shape[1:]))
    return product.reshape(shape) * float(factors.get("alpha", rank)) / rank


def kohya(components: Mapping[str, Factors], *, te: str = "lora_te_") -> dict[str, np.ndarray]:
    """As kohya's trainer writes them for Stable Diffusion 1; te: `lora_te1_` for XL."""
    prefixes = {**KOHYA, "text_encoder": te}
    ends = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "alpha": "alpha"}
    return {
        f"{prefixes[component]}{path}.{ends.get(part, part)}": array
        for component, modules in components.items()
        for module, parts in modules.items()
        for path in [_hugging_face_path(component, module).replace(".", "_")]
        for part, array in parts.items()
    }


def original(components: Mapping[str, Factors]) -> dict[str, np.ndarray]:
    """As kohya's trainer writes them for Stable Diffusion XL."""
    unet = components["unet"]
    names = original_unet_names(f"{module}.weight" for module in unet)
    renamed = {names[f"{module}.weight"].removesuffix(".weight"): parts for module, parts in unet.items()}
    return kohya({**components, "unet": renamed}, te="lora_te1_")


def peft(components: Mapping[str, Factors]) -> dict[str, np.ndarray]:
    """As diffusers writes PEFT's."""
    ends = {"down": "lora_A.weight", "up": "lora_B.weight", "dora_scale": "lora_magnitude_vector"}
    return {
        f"{component}.{_hugging_face_path(component, module)}.{ends.get(part, part)}": array
        for component, modules in components.items()
        for module, parts in modules.items()
        for part, array in parts.items()
    }


def write(path: Path, tensors: Mapping[str, np.ndarray], **metadata: object) -> Path:
    """Write a file; metadata that are no texts become JSON."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    save_file({key: np.ascontiguousarray(array) for key, array in tensors.items()}, path, texts or None)
    return path


def _hugging_face_path(component: str, module: str) -> str:
    """With `text_model.` before text encoders' layers, as it was before transformers 5."""
    return f"text_model.{module}" if component != "unet" and module.startswith("encoder.") else module
