"""Reuse of deep features between evaluations: which of them run the full U-Net.

DeepCache; Ma, Fang, Wang 2023, https://arxiv.org/abs/2312.00858, with their uniform intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdrt.backends import Backend
from sdrt.errors import InputError
from sdrt.samples import Conditions


@dataclass(frozen=True, kw_only=True)
class DeepCache:
    """The shallow graph of a U-Net, run in all but one of `interval` evaluations."""

    shallow: Backend
    interval: int

    def reuses(self, conditions: Sequence[Conditions], evaluations: int) -> frozenset[int]:
        """The evaluations of a batch that reuse the deep features of an earlier one.

        None does at which rows are told another thing or weighed otherwise: each such evaluation is full, and
        the interval starts anew. Raises InputError if that is not the same for all pictures of the batch, for
        a picture would depend on its batch then.
        """
        plans = {self._reuses(one, evaluations) for one in conditions}
        if len(plans) > 1:
            raise InputError(
                "the pictures of one batch change their prompts or guidance at different evaluations; "
                "with deep_cache they must not share a batch"
            )
        return plans.pop()

    def _reuses(self, conditions: Conditions, evaluations: int) -> frozenset[int]:
        changed = {*conditions.changes, *conditions.reweighed}
        first, reusing = 0, []
        for k in range(evaluations):
            if k in changed:
                first = k
            if (k - first) % self.interval:
                reusing.append(k)
        return frozenset(reusing)
