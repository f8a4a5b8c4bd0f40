"""Misclassified images with the probabilities that the network gave."""

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistcli.data.examples import Examples
from mnistcli.evaluation.eval_data import load_eval_split
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.plots.headings import empty_figure, score_heading
from mnistcli.plots.image_grids import image_grid
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import STYLE


def draw_mistakes(inputs: PlotInputs) -> Figure:
    """The mistakes of the named run."""
    score = inputs.find_score()
    examples = load_eval_split(
        inputs.load_network(),
        dataset=score.dataset,
        split=score.split,
        data_dir=inputs.resolved_data_dir(),
    )
    return mistakes(score, examples)


@mpl.rc_context(STYLE)
def mistakes(score: Score, examples: Examples, *, num: int = 25) -> Figure:
    """The `num` most confident mistakes.

    Above each image is "true → predicted", below it the probabilities of the predicted and of
    the true class.

    Args:
        score: of any checkpoint.
        examples: all that were evaluated, on the CPU.
        num: how many to show at most.
    """
    shown, title = score.mistakes[:num], score_heading(score)
    if not shown:
        message = f"None of {score.num_errors:,} mistakes is shown."
        return empty_figure(title, message if score.num_errors else "No mistakes.")
    classes = [each.name for each in score.classes]
    superlative = "The most" if len(shown) == 1 else f"The {len(shown)} most"
    which = f"{superlative} confident of {score.num_errors:,} mistakes"
    if len(shown) == score.num_errors:
        which = "All mistakes"
    return image_grid(
        examples.images_NHW.numpy()[[mistake.index for mistake in shown]],
        [f"{classes[mistake.label]} → {classes[mistake.predicted]}" for mistake in shown],
        heading=f"{title}\n{which}: true → predicted",
        max_columns=6,
        notes=[_probabilities(mistake, classes) for mistake in shown],
    )


def _probabilities(mistake: Mistake, classes: list[str]) -> list[str]:
    return [
        f"{classes[mistake.predicted]}  {_format_probability(mistake.probability)}",
        f"{classes[mistake.label]}  {_format_probability(mistake.label_probability)}",
    ]


def _format_probability(probability: float) -> str:
    """In percent, but never 0.0 or 100.0."""
    if probability < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if probability >= 0.9995 else f"{100 * probability:.1f} %"
