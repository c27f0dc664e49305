"""Which parameter a LoRA file means: the spellings of all names, made from the names themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from sdrt.lora.keys import Component, Key, Parameter
from sdrt.original_names import original_unet_names

_OF_TEXT_ENCODERS = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))

# parameters of the components by name, with their shapes as PyTorch has them
Parameters = Mapping[Component, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parameter that a LoRA changes.

    Its shape is PyTorch's: [out, in] or [out, in, height, width]; [channels] of biases and norms.
    """

    component: Component
    parameter: str
    shape: tuple[int, ...]


class Targets:
    """The parameters of a model by the paths that LoRA files have for their modules."""

    def __init__(self, parameters: Parameters) -> None:
        self.components = tuple(parameters)
        self._found: dict[Component, dict[tuple[str, Parameter], Target]] = {}
        for component, shapes in parameters.items():
            original = original_unet_names(shapes) if component == "unet" else {}
            found = self._found[component] = {}
            for parameter in get_args(Parameter):
                end = f".{parameter}"
                for name in shapes:
                    if name.endswith(end):
                        target = Target(component=component, parameter=name, shape=shapes[name])
                        for spelling in _spellings(component, name, original.get(name)):
                            found[spelling.removesuffix(end).replace(".", "_"), parameter] = target

    def find(self, key: Key) -> Target | None:
        """The parameter that a key changes; None if there is none, or if it could be of two components."""
        components = self.components if key.component is None else (key.component,)
        wanted = (key.path, key.parameter)
        found = [self._found.get(component, {}).get(wanted) for component in components]
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
