"""sdrt_export: Stable Diffusion checkpoints to graphs and engines, in bundles that sdrt runs."""
