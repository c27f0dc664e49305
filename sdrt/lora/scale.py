"""How strong a module of a LoRA was trained to be: alpha / rank, from tensors or from PEFT's config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sdrt.errors import InputError
from sdrt.lora.targets import Target
from sdrt.safetensors_file import SafetensorsFile
from sdrt.strict_json import read_json

# where diffusers writes PEFT's configs, as one JSON object with `unet.` and so on before the names
_CONFIGS = "lora_adapter_metadata"
_LARGEST = 1e30  # of float32's numbers; also leaves out NaN, and whole numbers that are no float


class Scales:
    """The scales of one file."""

    def __init__(self, file: SafetensorsFile) -> None:
        """Raises InputError if the configs in its metadata are no JSON object."""
        self._file = file
        try:
            self._configs: Any = read_json(file.metadata.get(_CONFIGS, "{}"))
        except ValueError:
            self._configs = None
        if not isinstance(self._configs, dict):
            raise InputError(f"{_CONFIGS} in the metadata of {file.path} is no JSON object")

    def of(self, alpha_key: str | None, rank: int | None, target: Target) -> float:
        """Scale of a module of this rank. alpha_key: of its alpha, if it has one; else alpha is the rank.

        Raises InputError if alpha is no finite number.
        """
        if rank is None:
            return 1.0  # LoKr of two whole factors, whose alpha means nothing
        config = {
            name.partition(".")[2]: value
            for name, value in self._configs.items()
            if name.partition(".")[0] == target.component
        }
        alpha = self._configured(config, target) if alpha_key is None else self.number(alpha_key, target)
        if alpha is None:
            return 1.0
        return self._checked(alpha, target) / (math.sqrt(rank) if config.get("use_rslora") is True else rank)

    def number(self, key: str, target: Target) -> float:
        """Alpha as a tensor of one number, whole or not. Raises InputError if it is something else."""
        if math.prod(self._file.shape(key)) != 1:
            raise InputError(f"{key} in {self._file.path} should be one number; the file is damaged")
        return self._checked(self._file[key].item(), target)

    def _checked(self, alpha: Any, target: Target) -> float:
        if type(alpha) not in (int, float) or not abs(alpha) <= _LARGEST:
            raise InputError(f"alpha of {target.parameter} in {self._file.path} is no finite number")
        return float(alpha)

    def _configured(self, config: Mapping[str, Any], target: Target) -> Any:
        """PEFT's lora_alpha, or that of a pattern which ends the module's name."""
        module = target.parameter.removesuffix(".weight")
        patterns = config.get("alpha_pattern")
        for pattern, alpha in patterns.items() if isinstance(patterns, dict) else ():
            if f".{module}".endswith("." + pattern.removeprefix("^").removeprefix("text_model.")):
                return alpha
        return config.get("lora_alpha")
