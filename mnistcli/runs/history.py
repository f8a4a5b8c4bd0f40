"""The epochs of a run: their figures, the best one, `metrics.csv`."""

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError
from mnistcli.runs.directory import MAX_RECORD_BYTES, Run, damaged_file, write_file
from mnistcli.system.files import require_readable


@dataclass(frozen=True)
class EpochResult:
    """The figures of an epoch.

    Training loss and accuracy are means over the epoch's batches during training: augmented, with
    dropout, while the weights change. The validation figures belong to the weights that are saved
    after the epoch; None without a validation split. Accuracies are in 0..1, losses in nats.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


HISTORY_COLUMNS = [field.name for field in fields(EpochResult)]


def best_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the highest validation accuracy, and of equals the lowest loss.

    Without a validation split it is the last. There must be an epoch.
    """
    if epochs[-1].val_accuracy is None:
        return epochs[-1]
    return max(epochs, key=lambda epoch: (epoch.val_accuracy or 0, -(epoch.val_loss or 0)))


def training_seconds(epochs: Sequence[EpochResult]) -> float:
    """The sum of the epochs' seconds."""
    return sum(epoch.seconds for epoch in epochs)


def meets_accuracy(accuracy: float, min_percent: float) -> bool:
    """Whether an accuracy (0..1) is at least `min_percent` (0..100); NaN is not."""
    # Rounded, because in binary 100 * 0.9943 is less than 99.43.
    return round(100 * accuracy, 9) >= min_percent


def has_reached_target(epochs: Sequence[EpochResult], min_percent: float | None) -> bool:
    """Whether the last epoch has a validation accuracy of `min_percent`; False for None."""
    if min_percent is None or not epochs or epochs[-1].val_accuracy is None:
        return False
    return meets_accuracy(epochs[-1].val_accuracy, min_percent)


def is_finished(epochs: Sequence[EpochResult], settings: TrainSettings) -> bool:
    """Whether all epochs are done, or the last has the validation accuracy `until`."""
    return len(epochs) >= settings.epochs or has_reached_target(epochs, settings.until)


def metrics_csv(epochs: Sequence[EpochResult]) -> str:
    """The content of `metrics.csv`: a header and a row for every epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)
    return text.getvalue()


def write_metrics(run: Run, epochs: Sequence[EpochResult]) -> None:
    """Write `metrics.csv`; raises RunError if it cannot be written."""
    write_file(run.path / "metrics.csv", metrics_csv(epochs).encode())


def read_metrics(run: Run) -> list[EpochResult]:
    """The epochs of a run, at least one.

    Raises:
        DataError: `metrics.csv` is missing or damaged.
    """
    path = run.path / "metrics.csv"
    try:
        require_readable(path, MAX_RECORD_BYTES)
        with path.open(encoding="utf-8", newline="") as handle:
            epochs = [_parse_row(row) for row in csv.DictReader(handle)]
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
        raise damaged_file(path, "Its epochs are not in order")
    return epochs


def _parse_row(row: Mapping[str, str]) -> EpochResult:
    number = int(row["epoch"])
    values = {
        name: float(row[name]) if row[name] else None for name in HISTORY_COLUMNS if name != "epoch"
    }
    # Every loss is finite, because training stops at one that is not.
    required = [value for name, value in values.items() if value is not None or name[:4] != "val_"]
    in_bounds = all(value is not None and 0 <= value < math.inf for value in required)
    accuracies = (values["train_accuracy"] or 0, values["val_accuracy"] or 0)
    is_consistent = (values["val_loss"] is None) == (values["val_accuracy"] is None)
    if not (1 <= number <= 10_000 and in_bounds and max(accuracies) <= 1 and is_consistent):
        raise ValueError(f"the figures of epoch {number} are out of bounds")
    return EpochResult(epoch=number, **values)  # type: ignore[arg-type]
