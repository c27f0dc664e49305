"""Files of a bundle: its manifest, graphs and tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mutators
from fuzz_target import Target, attempt, command

from sdrt import manifest as manifests
from sdrt.bundle import DEMO, Bundle
from sdrt.onnx_external_data import external_files
from sdrt.onnx_initializers import read_initializers, with_external_shapes
from sdrt.onnx_signature import read_signature
from sdrt.request import resolve_request
from sdrt.tokenizer import PromptTokenizer

_DATA = "model.onnx.data"  # of the text encoder's graph


def _manifest_seeds() -> list[bytes]:
    return [(DEMO / manifests.FILE_NAME).read_bytes()]


def _bundle_with(content: bytes) -> Path:
    bundle = Path("bundle")
    if not bundle.exists():
        shutil.copytree(DEMO, bundle)
    (bundle / manifests.FILE_NAME).write_bytes(content)
    return bundle


def _read_manifest(path: Path) -> None:
    bundle = _bundle_with(path.read_bytes())
    opened = Bundle.open(bundle, verify="fast")
    request = resolve_request(opened.manifest, "a [red|blue] star AND a circle")
    request.compile(opened.manifest)
    command("info", str(bundle))
    command("generate", "a red star", "-m", str(bundle))


def _graph_seeds() -> list[bytes]:
    graphs = [*sorted((DEMO.parent / "graphs").glob("*.fp32.onnx")), DEMO / "text_encoder" / "model.onnx"]
    return [graph.read_bytes() for graph in graphs]


def _read_graph(path: Path) -> None:
    if not Path(_DATA).exists():
        shutil.copy(DEMO / "text_encoder" / _DATA, _DATA)

    def weights() -> None:
        for one in read_initializers(path).values():
            one.read()
        with_external_shapes(path, {"x": (2, 3)})

    attempt(lambda: external_files(path), weights, lambda: read_signature(path))


def _tokenizer_seeds() -> list[bytes]:
    whole = json.loads((DEMO / "tokenizer" / "tokenizer.json").read_text())
    few = json.loads(json.dumps(whole))
    vocabulary = few["model"]["vocab"]
    few["model"]["vocab"] = {word: id for word, id in vocabulary.items() if id < 300 or "<|" in word}
    few["model"]["merges"] = few["model"]["merges"][:20]
    words = few["model"]["vocab"]
    few["model"]["merges"] = [
        pair for pair in few["model"]["merges"]
        if "".join(pair if isinstance(pair, list) else pair.split()) in words
    ]  # fmt: skip
    return [json.dumps(one).encode() for one in (whole, few, few)]


def _read_tokenizer(path: Path) -> None:
    tokenizer = PromptTokenizer(path)
    for text in ("a large red circle, it's 漢字", "", "x" * 2_000, "<|endoftext|>"):
        tokenizer.tokens(text)
    tokenizer.add_word("<new>", 2, called="x.pt")
    tokenizer.tokens("a <new>")


TARGETS = (
    Target(name="manifest.json", seeds=_manifest_seeds, mutate=mutators.json_, read=_read_manifest),
    Target(name="graph.onnx", seeds=_graph_seeds, mutate=mutators.protobuf, read=_read_graph),
    Target(name="tokenizer.json", seeds=_tokenizer_seeds, mutate=mutators.json_, read=_read_tokenizer),
)
