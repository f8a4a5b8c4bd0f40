"""Real handwriting drawn into pictures of every kind must come out the same."""

import io
import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from sklearn.datasets import load_digits

from mnistcli.reading.background import (
    contrast_from_background,
    estimate_background,
    find_sheet,
    pixel_noise,
    quadratic_terms,
    remove_border,
    remove_lines,
)
from mnistcli.reading.decode import ORIENTATION_TAG, UPRIGHT, WORKING_SIDE_PX, decode_picture
from mnistcli.reading.ink import otsu
from mnistcli.reading.normalize import (
    FIT_PX,
    THICK_PX,
    VISIBLE_INK,
    area_shares,
    center_by_mass,
    fit_to_box,
    ink_box,
    stroke_width_px,
    to_square,
)
from mnistcli.reading.pipeline import (
    DigitImage,
    Segmentations,
    read_digits,
    run_pipeline,
    save_digits,
)
from mnistcli.reading.predict import USUAL_STROKE_PX, predict_digits, predictions_to_text
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint

Picture = Image.Image

SCANS = load_digits().images
# A 0, a 2, a 4 and a 5 of scikit-learn's, 8x8 with values 0..16.
DIGITS = [SCANS[i] for i in (0, 2, 4, 5)]
# One of each class that anybody would read so.
CLEAR = {0: 0, 1: 298, 2: 12, 3: 3, 4: 4, 5: 25, 6: 6, 7: 7, 8: 8, 9: 69}
# Mean absolute difference of two 28x28 results, in grey levels of 255.
SAME, SIMILAR = 1.0, 6.0


@pytest.fixture(params=range(len(DIGITS)), ids=["zero", "two", "four", "five"])
def drawing(request: pytest.FixtureRequest) -> Picture:
    return draw(DIGITS[request.param])


def draw(
    digit: NDArray[Any], *, height_px: int = 96, at: tuple[int, int] = (50, 40), side_px: int = 200
) -> Picture:
    """Black on white: the digit `height_px` high with its corner `at`, on a square page."""
    ink = Image.fromarray((digit * 15.9).astype(np.uint8))
    ink = ink.resize((height_px, height_px), Image.Resampling.BICUBIC)
    ink = ink.point([min(255, max(0, 4 * (v - 96))) for v in range(256)])
    page = Image.new("L", (side_px, side_px))
    page.paste(ink, at)
    return inverted(page)


def written(*digits: tuple[int, int, int], height_px: int = 60) -> Picture:
    """A page of clear digits: which, and their left and top."""
    layers = [
        draw(SCANS[CLEAR[digit]], height_px=height_px, at=(x, y), side_px=300)
        for digit, x, y in digits
    ]
    return Image.fromarray(np.min([np.asarray(layer) for layer in layers], axis=0))


def encoded(picture: Picture, format_: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def found(picture: Picture, *, single: bool = False) -> list[Segmentations]:
    return read_digits(decode_picture(encoded(picture), name="digits.png"), single=single)


def the_digit(data: bytes) -> DigitImage:
    [ways] = read_digits(decode_picture(data, name="digit.png"))
    [digit] = ways[0]
    return digit


def read(picture: Picture) -> DigitImage:
    return the_digit(encoded(picture))


def difference(first: DigitImage, second: DigitImage) -> float:
    return float(np.abs(first.pixels_HW.astype(int) - second.pixels_HW).mean())


def inverted(picture: Picture) -> Picture:
    return picture.point([255 - v for v in range(256)])


def array(picture: Picture) -> NDArray[np.float64]:
    return np.asarray(picture).astype(np.float64)


def picture_of(values_HW: NDArray[np.float64]) -> Picture:
    return Image.fromarray(values_HW.clip(0, 255).round().astype(np.uint8))


@cache
def network() -> LoadedModel:
    return load_checkpoint(BUNDLED_CHECKPOINT)


def answer(picture: Picture) -> str:
    [predictions] = predict_digits([network()], [found(picture)])
    return predictions_to_text(predictions)


def with_alpha(ink: int) -> Callable[[Picture], bytes]:
    def encode(picture: Picture) -> bytes:
        layer = Image.new("LA", picture.size, (ink, 0))
        layer.putalpha(inverted(picture))
        return encoded(layer)

    return encode


def in_colors(paper: Sequence[int], ink: Sequence[int]) -> Callable[[Picture], bytes]:
    def encode(picture: Picture) -> bytes:
        share_HW1 = array(picture)[:, :, None] / 255
        return encoded(picture_of(share_HW1 * np.array(paper) + (1 - share_HW1) * np.array(ink)))

    return encode


def sixteen_bit(format_: str) -> Callable[[Picture], bytes]:
    return lambda p: encoded(Image.fromarray(np.asarray(p).astype(np.uint16) * 257), format_)


SAVED_AS: dict[str, Callable[[Picture], bytes]] = {
    "inverted": lambda p: encoded(inverted(p)),
    "rgb": lambda p: encoded(p.convert("RGB")),
    "opaque": lambda p: encoded(p.convert("RGBA")),
    "black on transparent": with_alpha(0),
    "white on transparent": with_alpha(255),
    "palette": lambda p: encoded(p.convert("RGB").quantize(64)),
    "gif": lambda p: encoded(p, "GIF"),
    "animated gif": lambda p: encoded(
        p, "GIF", save_all=True, append_images=[Image.new("L", p.size)]
    ),
    "transparent gif": lambda p: encoded(p, "GIF", transparency=255),
    "jpeg": lambda p: encoded(p, "JPEG", quality=75),
    "cmyk jpeg": lambda p: encoded(p.convert("CMYK"), "JPEG", quality=90),
    "cmyk tiff": lambda p: encoded(p.convert("CMYK"), "TIFF"),
    "bmp": lambda p: encoded(p, "BMP"),
    "webp": lambda p: encoded(p, "WEBP", lossless=True),
    "16-bit png": sixteen_bit("PNG"),
    "16-bit tiff": sixteen_bit("TIFF"),
    "32-bit tiff": lambda p: encoded(p.convert("I"), "TIFF"),
    "float tiff": lambda p: encoded(p.convert("F"), "TIFF"),
    "faint": lambda p: encoded(p.point([200 + v // 5 for v in range(256)])),
    "light on dark": lambda p: encoded(p.point([200 - v * 3 // 5 for v in range(256)])),
    "yellow on white": in_colors((255, 255, 255), (255, 255, 0)),
    "red on green": in_colors((0, 102, 0), (200, 0, 0)),
    "blue on squared yellow": in_colors((250, 240, 180), (30, 40, 140)),
}
ROUGH = {"jpeg", "cmyk jpeg", "faint", "palette"}


@pytest.mark.parametrize("saved_as", SAVED_AS)
def test_however_it_is_saved(drawing: Picture, saved_as: str) -> None:
    result = the_digit(SAVED_AS[saved_as](drawing))
    assert difference(result, read(drawing)) < SAME + 2 * (saved_as in ROUGH)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(drawing: Picture, orientation: int) -> None:
    # Stored so that turning it as the tag says gives the drawing back.
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = drawing.crop((0, 0, 200, 180))
    upright = read(stored)
    if orientation > 1:
        method = UPRIGHT[orientation]
        stored = stored.transpose(undo.get(orientation, method))
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    result = the_digit(encoded(stored, exif=exif))
    assert difference(result, upright) < SAME
    assert result.box == upright.box


@pytest.mark.parametrize("at", [(0, 0), (104, 0), (7, 93), (104, 104)])
def test_wherever_it_stands(at: tuple[int, int]) -> None:
    for digit in DIGITS:
        moved, here = read(draw(digit, at=at)), read(draw(digit))
        assert difference(moved, here) < SAME
        shift = np.subtract(moved.box, here.box)
        assert shift.tolist() == [at[0] - 50, at[1] - 40] * 2


@pytest.mark.parametrize(("height_px", "side_px"), [(48, 100), (150, 300), (600, 1500)])
def test_whatever_its_size(height_px: int, side_px: int) -> None:
    for digit in DIGITS:
        resized = read(draw(digit, height_px=height_px, side_px=side_px))
        assert difference(resized, read(draw(digit))) < SIMILAR


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_boxes_are_in_pixels_of_the_whole_picture(format_: str) -> None:
    page = Image.new("L", (3000, 2000), 255)
    page.paste(0, (1200, 600, 1500, 1300))
    left, top, right, bottom = the_digit(encoded(page, format_)).box
    # Outwards to whole pixels of the smaller picture it works on, and one of grey edge.
    slack = 2 * 3000 / WORKING_SIDE_PX
    assert 1200 - slack <= left <= 1200
    assert 600 - slack <= top <= 600
    assert 1500 <= right <= 1500 + slack
    assert 1300 <= bottom <= 1300 + slack


def test_in_the_form_of_mnist(drawing: Picture) -> None:
    digit = read(drawing)
    result_HW = digit.pixels_HW
    assert result_HW.shape == (28, 28)
    assert result_HW.dtype == np.uint8
    assert result_HW.max() == 255
    rows, columns = np.nonzero(result_HW)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    for axis in (0, 1):
        mean = np.average(np.arange(28), weights=result_HW.sum(axis=axis))
        assert mean == pytest.approx(14, abs=0.51)
    assert digit.ink().dtype == np.float32
    assert_allclose(digit.ink(), result_HW / 255, atol=1e-6)


def test_already_in_the_form_of_mnist(drawing: Picture) -> None:
    once = read(drawing)
    assert difference(read(Image.fromarray(once.pixels_HW)), once) < SAME
    assert difference(read(Image.fromarray(255 - once.pixels_HW)), once) < SAME


def photo(picture: Picture, *, darkest: float = 75, noise: float = 0) -> NDArray[np.float64]:
    """As a camera sees it: ink is no black, and there is noise."""
    values_HW = darkest + (240 - darkest) * array(picture) / 255
    return values_HW + np.random.default_rng(0).normal(0, noise, values_HW.shape)


def test_uneven_light_noise_and_dust(drawing: Picture) -> None:
    light_HW = np.linspace(1, 0.5, 200)[:, None] * np.linspace(0.95, 0.7, 200)[None, :]
    photo_HW = photo(drawing) * light_HW
    photo_HW += np.random.default_rng(0).normal(0, 4, photo_HW.shape)
    photo_HW[10:12, 10:12] = photo_HW[150:152, 180:182] = 0
    assert difference(read(picture_of(photo_HW)), read(drawing)) < SIMILAR


@pytest.mark.parametrize(
    "shade",
    [
        pytest.param(np.s_[:, 100:], id="right half"),
        pytest.param(np.s_[110:, :], id="lower half"),
        pytest.param(np.s_[:90, :60], id="corner"),
    ],
)
def test_a_shadow_with_a_hard_edge(drawing: Picture, shade: tuple[slice, slice]) -> None:
    photo_HW = photo(drawing, noise=2)
    photo_HW[shade] *= 0.5
    assert answer(picture_of(photo_HW)) == answer(drawing)
    # Where the shadow's edge crosses a stroke, the stroke is rough.
    assert difference(read(picture_of(photo_HW)), read(drawing)) < 1.5 * SIMILAR


@pytest.mark.parametrize(
    "table",
    [np.s_[:, :30], np.s_[:, -25:], np.s_[-30:, :], np.s_[:30, :]],
    ids=["left", "right", "below", "above"],
)
def test_a_dark_table_beside_the_sheet(drawing: Picture, table: tuple[slice, slice]) -> None:
    photo_HW = photo(drawing, noise=2)
    photo_HW[table] = 45
    assert difference(read(picture_of(photo_HW)), read(drawing)) < SIMILAR


@pytest.mark.parametrize("wide_px", [6, 10, 14, 18, 22])
@pytest.mark.parametrize("side", ["left", "top", "bottom"])
def test_a_narrow_dark_strip_at_the_edge(wide_px: int, side: str) -> None:
    photo_HW = 75 + 165 * array(draw(DIGITS[0])) / 255
    photo_HW += np.random.default_rng(0).normal(0, 2, photo_HW.shape)
    strips = {
        "left": (slice(None), slice(wide_px)),
        "top": (slice(wide_px), slice(None)),
        "bottom": (slice(-wide_px, None), slice(None)),
    }
    photo_HW[strips[side]] = 45
    [ways] = found(picture_of(photo_HW))
    assert np.abs(np.subtract(ways[0][0].box, read(draw(DIGITS[0])).box)).max() <= 2


def with_lines(picture: Picture, *, level: int, every_px: int, squared: bool) -> Picture:
    page = picture.copy()
    brush = ImageDraw.Draw(page)
    for at in range(every_px // 2, picture.width, every_px):
        brush.line((0, at, picture.width, at), fill=level, width=2)
        if squared:
            brush.line((at, 0, at, picture.height), fill=level, width=2)
    return ImageChops.darker(page, picture)


@pytest.mark.parametrize("squared", [False, True], ids=["ruled", "squared"])
@pytest.mark.parametrize("level", [0, 60, 170])
def test_lines_as_dark_as_ink_are_told_from_it(drawing: Picture, level: int, squared: bool) -> None:
    page = with_lines(drawing, level=level, every_px=40, squared=squared)
    assert difference(read(page), read(drawing)) < 2 * SIMILAR


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize(("inset_px", "width_px"), [(0, 2), (0, 9), (5, 2), (15, 3), (20, 6)])
def test_a_frame_around_the_digit(
    drawing: Picture, inset_px: int, width_px: int, light_on_dark: bool
) -> None:
    framed = drawing.copy()
    far_px = drawing.width - 1 - inset_px
    box = (inset_px, inset_px, far_px, far_px)
    ImageDraw.Draw(framed).rectangle(box, outline=0, width=width_px)
    framed = inverted(framed) if light_on_dark else framed
    assert difference(read(framed), read(drawing)) < SAME


@pytest.mark.parametrize("table", [20, 70, 120])
def test_a_sheet_of_paper_on_a_table(table: int) -> None:
    page = written((3, 20, 20), (5, 110, 25), (2, 200, 20))
    photo_HW = np.full((500, 600), float(table))
    photo_HW[110:250, 130:430] = 40 + 0.75 * array(page)[:140]
    photo_HW += np.random.default_rng(1).normal(0, 2, photo_HW.shape)
    assert answer(picture_of(photo_HW)) == "352"


def test_ink_near_the_edge_is_no_end_of_a_border() -> None:
    page_HW = np.full((28, 28), 255, np.uint8)
    page_HW[2:6, 8:20] = page_HW[16:20, 4:22] = page_HW[5:17, 12:17] = 0
    gray_HW = page_HW.astype(np.float32) / np.float32(255)
    assert_array_equal(remove_border(gray_HW), gray_HW)


def test_a_thick_bar_is_a_one_and_no_sheet() -> None:
    bar_HW = np.full((200, 120), 255, np.uint8)
    bar_HW[5:195, 40:80] = 0
    assert answer(Image.fromarray(bar_HW)) == "1"


@pytest.mark.parametrize("margin_px", [4, 20])
@pytest.mark.parametrize("label", [0, 1])
def test_a_thick_digit_is_no_sheet(label: int, margin_px: int) -> None:
    bunch = load_digits()
    for ink_HW in bunch.images[bunch.target == label][:40]:
        ink = Image.fromarray((255 - 15 * ink_HW).astype(np.uint8))
        page = Image.new("L", (80 + 2 * margin_px,) * 2, 255)
        page.paste(ink.resize((80, 80), Image.Resampling.BICUBIC), (margin_px, margin_px))
        gray_HW = (array(page) / 255).astype(np.float32)
        contrast_HW = contrast_from_background(estimate_background(gray_HW), gray_HW)
        assert find_sheet(contrast_HW) is None


@pytest.mark.parametrize("height", [101, 103, 149, 119, 250])
def test_a_hairline_is_never_lost(height: int) -> None:
    page_HW = np.full((400, 500), 255, np.uint8)
    page_HW[50 : 50 + height, 200] = 0
    assert answer(Image.fromarray(page_HW)) == "1"


def test_area_shares_take_every_pixel_once() -> None:
    shares_SH = area_shares(5, 2)
    assert_allclose(shares_SH, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-6)


def test_two_pens_and_a_faint_block_are_no_crash() -> None:
    page_HW = np.full((90, 200), 255, np.uint8)
    page_HW[20:70, 10:60] = array(draw(DIGITS[0], height_px=50, at=(0, 0), side_px=50))
    for grey in (135, 155, 175):
        for block in (232, 240):
            page_HW[15:75, 80:180] = block
            page_HW[25:65, 100:104] = grey
            for digits in found(Image.fromarray(page_HW)):
                assert digits


def test_a_gradient_on_a_long_strip_is_blank() -> None:
    for shape in ((24, 800), (60, 800)):
        strip_HW = np.broadcast_to(np.linspace(230, 102, shape[1]), shape)
        assert found(picture_of(strip_HW)) == []


def test_a_box_around_a_digit_is_no_digit(drawing: Picture) -> None:
    page = Image.new("L", (500, 500), 255)
    page.paste(drawing, (150, 150))
    ImageDraw.Draw(page).rectangle((120, 130, 380, 370), outline=0, width=4)
    assert difference(read(page), read(drawing)) < SAME


def test_bars_of_digits_are_no_lines() -> None:
    seven_HW = np.full((100, 80), 255, np.uint8)
    seven_HW[4:10, 4:76] = 0
    for y in range(10, 96):
        seven_HW[y, 70 - y // 2 : 76 - y // 2] = 0
    ink_HW = (1 - seven_HW / 255).astype(np.float32)
    assert_array_equal(remove_lines(ink_HW, 0.04), ink_HW)
    assert answer(Image.fromarray(seven_HW)) == "7"


def test_two_close_lines_of_writing() -> None:
    page = written((3, 20, 10), (5, 20, 85), (0, 90, 10), (2, 90, 85))
    assert answer(page) == "30 52"


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_faint_picture_of_mnists_size_is_brought_to_full_ink(share: float) -> None:
    once = read(draw(DIGITS[0])).pixels_HW
    faint = picture_of(255 - share * once.astype(np.float64))
    assert read(faint).pixels_HW.max() == 255
    assert answer(faint) == "0"


def test_what_is_in_mnists_form_stays_as_it_is(drawing: Picture) -> None:
    once = read(drawing).pixels_HW
    for picture in (Image.fromarray(once), Image.fromarray(255 - once)):
        again = read(picture).pixels_HW
        assert np.abs(again.astype(int) - once).max() <= 1


def test_thick_strokes_are_narrowed() -> None:
    thick = draw(DIGITS[0]).filter(ImageFilter.MinFilter(15))
    inside = to_square((1 - array(thick) / 255).astype(np.float32))
    before_px = stroke_width_px(inside) * FIT_PX / len(inside)
    after_px = stroke_width_px(read(thick).ink())
    assert before_px > THICK_PX > after_px


@pytest.mark.parametrize("squared", [False, True])
def test_faint_lines_on_the_paper(drawing: Picture, squared: bool) -> None:
    page_HW = array(drawing)
    page_HW[20::24] = np.minimum(page_HW[20::24], 205)
    if squared:
        page_HW[:, 14::24] = np.minimum(page_HW[:, 14::24], 205)
    assert difference(read(picture_of(page_HW)), read(drawing)) < SIMILAR


def test_digits_are_found_in_the_order_of_reading() -> None:
    page = written((3, 20, 10), (0, 100, 16), (5, 180, 8), (7, 30, 110), (2, 110, 104))
    ways = found(page)
    assert [len(each) for each in ways] == [1] * 5
    digits = [way[0] for [way] in ways]
    assert [digit.line for digit in digits] == [0, 0, 0, 1, 1]
    corners = [(20, 10), (100, 16), (180, 8), (30, 110), (110, 104)]
    for digit, clear, (x, y) in zip(digits, (3, 0, 5, 7, 2), corners, strict=True):
        alone = read(draw(SCANS[CLEAR[clear]], height_px=60, at=(x, y), side_px=300))
        assert digit.box == alone.box
        assert difference(digit, alone) < SAME
        left, top, right, bottom = digit.box
        assert x - 1 <= left < right <= x + 61
        assert y - 1 <= top < bottom <= y + 61
    assert answer(page) == "305 72"


def test_two_pens_of_different_darkness() -> None:
    dark, faint = array(written((3, 20, 20))), array(written((4, 110, 20)))
    page = picture_of(np.minimum(dark, 255 - 0.6 * (255 - faint)))
    for ways, alone in zip(found(page), (dark, faint), strict=True):
        [[digit]] = ways
        assert np.abs(np.subtract(digit.box, read(picture_of(alone)).box)).max() <= 2
        assert digit.ink().mean() == pytest.approx(read(picture_of(alone)).ink().mean(), rel=0.15)
    assert answer(page) == "34"


def test_all_ink_of_a_single_digit_is_one() -> None:
    page = written((3, 20, 10), (0, 100, 16))
    [[[digit]]] = found(page, single=True)
    first, second = (way[0] for [way] in found(page))
    assert digit.box[:2] == (first.box[0], min(first.box[1], second.box[1]))
    assert digit.box[2:] == (second.box[2], max(first.box[3], second.box[3]))
    assert digit.line == 0
    touching = written((0, 20, 20), (0, 54, 20))
    assert len(found(touching)[0]) > 1
    assert [[len(way) for way in ways] for ways in found(touching, single=True)] == [[1]]


def test_a_single_digit_is_the_same_either_way(drawing: Picture) -> None:
    [[[digit]]] = found(drawing, single=True)
    assert digit.box == read(drawing).box
    assert_array_equal(digit.pixels_HW, read(drawing).pixels_HW)


def test_a_broken_five_is_one_digit() -> None:
    whole = draw(SCANS[CLEAR[5]])
    page_HW = array(whole)
    page_HW[67:71] = 255
    assert difference(read(picture_of(page_HW)), read(whole)) < SIMILAR
    assert answer(picture_of(page_HW)) == "5"


@pytest.mark.parametrize(("first", "second", "apart"), [(0, 0, 34), (6, 0, 34), (0, 6, 32)])
def test_digits_that_touch_can_be_cut_in_more_than_one_way(
    first: int, second: int, apart: int
) -> None:
    page = written((first, 20, 20), (second, 20 + apart, 20))
    [ways] = found(page)
    assert len(ways[0]) == 1
    whole = ways[0][0].box
    assert [len(way) for way in ways[1:]].count(2) >= 1
    for way in ways:
        assert way[0].box[0] == whole[0]
        assert way[-1].box[2] == whole[2]
        for one, other in itertools.pairwise(way):
            assert one.box[0] < other.box[0]
            assert one.box[2] <= other.box[0] + 1
    assert answer(page) == f"{first}{second}"


@pytest.mark.parametrize("side_px", [28, 84, 200, 600])
def test_strokes_of_one_pixel_are_widened(side_px: int) -> None:
    page_HW = np.full((side_px, side_px), 255, np.uint8)
    low, high = side_px // 7, side_px * 6 // 7
    page_HW[low:high, low] = page_HW[low:high, high] = 0
    page_HW[low, low:high] = page_HW[high, low : high + 1] = 0
    digit = read(Image.fromarray(page_HW))
    assert digit.box == (low, low, high + 1, high + 1)
    width_px = stroke_width_px(digit.ink())
    assert max(1.5, USUAL_STROKE_PX[0]) < width_px < min(3.5, USUAL_STROKE_PX[1])
    assert digit.pixels_HW[14, 10:18].max() == 0


def test_usual_strokes_are_kept() -> None:
    bar_HW = np.zeros((28, 28), np.float32)
    bar_HW[4:24, 10:13] = 1
    assert_array_equal(fit_to_box(bar_HW)[:, 8:11], bar_HW[4:24, 10:13])


def test_a_straight_line_of_one_pixel_is_a_one() -> None:
    page_HW = np.full((200, 200), 255, np.uint8)
    page_HW[40:160, 100] = 0
    digit = read(Image.fromarray(page_HW))
    assert digit.box == (100, 40, 101, 160)
    assert USUAL_STROKE_PX[0] < stroke_width_px(digit.ink()) < USUAL_STROKE_PX[1]
    assert answer(Image.fromarray(page_HW)) == "1"


def test_pixels_that_touch_at_their_corners_are_one_stroke() -> None:
    page_HW = np.full((100, 100), 255, np.uint8)
    page_HW[range(20, 80), range(80, 20, -1)] = 0
    assert read(Image.fromarray(page_HW)).box == (21, 20, 81, 80)


def test_stroke_width_of_a_bar() -> None:
    bar_HW = np.zeros((120, 40), np.float32)
    bar_HW[10:110, 10:14] = 1
    # The two ends count as edges too: 2 * 400 / (2 * 100 + 2 * 4), but for the corners.
    assert stroke_width_px(bar_HW) == pytest.approx(800 / 208, abs=0.03)
    assert stroke_width_px(bar_HW / np.float32(3)) == pytest.approx(800 / 208, abs=0.03)
    assert stroke_width_px(np.zeros((5, 5), np.float32)) == 0


def test_otsu_parts_two_levels() -> None:
    values_N = np.array([0.1] * 70 + [0.2] * 10 + [0.8] * 20, np.float32)
    assert 0.2 <= otsu(values_N) <= 0.8
    level = otsu(np.full(9, 0.5, np.float32))
    assert level < 0.5


def test_flat_paper_has_one_level() -> None:
    page_HW = np.full((40, 30), 0.75, np.float32)
    page_HW[10:30, 14:17] = 0
    assert_array_equal(estimate_background(page_HW), np.full((40, 30), 0.75, np.float32))


def test_paper_in_gentle_light_is_found_under_the_ink() -> None:
    weights_T = np.array([0.7, 0.1, -0.05, 0.02, -0.06, -0.04], np.float32)
    light_HW = np.tensordot(weights_T, quadratic_terms(60, 80), axes=1)
    page_HW = light_HW.copy()
    page_HW[20:40, 30:36] = 0.1
    assert_allclose(estimate_background(page_HW), light_HW, atol=0.01)


def test_quadratic_terms_at_the_corners() -> None:
    terms_THW = quadratic_terms(3, 5)
    assert_array_equal(terms_THW[:, 0, 0], [1, -1, -1, 1, 1, 1])
    assert_array_equal(terms_THW[:, 2, 0], [1, -1, 1, -1, 1, 1])
    assert_array_equal(terms_THW[:, 1, 3], [1, 0.5, 0, 0, 0.25, 0])


def test_sampled_quadratic_terms_are_those_of_the_sampled_pixels() -> None:
    terms_THW = quadratic_terms(9, 14)
    assert_array_equal(quadratic_terms(9, 14, 2, 3), terms_THW[:, ::2, ::3])


def test_ink_is_positive_whichever_side_of_the_paper_it_lies_on() -> None:
    background_HW = np.full((10, 10), 0.5, np.float32)
    for ink in (0.1, 0.9):
        page_HW = background_HW.copy()
        page_HW[2:8, 4:6] = ink
        contrast_HW = contrast_from_background(background_HW, page_HW)
        # Dark ink takes 80 % of the light away; light ink is 0.4 of white lighter.
        assert contrast_HW[4, 4] == pytest.approx(0.8 if ink < 0.5 else 0.4)
        assert contrast_HW[0, 0] == 0


def test_pixel_noise_is_that_of_the_noise_and_not_of_the_light() -> None:
    light_HW = np.linspace(0, 1, 300, dtype=np.float32)[None, :].repeat(300, axis=0)
    noise_HW = np.random.default_rng(0).normal(0, 0.03, (300, 300)).astype(np.float32)
    assert pixel_noise(light_HW + noise_HW) == pytest.approx(0.03, rel=0.05)
    assert pixel_noise(np.ones((4, 1), np.float32)) == 0


def test_the_box_of_the_visible_ink() -> None:
    ink_HW = np.zeros((8, 9), np.float32)
    ink_HW[2:5, 3:7] = 1
    ink_HW[6, 8] = VISIBLE_INK / 2
    assert ink_box(ink_HW) == (3, 2, 7, 5)
    square_HW = to_square(ink_HW)
    assert_array_equal(square_HW, [[1] * 4, [1] * 4, [1] * 4, [0] * 4])


def test_ink_is_centred_by_its_mass_and_stays_inside() -> None:
    corner_HW = np.zeros((20, 20), np.float32)
    corner_HW[:, :2] = corner_HW[0] = 1
    centered_HW = center_by_mass(corner_HW)
    # Of 58 pixels, the rows' mean is 380 / 58 and the columns' 208 / 58. The middle is
    # 14, which would take the box to row 27 and column 30.
    assert ink_box(centered_HW) == (8, 7, 28, 27)
    assert_array_equal(centered_HW[7:27, 8:28], corner_HW)
    assert centered_HW.sum() == 58
    point_HW = np.zeros((20, 20), np.float32)
    point_HW[19, 0] = 1
    assert np.argwhere(center_by_mass(point_HW)).tolist() == [[14, 14]]


def test_every_step_is_of_the_pictures_size() -> None:
    picture = decode_picture(encoded(written((3, 20, 10), (0, 100, 16))), name="page")
    made = run_pipeline(picture)
    assert_array_equal(made.gray_HW, picture.gray_HW)
    for step_HW in (made.background_HW, made.contrast_HW, made.ink_HW, made.labels_HW):
        assert step_HW.shape == (300, 300)
    assert_array_equal(made.background_HW, np.ones((300, 300)))
    assert_allclose(made.contrast_HW, 1 - picture.gray_HW, atol=1e-6)
    assert (made.ink_HW.min(), made.ink_HW.max()) == (0, 1)
    assert np.unique(made.labels_HW).tolist() == [0, 1, 2]
    for number, ways in enumerate(made.digits, start=1):
        left, top, right, bottom = ways[0][0].box
        rows, columns = np.nonzero((made.labels_HW == number) & (made.ink_HW > 0.5))
        assert left <= columns.min() <= columns.max() < right
        assert top <= rows.min() <= rows.max() < bottom


def test_digits_are_saved_side_by_side(tmp_path: Path) -> None:
    digits = [ways[0][0] for ways in found(written((3, 20, 10), (0, 100, 16)))]
    save_digits(tmp_path / "digits.png", digits)
    with Image.open(tmp_path / "digits.png") as saved:
        assert (saved.size, saved.mode, saved.format) == ((56, 28), "L", "PNG")
        assert_array_equal(np.asarray(saved)[:, :28], digits[0].pixels_HW)
        assert_array_equal(np.asarray(saved)[:, 28:], digits[1].pixels_HW)


@pytest.mark.parametrize("grey", [0, 90, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (700, 30)])
@pytest.mark.parametrize("single", [False, True])
def test_blank(grey: int, size: tuple[int, int], single: bool) -> None:
    assert found(Image.new("L", size, grey), single=single) == []


def test_blank_but_for_noise_or_dust() -> None:
    noise_HW = np.random.default_rng(1).normal(200, 8, (300, 300))
    assert found(picture_of(noise_HW)) == []
    dusty_HW = np.full((100, 100), 255, np.uint8)
    dusty_HW[50:52, 50:52] = 0
    assert found(Image.fromarray(dusty_HW)) == []
    assert found(Image.new("RGBA", (28, 28))) == []


def test_odd_float_values_are_no_bug() -> None:
    values_HW = np.full((30, 30), 3e38, np.float32)
    values_HW[5:25, 10:14] = -3e38
    values_HW[0, :3] = [np.nan, np.inf, -np.inf]
    left, top, right, bottom = the_digit(encoded(Image.fromarray(values_HW), "TIFF")).box
    assert (left, top, right, bottom) == (10, 5, 14, 25)


@pytest.mark.parametrize(("paper", "ink"), [(246, 134), (255, 254), (0, 255), (100, 160), (20, 0)])
def test_two_tones_are_read_or_blank(paper: int, ink: int) -> None:
    # Of flat drawings, all ink is of one darkness, which leaves nothing to threshold.
    for width, height in ((28, 28), (20, 62), (3, 600), (200, 9)):
        page = Image.new("L", (width, height), paper)
        page.paste(ink, (width // 3, height // 4, width // 3 + max(1, width // 9), height - 2))
        digits = found(page)
        assert len(digits) <= 1
        for ways in digits:
            assert ways[0][0].pixels_HW.max() == 255


def check_digits(picture: Picture) -> None:
    everything = [*found(picture), *found(picture, single=True)]
    for digit in itertools.chain(*itertools.chain(*everything)):
        assert digit.pixels_HW.shape == (28, 28)
        assert digit.pixels_HW.dtype == np.uint8
        assert digit.pixels_HW.max() == 255
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= picture.width
        assert 0 <= top < bottom <= picture.height


SIDES = st.integers(1, 60)
SHAPES = st.tuples(SIDES, SIDES) | st.tuples(SIDES, SIDES, st.sampled_from([3, 4]))
LEVELS = st.sampled_from([st.integers(0, 255), st.sampled_from([0, 255]), st.integers(120, 126)])


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(data=st.data(), shape=SHAPES, levels=LEVELS)
def test_any_pixels_give_digits_in_the_form_of_mnist(
    data: st.DataObject, shape: tuple[int, ...], levels: st.SearchStrategy[int]
) -> None:
    pixels: NDArray[np.uint8] = data.draw(hnp.arrays(np.uint8, shape, elements=levels))
    check_digits(Image.fromarray(pixels))


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(
    shape=SHAPES,
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1),
    spread=st.sampled_from([0, 3, 30]),
)
def test_any_noise_gives_digits_in_the_form_of_mnist(
    shape: tuple[int, ...], seed: int, share: float, spread: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([40, 220], shape, p=[share, 1 - share])
    check_digits(picture_of(values + random.normal(0, spread, shape)))


@st.composite
def pages(draw_: st.DrawFn) -> tuple[int, Picture]:
    """A clear digit of half to four times the usual size, anywhere on its page."""
    digit = draw_(st.sampled_from(sorted(CLEAR)))
    height_px = draw_(st.integers(48, 384))
    side_px = draw_(st.integers(height_px + 4, height_px * 5 // 2))
    place = st.integers(0, side_px - height_px)
    at = draw_(place), draw_(place)
    picture = draw(SCANS[CLEAR[digit]], height_px=height_px, at=at, side_px=side_px)
    return digit, inverted(picture) if draw_(st.booleans()) else picture


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(page=pages())
def test_moving_scaling_and_inverting_do_not_change_the_answer(page: tuple[int, Picture]) -> None:
    digit, picture = page
    assert answer(picture) == str(digit)
