"""A component's parameters in a file, checked against its module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sdrt.errors import ExportError

from ..parameters import Tensors
from .names import Part, Place, find_places, left_over

MEND = "the file is damaged or its model is built otherwise; give its configs with --config FOLDER"


class PlacedWeights:
    """Parameters, each taken from its place in a file when it is asked for, in the file's dtype."""

    def __init__(self, file: Tensors, places: Mapping[str, Place]) -> None:
        self._file = file
        self._places = places

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        return place.take(self._file[place.key])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter, without reading it."""
        place = self._places[name]
        return place.shape(self._file.shape(place.key))


def open_part(file: Tensors, part: Part, model: nn.Module) -> PlacedWeights:
    """Find every parameter of an empty module in a file.

    Raises ExportError, naming the key, if one is missing, of another shape, of a type that sdrt cannot
    export, or if the file has keys of this component that the module has no use for.
    """
    keys = set(file)
    parameters = dict(model.named_parameters())
    places = find_places(part, parameters, keys)
    # a config can ask for layers that the original code bases never had
    nameless = [name for name in parameters if name not in places]
    missing = [place.key for place in places.values() if place.key not in keys]
    if nameless or missing:
        raise _unfit(file, "has no", [*missing, *nameless])
    weights = PlacedWeights(file, places)
    wrong = [name for name, parameter in parameters.items() if weights.shape(name) != tuple(parameter.shape)]
    if wrong:
        key = places[wrong[0]].key
        expected, found = tuple(parameters[wrong[0]].shape), weights.shape(wrong[0])
        raise ExportError(f"{file.path} has {key} for a layer of {found}, expected {expected}; {MEND}")
    if rest := left_over(part, places, sorted(keys)):
        raise _unfit(file, "has, without use,", rest)
    for place in places.values():
        file.dtype(place.key)
    return weights


def _unfit(file: Tensors, has: str, keys: Sequence[str]) -> ExportError:
    more = f" ({len(keys)} such keys)" if len(keys) > 1 else ""
    return ExportError(f"{file.path} {has} {keys[0]}{more}; {MEND}")
