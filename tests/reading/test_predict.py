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
from mnistcli.reading.digit import DigitImage
from mnistcli.reading.predict import Prediction, predict_digits, predictions_to_text
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint
from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import (
    bundled,
    encoded,
    glyph,
    inverted,
    read_text,
    segmentations_in,
    steps_of,
    touching,
    written,
)

CLASSES = tuple("0123456789")


def prediction(pixels_HW: NDArray[np.uint8], **probabilities: float) -> Prediction:
    """A prediction with the given probabilities, as in `p7=0.9`, and 0 for other classes."""
    shares = {label: probabilities.get(f"p{label}", 0.0) for label in CLASSES}
    return Prediction(shares, DigitImage(pixels_HW, (0, 0, 28, 28)))


def bars(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    pixels_HW = np.zeros((28, 28), np.uint8)
    for left, top, right, bottom in boxes:
        pixels_HW[top:bottom, left:right] = 255
    return pixels_HW


SEVEN = bars((8, 4, 19, 7), (16, 4, 19, 24))
DOT, COVERED, BLOT = bars((13, 13, 15, 15)), bars((1, 1, 27, 27)), bars((8, 8, 20, 20))
HAIRLINES = bars((6, 4, 7, 24), (10, 4, 11, 24), (14, 4, 15, 24), (18, 4, 19, 24))


def test_a_digit_gets_a_probability_for_every_class() -> None:
    [[digit]] = predict_digits([bundled()], [segmentations_in(written("7"))])
    assert tuple(digit.probabilities) == CLASSES
    assert sum(digit.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert digit.label == "7"


def test_the_most_probable_classes_come_first() -> None:
    digit = prediction(SEVEN, p3=0.2, p5=0.7, p9=0.1)
    assert digit.top(2) == [("5", 0.7), ("3", 0.2)]
    assert (digit.label, digit.probability) == ("5", 0.7)
    assert len(digit.top(10)) == 10


def test_probabilities_are_averaged_over_the_networks(trained: Path) -> None:
    other = load_checkpoint(trained / "best.pth")
    pictures = [segmentations_in(written(text)) for text in ("2026", "314")]

    def probabilities(*models: LoadedModel) -> NDArray[np.float32]:
        digits = [digit for picture in predict_digits(models, pictures) for digit in picture]
        return np.array([list(digit.probabilities.values()) for digit in digits], np.float32)

    first, second = probabilities(bundled()), probabilities(other)
    assert np.abs(first - second).max() > 0.01
    assert np.array_equal(probabilities(bundled(), other), (first + second) / 2)


def test_pictures_together_are_read_like_each_alone() -> None:
    pictures = [segmentations_in(written(text)) for text in ("12", "3", "4567")]
    together = predict_digits([bundled()], [*pictures[:2], [], pictures[2]])
    assert [predictions_to_text(digits) for digits in together] == ["12", "3", "", "4567"]
    alone = [predict_digits([bundled()], [picture])[0] for picture in pictures]
    for digits, expected in zip([*together[:2], together[3]], alone, strict=True):
        for a, b in zip(digits, expected, strict=True):
            assert a.digit is b.digit
            # The batch size may change the order of the sums.
            assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)


def test_nothing_to_read() -> None:
    assert predict_digits([bundled()], []) == []
    assert predict_digits([bundled()], [[], []]) == [[], []]


def test_a_clear_digit_is_not_doubted() -> None:
    assert prediction(SEVEN, p7=0.99, p1=0.01).doubt is None
    [digits] = predict_digits([bundled()], [segmentations_in(written("2026"))])
    assert [digit.doubt for digit in digits] == [None] * 4


@pytest.mark.parametrize(
    ("pixels_HW", "probabilities", "doubt"),
    [
        pytest.param(SEVEN, {"p7": 0.51, "p1": 0.48}, "7 or 1", id="a small margin"),
        pytest.param(DOT, {"p0": 0.5, "p8": 0.5}, "0 or 8", id="a small margin comes first"),
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
    def at(label: str, line: int) -> Prediction:
        digit = prediction(SEVEN, **{f"p{label}": 1.0})
        return replace(digit, digit=replace(digit.digit, line=line))

    assert predictions_to_text([]) == ""
    assert predictions_to_text([at("4", 0), at("2", 0), at("0", 1), at("7", 2)]) == "42 0 7"
    assert read_text(written("203", "58")) == "203 58"


@pytest.mark.parametrize("labels", ["00", "06", "36", "60", "68", "92"])
def test_digits_that_touch_are_read_as_two(labels: str) -> None:
    picture = touching(labels, overlap_px=6)
    assert ndimage.label(np.asarray(picture) < 128, np.ones((3, 3)))[1] == 1
    [digits] = predict_digits([bundled()], [segmentations_in(picture)])
    assert predictions_to_text(digits) == labels
    (left, _, middle, _), (next_left, _, right, _) = (digit.digit.box for digit in digits)
    assert left < middle <= next_left + 1 < right


@pytest.mark.parametrize("label", "0578")
def test_a_wide_digit_is_not_cut(label: str) -> None:
    ink = glyph(label, 80)
    cropped = ink.crop(ink.getbbox())
    page = Image.new("L", (200, 120))
    page.paste(cropped.resize((round(1.4 * cropped.height), cropped.height)), (20, 20))
    assert len(segmentations_in(inverted(page))[0]) > 1
    assert read_text(inverted(page)) == label


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
    page = Image.new("L", (side_px, side_px), 255)
    page.paste(picture, at)
    return page


def enlarged(image: Image.Image) -> Image.Image:
    """Three times as large, dark on light."""
    return inverted(image.resize((84, 84), Image.Resampling.BICUBIC))


# Changes of an image, light on dark, and how many of 1,000 more are misread at most.
CHANGES: dict[str, Callable[[Image.Image], Image.Image | bytes]] = {
    "saved": lambda image: image,
    "dark on light": inverted,
    "on a page": lambda image: pasted(enlarged(image), side_px=240, at=(130, 90)),
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
    unchanged = [[((DigitImage(np.asarray(image), (0, 0, 28, 28)),),)] for image in images]
    changed = [steps_of(CHANGES[change](image)).digits for image in images]

    def num_correct(read: list[list[Prediction]]) -> int:
        texts = map(predictions_to_text, read)
        return sum(text == str(label) for text, label in zip(texts, labels, strict=True))

    predicted = [predict_digits([bundled()], pictures) for pictures in (unchanged, changed)]
    assert num_correct(predicted[0]) - num_correct(predicted[1]) <= limit
