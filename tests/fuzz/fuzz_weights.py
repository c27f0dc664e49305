"""LoRAs and embeddings in .safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import lora_files
import mutators
import numpy as np
from fuzz_target import MANIFEST, Target

from sdrt.bundle import DEMO
from sdrt.lora import adapt, add
from sdrt.lora.overrides import read_parameters
from sdrt.textual_inversion import check_encoders, check_room, fitting, read_embedding
from sdrt.tokenizer import PromptTokenizer

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


@cache
def _parameters() -> dict[Any, dict[str, tuple[int, ...]]]:
    return {name: read_parameters(DEMO / name / "model.onnx") for name in ("text_encoder", "unet")}


def _safetensors(tensors: Mapping[str, np.ndarray], **texts: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": texts} if texts else {}
    content = b""
    kinds = {"float32": "F32", "float16": "F16", "float64": "F64"}
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        offsets = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        content += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def _lora_seeds() -> list[bytes]:
    shapes = _parameters()["unet"]
    modules = (f"{ATTENTION}.to_q", "down_blocks.0.resnets.0.conv1")
    factors = lora_files.random_factors({one: shapes[f"{one}.weight"] for one in modules}, 2, alpha=1.0)
    out, in_ = shapes[f"{modules[0]}.weight"]
    kohya = f"lora_unet_{modules[0].replace('.', '_')}"
    ones = np.ones
    loha = {"hada_w1_a": (out, 2), "hada_w1_b": (2, in_), "hada_w2_a": (out, 2), "hada_w2_b": (2, in_)}
    lokr = {"lokr_w1": (2, 2), "lokr_w2_a": (out // 2, 2), "lokr_w2_b": (2, in_ // 2)}
    return [
        _safetensors(lora_files.kohya({"unet": factors}), ss_network_dim="2", ss_network_alpha="1"),
        _safetensors(lora_files.peft({"unet": factors})),
        _safetensors({f"{kohya}.{part}": ones(shape, np.float16) for part, shape in loha.items()}),
        _safetensors({f"{kohya}.{part}": ones(shape, np.float32) for part, shape in lokr.items()}),
    ]


def _change_safetensors(content: bytes, random: Random) -> bytes:
    """The header as JSON, with its length set right."""
    length = int.from_bytes(content[:8], "little")
    header = mutators.json_(content[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _read_lora(path: Path) -> None:
    parameters = _parameters()
    for component, of_one in adapt([(path, 1.0)], parameters).changes.items():
        for name, changes in of_one.items():
            add(np.zeros(parameters[component][name], np.float32), changes)


def _embedding_seeds() -> list[bytes]:
    vectors = np.ones((2, 128), np.float32) / 8
    both = {"clip_l": np.ones((1, 768), np.float16), "clip_g": np.ones((1, 1280), np.float16)}
    return [_safetensors({"<cat>": vectors}), _safetensors({"emb_params": vectors[0]}), _safetensors(both)]


def read_embedding_file(path: Path) -> None:
    """A file of textual inversion, and its word in the demo model's tokenizer."""
    embedding = read_embedding(path, allow_pickle=True)
    check_encoders(embedding, list(embedding.vectors))
    check_room([embedding], MANIFEST.text[0])
    for encoder, vectors in embedding.vectors.items():
        fitting(embedding, encoder, vectors.shape[1], "float16")
    tokenizer = PromptTokenizer(DEMO / "tokenizer" / "tokenizer.json")
    tokenizer.add_word(embedding.token, embedding.count, called=str(path))
    tokenizer.tokens(f"a {embedding.token}")


TARGETS = (
    Target(name="lora.safetensors", seeds=_lora_seeds, mutate=_change_safetensors, read=_read_lora),
    Target(
        name="embedding.safetensors",
        seeds=_embedding_seeds,
        mutate=_change_safetensors,
        read=read_embedding_file,
    ),
)
