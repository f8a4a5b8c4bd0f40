"""The pixels because of which images were misclassified.

Shapes: N images, H rows, W columns, C = 3 colors.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistcli.data.examples import Examples
from mnistcli.evaluation.attribution import integrated_gradients
from mnistcli.evaluation.scores import Score
from mnistcli.plots.headings import empty_figure, score_heading
from mnistcli.plots.image_grids import image_grid
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.mistakes import describe_selection, note_probabilities
from mnistcli.plots.style import BLUE, STYLE, VERMILLION
from mnistcli.runs.checkpoint import LoadedModel

# How dark the ink is below the colors: light enough for both.
_INK_DARKNESS = 0.25


def draw_saliency(inputs: PlotInputs) -> Figure:
    """The saliency of the named run's mistakes."""
    score, model = inputs.find_score(), inputs.load_network()
    return saliency(model, score, inputs.load_scored_images(model, score))


@mpl.rc_context(STYLE)
def saliency(model: LoadedModel, score: Score, examples: Examples, *, num: int = 25) -> Figure:
    """The `num` most confident mistakes, colored by integrated gradients.

    Orange pixels speak for the predicted class, blue ones for the true class; the strongest pixel
    of an image has the full color (see `integrated_gradients`, which has the source). Captions and
    notes are those of `mistakes`.

    Args:
        model: the network that was evaluated.
        score: its score.
        examples: all that were evaluated, on the CPU.
        num: how many to show at most.
    """
    shown, title = score.mistakes[:num], score_heading(score)
    if not shown:
        return empty_figure(title, "No mistakes.")
    classes = [each.name for each in score.classes]
    images_NHW = examples.images_NHW[[mistake.index for mistake in shown]]
    attributions_NHW = integrated_gradients(
        model,
        images_NHW,
        [mistake.predicted for mistake in shown],
        [mistake.label for mistake in shown],
    )
    return image_grid(
        _color_votes(images_NHW.numpy(), attributions_NHW),
        [f"{classes[mistake.label]} → {classes[mistake.predicted]}" for mistake in shown],
        heading=f"{title}\n{describe_selection(score, len(shown))}: true → predicted\n"
        "Orange speaks for the prediction, blue for the true class\n"
        "Integrated gradients (Sundararajan et al. 2017)",
        max_columns=6,
        notes=[note_probabilities(mistake, classes) for mistake in shown],
    )


def _color_votes(
    images_NHW: NDArray[np.uint8], attributions_NHW: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Colors (N, H, W, C) in 0..1: pale ink, and over it each pixel's vote."""
    limits_N = np.maximum(np.abs(attributions_NHW).max(axis=(1, 2)), 1e-12)
    votes_NHW1 = (attributions_NHW / limits_N[:, None, None])[..., None]
    ink_NHWC = np.repeat(1 - _INK_DARKNESS * (images_NHW[..., None] / 255), 3, axis=3)
    colors_NHWC = np.where(votes_NHW1 > 0, to_rgb(VERMILLION), to_rgb(BLUE))
    strength_NHW1 = np.abs(votes_NHW1)
    mixed: NDArray[np.float64] = (1 - strength_NHW1) * ink_NHWC + strength_NHW1 * colors_NHWC
    return mixed
