"""Predictions for a table of images without labels, in the form that Kaggle takes.

Shapes: N images, H rows, W columns, M networks, K classes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from mnistcli.data.image_arrays import ImageArrayError, as_images, find_scale, to_uint8
from mnistcli.data.image_table import read_image_table
from mnistcli.errors import DataError, SettingsError, shorten
from mnistcli.evaluation.inference import predict_logits
from mnistcli.runs.checkpoint import LoadedModel
from mnistcli.system.files import require_readable, write_atomically

_HEADER = ("ImageId", "Label")
_SAMPLE_NAME = "sample_submission.csv"


@dataclass(frozen=True)
class Submission:
    """A written submission; `sample` is the file that it was checked against, if there is one."""

    path: Path
    num_images: int
    sample: Path | None


def read_test_images(path: Path) -> Tensor:
    """The images of a CSV file as uint8 (N, 28, 28); labels are ignored.

    Raises:
        DataError: the file cannot be read or has another form.
    """
    try:
        images_NHW = as_images(read_image_table(path).pixels_ND)
        return torch.from_numpy(to_uint8(images_NHW, find_scale(images_NHW)))
    except ImageArrayError as error:
        raise DataError(
            f"'{path}' is not a table of images.",
            why=f"{error}.",
            fix="Give it one row per image: its pixels, as in pixel0,…,pixel783",
        ) from error


def write_submission(
    models: Sequence[LoadedModel], images_NHW: Tensor, target: Path, *, beside: Path
) -> Submission:
    """Write the class of every image, by the mean of the networks' probabilities.

    The rows are numbered from 1. If there is a sample_submission.csv in the directory `beside`,
    header and numbers must be the same as there.

    Raises:
        DataError: they are not, or the sample cannot be read; then nothing is written.
        SettingsError: `target` is that sample.
        OSError: the file cannot be written.
    """
    sample = beside / _SAMPLE_NAME
    if target.resolve() == sample.resolve():
        raise SettingsError(
            f"--submission would overwrite {_SAMPLE_NAME}.", fix="Give it another name."
        )
    has_sample = sample.exists()
    if has_sample:
        _check_sample(sample, len(images_NHW))
    probabilities_MNK = torch.stack(
        [
            predict_logits(model.network, images_NHW, model.normalization).softmax(dim=1)
            for model in models
        ]
    )
    classes = models[0].card.classes
    labels_N = probabilities_MNK.mean(dim=0).argmax(dim=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows((number, classes[label]) for number, label in enumerate(labels_N.tolist(), 1))
    write_atomically(target, lambda file: file.write(text.getvalue().encode()))
    return Submission(target, len(labels_N), sample if has_sample else None)


def _check_sample(sample: Path, num_images: int) -> None:
    """Raise DataError unless the sample has the header and the numbers of a submission."""
    try:
        require_readable(sample)
        with sample.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = tuple(next(rows, ()))
            numbers = [row[0] for row in rows if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = f"It cannot be read: {getattr(error, 'strerror', None) or error}."
        raise _other_form(sample, why) from error
    if header != _HEADER:
        raise _other_form(sample, f"Its header is {shorten(','.join(header))}.")
    if len(numbers) != num_images:
        raise _other_form(sample, f"It has {len(numbers):,} rows for {num_images:,} images.")
    expected = map(str, range(1, num_images + 1))
    for number, found in zip_longest(expected, numbers):
        if number != found:
            raise _other_form(
                sample, f"It has {shorten(found)} as {_HEADER[0]} instead of {number}."
            )


def _other_form(sample: Path, why: str) -> DataError:
    return DataError(
        f"The submission does not fit '{sample}'.",
        why=why,
        fix=f"A submission is {','.join(_HEADER)} and a row per image, from 1. "
        "Name the test images of this sample, or remove it.",
    )
