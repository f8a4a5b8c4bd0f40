"""The headings of figures: what they say, and how they fit the width of a figure."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from mnistcli.config.dataset_names import dataset_title
from mnistcli.evaluation.scores import Score
from mnistcli.plots.style import CENTERED, GRAY
from mnistcli.runs.directory import Run


def checkpoint_name(checkpoint: Path) -> str:
    """The name of the run for a run's checkpoints, the file name for other files."""
    is_of_run = checkpoint.name in ("best.pth", "last.pth")
    return Run(checkpoint.parent).name if is_of_run else checkpoint.name


def score_heading(score: Score) -> str:
    """The checkpoint, the images it was evaluated on, and its errors, in one line."""
    title = dataset_title(score.dataset)
    return (
        f"{checkpoint_name(Path(score.checkpoint))} on {title}, {score.split} "
        f"({score.num_errors:,} errors in {score.num_images:,})"
    )


def text_width_inches(text: str, size: float) -> float:
    """The width of a line of text in the figures' font; `size` in points."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 if text else 0.0


def wrap_heading(heading: str, width: float) -> str:
    """`heading` with its lines wrapped to a figure that is `width` inches wide."""
    lines = []
    for line in heading.splitlines():
        share = 0.95 * (width - 0.2) / (text_width_inches(line, 10) or 1)
        lines += textwrap.wrap(line, max(1, int(len(line) * share))) if share < 1 else [line]
    return "\n".join(lines)


def empty_figure(heading: str, message: str) -> Figure:
    """A figure without content, with a message of one or more lines in its place."""
    heading, message = wrap_heading(heading, 4.5), wrap_heading(message, 4.5)
    heading_height, message_height = (0.19 * len(text.splitlines()) for text in (heading, message))
    height = heading_height + message_height + 0.8
    figure = Figure(figsize=(4.5, height))
    figure.suptitle(heading, x=0.02, y=1 - 0.1 / height, ha="left", va="top", fontsize=10)
    middle = (0.3 + message_height / 2) / height
    figure.text(0.5, middle, message, color=GRAY, **CENTERED)
    return figure
