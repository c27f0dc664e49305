"""Checkpoints in one file, in the key layout of the first Stable Diffusion (LDM) and of XL (SGM)."""

from .single_file import open_single_file
from .vae import replace_vae

__all__ = ["open_single_file", "replace_vae"]
