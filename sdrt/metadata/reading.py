"""A picture to the settings it was made with, by whichever program's text it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sdrt.errors import InputError
from sdrt.metadata import keywords
from sdrt.metadata.automatic1111 import read_parameters
from sdrt.metadata.comfyui import read_graph
from sdrt.metadata.image_texts import PictureTexts, read_texts
from sdrt.metadata.invokeai import read_metadata, read_old_metadata
from sdrt.metadata.others import described
from sdrt.metadata.own import read_own
from sdrt.metadata.recorded import RecordedSettings

# in this order: extensions of ComfyUI write AUTOMATIC1111's text beside the graph, with hashes of the files
_READERS: Mapping[str, Callable[[str], RecordedSettings]] = {
    keywords.OWN: read_own,
    keywords.INVOKEAI: read_metadata,
    keywords.OLD_INVOKEAI: read_old_metadata,
    keywords.PARAMETERS: read_parameters,
    keywords.COMFYUI: read_graph,
}


def read_settings(path: Path | str) -> RecordedSettings:
    """How a picture was made, as far as it says: one of sdrt, AUTOMATIC1111, ComfyUI or InvokeAI.

    Raises InputError if the file is no picture, says nothing, or says what no such program writes.
    """
    found = settings_of(read_texts(Path(path)), str(path))
    if found is None:
        raise InputError(f"{path} does not say how it was made")
    return found


def settings_of(picture: PictureTexts, called: str) -> RecordedSettings | None:
    """The same of a picture's texts; None if none of them says how it was made.

    Raises InputError, also for a picture of a program whose texts are not read, with its name.
    """
    for keyword, read in _READERS.items():
        if keyword in picture.texts:
            try:
                return read(picture.texts[keyword])
            except InputError as error:
                if picture.program is not None and keyword == keywords.PARAMETERS:
                    break  # others call their own texts so
                raise InputError(f"{called}: {error}") from None
    if picture.program is not None:
        raise InputError(f"{called} {described(picture.program)}")
    return None
