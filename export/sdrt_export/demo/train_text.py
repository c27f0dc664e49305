"""Stage "text": the text encoder, taught to say what a caption means before it meets the U-Net.

Throw-away linear heads read each attribute of the scene off the hidden state at the end token and at
random padding positions. Padding is most of what the U-Net's cross-attention sees (it has no mask), and a
U-Net of this size does not teach the encoder about sides or about the second thing on its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .captions import caption, empty_caption
from .models import WIDTH, build_text_encoder
from .scenes import Scene, SceneSampler
from .tokenizer import build_tokenizer, save_tokenizer
from .training import Draws, Log, Schedule, Trainer
from .vocabulary import COLOURS, POSITIONS, SHAPES, SIZES

SCHEDULE = Schedule(steps=1600, batch=96, learning_rate=1.5e-3, decay=0.4, averaging=0.99)
EMPTY_SHARE = 0.05
PADDING_READ = 3

_THING: Final = (tuple(COLOURS), SHAPES, SIZES)
_LAYOUTS: Final = (*POSITIONS, "left|right", "top|bottom")
# Values of each attribute; the class after the last one means "there is none".
ATTRIBUTES: Final = (tuple(COLOURS), _LAYOUTS, *_THING, *_THING)


def attributes(scene: Scene | None) -> list[int]:
    """The scene as class numbers, the things in the order of the picture (left to right, top to bottom)."""
    if scene is None:
        return [len(values) for values in ATTRIBUTES]
    things = sorted(scene.things, key=lambda thing: POSITIONS[thing.position])
    values = [scene.background, "|".join(thing.position for thing in things)]
    for thing in things:
        values += [thing.colour, thing.shape, thing.size]
    none = [len(values) for values in ATTRIBUTES[len(values) :]]
    return [names.index(value) for names, value in zip(ATTRIBUTES, values, strict=False)] + none


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: str) -> Tensor:
    """Captions to tokens [B, 77] int64."""
    encoded = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    tokens: Tensor = encoded.input_ids.to(device)
    return tokens


class Reader(nn.Module):
    """The text encoder with its throw-away heads."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        """Put untrained heads on `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(values) + 1) for values in ATTRIBUTES)

    def forward(self, tokens: Tensor, positions: Tensor) -> list[Tensor]:
        """Read attributes off chosen positions [B, P]: a list of logits [B, P, classes]."""
        hidden = self.encoder(tokens).last_hidden_state
        chosen = hidden.gather(1, positions[..., None].expand(-1, -1, WIDTH))
        return [head(chosen) for head in self.heads]


def read_positions(tokens: Tensor, end: int, draws: Draws) -> Tensor:
    """The position of the end token and some random ones of the padding after it: [B, 1 + PADDING_READ]."""
    first = (tokens == end).int().argmax(dim=1, keepdim=True)
    shares = torch.rand((len(tokens), PADDING_READ), generator=draws.torch).to(tokens.device)
    padding = first + (shares * (tokens.shape[1] - first)).long()
    return torch.cat([first, padding], dim=1)


def train_text(folder: Path, device: str, seed: int, steps: int | None, log: Log) -> None:
    """Train the tokenizer and the averaged text encoder, and save both into `folder`."""
    tokenizer = build_tokenizer(seed)
    save_tokenizer(tokenizer, folder / "tokenizer")
    torch.manual_seed(seed)
    reader = Reader(build_text_encoder(tokenizer)).to(device)
    schedule = SCHEDULE.with_steps(steps)
    trainer = Trainer(reader, schedule, folder / "text.state", seed, log)

    def read(draws: Draws, excluded: bool = False) -> tuple[list[Tensor], Tensor]:
        sampler = SceneSampler(draws.numpy, only_held_out=excluded)
        scenes: list[Scene | None] = [sampler(1 + index % 2) for index in range(schedule.batch)]
        if not excluded:
            scenes[: round(EMPTY_SHARE * schedule.batch)] = [None] * round(EMPTY_SHARE * schedule.batch)
        texts = [caption(scene, draws.numpy) if scene else empty_caption(draws.numpy) for scene in scenes]
        tokens = tokenize(tokenizer, texts, device)
        classes = torch.tensor([attributes(scene) for scene in scenes], device=device)
        return reader(tokens, read_positions(tokens, tokenizer.eos_token_id, draws)), classes

    def loss(draws: Draws) -> Tensor:
        logits, classes = read(draws)
        terms = [
            nn.functional.cross_entropy(values.flatten(0, 1), wanted.repeat_interleave(1 + PADDING_READ))
            for values, wanted in zip(logits, classes.T, strict=True)
        ]
        return torch.stack(terms).sum()

    trainer.run(loss, every=200)
    trainer.use_averaged()
    with torch.no_grad():
        results = [read(Draws.of(seed + 1, step), excluded=True) for step in range(5)]
    right = [
        torch.stack(
            [
                values.argmax(dim=2) == wanted[:, None]
                for values, wanted in zip(logits, classes.T, strict=True)
            ]
        )
        for logits, classes in results
    ]
    whole = float(torch.cat([part.all(dim=0).float() for part in right]).mean())
    log(f"held-out scenes read without an error: {100 * whole:.1f} %")
    reader.encoder.save_pretrained(folder / "text_encoder")
