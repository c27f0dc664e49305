"""What the keys of a LoRA file say: which module, and which part of its change.

kohya's trainer and LyCORIS write `lora_unet_<path with underscores>.lora_down.weight`, PEFT and diffusers
`unet.<path>.lora_A.weight`, and older diffusers `unet.<path>.lora.down.weight` or
`unet.<path>.processor.to_q_lora.down.weight`; ComfyUI `diffusion_model.<path>` and
`text_encoders.clip_l.transformer.<path>`. Only the ends differ: the paths are looked up, not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Parameter = Literal["weight", "bias"]
Component = Literal["text_encoder", "text_encoder_2", "unet"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

_COMFYUI: dict[str, Component] = {
    "clip_l": "text_encoder",
    "clip_h": "text_encoder",
    "clip_g": "text_encoder_2",
}
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
    **{
        f"{outer}{encoder}.{inner}": component
        for outer in ("text_encoders.", "")
        for encoder, component in _COMFYUI.items()
        for inner in ("transformer.", "")
    },
}
_PEFT = "base_model.model."
_COMPILED = "_orig_mod."  # where a module begins that torch.compile took
_PARTS = {"A": "down", "B": "up", "w_norm": "diff", "b_norm": "diff", "diff_b": "diff"}
_OF_BIASES = ("b_norm", "diff_b")
_KEY = re.compile(
    r"""(?P<path>.+?)
    (?: \.lora_(?P<kohya>down|up|mid)\.weight
      | \.lora_(?P<peft>[AB])(?:\.\w+)?\.weight
      | [._]lora(?:_linear_layer)?\.(?P<diffusers>down|up)\.weight
      | (?:[._]lora(?:_linear_layer)?)?\.(?P<alpha>alpha)
      | \.(?P<lycoris>hada_[wt][12](?:_[ab])?|lokr_(?:w[12](?:_[ab])?|t2)|oft_blocks|rescale|on_input)
      | \.(?P<difference>diff(?:_b)?|[wb]_norm)
      | \.(?P<glora>[ab][12])\.weight
      | \.(?P<dora>dora_scale)
      | \.(?P<magnitude>lora_magnitude_vector)(?:\.\w+)*
    )""",
    re.VERBOSE,
)
# what people call the kinds that are not applied, by what their keys have in them
_KINDS = {
    r"\.(oft_[Rrs]|boft_[Rs])\b": "OFT of PEFT, whose settings stand in another file",
    r"\.ia3_l\b": "IA3 of PEFT, which changes biases too",
    r"\.lora_E\b|\.ranknum\b": "AdaLoRA",
    r"\.vera_lambda": "VeRA",
    r"\.bm\.weight$": "GLoRA with a core",
    r"\.lokr_t1$": "LoKr with a core in its first factor",
    r"\.bias$|\.bias_(indices|values|size)$": "changes of biases",
    r"\.(set_weight|reshape_weight)$": "new weights in place of changes",
    r"\.lora_embedding|^bundle_emb\.|^emb_params$|^clip_[lg]$": "embeddings",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """What one key says.

    component: None if the file leaves it open. path: of the module, with underscores for dots.
    parameter: which of the module's is changed.
    part: `down`, `up`, `mid`, `alpha`, `diff`, `dora_scale`, `lora_magnitude_vector`, or LyCORIS's name of a
    factor, such as `hada_w1_a`.
    """

    component: Component | None
    path: str
    parameter: Parameter
    part: str


def parse_key(key: str) -> Key | None:
    """Read a key; None if it is not one of a kind that is applied."""
    found = _KEY.fullmatch(key.replace(_COMPILED, ""))
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
    return Key(
        component=component,
        path=path.replace(".", "_"),
        parameter="bias" if part in _OF_BIASES else "weight",
        part=_PARTS.get(part, part),
    )


def kind_of(key: str) -> str:
    """What to call the kind of a key that is not applied."""
    return next(
        (kind for pattern, kind in _KINDS.items() if re.search(pattern, key)),
        "a kind that sdrt does not know",
    )
