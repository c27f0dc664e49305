"""How near one picture is to another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_WINDOW, _SIGMA = 11, 1.5
_K_1, _K_2, _L = 0.01, 0.03, 255.0


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures of 8 bits, in dB; inf if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(_L**2 / error))


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Structural similarity of two pictures [H, W, 3] of 8 bits: the mean over places and channels.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13,
    with the paper's Gaussian window of 11 x 11 and sigma 1.5, wherever it lies within the picture; 1 if they
    are equal. The paper compares luma alone; here each of R, G and B counts, so that hues do too.
    Raises ValueError for a picture smaller than the window.
    """
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"a picture of {a.shape[1]}x{a.shape[0]} is smaller than SSIM's window")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mu_x, mu_y = _blurred(x), _blurred(y)
    sigma_xx = _blurred(x * x) - mu_x**2
    sigma_yy = _blurred(y * y) - mu_y**2
    sigma_xy = _blurred(x * y) - mu_x * mu_y
    c_1, c_2 = (_K_1 * _L) ** 2, (_K_2 * _L) ** 2
    luminance_contrast = (2 * mu_x * mu_y + c_1) * (2 * sigma_xy + c_2)
    return float((luminance_contrast / ((mu_x**2 + mu_y**2 + c_1) * (sigma_xx + sigma_yy + c_2))).mean())


def _blurred(image: NDArray[Any]) -> NDArray[Any]:
    """The Gaussian mean around each place where the window fits: [H - 10, W - 10, 3]."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    down = sliding_window_view(image, _WINDOW, axis=0) @ weights
    return sliding_window_view(down, _WINDOW, axis=1) @ weights
