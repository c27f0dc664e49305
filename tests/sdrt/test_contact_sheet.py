"""Sheets of pictures: every picture whole and in its place, labels beside and never over them."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.many import contact_sheet
from sdrt.many.contact_sheet import ContactSheet, best_columns


def colours(count, width=40, height=24):
    """Pictures of one colour each, none of which is white, black or grey."""
    return [np.full((height, width, 3), (200, 10 + 3 * i, 90), np.uint8) for i in range(count)]


def places(sheet, pictures):
    """Top left corners of the pictures, each of which is there whole, by their colours."""
    pixels = np.asarray(sheet.image)
    corners = []
    for picture in pictures:
        rows, columns = np.nonzero((pixels == picture[0, 0]).all(axis=-1))
        assert len(rows) == picture.shape[0] * picture.shape[1]
        corners.append((int(columns.min()), int(rows.min())))
    return corners


@pytest.mark.parametrize("labelled", [False, True])
def test_pictures_stand_in_rows(labelled):
    pictures = colours(6)
    labels = {"x_labels": ["a", "long label of a column", "c"], "y_labels": ["1", "2"], "title": "all"}
    sheet = ContactSheet(6, 3, (40, 24), **(labels if labelled else {}))
    for i, picture in enumerate(pictures):
        sheet.place(i, picture)
    corners = places(sheet, pictures)
    lefts, tops = sorted({x for x, _ in corners}), sorted({y for _, y in corners})
    assert (len(lefts), len(tops)) == (3, 2)
    assert corners == [(x, y) for y in tops for x in lefts]


def test_smaller_pictures_stand_in_the_middle_of_their_cells():
    large, small = colours(2)
    sheet = ContactSheet(2, 2, (40, 24))
    sheet.place(0, large)
    sheet.place(1, small[:8, :20])
    (left, top), (x, y) = places(sheet, [large, small[:8, :20]])
    assert y - top == 8
    assert (sheet.image.width - x - 20) - left == 10


def test_labels_are_written_above_and_beside():
    plain = ContactSheet(4, 2, (80, 80))
    sheet = ContactSheet(4, 2, (80, 80), x_labels=["x1", "x2"], y_labels=["y1", "y2"])
    dark = np.asarray(sheet.image).min(axis=-1) < 128
    assert not (np.asarray(plain.image) < 255).any()
    right, below = sheet.image.width - plain.image.width, sheet.image.height - plain.image.height
    assert dark[:below, right:].any()
    assert dark[below:, :right].any()
    assert not dark[below + 4 :, right + 8 :].any()


def test_a_large_sheet_is_scaled_down(monkeypatch):
    monkeypatch.setattr(contact_sheet, "_MAX_PIXELS", 64 * 64)
    sheet = ContactSheet(16, 4, (64, 64))
    for i in range(16):
        sheet.place(i, np.full((64, 64, 3), 10, np.uint8))
    assert sheet.image.width == sheet.image.height < 64 + 2 * 8 + 4 * 4
    assert (np.asarray(sheet.image) == 10).all(axis=-1).sum() == 64 * 64


@pytest.mark.parametrize(
    ("count", "size", "columns"),
    [
        (1, (64, 64), 1),
        (2, (64, 64), 2),
        (4, (64, 64), 2),
        (6, (64, 64), 3),
        (8, (64, 64), 4),
        (12, (64, 64), 4),
        (100, (64, 64), 13),
        (4, (64, 128), 4),
        (4, (192, 64), 1),
    ],
)
def test_columns(count, size, columns):
    assert best_columns(count, *size) == columns
