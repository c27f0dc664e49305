"""An embedding file: a word and its vectors."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt.backends import Array
from sdrt.bundle import sha256
from sdrt.errors import InputError
from sdrt.manifest import TextEncoderName
from sdrt.safetensors_file import SafetensorsFile
from sdrt.textual_inversion.formats import read_layout
from sdrt.textual_inversion.torch_file import read_torch_file

PICKLES = (".pt", ".bin", ".ckpt", ".pth")
_MAX_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """token: the word of the prompt; vectors: [n, D] float32 for each text encoder; sha256: of the file."""

    token: str
    vectors: Mapping[TextEncoderName, Array]
    path: Path
    sha256: str

    @property
    def count(self) -> int:
        """How many vectors the word becomes."""
        return len(next(iter(self.vectors.values())))


def parse_option(text: str) -> tuple[Path, str | None]:
    """FILE or FILE:TOKEN, as on the command line. A file of that whole name comes first."""
    file, colon, token = text.rpartition(":")
    if not colon or not file or _is_there(text) or "/" in token or "\\" in token:
        return Path(text), None
    return Path(file), token


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name too long
        return False


def read_embedding(path: Path, token: str | None = None, *, allow_pickle: bool = False) -> Embedding:
    """Read an embedding.

    token: its word, instead of the one in the file or the file's name. allow_pickle: read .pt and .bin,
    through an unpickler that knows nothing but tensors.
    Raises InputError naming the file.
    """
    content = _content(path, allow_pickle)
    try:
        named, vectors = read_layout(content)
    except InputError as error:
        raise InputError(f"{path} is no embedding that sdrt can read: {error}") from None
    token = _checked(path, token if token is not None else named or path.stem)
    counts = {len(one) for one in vectors.values()}
    if len(counts) > 1:
        raise InputError(f"{path} has different numbers of vectors for its text encoders: {sorted(counts)}")
    return Embedding(token=token, vectors=vectors, path=path, sha256=sha256(path))


def check_encoders(embedding: Embedding, encoders: Collection[TextEncoderName]) -> None:
    """Raise InputError unless an embedding has vectors for a model with these text encoders."""
    if "text_encoder_2" in embedding.vectors and "text_encoder_2" not in encoders:
        raise InputError(f"{embedding.path} is for Stable Diffusion XL, this model is not")
    missing = [name for name in encoders if name not in embedding.vectors]
    if missing:
        raise InputError(
            f"{embedding.path} has no vectors for the {missing[0]} of this model; "
            "Stable Diffusion XL needs a file with clip_l and clip_g"
        )


def _content(path: Path, allow_pickle: bool) -> Any:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the embedding file in it")
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is no plain file; give an embedding file")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is too large for an embedding; is it a checkpoint or a LoRA?")
    except FileNotFoundError:
        raise InputError(f"there is no embedding at {path}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix in PICKLES:
        if not allow_pickle:
            raise InputError(
                f"{path} is a pickle; --allow-pickle reads tensors from it and refuses all else, "
                "or convert it to .safetensors"
            )
        return read_torch_file(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is no embedding: expected .safetensors, .pt or .bin")
    return SafetensorsFile(path)


def _checked(path: Path, token: str) -> str:
    clean = token.strip()
    try:
        clean.encode()
    except UnicodeEncodeError:
        clean = ""
    if not clean or not clean.isprintable():
        raise InputError(f"{path} is for {token!r}, which no prompt can name; give another with {path}:TOKEN")
    return clean
