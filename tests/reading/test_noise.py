"""Noise that was added is measured."""

import numpy as np
import pytest

from mnistcli.reading.noise import MIN_CONTRAST, background_noise, pixel_noise, visible_contrast

NOISE_HW = np.random.default_rng(0).normal(0, 0.03, (300, 300)).astype(np.float32)


def test_pixel_noise_does_not_depend_on_the_light() -> None:
    light_HW = np.linspace(0, 1, 300, dtype=np.float32)[None, :].repeat(300, axis=0)
    assert pixel_noise(light_HW + NOISE_HW) == pytest.approx(0.03, rel=0.05)
    assert pixel_noise(np.ones((4, 1), np.float32)) == 0


def test_background_noise_does_not_depend_on_the_ink() -> None:
    contrast_HW = NOISE_HW.copy()
    contrast_HW[:100] = 0.8
    assert background_noise(contrast_HW) == pytest.approx(0.03, rel=0.05)
    assert background_noise(np.ones((3, 3), np.float32)) == 0


def test_visible_contrast_is_above_the_noise() -> None:
    assert visible_contrast(0) == MIN_CONTRAST
    assert (visible_contrast(0.03) > NOISE_HW).mean() > 0.999
