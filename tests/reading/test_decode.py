"""Files of every kind become the same gray picture, or are refused with a reason."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pillow_heif
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mnistcli.errors import DataError
from mnistcli.reading import decode
from mnistcli.reading.decode import (
    LUMA,
    WORKING_SIDE_PX,
    Picture,
    decode_picture,
    decode_upright,
    encode_picture,
    stretch_range,
)
from tests.helpers.pictures import encoded

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "HEIF"]
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "HEIF": {"quality": -1}}
pillow_heif.register_heif_opener()  # to write HEIC
# No two orientations of it are equal; 8-bit values.
SMALL_HW = np.array([[0, 51, 255], [102, 204, 153]], np.uint8)
SIDE = WORKING_SIDE_PX


def decoded(image: Image.Image, format_: str = "PNG", **options: Any) -> Picture:
    return decode_picture(encoded(image, format_, **options), name="picture")


def gray(image: Image.Image, format_: str = "PNG", **options: Any) -> NDArray[np.float32]:
    return decoded(image, format_, **options).gray_HW


def small(mode: str = "L") -> Image.Image:
    return Image.fromarray(SMALL_HW).convert(mode)


def picture_with(pixels: dict[tuple[int, int], Any], *, mode: str, paper: Any) -> Image.Image:
    """A picture of 12x10 with some pixels of other colors."""
    image = Image.new(mode, (12, 10), paper)
    for at, value in pixels.items():
        image.putpixel(at, value)
    return image


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_formats_without_loss(format_: str, options: dict[str, Any]) -> None:
    picture = decoded(small(), format_, **options)
    assert picture.gray_HW.dtype == np.float32
    assert_allclose(picture.gray_HW, SMALL_HW / 255, atol=1e-6)
    assert (picture.width_px, picture.height_px, picture.num_frames) == (3, 2, 1)


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "HEIF"])
def test_formats_with_loss(format_: str) -> None:
    picture = Image.linear_gradient("L").resize((64, 64))
    assert_allclose(gray(picture, format_, quality=95), np.asarray(picture) / 255, atol=0.03)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA", "P"])
def test_gray_is_kept_in_every_mode(mode: str) -> None:
    assert_allclose(gray(small(mode)), SMALL_HW / 255, atol=1e-6)


def test_one_bit_cmyk_and_sixteen_bits() -> None:
    bits = Image.fromarray(np.array([[True, False], [False, False], [False, True]]))
    assert_array_equal(gray(bits, "TIFF", compression="group4"), [[1, 0], [0, 0], [0, 1]])
    assert_allclose(gray(small("CMYK"), "TIFF"), SMALL_HW / 255, atol=0.02)
    values_HW = np.array([[0, 1000, 65535], [13107, 257, 32768]], np.uint16)
    for format_ in ("PNG", "TIFF"):
        assert_allclose(gray(Image.fromarray(values_HW), format_), values_HW / 65535, atol=1e-6)


def test_numbers_without_a_fixed_white_are_stretched() -> None:
    values_HW = np.array([[-500, 1500], [0, 500]])
    expected_HW = np.array([[0, 1], [0.25, 0.5]])
    assert_allclose(gray(Image.fromarray(values_HW.astype(np.int32)), "TIFF"), expected_HW)
    floats = Image.fromarray((values_HW / 7000).astype(np.float32))
    assert_allclose(gray(floats, "TIFF"), expected_HW, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.5, 7.5], [0, 0]),
        ([np.nan, np.inf], [0, 0]),
        ([3e38, -3e38, np.nan, np.inf, -np.inf, 0], [1, 0, 0.5, 0.5, 0.5, 0.5]),
        ([3.4e38, np.nan, -3.4e38, 3.4e38, 3.4e38], [1, 1, 0, 1, 1]),
    ],
)
def test_extreme_numbers_are_stretched(values: list[float], expected: list[float]) -> None:
    assert_allclose(stretch_range(np.array([values], np.float32)), [expected], atol=1e-6)


def ink_on_transparent(ink: int, alpha: int = 255) -> Image.Image:
    """A pixel of ink on a transparent background of the same color."""
    return picture_with({(5, 4): (ink, alpha)}, mode="LA", paper=(ink, 0))


@pytest.mark.parametrize(("ink", "background"), [(0, 1), (255, 0)], ids=["black", "white"])
def test_transparent_pixels_contrast_with_the_ink(ink: int, background: int) -> None:
    expected_HW = np.full((10, 12), background)
    expected_HW[4, 5] = 1 - background
    assert_allclose(gray(ink_on_transparent(ink)), expected_HW, atol=1e-6)
    assert_allclose(gray(ink_on_transparent(ink).convert("RGBA"), "TIFF"), expected_HW, atol=1e-6)


def test_half_transparent_ink_is_fainter() -> None:
    assert gray(ink_on_transparent(0, 51))[4, 5] == pytest.approx(0.8)
    assert gray(ink_on_transparent(255, 51))[4, 5] == pytest.approx(0.2)
    assert (gray(Image.new("RGBA", (4, 4))) == 1).all()


@pytest.mark.parametrize(("mode", "format_"), [("L", "PNG"), ("RGB", "PNG"), ("P", "GIF")])
def test_a_color_that_stands_for_transparent(mode: str, format_: str) -> None:
    white = (255, 255, 255) if mode == "RGB" else 255
    picture = picture_with({(5, 4): 0}, mode="L", paper=255).convert(mode)
    expected_HW = np.ones((10, 12))
    expected_HW[4, 5] = 0
    assert_allclose(gray(picture, format_, transparency=white), expected_HW, atol=1e-6)


def stroke(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Image.Image:
    return picture_with({(x, 4): ink for x in range(3, 9)}, mode="RGB", paper=paper)


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        pytest.param((255, 255, 255), (255, 255, 0), id="yellow on white"),
        pytest.param((0, 0, 0), (0, 0, 255), id="blue on black"),
        pytest.param((255, 255, 0), (255, 255, 255), id="white on yellow"),
        pytest.param((255, 255, 255), (0, 0, 0), id="black on white"),
    ],
)
def test_ink_has_the_contrast_of_the_channel_that_shows_it(
    paper: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    expected_HW = np.full((10, 12), paper[2] / 255)
    expected_HW[4, 3:9] = ink[2] / 255
    assert_allclose(gray(stroke(paper, ink)), expected_HW, atol=1e-6)


def test_colors_of_the_same_luma_have_high_contrast() -> None:
    red, green = (200, 0, 0), (0, 102, 0)
    assert np.dot(red, LUMA) == pytest.approx(np.dot(green, LUMA), abs=0.1)
    for paper, ink in [(green, red), (red, green)]:
        gray_HW = gray(stroke(paper, ink))
        # Both channels by their difference: (200 * 200 + 102 * 102) / (200 + 102) of 255.
        contrast = abs(float(gray_HW[4, 5] - gray_HW[0, 0]))
        assert contrast == pytest.approx(50404 / 302 / 255, abs=1e-5)
        assert ((gray_HW >= 0) & (gray_HW <= 1)).all()


def test_bright_stays_bright() -> None:
    blue, white = (20, 40, 160), (255, 255, 255)
    on_white_HW, on_blue_HW = gray(stroke(white, blue)), gray(stroke(blue, white))
    assert on_white_HW[0, 0] == pytest.approx(1)
    assert on_white_HW[4, 5] < 0.25
    assert on_blue_HW[0, 0] < 0.25
    assert on_blue_HW[4, 5] == pytest.approx(1)


def test_one_color_has_its_luma_and_jpegs_color_noise_is_ignored() -> None:
    assert_allclose(gray(Image.new("RGB", (5, 4), (255, 0, 0))), np.full((4, 5), 0.299))
    noisy_HW = gray(picture_with({(5, 4): (9, 10, 12)}, mode="RGB", paper=(203, 200, 201)))
    assert_allclose([noisy_HW[0, 0], noisy_HW[4, 5]], [200 / 255, 10 / 255])


def orientation(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


@pytest.mark.parametrize("tag", range(10))
def test_pictures_are_set_upright(tag: int) -> None:
    # What is shown of the stored pixels (TIFF 6.0, section 8, Orientation).
    shown = {
        2: SMALL_HW[:, ::-1],
        3: SMALL_HW[::-1, ::-1],
        4: SMALL_HW[::-1],
        5: SMALL_HW.T,
        6: np.rot90(SMALL_HW, -1),
        7: SMALL_HW[::-1, ::-1].T,
        8: np.rot90(SMALL_HW, 1),
    }.get(tag, SMALL_HW)
    picture = decoded(small(), exif=orientation(tag))
    assert_allclose(picture.gray_HW, shown / 255, atol=1e-6)
    assert (picture.height_px, picture.width_px) == shown.shape


# pillow-heif writes the rotation besides the tag, as iPhones do, if it gets the tag as bytes.
@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "TIFF", "HEIF"])
def test_every_format_with_exif_is_set_upright(format_: str) -> None:
    stored_HW = SMALL_HW.repeat(16, axis=0).repeat(16, axis=1)
    exif = orientation(6).tobytes()
    picture = decoded(Image.fromarray(stored_HW), format_, exif=exif, quality=95)
    shown_HW = np.rot90(stored_HW, -1) / 255
    assert np.abs(picture.gray_HW - shown_HW).mean() < 0.02
    assert (picture.height_px, picture.width_px) == shown_HW.shape


def test_damaged_metadata_are_ignored() -> None:
    garbage = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    assert_allclose(gray(small(), exif=garbage), SMALL_HW / 255, atol=1e-6)
    assert gray(small(), "JPEG", exif=garbage).shape == (2, 3)


def test_metadata_that_cannot_be_written_again_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(small(), exif=orientation(6))

    def fail(*_: object) -> bytes:
        raise TypeError

    monkeypatch.setattr(Image.Exif, "tobytes", fail)
    picture = decode_picture(data, name="picture")
    assert_allclose(picture.gray_HW, np.rot90(SMALL_HW, -1) / 255, atol=1e-6)
    assert (picture.width_px, picture.height_px) == (2, 3)


def test_large_pictures_are_averaged_down() -> None:
    columns_HW = np.tile(np.array([[0, 100, 200, 100]], np.uint8), (SIDE, SIDE))
    picture = decoded(Image.fromarray(columns_HW))
    assert_allclose(picture.gray_HW, np.full((SIDE // 4, SIDE), 100 / 255), atol=1e-6)
    assert (picture.width_px, picture.height_px) == (4 * SIDE, SIDE)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((SIDE, 3), (3, SIDE)), ((1, 1), (1, 1)), ((3 * SIDE, 1), (1, SIDE))],
)
def test_long_and_small_pictures(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert gray(Image.new("L", size)).shape == shape
    assert gray(Image.new("RGBA", size[::-1])).shape == shape[::-1]


@pytest.mark.parametrize("tag", [1, 6])
@pytest.mark.parametrize("size", [(4 * SIDE + 3, 3 * SIDE + 1), (4 * SIDE + 2, 4 * SIDE + 1)])
def test_a_large_jpeg_has_the_size_it_was_saved_with(size: tuple[int, int], tag: int) -> None:
    drawing = Image.new("L", size, 255)
    drawing.paste(0, (0, 0, size[0] // 2, size[1]))
    picture = decoded(drawing, "JPEG", exif=orientation(tag))
    shown = size if tag == 1 else size[::-1]
    assert (picture.width_px, picture.height_px) == shown
    assert max(picture.gray_HW.shape) == SIDE
    ratio = picture.gray_HW.shape[1] / picture.gray_HW.shape[0]
    assert ratio == pytest.approx(shown[0] / shown[1], rel=0.01)
    upright_HW = picture.gray_HW if tag == 1 else picture.gray_HW.T
    assert upright_HW[:, : SIDE // 2 - 4].max() < 0.02
    assert upright_HW[:, SIDE // 2 + 4 :].min() > 0.98


@pytest.mark.parametrize("format_", ["PNG", "GIF", "WEBP", "TIFF", "HEIF"])
def test_the_first_of_many_frames_is_decoded(format_: str) -> None:
    options = LOSSLESS.get(format_, {})
    others = [Image.new("L", (3, 2), value) for value in (10, 250)]
    picture = decoded(small(), format_, save_all=True, append_images=others, **options)
    assert picture.num_frames == 3
    assert_allclose(picture.gray_HW, SMALL_HW / 255, atol=1e-6)


def test_the_second_picture_in_a_jpeg_is_not_a_frame() -> None:
    gray = Image.fromarray(np.full((16, 24), 51, np.uint8))
    picture = decoded(gray, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert (picture.width_px, picture.height_px, picture.num_frames) == (24, 16, 1)


def test_frames_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_FRAMES", 4)
    for num, counted in ((3, 3), (4, 4), (6, 4)):
        frames = [small()] * (num - 1)
        assert decoded(small(), "TIFF", save_all=True, append_images=frames).num_frames == counted


def refusal(data: bytes) -> DataError:
    """The error for a picture, whether it is to be read or annotated."""
    with pytest.raises(DataError) as caught:
        decode_picture(data, name="my digit.png")
    assert "'my digit.png'" in caught.value.what
    assert caught.value.why
    assert caught.value.fix
    with pytest.raises(DataError) as annotating:
        decode_upright(data, name="my digit.png")
    assert annotating.value.what == caught.value.what
    return caught.value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (b"just some text", "not in a known"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0", "AVIF"),
        (encoded(Image.new("L", (16, 16)), "ICO"), "not in a known"),
    ],
)
def test_other_files_are_refused(data: bytes, why: str) -> None:
    assert why in refusal(data).why


def test_heic_is_refused_without_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import fails
    error = refusal(encoded(small(), "HEIF"))
    assert "pillow-heif" in error.what
    assert ".[heic]" in error.fix


def test_heics_decoder_is_loaded_only_for_heic() -> None:
    code = (
        "import sys\n"
        "from mnistcli.reading.decode import decode_picture\n"
        "for size in sys.argv[1:]:\n"
        "    decode_picture(sys.stdin.buffer.read(int(size)), name='picture')\n"
        "    print('pillow_heif' in sys.modules)\n"
    )
    files = [encoded(small()), encoded(small(), "HEIF")]
    command = [sys.executable, "-c", code, *(str(len(data)) for data in files)]
    output = subprocess.run(command, input=b"".join(files), capture_output=True, check=True).stdout
    assert output.split() == [b"False", b"True"]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_truncated_files_are_refused(format_: str, share: float) -> None:
    noise_HW = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    data = encoded(Image.fromarray(noise_HW), format_)
    error = refusal(data[: int(len(data) * share)])
    assert format_ in error.why or "not a picture" in error.what


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)
    assert decoded(Image.new("L", (50, 20))).width_px == 50
    for size in [(50, 21), (1001, 1)]:
        assert "too large" in refusal(encoded(Image.new("L", size))).what
    # Pillow only warns at its own limit, and raises an error at twice that.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decoded(Image.new("L", (15, 10))).width_px == 15
    assert "too large" in refusal(encoded(Image.new("L", (28, 28)))).what


@pytest.mark.parametrize("size", [(8001, 8000), (60_000, 60_000), (2**31 - 1, 1)])
def test_small_files_that_would_fill_the_memory(size: tuple[int, int]) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    data = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    assert "too large" in refusal(data).what


def test_libtiffs_messages_are_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(encoded(small("RGB"), "TIFF"))
    entry = content.index(struct.pack("<HH", 277, 3))  # samples per pixel
    struct.pack_into("<H", content, entry + 8, 34712)
    refusal(bytes(content))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_large_picture_of_32_bits_needs_little_extra_memory(mode: str) -> None:
    picture = encoded(Image.new(mode, (2000, 2000)), "TIFF", compression="tiff_adobe_deflate")
    tracemalloc.start()
    decode_picture(picture, name="picture")
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy's arrays, without Pillow's
    tracemalloc.stop()
    assert peak < 3 * 4 * 2000 * 2000


@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 65535])
def test_values_are_stretched_to_the_bits_that_are_used(white: int) -> None:
    digit_HW = np.full((40, 30), white, np.uint16)
    digit_HW[8:32, 14:17] = 0
    data = encode_picture(Image.fromarray(digit_HW))
    gray_HW = decode_picture(data, name="x.png").gray_HW
    assert (gray_HW.min(), gray_HW.max()) == (0, 1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_masks_of_zeros_and_ones_are_black_and_white(mode: str) -> None:
    mask_HW = np.zeros((40, 30), np.uint8)
    mask_HW[8:32, 14:17] = 1
    data = encode_picture(Image.fromarray(mask_HW).convert(mode))
    gray_HW = decode_picture(data, name="x.png").gray_HW
    assert (gray_HW.min(), gray_HW.max()) == (0, 1)
    black = encode_picture(Image.new(mode, (30, 40)))
    assert decode_picture(black, name="x.png").gray_HW.max() == 0


@pytest.mark.parametrize(
    ("dtype", "white"),
    [(np.uint8, 255), (np.uint8, 1), (np.uint16, 4095), (np.uint16, 65535), (np.float32, 0.5)],
)
def test_the_whole_picture_is_as_bright_as_what_is_read(dtype: type, white: float) -> None:
    page_HW: NDArray[Any] = np.full((40, 30), white, dtype)
    page_HW[8:32, 14:17] = 0
    data = encode_picture(Image.fromarray(page_HW))
    whole_HW = np.asarray(decode_upright(data, name="x.png").convert("L"))
    assert_array_equal(whole_HW, 255 * decode_picture(data, name="x.png").gray_HW)


@pytest.mark.parametrize(("ink", "background"), [(0, 255), (255, 0)], ids=["black", "white"])
def test_the_whole_of_a_transparent_picture_contrasts_with_the_ink(
    ink: int, background: int
) -> None:
    whole = decode_upright(encoded(ink_on_transparent(ink)), name="x.png")
    assert whole.getpixel((5, 4)) == (ink, ink, ink)
    assert whole.getpixel((0, 0)) == (background, background, background)


def test_an_image_in_memory_is_upright_and_not_changed() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.open(io.BytesIO(encoded(small().resize((90, 60)), "JPEG", exif=exif)))
    picture = decode_picture(encode_picture(image), name="x")
    assert (picture.width_px, picture.height_px) == (60, 90)
    assert image.size == (90, 60)
    assert image.getexif()[ExifTags.Base.Orientation] == 6


@pytest.mark.parametrize("kind", ["damaged", "ragged", "with gradients", "mode"])
def test_what_cannot_be_converted_is_an_error_that_says_why(kind: str) -> None:
    pictures: dict[str, tuple[Any, str]] = {
        "damaged": (Image.open(io.BytesIO(encoded(small().resize((99, 99)))[:-60])), "truncated"),
        "ragged": ([[1, 2], [3]], "shape"),
        "with gradients": (torch.zeros(28, 28, requires_grad=True), "grad"),
        "mode": (small("RGB").convert("HSV"), "HSV"),
    }
    picture, why = pictures[kind]
    with pytest.raises(DataError) as caught:
        encode_picture(picture)
    assert why in caught.value.why
    assert "(H, W)" in caught.value.fix
