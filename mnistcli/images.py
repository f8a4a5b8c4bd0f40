"""Any picture -> the digit in it, as MNIST would have drawn it.

A chain of small pure functions:

    open -> grey -> contrast to the paper -> ink -> crop -> stroke weight -> fit -> centre

MNIST was made from NIST's black-and-white scans: the digit's box was fitted in
20x20 with its aspect kept, anti-aliased, and its centre of mass put in the
middle of 28x28 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied
to document recognition, Proc. IEEE 86, 1998, section III.A). A network trained
on MNIST reads nothing else, so every picture has to come out that way.

Shapes: H rows, W columns. `grey` is 0 black to 1 white, `contrast` is positive
where the picture differs from its paper as ink does, `ink` is 0 paper to 1
stroke; all float32. `mask` is bool.
"""

import io
import itertools
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnistcli.errors import DataError

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
Value = TypeVar("Value", bound=np.generic)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
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
# Large enough for a digit that fills a tenth of the page, small enough for a few milliseconds.
WORKING_SIDE_PX = 600

# MNIST's form (LeCun et al. 1998): the box, the picture, and where the centre of
# mass lies, counted from pixel 0. The training set's centres average 14.0.
FIT_PX, SIZE_PX, CENTRE_PX = 20, 28, 14

# Differences below 4 % of the way from black to white are JPEG and sensor noise.
MIN_CONTRAST = 0.04
# Paper is never darker than this; without a bound its noise would be blown up.
DARKEST_PAPER = 0.2
# Paper, with Gaussian noise, stays within this many SDs of its level.
NOISE_SDS = 4.0
# A part with less ink than this share of the main one is a speck.
SPECK_SHARE = 0.03
# Pixels above this share of the threshold count where they join some above it:
# faint stretches of a stroke do, the lines of squared paper do not.
HYSTERESIS = 0.65
# The median distance from the level, times this, is the SD of Gaussian noise.
MAD_TO_SD = 1.48
# Less ink than this share of the darkest is no visible part of a stroke.
VISIBLE_INK = 0.05
# Ink that is smaller both ways is dust.
MIN_INK_PX = 3

# As `stroke_width_px` measures them, MNIST's training digits have strokes of 2.5 px on
# average, 99 % over 1.44 px. Thinner ones are widened to the second number.
THIN_STROKE_PX, STROKE_PX = 1.45, 2.3
# Strokes are widened on this many pixels for each one of the result.
OVERSAMPLING = 8

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


@dataclass(frozen=True)
class DigitImage:
    """A digit as a network reads it, and where in the picture it was found.

    `pixels_HW` is uint8 (28, 28), 0 background to 255 ink. `box` is left, top,
    right, bottom of the ink in pixels of the picture as it is shown (turned as
    its EXIF tag says); right and bottom are exclusive.
    """

    pixels_HW: NDArray[np.uint8]
    box: Box


def read_digit(data: bytes, *, name: str) -> DigitImage:
    """The one digit in the picture whose file holds `data`; `name` is for messages.

    Raises:
        DataError: `data` is no whole picture in one of `FORMATS`, has more than
            `MAX_PIXELS` pixels, or shows no ink.
    """
    grey_HW, size = open_grey(data, name=name)
    ink_HW = find_ink(contrast_to_paper(grey_HW))
    if not ink_HW.any():
        raise DataError(
            f"There is no digit in '{name}'.",
            why="The picture is blank, or its ink too faint or too small to tell from the paper.",
            fix="Draw the digit larger and darker, or crop the picture around it.",
        )
    box = left, top, right, bottom = ink_box(ink_HW)
    pixels_HW = np.rint(255 * centre(fit(ink_HW[top:bottom, left:right]))).astype(np.uint8)
    return DigitImage(pixels_HW, scale_box(box, max(size) / max(grey_HW.shape), size))


def open_grey(data: bytes, *, name: str) -> tuple[Grey, tuple[int, int]]:
    """A picture file's first frame, upright, grey and shrunk; and its full width and height."""
    # Pillow warns of odd metadata, which says nothing about the pixels.
    with warnings.catch_warnings(action="ignore"):
        picture = identify(data, name=name)
        if picture.width * picture.height > MAX_PIXELS:
            raise too_large(name)
        try:
            picture.load()
            picture = upright(picture)
            return shrunk_grey(picture), picture.size
        # Decoders of damaged data raise whatever they stumble over.
        except Exception as error:
            raise DataError(
                f"'{name}' is damaged.",
                why=f"Its {picture.format} data are cut short or make no sense ({error}).",
                fix="Save or copy the picture again.",
            ) from error


def identify(data: bytes, *, name: str) -> Image.Image:
    """The picture with its header read and its pixels not yet decoded."""
    if not data:
        fix = "Save or copy the picture again."
        raise DataError(f"'{name}' is empty.", why="The file has 0 bytes.", fix=fix)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large(name) from error
    except Exception as error:
        raise DataError(
            f"'{name}' is no picture that can be read.",
            why=f"Its content is {kind_of(data)}, whatever its name says.",
            fix="Save it as PNG, JPEG, BMP, GIF, WebP or TIFF.",
        ) from error


def kind_of(data: bytes) -> str:
    """What a file holds that is in none of `FORMATS`, in words."""
    for offset, magic, kind in OTHER_KINDS:
        if data[offset : offset + len(magic)].lower() == magic:
            return kind
    try:
        return f"in the format {Image.open(io.BytesIO(data)).format}"
    except Exception:  # noqa: BLE001 - a guess for a message must not fail
        return "no picture, or its first bytes are damaged"


def too_large(name: str) -> DataError:
    """The error for a picture that would fill the memory."""
    limit = f"{MAX_PIXELS // 10**6} million pixels"
    return DataError(
        f"'{name}' is too large.",
        why=f"It unpacks to more than {limit}.",
        fix="Scale it down, or crop it around the digit.",
    )


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag says; as it is where the tag is missing or damaged."""
    with suppress(Exception):
        method = UPRIGHT.get(picture.getexif().get(ORIENTATION_TAG, 1))
        if method is not None:
            return picture.transpose(method)
    return picture


def shrunk_grey(picture: Image.Image) -> Grey:
    """Luma (ITU-R 601) in 0..1, (H, W), the longest side at most `WORKING_SIDE_PX`."""
    if picture.mode.startswith("I;16"):
        return shrink(Image.fromarray(np.asarray(picture).astype(np.float32) / 65535))
    if picture.mode in ("I", "F"):
        return shrink(Image.fromarray(stretch(np.asarray(picture, dtype=np.float32))))
    if picture.has_transparency_data:
        return composite(shrink(picture.convert("RGBA")) / np.float32(255))
    return luma(shrink(picture.convert("RGB")) / np.float32(255))


def shrink(picture: Image.Image) -> Grey:
    """Area-averaged down to `WORKING_SIDE_PX`, float32 (H, W) or (H, W, channels)."""
    factor = WORKING_SIDE_PX / max(picture.size)
    if factor < 1:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def stretch(values_HW: Grey) -> Grey:
    """Any finite range of values -> 0..1: 32-bit pictures have no agreed white."""
    # In float64, where the difference of two float32 cannot overflow.
    finite_HW = np.nan_to_num(values_HW.astype(np.float64), posinf=0, neginf=0)
    low, high = float(finite_HW.min()), float(finite_HW.max())
    return ((finite_HW - low) / (high - low or 1)).astype(np.float32)


def luma(rgb_HWC: Grey) -> Grey:
    """Brightness as Pillow and JPEG define it."""
    return np.asarray(rgb_HWC @ np.array([0.299, 0.587, 0.114], dtype=np.float32))


def composite(rgba_HWC: Grey) -> Grey:
    """Luma of a picture laid on white; on black where on white it could hardly be seen."""
    grey_HW, alpha_HW = luma(rgba_HWC[..., :3]), rgba_HWC[..., 3]
    dark_on_white = float((alpha_HW * (1 - grey_HW)).max())
    light_on_black = float((alpha_HW * grey_HW).max())
    ground = 0.0 if dark_on_white < light_on_black / 2 else 1.0
    return alpha_HW * grey_HW + (1 - alpha_HW) * np.float32(ground)


def contrast_to_paper(grey_HW: Grey) -> Grey:
    """How far each pixel differs from the paper, (H, W); positive where ink does.

    The side of the paper's level on which the strong differences lie is the
    ink's. Dark ink swallows a share of the light that falls on the paper, so its
    contrast is that share: as high in the dim corner of a photo as in the bright.
    """
    paper_HW = paper(grey_HW)
    contrast_HW = paper_HW - grey_HW
    skew = float((contrast_HW * contrast_HW * contrast_HW).sum(dtype=np.float64))
    if skew < 0:
        return -contrast_HW
    return np.asarray(contrast_HW / np.maximum(paper_HW, np.float32(DARKEST_PAPER)))


def paper(grey_HW: Grey) -> Grey:
    """The brightness the paper would have without ink, (H, W): a smooth surface.

    Light falls off gently across a photo, so a quadratic surface describes it.
    It starts as the median of the picture's frame, where there is seldom ink,
    and is fitted again and again to the pixels that lie near it.
    """
    terms_HWT = quadratic_terms(*grey_HW.shape)
    step = max(1, max(grey_HW.shape) // 100)
    grey_N, terms_NT = grey_HW[::step, ::step].ravel(), terms_HWT[::step, ::step].reshape(-1, 6)
    frame_N = (np.abs(terms_NT[:, 1:3]) > 0.9).any(axis=1)
    paper_N = np.full_like(grey_N, np.median(grey_N[frame_N]))
    for _ in range(8):
        distance_N = np.abs(grey_N - paper_N)
        spread = MAD_TO_SD * float(np.median(distance_N[frame_N]))
        near_N = distance_N <= max(MIN_CONTRAST / 2, 2.5 * spread)
        weights_T = np.linalg.lstsq(terms_NT[near_N], grey_N[near_N])[0]
        paper_N = terms_NT @ weights_T
    return np.asarray(terms_HWT @ weights_T)


def quadratic_terms(height: int, width: int) -> Grey:
    """1, x, y, xy, x², y² at every pixel, (H, W, 6), with x and y from -1 to 1."""
    y_H1 = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x_1W = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    one_HW = np.ones((height, width), dtype=np.float32)
    x_HW, y_HW = x_1W * one_HW, y_H1 * one_HW
    return np.stack([one_HW, x_HW, y_HW, x_HW * y_HW, x_HW**2, y_HW**2], axis=-1)


def find_ink(contrast_HW: Grey) -> Grey:
    """The digit's strokes, (H, W): 0 on paper to 1 where the pen pressed; all 0 without ink."""
    noise = noise_sd(contrast_HW)
    visible = max(MIN_CONTRAST, NOISE_SDS * noise)
    candidates_N = contrast_HW[contrast_HW > visible]
    if not candidates_N.size:
        return np.zeros_like(contrast_HW)
    threshold = otsu(candidates_N)
    mask_HW = main_parts(contrast_HW, max(HYSTERESIS * threshold, visible), threshold)
    if not mask_HW.any():
        return np.zeros_like(contrast_HW)
    full = float(np.percentile(contrast_HW[mask_HW & (contrast_HW > threshold)], 75))
    ink_HW = np.clip((contrast_HW - 2 * noise) / (full - 2 * noise), 0, 1)
    # One pixel more all round: the grey edges of the strokes.
    return np.where(widen(mask_HW, 1), ink_HW, np.float32(0))


def noise_sd(contrast_HW: Grey) -> float:
    """The paper's noise: its spread on the side of its level where ink never lies."""
    paper_N = contrast_HW[contrast_HW <= 0]
    return MAD_TO_SD * float(np.median(-paper_N)) if paper_N.size else 0.0


def otsu(values_N: NDArray[np.float32]) -> float:
    """The threshold that best parts the values in two classes (Otsu 1979)."""
    if np.ptp(values_N) < 1e-3:
        return float(values_N.min()) - 1e-3  # all of one darkness: there is nothing to part
    counts_B, edges = np.histogram(values_N, bins=128)
    middle_B = (edges[:-1] + edges[1:]) / 2
    below_B = np.cumsum(counts_B)
    above_B = below_B[-1] - below_B
    sum_B = np.cumsum(counts_B * middle_B)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap_B = sum_B / below_B - (sum_B[-1] - sum_B) / above_B
    between_B = np.nan_to_num(below_B * above_B * gap_B**2)
    return float(edges[1 + int(between_B.argmax())])


def main_parts(contrast_HW: Grey, low: float, high: float) -> Mask:
    """The connected parts above `low` that belong to the digit, (H, W).

    A part needs a pixel above `high` (hysteresis: Canny 1986). The one with the
    most ink is the digit, though what runs along the picture's edge is rather a
    table or a shadow. Others are left out if they are specks or reach the edge.
    """
    labels_HW = components(contrast_HW > low)
    num = int(labels_HW.max()) + 1
    labels_N, contrast_N = labels_HW.ravel(), contrast_HW.ravel()
    strong_K = np.bincount(labels_N, contrast_N > high, minlength=num) > 0
    ink_K = np.bincount(labels_N, contrast_N, minlength=num) * strong_K
    ink_K[0] = 0
    edge_K = edge_shares(labels_HW, num)
    main = int((ink_K * np.select([edge_K > 0.15, edge_K > 0], [0.05, 0.25], 1)).argmax())
    keep_K = (ink_K > SPECK_SHARE * ink_K[main]) & (edge_K == 0)
    keep_K[main] = ink_K[main] > 0
    kept_HW: Mask = keep_K[labels_HW]
    return kept_HW if large_enough(kept_HW) else np.zeros_like(kept_HW)


def edge_shares(labels_HW: NDArray[np.intp], num: int) -> NDArray[np.float64]:
    """The share of the picture's edge that each of `num` parts covers, (num,)."""
    edge_N = np.concatenate([labels_HW[0], labels_HW[-1], labels_HW[:, 0], labels_HW[:, -1]])
    return np.bincount(edge_N, minlength=num) / edge_N.size


def large_enough(mask_HW: Mask) -> bool:
    """Whether the mask is more than a grain of dust."""
    rows_N, columns_N = np.nonzero(mask_HW)
    if not rows_N.size:
        return False
    return int(max(np.ptp(rows_N), np.ptp(columns_N))) + 1 >= MIN_INK_PX


def components(mask_HW: Mask) -> NDArray[np.intp]:
    """The 8-connected parts of a mask numbered from 1; 0 elsewhere, int (H, W).

    Every pixel takes the largest number around it, then the number which that
    pixel has by now (pointer jumping), until nothing changes.
    """
    labels_HW = np.where(mask_HW, np.arange(1, mask_HW.size + 1).reshape(mask_HW.shape), 0)
    while True:
        spread_HW = np.where(mask_HW, widen(labels_HW, 1), 0)
        number_of_N = np.concatenate([[0], spread_HW.ravel()])
        spread_HW = number_of_N[number_of_N[spread_HW]]
        if np.array_equal(spread_HW, labels_HW):
            break
        labels_HW = spread_HW
    used_N = np.bincount(labels_HW.ravel(), minlength=mask_HW.size + 1) > 0
    used_N[0] = False
    return np.asarray(np.cumsum(used_N)[labels_HW], dtype=np.intp)


def widen(values_HW: NDArray[Value], radius_px: float) -> NDArray[Value]:
    """Dilation: the largest value within `radius_px`; for 1 px, of all 8 neighbours."""
    reach = math.ceil(radius_px)
    height, width = values_HW.shape
    padded_HW, wide_HW = np.pad(values_HW, reach), values_HW.copy()
    for y, x in itertools.product(range(2 * reach + 1), repeat=2):
        if (y - reach) ** 2 + (x - reach) ** 2 <= max(radius_px**2, 2):
            np.maximum(wide_HW, padded_HW[y : y + height, x : x + width], out=wide_HW)
    return wide_HW


def ink_box(ink_HW: Grey) -> Box:
    """Left, top, right, bottom (exclusive) of the pixels that are visibly ink."""
    rows_N, columns_N = np.nonzero(ink_HW > VISIBLE_INK * ink_HW.max())
    return int(columns_N.min()), int(rows_N.min()), int(columns_N.max()) + 1, int(rows_N.max()) + 1


def scale_box(box: Box, scale: float, size: tuple[int, int]) -> Box:
    """A box in the shrunk picture -> the box in the whole one, rounded outwards."""
    left, top, right, bottom = box
    right, bottom = math.ceil(right * scale), math.ceil(bottom * scale)
    return int(left * scale), int(top * scale), min(size[0], right), min(size[1], bottom)


def fit(ink_HW: Grey) -> Grey:
    """Ink filling its array -> (20, 20), aspect kept, strokes about as wide as MNIST's."""
    square_HW = to_square(ink_HW)
    side_px = len(square_HW)
    width_px = stroke_width_px(square_HW)
    if width_px * FIT_PX / side_px < THIN_STROKE_PX:
        square_HW = resize(square_HW, FIT_PX * OVERSAMPLING)
        square_HW = to_square(thicken(square_HW))
    fitted_HW = resize(square_HW, FIT_PX)
    # A stroke much thinner than the picture is long has all but averaged away.
    return np.asarray(fitted_HW / fitted_HW.max())


def thicken(ink_HW: Grey) -> Grey:
    """Strokes widened so that they are `STROKE_PX` wide once the result is fitted.

    With side s and stroke w, a disc of radius r makes them s + 2r and w + 2r;
    solved for r where 20 (w + 2r) / (s + 2r) is the width wanted.
    """
    side_px, width_px = len(ink_HW), stroke_width_px(ink_HW)
    radius_px = max(0, (STROKE_PX * side_px - FIT_PX * width_px) / (2 * (FIT_PX - STROKE_PX)))
    return widen(np.pad(ink_HW, math.ceil(radius_px)), radius_px)


def stroke_width_px(ink_HW: Grey) -> float:
    """The mean width of the strokes: twice the ink over its total variation.

    A stroke of length L, width w and any darkness d holds L w d of ink, and its
    two edges have a total variation of 2 L d.
    """
    padded_HW = np.pad(ink_HW, 1)
    down_HW, right_HW = np.diff(padded_HW, axis=0)[:, 1:], np.diff(padded_HW, axis=1)[1:]
    return 2 * float(ink_HW.sum()) / max(float(np.hypot(down_HW, right_HW).sum()), 1e-6)


def to_square(ink_HW: Grey) -> Grey:
    """Cropped to the ink and padded with paper to a square around it."""
    left, top, right, bottom = ink_box(ink_HW)
    ink_HW = ink_HW[top:bottom, left:right]
    height, width = ink_HW.shape
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return np.pad(ink_HW, ((above, side - height - above), (before, side - width - before)))


def resize(ink_HW: Grey, side_px: int) -> Grey:
    """A square of ink in another size, (side_px, side_px): area averages, bicubic to enlarge."""
    method = Image.Resampling.BOX if len(ink_HW) >= side_px else Image.Resampling.BICUBIC
    resized = Image.fromarray(ink_HW).resize((side_px, side_px), method)
    return np.asarray(resized, dtype=np.float32).clip(0, 1)


def centre(ink_HW: Grey) -> Grey:
    """Ink moved by whole pixels so that its centre of mass is the middle of (28, 28).

    Where that would push ink out of the picture, it stays inside.
    """
    padded_HW = np.pad(ink_HW, SIZE_PX)
    left, top, right, bottom = ink_box(padded_HW)
    y = window_start(padded_HW.sum(axis=1), top, bottom)
    x = window_start(padded_HW.sum(axis=0), left, right)
    return padded_HW[y : y + SIZE_PX, x : x + SIZE_PX]


def window_start(ink_N: Grey, first: int, end: int) -> int:
    """Where `SIZE_PX` pixels start that hold ink from `first` to `end`, its mean in the middle."""
    mean = float(np.average(np.arange(len(ink_N)), weights=ink_N))
    return min(max(round(mean) - CENTRE_PX, end - SIZE_PX), first)
