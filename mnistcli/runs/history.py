"""The epochs of a run: their figures, the best one, `metrics.csv`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistcli.config.settings import TrainSettings


import csv
import io
import itertools
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError
from mnistcli.runs.directory import MAX_RECORD_BYTES, Run, damaged_file, write_file
from mnistcli.system.files import require_readable


@dataclass(frozen=True)
class EpochResult:
    """What one epoch did.

    Training loss and accuracy are means over the epoch's batches as they were
    trained on: augmented, with dropout, by weights that changed meanwhile. The
    validation figures come from the weights that are saved; None without a
    validation split. Accuracies lie in 0..1, losses are nats an image.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


def best_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch to keep: the highest validation accuracy, of equals the lowest loss.

    Without a validation split it is the last. There must be an epoch.
    """
    if epochs[-1].val_accuracy is None:
        return epochs[-1]
    return max(epochs, key=lambda epoch: (epoch.val_accuracy or 0, -(epoch.val_loss or 0)))


def training_seconds(epochs: Sequence[EpochResult]) -> float:
    """How long the epochs took together."""
    return sum(epoch.seconds for epoch in epochs)


def meets_accuracy(accuracy: float, min_percent: float) -> bool:
    """Whether an accuracy (0..1) is at least `min_percent` (0..100); NaN is not."""
    # Rounded, because in binary 100 * 0.9943 is less than 99.43.
    return round(100 * accuracy, 9) >= min_percent


def has_reached_target(epochs: Sequence[EpochResult], min_percent: float | None) -> bool:
    """Whether the last epoch `reaches` a validation accuracy; not where none is asked for."""
    if min_percent is None or not epochs or epochs[-1].val_accuracy is None:
        return False
    return meets_accuracy(epochs[-1].val_accuracy, min_percent)


def is_finished(epochs: Sequence[EpochResult], settings: "TrainSettings") -> bool:
    """Whether all epochs are done, or the last reached the accuracy `until` asks for."""
    return len(epochs) >= settings.epochs or has_reached_target(epochs, settings.until)


HISTORY_COLUMNS = [field.name for field in fields(EpochResult)]


def write_metrics(run: Run, epochs: Sequence[EpochResult]) -> None:
    """Write `metrics.csv`, a row an epoch; raises RunError if the directory cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)
    write_file(run.path / "metrics.csv", text.getvalue().encode())


def read_metrics(run: Run) -> list[EpochResult]:
    """The epochs of a run, at least one.

    Raises:
        DataError: `metrics.csv` is missing or damaged.
    """
    path = run.path / "metrics.csv"
    try:
        require_readable(path, MAX_RECORD_BYTES)
        with path.open(encoding="utf-8", newline="") as handle:
            epochs = [_read_epoch(row) for row in csv.DictReader(handle)]
    except OSError as error:
        raise DataError(
            f"{run.path} holds no metrics.",
            why=f"metrics.csv: {error.strerror}.",
            fix="Name the directory of a run that has finished an epoch.",
        ) from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise damaged_file(path, str(error)) from error
    if not epochs:
        raise damaged_file(path, "It holds no epoch")
    if not all(before.epoch < after.epoch for before, after in itertools.pairwise(epochs)):
        raise damaged_file(path, "Its epochs are in no order")
    return epochs


def _read_epoch(row: Mapping[str, str]) -> EpochResult:
    number = int(row["epoch"])
    values = {
        name: float(row[name]) if row[name] else None for name in HISTORY_COLUMNS if name != "epoch"
    }
    # Training ends where a loss is not finite.
    known = [value for name, value in values.items() if value is not None or name[:4] != "val_"]
    in_bounds = all(value is not None and 0 <= value < math.inf for value in known)
    shares = (values["train_accuracy"] or 0, values["val_accuracy"] or 0)
    is_held_out = (values["val_loss"] is None) == (values["val_accuracy"] is None)
    if not (1 <= number <= 10_000 and in_bounds and max(shares) <= 1 and is_held_out):
        raise ValueError(f"the figures of epoch {number} make no sense")
    return EpochResult(epoch=number, **values)  # type: ignore[arg-type]
