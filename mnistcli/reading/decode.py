"""A picture file -> its first frame, upright, grey, and small enough to work on.

Shapes: H rows, W columns, C channels. `grey` is float32, 0 black to 1 white.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnistcli.errors import DataError

# Pillow logs what it does not like, which without a handler would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())

GrayImage = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"))
FORMAT_NAMES = "PNG, JPEG, BMP, GIF, WebP or TIFF"
# Formats whose further frames are pages or an animation. A JPEG's are thumbnails and depth maps.
MULTIPAGE_FORMATS = frozenset(("PNG", "GIF", "WEBP", "TIFF"))
# Other files that people try: offset, first bytes in lower case, what it is.
OTHER_KINDS = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (0, b"%pdf", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG or other XML"),
)
MAX_PIXELS = 64_000_000
MAX_PAGES = 1000
# Large enough for the digits of a filled page, small enough for some hundredths of a second.
WORKING_SIDE_PX = 800
# Channels that differ by less than this everywhere make a grey picture: JPEG's rounding.
SAME_CHANNELS = 0.02
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as JPEG has it

# EXIF tag 274, "Orientation": how to turn the stored picture so that it stands upright.
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset(method for tag, method in UPRIGHT.items() if tag >= 5)


@dataclass(frozen=True)
class Picture:
    """A picture in grey, its longest side at most `WORKING_SIDE_PX`; what it was made from.

    `width_px` and `height_px` are those of the whole picture as it is shown
    (turned as its EXIF tag says), `num_frames` counts pages or an animation's frames.
    """

    gray_HW: GrayImage
    width_px: int
    height_px: int
    num_frames: int = 1


def decode_picture(data: bytes, *, name: str) -> Picture:
    """The picture whose file holds `data`; `name` is for messages.

    Raises:
        DataError: `data` is no whole picture in one of `FORMATS`, or has more
            than `MAX_PIXELS` pixels.
    """
    # Pillow warns of odd metadata, which says nothing about the pixels.
    with warnings.catch_warnings(action="ignore"):
        image = open_image(data, name=name)
        width_px, height_px = image.size
        if width_px * height_px > MAX_PIXELS:
            raise too_large_error(name)
        try:
            # JPEG's decoder can halve a large picture on the way, which saves most of its time.
            image.draft(None, (WORKING_SIDE_PX, WORKING_SIDE_PX))
            with mute_libtiff() if image.format == "TIFF" else nullcontext():
                image.load()
            method = turn(image)
            if method in SIDEWAYS:
                width_px, height_px = height_px, width_px
            gray_HW = to_gray(image if method is None else image.transpose(method))
            num_frames = count_frames(image)
            return Picture(gray_HW, width_px, height_px, num_frames)
        # Decoders of damaged data raise whatever they stumble over.
        except Exception as error:
            raise DataError(
                f"'{name}' is damaged.",
                why=f"Its {image.format} data are cut short or make no sense ({error}).",
                fix="Save or copy the picture again.",
            ) from error


@contextmanager
def mute_libtiff() -> Iterator[None]:
    """Send what C code writes to the process's stderr to nowhere: libtiff's own complaints."""
    if sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def open_image(data: bytes, *, name: str) -> Image.Image:
    """The picture with its header read and its pixels not yet decoded."""
    if not data:
        fix = "Save or copy the picture again."
        raise DataError(f"'{name}' is empty.", why="The file has 0 bytes.", fix=fix)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large_error(name) from error
    except Exception as error:
        raise DataError(
            f"'{name}' is no picture that can be read.",
            why=f"Its content is {guess_kind(data)}, whatever its name says.",
            fix=f"Save it as {FORMAT_NAMES}.",
        ) from error


def guess_kind(data: bytes) -> str:
    """What a file holds that is in none of `FORMATS`, in words."""
    for offset, magic, kind in OTHER_KINDS:
        if data[offset : offset + len(magic)].lower() == magic:
            return kind
    return "in no known picture format, or its first bytes are damaged"


def too_large_error(name: str) -> DataError:
    """The error for a picture that would fill the memory."""
    limit = f"{MAX_PIXELS // 10**6} million pixels"
    return DataError(
        f"'{name}' is too large.",
        why=f"It unpacks to more than {limit}.",
        fix="Scale it down, or crop it around the digits.",
    )


def count_frames(image: Image.Image) -> int:
    """The pages or frames of a picture, pages up to `MAX_PAGES`; 1 where a later one is damaged."""
    if image.format not in MULTIPAGE_FORMATS:
        return 1
    with suppress(Exception), mute_libtiff():
        return count_pages(image) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))
    return 1


def count_pages(image: Image.Image) -> int:
    """The pages of a TIFF file, at most `MAX_PAGES`.

    Pillow compares each page with all before it: to count those of 10 MB takes it minutes.
    """
    for number in range(1, MAX_PAGES):
        try:
            image.seek(number)
        except EOFError:
            return number
    return MAX_PAGES


def turn(image: Image.Image) -> Image.Transpose | None:
    """What sets the picture upright by its EXIF tag; None where the tag is missing or damaged."""
    with suppress(Exception):
        return UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    return None


def to_gray(image: Image.Image) -> GrayImage:
    """Any mode of Pillow's -> brightness in 0..1, (H, W), at most `WORKING_SIDE_PX` long."""
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return shrink(image.convert("L")) / np.float32(255)
    if image.mode.startswith("I;16"):
        return shrink(Image.fromarray(np.asarray(image).astype(np.float32) / 65535))
    if image.mode in ("I", "F"):
        return shrink(Image.fromarray(stretch(np.asarray(image, dtype=np.float32))))
    if image.has_transparency_data:
        return ink_channel(composite(shrink(image.convert("RGBA")) / np.float32(255)))
    return ink_channel(shrink(image.convert("RGB")) / np.float32(255))


def shrink(image: Image.Image) -> GrayImage:
    """Area-averaged down to `WORKING_SIDE_PX`, float32 (H, W) or (H, W, C)."""
    factor = WORKING_SIDE_PX / max(image.size)
    if factor < 1:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def stretch(values_HW: GrayImage) -> GrayImage:
    """Any finite range of values -> 0..1: 32-bit pictures have no agreed white."""
    is_finite_HW = np.isfinite(values_HW)
    if not is_finite_HW.any():
        return np.zeros_like(values_HW)
    if is_finite_HW.all():
        known_HW = values_HW
    else:
        finite_N = np.sort(values_HW[is_finite_HW])
        known_HW = np.where(is_finite_HW, values_HW, finite_N[finite_N.size // 2])
    low, high = float(known_HW.min()), float(known_HW.max())
    stretched_HW = np.empty_like(known_HW)
    # Row by row, because a picture of MAX_PIXELS would take a gigabyte more; in float64,
    # where the difference of two float32 cannot overflow.
    for row_W, known_W in zip(stretched_HW, known_HW, strict=True):
        row_W[:] = (known_W.astype(np.float64) - low) / (high - low or 1)
    return stretched_HW


def composite(rgba_HWC: GrayImage) -> GrayImage:
    """A picture laid on white, (H, W, 3); on black where on white it could hardly be seen."""
    gray_HW, alpha_HW = rgba_HWC[..., :3] @ LUMA, rgba_HWC[..., 3]
    dark_on_white = float((alpha_HW * (1 - gray_HW)).max())
    light_on_black = float((alpha_HW * gray_HW).max())
    ground = np.float32(0 if dark_on_white < light_on_black / 2 else 1)
    alpha_HW1 = rgba_HWC[..., 3:]
    return alpha_HW1 * rgba_HWC[..., :3] + (1 - alpha_HW1) * ground


def ink_channel(rgb_HWC: GrayImage) -> GrayImage:
    """The mixture of the channels in which the ink stands out from the paper, (H, W) in 0..1.

    Luma hides yellow ink on white and red on green. Here a channel counts as
    much as the strong differences from the paper's color lie in it, with their
    sign; the paper's color is the median of the picture's outermost pixels.
    """
    if float(np.ptp(rgb_HWC, axis=2).max()) < SAME_CHANNELS:
        return np.ascontiguousarray(rgb_HWC[..., 1])
    edge_NC = border_pixels(rgb_HWC, 0)
    step = max(1, max(rgb_HWC.shape) // 200)
    difference_NC = rgb_HWC[::step, ::step].reshape(-1, 3) - np.median(edge_NC, axis=0)
    strength_N1 = np.abs(difference_NC).max(axis=1, keepdims=True)
    weights_C = (difference_NC * strength_N1**2).sum(axis=0)
    total = float(np.abs(weights_C).sum())
    if total == 0:
        return rgb_HWC @ LUMA
    # Bright paper stays bright: the sign is luma's. A negative weight shifts the range back.
    weights_C *= (1 if weights_C @ LUMA >= 0 else -1) / total
    return np.asarray(rgb_HWC @ weights_C - weights_C.clip(max=0).sum(), dtype=np.float32)


def border_pixels(pixels: NDArray[Scalar], inset: int) -> NDArray[Scalar]:
    """What lies `inset` pixels from the edge of (H, W) or (H, W, C), (N,) or (N, C).

    The corners are in it twice.
    """
    height, width = pixels.shape[:2]
    inner = pixels[inset : height - inset, inset : width - inset]
    return np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
