"""optimum's ONNX pipeline on onnxruntime as a peer. It exports the checkpoint while it loads."""

from __future__ import annotations

from typing import Any

from optimum.onnxruntime import ORTStableDiffusionPipeline  # type: ignore[import-not-found]

from sdrt_bench.peers import PeerStart
from sdrt_bench.peers.diffusers import DiffusersPeer


class OptimumPeer(DiffusersPeer):
    """The same pipeline with networks of optimum's."""

    def open(self) -> Any:
        """The pipeline, exported on the way."""
        return ORTStableDiffusionPipeline.from_pretrained(
            self.start.model, export=True, provider="CPUExecutionProvider", local_files_only=True
        )

    def time_networks(self) -> None:
        """Put timers around the sessions of the networks."""
        parts, timed = self.pipeline, self.timers.timed
        for stage, part in (("text", parts.text_encoder), ("unet", parts.unet), ("vae", parts.vae_decoder)):
            part.forward = timed(stage, part.forward)


def open_peer(start: PeerStart) -> OptimumPeer:
    """optimum, imported."""
    return OptimumPeer(start)
