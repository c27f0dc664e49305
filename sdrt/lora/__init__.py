"""LoRA: low-rank changes of a model's weights, from .safetensors files of any trainer.

| file | is |
|---|---|
| `keys.py` | what the keys of a file say |
| `targets.py` | which parameter they mean |
| `factors.py`, `rotations.py`, `scaling.py` | what a module's factors change |
| `kinds.py` | which kind of change factors are, by their names |
| `magnitudes.py` | DoRA's norms |
| `scale.py` | alpha / rank |
| `matching.py` | files and a model, checked as a whole before anything is applied |
| `changes.py` | the sum |
| `overrides.py` | the same for the graphs of a bundle |
| `tags.py` | LoRAs that a prompt names |
| `distilled.py` | LoRAs that need few steps, and what they are meant for |
"""

from sdrt.lora.changes import NO_LORAS, Adaptation, AppliedLora, Change, add
from sdrt.lora.keys import Component
from sdrt.lora.matching import adapt
from sdrt.lora.overrides import adapt_bundle, merged_initializers

__all__ = [
    "NO_LORAS",
    "Adaptation",
    "AppliedLora",
    "Change",
    "Component",
    "adapt",
    "adapt_bundle",
    "add",
    "merged_initializers",
]
