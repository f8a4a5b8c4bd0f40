"""Real handwriting in pictures of every kind gives the same digits."""

import math
from collections.abc import Callable, Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from mnistcli.data.arrays import Box
from mnistcli.reading import pipeline
from mnistcli.reading.decode import WORKING_SIDE_PX, decode_picture
from mnistcli.reading.pipeline import segment_ink
from tests.helpers.ink import bars
from tests.helpers.pictures import (
    SAME,
    SIMILAR,
    box_distance,
    candidates_in,
    difference,
    digit_in,
    draw,
    encoded,
    inverted,
    read_text,
    reading_of,
    thumbnail,
    to_array,
    to_picture,
    touching,
    with_marks,
    written,
)

Picture = Image.Image


@pytest.fixture(params="0245")
def drawing(request: pytest.FixtureRequest) -> Picture:
    return draw((request.param, 50, 40))


def with_alpha(ink: int) -> Callable[[Picture], bytes]:
    def encode(picture: Picture) -> bytes:
        layer = Image.new("LA", picture.size, (ink, 0))
        layer.putalpha(inverted(picture))
        return encoded(layer)

    return encode


def in_colors(paper: Sequence[int], ink: Sequence[int]) -> Callable[[Picture], bytes]:
    def encode(picture: Picture) -> bytes:
        share_HW1 = to_array(picture)[:, :, None] / 255
        return encoded(to_picture(share_HW1 * np.array(paper) + (1 - share_HW1) * np.array(ink)))

    return encode


SAVED_AS: dict[str, Callable[[Picture], bytes]] = {
    "inverted": lambda p: encoded(inverted(p)),
    "rgb": lambda p: encoded(p.convert("RGB")),
    "black on transparent": with_alpha(0),
    "white on transparent": with_alpha(255),
    "palette": lambda p: encoded(p.convert("RGB").quantize(64)),
    "animated gif": lambda p: encoded(
        p, "GIF", save_all=True, append_images=[Image.new("L", p.size)]
    ),
    "jpeg": lambda p: encoded(p, "JPEG", quality=75),
    "cmyk tiff": lambda p: encoded(p.convert("CMYK"), "TIFF"),
    "16-bit png": lambda p: encoded(Image.fromarray(np.asarray(p).astype(np.uint16) * 257)),
    "float tiff": lambda p: encoded(p.convert("F"), "TIFF"),
    "faint": lambda p: encoded(p.point([200 + v // 5 for v in range(256)])),
    "light on dark": lambda p: encoded(p.point([200 - v * 3 // 5 for v in range(256)])),
    "yellow on white": in_colors((255, 255, 255), (255, 255, 0)),
    "red on green": in_colors((0, 102, 0), (200, 0, 0)),
}
ROUGH = {"jpeg", "faint", "palette"}


@pytest.mark.parametrize("saved_as", SAVED_AS)
def test_however_it_is_saved(drawing: Picture, saved_as: str) -> None:
    saved, expected = reading_of(SAVED_AS[saved_as](drawing)), reading_of(drawing)
    assert len(expected.text) == 1
    assert saved.text == expected.text
    boxes = [reading.predictions[0].digit.box for reading in (saved, expected)]
    assert box_distance(*boxes) <= 2


@pytest.mark.parametrize("saved_as", SAVED_AS)
@pytest.mark.parametrize("label", "05")
def test_however_a_small_picture_is_saved(label: str, saved_as: str) -> None:
    [digit] = candidates_in(SAVED_AS[saved_as](thumbnail(label)))
    [expected] = candidates_in(thumbnail(label))
    assert box_distance(digit.box, expected.box) <= 1
    assert difference(digit, expected) < SAME + 2 * (saved_as in ROUGH)


@pytest.mark.parametrize("at", [(0, 0), (104, 0), (7, 93), (104, 104)])
@pytest.mark.parametrize("label", "05")
def test_wherever_it_is(label: str, at: tuple[int, int]) -> None:
    moved, here = digit_in(draw((label, *at))), digit_in(draw((label, 50, 40)))
    assert difference(moved, here) < SIMILAR
    shift = np.subtract(moved.box, here.box)
    assert np.abs(shift - [at[0] - 50, at[1] - 40] * 2).max() <= 2


@pytest.mark.parametrize(("height_px", "side_px"), [(48, 100), (150, 300), (600, 1500)])
@pytest.mark.parametrize("label", "05")
def test_whatever_its_size(label: str, height_px: int, side_px: int) -> None:
    resized = draw((label, 50, 40), height_px=height_px, side_px=side_px)
    assert read_text(resized) == label
    assert difference(digit_in(resized), digit_in(draw((label, 50, 40)))) < 1.5 * SIMILAR


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_boxes_are_in_pixels_of_the_whole_picture(format_: str) -> None:
    picture = Image.new("L", (3000, 2000), 255)
    picture.paste(draw(("5", 0, 0), height_px=500, side_px=500), (1200, 600))
    rows, columns = np.nonzero(to_array(picture) < 128)
    drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    box = digit_in(encoded(picture, format_)).box
    # Four pixels of the picture as it is worked on.
    assert box_distance(box, drawn) <= 4 * 3000 / WORKING_SIDE_PX


def test_a_box_around_a_digit_is_not_a_digit(drawing: Picture) -> None:
    picture = Image.new("L", (500, 500), 255)
    picture.paste(drawing, (150, 150))
    ImageDraw.Draw(picture).rectangle((120, 130, 380, 370), outline=0, width=4)
    assert difference(digit_in(picture), digit_in(drawing)) < SIMILAR


def test_digits_are_found_in_the_order_of_reading() -> None:
    digits = [("3", 20, 10), ("0", 100, 16), ("5", 180, 8), ("7", 30, 110), ("2", 110, 104)]
    reading = reading_of(draw(*digits, height_px=60, side_px=300))
    assert reading.text == "305 72"
    assert [prediction.line for prediction in reading.predictions] == [0, 0, 0, 1, 1]
    for prediction, drawn in zip(reading.predictions, digits, strict=True):
        alone = digit_in(draw(drawn, height_px=60, side_px=300))
        assert box_distance(prediction.digit.box, alone.box) <= 5


def test_two_close_lines_of_writing() -> None:
    digits = [("3", 20, 10), ("5", 20, 85), ("0", 90, 10), ("2", 90, 85)]
    assert read_text(draw(*digits, height_px=60)) == "30 52"


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
def test_tilted_lines_of_writing(degrees: float) -> None:
    level = written("2035", "7842")
    picture = level.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    reading = reading_of(picture)
    assert reading.text == "2035 7842"
    angle, digits = math.radians(degrees), reading_of(level).predictions
    for prediction, expected in zip(reading.predictions, digits, strict=True):
        x, y = center(expected.digit.box)
        u, v = x - level.width / 2, y - level.height / 2
        there = (
            picture.width / 2 + u * math.cos(angle) - v * math.sin(angle),
            picture.height / 2 + u * math.sin(angle) + v * math.cos(angle),
        )
        assert center(prediction.digit.box) == pytest.approx(there, abs=6)


def center(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_with_single_all_ink_is_one_digit(drawing: Picture) -> None:
    picture = written("30")
    [digit] = candidates_in(picture, single=True)
    first, second = (prediction.digit for prediction in reading_of(picture).predictions)
    whole = (
        *(first.box[0], min(first.box[1], second.box[1])),
        *(second.box[2], max(first.box[3], second.box[3])),
    )
    assert box_distance(digit.box, whole) <= 1
    [alone] = candidates_in(drawing, single=True)
    assert difference(alone, digit_in(drawing)) < SAME


@pytest.mark.parametrize("labels", ["30", "2026"])
def test_with_single_a_digit_is_read_whatever_the_ink_is(labels: str) -> None:
    assert len(reading_of(written(labels), single=True).predictions) == 1


def test_with_single_ink_is_not_cut() -> None:
    picture = touching("00", overlap_px=6)
    assert len(candidates_in(picture)) > 1
    assert len(candidates_in(picture, single=True)) == 1


def test_with_single_a_blank_picture_has_no_digit() -> None:
    assert reading_of(Image.new("L", (60, 60), 255), single=True).predictions == []


def test_a_broken_five_is_one_digit() -> None:
    whole = draw(("5", 50, 40))
    page_HW = to_array(whole)
    page_HW[67:71] = 255
    assert read_text(to_picture(page_HW)) == "5"
    assert difference(digit_in(to_picture(page_HW)), digit_in(whole)) < 1.5 * SIMILAR


@pytest.mark.parametrize("small", [False, True])
def test_the_ink_has_the_size_of_the_picture_and_is_where_the_digits_are(small: bool) -> None:
    picture = draw(("3", 20, 10), ("0", 100, 16), height_px=60, side_px=300)
    reading = reading_of(thumbnail("5") if small else picture)
    assert reading.ink_HW.shape == ((36, 36) if small else (300, 300))
    assert 0 <= reading.ink_HW.min() < reading.ink_HW.max() <= 1
    assert len(reading.predictions) == (1 if small else 2)
    inside_HW = np.zeros_like(reading.ink_HW)
    for prediction in reading.predictions:
        left, top, right, bottom = prediction.digit.box
        inside_HW[top:bottom, left:right] = 1
    assert (reading.ink_HW * inside_HW).sum() > 0.95 * reading.ink_HW.sum()


@pytest.mark.parametrize("gray", [0, 90, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (700, 30)])
def test_a_picture_of_one_level_is_blank(gray: int, size: tuple[int, int]) -> None:
    for single in (False, True):
        assert reading_of(Image.new("L", size, gray), single=single).predictions == []


def test_noise_and_dust_are_not_digits() -> None:
    noise_HW = np.random.default_rng(1).normal(200, 8, (300, 300))
    dusty_HW = np.full((100, 100), 255)
    dusty_HW[50:52, 50:52] = 0
    for picture in (to_picture(noise_HW), to_picture(dusty_HW), Image.new("RGBA", (28, 28))):
        assert reading_of(picture).predictions == []


def test_extreme_float_values() -> None:
    values_HW = np.full((30, 30), 3e38, np.float32)
    values_HW[5:25, 10:14] = -3e38
    values_HW[0, :3] = [np.nan, np.inf, -np.inf]
    [bar] = candidates_in(encoded(Image.fromarray(values_HW), "TIFF"))
    assert bar.box == (10, 5, 14, 25)


@pytest.mark.parametrize(("paper", "ink"), [(246, 134), (255, 254), (0, 255), (20, 0)])
def test_two_levels_are_a_digit_or_blank(paper: int, ink: int) -> None:
    # All ink of a flat drawing has one darkness, so that there is nothing to threshold.
    for width, height in ((28, 28), (20, 40), (3, 40), (40, 9)):
        picture = Image.new("L", (width, height), paper)
        picture.paste(ink, (width // 3, height // 4, width // 3 + max(1, width // 9), height - 2))
        candidates = candidates_in(picture)
        assert len(candidates) <= 1
        assert all(image.pixels_HW.max() == 255 for image in candidates)


@pytest.mark.parametrize("label", "0123456789")
def test_small_pictures_are_read(label: str) -> None:
    for side_px in (28, 40):
        assert read_text(thumbnail(label, side_px)) == label


def test_a_small_mark_far_from_a_digit_is_left_out() -> None:
    reading = reading_of(with_marks("7"))
    assert reading.text == "7"
    [mark] = reading.left_out
    assert box_distance(mark.box, (35, 15, 39, 19)) <= 1
    assert "apart" in mark.reason


@pytest.mark.parametrize("label", "0257")
def test_a_point_beside_a_digit_is_not_part_of_it(label: str) -> None:
    picture = draw((label, 2, 4), height_px=28, side_px=40)
    plain = digit_in(picture)
    picture.paste(0, (34, 27, 38, 31))
    reading = reading_of(picture)
    assert [prediction.digit.box for prediction in reading.predictions] == [plain.box]
    [mark] = reading.left_out
    assert mark.box == (34, 27, 38, 31)
    assert "mark" in mark.reason


def test_faint_ink_of_a_digits_size_is_left_out_and_named() -> None:
    ink_HW = bars((10, 10, 30, 70), (40, 12, 60, 72))
    ink_HW[:, 40:] *= 0.5
    segmentation = segment_ink(ink_HW, (70, 82), single=False)
    assert [line.num_fragments for line in segmentation.lines] == [1]
    [left_out] = segmentation.left_out
    assert "faint" in left_out.reason
    assert box_distance(left_out.box, (40, 12, 60, 72)) <= 1


def test_a_frame_at_the_edge_is_left_out_once() -> None:
    ink_HW = np.zeros((120, 300), np.float32)
    for left in range(60, 240, 40):
        ink_HW[35:85, left : left + 12] = 1
    ink_HW[:3] = ink_HW[-3:] = ink_HW[:, :3] = ink_HW[:, -3:] = 1
    segmentation = segment_ink(ink_HW, (300, 120), single=False)
    assert [line.num_fragments for line in segmentation.lines] == [5]
    assert len(segmentation.left_out) == 1


def test_of_too_many_parts_the_smallest_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "MAX_PARTS", 2)
    small = (70, 32, 84, 70), (100, 32, 114, 68)
    segmentation = segment_ink(
        bars((10, 10, 30, 70), (40, 12, 60, 72), *small), (124, 82), single=False
    )
    assert [line.num_fragments for line in segmentation.lines] == [2]
    [left_out] = segmentation.left_out
    assert "largest" in left_out.reason
    assert box_distance(left_out.box, (70, 32, 114, 70)) <= 1


def check_digits(picture: Picture) -> None:
    assert decode_picture(encoded(picture), name="any.png").gray_HW.dtype == np.float32
    for single in (False, True):
        candidates = candidates_in(picture, single=single)
        reading = reading_of(picture, single=single)
        candidates += [left_out.image for left_out in reading.left_out]
        for digit in candidates:
            assert digit.pixels_HW.shape == (28, 28)
            assert digit.pixels_HW.dtype == np.uint8
            assert digit.pixels_HW.max() == 255
            left, top, right, bottom = digit.box
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height
        assert len(reading.predictions) <= len(candidates)


SIDES = st.integers(1, 60)
SHAPES = st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.sampled_from([3, 4]))
LEVELS = st.sampled_from([st.integers(0, 255), st.sampled_from([0, 255]), st.integers(120, 126)])


@pytest.mark.slow
@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(data=st.data(), shape=SHAPES, levels=LEVELS)
def test_any_pixels_give_digits_in_mnists_format(
    data: st.DataObject, shape: tuple[int, ...], levels: st.SearchStrategy[int]
) -> None:
    pixels = data.draw(hnp.arrays(np.uint8, shape, elements=levels))
    check_digits(Image.fromarray(pixels))


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=50)
@hypothesis.given(
    shape=SHAPES,
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1),
    noise=st.sampled_from([0, 3, 30]),
)
def test_any_noise_gives_digits_in_mnists_format(
    shape: tuple[int, ...], seed: int, share: float, noise: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([40, 220], shape, p=[share, 1 - share])
    check_digits(to_picture(values + random.normal(0, noise, shape)))


@st.composite
def labeled(draw_: st.DrawFn) -> tuple[str, Picture]:
    """A clear digit of half to four times the usual size, anywhere in its picture."""
    label = draw_(st.sampled_from("0123456789"))
    height_px = draw_(st.integers(48, 384))
    side_px = draw_(st.integers(height_px + 4, height_px * 5 // 2))
    place = st.integers(0, side_px - height_px)
    picture = draw((label, draw_(place), draw_(place)), height_px=height_px, side_px=side_px)
    return label, inverted(picture) if draw_(st.booleans()) else picture


@pytest.mark.slow
@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(drawn=labeled())
def test_moving_scaling_and_inverting_do_not_change_the_digit(drawn: tuple[str, Picture]) -> None:
    label, picture = drawn
    assert read_text(picture) == label
