"""The table of a run's epochs, as `mnist train` prints it and `mnist runs NAME` repeats it."""

from collections.abc import Sequence

from rich.console import Console

from mnistcli.runs.history import EpochResult, best_epoch
from mnistcli.views.console import format_percent

_HEADER = "  epoch        lr  train loss  train acc   val loss    val acc     time   * best"


def print_epoch_header(console: Console) -> None:
    """Print the header of the rows that `print_epoch` prints."""
    console.print(_HEADER, style="dim", soft_wrap=True)


def print_epoch(console: Console, epochs: Sequence[EpochResult], *, num_epochs: int) -> None:
    """Print the row of the last of `epochs`, with a star if it is the best so far.

    `num_epochs` is how many the run is to have.
    """
    epoch = epochs[-1]
    is_best = best_epoch(epochs) is epoch and epoch.val_accuracy is not None
    val_loss = "-" if epoch.val_loss is None else f"{epoch.val_loss:.4f}"
    train_accuracy, val_accuracy = map(format_percent, (epoch.train_accuracy, epoch.val_accuracy))
    console.print(
        f"{epoch.epoch:>3}/{num_epochs:<3} {epoch.lr:>9.2g}  {epoch.train_loss:>10.4f}"
        f"  {train_accuracy:>9}  {val_loss:>9}  {val_accuracy:>9}"
        f"{'*' if is_best else ' '}  {epoch.seconds:>5.1f} s",
        soft_wrap=True,
    )


def describe_best(best: EpochResult) -> str:
    """The best epoch and its validation figures, in a sentence."""
    if best.val_loss is None:
        return f"Epoch {best.epoch}, the last, is kept: there was no validation split."
    accuracy = format_percent(best.val_accuracy)
    return f"Best epoch: {best.epoch}, validation accuracy {accuracy}, loss {best.val_loss:.4f}."
