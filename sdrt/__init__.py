"""sdrt: Stable Diffusion from exported graphs, without torch."""

__version__ = "0.1.0"
