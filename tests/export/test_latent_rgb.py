"""The map from latents to RGB: right where it can be, and no reason to refuse a model where it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.errors import BundleError
from sdrt.manifest import FILE_NAME, VaeSettings, read
from sdrt_export import latent_rgb

SETTINGS = VaeSettings(scaling_factor=0.2, scale_factor=8, latent_channels=4)
COLOURS = np.array([[0.5, 0.1, -0.2], [0.0, 0.4, 0.3], [-0.3, 0.2, 0.6]])  # of three latents
BIAS = np.array([0.1, -0.05, 0.0])


class Vae:
    """Either half of one whose latents are linear in the mean colours of pixels; the fourth is constant."""

    def __init__(self, path, precision, bad=0.0):
        self._encodes = "vae_encoder" in str(path)
        self._bad = bad

    def get_inputs(self):
        return [type("Input", (), {"type": "tensor(float)"})]

    def run(self, outputs, feeds):
        (given,) = feeds.values()
        if self._encodes:
            cells = given.reshape(1, 3, 8, 8, 8, 8).mean((3, 5))
            latents = np.einsum("ij,bihw->bjhw", np.linalg.inv(COLOURS), cells - BIAS[:, None, None])
            latents = np.concatenate([latents, np.full((1, 5, 8, 8), 0.7 + self._bad)], axis=1)
            return [latents.astype(np.float32)]
        cells = np.einsum("ji,bjhw->bihw", COLOURS, given[:, :3]) + BIAS[:, None, None]
        return [cells.repeat(8, 2).repeat(8, 3).astype(np.float32)]


def fit():
    return latent_rgb.fit_latent_rgb(DEMO, read(DEMO / FILE_NAME).graphs, SETTINGS, "fp32")


def test_linear_vae_is_found_again(monkeypatch):
    monkeypatch.setattr(latent_rgb, "open_session", Vae)
    found = fit()
    # factors are of scaled latents; those of the constant channel are shared with the bias
    np.testing.assert_allclose(np.array(found.factors)[:3] * 0.2, COLOURS, atol=1e-5)
    bias = np.array(found.bias) + 0.7 * 0.2 * np.array(found.factors[3])
    np.testing.assert_allclose(bias, BIAS, atol=1e-5)
    assert found.psnr > 90


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vae_that_fails_has_none(monkeypatch, bad):
    monkeypatch.setattr(latent_rgb, "open_session", lambda path, precision: Vae(path, precision, bad))
    assert fit() is None


def test_manifest_with_another_number_of_factors(tmp_path):
    fields = json.loads((DEMO / FILE_NAME).read_text())
    fields["vae"]["latent_rgb"]["factors"].pop()
    (tmp_path / FILE_NAME).write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="latent_rgb has 3 factors for 4 channels"):
        read(tmp_path / FILE_NAME)
