"""Full-size models: every matrix and convolution is found under each of its names, and no name means two."""

from __future__ import annotations

import pytest

from sdrt.lora.keys import COMPONENTS, parse_key
from sdrt.lora.targets import Targets
from sdrt.original_names import original_unet_names

pytest.importorskip("torch")

PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_every_name_finds_its_own_parameter(name):
    from sdrt_export.sources import open_source

    checkpoint = open_source(f"random:{name}")
    parameters = {
        component: {key: tuple(one.shape) for key, one in checkpoint.build(component).named_parameters()}
        for component in COMPONENTS
        if component in checkpoint.parameters
    }
    targets = Targets(parameters)
    found = 0
    for component, shapes in parameters.items():
        original = original_unet_names(shapes) if component == "unet" else {}
        for parameter, shape in shapes.items():
            if len(shape) == 1 or not parameter.endswith(".weight"):
                continue
            found += 1
            for path in {parameter, original.get(parameter, parameter)}:
                module = path.removesuffix(".weight")
                for prefix in (PREFIXES[component] + module.replace(".", "_"), f"{component}.{module}"):
                    target = targets.find(parse_key(f"{prefix}.lora_down.weight"))
                    assert target is not None, prefix
                    assert (target.component, target.parameter) == (component, parameter)
    assert found > 300
