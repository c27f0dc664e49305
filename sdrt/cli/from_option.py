"""`sdrt generate --from PICTURE`: a picture's settings, where the command line does not say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdrt.cli.lora_option import parse_lora
from sdrt.cli.model_options import ModelOptions
from sdrt.cli.sections import Section
from sdrt.cli.terminal import echo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sdrt.manifest import Manifest
    from sdrt.metadata import LoraFile, RecordedSettings
    from sdrt.pictures import Picture
    from sdrt.remake import Comparison

from_option = Section(
    "Again",
    click.option(
        "--from",
        "again",
        metavar="PICTURE",
        type=click.Path(path_type=Path),
        help="Make a picture again, as sdrt, AUTOMATIC1111, ComfyUI or InvokeAI wrote into it; "
        "other options change what it says.",
    ),
)

# what an option says instead of the picture beside what is called like it
_INSTEAD = {
    "sampler": ("sigma_schedule", "spacing", "eta", "schedule", "sigmas"),
    "karras": ("sigma_schedule", "schedule", "sigmas"),
    "sigma_schedule": ("schedule", "sigmas"),
    "spacing": ("schedule", "sigmas"),
    "schedule": ("sigma_schedule", "spacing", "sigmas"),
    "sigmas": ("sigma_schedule", "spacing", "schedule", "steps", "start_step"),
    "steps": ("sigmas",),
    "strength": ("start_step",),
    "prompt": ("blend",),
    "blend": ("prompt",),
}


@dataclass(frozen=True)
class Again:
    """A picture that is made again. given: names of the options that the command line has."""

    path: Path
    made: RecordedSettings
    pixels: NDArray[np.uint8] | None
    given: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Again:
        """Read it. Raises InputError as `read_settings` does, or if it lacks what only an option can say."""
        from sdrt.errors import InputError
        from sdrt.metadata.image_texts import read_texts
        from sdrt.metadata.reading import settings_of

        found = read_texts(path)
        made = settings_of(found, str(path))
        if made is None:
            raise InputError(f"{path} does not say how it was made; `sdrt info {path}` shows what it says")
        again = cls(path, made, found.pixels, _given())
        for name, reason in made.wanted.items():
            if name not in again.hidden:
                raise InputError(f"{path}: {reason}; give it with {_option(name)}")
        return again

    @property
    def hidden(self) -> frozenset[str]:
        """The picture's settings that the command line says otherwise."""
        return self.given | {one for name in self.given for one in _INSTEAD.get(name, ())}

    def settings(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`asked`, the command line's, with the picture's for what is not given there."""
        found = {name: value for name, value in self.made.settings.items() if name not in self.hidden}
        if "steps" in self.given and "start_step" in found:  # the same part of them
            found["start_step"] = (
                found["start_step"] * asked["steps"] // max(self.made.settings.get("steps", 1), 1)
            )
        pictures = {
            name: self._find(file, name.replace("_", " "), f"--{name.replace('_', '-')}")
            for name, file in self.made.pictures.items()
            if name not in self.given
        }
        return {**asked, **found, **pictures}

    def model(self, asked: ModelOptions) -> ModelOptions:
        """The same of the model, its files and its backend."""
        from sdrt.backends import BACKENDS
        from sdrt.errors import InputError
        from sdrt.remake import find_model

        model, backend = asked.model, asked.backend
        if "model" not in self.given:
            model = str(self._named(find_model, self.made))
        if "backend" not in self.given and self.made.backend is not None:
            backend = self.made.backend
            if backend not in BACKENDS:
                raise InputError(
                    f"{self.path} was made with a backend that is not here; give one with --backend"
                )
        return replace(
            asked,
            model=model,
            backend=backend,
            loras=self._loras(asked.loras),
            embeddings=self._embeddings(asked.embeddings),
        )

    def warn(self, manifest: Manifest) -> None:
        """Say what of the picture is not carried over."""
        for note in self.notes(manifest):
            echo(f"Warning: {self.path}: {note}", err=True)

    def notes(self, manifest: Manifest) -> list[str]:
        """What of the picture is not carried over, a line each."""
        from sdrt.remake import model_notes, was_changed

        named = [*self.made.pictures.values()]
        named += [one.file for one in self.made.loras] + [one.file for one in self.made.embeddings]
        hashless = [one.name for one in named if one.sha256 is None]
        found = [f"{name} is taken by its name: the picture has no hash of it" for name in hashless]
        if was_changed(self.made, self.pixels):
            found.append("its pixels were changed since they were made")
        return [*self.made.notes, *model_notes(self.made, manifest), *found]

    def describe(self, manifest: Manifest, picture: Picture | None) -> dict[str, Any]:
        """For JSON: whether a new picture is the same; None is not made."""
        found = self._compare(picture)
        return {
            "picture": str(self.path),
            "made_by": self.made.writer,
            "identical": found.identical,
            "differs": list(found.differs),
            "notes": self.notes(manifest),
        }

    def verdict(self, picture: Picture | None) -> str:
        """The same in a line."""
        found = self._compare(picture)
        if found.identical:
            return f"the pixels are those of {self.path}"
        if picture is None:
            return f"nothing was made of {self.path}"
        if found.identical is None:
            return f"{self.path} does not tell what its pixels were"
        reasons = ", ".join(found.differs) or "though nothing that it records does"
        return f"the pixels differ from those of {self.path}: {reasons}"

    def _compare(self, picture: Picture | None) -> Comparison:
        from sdrt.remake import Comparison, compare

        if picture is None:
            return Comparison(identical=None, differs=())
        return compare(self.made, self.pixels, picture)

    def _loras(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the picture; or those asked for, with the picture's weight where none is said."""
        if "loras" not in self.given:
            files = [(self._find(one.file, "LoRA", "--lora"), one.weight) for one in self.made.loras]
            return tuple(f"{file}:{weight!r}" for file, weight in files)
        return tuple(map(self._weighed, asked))

    def _weighed(self, text: str) -> str:
        path, _ = parse_lora(text)
        known = self._known(path, self.made.loras)
        return f"{text}:{known.weight!r}" if known is not None and str(path) == text else text

    def _embeddings(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        if "embeddings" in self.given:
            return asked
        files = [
            (self._find(one.file, "embedding", "--textual-inversion"), one.token)
            for one in self.made.embeddings
        ]
        return tuple(str(file) if token is None else f"{file}:{token}" for file, token in files)

    def _known(self, path: Path, loras: tuple[LoraFile, ...]) -> LoraFile | None:
        """Which of the picture's LoRAs a file is."""
        from sdrt.remake import is_same

        if not path.is_file():
            return None
        return next((one for one in loras if one.file.sha256 and is_same(path, one.file)), None)

    def _find(self, named: Any, called: str, option: str) -> Path:
        from sdrt.remake import find_file

        found: Path = self._named(find_file, named, called, (self.path.parent, Path()), option)
        return found

    def _named(self, function: Any, *arguments: Any) -> Any:
        """What a function gives; its error names the picture."""
        from sdrt.errors import InputError

        try:
            return function(*arguments)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None


def _given() -> frozenset[str]:
    """Names of the parameters that this command was given, as opposed to left at their defaults."""
    from click.core import ParameterSource

    context = click.get_current_context()
    asked = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return frozenset(name for name in context.params if context.get_parameter_source(name) in asked)


def _option(name: str) -> str:
    """The option of this command whose value is called so."""
    context = click.get_current_context()
    names = (one.opts[-1] for one in context.command.params if one.name == name)
    return next(names, f"--{name.replace('_', '-')}")
