"""Which pictures are made at once.

Pictures of a batch may have their own prompts, samplers, steps, guidance and seeds (`sdrt.denoise`). They
have one size, prompts of one length and one plan for deep features, and take about equally many evaluations:
one that has ended stands still, but its rows are computed until the last one ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sdrt.request import Request

if TYPE_CHECKING:
    from sdrt.samplers import SamplerTable
    from sdrt.samples import Conditions
    from sdrt.starting_picture import GivenPicture

# pictures that are looked at to fill a batch; those made early wait for their turn, 50 MB at 512x512
_LOOK_AHEAD = 64
# of the evaluations of the longest: idle rows are at most a fifth of a batch
_LEAST_EVALUATIONS = 0.8


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """How the parts of a `Prepared` are made."""

    table: Callable[[Request], SamplerTable]
    conditions: Callable[[Request, SamplerTable], Conditions]
    given: Callable[[Request], GivenPicture | None]


class Prepared:
    """What pictures that differ in their seeds alone share; each part is made when it is first asked for."""

    def __init__(self, request: Request, preparing: Preparing) -> None:
        self.request = request
        self._preparing = preparing

    @cached_property
    def table(self) -> SamplerTable:
        """The sampler's."""
        return self._preparing.table(self.request)

    @cached_property
    def conditions(self) -> Conditions:
        """What the network is told, before it is shown a picture."""
        return self._preparing.conditions(self.request, self.table)

    @cached_property
    def given(self) -> GivenPicture | None:
        """The picture that the request gives."""
        return self._preparing.given(self.request)

    @cached_property
    def tokens(self) -> int:
        """How long its prompts are."""
        return len(self.conditions.rows[0]["encoder_hidden_states"])

    @cached_property
    def changing(self) -> frozenset[int]:
        """The evaluations at which it is told or weighed otherwise."""
        return frozenset({*self.conditions.changes, *self.conditions.reweighed})

    @cached_property
    def rows(self) -> Mapping[int, int]:
        """How many rows it runs, from an evaluation on."""
        weighed = {0: self.conditions.guidance, **self.conditions.reweighed}
        return {k: sum(weight != 0.0 for weight in weights) for k, weights in weighed.items()}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One picture to be: the `index`-th of the run, from 0; its request has a count of 1."""

    index: int
    request: Request
    prepared: Prepared


@dataclass(frozen=True, kw_only=True)
class Limits:
    """most: how many pictures of a size, (width, height), are made at once.

    same_rows: pictures of a batch run equally many rows each, for that is what engines were built for.
    """

    most: Mapping[tuple[int, int], int]
    same_rows: bool


def batches(requests: Iterable[Request], preparing: Preparing, limits: Limits) -> Iterator[list[Placed]]:
    """All pictures of `requests`: the first that is left, and those near it that fit, again and again."""
    # pictures that were given are large: they are forgotten with the last picture that waits for them
    known: WeakValueDictionary[Request, Prepared] = WeakValueDictionary()

    def prepared(request: Request) -> Prepared:
        found = known.get(request)
        if found is None:
            found = known[request] = Prepared(request, preparing)
        return found

    coming = (
        Placed(index=index, request=one, prepared=prepared(replace(one, seed=0)))
        for index, one in enumerate(one for request in requests for one in singles(request))
    )
    waiting: deque[Placed] = deque()
    while True:
        waiting.extend(islice(coming, _LOOK_AHEAD - len(waiting)))
        if not waiting:
            return
        batch: list[Placed] = [waiting.popleft()]
        others: list[Placed] = []
        most = limits.most[batch[0].request.width, batch[0].request.height]
        while waiting and len(batch) < most:
            one = waiting.popleft()
            fits = _fits([placed.prepared for placed in batch], one.prepared, same_rows=limits.same_rows)
            (batch if fits else others).append(one)
        waiting.extendleft(reversed(others))
        yield batch


def singles(request: Request) -> Iterator[Request]:
    """A request for each of its pictures: picture i has seed + i."""
    return (replace(request, seed=(request.seed + i) % 2**64, count=1) for i in range(request.count))


def _fits(batch: list[Prepared], one: Prepared, *, same_rows: bool) -> bool:
    """What costs least to find out comes first: of most others no prompt is encoded before its turn."""
    first = batch[0]
    if one is first:
        return True
    if _shape(one.request) != _shape(first.request):
        return False
    lengths = [other.table.evaluations for other in (*batch, one)]
    if min(lengths) < _LEAST_EVALUATIONS * max(lengths) or one.tokens != first.tokens:
        return False
    if one.request.deep_cache > 1 and one.changing != first.changing:
        return False
    return not same_rows or one.rows == first.rows


def _shape(request: Request) -> tuple[object, ...]:
    # image guidance adds a row that conditions do not know of yet
    return request.width, request.height, request.deep_cache, request.image_guidance
