"""The training set: drawn once, kept as one array of pictures and one file of scenes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .drawing import RESOLUTION, Bytes, draw
from .files import replacing
from .scenes import Scene, SceneSampler, Thing


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pictures [N, 64, 64, 3] and their scenes: first those of one thing, then those of two."""

    pictures: Bytes
    scenes: list[Scene]
    singles: int

    def sample(self, count: int, pairs: float, rng: np.random.Generator) -> np.ndarray:
        """Choose indices at random, the share `pairs` of them among the scenes of two things."""
        single = rng.integers(self.singles, size=count)
        pair = rng.integers(self.singles, len(self.scenes), size=count)
        return np.where(rng.random(count) < pairs, pair, single)


def draw_dataset(folder: Path, singles: int, pairs: int, seed: int) -> None:
    """Draw the set into `folder`, unless it is there already."""
    if (folder / "scenes.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    sampler = SceneSampler(rng)
    scenes = [sampler(1) for _ in range(singles)] + [sampler(2) for _ in range(pairs)]
    pictures = np.empty((len(scenes), RESOLUTION, RESOLUTION, 3), np.uint8)
    for picture, scene in zip(pictures, scenes, strict=True):
        picture[:] = draw(scene, rng)
    with replacing(folder / "pictures.npy") as path, path.open("wb") as file:
        np.save(file, pictures)
    with replacing(folder / "scenes.json") as path:
        path.write_text(json.dumps({"singles": singles, "scenes": [asdict(scene) for scene in scenes]}))


def load_dataset(folder: Path) -> Dataset:
    """Read what `draw_dataset` wrote; the pictures stay on disk."""
    content = json.loads((folder / "scenes.json").read_text())
    scenes = [
        Scene(things=tuple(Thing(**thing) for thing in scene["things"]), background=scene["background"])
        for scene in content["scenes"]
    ]
    pictures: Bytes = np.load(folder / "pictures.npy", mmap_mode="r")
    return Dataset(pictures=pictures, scenes=scenes, singles=content["singles"])
