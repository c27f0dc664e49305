"""sdrt_bench: speed and fidelity of sdrt, measured."""
