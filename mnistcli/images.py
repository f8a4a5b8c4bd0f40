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
import math
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnistcli.errors import DataError

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MAX_PIXELS = 64_000_000
# Large enough for a digit that fills a tenth of the page, small enough for a few milliseconds.
WORKING_SIDE_PX = 600

# MNIST's form (LeCun et al. 1998): the box, the picture, and where the centre of
# mass lies, counted from pixel 0. The training set's centres average 14.0.
FIT_PX, SIZE_PX, CENTRE_PX = 20, 28, 14

# Differences below 4 % of the way from black to white are JPEG and sensor noise.
MIN_CONTRAST = 0.04
# Paper, with Gaussian noise, stays within this many SDs of its level.
NOISE_SDS = 4.0
# A part with less ink than this share of the main one is a speck.
SPECK_SHARE = 0.03
# Ink that is smaller both ways is dust.
MIN_INK_PX = 3

# MNIST's strokes are 2.5 px wide on average, 90 % of them over 1.8 px, as
# `stroke_width_px` measures them. Thinner ones are widened to the second number.
THIN_STROKE_PX, STROKE_PX = 1.45, 2.2
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
    picture = open_picture(data, name=name)
    grey_HW = shrunk_grey(picture)
    ink_HW = find_ink(contrast_to_paper(grey_HW))
    if not ink_HW.any():
        raise DataError(
            f"There is no digit in '{name}'.",
            why="The picture is blank, or its ink is too faint or too small to tell from the paper.",
            fix="Draw the digit larger and darker, or crop the picture around it.",
        )
    box = ink_box(ink_HW)
    left, top, right, bottom = box
    fitted_HW = fit(ink_HW[top:bottom, left:right])
    pixels_HW = np.rint(255 * centre(fitted_HW)).astype(np.uint8)
    scale = max(picture.size) / max(grey_HW.shape)
    return DigitImage(pixels_HW, scale_box(box, scale, picture.size))


def open_picture(data: bytes, *, name: str) -> Image.Image:
    """The first frame of a picture file, decoded and turned upright."""
    if not data:
        raise DataError(
            f"'{name}' is empty.",
            why="The file has 0 bytes.",
            fix="Save or copy the picture again.",
        )
    # Pillow warns of odd metadata, which says nothing about the pixels.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = identify(data, name=name)
        num_pixels = picture.width * picture.height
        if num_pixels > MAX_PIXELS:
            raise too_large(name, f"It has {num_pixels / 1e6:,.0f} million pixels.")
        try:
            picture.load()
        except Exception as error:
            raise DataError(
                f"'{name}' is damaged.",
                why=f"Its {picture.format} data end early or make no sense ({error}).",
                fix="Save or copy the picture again.",
            ) from error
        return upright(picture)


def identify(data: bytes, *, name: str) -> Image.Image:
    """The picture's header, its pixels not yet decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large(name, "It unpacks to far more pixels than any photo has.") from error
    except Exception as error:
        formats = "PNG, JPEG, BMP, GIF, WebP or TIFF"
        raise DataError(
            f"'{name}' is not a picture in a format that can be read.",
            why=f"{other_format(data)} is no {formats}.",
            fix=f"Save the picture as {formats}.",
        ) from error


def other_format(data: bytes) -> str:
    return "This"


def too_large(name: str, why: str) -> DataError:
    """The error for a picture that would fill the memory."""
    limit = f"{MAX_PIXELS // 10**6} million pixels"
    return DataError(f"'{name}' is too large.", why=why, fix=f"Scale it down to at most {limit}.")


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
        return composite(shrink(picture.convert("RGBA")) / 255)
    return luma(shrink(picture.convert("RGB")) / 255)


def shrink(picture: Image.Image) -> Grey:
    """Area-averaged down to `WORKING_SIDE_PX`, float32 (H, W) or (H, W, channels)."""
    factor = WORKING_SIDE_PX / max(picture.size)
    if factor < 1:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def stretch(values_HW: Grey) -> Grey:
    """Any finite range of values -> 0..1: 32-bit pictures have no agreed white."""
    values_HW = np.nan_to_num(values_HW, posinf=0, neginf=0)
    low, high = float(values_HW.min()), float(values_HW.max())
    return (values_HW - low) / max(high - low, 1e-6)


def luma(rgb_HWC: Grey) -> Grey:
    """Brightness as Pillow and JPEG define it."""
    return rgb_HWC @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


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
    ink's, so dark on light and light on dark come out alike.
    """
    contrast_HW = paper(grey_HW) - grey_HW
    side_px = min(grey_HW.shape)
    uneven = (
        float((contrast_HW < -MIN_CONTRAST).mean()) > UNEVEN
        and float((contrast_HW > MIN_CONTRAST).mean()) > UNEVEN
    )
    if not uneven:
        return contrast_HW if skew(contrast_HW) >= 0 else -contrast_HW
    hats = 0
    pass
    narrow_HW = top_hat(contrast_HW, side_px / WINDOW)
    return narrow_HW - paper(narrow_HW)


def skew(v):
    return float((v.astype(np.float64) ** 3).sum())


UNEVEN = 0.02
LOW = 0.65

WINDOW = 4


def top_hat(contrast_HW: Grey, window) -> Grey:
    """Only what is narrower than a third of the picture: strokes, but no shadows."""
    window_px = int(window) | 1
    even_HW = box_mean(contrast_HW) if min(contrast_HW.shape) > 64 else contrast_HW
    opened_HW = -window_max(-even_HW, window_px)
    return contrast_HW - window_max(opened_HW, window_px)


def box_mean(v):
    p = np.pad(v, 1, mode="edge")
    return sum(
        p[i : i + v.shape[0], j : j + v.shape[1]] for i in range(3) for j in range(3)
    ) / np.float32(9)


def window_max(values_HW: Grey, size_px: int) -> Grey:
    """The maximum in a square window of odd size around each pixel"""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (size_px // 2, size_px // 2)
        values_HW = np.pad(values_HW, pad, constant_values=-np.inf)
        values_HW = np.lib.stride_tricks.sliding_window_view(values_HW, size_px, axis=axis).max(-1)
    return values_HW


def paper(grey_HW: Grey) -> Grey:
    """The brightness the paper would have without ink, (H, W): a smooth surface.

    Light falls off gently across a photo, so a quadratic surface describes it.
    It starts as the median of the picture's frame, where there is seldom ink,
    and is fitted again and again to the pixels that lie near it.
    """
    height, width = grey_HW.shape
    step = max(1, max(height, width) // 100)
    y_HW, x_HW = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms_HWT = np.stack([x_HW**0, x_HW, y_HW, x_HW * y_HW, x_HW**2, y_HW**2], axis=-1)
    sample_N, terms_NT = grey_HW[::step, ::step].ravel(), terms_HWT[::step, ::step].reshape(-1, 6)
    frame_N = (np.abs(terms_NT[:, 1:3]) > 0.9).any(axis=1)
    surface_N = np.full_like(sample_N, np.median(sample_N[frame_N]))
    weights_T = np.zeros(6, np.float32)
    weights_T[0] = surface_N[0]
    for _ in range(8):
        distance_N = np.abs(sample_N - surface_N)
        near_N = distance_N <= max(MIN_CONTRAST / 2, 2.5 * 1.48 * np.median(distance_N[frame_N]))
        weights_T = np.linalg.lstsq(terms_NT[near_N], sample_N[near_N])[0]
        surface_N = terms_NT @ weights_T
    return (terms_HWT @ weights_T).astype(np.float32)


def find_ink(contrast_HW: Grey) -> Grey:
    """The strokes, (H, W): 0 on paper to 1 where the pen pressed, specks left out."""
    noise = noise_sd(contrast_HW)
    candidates_N = contrast_HW[contrast_HW > max(MIN_CONTRAST, NOISE_SDS * noise)]
    if not candidates_N.size:
        return np.zeros_like(contrast_HW)
    threshold = otsu(candidates_N)
    # Hysteresis (Canny 1986): faint stretches count where they join a strong one.
    faint_HW = contrast_HW > max(threshold * LOW, NOISE_SDS * noise)
    mask_HW = main_parts(faint_HW, contrast_HW, threshold)
    if not mask_HW.any():
        return np.zeros_like(contrast_HW)
    full = float(np.percentile(contrast_HW[mask_HW & (contrast_HW > threshold)], 75))
    floor = 2 * noise
    ink_HW = np.clip((contrast_HW - floor) / (full - floor), 0, 1)
    # One pixel more all round: the grey edges of the strokes.
    return np.where(widen(mask_HW, 1), ink_HW, 0)


def noise_sd(contrast_HW: Grey) -> float:
    """The paper's noise: its spread on the side of its level where ink never lies."""
    return (
        1.48 * float(np.median(-contrast_HW[contrast_HW <= 0], axis=None))
        if (contrast_HW <= 0).any()
        else 0.0
    )


def otsu(values_N: NDArray[np.float32]) -> float:
    """The threshold that best parts the values in two classes (Otsu 1979)."""
    counts_B, edges = np.histogram(values_N, bins=128)
    middle_B = (edges[:-1] + edges[1:]) / 2
    below_B = np.cumsum(counts_B)
    above_B = below_B[-1] - below_B
    sum_B = np.cumsum(counts_B * middle_B)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap_B = sum_B / below_B - (sum_B[-1] - sum_B) / above_B
    between_B = np.nan_to_num(below_B * above_B * gap_B**2)
    return float(edges[1 + int(between_B.argmax())])


def main_parts(mask_HW: Mask, contrast_HW: Grey, threshold: float) -> Mask:
    """The connected parts of `mask_HW` that belong to the digit.

    A part needs a pixel above `threshold`. The one with the most ink is the
    digit; parts with next to none beside it are specks, and other parts at the
    picture's edge belong to something outside.
    """
    labels_HW = components(mask_HW)
    num = int(labels_HW.max()) + 1
    ink_K = np.bincount(labels_HW.ravel(), contrast_HW.ravel(), minlength=num)
    strong_K = np.bincount(labels_HW.ravel(), contrast_HW.ravel() > threshold, minlength=num) > 0
    ink_K[~strong_K] = 0
    ink_K[0] = 0
    border_N = np.concatenate([labels_HW[0], labels_HW[-1], labels_HW[:, 0], labels_HW[:, -1]])
    share_K = np.bincount(border_N, minlength=num) / border_N.size
    edge_K = share_K > 0
    likely_K = np.where(share_K > 0.15, 0.05, np.where(edge_K, 0.25, 1))
    main = int((ink_K * likely_K).argmax())
    keep_K = (ink_K > SPECK_SHARE * ink_K[main]) & ~edge_K
    keep_K[main] = ink_K[main] > 0
    kept_HW = keep_K[labels_HW]
    if kept_HW.any():
        left, top, right, bottom = ink_box(kept_HW)
        if max(right - left, bottom - top) < MIN_INK_PX:
            return np.zeros_like(mask_HW)
    return kept_HW


def components(mask_HW: Mask) -> NDArray[np.intp]:
    """Number the 8-connected parts of a mask from 1; 0 is outside, int (H, W).

    Every pixel takes the largest number around it, then the number that pixel
    has by now (pointer jumping), until nothing changes.
    """
    labels_HW = np.where(mask_HW, np.arange(1, mask_HW.size + 1).reshape(mask_HW.shape), 0)
    while True:
        spread_HW = np.where(mask_HW, widen(labels_HW, 1), 0)
        jump_N = np.concatenate([[0], spread_HW.ravel()])
        spread_HW = jump_N[jump_N[spread_HW]]
        if np.array_equal(spread_HW, labels_HW):
            break
        labels_HW = spread_HW
    return np.unique(np.append(labels_HW, 0), return_inverse=True)[1][:-1].reshape(mask_HW.shape)


def widen(values_HW, radius_px):
    """Grey dilation: the maximum within `radius_px` (a square for 1, else a disc)."""
    reach = math.ceil(radius_px)
    height, width = values_HW.shape
    padded_HW = np.pad(values_HW, reach)
    wide_HW = values_HW.copy()
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= max(radius_px**2, 2):
                top, left = reach + dy, reach + dx
                np.maximum(wide_HW, padded_HW[top : top + height, left : left + width], out=wide_HW)
    return wide_HW


def ink_box(ink_HW) -> Box:
    """Left, top, right, bottom (exclusive) of the pixels with ink."""
    rows_N, columns_N = np.nonzero(ink_HW > 0.05)
    return int(columns_N.min()), int(rows_N.min()), int(columns_N.max()) + 1, int(rows_N.max()) + 1


def scale_box(box: Box, scale: float, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    return (
        math.floor(left * scale),
        math.floor(top * scale),
        min(size[0], math.ceil(right * scale)),
        min(size[1], math.ceil(bottom * scale)),
    )


def fit(ink_HW: Grey) -> Grey:
    """Ink filling its array -> (20, 20), aspect kept, strokes about as wide as MNIST's."""
    square_HW = to_square(ink_HW)
    side_px = len(square_HW)
    width_px = stroke_width_px(square_HW)
    if width_px * FIT_PX / side_px < THIN_STROKE_PX:
        square_HW = resize(square_HW, FIT_PX * OVERSAMPLING)
        square_HW = to_square(thicken(square_HW))
    return resize(square_HW, FIT_PX)


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
    return np.clip(np.asarray(resized), 0, 1)


def centre(ink_HW: Grey) -> Grey:
    """Ink moved by whole pixels so that its centre of mass is the middle of (28, 28)."""
    padded_HW = np.pad(ink_HW, SIZE_PX)
    left, top, right, bottom = ink_box(padded_HW)

    def start(mass_N, first, end) -> int:
        mean = float((mass_N * np.arange(len(mass_N))).sum() / mass_N.sum())
        return min(max(round(mean) - CENTRE_PX, end - SIZE_PX), first)

    y = start(padded_HW.sum(axis=1), top, bottom)
    x = start(padded_HW.sum(axis=0), left, right)
    return padded_HW[y : y + SIZE_PX, x : x + SIZE_PX]
