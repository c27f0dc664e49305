"""The tokenizer of a bundle: one file for the `tokenizers` library, and the classic ones beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from sdrt.errors import ExportError
from sdrt.manifest import TextEncoderName, TextSettings

from .noise import quiet


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load a CLIP tokenizer from tokenizer.json, or from vocab.json and merges.txt.

    Raises ExportError if neither is there or they are damaged.
    """
    if not (folder / "tokenizer.json").exists():
        missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).exists()]
        if missing:
            raise ExportError(f"{folder} has no {' and no '.join(missing)}; the checkpoint is incomplete")
    try:
        with quiet():
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception
        raise ExportError(f"cannot read the tokenizer in {folder}: {_first_line(error)}") from None


def text_settings(
    tokenizer: CLIPTokenizer,
    positions: int,
    vocabulary: int,
    *,
    graph: TextEncoderName = "text_encoder",
    tokenizer_file: str = "tokenizer/tokenizer.json",
    hidden_states: str = "last_hidden_state",
    pooled: str | None = None,
    clip_skip_outputs: tuple[str, ...] = (),
) -> TextSettings:
    """Window and special tokens, for a text encoder with so many positions and token embeddings.

    graph, tokenizer_file, hidden_states, pooled, clip_skip_outputs: as in TextSettings.

    Raises ExportError if the tokenizer gives tokens that the text encoder does not know.
    """
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary:
        raise ExportError(
            f"the tokenizer's largest token is {largest} and the text encoder knows {vocabulary}; "
            "the parts of this checkpoint do not belong together"
        )
    return TextSettings(
        max_length=min(tokenizer.model_max_length, positions),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        graph=graph,
        tokenizer=tokenizer_file,
        hidden_states=hidden_states,
        pooled=pooled,
        clip_skip_outputs=clip_skip_outputs,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write tokenizer.json, which neither truncates nor pads, and what transformers and optimum read."""
    fields: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    fields["truncation"] = fields["padding"] = None
    model = fields["model"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    special = {
        name: str(getattr(tokenizer, name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")
    }
    config = special | {
        "add_prefix_space": False,
        "do_lower_case": True,
        "model_max_length": tokenizer.model_max_length,
        "tokenizer_class": "CLIPTokenizer",
    }
    folder.mkdir(exist_ok=True)
    _write_json(folder / "tokenizer.json", fields)
    _write_json(folder / "vocab.json", model["vocab"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", special)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
