"""The original layout's names against diffusers' own conversion of single files."""

import pytest

from sdrt.original_names import original_unet_names

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_every_parameter_has_the_name_that_diffusers_reads(name):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from sdrt_export.random_models import ARCHITECTURES

    with torch.device("meta"):
        unet = ARCHITECTURES[name].build("unet")
    parameters = list(unet.state_dict())
    original = original_unet_names(parameters)
    assert list(original) == parameters
    named = {"model.diffusion_model." + original[parameter]: parameter for parameter in parameters}
    assert len(named) == len(parameters)
    back = convert_ldm_unet_checkpoint(named, dict(unet.config))
    assert back == {parameter: parameter for parameter in parameters}


def test_a_name_without_a_place_is_left_out():
    assert original_unet_names(["encoder_hid_proj.weight"]) == {}
