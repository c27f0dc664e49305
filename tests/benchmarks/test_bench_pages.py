"""What people read of a report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from bench_report import figure, peers, pictures, quality, report, speed
from bench_scenario import scenario
from PIL import Image

from sdrt_bench import report as reports
from sdrt_bench import report_files, report_plots, roofline
from sdrt_bench.readable import MILLISECONDS, SECONDS, significant, times, unit_of
from sdrt_bench.report import PeerReport, ScalingPoint
from sdrt_bench.report_figures import result
from sdrt_bench.report_page import page
from sdrt_bench.report_pictures import GAIN, difference
from sdrt_bench.scenario import PeerSettings

VOID = {"meta", "img"}


class Elements(HTMLParser):
    """Fails on an element that is not closed where it should be; keeps text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.seen = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(text):
    elements = Elements()
    elements.feed(text)
    assert not elements.open
    return elements


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report_files.write(report(), pictures(), folder)
    return folder


def drawings(found):
    return [block for block in page(found, ()).blocks if hasattr(block, "drawing")]


def test_html_needs_nothing_else_and_runs_nothing(folder):
    found = parsed((folder / "report.html").read_text())
    assert not {"script", "link", "iframe", "b"} & {tag for tag, _ in found.seen}
    for tag, attributes in found.seen:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    shown = "".join(found.text)
    assert "<script>alert(1)</script> | `a`" in shown
    assert "default-src 'none'" in str(found.seen)


def test_html_names_every_fate(folder):
    shown = "".join(parsed((folder / "report.html").read_text()).text)
    assert "absent: No module named 'gone'" in shown
    assert "failed: RuntimeError" in shown
    assert "missed: PSNR 20.0 dB, below 50" in shown
    assert "passed" in shown and "the reference" in shown
    assert "2.00x (1.80" in shown  # the ratio to the reference, and its spread
    assert "1 gate is missed" in shown
    assert "it has no ddim; euler instead" in shown and "not compared: its noise is its own" in shown
    assert "silent 1.2.3" in shown
    assert "10.0x (9.00" in shown  # whole processes


def test_every_picture_is_described(folder):
    found = parsed((folder / "report.html").read_text())
    images = [attributes for tag, attributes in found.seen if tag == "img"]
    assert len(images) == 5  # the reference, two peers, two differences
    assert all(image["alt"] for image in images)


def test_markdown_is_escaped_and_finds_its_files(folder):
    text = (folder / "report.md").read_text()
    assert "<script>" not in text.split("```")[0]
    for file in re.findall(r"\]\(([a-z][^)]*\.(?:svg|png))\)", text):
        assert (folder / file).is_file(), file
    rows = [line for line in text.splitlines() if line.startswith("| broken")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 11  # the hostile name's own bars end no cell


def test_code_in_markdown_outlasts_backticks(folder):
    lines = (folder / "report.md").read_text().splitlines()
    start = lines.index("````sh")
    assert lines[start + 1 : start + 3] == ["sdrt bench '```' <b>", "````"]


def test_plots_are_xml_with_alternatives(folder):
    files = list((folder / "plots").glob("*.svg"))
    assert sorted(file.stem for file in files) == [
        "cold-start", "divergence-1", "latency", "latency-shares", "of-peak", "roofline-u-net",
        "roofline-vae", "scaling", "speed-and-sameness",
    ]  # fmt: skip
    space = "{http://www.w3.org/2000/svg}"
    for file in files:
        root = ElementTree.fromstring(file.read_text())
        ids = {one.get("id"): one.text for one in root if one.tag in (f"{space}title", f"{space}desc")}
        assert set(root.get("aria-labelledby").split()) == set(ids)
        assert all(ids.values())


def test_nothing_is_drawn_outside_and_no_text_meets_text():
    names = [f"a peer with quite a long name, number {number}" for number in range(9)]
    settings = {name: PeerSettings(runner="sdrt") for name in names}
    found = report(
        peers={
            name: PeerReport(speed=speed(0.1 + number), quality=quality(), of_peak=0.1, teraflops=0.1)
            for number, name in enumerate(names)
        },
        scenario=scenario(reference=names[0], peers=settings),
        scaling=tuple(
            ScalingPoint(peer=name, axis=axis, value=value, seconds=figure(0.1))
            for name in names
            for axis in ("batch", "sizes", "steps")
            for value in (1, 1024)
        ),
    )
    blocks = drawings(found)
    assert len(blocks) == 9
    for block in blocks:
        root = ElementTree.fromstring(block.drawing)
        width, height = (float(root.get(name)) for name in ("width", "height"))
        boxes = []
        for one in root.iter():
            places = [float(one.get(name)) for name in ("x", "cx", "x1", "x2") if one.get(name)]
            heights = [float(one.get(name)) for name in ("y", "cy", "y1", "y2") if one.get(name)]
            assert all(0 <= x <= width for x in places) and all(0 <= y <= height for y in heights)
            if one.tag.endswith("text"):
                long = 6.2 * len(one.text)  # of a sans-serif font of 12 pixels, as browsers set it
                shift = {"end": 1.0, "middle": 0.5}.get(one.get("text-anchor"), 0.0)
                left = float(one.get("x")) - shift * long
                assert left >= -1 and left + long <= width + 1, one.text
                boxes.append((left, left + long, float(one.get("y")), one.text))
        for number, (left, right, y, said) in enumerate(boxes):
            for other_left, other_right, other_y, other in boxes[number + 1 :]:
                apart = right <= other_left or other_right <= left or abs(y - other_y) >= 10
                assert apart, (block.name, said, other)


def test_marks_lie_under_their_roofs():
    """3 GFLOP in 60 ms are 0.05 TFLOP/s, at 30 operations for each of 1e8 bytes; bf16 moves half of them."""
    found = roofline.reached(report())
    unet = next(one for one in found if (one.peer, one.graph) == ("ours", "U-Net"))
    assert unet.intensity == pytest.approx(30) and unet.rate == pytest.approx(3e9 / 0.06)
    assert roofline.roofs(report()) == {"fp32": pytest.approx(0.2e12)}
    bf16 = msgspec.structs.replace(report().scenario.peers["ours"], precision="bf16")
    asked = msgspec.structs.replace(report().scenario, peers={**report().scenario.peers, "ours": bf16})
    halved = roofline.reached(report(scenario=asked))
    assert next(one for one in halved if one.peer == "ours").intensity == pytest.approx(60)


def test_page_cautions_if_the_machine_was_busy():
    def cautions(**changes):
        blocks = page(report(**changes), ()).blocks
        return [block.text for block in blocks if getattr(block, "text", "").startswith("Caution: the load")]

    assert len(cautions(load_average=(3.0,))) == 1
    assert cautions() == []


def test_report_without_figures_renders(tmp_path):
    found = report(peers={name: PeerReport(absent="gone") for name in peers()}, scaling=(), work={})
    report_files.write(found, {}, tmp_path)
    assert drawings(found) == []
    assert "No bundle of sdrt was measured" in (tmp_path / "report.md").read_text()
    assert reports.read(tmp_path / "report.json") == found


def test_noise_is_not_shown(tmp_path):
    asked = msgspec.structs.replace(report().scenario, source="random:sd15")
    report_files.write(report(scenario=asked), pictures(), tmp_path)
    assert list((tmp_path / "pictures").iterdir()) == []
    assert "pictures/" not in (tmp_path / "report.md").read_text()


def test_a_second_report_leaves_nothing_of_the_first(tmp_path):
    report_files.write(report(), pictures(), tmp_path)
    report_files.write(report(), {}, tmp_path)
    assert list((tmp_path / "pictures").iterdir()) == []


def test_result_prefers_what_was_held_to_something():
    found = report()
    assert result(found).startswith("ours makes a picture in 0.200 s, 2.00x (1.80")
    assert "60.0 dB" in result(found)
    graphs = found.peers["ours"].graphs
    unasked = {**found.peers, "broken": PeerReport(speed=speed(0.01), graphs=graphs)}
    assert result(msgspec.structs.replace(found, peers=unasked)).startswith("ours ")


def test_unet_is_what_other_stages_leave():
    (block, shares) = report_plots.latency(report())
    root = ElementTree.fromstring(shares.drawing)
    rows = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text") if one.get("class") == "end"]
    assert rows == [*["U-Net 60.0 %"] * 3, "not told apart 100 %"]
    assert "right 0.400 s" in block.alternative


def test_pictures_differ_visibly(tmp_path):
    report_files.write(report(), pictures(), tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "1-1-ours-difference.png"))
    assert (pixels == GAIN).all()  # each differs by 1
    black = np.zeros((2, 2, 3), np.uint8)
    assert difference(black, black).max() == 0
    assert difference(black, black + 200).min() == 255


def test_large_pictures_are_reduced_in_the_page_alone(tmp_path):
    (key,) = pictures()["right"]
    large = msgspec.structs.replace(pictures()["right"][key], pixels=np.zeros((1, 512, 512, 3), np.uint8))
    report_files.write(report(), {"right": {key: large}}, tmp_path)
    assert Image.open(tmp_path / "pictures" / "1-right.png").size == (512, 512)
    (image,) = [kept for tag, kept in parsed((tmp_path / "report.html").read_text()).seen if tag == "img"]
    assert image["width"] == "256"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (9.999, "10.0"),
        (0.9996, "1.00"),
        (12.34, "12.3"),
        (1234.5, "1,230"),
        (1.5e-7, "1.50e-7"),
        (-0.25, "-0.250"),
        (0, "0"),
        (float("inf"), "∞"),
    ],
)
def test_three_digits(value, text):
    assert significant(value) == text


def test_units_and_spreads():
    assert unit_of([0.02, 3.0]) == MILLISECONDS and unit_of([0.2]) == SECONDS and unit_of([]) == SECONDS
    assert MILLISECONDS.show_figure(figure(0.1)) == "100 (90.0\u2013110)"
    assert times(figure(2.0)) == "2.00x (1.80\u20132.64)"
