"""The headings of figures: what they say, and how they fit the width of a figure."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from mnistcli.evaluation.scores import Score
from mnistcli.plots.style import CENTERED, GRAY
from mnistcli.runs.directory import Run


def checkpoint_name(checkpoint: Path) -> str:
    """The name of the run for a run's checkpoints, the file name for other files."""
    is_of_run = checkpoint.name in ("best.pth", "last.pth")
    return Run(checkpoint.parent).name if is_of_run else checkpoint.name


def score_heading(score: Score) -> str:
    """The checkpoint, the images it was evaluated on, and its errors, in one line."""
    return (
        f"{checkpoint_name(Path(score.checkpoint))} on {score.dataset}, {score.split} "
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
    """A figure without content, with a message in its place."""
    figure = Figure(figsize=(4.5, 1.2))
    figure.suptitle(wrap_heading(heading, 4.5), x=0.02, ha="left", fontsize=10)
    figure.text(0.5, 0.35, message, color=GRAY, **CENTERED)
    return figure
