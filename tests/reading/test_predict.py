"""Digits in, predictions out: ensembles, doubt, digits that touch, and MNIST's own images."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.reading.digit import DigitImage, LeftOut
from mnistcli.reading.pipeline import NOTHING, PICTURE_PRIOR, only_digit
from mnistcli.reading.predict import Prediction, Reading, load_networks, read_segmentations
from mnistcli.runs.checkpoint import BUNDLED, LoadedModel, load_checkpoint
from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import (
    candidates_in,
    encoded,
    glyph,
    inverted,
    networks,
    read_text,
    reading_of,
    segmentation_of,
    touching,
    written,
)

CLASSES = tuple("0123456789")


def prediction(
    pixels_HW: NDArray[np.uint8], *, is_digit: float = 1.0, **probabilities: float
) -> Prediction:
    """A prediction with the given probabilities, as in `p7=0.9`, and 0 for other classes."""
    shares = {label: probabilities.get(f"p{label}", 0.0) for label in CLASSES}
    return Prediction(shares, DigitImage(pixels_HW, (0, 0, 28, 28)), 0, is_digit)


def bars(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    pixels_HW = np.zeros((28, 28), np.uint8)
    for left, top, right, bottom in boxes:
        pixels_HW[top:bottom, left:right] = 255
    return pixels_HW


SEVEN = bars((8, 4, 19, 7), (16, 4, 19, 24))
DOT, COVERED, BLOT = bars((13, 13, 15, 15)), bars((1, 1, 27, 27)), bars((8, 8, 20, 20))
NO_INK = np.zeros((28, 28), np.float32)
HAIRLINES = bars((6, 4, 7, 24), (10, 4, 11, 24), (14, 4, 15, 24), (18, 4, 19, 24))


def test_a_digit_gets_a_probability_for_every_class() -> None:
    [digit] = reading_of(written("7")).predictions
    assert tuple(digit.probabilities) == CLASSES
    assert sum(digit.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert digit.label == "7"
    assert 0.5 < digit.digit_probability <= 1


def test_the_most_probable_classes_come_first() -> None:
    digit = prediction(SEVEN, p3=0.2, p5=0.7, p9=0.1)
    assert digit.top(2) == [("5", 0.7), ("3", 0.2)]
    assert (digit.label, digit.probability) == ("5", 0.7)
    assert len(digit.top(10)) == 10


def test_probabilities_are_averaged_over_the_networks(trained: Path) -> None:
    reader = networks().reader
    first, second = load_checkpoint(BUNDLED["cnn-small"]), load_checkpoint(trained / "best.pth")
    pictures = [segmentation_of(written(text)) for text in ("2026", "314")]

    def probabilities(*models: LoadedModel) -> NDArray[np.float64]:
        readings = read_segmentations(pictures, reader, models)
        digits = [digit for reading in readings for digit in reading.predictions]
        return np.array([list(digit.probabilities.values()) for digit in digits])

    one, other = probabilities(first), probabilities(second)
    assert np.abs(one - other).max() > 0.01
    assert probabilities(first, second) == pytest.approx((one + other) / 2, abs=1e-6)
    both = [
        digit.by_network
        for reading in read_segmentations(pictures, reader, [first, second])
        for digit in reading.predictions
    ]
    assert np.array(both) == pytest.approx(np.stack([one, other], axis=1), abs=1e-6)
    with_reader = (probabilities(reader) + one) / 2
    assert probabilities(reader, first) == pytest.approx(with_reader, abs=1e-6)


def test_a_network_that_knows_what_is_no_digit_replaces_the_reader(trained: Path) -> None:
    small, reader = load_checkpoint(trained / "best.pth"), load_checkpoint(BUNDLED["reader"])
    assert reader.card.settings.composed > 0
    assert load_networks([small]).reader.path == BUNDLED["reader"]
    assert load_networks([small]).models == [small]
    assert load_networks([small, reader]).reader is reader
    assert [model.path for model in load_networks().models] == list(
        map(BUNDLED.get, ("reader", "cnn-small"))
    )


def test_a_network_that_was_not_trained_to_tell_reads_clear_digits() -> None:
    small = load_checkpoint(BUNDLED["cnn-small"])
    [reading] = read_segmentations([segmentation_of(written("2026"))], small, [small])
    assert reading.text == "2026"


def test_pictures_together_are_read_like_each_alone() -> None:
    pictures = [segmentation_of(written(text)) for text in ("12", "3", "4567")]
    reader = networks().reader
    together = read_segmentations([*pictures[:2], NOTHING, pictures[2]], reader, [reader])
    assert [reading.text for reading in together] == ["12", "3", "", "4567"]
    for picture, reading in zip(pictures, [*together[:2], together[3]], strict=True):
        [alone] = read_segmentations([picture], reader, [reader])
        for a, b in zip(reading.predictions, alone.predictions, strict=True):
            assert a.digit is b.digit
            # The batch size may change the order of the sums.
            assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)


def test_nothing_to_read() -> None:
    reader = networks().reader
    assert read_segmentations([], reader, [reader]) == []
    readings = read_segmentations([NOTHING, NOTHING], reader, [reader])
    assert [(reading.predictions, reading.left_out) for reading in readings] == [([], [])] * 2
    assert readings[0].text == ""
    assert readings[0].doubts == []


def test_ink_that_is_no_digit_is_left_out_even_if_nothing_is_read() -> None:
    noise_HW = np.random.default_rng(0).integers(0, 2, (28, 28), np.uint8) * 255
    noise = only_digit(DigitImage(noise_HW, (1, 2, 3, 4)), np.zeros((28, 28), np.float32))
    noise = replace(noise, no_digit_prior=PICTURE_PRIOR)
    reader, other = networks().reader, load_checkpoint(BUNDLED["cnn-small"])
    for models in ([reader], [other], [reader, other]):
        [reading] = read_segmentations([noise], reader, models)
        assert reading.predictions == []
        [left_out] = reading.left_out
        assert (left_out.box, left_out.reason) == ((1, 2, 3, 4), "no digit")


def test_a_clear_digit_is_not_doubted() -> None:
    assert prediction(SEVEN, p7=0.99, p1=0.01).doubt is None
    reading = reading_of(written("2026"))
    assert [digit.doubt for digit in reading.predictions] == [None] * 4
    assert reading.doubts == []


@pytest.mark.parametrize(
    ("pixels_HW", "probabilities", "doubt"),
    [
        pytest.param(SEVEN, {"p7": 0.51, "p1": 0.48}, "7 or 1", id="a small margin"),
        pytest.param(DOT, {"p0": 0.5, "p8": 0.5}, "0 or 8", id="a small margin comes first"),
        pytest.param(SEVEN, {"p7": 1, "is_digit": 0.4}, "no digit", id="half of a digit"),
        pytest.param(DOT, {"p1": 1}, "hardly any ink", id="a dot"),
        pytest.param(COVERED, {"p1": 1}, "hardly any paper", id="a covered sheet"),
        pytest.param(BLOT, {"p1": 1}, "too thick", id="a blot"),
        pytest.param(HAIRLINES, {"p1": 1}, "too thin", id="hairlines"),
    ],
)
def test_unclear_digits_are_doubted(
    pixels_HW: NDArray[np.uint8], probabilities: dict[str, float], doubt: str
) -> None:
    assert doubt in (prediction(pixels_HW, **probabilities).doubt or "")


def test_lines_of_writing_are_separated_by_spaces() -> None:
    lines = [("4", 0), ("2", 0), ("0", 1), ("7", 2)]
    digits = [replace(prediction(SEVEN, **{f"p{label}": 1.0}), line=line) for label, line in lines]
    assert Reading(digits, [], NO_INK).text == "42 0 7"
    assert Reading([], [], NO_INK).text == ""
    assert read_text(written("203", "58")) == "203 58"


def test_a_reading_is_doubted_for_its_digits_and_for_what_is_left_out() -> None:
    sure, unsure = prediction(SEVEN, p7=1), prediction(SEVEN, p7=0.51, p1=0.48)
    rest = LeftOut(sure.digit, "no digit")
    assert unsure.doubt
    assert Reading([sure, unsure], [], NO_INK).doubts == [unsure.doubt]
    assert Reading([sure], [rest], NO_INK).doubts == ["left out: 1 part of the ink"]
    assert Reading([unsure], [rest, rest], NO_INK).doubts == [
        unsure.doubt,
        "left out: 2 parts of the ink",
    ]


@pytest.mark.parametrize(
    "labels",
    [
        "00",
        "06",
        "36",
        "60",
        "68",
        "92",
    ],
)
def test_digits_that_touch_are_read_as_two(labels: str) -> None:
    picture = touching(labels, overlap_px=6)
    assert ndimage.label(np.asarray(picture) < 128, np.ones((3, 3)))[1] == 1
    reading = reading_of(picture)
    assert reading.text == labels
    (left, _, middle, _), (next_left, _, right, _) = (
        prediction.digit.box for prediction in reading.predictions
    )
    # A path bends around the digits, so that their boxes overlap.
    assert left < next_left <= middle + 1
    assert middle < right


@pytest.mark.parametrize("label", "0578")
def test_a_wide_digit_is_not_cut(label: str) -> None:
    ink = glyph(label, 80)
    cropped = ink.crop(ink.getbbox())
    picture = Image.new("L", (200, 120))
    picture.paste(cropped.resize((round(1.4 * cropped.height), cropped.height)), (20, 20))
    assert len(candidates_in(inverted(picture))) > 1
    assert read_text(inverted(picture)) == label


@pytest.mark.slow
def test_the_comparison_with_naive_preprocessing_runs(tmp_path: Path) -> None:
    written("2026").save(tmp_path / "year.png")
    written("7").save(tmp_path / "7.png")
    (tmp_path / "labels.csv").write_text("file,label\nyear.png,2026\n7.png,7\n")
    script = REPOSITORY / "docs" / "naive_reading.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=True
    )
    assert re.search(r"mnist predict\s+all\s+2 of\s+2 ", result.stdout)
    assert re.search(r"naive\s+several digits\s+0 of\s+1 ", result.stdout)


def pasted(picture: Image.Image, *, side_px: int, at: tuple[int, int]) -> Image.Image:
    larger = Image.new("L", (side_px, side_px), 255)
    larger.paste(picture, at)
    return larger


def enlarged(image: Image.Image) -> Image.Image:
    """Three times as large, dark on light."""
    return inverted(image.resize((84, 84), Image.Resampling.BICUBIC))


# Changes of an image, light on dark, and how many of 1,000 more are misread at most.
CHANGES: dict[str, Callable[[Image.Image], Image.Image | bytes]] = {
    "saved": lambda image: image,
    "dark on light": inverted,
    "in a large picture": lambda image: pasted(enlarged(image), side_px=240, at=(130, 90)),
    "small": lambda image: pasted(
        inverted(image.resize((14, 14), Image.Resampling.BICUBIC)), side_px=100, at=(60, 20)
    ),
    "blurred": lambda image: enlarged(image).filter(ImageFilter.GaussianBlur(1.5)),
    "jpeg": lambda image: encoded(enlarged(image), "JPEG", quality=40),
}


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.parametrize("change", CHANGES)
def test_mnists_images_are_read_in_other_pictures(mnist_dir: Path, change: str) -> None:
    examples = load_dataset(get_dataset("mnist"), "test", mnist_dir)
    num, limit = (10_000, 5) if change == "saved" else (1000, 10)
    images = [Image.fromarray(image_HW) for image_HW in examples.images_NHW[:num].numpy()]
    labels = examples.labels_N[:num].tolist()
    unchanged = [
        only_digit(DigitImage(np.asarray(image), (0, 0, 28, 28)), NO_INK) for image in images
    ]
    reader = networks().reader

    def num_correct(readings: list[Reading]) -> int:
        texts = [reading.text for reading in readings]
        return sum(text == str(label) for text, label in zip(texts, labels, strict=True))

    before = read_segmentations(unchanged, reader, [reader])
    after = [reading_of(CHANGES[change](image)) for image in images]
    assert num_correct(before) - num_correct(after) <= limit
    assert num_correct(before) > 0.98 * num


def test_a_one_where_a_slash_may_be_is_doubted() -> None:
    sure = prediction(SEVEN, p1=1)
    assert not sure.doubt
    may_be_slash = replace(sure, is_between=True, digit_probability=0.7)
    assert may_be_slash.doubt == "unsure: it may be a slash"
    assert not replace(may_be_slash, is_between=False).doubt
    assert not replace(may_be_slash, digit_probability=0.8).doubt


def test_a_digit_between_others_is_one_of_the_same_line() -> None:
    read = reading_of(written("203", "58")).predictions
    assert [each.is_between for each in read] == [False, True, False, False, False]
