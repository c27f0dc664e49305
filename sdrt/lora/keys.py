"""What the keys of a LoRA file say: which module, and which part of its change.

kohya's trainer and LyCORIS write `lora_unet_<path with underscores>.lora_down.weight`, PEFT and diffusers
`unet.<path>.lora_A.weight`, and older diffusers `unet.<path>.lora.down.weight` or
`unet.<path>.processor.to_q_lora.down.weight`. Only the ends differ: the paths are looked up, not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Component = Literal["text_encoder", "text_encoder_2", "unet"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

# what stands before the path -> whose path it is; kohya numbers the text encoders of Stable Diffusion XL only
_PREFIXES: dict[str, Component] = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "diffusion_model.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
}
_PEFT = "base_model.model."
_PARTS = {"A": "down", "B": "up"}
_KEY = re.compile(
    r"""(?P<path>.+?)
    (?: \.lora_(?P<kohya>down|up|mid)\.weight
      | \.lora_(?P<peft>[AB])(?:\.\w+)?\.weight
      | [._]lora(?:_linear_layer)?\.(?P<diffusers>down|up)\.weight
      | (?:[._]lora(?:_linear_layer)?)?\.(?P<alpha>alpha)
      | \.(?P<lycoris>hada_[wt][12](?:_[ab])?|lokr_(?:w[12](?:_[ab])?|t2))
    )""",
    re.VERBOSE,
)
# what people call the kinds that are not applied, by what their keys have in them
_KINDS = {
    r"\.(dora_scale|lora_magnitude_vector)": "DoRA",
    r"\.oft_": "OFT",
    r"\.diff(_b)?$": "full differences of weights",
    r"\.[wb]_norm$": "changes of norms",
    r"\.bias$": "changes of biases",
    r"\.lora_embedding|^bundle_emb\.|^emb_params$|^clip_[lg]$": "embeddings",
    r"\.on_input$": "IA3",
    r"\.[ab][12]\.weight$": "GLoRA",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """What one key says.

    component: None if the file leaves it open. path: of the module, with underscores for dots.
    part: `down`, `up`, `mid`, `alpha`, or LyCORIS's name of a factor, such as `hada_w1_a`.
    """

    component: Component | None
    path: str
    part: str


def parse_key(key: str) -> Key | None:
    """Read a key; None if it is not one of a kind that is applied."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    part = next(value for name, value in found.groupdict().items() if name != "path" and value)
    path = found["path"].removeprefix(_PEFT)
    component: Component | None = None
    for prefix, whose in _PREFIXES.items():
        if path.startswith(prefix):
            component, path = whose, path.removeprefix(prefix)
            break
    path = path.removeprefix(_PEFT).replace(".processor.", ".")
    return Key(component=component, path=path.replace(".", "_"), part=_PARTS.get(part, part))


def kind_of(key: str) -> str:
    """What to call the kind of a key that is not applied."""
    return next(
        (kind for pattern, kind in _KINDS.items() if re.search(pattern, key)),
        "a kind that sdrt does not know",
    )
