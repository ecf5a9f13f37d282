"""The picture of a confusion: squares as dark as shares, and no import that takes long."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tonemill.audiotools.pictures.confusion import save_confusion_picture


def drawn(counts: np.ndarray, labels: list[str]) -> tuple[bytes, np.ndarray]:
    file = BytesIO()
    save_confusion_picture(file, counts, labels)
    return file.getvalue(), np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize(("classes", "square"), [(4, 34), (31, 12)])
def test_each_row_of_the_identity_has_one_dark_square(classes: int, square: int) -> None:
    data, pixels = drawn(np.eye(classes, dtype=int), [f"{number}" for number in range(classes)])
    assert drawn(np.eye(classes, dtype=int), [f"{number}" for number in range(classes)])[0] == data
    dark = (pixels == (8, 48, 107)).all(axis=2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert len(rows) == len(columns) == classes * square
    for number in range(classes):
        inside = [some[number * square : (number + 1) * square] for some in (rows, columns)]
        assert dark[inside[0]].sum() == dark[:, inside[1]].sum() > 0.6 * square**2


def test_a_share_is_a_colour_between_white_and_the_darkest() -> None:
    _, pixels = drawn(np.array([[1, 1], [0, 0]]), ["a", ""])
    half = [round((255 + one) / 2) for one in (8, 48, 107)]
    near = (np.abs(pixels.astype(int) - half) <= 1).all(axis=2)
    assert 0.6 < near.sum() / (2 * 34**2) <= 1


def test_matplotlib_is_not_imported() -> None:
    program = (
        "import io, sys, numpy; from tonemill.audiotools.pictures.confusion import save_confusion_picture as save;"
        "save(io.BytesIO(), numpy.eye(2, dtype=int), ['a', 'b']); print('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
