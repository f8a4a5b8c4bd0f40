"""The training and validation sets of a run: a random share, or a fold of cross-validation."""

import torch
from torch import Tensor

from mnistcli.config.settings import Fold, TrainSettings
from mnistcli.data.examples import Examples
from mnistcli.errors import DataError, SettingsError


def split_examples(examples: Examples, settings: TrainSettings) -> tuple[Examples, Examples]:
    """The training and validation examples of a run: by its fold, else by its `val_size`.

    Both are in random order. Of the training examples only the first `train_size` are used, so
    that those of a smaller size are among those of a larger one, and all are validated on the same.

    Raises:
        SettingsError: too few examples would be left for training or for validation.
    """
    if settings.fold:
        train, val = split_by_fold(examples, settings.fold, settings.seed)
    else:
        train, val = split_by_size(examples, settings.val_size, settings.seed)
    num = settings.train_size
    if num is None:
        return train, val
    if num > len(train):
        raise SettingsError(
            f"--train-size {num} is more than there are.",
            why=f"{len(train):,} of {len(examples):,} training images are not held out.",
            fix=f"Use {len(train)} or less, or a smaller --val-size.",
        )
    return train.take(torch.arange(num)), val


def split_by_fold(examples: Examples, fold: Fold, seed: int) -> tuple[Examples, Examples]:
    """The examples outside and inside a fold, as in cross-validation (Stone 1974).

    The folds of one seed are disjoint and cover all examples; their sizes differ
    by at most one.

    Raises:
        SettingsError: there are fewer examples than folds.
    """
    num_all = len(examples)
    if num_all < fold.of:
        raise SettingsError(
            f"{fold.of} folds leave nothing to validate on.",
            why=f"The training set has {num_all:,} images.",
            fix=f"Use --folds {num_all} or fewer.",
        )
    start, end = (number * num_all // fold.of for number in (fold.number - 1, fold.number))
    order_N = _permutation(num_all, seed)
    outside_N = torch.cat([order_N[:start], order_N[end:]])
    return examples.take(outside_N), examples.take(order_N[start:end])


def split_by_size(examples: Examples, val_size: float, seed: int) -> tuple[Examples, Examples]:
    """Disjoint training and validation sets that cover all examples, by a seeded shuffle.

    `val_size` below 1 is a fraction of the examples, otherwise their number; 0
    gives an empty validation set.

    Raises:
        SettingsError: no example would be left for training, or none for validation
            although `val_size` is above 0.
    """
    num_all = len(examples)
    num_val = round(num_all * val_size) if val_size < 1 else int(val_size)
    problem = ""
    if num_val >= num_all:
        problem = "leaves nothing to train on"
    elif val_size >= 1 and num_val != val_size:
        problem = "is not a whole number of images"
    elif val_size and not num_val:
        problem = "leaves nothing to validate on"
    if problem:
        raise SettingsError(
            f"--val-size {val_size:g} {problem}.",
            why=f"The training set has {num_all:,} images.",
            fix=f"Use 0, a fraction below 1, or a count below {num_all}.",
        )
    order_N = _permutation(num_all, seed)
    return examples.take(order_N[num_val:]), examples.take(order_N[:num_val])


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """The examples that remain, and a random share (0..1) that is held out: at least one.

    Raises:
        DataError: no example would be left.
    """
    if len(examples) < 2:
        raise DataError(
            "The data set has one image only.",
            why="One is held out for testing, so none is left to train on.",
            fix="Add images. To see why pictures are left out: mnist predict FILE --single",
        )
    order_N, num_out = _permutation(len(examples), seed), max(1, round(share * len(examples)))
    return examples.take(order_N[num_out:]), examples.take(order_N[:num_out])


def _permutation(num: int, seed: int) -> Tensor:
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))
