"""The map from latents to RGB with which the runtime shows a step without decoding it.

Latents of a Stable Diffusion VAE are nearly a small picture: a linear map of their channels gives the mean
colour of the pixels under each. It is fitted by least squares to the bundle's own VAE, which is given drawn
pictures, and measured on others. What it is to be near to is the decoded picture and not the drawn one: a
VAE that knows a few colours, as the demo model's, shows others as one of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdrt.backends.failures import one_line
from sdrt.errors import ExportError
from sdrt.manifest import GraphEntry, GraphName, LatentRgb, Precision, VaeSettings

from .fidelity import open_session

Floats = NDArray[np.float64]
_SIZE = 64  # pixels; there and back through a full-size VAE takes 50 GFLOP for one such picture
_FITTED, _MEASURED = 18, 6
_MOST_SHAPES = 5
_DIGITS = 6  # further ones differ with the processor


def fit_latent_rgb(
    folder: Path, graphs: Mapping[GraphName, GraphEntry], settings: VaeSettings, precision: Precision
) -> LatentRgb | None:
    """Fit and measure the map, with the VAE's graphs of the bundle in `folder`.

    None if the VAE gives NaN or infinity for one of the pictures: previews are no reason to refuse a model.
    Raises ExportError if a graph cannot be run.
    """
    try:
        examples = [*_examples(folder, graphs, settings, precision)]
    except Exception as failure:  # onnxruntime's have no base class of their own
        raise ExportError(f"onnxruntime cannot run the exported VAE: {one_line(failure)}") from failure
    if not all(np.isfinite(values).all() for example in examples for values in example):
        return None
    latents, colours = (np.stack(values) for values in zip(*examples, strict=True))
    solution = np.linalg.lstsq(_with_ones(latents[:_FITTED]), _flat(colours[:_FITTED]), rcond=None)[0]
    solution = np.round(solution, _DIGITS)
    shown = np.clip(_with_ones(latents[_FITTED:]) @ solution, -1, 1)
    psnr = 10 * np.log10(4 / np.square(shown - _flat(colours[_FITTED:])).mean())
    *factors, bias = solution.tolist()
    return LatentRgb(factors=tuple(map(tuple, factors)), bias=tuple(bias), psnr=round(float(psnr), 2))


def _flat(values: Floats) -> Floats:
    return values.reshape(-1, values.shape[-1])


def _with_ones(latents: Floats) -> Floats:
    """[..., C] to [n, C + 1]: a column for the bias."""
    return np.column_stack([_flat(latents), np.ones(latents[..., 0].size)])


def _examples(
    folder: Path, graphs: Mapping[GraphName, GraphEntry], settings: VaeSettings, precision: Precision
) -> Iterator[tuple[Floats, Floats]]:
    """Latents of pictures as samplers have them [n, C], and the mean colour of each one decoded [n, 3]."""
    channels, factor = settings.latent_channels, settings.scale_factor
    precise = graphs.get("vae_decoder_fp32")
    encoder = open_session(folder / graphs["vae_encoder"].path_for("onnxruntime"), precision)
    decoder = open_session(
        folder / (precise or graphs["vae_decoder"]).path_for("onnxruntime"), "fp32" if precise else precision
    )
    for picture in _draw(_FITTED + _MEASURED, _SIZE):
        means = _run(encoder, "latent_parameters", sample=picture[None])[:, :channels]
        decoded = np.clip(_run(decoder, "sample", latent_sample=means)[0], -1, 1)
        _, height, width = decoded.shape
        cells = decoded.reshape(3, height // factor, factor, width // factor, factor).mean((2, 4))
        yield settings.scaling_factor * means.reshape(channels, -1).T, cells.reshape(3, -1).T


def _run(session: Any, output: str, **inputs: Floats) -> Floats:
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[session.get_inputs()[0].type]
    (given,) = session.run([output], {name: value.astype(dtype) for name, value in inputs.items()})
    values: Floats = given.astype(np.float64)
    return values


def _draw(count: int, size: int) -> Iterator[Floats]:
    """Pictures [3, size, size] in -1..1: flat or smooth backgrounds with ellipses and rectangles on them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        picture = _smooth(rng.uniform(-1, 1, (3, *rng.integers(1, 6, 2))), size)
        for _ in range(rng.integers(_MOST_SHAPES + 1)):
            (top, left), (height, width) = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.4, 2)
            across, down = np.abs(x - left) / width, np.abs(y - top) / height
            inside = np.hypot(across, down) < 1 if rng.integers(2) else np.maximum(across, down) < 1
            picture = np.where(inside, rng.uniform(-1, 1, (3, 1, 1)), picture)
        yield picture


def _smooth(grid: Floats, size: int) -> Floats:
    """Colours [3, n, m] spread over [3, size, size], linear between their places."""
    for axis in (1, 2):
        places = np.linspace(0, grid.shape[axis] - 1, size)
        low = places.astype(int)
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        part = (places - low).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
        grid = grid.take(low, axis) * (1 - part) + grid.take(high, axis) * part
    return grid
