"""Files of prompts, each with its own settings: .txt, .jsonl and .csv."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt.errors import InputError, UnknownNameError
from sdrt.many.setting_words import find_setting, is_ignored, read_setting, spelled
from sdrt.strict_json import read_json

STANDARD_INPUT = Path("-")
_MAX_BYTES = 64 * 2**20

_Fields = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one line asks for.

    name: of the file; number: from 1. settings: keywords of `resolve_request`, `prompt` among them. columns:
    what else the line says, by the names that the caller knows.
    """

    name: str
    number: int
    settings: Mapping[str, Any]
    columns: Mapping[str, str]

    @property
    def where(self) -> str:
        """As messages say it."""
        return f"{self.name}, line {self.number}"


def read_prompts(path: Path, columns: Collection[str] = ()) -> list[Line]:
    """All lines of a file of prompts; `-` is standard input, as text or as JSON.

    columns: names that lines may have beside the settings.
    Raises InputError naming the file, the line and what it should be.
    """
    name, text = _read(path)
    lines = []
    for number, fields in _reader(path, text)(name, text):
        try:
            lines.append(_line(name, number, fields, columns))
        except InputError as error:
            raise InputError(f"{name}, line {number}: {error}") from None
    if not lines:
        raise InputError(f"{name} has no prompts; write one on each line")
    return lines


def _read(path: Path) -> tuple[str, str]:
    if path == STANDARD_INPUT:
        name, content = "standard input", sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        name = str(path)
        try:
            with path.open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read the prompts {name!r}: {said}") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{name} has more than {_MAX_BYTES // 2**20} MiB, too much for prompts; split it")
    try:
        return name, content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: this is no UTF-8; save the file as UTF-8") from None


_Reader = Callable[[str, str], Iterable[tuple[int, _Fields]]]


def _reader(path: Path, text: str) -> _Reader:
    if path == STANDARD_INPUT:
        return _json_lines if text.lstrip().startswith("{") else _text_lines
    readers: dict[str, _Reader] = {".txt": _text_lines, ".jsonl": _json_lines, ".csv": _table_rows}
    found = readers.get(path.suffix.lower())
    if found is None:
        raise InputError(f"{path} is no file of prompts by its name; expected {', '.join(readers)}")
    return found


def _line(name: str, number: int, fields: _Fields, columns: Collection[str]) -> Line:
    settings: dict[str, Any] = {}
    own: dict[str, str] = {}
    fields, batch = _without_batches(fields)
    for word, value in fields.items():
        if value is None or (word not in columns and is_ignored(word, value)):
            continue
        if word in columns:
            own[word] = str(value)
            continue
        try:
            setting = find_setting(word)
        except UnknownNameError as error:
            raise InputError(
                f"{error} What is for names of files only stands in -o, too: {{{word}}}"
            ) from None
        if setting in settings:
            raise InputError(f"{setting} is given twice, once as {word!r}; leave one out")
        settings[setting] = read_setting(setting, value)
    if batch is not None:
        settings["count"] = settings.get("count", 1) * batch
    if not {"prompt", "blend"} & settings.keys():
        raise InputError("there is no prompt; give it one, or take the line out")
    return Line(name=name, number=number, settings=settings, columns=own)


def _without_batches(fields: _Fields) -> tuple[_Fields, int | None]:
    """The fields without AUTOMATIC1111's batch_size, which multiplies n_iter to the count of pictures."""
    words = [word for word in fields if spelled(word) == "batch_size"]
    if not words:
        return fields, None
    batch: int = read_setting("count", fields[words[0]])
    return {word: value for word, value in fields.items() if word not in words}, batch


# a word after two dashes, and its value: in quotes, or all up to the next such word
_OPTION = re.compile(r"""(?:^|(?<=\s))--([A-Za-z][\w-]*)(?:\s*=\s*|\s+|$)((?:"[^"]*"|'[^']*')(?=\s|$)|)""")


def _text_lines(name: str, text: str) -> Iterator[tuple[int, _Fields]]:
    """A prompt per line; # begins a comment line; `--steps 20` and the like are settings of the line."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, _options(name, number, line.strip())


def _options(name: str, number: int, line: str) -> _Fields:
    found, at = [], 0
    while option := _OPTION.search(line, at):
        found.append(option)
        at = option.end()
    fields: dict[str, Any] = {}
    if before := line[: found[0].start() if found else None].strip():
        fields["prompt"] = before
    ends = [*(option.start() for option in found[1:]), len(line)]
    for option, end in zip(found, ends, strict=False):
        word, quoted = option.groups()
        rest = line[option.end() : end].strip()
        if word in fields or (quoted and rest):
            raise InputError(f"{name}, line {number}: --{word} is given twice or has text behind its quotes")
        fields[word] = quoted[1:-1] if quoted else rest
    return fields


def _json_lines(name: str, text: str) -> Iterator[tuple[int, _Fields]]:
    """An object per line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = read_json(line, nul=True, constants=True)
        except ValueError as error:
            said = getattr(error, "msg", error)
            raise InputError(f"{name}, line {number}: this is no JSON: {said}") from None
        if not isinstance(fields, dict):
            raise InputError(f'{name}, line {number}: expected an object, as {{"prompt": "a cat"}}')
        yield number, fields


def _table_rows(name: str, text: str) -> Iterator[tuple[int, _Fields]]:
    """A header of words and a row per prompt; an empty cell is a setting that is not given."""
    header = text.split("\n", 1)[0]
    # spreadsheets of some countries write semicolons
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        words = [word.strip() for word in next(reader, [])]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(words):
                raise InputError(
                    f"{name}, line {reader.line_num}: {len(row)} cells and a header of {len(words)}; "
                    "put text that holds the separator in double quotes"
                )
            cells = zip(words, row, strict=False)
            yield reader.line_num, {word: cell for word, cell in cells if cell.strip()}
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: this is no CSV: {error}") from None
