"""`sdrt info` of a picture: who wrote it, what it says, and what of that `--from` takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdrt.cli.terminal import echo, echo_json
from sdrt.errors import InputError
from sdrt.strict_json import read_json

_NOTHING: tuple[object, ...] = (None, "", [], {})


def show_picture(path: Path, as_json: bool) -> None:
    """Print how a picture was made. Raises InputError for no picture, or where sdrt's own text is broken."""
    from sdrt.metadata import OWN, PARAMETERS, RecordedSettings, parse_parameters
    from sdrt.metadata.image_texts import read_texts
    from sdrt.metadata.reading import settings_of

    found = read_texts(path)
    recorded: RecordedSettings | None = None
    refused: str | None = None
    try:
        recorded = settings_of(found, str(path))
    except InputError as error:
        if OWN in found.texts:
            raise
        refused = str(error).removeprefix(f"{path}: ")
    said = {key: _object(text) for key, text in found.texts.items() if key != PARAMETERS}
    parameters = parse_parameters(found.texts[PARAMETERS]) if PARAMETERS in found.texts else None
    if as_json:
        read = {} if recorded is None else _read(recorded)
        everything = {"size": list(found.size), **read, OWN: None, **said, PARAMETERS: parameters}
        echo_json({**everything, "refused": refused})
        return
    width, height = found.size
    by = "" if recorded is None else f", made by {recorded.writer}"
    echo(f"{path}: {width}x{height}{by}")
    if not found.texts:
        echo("it does not say how it was made")
    raw = said.get(OWN) or parameters or ({} if recorded is None else _read(recorded))
    for key, value in raw.items():
        if value not in _NOTHING:
            echo(f"  {key}: {_line(value)}")
    for note in _notes(recorded, refused):
        echo(f"  note: {note}")


def _read(recorded: Any) -> dict[str, Any]:
    """All that was read, as JSON has it; nothing of what the picture does not say."""
    import msgspec

    read: dict[str, Any] = msgspec.to_builtins(recorded)
    return {key: value for key, value in read.items() if value not in _NOTHING}


def _notes(recorded: Any, refused: str | None) -> Iterator[str]:
    if refused is not None:
        yield f"it cannot be made again: {refused}"
    if recorded is not None:
        yield from recorded.notes
        yield from (f"{name} is wanted: {reason}" for name, reason in recorded.wanted.items())


def _object(text: str) -> Any:
    """What a text says if it is JSON, else the text."""
    try:
        return read_json(text, nul=True, constants=True)
    except ValueError:
        return text


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_line(one)}" for key, one in value.items())
    return ", ".join(map(_line, value)) if isinstance(value, list | tuple) else str(value)
