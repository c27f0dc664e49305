"""Pictures of sdrt, AUTOMATIC1111, ComfyUI and InvokeAI, and the texts in them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace

import foreign_pictures
import mutators
from fuzz_target import MANIFEST, SETTINGS, Target, attempt, command
from mutators import png_chunk
from PIL import Image

from sdrt import metadata
from sdrt.metadata.exif import write_exif
from sdrt.metadata.reading import read_settings
from sdrt.request import resolve_request
from sdrt.source_images import Placement, read_source


@cache
def _texts() -> list[tuple[str, str]]:
    """Keyword and text of every program."""
    made = metadata.made_with(MANIFEST, SimpleNamespace(name="onnxruntime"), [], [])  # type: ignore[arg-type]
    request = resolve_request(
        MANIFEST,
        "a (red:1.2) [star:circle:0.5]",
        negative_prompt="dull",
        sampler="DPM++ 2M Karras",
        **SETTINGS,
    )
    own = metadata.texts(request, made, {}, foreign_pictures.PIXELS)
    line = "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 7, Size: 512x768"
    rest = (
        ', Model hash: 6CE0161689, Model: v1-5, Clip skip: 2, Lora hashes: "a: 0123456789ab, b: 00", '
        'TI hashes: "x: 0123456789ab", Denoising strength: 0.5, Hires upscale: 2, Version: v1.10.1'
    )
    return [
        *own.items(),
        ("parameters", f"a cat <lora:a:0.5>, [red:blue:0.4]\nby nobody\nNegative prompt: ugly\n{line}{rest}"),
        ("parameters", f"a cat\n{line}"),
        ("prompt", json.dumps(foreign_pictures.graph())),
        ("invokeai_metadata", json.dumps(foreign_pictures.INVOKE)),
        ("invokeai_metadata", json.dumps(foreign_pictures.INVOKE | {"loras": []})),
        ("sd-metadata", json.dumps(foreign_pictures.OLD_INVOKE)),
    ]


def _pack(keyword: str, text: str) -> bytes:
    return f"{keyword}\n{text}".encode("utf-8", "surrogatepass")


def _text_seeds() -> list[bytes]:
    return [_pack(*one) for one in _texts()]


_LINE = (
    *(", ", ": ", "\n", '"', '\\"', "Steps: ", "Negative prompt: ", "Sampler: ", "Size: ", "Seed: "),
    *("x", "512x", "Lora hashes: ", "<lora:", "<lora:a:1>", ":", "Model: ", "Version: "),
    *("Schedule type: ", "Karras", "{", "}"),
)


def _change_text(content: bytes, random: Random) -> bytes:
    keyword, _, text = content.partition(b"\n")
    change = mutators.words(_LINE) if keyword == b"parameters" else mutators.json_
    return keyword + b"\n" + change(text, random)


def _read_text(path: Path) -> None:
    keyword, _, text = path.read_bytes().partition(b"\n")
    picture = path.with_suffix(".png")
    picture.write_bytes(_png(keyword.decode("latin-1"), text))
    found = read_settings(picture)
    if not found.wanted:
        resolve_request(MANIFEST, **{"prompt": "", **found.settings})


def _png(keyword: str, text: bytes, kind: str = "iTXt") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(foreign_pictures.PIXELS[:8, :8]).save(buffer, "PNG")
    plain, name = buffer.getvalue(), keyword.encode("latin-1", "replace")
    between = b"\0\0\0\0\0" if kind == "iTXt" else b"\0"
    chunk = png_chunk(kind.encode(), name + between + text)
    return plain[:33] + chunk + plain[33:]  # behind IHDR


def _with_exif(texts: Mapping[str, str], format: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(foreign_pictures.PIXELS[:16, :16])
    image.save(buffer, format, exif=write_exif(texts, "sdrt"))
    return buffer.getvalue()


def _picture_seeds() -> list[bytes]:
    found = [_png(keyword, text.encode()) for keyword, text in _texts()]
    found += [_png(keyword, text.encode("latin-1", "replace"), "tEXt") for keyword, text in _texts()]
    ours = dict(_texts()[:2])
    found += [_with_exif(ours, "JPEG"), _with_exif(ours, "WEBP")]
    for mode in ("RGBA", "P", "I;16", "L", "LA", "1"):
        buffer = io.BytesIO()
        image = Image.fromarray(foreign_pictures.PIXELS[:8, :8])
        (Image.new(mode, (8, 8), 300) if mode == "I;16" else image.convert(mode)).save(buffer, "PNG")
        found.append(buffer.getvalue())
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        options = {"comment": _texts()[2][1].encode()} if format == "GIF" else {}
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:], **options)
        found.append(buffer.getvalue())
    for format in ("BMP", "TIFF", "ICO", "PPM", "TGA"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format)
        found.append(buffer.getvalue())
    return found


def _change_picture(content: bytes, random: Random) -> bytes:
    """A text in place of the picture's, changed itself; or chunks."""
    if random.random() < 0.3 and content.startswith(b"\x89PNG"):
        return mutators.png(content, random)
    if random.random() < 0.4:
        return mutators.bytes_(content, random)
    keyword, text = random.choice(_text_seeds()).split(b"\n", 1)
    changed = _change_text(keyword + b"\n" + text, random).split(b"\n", 1)[1]
    name = keyword.decode()
    if random.random() < 0.3 and name in ("sdrt", "parameters"):
        whole = changed.decode("utf-8", "replace")[:20_000]
        return _with_exif({name: whole}, random.choice(("JPEG", "WEBP")))
    return _png(name, changed, random.choice(("iTXt", "tEXt")))


def _read_picture(path: Path) -> None:
    attempt(
        lambda: command("info", path.name),
        lambda: command("info", "--json", path.name),
        lambda: command("generate", "--from", path.name, "-m", "demo"),
        lambda: read_source(path, Placement(size=(64, 64))),
    )


TARGETS = (
    Target(name="text", seeds=_text_seeds, mutate=_change_text, read=_read_text),
    Target(name="picture.png", seeds=_picture_seeds, mutate=_change_picture, read=_read_picture),
)
