"""Whether a report was measured on a machine that did something else as well."""

from __future__ import annotations

from sdrt_bench.report import Report

_IDLE = 0.3  # of the cores at most, over the minute before the first round


def busy(report: Report) -> str | None:
    """What to say if the machine was not idle before the first round; before later ones the peers ran."""
    cores, loads = report.machine.get("cores"), report.load_average
    if not loads or not isinstance(cores, int) or loads[0] <= _IDLE * cores:
        return None
    return (
        f"the load average before the first round was {loads[0]:.1f} on {cores} cores; unless that was this "
        "run's own export, something else shared the machine, and times are longer than they should be"
    )
