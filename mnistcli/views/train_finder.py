"""What `mnist train-finder` prints."""

from typing import TYPE_CHECKING

from mnistcli.views.console import format_duration, stderr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnistcli.training.device import Choice
    from mnistcli.training.finder import FinderStep


def show_finder_training(
    steps: "Iterable[FinderStep]", *, device: "Choice", precision: "Choice", quiet: bool
) -> float:
    """Print a line for every reported step; the last loss in nats per pixel."""
    console, loss = stderr(quiet=quiet), 0.0
    console.print(f"{device.value}, {precision.value} ({precision.reason})", highlight=False)
    for step in steps:
        loss = step.loss
        left = step.seconds / step.number * (step.num_steps - step.number)
        console.print(
            f"step {step.number:,} of {step.num_steps:,}   loss {loss:.4f}   "
            f"{format_duration(left)} left",
            highlight=False,
        )
    return loss
