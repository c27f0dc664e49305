"""The samplers that peers share, as diffusers names them."""

from __future__ import annotations

from typing import Any

# sampler -> class, and what it is told beside the checkpoint's config
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # its default clips, and configs of other schedulers, as that of random:sd15, do not say that they do not
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
}
