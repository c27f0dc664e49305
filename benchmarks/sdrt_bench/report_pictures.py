"""The pictures that a report shows side by side, and how they differ from the reference's."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Images

from sdrt_bench.document import Gallery, Image
from sdrt_bench.peers import Kept
from sdrt_bench.report import Report
from sdrt_bench.report_figures import compared, decibels

Key = tuple[str, str]  # the picture's name, and its sampler
Pictures = Mapping[str, Mapping[Key, Kept]]

GAIN = 16  # differences are too faint to be seen
FOLDER = "pictures"
_PROMPTS = 4  # of which a picture is shown, besides each peer's worst


def galleries(report: Report, pictures: Pictures) -> tuple[Gallery, ...]:
    """A picture of each of the first prompts, and the worst of each peer, by all peers."""
    reference = pictures.get(report.scenario.reference, {})
    return tuple(
        Gallery(f"{key[0]}{why}", tuple(_images(report, pictures, reference, key, f"{number}")))
        for number, (key, why) in enumerate(_shown(report, reference).items(), start=1)
    )


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What separates two pictures [H, W, 3], enlarged; black where they are equal."""
    enlarged: NDArray[np.int16] = np.abs(a.astype(np.int16) - b) * GAIN
    return np.minimum(enlarged, 255).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture [H, W, 3] as a file."""
    file = io.BytesIO()
    Images.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _shown(report: Report, reference: Mapping[Key, Kept]) -> dict[Key, str]:
    """Which pictures, and why, if not for their prompt."""
    keys = {name: (name, sampler) for name, sampler in reference}
    shown: dict[Key, str] = {}
    for prompt in report.scenario.fidelity.prompts[:_PROMPTS]:
        first = next((key for name, key in keys.items() if name.startswith(f"{prompt}, seed ")), None)
        if first is not None:
            shown[first] = ""
    for peer, quality in compared(report).items():
        worst = min(quality.psnr, key=lambda name: _psnr(quality.psnr[name]))
        if worst in keys and quality.psnr[worst] is not None:
            key = keys[worst]
            shown[key] = f"{shown[key]}; {peer}" if shown.get(key) else f" · the worst of {peer}"
    return shown


def _images(
    report: Report, pictures: Pictures, reference: Mapping[Key, Kept], key: Key, row: str
) -> Iterator[Image]:
    """The reference first, then each peer, followed by its difference if there is one."""
    name = report.scenario.reference
    yield _image(f"{row}-{_slug(name)}", reference[key].pixels[0], key, name, f"{name}, the reference")
    for number, (peer, quality) in enumerate(compared(report).items(), start=1):
        found = pictures.get(peer, {}).get(key)
        if found is None or key[0] not in quality.psnr:
            continue
        own, right = found.pixels[0], reference[key].pixels[0]
        ratio = _psnr(quality.psnr[key[0]])
        file = f"{row}-{number}-{_slug(peer)}"
        equal = ratio == float("inf")
        caption = f"{peer}, equal to the reference" if equal else f"{peer}, PSNR {decibels(ratio)} dB"
        yield _image(file, own, key, peer, caption)
        if not equal and own.shape == right.shape:
            what = f"{peer}, difference x {GAIN}"
            yield _image(f"{file}-difference", difference(own, right), key, what, what)


def _image(file: str, pixels: NDArray[np.uint8], key: Key, who: str, caption: str) -> Image:
    return Image(f"{FOLDER}/{file}.png", png(pixels), pixels.shape[1], f"{who}: {key[0]}", caption)


def _psnr(ratio: float | None) -> float:
    return float("inf") if ratio is None else ratio


def _slug(peer: str) -> str:
    """A part of a file name; peers may be called anything."""
    return re.sub(r"[^a-z0-9]+", "-", peer.lower()).strip("-")[:40]
