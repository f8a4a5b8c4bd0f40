"""Corruptions change images by the stated amounts."""

import math
from pathlib import Path
from statistics import mean

import pytest
import torch
from torch import Tensor

from mnistcli.config.choices import CorruptionName, values
from mnistcli.data.corruptions import CORRUPTIONS, Corruption, corrupt, parse_corruptions
from mnistcli.data.datasets import DATASETS, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint


def corrupted(images_NHW: Tensor, name: str, amount: float) -> Tensor:
    return corrupt(images_NHW, CORRUPTIONS[name], amount)


def dots(*positions: tuple[int, int], num: int = 1) -> Tensor:
    """`num` images of 28x28 with full ink at these rows and columns."""
    images_NHW = torch.zeros(num, 28, 28, dtype=torch.uint8)
    for row, column in positions:
        images_NHW[:, row, column] = 255
    return images_NHW


def square(side_px: int) -> Tensor:
    """An image with a filled square in its middle."""
    images_NHW = torch.zeros(1, 28, 28, dtype=torch.uint8)
    first, last = 14 - side_px // 2, 14 - side_px // 2 + side_px
    images_NHW[:, first:last, first:last] = 255
    return images_NHW


def inked(image_HW: Tensor) -> set[tuple[int, int]]:
    return {(row, column) for row, column in image_HW.nonzero().tolist()}


def test_the_options_offer_every_corruption() -> None:
    assert tuple(CORRUPTIONS) == values(CorruptionName)


def test_a_comma_separated_list_names_corruptions_once_and_in_its_order() -> None:
    assert parse_corruptions("noise, rotate,noise") == (CORRUPTIONS["noise"], CORRUPTIONS["rotate"])
    assert parse_corruptions("blur,all")[:2] == (CORRUPTIONS["blur"], CORRUPTIONS["rotate"])
    assert parse_corruptions("rotate, NOISE") == parse_corruptions("rotate noise")
    assert len(parse_corruptions("all")) == len(CORRUPTIONS)


@pytest.mark.parametrize(("names", "fix"), [("rotat", "rotate"), ("blur nois", "noise")])
def test_an_unknown_name_is_refused_with_the_nearest(names: str, fix: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_corruptions(names)
    assert refused.value.fix == f"Did you mean {fix}?"


@pytest.mark.parametrize("names", ["", " , ", "everything"])
def test_what_is_not_a_name_is_refused(names: str) -> None:
    with pytest.raises(SettingsError, match="There is no corruption called"):
        parse_corruptions(names)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_images_come_out_every_time(name: str) -> None:
    images_NHW = load_dataset(DATASETS["digits"], "test", Path()).images_NHW[:40]
    before_NHW = images_NHW.clone()
    once_NHW = corrupted(images_NHW, name, CORRUPTIONS[name].amounts[1])
    torch.rand(7)  # the global generator does not matter
    assert torch.equal(once_NHW, corrupted(images_NHW, name, CORRUPTIONS[name].amounts[1]))
    assert torch.equal(images_NHW, before_NHW)
    assert (once_NHW.dtype, once_NHW.shape) == (torch.uint8, images_NHW.shape)
    assert not torch.equal(once_NHW, images_NHW)


def test_a_shift_moves_by_whole_pixels_on_both_axes() -> None:
    shifted_NHW = corrupted(dots((10, 12), num=60), "shift", 3)
    positions = {frozenset(inked(image_HW)) for image_HW in shifted_NHW}
    assert positions == {frozenset([(row, column)]) for row in (7, 13) for column in (9, 15)}
    assert shifted_NHW.amax() == 255


def test_a_rotation_by_a_right_angle_takes_a_dot_to_either_side() -> None:
    turned_NHW = corrupted(dots((4, 13), num=20), "rotate", 90)
    positions = {frozenset(inked((image_HW > 200).int())) for image_HW in turned_NHW}
    assert positions == {frozenset([(13, 23)]), frozenset([(14, 4)])}


def test_a_rotation_is_by_the_stated_angle() -> None:
    rows = [(row, 13) for row in range(3, 25)] + [(row, 14) for row in range(3, 25)]
    for image_HW in corrupted(dots(*rows, num=4), "rotate", 20).double():
        positions_P2 = image_HW.nonzero().double() - 13.5
        ink_P = image_HW[image_HW > 0]
        moments_22 = (positions_P2 * ink_P[:, None]).T @ positions_P2
        down, across = torch.linalg.eigh(moments_22).eigenvectors[:, 1].tolist()
        assert abs(math.degrees(math.atan(across / down))) == pytest.approx(20, abs=0.2)


def test_a_scaled_image_has_the_stated_percentage_of_its_sides() -> None:
    assert inked(corrupted(square(20), "scale", 50)[0]) == inked(square(10)[0])


def test_a_shear_moves_rows_by_the_tangent() -> None:
    rows = [(row, 13) for row in range(28)] + [(row, 14) for row in range(28)]
    sheared_HW = corrupted(dots(*rows), "shear", 30)[0].double()
    middles_H = (sheared_HW * torch.arange(28)).sum(dim=1) / sheared_HW.sum(dim=1)
    step_px = (middles_H[20] - middles_H[7]) / 13
    assert abs(step_px) == pytest.approx(math.tan(math.radians(30)), rel=0.02)


def test_a_blur_keeps_the_ink_and_has_the_stated_deviation() -> None:
    for sd_px in CORRUPTIONS["blur"].amounts:
        blurred_HW = corrupted(square(8), "blur", sd_px)[0].double()
        assert blurred_HW.sum() == pytest.approx(64 * 255, rel=0.01)
        offsets_W = torch.arange(28) - 13.5
        variance = (blurred_HW.sum(dim=0) * offsets_W**2).sum() / blurred_HW.sum()
        # That of eight pixels side by side is (8² - 1) / 12.
        assert variance - 63 / 12 == pytest.approx(sd_px**2, rel=0.05)


def test_noise_has_the_stated_deviation() -> None:
    gray_NHW = torch.full((50, 28, 28), 128, dtype=torch.uint8)
    noise_NHW = corrupted(gray_NHW, "noise", 10).double() - 128
    assert noise_NHW.std() == pytest.approx(25.5, rel=0.02)
    assert noise_NHW.mean() == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(("name", "by_px"), [("thin", -1), ("thick", 1)])
@pytest.mark.parametrize("amount", [0.5, 1, 1.5])
def test_strokes_become_wider_or_narrower_by_the_stated_amount(
    name: str, by_px: int, amount: float
) -> None:
    stroke_NHW = torch.zeros(1, 28, 28, dtype=torch.uint8)
    stroke_NHW[:, 3:25, 12:16] = 255
    width_px = corrupted(stroke_NHW, name, amount)[0, 14].double().sum() / 255
    assert width_px == pytest.approx(4 + by_px * amount, abs=0.15)


@pytest.mark.slow
def test_accuracy_falls_with_the_amount() -> None:
    """Averaged over all corruptions, on real handwriting; a single one may do no harm."""
    model = load_checkpoint(BUNDLED_CHECKPOINT)
    test = load_dataset(DATASETS["digits"], "test", Path())

    def accuracy(corruption: Corruption, amount: float) -> float:
        images_NHW = corrupt(test.images_NHW, corruption, amount)
        examples = Examples(images_NHW, test.labels_N)
        return evaluate_network(model.network, examples, model.normalization).accuracy

    means = [
        mean(
            accuracy(corruption, corruption.amounts[severity])
            for corruption in CORRUPTIONS.values()
        )
        for severity in range(3)
    ]
    assert means[0] > means[1] + 0.02 > means[2] + 0.1
