"""A picture file -> its first frame, upright, gray, and small enough to work on.

Shapes: H rows, W columns, C channels.
"""

import io
import logging
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image, ImageOps

from mnistcli.data.arrays import GrayImage, border_pixels
from mnistcli.errors import DataError, first_line, shorten

# Without a handler, Python would print Pillow's log messages to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # and HEIF, by pillow-heif
SUFFIXES = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjp", ".pjpeg")
) | frozenset((".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".heic", ".heif", ".hif"))
FORMAT_NAMES = "PNG, JPEG, BMP, GIF, WebP, TIFF or HEIC"
# Formats whose further frames are an animation or a document's pages. A JPEG's are previews and
# depth maps.
MULTIFRAME_FORMATS = frozenset(("PNG", "GIF", "WEBP", "TIFF", "HEIF"))
# What follows the first 4 bytes of a HEIC file.
HEIC_BRANDS = (b"ftyphei", b"ftyphev", b"ftypmif", b"ftypmsf")
# Other files that people try: offset, first bytes in lower case, format.
OTHER_FORMATS = (
    *((4, brand, "damaged HEIC") for brand in HEIC_BRANDS),
    (4, b"ftypavif", "AVIF"),
    (0, b"%pdf", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG or other XML"),
)
# Pictures in other formats, and raw photos.
UNREAD_SUFFIXES = frozenset(
    (".avif", ".eps", ".ico", ".jp2", ".jxl", ".pbm", ".pdf", ".pgm", ".ppm", ".psd", ".svg")
) | frozenset((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"))
# What Pillow and pillow-heif raise for damaged files: OSError, EOFError and zlib.error for missing
# or broken data, SyntaxError for a broken structure, RuntimeError for HEIC beyond libheif's limits,
# the others for impossible values in headers and metadata.
DECODER_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    SyntaxError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
MAX_PIXELS = 64_000_000
MAX_FRAMES = 1000
# Enough for the digits of a filled sheet; each step takes some hundredths of a second.
WORKING_SIDE_PX = 800
# If the channels differ by less than this everywhere, it is JPEG's rounding of a gray picture.
MAX_GRAY_DIFFERENCE = 0.02
# Ink's color is found in about this many rows and columns.
SAMPLED_SIDE = 200
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
_ARRAYS = "numbers of shape (H, W), (H, W, 3) or (H, W, 4)"
# The EXIF orientations that rotate by 90 degrees, with or without a flip.
SIDEWAYS = range(5, 9)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        gray_HW: float32, 0 black to 1 white, the longest side at most `WORKING_SIDE_PX`.
        width_px: width of the whole upright picture, before it was scaled down.
        height_px: its height.
        num_frames: frames of an animation, or pages; of a TIFF file at most `MAX_FRAMES`.
    """

    gray_HW: GrayImage
    width_px: int
    height_px: int
    num_frames: int = 1


def decode_picture(data: bytes, *, name: str) -> Picture:
    """Decode the content of a picture file; `name` is for messages.

    Raises:
        DataError: `data` is not a whole picture in one of `FORMATS` or HEIC, or has
            more than `MAX_PIXELS` pixels.
    """
    with decoding(data, name=name) as image:
        width_px, height_px = image.size
        # JPEG's decoder can halve a large picture, and HEIC may contain a smaller copy, which
        # saves most of the time.
        image.draft(None, (WORKING_SIDE_PX, WORKING_SIDE_PX))
        if load_upright(image):
            width_px, height_px = height_px, width_px
        # In this order: counting the frames replaces the pixels.
        gray_HW = to_gray(image)
        return Picture(gray_HW, width_px, height_px, count_frames(image))


def decode_upright(data: bytes, *, name: str) -> Image.Image:
    """The whole picture in color, upright, on the background that it is read on, as RGB.

    Raises:
        DataError: as for `decode_picture`.
    """
    with decoding(data, name=name) as image:
        load_upright(image)
        fixed = _fix_white(image)
        if not fixed.has_transparency_data:
            return fixed.convert("RGB")
        rgba = fixed.convert("RGBA")
        level = round(255 * pick_backdrop(shrink(rgba) / np.float32(255)))
        backdrop = Image.new("RGBA", rgba.size, (level, level, level, 255))
        return Image.alpha_composite(backdrop, rgba).convert("RGB")


@contextmanager
def decoding(data: bytes, *, name: str) -> Iterator[Image.Image]:
    """The opened picture; what its decoder raises inside the context becomes a DataError."""
    # Pillow warns about odd metadata, which does not affect the pixels.
    with warnings.catch_warnings(action="ignore"):
        image = open_image(data, name=name)
        try:
            yield image
        except DECODER_ERRORS as error:
            raise DataError(
                f"'{name}' is damaged.",
                why=f"Its {image.format} data are incomplete or invalid ({first_line(error)}).",
                fix="Save or copy the picture again.",
            ) from error


def encode_picture(picture: Image.Image | ArrayLike) -> bytes:
    """The content of a file with an image or an array (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        DataError: it is an array of another shape, not of numbers, or cannot be converted.
    """
    file = io.BytesIO()
    try:
        if isinstance(picture, Image.Image):
            image = ImageOps.exif_transpose(picture)
        else:
            image = _to_image(np.asarray(picture))
        # A format for nearly every mode, without loss.
        image.save(file, "TIFF")
    except DataError:
        raise
    # NumPy, PyTorch and Pillow's decoders raise errors of many types.
    except Exception as error:
        raise DataError(
            "The picture cannot be read.",
            why=f"{shorten(first_line(error))}.",
            fix=f"Pass the content of a file, a PIL image, or {_ARRAYS}.",
        ) from error
    return file.getvalue()


def _to_image(array: NDArray[Any]) -> Image.Image:
    shape, has_color = array.shape, array.ndim == 3 and array.shape[-1] in (3, 4)
    if not has_color:
        array = array.squeeze()  # (1, H, W) and (H, W, 1)
    if 0 in array.shape or array.dtype.kind not in "biuf" or not (has_color or array.ndim == 2):
        raise DataError(
            f"An array of shape {shape} and dtype {array.dtype} is not a picture.",
            fix=f"Pass {_ARRAYS}.",
        )
    if array.dtype not in (np.uint8, np.bool_, np.uint16) or (
        has_color and array.dtype != np.uint8
    ):
        array = stretch_range(array.reshape(len(array), -1).astype(np.float32)).reshape(array.shape)
        if has_color:
            array = np.rint(255 * array).astype(np.uint8)
    return Image.fromarray(array)


@contextmanager
def mute_libtiff() -> Iterator[None]:
    """Discard what C code writes to the process's stderr: libtiff's messages."""
    if sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


def open_image(data: bytes, *, name: str) -> Image.Image:
    """The picture with its header read and its pixels not yet decoded.

    Raises:
        DataError: it has another format, a damaged header, or more than `MAX_PIXELS` pixels.
    """
    if not data:
        fix = "Save or copy the picture again."
        raise DataError(f"'{name}' is empty.", why="The file has 0 bytes.", fix=fix)
    formats: tuple[str, ...] = FORMATS
    if data[4:11] in HEIC_BRANDS:
        register_heic(name)
        formats = ("HEIF",)
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise too_large_error(name) from error
    except DECODER_ERRORS as error:
        raise DataError(
            f"'{name}' is not a picture that can be read.",
            why=f"Its content is {guess_format(data)}, whatever its suffix.",
            fix=f"Save it as {FORMAT_NAMES}.",
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise too_large_error(name)
    return image


def register_heic(name: str) -> None:
    """Let Pillow open HEIC; `name` is for the message.

    pillow-heif rotates the pixels itself and resets the EXIF tag.

    Raises:
        DataError: pillow-heif is not installed.
    """
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    except ImportError as error:
        raise DataError(
            f"'{name}' cannot be read without pillow-heif.",
            why="It is a HEIC picture, and pillow-heif, which decodes them, is not installed.",
            fix='Install it: pip install ".[heic]"',
        ) from error


def guess_format(data: bytes) -> str:
    """Describe a file that cannot be opened."""
    for offset, magic, format_name in OTHER_FORMATS:
        if data[offset : offset + len(magic)].lower() == magic:
            return format_name
    return "not in a known picture format, or its first bytes are damaged"


def too_large_error(name: str, why: str = "") -> DataError:
    """The error for a picture that would fill the memory."""
    return DataError(
        f"'{name}' is too large.",
        why=why or f"It has more than {MAX_PIXELS // 10**6} million pixels.",
        fix="Scale it down, or crop it around the digits.",
    )


def load_upright(image: Image.Image) -> bool:
    """Decode the pixels and turn them as the EXIF tag says; whether the sides were swapped."""
    with mute_libtiff() if image.format == "TIFF" else nullcontext():
        image.load()
    is_sideways = False
    # Damaged metadata are ignored. In place, so that the pixels are upright even if
    # Pillow fails to write the new metadata.
    with suppress(*DECODER_ERRORS):
        is_sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
        ImageOps.exif_transpose(image, in_place=True)
    return is_sideways


def count_frames(image: Image.Image) -> int:
    """The number of frames (of a TIFF file, at most `MAX_FRAMES`); 1 if a later one is damaged."""
    if image.format not in MULTIFRAME_FORMATS:
        return 1
    with suppress(*DECODER_ERRORS), mute_libtiff():
        if image.format == "TIFF":
            return count_tiff_frames(image)
        return int(getattr(image, "n_frames", 1))
    return 1


def count_tiff_frames(image: Image.Image) -> int:
    """The frames of a TIFF file, at most `MAX_FRAMES`.

    Pillow compares each frame with all before it, which takes minutes for a file of 10 MB.
    """
    for number in range(1, MAX_FRAMES):
        try:
            image.seek(number)
        except EOFError:
            return number
    return MAX_FRAMES


def to_gray(image: Image.Image) -> GrayImage:
    """Convert any of Pillow's modes to brightness in 0..1, scaled down to `WORKING_SIDE_PX`."""
    image = _fix_white(image)
    if image.has_transparency_data:
        return mix_channels(composite(shrink(image.convert("RGBA")) / np.float32(255)))
    if image.mode in ("1", "L", "F"):
        return shrink(image.convert("L") if image.mode == "1" else image) / np.float32(255)
    return mix_channels(shrink(image.convert("RGB")) / np.float32(255))


def _fix_white(image: Image.Image) -> Image.Image:
    """A picture whose white is 255; one of more than 8 bits becomes gray floats (mode F)."""
    if image.mode in ("I", "F"):
        stretched_HW = stretch_range(np.asarray(image, dtype=np.float32))
        stretched_HW *= 255
        return Image.fromarray(stretched_HW)
    if image.mode.startswith("I;16"):
        values_HW = np.asarray(image).astype(np.float32)
        # Programs store 8, 10 or 12 bits in 16 without scaling them.
        white = 2 ** int(values_HW.max()).bit_length() - 1
        values_HW *= 255 / (white or 1)
        return Image.fromarray(values_HW)
    is_mask = image.mode in ("L", "RGB") and np.max(image.getextrema()) == 1
    if is_mask and not image.has_transparency_data:
        return image.point(lambda value: 255 * value)
    return image


def shrink(image: Image.Image) -> GrayImage:
    """Scale down to `WORKING_SIDE_PX` by averaging areas; float32 (H, W) or (H, W, C)."""
    factor = WORKING_SIDE_PX / max(image.size)
    if factor < 1:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def stretch_range(values_HW: GrayImage) -> GrayImage:
    """Map the smallest finite value to 0, the largest to 1: 32-bit pictures have no fixed white.

    Values that are not finite become the median of the others.
    """
    is_finite_HW = np.isfinite(values_HW)
    if not is_finite_HW.any():
        return np.zeros_like(values_HW)
    if not is_finite_HW.all():
        finite_N = np.sort(values_HW[is_finite_HW])
        values_HW = np.where(is_finite_HW, values_HW, finite_N[finite_N.size // 2])
    low, high = float(values_HW.min()), float(values_HW.max())
    stretched_HW = np.empty_like(values_HW)
    # Row by row, because a picture of MAX_PIXELS would take a gigabyte more; in float64,
    # where the difference of two float32 cannot overflow.
    for stretched_W, values_W in zip(stretched_HW, values_HW, strict=True):
        stretched_W[:] = (values_W.astype(np.float64) - low) / (high - low or 1)
    return stretched_HW


def composite(rgba_HWC: GrayImage) -> GrayImage:
    """Lay a picture (H, W, 4) on its backdrop, (H, W, 3)."""
    alpha_HW1 = rgba_HWC[..., 3:]
    return alpha_HW1 * rgba_HWC[..., :3] + (1 - alpha_HW1) * pick_backdrop(rgba_HWC)


def pick_backdrop(rgba_HWC: GrayImage) -> np.float32:
    """1 for white, or 0 for black if a picture (H, W, 4) could hardly be seen on white."""
    gray_HW, alpha_HW = rgba_HWC[..., :3] @ LUMA, rgba_HWC[..., 3]
    dark_on_white = float((alpha_HW * (1 - gray_HW)).max())
    light_on_black = float((alpha_HW * gray_HW).max())
    return np.float32(0 if dark_on_white < light_on_black / 2 else 1)


def mix_channels(rgb_HWC: GrayImage) -> GrayImage:
    """The mixture of the channels in which ink contrasts best, (H, W) in 0..1.

    Luma hides yellow ink on white and red ink on green. Here each channel is
    weighted by how much the strongest differences from the background's color
    show in it, with their sign. The background's color is the median of the
    outermost pixels.
    """
    if float(np.ptp(rgb_HWC, axis=2).max()) < MAX_GRAY_DIFFERENCE:
        return np.ascontiguousarray(rgb_HWC[..., 1])
    edge_NC = border_pixels(rgb_HWC, 0)
    step = max(1, max(rgb_HWC.shape) // SAMPLED_SIDE)
    difference_NC = rgb_HWC[::step, ::step].reshape(-1, 3) - np.median(edge_NC, axis=0)
    strength_N1 = np.abs(difference_NC).max(axis=1, keepdims=True)
    weights_C = (difference_NC * strength_N1**2).sum(axis=0)
    total = float(np.abs(weights_C).sum())
    if total == 0:
        return rgb_HWC @ LUMA
    # The sign is luma's, so that a bright background stays bright. Subtracting the
    # negative weights shifts the result back to 0..1.
    weights_C *= (1 if weights_C @ LUMA >= 0 else -1) / total
    return np.asarray(rgb_HWC @ weights_C - weights_C.clip(max=0).sum(), dtype=np.float32)
