"""The network that finds ink: a logit for every pixel, whatever the brightness and contrast."""

import pytest
import torch
from torch import Tensor

from mnistcli.models.ink_finder import STRIDE_PX, InkFinder


@pytest.fixture(scope="module")
def network() -> InkFinder:
    torch.manual_seed(0)
    return InkFinder().eval()


def pictures(num: int, height: int, width: int) -> Tensor:
    return torch.rand(num, 1, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(STRIDE_PX, STRIDE_PX), (64, 96), (16, 160)])
@torch.inference_mode()
def test_every_pixel_gets_a_logit(network: InkFinder, size: tuple[int, int]) -> None:
    logits_N1HW = network(pictures(2, *size))
    assert logits_N1HW.shape == (2, 1, *size)
    assert logits_N1HW.dtype == torch.float32
    assert logits_N1HW.isfinite().all()


@torch.inference_mode()
def test_pictures_in_a_batch_do_not_change_each_other(network: InkFinder) -> None:
    x_N1HW = pictures(3, 32, 48)
    alone_11HW = network(x_N1HW[1:2])
    assert torch.allclose(network(x_N1HW)[1:2], alone_11HW, atol=1e-4)


@torch.inference_mode()
def test_brightness_and_contrast_hardly_matter(network: InkFinder) -> None:
    x_N1HW = pictures(1, 64, 64)
    logits_N1HW, changed_N1HW = network(x_N1HW), network(0.5 * x_N1HW + 0.2)
    brighter_N1HW = network(x_N1HW + 0.2)
    spread = logits_N1HW.std()
    assert torch.allclose(brighter_N1HW, logits_N1HW, atol=1e-4)
    assert (changed_N1HW - logits_N1HW).abs().max() < 0.25 * spread
    assert (network(1 - x_N1HW) - logits_N1HW).abs().max() > spread, "not blind to polarity"


@torch.inference_mode()
def test_a_blank_picture_has_finite_logits(network: InkFinder) -> None:
    assert network(torch.full((1, 1, 32, 32), 0.7)).isfinite().all()


def test_every_parameter_is_trained() -> None:
    network = InkFinder().train()
    network(pictures(2, 32, 32)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
