"""Which parameter a LoRA file means: the spellings of all names, made from the names themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sdrt.lora.keys import Component, Key
from sdrt.original_names import original_unet_names

_WEIGHT = ".weight"
_OF_TEXT_ENCODERS = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))

# parameters of the components by name, with their shapes as PyTorch has them
Parameters = Mapping[Component, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parameter that a LoRA changes; its shape is PyTorch's: [out, in] or [out, in, height, width]."""

    component: Component
    parameter: str
    shape: tuple[int, ...]


class Targets:
    """The matrices and convolutions of a model by the paths that LoRA files have for them."""

    def __init__(self, parameters: Parameters) -> None:
        self.components = tuple(parameters)
        self._found: dict[Component, dict[str, Target]] = {}
        for component, shapes in parameters.items():
            weights = [name for name, shape in shapes.items() if len(shape) > 1 and name.endswith(_WEIGHT)]
            original = original_unet_names(weights) if component == "unet" else {}
            self._found[component] = {
                spelling.removesuffix(_WEIGHT).replace(".", "_"): Target(
                    component=component, parameter=name, shape=shapes[name]
                )
                for name in weights
                for spelling in _spellings(component, name, original.get(name))
            }

    def find(self, key: Key) -> Target | None:
        """The parameter that a key changes; None if there is none, or if it could be of two components."""
        components = self.components if key.component is None else (key.component,)
        found = [self._found.get(component, {}).get(key.path) for component in components]
        targets = [target for target in found if target is not None]
        return targets[0] if len(targets) == 1 else None


def _spellings(component: Component, name: str, original: str | None) -> Iterator[str]:
    if component == "unet":
        yield name
        if original is not None:
            yield original
        yield name.replace(".to_out.0.", ".to_out.")  # diffusers' first files
        return
    # whether there is a text_model. in front depends on the release of transformers, and on the class
    bare = name.removeprefix("text_model.")
    for spelling in (bare, *(bare.replace(f".{new}.", f".{old}.") for new, old in _OF_TEXT_ENCODERS)):
        yield spelling
        yield f"text_model.{spelling}"
