"""The README's table of measurements, written from the committed reports so that it says what they say.

python -m sdrt_bench.readme             write it
python -m sdrt_bench.readme --check     exit with 1 if it is not what the reports say
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sdrt.errors import InputError, SdrtError
from sdrt_bench.busy import busy
from sdrt_bench.document import Table
from sdrt_bench.gpu.report import benches_of
from sdrt_bench.readable import NOTHING, significant, times, unit_of
from sdrt_bench.report import Report
from sdrt_bench.report_figures import compared, decibels, measured
from sdrt_bench.report_markdown import escaped, table

BEGIN = "<!-- benchmarks: written by `make readme-table` from benchmarks/results -->"
END = "<!-- end of benchmarks -->"


def section(readme: Path, results: Path) -> str:
    """What stands between the comments: each report's title, its machine, and a line for each peer."""
    files = sorted(results.glob("**/report.json"))
    parts = [
        part
        for file in files
        for report in benches_of(file)
        for part in _of_report(report, file, readme.parent)
    ]
    return "\n\n".join(parts or ["No report has been committed yet."])


def replaced(text: str, between: str) -> str:
    """A README with this between its comments. Raises InputError if it has not one of each, in order."""
    start, _, rest = text.partition(BEGIN)
    end = rest.partition(END)[2]
    if text.count(BEGIN) != 1 or text.count(END) != 1 or END in start:
        raise InputError(f"the README needs one line {BEGIN} and after it one line {END}")
    return f"{start}{BEGIN}\n\n{between}\n\n{END}{end}"


def _of_report(report: Report, file: Path, root: Path) -> Iterator[str]:
    machine, scenario = report.machine, report.scenario
    processor, cores = escaped(str(machine.get("processor", NOTHING))), machine.get("cores", NOTHING)
    where = file.relative_to(root) if file.is_relative_to(root) else file
    page = where.with_name("report.md") if file.with_name("report.md").exists() else where
    yield (
        f"**{escaped(scenario.title)}** ({scenario.steps} steps; {processor}, {cores} cores; "
        f"{escaped(report.command)}; [report]({page.as_posix()}))"
    )
    yield table(_table(report))
    if (why := busy(report)) is not None:
        yield f"Caution: {why}."
    absent = [name for name, peer in report.peers.items() if peer.absent is not None]
    failed = [name for name, peer in report.peers.items() if peer.failed is not None]
    for what, names in (("Not installed", absent), ("Failed", failed), ("Misses a gate", _missing(report))):
        if names:
            yield f"{what}: {', '.join(map(escaped, names))}."


def _table(report: Report) -> Table:
    found, near = measured(report), compared(report)
    unit = unit_of(speed.picture.median for _, speed in found.values())
    head = (
        "Peer", f"Picture, {unit.name}", f"Speed to {report.scenario.reference}", "Cold start, s",
        "Peak memory, MB", "Worst PSNR, dB",
    )  # fmt: skip
    rows = tuple(
        (
            name,
            unit.show_figure(speed.picture),
            times(peer.ratios["picture"]) if name != report.scenario.reference and peer.ratios else "1",
            significant(speed.start.median + speed.load.median + speed.first.median),
            significant(speed.peak_mb),
            decibels(near[name].least_psnr) if name in near else NOTHING,
        )
        for name, (peer, speed) in found.items()
    )
    return Table(head, rows)


def _missing(report: Report) -> Sequence[str]:
    return [name for name, peer in report.peers.items() if peer.missed]


@click.command()
@click.option(
    "--readme", type=click.Path(path_type=Path, exists=True), default="README.md", show_default=True
)
@click.option("--results", type=click.Path(path_type=Path), default="benchmarks/results", show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the README is not up to date.")
def main(readme: Path, results: Path, check: bool) -> None:
    """Write the README's table of measurements."""
    try:
        text = readme.read_text(encoding="utf-8")
        wanted = replaced(text, section(readme, results))
    except SdrtError as error:
        raise click.ClickException(str(error)) from None
    if wanted == text:
        return
    if check:
        raise click.ClickException(
            f"the table in {readme} is not what the reports say; run: make readme-table"
        )
    readme.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
