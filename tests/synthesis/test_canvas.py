"""Strokes, stamps, lines and letters on an array of ink."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnistcli.data.mnist_format import ink_box
from mnistcli.synthesis.canvas import draw_polyline, draw_text, fonts, smooth_noise, stamp, stroke
from tests.helpers.paths import REPOSITORY


def test_a_stroke_fades_over_one_pixel() -> None:
    distance_HW = np.array([[0, 1.5, 2, 2.5, 9]], np.float32)
    assert stroke(distance_HW, 4).tolist() == [[1, 1, 0.5, 0, 0]]


def test_a_stamp_keeps_the_darker_ink_and_is_cut_off_at_the_edges() -> None:
    ink_HW = np.zeros((6, 8), np.float32)
    ink_HW[0, 0] = 0.9
    patch_HW = np.full((3, 3), 0.5, np.float32)
    stamp(ink_HW, patch_HW, -1, -1)
    stamp(ink_HW, patch_HW, 6, 4)
    for outside in ((8, 0), (-3, 0), (0, 6), (50, 50)):
        stamp(ink_HW, patch_HW, *outside)
    expected_HW = np.zeros((6, 8))
    expected_HW[:2, :2] = expected_HW[4:, 6:] = 0.5
    expected_HW[0, 0] = 0.9
    assert ink_HW == pytest.approx(expected_HW)


def test_a_polyline_goes_from_point_to_point() -> None:
    ink_HW = np.zeros((50, 50), np.float32)
    draw_polyline(ink_HW, [(10, 10), (40, 10), (40, 30)], 4)
    assert ink_HW[10, 12:38].min() == ink_HW[12:28, 40].min() == 1
    assert ink_HW[20:, :35].max() == 0
    assert ink_box(ink_HW, visible=0.5) == pytest.approx((10, 8, 42, 31), abs=2)


@pytest.mark.parametrize("font", fonts()[:3])
def test_text_has_its_height_and_place(font: object) -> None:
    ink_HW = np.zeros((120, 160), np.float32)
    path = next(each for each in fonts() if each == font)
    draw_text(ink_HW, "48", (80, 60), height_px=40, tilt_degrees=0, font=path)
    left, top, right, bottom = ink_box(ink_HW, visible=0.5)
    assert bottom - top == pytest.approx(40, rel=0.2)
    assert (left + right) / 2 == pytest.approx(80, abs=16)


def test_smooth_noise_changes_slowly() -> None:
    noise_HW = smooth_noise(np.random.default_rng(0), (300, 200), 10)
    assert noise_HW.shape == (300, 200)
    assert noise_HW.std() == pytest.approx(1, rel=0.35)
    assert np.abs(np.diff(noise_HW, axis=1)).mean() < 0.2


def test_fonts_are_found_whatever_the_configuration_of_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    code = "from mnistcli.synthesis.canvas import fonts; print(len(fonts()))"
    environ = {"MPLBACKEND": "Qt4Agg", "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )
    assert (found.stdout, found.stderr) == (f"{len(fonts())}\n", "")
