"""sdrt_bench: speed and fidelity of sdrt, measured."""

import sdrt  # noqa: F401, disables the telemetry of the peers, which inherit its environment or import this package
