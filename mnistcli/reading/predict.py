"""Candidates and networks -> which candidates are digits, which digits, and what to doubt.

Shapes: N images, M networks, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from mnistcli.data.arrays import GrayImage
from mnistcli.data.mnist_format import stroke_width_px
from mnistcli.errors import count_noun
from mnistcli.evaluation.inference import predict_logits
from mnistcli.models.ink_finder import InkFinder
from mnistcli.reading.batch import PictureResult
from mnistcli.reading.digit import DigitImage, LeftOut
from mnistcli.reading.lattice import Span, TextLine
from mnistcli.reading.picture_ink import find_picture_ink
from mnistcli.reading.pipeline import NOTHING, Segmentation, segment_ink
from mnistcli.runs.checkpoint import BUNDLED, LoadedModel, load_checkpoint
from mnistcli.runs.finder_file import load_finder

# If the two most probable classes are closer than this, the prediction is in doubt.
DOUBTFUL_MARGIN = 0.7
# So is a candidate that is a digit with a lower probability.
DOUBTFUL_DIGIT = 0.5
# So is a 1 between two digits, where a slash may be, with one below this.
DOUBTFUL_SLASH = 0.75
# The probability that small ink in a line of digits is no digit, before the network has seen it.
SMALL_PRIOR = 0.25
# A mark is at least this share of the digit's height away from it. The pieces of a cut digit touch:
# at 0, one reading in eight would be doubted because of them.
MARK_GAP = 0.05
# A mark is a dash if its width is at least this many times its height, and if its middle is at
# these heights of the digit (0 the top, 1 the bottom): halfway up, where a minus is.
DASH_ASPECT, DASH_HEIGHTS = 2.0, (0.25, 0.75)
# A mark is a dot if its middle is at least at this height of the digit.
DOT_HEIGHT = 0.75
# Ink lower than this share of the line is small.
SMALL_HEIGHT = 0.35
# A digit lower than this share of the line is the less probable the lower it is, by this factor
# times the square of the height's logarithm: a normal distribution with an SD of a quarter. On 268
# labeled pictures any factor from 2 to 32 does the same, and without it two more are misread.
LOW_HEIGHT, LOWNESS_COST = 0.5, 8.0
# 99.9 % of MNIST's training digits have a mean ink (0..1) and a stroke width
# (`stroke_width_px`) within these bounds.
USUAL_INK, USUAL_STROKE_PX = (0.033, 0.305), (1.26, 5.36)
# The logit of "no digit" for networks that were not trained to tell.
UNTRAINED_NO_DIGIT = 4.0


@dataclass(frozen=True)
class Prediction:
    """A digit: each class's probability (0..1, sum 1), and that it is a digit at all.

    `is_between` says whether other digits of its line are on both sides. `by_network` has each
    network's probabilities, in the order of the classes; their mean is `probabilities`.
    """

    probabilities: dict[str, float]
    digit: DigitImage
    line: int
    digit_probability: float
    is_between: bool = False
    by_network: Sequence[Sequence[float]] = ()

    def __repr__(self) -> str:
        """The class, its probability, its place and the doubt, if any."""
        doubt = f", {self.doubt}" if self.doubt else ""
        return f"<Prediction {self.label}, {self.probability:.2%}, at {self.digit.box}{doubt}>"

    def top(self, num: int) -> list[tuple[str, float]]:
        """The `num` most probable classes with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:num]

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.label]

    @cached_property
    def doubt(self) -> str | None:
        """Why the prediction may be wrong; None if there is no reason to doubt it."""
        (first, most), (second, next_most) = self.top(2)
        if most - next_most < DOUBTFUL_MARGIN:
            return f"unsure: it may be {first} or {second}"
        if self.digit_probability < DOUBTFUL_DIGIT:
            return "unsure: it may be no digit, several, or a part of one"
        if first == "1" and self.is_between and self.digit_probability < DOUBTFUL_SLASH:
            return "unsure: it may be a slash"
        ink_HW = self.digit.ink()
        if not USUAL_INK[0] <= float(ink_HW.mean()) <= USUAL_INK[1]:
            return "unlike MNIST: hardly any ink, or hardly any paper"
        if not USUAL_STROKE_PX[0] <= stroke_width_px(ink_HW) <= USUAL_STROKE_PX[1]:
            return "unlike MNIST: its strokes are too thin or too thick"
        return None


@dataclass(frozen=True)
class Reading:
    """What is read in a picture, in the reading order, what is not, and the ink of both.

    `ink_HW` is float32, 0 none to 1 full ink, rotated so that lines of writing are level.
    """

    predictions: list[Prediction]
    left_out: list[LeftOut]
    ink_HW: GrayImage

    @property
    def text(self) -> str:
        """The digits; a space between lines of writing."""
        lines: dict[int, str] = {}
        for prediction in self.predictions:
            lines[prediction.line] = lines.get(prediction.line, "") + prediction.label
        return " ".join(lines.values())

    @property
    def doubts(self) -> list[str]:
        """Why the reading may be wrong; empty if there is no reason to doubt it."""
        doubts = [prediction.doubt for prediction in self.predictions if prediction.doubt]
        if self.left_out:
            doubts.append(f"left out: {count_noun(len(self.left_out), 'part')} of the ink")
        return doubts


@dataclass(frozen=True)
class Networks:
    """The networks that read pictures: `reader` decides what is a digit, `models` which one."""

    reader: LoadedModel
    models: Sequence[LoadedModel]

    @cached_property
    def finder(self) -> InkFinder:
        """The bundled network that finds ink, loaded for the first picture that is no thumbnail."""
        return load_finder()


def load_networks(models: Sequence[LoadedModel] = ()) -> Networks:
    """The bundled networks; with `models`, these tell which digit it is.

    The first of them that was trained to tell what is no digit, or whose classes are not the
    digits, replaces the bundled reader.

    Raises:
        DataError: a file of the package is damaged.
    """
    reader = load_checkpoint(BUNDLED["reader"])
    for model in models:
        if model.card.settings.composed or model.card.classes != reader.card.classes:
            reader = model
            break
    return Networks(reader, models or [reader, load_checkpoint(BUNDLED["cnn-small"])])


def read_pictures(
    pictures: Sequence[PictureResult], networks: Networks, *, single: bool
) -> list[Reading]:
    """What is read in pictures, nothing in those with an error; on the CPU.

    Raises:
        DataError: the package's file of the finder is damaged.
    """
    return read_segmentations(
        [_segmentation(picture, networks, single=single) for picture in pictures],
        networks.reader,
        networks.models,
    )


def _segmentation(picture: PictureResult, networks: Networks, *, single: bool) -> Segmentation:
    if picture.error:
        return NOTHING
    if picture.segmentation:
        return picture.segmentation
    ink_HW = find_picture_ink(networks.finder, picture.gray())
    return segment_ink(ink_HW, picture.size, single=single)


def read_segmentations(
    segmentations: Sequence[Segmentation], reader: LoadedModel, models: Sequence[LoadedModel]
) -> list[Reading]:
    """Read pictures, on the CPU.

    `reader` decides which candidates are digits; the probabilities of their classes are the
    mean over `models`.
    """
    images = [
        image
        for segmentation in segmentations
        for line in segmentation.lines
        for image in line.candidates.values()
    ]
    if not images:
        return [Reading([], found.left_out, found.ink_HW) for found in segmentations]
    pixels_NHW = torch.from_numpy(np.stack([image.pixels_HW for image in images]))
    reader_logits_NK = _logits(reader, pixels_NHW)
    logits_MNK = [
        reader_logits_NK if model is reader else _logits(model, pixels_NHW) for model in models
    ]
    probabilities_NMK = torch.stack(logits_MNK, dim=1).softmax(dim=2)
    probabilities_NK = probabilities_NMK.mean(dim=1)
    scores_NK = _log_probabilities(reader, reader_logits_NK, probabilities_NK)
    scores = dict(zip(images, scores_NK, strict=True))
    numbers = {image: number for number, image in enumerate(images)}

    def prediction(digit: DigitImage, line: int, *, is_between: bool) -> Prediction:
        number = numbers[digit]
        return Prediction(
            dict(zip(models[0].card.classes, probabilities_NK[number].tolist(), strict=True)),
            digit,
            line,
            float(1 - np.exp(scores[digit][-1])),
            is_between,
            probabilities_NMK[number].tolist(),
        )

    readings = []
    for found in segmentations:
        choice = _choose(found, scores)
        lines = [line for _, line in choice.digits]
        predictions = [
            prediction(digit, line, is_between=lines[max(0, n - 1) : n + 2] == 3 * [line])
            for n, (digit, line) in enumerate(choice.digits)
        ]
        readings.append(Reading(predictions, choice.left_out, found.ink_HW))
    return readings


# The logarithms of each class's probability and, last, of "no digit", (K + 1,).
Scores = dict[DigitImage, NDArray[np.float32]]


@dataclass(frozen=True)
class _Choice:
    """The digits of a picture with their lines, and what is left out."""

    digits: list[tuple[DigitImage, int]]
    left_out: list[LeftOut]


def _choose(segmentation: Segmentation, scores: Scores) -> _Choice:
    digits, left_out = [], list(segmentation.left_out)
    for number, line in enumerate(segmentation.lines):
        chosen: list[tuple[Span, bool]] = []
        for span, is_digit in best_path(line, scores, segmentation.no_digit_prior):
            chosen += _without_marks(line, span, scores) if is_digit else [(span, False)]
        for span, is_digit in chosen:
            image = line.candidates[span]
            if is_digit:
                digits.append((image, number))
            else:
                is_mark = line.heights[span] < SMALL_HEIGHT
                reason = "a mark, smaller than the digits" if is_mark else "no digit"
                left_out.append(LeftOut(image, reason))
    return _Choice(digits, left_out)


def _without_marks(line: TextLine, span: Span, scores: Scores) -> list[tuple[Span, bool]]:
    """A digit, apart from a mark before or after it if it is the same digit without the mark.

    A minus or a point close to a digit makes it no less probable, but should be told.
    """
    first, end = span
    for mark, rest in (((first, first + 1), (first + 1, end)), ((end - 1, end), (first, end - 1))):
        if rest[0] < rest[1] and rest in line.candidates and _is_mark(line, mark, rest):
            with_mark, without = (scores[line.candidates[each]] for each in (span, rest))
            if with_mark[:-1].argmax() == without[:-1].argmax():
                both = [(mark, False), *_without_marks(line, rest, scores)]
                return both if mark[0] == first else both[1:] + both[:1]
    return [(span, True)]


def _is_mark(line: TextLine, mark: Span, digit: Span) -> bool:
    """Whether a fragment is low and beside the rest of a digit: a dash, or a dot at its foot."""
    if line.heights[mark] >= SMALL_HEIGHT:
        return False
    left, top, right, bottom = line.candidates[mark].box
    digit_left, digit_top, digit_right, digit_bottom = line.candidates[digit].box
    height = digit_bottom - digit_top
    is_beside = max(digit_left - right, left - digit_right) >= MARK_GAP * height
    middle = ((top + bottom) / 2 - digit_top) / height
    highest, lowest = DASH_HEIGHTS
    is_dash = right - left >= DASH_ASPECT * (bottom - top) and highest <= middle <= lowest
    is_dot = right - left <= SMALL_HEIGHT * height and middle >= DOT_HEIGHT
    return is_beside and (is_dash or is_dot)


def best_path(line: TextLine, scores: Scores, no_digit_prior: float) -> list[tuple[Span, bool]]:
    """The most probable division of a line into digits and ink that is left out, from the left.

    Each span of fragments with whether it is a digit (dynamic programming over the lattice).
    """
    best: list[tuple[float, Span | None, bool]] = [(0.0, None, False)]
    for end in range(1, line.num_fragments + 1):
        ways = [
            (best[first][0] + score, span, is_digit)
            for first in range(end)
            if (span := (first, end)) in line.candidates
            for score, is_digit in _span_scores(
                line, span, scores[line.candidates[span]], no_digit_prior
            )
        ]
        best.append(max(ways, key=lambda way: way[0]))
    path = []
    end = line.num_fragments
    while end:
        _, last, is_digit = best[end]
        assert last is not None
        path.append((last, is_digit))
        end = last[0]
    return path[::-1]


def _span_scores(
    line: TextLine,
    span: Span,
    log_probabilities_K: NDArray[np.float32],
    no_digit_prior: float,
) -> list[tuple[float, bool]]:
    """The log-probability of a span as a digit and, if it is one fragment, as left out."""
    height = line.heights[span]
    as_digit = float(log_probabilities_K[:-1].max())
    if height < LOW_HEIGHT:
        as_digit -= LOWNESS_COST * math.log(LOW_HEIGHT / height) ** 2
    ways = [(as_digit, True)]
    if span[1] == span[0] + 1:
        if height < SMALL_HEIGHT:
            ways.append((math.log(SMALL_PRIOR), False))
        elif no_digit_prior:
            ways.append((math.log(no_digit_prior) + float(log_probabilities_K[-1]), False))
    return ways


def _logits(model: LoadedModel, pixels_NHW: torch.Tensor) -> torch.Tensor:
    """A network's logits for uint8 images (N, 28, 28), (N, K)."""
    return predict_logits(model.network, pixels_NHW, model.normalization)


def _log_probabilities(
    reader: LoadedModel, logits_NK: torch.Tensor, probabilities_NK: torch.Tensor
) -> NDArray[np.float32]:
    """The logarithms of the classes' probabilities and of "no digit", (N, K + 1).

    The reader's logits say whether ink is a digit, and `probabilities_NK` which.
    """
    no_digit = 0.0 if reader.card.settings.composed else UNTRAINED_NO_DIGIT
    log_odds_N1 = logits_NK.logsumexp(dim=1, keepdim=True) - no_digit
    classes_NK = logsigmoid(log_odds_N1) + probabilities_NK.log()
    return torch.cat([classes_NK, logsigmoid(-log_odds_N1)], dim=1).numpy()
