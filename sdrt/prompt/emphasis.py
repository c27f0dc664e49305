"""Weights applied to hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def emphasize(states: NDArray[np.floating], weights: Sequence[float]) -> NDArray[np.float32]:
    """Hidden states of one chunk times the weights of its tokens, with their mean as it was before.

    states: [L, D]; weights: L; returns [L, D] float32, a new array. Weights that are all 1 change no bit.
    AUTOMATIC1111's emphasis `Original` (`modules/sd_emphasis.py` of stable-diffusion-webui): the mean is
    one number, over all tokens and channels, begin, end and padding included. There it is also over all texts
    of a schedule, which are encoded together; here each text is by itself.
    Where one of the means is 0, no factor restores it, and the weighted states stay as they are; in
    AUTOMATIC1111 they become 0, infinite or NaN. Means are computed in float64.
    """
    plain = states.astype(np.float32)
    if all(weight == 1 for weight in weights):
        return plain
    weighted = plain * np.asarray(weights, np.float32)[:, None]
    before, after = plain.mean(dtype=np.float64), weighted.mean(dtype=np.float64)
    if before == 0 or after == 0:
        return weighted
    return weighted * np.float32(before / after)
