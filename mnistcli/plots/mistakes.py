"""Misclassified images with the probabilities that the network gave."""

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.plots.headings import empty_figure, score_heading
from mnistcli.plots.image_grids import image_grid
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import STYLE


def draw_mistakes(inputs: PlotInputs) -> Figure:
    """The mistakes of the named run, the first of them number `first`.

    Raises:
        SettingsError: there are fewer mistakes.
    """
    score = inputs.find_score()
    if inputs.first and inputs.first >= score.num_errors:
        raise SettingsError(
            f"There is no mistake {inputs.first:,}.",
            why=f"There are {score.num_errors:,}, counted from 0.",
            fix=f"Use --first {max(0, score.num_errors - 1)} or less.",
        )
    examples = inputs.load_scored_images(inputs.load_network(), score)
    return mistakes(score, examples, first=inputs.first)


@mpl.rc_context(STYLE)
def mistakes(score: Score, examples: Examples, *, num: int = 25, first: int = 0) -> Figure:
    """The `num` most confident mistakes, or as many from another one on.

    Above each image is "true → predicted", below it the probabilities of the predicted and of
    the true class, and its index in the split.

    Args:
        score: of any checkpoint.
        examples: all that were evaluated, on the CPU.
        num: how many to show at most.
        first: how many more confident ones to leave out.
    """
    shown, title = score.mistakes[first : first + num], score_heading(score)
    if not shown:
        message = f"None of {score.num_errors:,} mistakes is shown."
        return empty_figure(title, message if score.num_errors else "No mistakes.")
    classes = [each.name for each in score.classes]
    return image_grid(
        examples.images_NHW.numpy()[[mistake.index for mistake in shown]],
        [f"{classes[mistake.label]} → {classes[mistake.predicted]}" for mistake in shown],
        heading=f"{title}\n{describe_selection(score, len(shown), first)}: true → predicted",
        max_columns=6,
        notes=[note_probabilities(mistake, classes) for mistake in shown],
    )


def describe_selection(score: Score, num_shown: int, first: int = 0) -> str:
    """Which of the mistakes are shown: "The 25 most confident of 48 mistakes"."""
    if num_shown == score.num_errors:
        return "All mistakes"
    if first:
        last = first + num_shown
        return f"Mistakes {first + 1:,} to {last:,} of {score.num_errors:,} by confidence"
    superlative = "The most" if num_shown == 1 else f"The {num_shown} most"
    return f"{superlative} confident of {score.num_errors:,} mistakes"


def note_probabilities(mistake: Mistake, classes: list[str]) -> list[str]:
    """The probabilities of the predicted and of the true class, each with its name."""
    return [
        f"{classes[mistake.predicted]}  {_format_probability(mistake.probability)}",
        f"{classes[mistake.label]}  {_format_probability(mistake.label_probability)}",
        f"image {mistake.index}",
    ]


def _format_probability(probability: float) -> str:
    """In percent, but never 0.0 or 100.0."""
    if probability < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if probability >= 0.9995 else f"{100 * probability:.1f} %"
