"""Files of every kind become the same grey picture, or are refused in words."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from mnistcli.errors import DataError
from mnistcli.reading import decode as pictures
from mnistcli.reading.decode import (
    LUMA,
    ORIENTATION_TAG,
    WORKING_SIDE_PX,
    Picture,
    border_pixels,
    decode_picture,
    stretch,
)
from mnistcli.reading.pipeline import read_digits
from tests.reading.test_pipeline import DIGITS, draw, encoded

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"]
# No two turns of it are alike; 8-bit values.
SMALL_HW = np.array([[0, 51, 255], [102, 204, 153]], np.uint8)
SIDE = WORKING_SIDE_PX


def opened(image: Image.Image, format_: str = "PNG", **options: Any) -> Picture:
    return decode_picture(encoded(image, format_, **options), name="picture")


def grey(image: Image.Image, format_: str = "PNG", **options: Any) -> NDArray[np.float32]:
    return opened(image, format_, **options).gray_HW


def filled(pixels: dict[tuple[int, int], Any], *, mode: str, paper: Any) -> Image.Image:
    """A page of 12x10 with some pixels of other colors."""
    image = Image.new(mode, (12, 10), paper)
    for at, value in pixels.items():
        image.putpixel(at, value)
    return image


def small(mode: str) -> Image.Image:
    return Image.fromarray(SMALL_HW).convert(mode)


@pytest.mark.parametrize("format_", ["PNG", "BMP", "GIF", "TIFF"])
def test_gray_is_kept_exactly(format_: str) -> None:
    picture = opened(Image.fromarray(SMALL_HW), format_)
    assert picture.gray_HW.dtype == np.float32
    assert_allclose(picture.gray_HW, SMALL_HW / 255, atol=1e-6)
    assert (picture.width_px, picture.height_px, picture.num_frames) == (3, 2, 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_gray_is_kept_in_every_mode(mode: str) -> None:
    assert_allclose(grey(small(mode)), SMALL_HW / 255, atol=1e-6)


def test_compressed_with_loss_or_without() -> None:
    assert_allclose(grey(small("L"), "WEBP", lossless=True), SMALL_HW / 255, atol=1e-6)
    for format_ in ("JPEG", "WEBP"):
        page = Image.linear_gradient("L").resize((64, 64))
        assert_allclose(grey(page, format_, quality=95), np.asarray(page) / 255, atol=0.03)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        assert_allclose(
            grey(small("L"), "TIFF", compression=compression), SMALL_HW / 255, atol=1e-6
        )


def test_black_and_white() -> None:
    page = Image.fromarray(np.array([[True, False], [False, False], [False, True]]))
    assert_array_equal(grey(page, "TIFF", compression="group4"), [[1, 0], [0, 0], [0, 1]])
    for format_ in ("PNG", "BMP", "TIFF"):
        assert_array_equal(grey(page, format_), [[1, 0], [0, 0], [0, 1]])


@pytest.mark.parametrize("format_", ["TIFF", "JPEG"])
def test_cmyk(format_: str) -> None:
    page = Image.new("RGB", (16, 16), (255, 255, 255))
    page.paste((0, 0, 0), (0, 0, 8, 16))
    assert_allclose(
        grey(page.convert("CMYK"), format_), np.repeat([[0] * 8 + [1] * 8], 16, axis=0), atol=0.02
    )


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits(format_: str) -> None:
    values_HW = np.array([[0, 1000, 65535], [13107, 257, 32768]], np.uint16)
    assert_allclose(grey(Image.fromarray(values_HW), format_), values_HW / 65535, atol=1e-6)


def test_numbers_without_an_agreed_white_are_stretched() -> None:
    wide_HW = np.array([[-500, 1500], [0, 500]])
    expected_HW = np.array([[0, 1], [0.25, 0.5]])
    assert_allclose(grey(Image.fromarray(wide_HW.astype(np.int32)), "TIFF"), expected_HW)
    small_HW = (wide_HW / 7000).astype(np.float32)
    assert_allclose(grey(Image.fromarray(small_HW), "TIFF"), expected_HW, atol=1e-6)
    level_HW = np.full((2, 2), 7.5, np.float32)
    assert_array_equal(grey(Image.fromarray(level_HW), "TIFF"), np.zeros((2, 2)))


def test_odd_numbers_are_no_reason_to_fail() -> None:
    values_HW = np.array([[3e38, -3e38], [np.nan, np.inf], [-np.inf, 0]], np.float32)
    expected_HW = np.array([[1, 0], [0.5, 0.5], [0.5, 0.5]])
    assert_allclose(grey(Image.fromarray(values_HW), "TIFF"), expected_HW, atol=1e-6)


def layer(ink: int, alpha: int = 255) -> Image.Image:
    """A pixel of ink on a transparent ground of the same color."""
    return filled({(5, 4): (ink, alpha)}, mode="LA", paper=(ink, 0))


def test_what_is_transparent_is_paper() -> None:
    expected_HW = np.ones((10, 12))
    expected_HW[4, 5] = 0
    assert_allclose(grey(layer(0)), expected_HW, atol=1e-6)
    assert_allclose(grey(layer(0).convert("RGBA"), "TIFF"), expected_HW, atol=1e-6)
    assert_allclose(grey(layer(0).convert("RGBA"), "WEBP", lossless=True), expected_HW, atol=1e-6)


def test_white_on_nothing_is_laid_on_black() -> None:
    expected_HW = np.zeros((10, 12))
    expected_HW[4, 5] = 1
    assert_allclose(grey(layer(255)), expected_HW, atol=1e-6)


def test_half_transparent_ink_is_half_as_dark() -> None:
    assert grey(layer(0, 51))[4, 5] == pytest.approx(0.8)
    assert grey(layer(255, 51))[4, 5] == pytest.approx(0.2)
    assert (grey(Image.new("RGBA", (4, 4))) == 1).all()


@pytest.mark.parametrize(
    ("mode", "format_"), [("L", "PNG"), ("RGB", "PNG"), ("P", "PNG"), ("L", "GIF")]
)
def test_a_colour_that_counts_as_transparent(mode: str, format_: str) -> None:
    white = (255, 255, 255) if mode == "RGB" else 255
    # The white paper is gone, and comes back.
    page = filled({(5, 4): 0}, mode="L", paper=255).convert(mode)
    expected_HW = np.ones((10, 12))
    expected_HW[4, 5] = 0
    assert_allclose(grey(page, format_, transparency=white), expected_HW, atol=1e-6)


def stroke(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Image.Image:
    return filled({(x, 4): ink for x in range(3, 9)}, mode="RGB", paper=paper)


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        pytest.param((255, 255, 255), (255, 255, 0), id="yellow on white"),
        pytest.param((0, 0, 0), (0, 0, 255), id="blue on black"),
        pytest.param((255, 255, 0), (255, 255, 255), id="white on yellow"),
    ],
)
def test_ink_that_differs_in_one_channel_has_its_contrast(
    paper: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    expected_HW = np.full((10, 12), paper[2] / 255)
    expected_HW[4, 3:9] = ink[2] / 255
    assert_allclose(grey(stroke(paper, ink)), expected_HW, atol=1e-6)


def test_red_on_green_of_the_same_brightness_is_in_high_contrast() -> None:
    red, green = (200, 0, 0), (0, 102, 0)
    luma = [float(np.dot(color, LUMA)) for color in (red, green)]
    assert luma[0] == pytest.approx(luma[1], abs=0.1)
    for paper, ink in [(green, red), (red, green)]:
        gray_HW = grey(stroke(paper, ink))
        # Both channels by what they differ: (200 * 200 + 102 * 102) / (200 + 102) of 255.
        contrast = abs(float(gray_HW[4, 5] - gray_HW[0, 0]))
        assert contrast == pytest.approx(50404 / 302 / 255, abs=1e-5)
        assert ((gray_HW >= 0) & (gray_HW <= 1)).all()
        assert np.unique(gray_HW.round(4)).size == 2


def test_colours_of_the_same_contrast_as_gray_stay_what_they_are() -> None:
    assert_allclose(grey(stroke((255, 255, 255), (0, 0, 0)))[4, 5], 0)
    blue_HW = grey(stroke((255, 255, 255), (20, 40, 160)))
    assert blue_HW[0, 0] == pytest.approx(1)
    assert blue_HW[4, 5] < 0.25
    light_HW = grey(stroke((20, 40, 160), (255, 255, 255)))
    assert light_HW[4, 5] == pytest.approx(1)
    assert light_HW[0, 0] < 0.25


def test_a_page_in_one_colour_has_its_luma() -> None:
    assert_allclose(grey(Image.new("RGB", (5, 4), (255, 0, 0))), np.full((4, 5), 0.299))


def test_coloured_noise_of_a_gray_jpeg_counts_for_nothing() -> None:
    page = filled({(5, 4): (9, 10, 12)}, mode="RGB", paper=(203, 200, 201))
    assert grey(page)[0, 0] == pytest.approx(200 / 255)
    assert grey(page)[4, 5] == pytest.approx(10 / 255)


def test_a_ring_is_all_that_lies_so_far_from_the_edge() -> None:
    numbers_HW = np.arange(20).reshape(4, 5)
    assert set(border_pixels(numbers_HW, 1)) == {6, 7, 8, 11, 12, 13}
    outermost_N = border_pixels(numbers_HW, 0)
    assert set(outermost_N) == set(range(20)) - {6, 7, 8, 11, 12, 13}
    colors_HWC = np.stack([numbers_HW, -numbers_HW], axis=2)
    assert_array_equal(border_pixels(colors_HWC, 0), np.stack([outermost_N, -outermost_N], axis=1))


# What is shown of a stored array, by the EXIF tag (TIFF 6.0, section 8, Orientation).
TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.rot90(stored, 1),
}


FAITHFUL: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95},
}


def oriented(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = tag
    return exif


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("tag", TURNS)
def test_pictures_are_set_upright(tag: int, format_: str) -> None:
    stored_HW = SMALL_HW.repeat(16, axis=0).repeat(16, axis=1)
    picture = opened(Image.fromarray(stored_HW), format_, exif=oriented(tag), **FAITHFUL[format_])
    shown_HW = TURNS[tag](stored_HW) / 255
    assert picture.gray_HW.shape == shown_HW.shape
    assert_allclose(picture.gray_HW, shown_HW, atol=0.08 if format_ == "JPEG" else 1e-6)
    assert (picture.height_px, picture.width_px) == shown_HW.shape


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_a_tag_without_a_meaning_turns_nothing(tag: int) -> None:
    assert_allclose(grey(small("L"), exif=oriented(tag)), SMALL_HW / 255, atol=1e-6)


def test_damaged_metadata_turn_nothing() -> None:
    garbage = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    assert_allclose(grey(small("L"), exif=garbage), SMALL_HW / 255, atol=1e-6)
    assert grey(small("L"), "JPEG", exif=garbage).shape == (2, 3)


def test_large_pictures_are_averaged_down() -> None:
    side_by_side_HW = np.tile(np.array([[0, 100, 200, 100]], np.uint8), (SIDE, SIDE))
    picture = opened(Image.fromarray(side_by_side_HW))
    assert picture.gray_HW.shape == (SIDE // 4, SIDE)
    assert_allclose(picture.gray_HW, np.full((SIDE // 4, SIDE), 100 / 255), atol=1e-6)
    assert (picture.width_px, picture.height_px) == (4 * SIDE, SIDE)


def test_pictures_up_to_the_limit_are_kept() -> None:
    for size in [(SIDE, 3), (3, SIDE), (1, 1)]:
        assert grey(Image.new("L", size)).shape == size[::-1]
    assert grey(Image.new("L", (3 * SIDE, 1))).shape == (1, SIDE)
    assert grey(Image.new("RGBA", (1, 3 * SIDE))).shape == (SIDE, 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("tag", [1, 6])
def test_a_large_jpeg_has_the_size_it_was_saved_with(mode: str, tag: int) -> None:
    width, height = 4 * SIDE + 3, 3 * SIDE + 1
    page = Image.new("L", (width, height), 255)
    page.paste(0, (0, 0, width // 2, height))
    picture = opened(page.convert(mode), "JPEG", exif=oriented(tag))
    shown = (width, height) if tag == 1 else (height, width)
    assert (picture.width_px, picture.height_px) == shown
    assert max(picture.gray_HW.shape) == SIDE
    assert picture.gray_HW.shape[1] / picture.gray_HW.shape[0] == pytest.approx(
        shown[0] / shown[1], rel=0.01
    )
    upright_HW = picture.gray_HW if tag == 1 else picture.gray_HW.T
    halves = upright_HW[:, : SIDE // 2 - 4], upright_HW[:, SIDE // 2 + 4 :]
    assert_allclose(halves[0], np.zeros_like(halves[0]), atol=0.02)
    assert_allclose(halves[1], np.ones_like(halves[1]), atol=0.02)


@pytest.mark.parametrize("format_", ["PNG", "GIF", "WEBP", "TIFF"])
def test_of_many_frames_the_first_is_read(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    others = [Image.new("L", (3, 2), value) for value in (10, 250)]
    picture = opened(small("L"), format_, save_all=True, append_images=others, **options)
    assert picture.num_frames == 3
    assert_allclose(picture.gray_HW, SMALL_HW / 255, atol=1e-6)


def test_a_second_picture_in_a_jpeg_is_no_page() -> None:
    page = Image.fromarray(np.full((16, 24), 51, np.uint8))
    picture = opened(page, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert (picture.width_px, picture.height_px, picture.num_frames) == (24, 16, 1)
    assert_allclose(picture.gray_HW, np.full((16, 24), 0.2), atol=0.02)


def refusal(data: bytes, name: str = "my digit.png") -> DataError:
    with pytest.raises(DataError) as caught:
        decode_picture(data, name=name)
    assert f"'{name}'" in caught.value.what
    assert caught.value.why
    assert caught.value.fix
    return caught.value


def test_empty_file() -> None:
    assert "is empty" in refusal(b"").what


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"just some text", "no known"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"<?XML version='1.0'?>", "XML"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0", "AVIF"),
        (b"P5 2 2 255\n\0\0\0\0", "no known"),
        (encoded(Image.new("L", (16, 16)), "ICO"), "no known"),
        (b"\x89PNG\r\n\x1a\n", "no known"),
    ],
)
def test_other_formats_are_named(data: bytes, kind: str) -> None:
    error = refusal(data)
    assert "is no picture" in error.what
    assert kind in error.why
    assert error.fix == "Save it as PNG, JPEG, BMP, GIF, WebP or TIFF."


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated(format_: str, share: float) -> None:
    random = np.random.default_rng(0)
    data = encoded(Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)), format_)
    error = refusal(data[: int(len(data) * share)])
    assert error.what in (
        "'my digit.png' is damaged.",
        "'my digit.png' is no picture that can be read.",
    )
    if "damaged" in error.what:
        assert format_ in error.why


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    assert opened(Image.new("L", (50, 20))).width_px == 50
    for size in [(50, 21), (1001, 1), (21, 50)]:
        assert "is too large" in refusal(encoded(Image.new("L", size))).what


def bomb(width: int, height: int) -> bytes:
    """The start of a PNG file that claims to be of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8001, 8000), (12_000, 9000), (60_000, 60_000), (2**31 - 1, 1)])
def test_small_files_that_would_fill_the_memory(size: tuple[int, int]) -> None:
    error = refusal(bomb(*size))
    assert "is too large" in error.what
    assert "million pixels" in error.why


def test_pillows_own_limit_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "too large" in refusal(encoded(Image.new("L", (28, 28)))).what
    assert opened(Image.new("L", (15, 10))).width_px == 15  # at which Pillow only warns


def page_of(digit: NDArray[Any]) -> Image.Image:
    return draw(digit, height_px=40, at=(9, 6), side_px=56)


WHOLE = [
    *(encoded(page_of(DIGITS[0]), format_, exif=oriented(6)) for format_ in FORMATS),
    encoded(page_of(DIGITS[1]).convert("RGBA")),
    encoded(page_of(DIGITS[1]).quantize(8), transparency=0),
    encoded(page_of(DIGITS[1]).convert("CMYK"), "JPEG"),
    encoded(page_of(DIGITS[2]).convert("F"), "TIFF"),
    encoded(Image.fromarray(np.asarray(page_of(DIGITS[2])).astype(np.uint16) * 257)),
    *(
        encoded(page_of(DIGITS[3]), format_, save_all=True, append_images=[page_of(DIGITS[2])])
        for format_ in ("PNG", "GIF", "WEBP", "TIFF", "MPO")
    ),
]
STARTS = [data[:length] for data in WHOLE for length in (4, 12, 40)]


def check_picture_or_error(data: bytes) -> None:
    try:
        picture = decode_picture(data, name="odd.png")
    except DataError:
        return
    assert picture.gray_HW.dtype == np.float32
    assert 1 <= max(picture.gray_HW.shape) <= SIDE
    assert float(picture.gray_HW.min()) >= -1e-5
    assert float(picture.gray_HW.max()) <= 1 + 1e-5
    assert picture.num_frames >= 1
    assert isinstance(read_digits(picture), list)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(start=st.sampled_from([b"", *STARTS]), rest=st.binary(max_size=200))
def test_any_bytes_give_a_picture_or_an_error_of_ours(start: bytes, rest: bytes) -> None:
    check_picture_or_error(start + rest)


# Most of a file's structure is at its start or, in a TIFF, at its end.
PLACES = st.integers(0, 80) | st.integers(-80, -1) | st.integers(0, 10_000)
BYTES = st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(
    whole=st.sampled_from(WHOLE),
    changes=st.lists(st.tuples(PLACES, BYTES), max_size=8),
    end=st.none() | st.integers(1, 10_000),
)
def test_any_damage_gives_a_picture_or_an_error_of_ours(
    whole: bytes, changes: list[tuple[int, int]], end: int | None
) -> None:
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    check_picture_or_error(bytes(data[:end]))


def test_of_very_many_pages_not_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PAGES", 4)
    for num, counted in ((3, 3), (4, 4), (6, 4)):
        pages = [small("L")] * (num - 1)
        assert opened(small("L"), "TIFF", save_all=True, append_images=pages).num_frames == counted


def test_pillows_complaints_are_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(encoded(small("RGB"), "TIFF"))
    entry = content.index(struct.pack("<HH", 277, 3))  # samples per pixel
    struct.pack_into("<H", content, entry + 8, 34712)
    with pytest.raises(DataError):
        decode_picture(bytes(content), name="picture")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_large_picture_of_32_bits_takes_little_more_memory_than_itself(mode: str) -> None:
    import tracemalloc

    page = encoded(Image.new(mode, (2000, 2000)), "TIFF", compression="tiff_adobe_deflate")
    tracemalloc.start()
    decode_picture(page, name="picture")
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy's arrays; Pillow's are beside them
    tracemalloc.stop()
    assert peak < 3 * 4 * 2000 * 2000


def test_the_largest_numbers_are_stretched_where_others_are_none() -> None:
    top = np.float32(3.4e38)
    values = np.array([[top, np.nan, -top, top, top, np.inf]], np.float32)
    assert_array_equal(stretch(values), [[1, 1, 0, 1, 1, 1]])
