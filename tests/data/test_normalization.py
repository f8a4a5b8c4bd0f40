"""A network's input: resized and normalized."""

import pytest
import torch

from mnistcli.data.normalization import Normalization, normalize
from tests.helpers.examples import blobs, center_of_mass


def test_normalized_values_are_those_calculated_by_hand() -> None:
    images_NHW = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    x_NCHW = normalize(images_NHW, Normalization(mean=0.2, std=0.4, input_px=2))
    assert x_NCHW.dtype == torch.float32
    torch.testing.assert_close(x_NCHW, torch.tensor([[[[-0.5, 2.0], [0.0, 0.5]]]]))


def test_an_image_of_another_size_is_resized() -> None:
    x_NCHW = normalize(blobs(3), Normalization(mean=0.0, std=1.0, input_px=64))
    assert x_NCHW.shape == (3, 1, 64, 64)
    assert x_NCHW.min() >= 0
    assert x_NCHW.max() <= 1
    assert x_NCHW.mean().item() == pytest.approx(blobs(1).float().mean().item() / 255, rel=0.01)
    expected_N2 = (center_of_mass(blobs(3)) + 0.5) * 64 / 28 - 0.5
    torch.testing.assert_close(center_of_mass(x_NCHW.squeeze(1)), expected_N2, rtol=0, atol=0.05)


def test_a_flat_image_stays_flat_when_resized() -> None:
    gray_NHW = torch.full((1, 28, 28), 51, dtype=torch.uint8)
    x_NCHW = normalize(gray_NHW, Normalization(mean=0.0, std=1.0, input_px=64))
    torch.testing.assert_close(x_NCHW, torch.full((1, 1, 64, 64), 0.2))
