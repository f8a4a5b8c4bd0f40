"""Real handwriting in pictures of every kind gives the same digits."""

import itertools
from collections.abc import Callable, Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageDraw

from mnistcli.reading.decode import WORKING_SIDE_PX, decode_picture
from tests.helpers.pictures import (
    SAME,
    SIMILAR,
    difference,
    digit_in,
    draw,
    encoded,
    inverted,
    read_text,
    segmentations_in,
    steps_of,
    to_array,
    to_picture,
    touching,
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
    digit = digit_in(SAVED_AS[saved_as](drawing))
    assert difference(digit, digit_in(drawing)) < SAME + 2 * (saved_as in ROUGH)


@pytest.mark.parametrize("at", [(0, 0), (104, 0), (7, 93), (104, 104)])
@pytest.mark.parametrize("label", "05")
def test_wherever_it_is(label: str, at: tuple[int, int]) -> None:
    moved, here = digit_in(draw((label, *at))), digit_in(draw((label, 50, 40)))
    assert difference(moved, here) < SAME
    assert np.subtract(moved.box, here.box).tolist() == [at[0] - 50, at[1] - 40] * 2


@pytest.mark.parametrize(("height_px", "side_px"), [(48, 100), (150, 300), (600, 1500)])
@pytest.mark.parametrize("label", "05")
def test_whatever_its_size(label: str, height_px: int, side_px: int) -> None:
    resized = draw((label, 50, 40), height_px=height_px, side_px=side_px)
    assert difference(digit_in(resized), digit_in(draw((label, 50, 40)))) < SIMILAR


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_boxes_are_in_pixels_of_the_whole_picture(format_: str) -> None:
    page = Image.new("L", (3000, 2000), 255)
    page.paste(0, (1200, 600, 1500, 1300))
    left, top, right, bottom = digit_in(encoded(page, format_)).box
    # Outwards to whole pixels of the working size, and one for the blurred edge.
    slack = 2 * 3000 / WORKING_SIDE_PX
    assert 1200 - slack <= left <= 1200
    assert 600 - slack <= top <= 600
    assert 1500 <= right <= 1500 + slack
    assert 1300 <= bottom <= 1300 + slack


def test_a_box_around_a_digit_is_not_a_digit(drawing: Picture) -> None:
    page = Image.new("L", (500, 500), 255)
    page.paste(drawing, (150, 150))
    ImageDraw.Draw(page).rectangle((120, 130, 380, 370), outline=0, width=4)
    assert difference(digit_in(page), digit_in(drawing)) < SAME


def test_digits_are_found_in_the_order_of_reading() -> None:
    digits = [("3", 20, 10), ("0", 100, 16), ("5", 180, 8), ("7", 30, 110), ("2", 110, 104)]
    page = draw(*digits, height_px=60, side_px=300)
    found = [digit for [[digit]] in segmentations_in(page)]
    assert [digit.line for digit in found] == [0, 0, 0, 1, 1]
    for digit, drawn in zip(found, digits, strict=True):
        alone = digit_in(draw(drawn, height_px=60, side_px=300))
        assert digit.box == alone.box
        assert difference(digit, alone) < SAME
    assert read_text(page) == "305 72"


def test_two_close_lines_of_writing() -> None:
    digits = [("3", 20, 10), ("5", 20, 85), ("0", 90, 10), ("2", 90, 85)]
    assert read_text(draw(*digits, height_px=60)) == "30 52"


def test_with_single_all_ink_is_one_digit(drawing: Picture) -> None:
    page = written("30")
    [[[digit]]] = segmentations_in(page, single=True)
    first, second = (digit for [[digit]] in segmentations_in(page))
    assert digit.box[:2] == (first.box[0], min(first.box[1], second.box[1]))
    assert digit.box[2:] == (second.box[2], max(first.box[3], second.box[3]))
    [[[alone]]] = segmentations_in(drawing, single=True)
    assert_array_equal(alone.pixels_HW, digit_in(drawing).pixels_HW)


def test_with_single_ink_is_not_cut() -> None:
    page = touching("00", overlap_px=6)
    assert len(segmentations_in(page)[0]) > 1
    assert [len(segmentations) for segmentations in segmentations_in(page, single=True)] == [1]


def test_a_broken_five_is_one_digit() -> None:
    whole = draw(("5", 50, 40))
    page_HW = to_array(whole)
    page_HW[67:71] = 255
    assert difference(digit_in(to_picture(page_HW)), digit_in(whole)) < SIMILAR
    assert read_text(to_picture(page_HW)) == "5"


def test_every_step_has_the_size_of_the_picture() -> None:
    page = draw(("3", 20, 10), ("0", 100, 16), height_px=60, side_px=300)
    steps = steps_of(page)
    assert_allclose(steps.gray_HW, to_array(page) / 255, atol=1e-6)
    assert_array_equal(steps.background_HW, np.ones((300, 300)))
    assert_allclose(steps.contrast_HW, 1 - steps.gray_HW, atol=1e-6)
    assert (steps.ink_HW.min(), steps.ink_HW.max()) == (0, 1)
    assert np.unique(steps.labels_HW).tolist() == [0, 1, 2]
    for number, [[digit]] in enumerate(steps.digits, start=1):
        left, top, right, bottom = digit.box
        rows, columns = np.nonzero((steps.labels_HW == number) & (steps.ink_HW > 0.5))
        assert left <= columns.min() <= columns.max() < right
        assert top <= rows.min() <= rows.max() < bottom


@pytest.mark.parametrize("gray", [0, 90, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (700, 30)])
def test_a_picture_of_one_level_is_blank(gray: int, size: tuple[int, int]) -> None:
    for single in (False, True):
        assert segmentations_in(Image.new("L", size, gray), single=single) == []


def test_noise_and_dust_are_not_digits() -> None:
    noise_HW = np.random.default_rng(1).normal(200, 8, (300, 300))
    dusty_HW = np.full((100, 100), 255)
    dusty_HW[50:52, 50:52] = 0
    for picture in (to_picture(noise_HW), to_picture(dusty_HW), Image.new("RGBA", (28, 28))):
        assert segmentations_in(picture) == []


def test_extreme_float_values() -> None:
    values_HW = np.full((30, 30), 3e38, np.float32)
    values_HW[5:25, 10:14] = -3e38
    values_HW[0, :3] = [np.nan, np.inf, -np.inf]
    assert digit_in(encoded(Image.fromarray(values_HW), "TIFF")).box == (10, 5, 14, 25)


@pytest.mark.parametrize(("paper", "ink"), [(246, 134), (255, 254), (0, 255), (20, 0)])
def test_two_levels_are_a_digit_or_blank(paper: int, ink: int) -> None:
    # All ink of a flat drawing has one darkness, so that there is nothing to threshold.
    for width, height in ((28, 28), (20, 62), (3, 600), (200, 9)):
        page = Image.new("L", (width, height), paper)
        page.paste(ink, (width // 3, height // 4, width // 3 + max(1, width // 9), height - 2))
        digits = segmentations_in(page)
        assert len(digits) <= 1
        for segmentations in digits:
            assert segmentations[0][0].pixels_HW.max() == 255


def check_digits(picture: Picture) -> None:
    decoded = decode_picture(encoded(picture), name="any.png")
    assert decoded.gray_HW.dtype == np.float32
    found = [*segmentations_in(picture), *segmentations_in(picture, single=True)]
    for digit in itertools.chain(*itertools.chain(*found)):
        assert digit.pixels_HW.shape == (28, 28)
        assert digit.pixels_HW.dtype == np.uint8
        assert digit.pixels_HW.max() == 255
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= picture.width
        assert 0 <= top < bottom <= picture.height


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
def pages(draw_: st.DrawFn) -> tuple[str, Picture]:
    """A clear digit of half to four times the usual size, anywhere on its page."""
    label = draw_(st.sampled_from("0123456789"))
    height_px = draw_(st.integers(48, 384))
    side_px = draw_(st.integers(height_px + 4, height_px * 5 // 2))
    place = st.integers(0, side_px - height_px)
    picture = draw((label, draw_(place), draw_(place)), height_px=height_px, side_px=side_px)
    return label, inverted(picture) if draw_(st.booleans()) else picture


@pytest.mark.slow
@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(page=pages())
def test_moving_scaling_and_inverting_do_not_change_the_digit(page: tuple[str, Picture]) -> None:
    label, picture = page
    assert read_text(picture) == label
