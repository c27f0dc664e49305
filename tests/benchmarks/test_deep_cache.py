"""The deep-cache benchmark measures and reports; how fast it is, is for its report to say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from sdrt_bench import deep_cache


def test_figures_of_each_interval(monkeypatch):
    """With pictures that need no bundle: noise that grows with the interval."""

    def generate(bundle, prompts):
        rng = np.random.default_rng(0)
        first = rng.integers(100, 150, (len(prompts), 64, 64, 3))
        noise = rng.integers(0, 10, first.shape)
        pictures = {n: list((first + (n - 1) * noise).astype(np.uint8)) for n in deep_cache.INTERVALS}
        return pictures, {n: [1.0 / n] * len(prompts) for n in deep_cache.INTERVALS}

    monkeypatch.setattr(deep_cache, "_generate", generate)
    figures = deep_cache.measure("no bundle", count=40)
    assert list(figures) == ["1", "2", "3", "5"]
    assert "psnr_db" not in figures["1"]
    near = [figures[n]["psnr_db"]["median"] for n in ("2", "3", "5")]
    assert near == sorted(near, reverse=True)
    # noise of 0 to 9 is 5.34 in the mean of squares' root: 20 log10(255 / 5.34)
    assert near[0] == pytest.approx(33.6, abs=0.1)
    assert figures["5"]["seconds"] == 0.2
    assert 0 <= figures["1"]["score"]["colour_shape_background"] <= 1
