"""A report's folder: figures for machines, pages for people, and what the pages show."""

from __future__ import annotations

from pathlib import Path

from sdrt_bench import report as reports
from sdrt_bench import svg
from sdrt_bench.document import Gallery, Plot
from sdrt_bench.report import Report
from sdrt_bench.report_html import to_html
from sdrt_bench.report_markdown import PLOTS, to_markdown
from sdrt_bench.report_page import page
from sdrt_bench.report_pictures import FOLDER, Pictures, galleries


def write(report: Report, pictures: Pictures, folder: Path) -> None:
    """Write report.json, report.md, report.html, plots/*.svg and pictures/*.png.

    The figures first: nothing that goes wrong with a page loses them. Plots and pictures of a run before go.
    Pictures of random weights are left out: nobody could see anything in them, and they do not compress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reports.write(report, folder / "report.json")
    random = report.scenario.source.startswith("random:")
    whole = page(report, () if random else galleries(report, pictures))
    files = {
        f"{PLOTS}/{block.name}.svg": svg.as_file(block.drawing).encode()
        for block in whole.blocks
        if isinstance(block, Plot)
    }
    shown = (image for block in whole.blocks if isinstance(block, Gallery) for image in block.images)
    files.update((image.file, image.png) for image in shown)
    _clear(folder / PLOTS, "*.svg")
    _clear(folder / FOLDER, "*.png")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "report.md").write_text(to_markdown(whole), encoding="utf-8")
    (folder / "report.html").write_text(to_html(whole), encoding="utf-8")


def _clear(folder: Path, pattern: str) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob(pattern):
        old.unlink()
