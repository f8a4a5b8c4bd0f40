"""Digits in, predictions out: ensembles, doubt, digits that touch, and MNIST's own images."""

import functools
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from scipy import ndimage
from sklearn.datasets import load_digits

from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.reading.decode import decode_picture
from mnistcli.reading.pipeline import DigitImage, Segmentations, read_digits
from mnistcli.reading.predict import (
    Prediction,
    predict_digits,
    predictions_to_text,
)
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint

Picture = Image.Image

CLASSES = tuple("0123456789")
HEIGHT_PX, PITCH_PX = 80, 95


@functools.cache
def drawn(label: str) -> Picture:
    """A handwritten digit of scikit-learn's that the bundled weights know, light on dark."""
    bunch = load_digits()
    # The fifth 1 has a flag, and the bundled weights take it for a 4.
    number = 11 if label == "1" else 4
    grey = bunch.images[np.flatnonzero(bunch.target == int(label))[number]]
    ink = Image.fromarray((grey * 15.9).astype(np.uint8))
    ink = ink.resize((HEIGHT_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
    return ink.point([min(255, max(0, 4 * (v - 96))) for v in range(256)])


def inverted(picture: Picture) -> Picture:
    return picture.point([255 - v for v in range(256)])


def written(*lines: str) -> Picture:
    """Lines of digits that do not touch, dark on white."""
    page = Image.new("L", (40 + PITCH_PX * max(map(len, lines)), 10 + 110 * len(lines)))
    for row, line in enumerate(lines):
        for column, label in enumerate(line):
            page.paste(drawn(label), (20 + PITCH_PX * column, 15 + 110 * row))
    return inverted(page)


def touching(labels: str, *, overlap_px: int) -> Picture:
    """Digits pushed into each other, dark on white."""
    cropped = [drawn(label).crop(drawn(label).getbbox()) for label in labels]
    page = Image.new("L", (40 + sum(each.width for each in cropped), 40 + HEIGHT_PX))
    left = 20
    for each in cropped:
        layer = Image.new("L", page.size)
        layer.paste(each, (left, 20))
        page = ImageChops.lighter(page, layer)
        left += each.width - overlap_px
    return inverted(page)


def digits_in(picture: Picture, format_: str = "PNG", **options: Any) -> list[Segmentations]:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return read_digits(decode_picture(buffer.getvalue(), name="picture"))


def single(pixels_HW: NDArray[np.uint8]) -> list[Segmentations]:
    return [((DigitImage(pixels_HW, (0, 0, 28, 28)),),)]


def prediction(pixels_HW: NDArray[np.uint8], **probabilities: float) -> Prediction:
    shares = {name: probabilities.get(f"p{name}", 0.0) for name in CLASSES}
    return Prediction(shares, DigitImage(pixels_HW, (0, 0, 28, 28)))


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    return load_checkpoint(BUNDLED_CHECKPOINT)


@pytest.fixture
def other(trained: Path) -> LoadedModel:
    return load_checkpoint(trained / "best.pth")


def test_a_digit_gets_a_probability_for_every_class(bundled: LoadedModel) -> None:
    ((read,),) = predict_digits([bundled], [digits_in(written("7"))])
    assert tuple(read.probabilities) == CLASSES
    assert sum(read.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert read.label == "7"
    assert read.probability == max(read.probabilities.values())


def test_top_gives_the_most_probable_classes_first() -> None:
    read = prediction(np.zeros((28, 28), np.uint8), p3=0.2, p5=0.7, p9=0.1)
    assert read.top(2) == [("5", 0.7), ("3", 0.2)]
    assert (read.label, read.probability) == ("5", 0.7)
    assert len(read.top(10)) == 10


def test_two_networks_give_the_mean_of_their_probabilities(
    bundled: LoadedModel, other: LoadedModel
) -> None:
    pictures = [digits_in(written(text)) for text in ("2026", "314")]

    def probabilities(*models: LoadedModel) -> NDArray[np.float32]:
        found = [each for digits in predict_digits(models, pictures) for each in digits]
        return np.array([list(each.probabilities.values()) for each in found], np.float32)

    first, second = probabilities(bundled), probabilities(other)
    assert np.abs(first - second).max() > 0.01
    assert np.array_equal(probabilities(bundled, other), (first + second) / 2)
    assert np.array_equal(probabilities(other, bundled), (first + second) / 2)


def test_the_same_network_twice_is_that_network(bundled: LoadedModel) -> None:
    pictures = [digits_in(written("58"))]
    assert predict_digits([bundled, bundled], pictures) == predict_digits([bundled], pictures)


def test_pictures_are_read_together_as_they_are_alone(bundled: LoadedModel) -> None:
    pictures = [digits_in(written(text)) for text in ("12", "3", "4567")]
    together = predict_digits([bundled], [*pictures[:2], [], pictures[2]])
    assert [predictions_to_text(each) for each in together] == ["12", "3", "", "4567"]
    for read, alone in zip([*together[:2], together[3]], pictures, strict=True):
        for a, b in zip(read, predict_digits([bundled], [alone])[0], strict=True):
            assert a.digit == b.digit
            assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)


def test_nothing_to_read_gives_no_predictions(bundled: LoadedModel) -> None:
    assert predict_digits([bundled], []) == []
    assert predict_digits([bundled], [[], []]) == [[], []]


def strokes(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    pixels_HW = np.zeros((28, 28), np.uint8)
    for left, top, right, bottom in boxes:
        pixels_HW[top:bottom, left:right] = 255
    return pixels_HW


# A hook, a dot, a sheet all but covered, a blot, and four hairlines.
USUAL = strokes((8, 4, 19, 7), (16, 4, 19, 24))
DOT = strokes((13, 13, 15, 15))
COVERED = strokes((1, 1, 27, 27))
BLOT = strokes((8, 8, 20, 20))
HAIRLINES = strokes((6, 4, 7, 24), (10, 4, 11, 24), (14, 4, 15, 24), (18, 4, 19, 24))


def test_a_clear_reading_of_a_usual_digit_is_not_doubted(bundled: LoadedModel) -> None:
    assert prediction(USUAL, p7=0.99, p1=0.01).doubt is None
    (read,) = predict_digits([bundled], [digits_in(written("2026"))])
    assert [each.doubt for each in read] == [None] * 4


def test_a_small_margin_is_doubted_and_both_classes_are_named() -> None:
    doubt = prediction(USUAL, p7=0.51, p1=0.48, p2=0.01).doubt
    assert doubt
    assert doubt.endswith("7 or 1")


@pytest.mark.parametrize("pixels_HW", [DOT, COVERED], ids=["a dot", "a covered sheet"])
def test_hardly_any_ink_or_paper_is_doubted(pixels_HW: NDArray[np.uint8]) -> None:
    assert "hardly any ink" in (prediction(pixels_HW, p1=1).doubt or "")


@pytest.mark.parametrize("pixels_HW", [BLOT, HAIRLINES], ids=["a blot", "hairlines"])
def test_odd_strokes_are_doubted(pixels_HW: NDArray[np.uint8]) -> None:
    assert "too thin or too thick" in (prediction(pixels_HW, p1=1).doubt or "")


def test_a_small_margin_is_the_first_doubt() -> None:
    assert "0 or 8" in (prediction(DOT, p0=0.5, p8=0.5).doubt or "")


def test_lines_of_writing_are_parted_by_spaces() -> None:
    def at(label: str, line: int) -> Prediction:
        read = prediction(USUAL, **{f"p{label}": 1.0})
        return replace(read, digit=replace(read.digit, line=line))

    assert predictions_to_text([]) == ""
    assert predictions_to_text([at("4", 0), at("2", 0)]) == "42"
    assert predictions_to_text([at("4", 0), at("2", 0), at("0", 1), at("7", 2)]) == "42 0 7"


def test_two_lines_are_read_one_after_the_other(bundled: LoadedModel) -> None:
    (read,) = predict_digits([bundled], [digits_in(written("203", "58"))])
    assert predictions_to_text(read) == "203 58"
    assert [each.digit.line for each in read] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("labels", ["00", "06", "50", "62", "70", "76"])
def test_two_digits_that_touch_are_read_as_two(bundled: LoadedModel, labels: str) -> None:
    picture = touching(labels, overlap_px=6)
    ink_HW = np.asarray(picture) < 128
    assert ndimage.label(ink_HW, np.ones((3, 3)))[1] == 1, "they do not touch"
    (read,) = predict_digits([bundled], [digits_in(picture)])
    assert predictions_to_text(read) == labels
    (left, _, middle, _), (next_left, _, right, _) = (each.digit.box for each in read)
    assert left < middle <= next_left + 1 < right


@pytest.mark.parametrize("label", ["0", "5", "7", "8"])
def test_a_digit_written_wide_stays_one(bundled: LoadedModel, label: str) -> None:
    cropped = drawn(label).crop(drawn(label).getbbox())
    wide = cropped.resize((round(1.4 * cropped.height), cropped.height), Image.Resampling.BICUBIC)
    page = Image.new("L", (wide.width + 40, wide.height + 40))
    page.paste(wide, (20, 20))
    found = digits_in(inverted(page))
    assert len(found[0]) > 1, "it is not wide enough to be cut"
    assert predictions_to_text(predict_digits([bundled], [found])[0]) == label


def num_correct(read: list[list[Prediction]], labels: list[str]) -> int:
    return sum(predictions_to_text(each) == label for each, label in zip(read, labels, strict=True))


def as_it_is(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    return digits_in(Image.fromarray(image_HW))


def enlarged(image_HW: NDArray[np.uint8]) -> Picture:
    return inverted(Image.fromarray(image_HW).resize((84, 84), Image.Resampling.BICUBIC))


def on_a_page(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    page = Image.new("L", (240, 200), 255)
    page.paste(enlarged(image_HW), (130, 90))
    return digits_in(page)


def small(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    page = Image.new("L", (100, 100), 255)
    drawing = Image.fromarray(image_HW).resize((14, 14), Image.Resampling.BICUBIC)
    page.paste(inverted(drawing), (60, 20))
    return digits_in(page)


def dark_on_light(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    return digits_in(Image.fromarray(255 - image_HW))


def blurred(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    return digits_in(enlarged(image_HW).filter(ImageFilter.GaussianBlur(1.5)))


def as_jpeg(image_HW: NDArray[np.uint8]) -> list[Segmentations]:
    return digits_in(enlarged(image_HW), "JPEG", quality=40)


@pytest.mark.mnist
def test_mnists_own_images_survive_being_saved_and_read(
    bundled: LoadedModel, mnist_dir: Path
) -> None:
    examples = load_dataset(get_dataset("mnist"), "test", mnist_dir)
    images_NHW = examples.images_NHW.numpy()
    labels = [str(label) for label in examples.labels_N.tolist()]
    direct = predict_digits([bundled], [single(image_HW) for image_HW in images_NHW])
    through_png = predict_digits([bundled], [as_it_is(image_HW) for image_HW in images_NHW])
    assert num_correct(direct, labels) - num_correct(through_png, labels) <= 5


@pytest.mark.mnist
@pytest.mark.parametrize("made", [on_a_page, small, dark_on_light, blurred, as_jpeg])
def test_mnists_images_are_read_in_other_pictures(
    bundled: LoadedModel, mnist_dir: Path, made: Callable[[NDArray[np.uint8]], list[Segmentations]]
) -> None:
    examples = load_dataset(get_dataset("mnist"), "test", mnist_dir)
    images_NHW = examples.images_NHW[:1000].numpy()
    labels = [str(label) for label in examples.labels_N[:1000].tolist()]
    direct = predict_digits([bundled], [single(image_HW) for image_HW in images_NHW])
    read = predict_digits([bundled], [made(image_HW) for image_HW in images_NHW])
    assert num_correct(direct, labels) - num_correct(read, labels) <= 10


def test_the_comparison_with_the_usual_way_runs(tmp_path: Path) -> None:
    written("2026").save(tmp_path / "year.png")
    written("7").save(tmp_path / "7.png")
    (tmp_path / "labels.csv").write_text("file,label\nyear.png,2026\n7.png,7\n")
    script = Path(__file__).parents[2] / "docs" / "usual_reading.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=True
    )
    assert re.search(r"mnist predict\s+all\s+2 of\s+2 ", result.stdout)
    assert re.search(r"usual\s+several digits\s+0 of\s+1 ", result.stdout)
