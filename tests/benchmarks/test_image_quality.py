"""PSNR and SSIM against their definitions, written out with loops."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt_bench.image_quality import psnr, ssim


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (16, 14, 3), np.uint8)


def test_equal_pictures(picture):
    assert psnr(picture, picture) == float("inf")
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-12)


def test_psnr_of_one_level_everywhere(picture):
    dark = np.minimum(picture, 254)
    assert psnr(dark, dark + 1) == pytest.approx(20 * np.log10(255), abs=1e-9)


def test_ssim_is_its_definition(picture):
    other = np.clip(picture.astype(int) + np.random.default_rng(1).integers(-40, 41, picture.shape), 0, 255)
    other = other.astype(np.uint8)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(16 - 10):
        for left in range(14 - 10):
            for channel in range(3):
                x, y = (
                    image[top : top + 11, left : left + 11, channel].astype(float)
                    for image in (picture, other)
                )
                mu_x, mu_y = (window * x).sum(), (window * y).sum()
                xx, yy = (window * (x - mu_x) ** 2).sum(), (window * (y - mu_y) ** 2).sum()
                xy = (window * (x - mu_x) * (y - mu_y)).sum()
                c_1, c_2 = 6.5025, 58.5225
                values.append(
                    (2 * mu_x * mu_y + c_1) * (2 * xy + c_2) / ((mu_x**2 + mu_y**2 + c_1) * (xx + yy + c_2))
                )
    assert ssim(picture, other) == pytest.approx(np.mean(values), abs=1e-10)


def test_too_small():
    with pytest.raises(ValueError, match="10x20 is smaller"):
        ssim(np.zeros((20, 10, 3), np.uint8), np.zeros((20, 10, 3), np.uint8))
