"""The paper of a picture: how bright it is under the ink, and what on it is no ink.

Shapes: H rows, W columns. `grey` and `paper` are 0 black to 1 white, `contrast` is
positive where the picture differs from its paper as ink does; all float32.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.reading.decode import GrayImage, border_pixels

Mask = NDArray[np.bool_]

# Differences below 4 % of the way from black to white are JPEG and sensor noise.
MIN_CONTRAST = 0.04
# A frame whose pixels differ less has been drawn, not photographed.
FLAT_RANGE = 1.5 / 255
# With so much of the frame off the paper's level, the level may as well be the ink's.
MIXED_SHARE = 0.4
# The corners of a picture are paper: ink there is this much less than a mistaken polarity's.
CORNER_CONTRAST = 0.1
# Paper is never darker than this; without a bound its noise would be blown up.
DARKEST_PAPER = 0.2
# Paper, with Gaussian noise, stays within this many SDs of its level.
NOISE_SDS = 4.0
# The median distance from the level, times this, is the SD of Gaussian noise.
MAD_TO_SD = 1.48
# A border is at most this share of the picture wide, and differs by this much from the paper.
BORDER_SHARE, BORDER_CONTRAST = 0.125, 0.1
# A line of the paper runs through this share of the picture, and over all other ink by so much
# at both ends: no stroke of a digit does. It is at most so thick.
LINE_SHARE, LINE_OVERHANG, LINE_THICKNESS = 0.8, 0.04, 0.03
# Ink this much darker than a line is no part of it.
DARKER_THAN_LINE = 1.3
# A sheet of paper on a table has at least this share of the picture, and of its own box.
SHEET_SHARE, SHEET_FILL = 0.1, 0.8
# In smaller pictures a line, a shadow or a sheet could not be told from a stroke.
SMALLEST_PAGE_PX = 64
# What is darker than its surroundings over this share of the picture is shadow, not stroke.
SHADOW_SHARE = 0.25


def remove_border(gray_HW: GrayImage) -> GrayImage:
    """The picture with a drawn border of one level all around painted as the paper inside it."""
    edge_N = border_pixels(gray_HW, 0)
    level = edge_N[0]
    if float(np.ptp(edge_N)) > FLAT_RANGE:
        return gray_HW
    for width in range(1, 1 + int(BORDER_SHARE * min(gray_HW.shape))):
        ring_N = border_pixels(gray_HW, width)
        # The mean, which is quick, rules out most rings; ink that touches one shifts it too.
        if abs(float(ring_N.mean()) - level) < BORDER_CONTRAST / 2:
            continue
        next_level = quantile(ring_N, 0.5)
        if abs(next_level - level) > BORDER_CONTRAST:
            inside_HW = gray_HW[width:-width, width:-width]
            # Else it is the margin of the paper that ends here, at a line.
            if abs(next_level - quantile(inside_HW, 0.5)) < BORDER_CONTRAST:
                return np.pad(inside_HW, width, constant_values=next_level)
            break
    return gray_HW


def estimate_background(gray_HW: GrayImage) -> GrayImage:
    """The brightness the paper would have without ink, (H, W).

    Drawings have one level. On photos the light falls off gently, which a
    quadratic surface describes, unless the picture's frame says otherwise: a
    shadow with an edge, a table beside the sheet, ink all around.
    """
    step_y, step_x = (max(1, side_px // 64) for side_px in gray_HW.shape)
    sample_HW = gray_HW[::step_y, ::step_x]
    terms_TN = quadratic_terms(*gray_HW.shape, step_y, step_x).reshape(6, -1)
    frame_N = np.abs(terms_TN[1:3]).max(axis=0) > 0.9
    frame_gray_N = sample_HW.ravel()[frame_N]
    near = MIN_CONTRAST + NOISE_SDS * pixel_noise(gray_HW)
    level = quantile(frame_gray_N, 0.5)
    distance_N = np.abs(frame_gray_N - level)
    if quantile(distance_N, 0.5) < FLAT_RANGE and np.mean(distance_N > near) < MIXED_SHARE:
        return np.full_like(gray_HW, level)
    weights_T = fit_surface(terms_TN, sample_HW.ravel(), frame_N)
    distance_N = np.abs(frame_gray_N - weights_T @ terms_TN[:, frame_N])
    if quantile(distance_N, 0.9) > near:
        return background_around_strokes(gray_HW, near)
    return np.tensordot(weights_T, quadratic_terms(*gray_HW.shape), axes=1)


# The sampled and the full ones of the last picture's size.
@lru_cache(maxsize=2)
def quadratic_terms(height: int, width: int, step_y: int = 1, step_x: int = 1) -> GrayImage:
    """1, x, y, xy, x², y² at every pixel, (6, H, W), with x and y from -1 to 1.

    With steps, at every `step_y`th row and every `step_x`th column of it only.
    """
    y_HW, x_HW = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32)[::step_y],
        np.linspace(-1, 1, width, dtype=np.float32)[::step_x],
        indexing="ij",
    )
    return np.stack([np.ones_like(x_HW), x_HW, y_HW, x_HW * y_HW, x_HW**2, y_HW**2])


def fit_surface(terms_TN: GrayImage, gray_N: GrayImage, frame_N: Mask) -> GrayImage:
    """The weights (T,) of the terms in the paper's brightness.

    The surface starts as the median of the picture's frame, where there is seldom
    ink, and is fitted again and again to the pixels that lie near it.
    """
    paper_N = np.full_like(gray_N, quantile(gray_N[frame_N], 0.5))
    weights_T = np.zeros(len(terms_TN), dtype=np.float32)
    for _ in range(8):
        distance_N = np.abs(gray_N - paper_N)
        spread = MAD_TO_SD * quantile(distance_N[frame_N], 0.5)
        near_N = distance_N <= max(MIN_CONTRAST / 2, 2.5 * spread)
        weights_T = np.linalg.lstsq(terms_TN[:, near_N].T, gray_N[near_N])[0]
        paper_N = weights_T @ terms_TN
    return weights_T


def quantile(values: GrayImage, share: float) -> float:
    """The value that is above this share of `values`, at least one; numpy's is much slower."""
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank, axis=None)[rank])


def pixel_noise(gray_HW: GrayImage) -> float:
    """The SD of the noise from pixel to pixel, whatever the light does on a larger scale."""
    some_rows_HW = gray_HW[:: max(1, len(gray_HW) // 64)]
    steps_N = np.abs(np.diff(some_rows_HW, axis=1)).ravel()
    return MAD_TO_SD * quantile(steps_N, 0.5) / math.sqrt(2) if steps_N.size else 0.0


def background_around_strokes(gray_HW: GrayImage, near: float) -> GrayImage:
    """The brightness around the strokes, (H, W), whatever the picture's frame shows.

    Strokes are dark, unless dark ones would fill most of the picture's corners
    much more than light ones would: a light digit cut out tightly. A table's edge
    darkens two corners.
    """
    below_HW, above_HW = fill_strokes(gray_HW, near), 1 - fill_strokes(1 - gray_HW, near)
    excess_HW = (below_HW - gray_HW) - (gray_HW - above_HW)
    reach = max(1, min(gray_HW.shape) // 10)
    ends = (slice(reach), slice(-reach, None))
    corners = sorted(
        float(excess_HW[rows, columns].mean()) for rows, columns in itertools.product(ends, ends)
    )
    return above_HW if corners[1] > CORNER_CONTRAST else below_HW


def fill_strokes(gray_HW: GrayImage, near: float) -> GrayImage:
    """The picture with its dark strokes filled, (H, W), but not its shadows.

    A closing (the least of the greatest values nearby: Serra 1982) fills what is
    dark and narrow. Noise lifts it, so the picture is smoothed first, and the
    closing lowered by as much as it usually lies above what is `near` it. A small
    picture's strokes are no narrower than its shadows: all of it is filled.
    """
    if max(gray_HW.shape) < SMALLEST_PAGE_PX:
        return np.full_like(gray_HW, gray_HW.max())
    window_px = max(3, round(SHADOW_SHARE * max(gray_HW.shape)))
    smooth_HW = ndimage.gaussian_filter(gray_HW, max(gray_HW.shape) / 400)
    closed_HW = ndimage.grey_closing(smooth_HW, size=(window_px, window_px))
    lifted_N = (closed_HW - gray_HW)[closed_HW - gray_HW < near]
    return np.asarray(closed_HW - quantile(lifted_N, 0.5) if lifted_N.size else closed_HW)


def contrast_from_background(background_HW: GrayImage, gray_HW: GrayImage) -> GrayImage:
    """How far each pixel differs from the paper, (H, W); positive where ink does.

    The side of the paper's level on which the strong differences lie is the
    ink's. Dark ink swallows a share of the light that falls on the paper, so its
    contrast is that share: as high in the dim corner of a photo as in the bright.
    """
    contrast_HW = background_HW - gray_HW
    skew = float((contrast_HW * contrast_HW * contrast_HW).sum(dtype=np.float64))
    if skew < 0:
        return -contrast_HW
    return np.asarray(contrast_HW / np.maximum(background_HW, np.float32(DARKEST_PAPER)))


def find_sheet(contrast_HW: GrayImage) -> Mask | None:
    """The inside of a sheet of paper that lies on a table, (H, W); None where none is seen.

    It differs from the table as ink does from paper, but is one large part that
    fills its box, and is written on. Thick digits fill theirs too.
    """
    if max(contrast_HW.shape) < SMALLEST_PAGE_PX:
        return None
    strong_HW = contrast_HW > quantile(contrast_HW[::4, ::4], 0.99) / 2
    if strong_HW.mean() < SHEET_SHARE:
        return None
    labels_HW, _ = ndimage.label(strong_HW)
    largest = 1 + int(np.bincount(labels_HW.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(labels_HW)[largest - 1]
    inside_HW = ndimage.binary_fill_holes(labels_HW[rows, columns] == largest)
    if inside_HW.sum() < SHEET_SHARE * contrast_HW.size or inside_HW.mean() < SHEET_FILL:
        return None
    sheet_HW = np.zeros(contrast_HW.shape, dtype=bool)
    sheet_HW[rows, columns] = inside_HW
    inner_HW = ndimage.binary_erosion(sheet_HW, iterations=2 + max(sheet_HW.shape) // 100)
    return inner_HW if inner_HW.any() and _is_written_on(inner_HW, contrast_HW) else None


def _is_written_on(inner_HW: Mask, contrast_HW: GrayImage) -> bool:
    """Whether what stands out inside is writing: clear of the edge, in strokes that leave paper.

    Inside a thick digit it is the blurred edge, which is all around, or the
    hole, which is as wide as the stroke.
    """
    offset_HW = np.abs(contrast_HW - quantile(contrast_HW[inner_HW], 0.5))
    ink_HW = inner_HW & (offset_HW > quantile(offset_HW[inner_HW], 0.995) / 2)
    if (ink_HW & ~ndimage.binary_erosion(inner_HW)).any():
        return False
    stroke_px, paper_px = (
        ndimage.distance_transform_edt(each_HW).max() for each_HW in (ink_HW, inner_HW & ~ink_HW)
    )
    return bool(2 * stroke_px < paper_px)


def remove_surroundings(gray_HW: GrayImage, sheet_HW: Mask) -> GrayImage:
    """The picture with all beside the sheet as bright as the sheet."""
    return np.where(sheet_HW, gray_HW, np.float32(quantile(gray_HW[sheet_HW], 0.5)))


def remove_lines(contrast_HW: GrayImage, visible: float) -> GrayImage:
    """The contrast without ruled, squared or framing lines, except where strokes cross them.

    Lines are straight, level or upright, thin, and run on beyond all other ink.
    """
    if max(contrast_HW.shape) < SMALLEST_PAGE_PX:
        return contrast_HW
    mask_HW = contrast_HW > visible
    rows_H, columns_W = find_line_rows(mask_HW), find_line_rows(mask_HW.T)
    if not rows_H.any() and not columns_W.any():
        return contrast_HW
    rest_HW = mask_HW & ~(with_edges(rows_H)[:, None] | with_edges(columns_W)[None, :])
    bare_HW = erase_rows(contrast_HW, rows_H, mask_HW, rest_HW)
    return erase_rows(bare_HW.T, columns_W, mask_HW.T, rest_HW.T).T


def find_line_rows(mask_HW: Mask) -> Mask:
    """The rows that are ink for `LINE_SHARE` of their length, (H,), in bundles that are thin."""
    labels_H, _ = ndimage.label(mask_HW.mean(axis=1) >= LINE_SHARE)
    thickness_K = np.bincount(labels_H)
    thickness_K[0] = 0
    thin_K = (thickness_K > 0) & (thickness_K <= max(2, LINE_THICKNESS * max(mask_HW.shape)))
    return np.asarray(thin_K[labels_H])


def with_edges(lines_N: Mask) -> Mask:
    """The lines with their grey edges."""
    return np.asarray(ndimage.binary_dilation(lines_N, iterations=2))


def erase_rows(contrast_HW: GrayImage, rows_H: Mask, mask_HW: Mask, rest_HW: Mask) -> GrayImage:
    """The contrast without these rows, if they run on beyond the rest of the ink at both ends.

    Where there is other ink above and below, or much darker ink than the line's, a
    stroke crosses the line, and stays.
    """
    line, rest = (np.flatnonzero(each_HW.any(axis=0)) for each_HW in (mask_HW[rows_H], rest_HW))
    overhang = LINE_OVERHANG * mask_HW.shape[1]
    if not line.size or not rest.size or min(rest[0] - line[0], line[-1] - rest[-1]) < overhang:
        return contrast_HW
    reach = 5 + int(np.bincount(ndimage.label(rows_H)[0])[1:].max())
    padded_HW = np.pad(rest_HW, ((reach, reach), (0, 0)))
    crossed_HW = ndimage.binary_closing(padded_HW, np.ones((reach, 1)))[reach:-reach]
    darker_HW = contrast_HW > DARKER_THAN_LINE * quantile(contrast_HW[rows_H][mask_HW[rows_H]], 0.5)
    gone_HW = with_edges(rows_H)[:, None] & ~(crossed_HW | darker_HW)
    return np.where(gone_HW, np.minimum(contrast_HW, 0), contrast_HW)
