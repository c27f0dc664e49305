"""optimum's ONNX pipeline on onnxruntime as a peer, with graphs of its own export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimum.onnxruntime import ORTStableDiffusionPipeline  # type: ignore[import-not-found]

from sdrt_bench.made_whole import made_whole
from sdrt_bench.peers import PeerStart
from sdrt_bench.peers.diffusers import DiffusersPeer


class OptimumPeer(DiffusersPeer):
    """The same pipeline with networks of optimum's."""

    def convert(self) -> None:
        """Export the checkpoint, once."""
        folder = Path(self.start.converted)
        if folder.exists():
            return
        exported = ORTStableDiffusionPipeline.from_pretrained(
            self.start.model, export=True, local_files_only=True
        )
        with made_whole(folder) as making:
            exported.save_pretrained(making)

    def open(self) -> Any:
        """The pipeline, on the exported graphs."""
        return ORTStableDiffusionPipeline.from_pretrained(
            self.start.converted, export=False, provider="CPUExecutionProvider", local_files_only=True
        )

    def time_networks(self) -> None:
        """Put timers around the sessions of the networks."""
        parts, timed = self.pipeline, self.timers.timed
        for stage, part in (("text", parts.text_encoder), ("unet", parts.unet), ("vae", parts.vae_decoder)):
            part.forward = timed(stage, part.forward)


def open_peer(start: PeerStart) -> OptimumPeer:
    """optimum, imported."""
    return OptimumPeer(start)
