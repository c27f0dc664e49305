"""The demo model: a small latent diffusion model of coloured shapes, with all that trains and scores it."""
