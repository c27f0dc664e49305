"""Names of many pictures from one pattern: `out/{index:04}-{seed}-{prompt}.png`."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sdrt.errors import InputError, UnknownNameError
from sdrt.image_files import slug
from sdrt.request import Request

_OTHER_NAMES = {"guidance": "guidance_scale", "negative": "negative_prompt"}
# what a pattern may say of any picture: where it is in the run, the model, and all that its request says
FIELDS = (
    "index",
    "model",
    *_OTHER_NAMES,
    *(field.name for field in fields(Request) if field.name != "count"),
)
# Python's, without what could make a name as long as memory, or with another folder in it
_SPEC = re.compile(r"[-_]?[<>^]?0?\d{0,2}(\.\d{1,2})?[dgfs]?")


class NamePattern:
    """A path with fields in braces; `{{` is a brace. Without a field it is an ordinary path."""

    def __init__(self, pattern: Path) -> None:
        self._pattern = pattern
        try:
            parsed = list(string.Formatter().parse(str(pattern)))
        except ValueError as error:
            raise InputError(f"{pattern} is no pattern of names: {error}; write {{{{ for a brace") from None
        self._parts = [(text, None if name is None else (name, spec or "")) for text, name, spec, _ in parsed]
        for name, spec in filter(None, (field for _, field in self._parts)):
            if not _SPEC.fullmatch(spec):
                raise InputError(
                    f"{pattern}: {{{name}:{spec}}} is no format; write {{index:04}} or {{prompt:.20}}"
                )

    @property
    def fields(self) -> list[str]:
        """Their names."""
        return [field[0] for _, field in self._parts if field is not None]

    @property
    def folder(self) -> Path:
        """The part that is the same for all: this folder must be there, those below it are made."""
        before = ""
        for text, name in self._parts:
            before += text
            if name is not None:
                break
        return Path(f"{before}x").parent

    def check(self, columns: Collection[str] = ()) -> None:
        """Raise UnknownNameError for a field that is none of FIELDS, nor of `columns`."""
        for name in self.fields:
            if name not in FIELDS and name not in columns:
                raise UnknownNameError("field in the name of the output", name, [*columns, *FIELDS])

    def path(self, values: Mapping[str, Any]) -> Path:
        """The name of one picture. Text becomes a-z, 0-9 and dashes, so no field can name another folder.

        Raises InputError if a value cannot be written as its field wants it.
        """
        written = []
        for text, field in self._parts:
            written.append(text)
            if field is not None:
                written.append(self._written(values, *field))
        return Path("".join(written))

    def _written(self, values: Mapping[str, Any], name: str, spec: str) -> str:
        value = values[_OTHER_NAMES.get(name, name)]
        if isinstance(value, float) and not spec:
            spec = "g"
        if not isinstance(value, int | float):
            value = slug(_text(value)) or name
        try:
            return format(value, spec)
        except ValueError as error:
            raise InputError(f"{self._pattern}: cannot write {name} {value!r} as {spec!r}: {error}") from None


def _text(value: Any) -> str:
    if isinstance(value, Path):
        return value.stem
    return " ".join(map(_text, value)) if isinstance(value, tuple) else str(value)
