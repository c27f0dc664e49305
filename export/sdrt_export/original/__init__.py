"""Checkpoints in the original layout: one file, as model sites offer them."""

from .single_file import open_single_file
from .vae import with_vae

__all__ = ["open_single_file", "with_vae"]
