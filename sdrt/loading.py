"""A bundle's graphs, opened on a runtime with what LoRAs and embeddings change of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdrt.backends import Array, Backend, Runtime
from sdrt.bundle import Bundle
from sdrt.errors import BundleError
from sdrt.lora import Adaptation, merged_initializers
from sdrt.manifest import GraphEntry, GraphName, TextSettings
from sdrt.saved_graphs import SavedGraph
from sdrt.text_encoder import TextEncoder
from sdrt.textual_inversion import TABLE, Embedding, add_embeddings, check_encoders
from sdrt.token_ids import check_ids
from sdrt.tokenizer import PromptTokenizer

# bytes; Stable Diffusion 1.5 loads in 1.5 s with all its graphs saved, in 1.8 s with its U-Net alone
_WORTH_SAVING = 100_000_000
# graphs of a component that has another one, too
_WHOLE: Mapping[GraphName, GraphName] = {"unet_shallow": "unet", "vae_decoder_fp32": "vae_decoder"}
# what takes the time; the other graphs run once for many steps, so float32 costs nothing in them
_MAY_BE_ROUNDED: frozenset[GraphName] = frozenset({"unet", "unet_shallow", "vae_decoder"})


class Loader:
    """Opens the graphs of one bundle on one runtime."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        adaptation: Adaptation,
        embeddings: Sequence[Embedding],
        saved_graphs: Path | None,
        progress: Callable[[str], None],
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._runtime = runtime
        self._changes = adaptation.changes
        self._embeddings = embeddings
        self._saved_graphs = saved_graphs if bundle.hashed else None
        self._progress = progress

    def load(self, name: GraphName, overrides: Mapping[str, Array] = MappingProxyType({})) -> Backend:
        """One of the graphs, with other initializers where `overrides` names them.

        Raises BundleError if the bundle has none of that name, or one whose inputs and outputs are not those
        that the manifest says.
        """
        entry, path = self._entry(name), self._path(name)
        component = _WHOLE.get(name, name)
        if component in self._changes:
            self._progress(f"merging LoRA into {name}")
            overrides = {**merged_initializers(path, self._changes[component]), **overrides}
        self._progress(f"loading {name}")
        graph = self._runtime.load(
            path, exact=name not in _MAY_BE_ROUNDED, overrides=overrides, saved=self._saved(entry)
        )
        for kind, said, found in (
            ("inputs", entry.inputs, graph.inputs),
            ("outputs", entry.outputs, graph.outputs),
        ):
            if dict(said) != dict(found):
                raise BundleError(
                    f"{path} does not match the manifest: its {kind} are "
                    f"{_specs(found)}, the manifest says {_specs(said)}; export the bundle again"
                )
        return graph

    def text_encoder(self, text: TextSettings) -> TextEncoder:
        """One of the bundle's text encoders, with the words that the embeddings add to it."""
        tokenizer = PromptTokenizer(self._bundle.path / text.tokenizer)
        check_ids(tokenizer.size, text, self._path(text.graph))
        for embedding in self._embeddings:
            self._progress(f"adding {embedding.token}")
            check_encoders(embedding, [one.graph for one in self._manifest.text])
        path = self._path(text.graph)
        table = {
            name: changes
            for name, changes in self._changes.get(text.graph, {}).items()
            if name.endswith(TABLE)
        }
        changed = merged_initializers(path, table) if self._embeddings and table else {}
        overrides = add_embeddings(self._embeddings, text, tokenizer, path, changed)
        return TextEncoder(self._runtime, tokenizer, self.load(text.graph, overrides), text)

    def _path(self, name: GraphName) -> Path:
        return self._bundle.path / self._entry(name).path_for(self._runtime.name)

    def _entry(self, name: GraphName) -> GraphEntry:
        entry = self._manifest.graphs.get(name)
        if entry is None:
            raise BundleError(f"{self._bundle.path} has no {name} graph; export the bundle again")
        return entry

    def _saved(self, entry: GraphEntry) -> SavedGraph | None:
        """Where a graph may be kept as its backend made it; None if that is not worth the disk."""
        size = sum(file.size for file in self._manifest.files_of(entry).values())
        if self._saved_graphs is None or size < _WORTH_SAVING:
            return None
        return SavedGraph(folder=self._saved_graphs, digest=self._manifest.digest_of(entry), size=size)


def _specs(specs: Any) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())
