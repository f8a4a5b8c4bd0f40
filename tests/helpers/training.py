"""Small trainings for tests, on scikit-learn's handwritten digits."""

import functools
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnistcli.config.choices import DataSplit
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization
from mnistcli.data.splits import split_by_size
from mnistcli.models.registry import get_architecture
from mnistcli.runs.history import EpochResult
from mnistcli.training.engine import OnStep, fit
from mnistcli.training.state import TrainState

DIGITS = get_dataset("digits")


@functools.cache
def load_digits(split: DataSplit) -> Examples:
    """The digits of a split."""
    return load_dataset(DIGITS, split, Path())


def some_digits(num: int, split: DataSplit = "train") -> Examples:
    """The first digits of a split."""
    return load_digits(split).take(torch.arange(num))


def split_digits(device: str = "cpu") -> tuple[Examples, Examples]:
    """Training and validation digits, by the same writers."""
    train, val = split_by_size(load_digits("train"), 0.1, seed=0)
    return train.to(torch.device(device)), val.to(torch.device(device))


def make_settings(**flags: Any) -> TrainSettings:
    """The settings of these flags for a quick training: a small MLP, two epochs."""
    flags = {
        "recipe": "mlp-50-50",
        "dataset": "digits",
        "epochs": 2,
        "schedule": "constant",
    } | flags
    return fit_budget(resolve_settings(flags, environ={}).settings)


def digits_normalization(settings: TrainSettings) -> Normalization:
    """How digits become the network's input."""
    return Normalization(DIGITS.mean, DIGITS.std, get_architecture(settings.arch).input_px)


def build_state(
    settings: TrainSettings, num_examples: int, *, device: str = "cpu", precision: str = "float32"
) -> TrainState:
    """A new state of a training."""
    return TrainState(settings, num_examples=num_examples, device=device, precision=precision)


def train_network(
    settings: TrainSettings,
    train: Examples,
    val: Examples | None = None,
    *,
    device: str = "cpu",
    precision: str = "float32",
    on_step: OnStep | None = None,
) -> tuple[TrainState, list[EpochResult]]:
    """Train to the end; without `val`, nothing is held out."""
    state = build_state(settings, len(train), device=device, precision=precision)
    val = some_digits(0) if val is None else val
    return state, list(fit(state, train, val, digits_normalization(settings), on_step=on_step))


def saved_copy(state: TrainState) -> dict[str, Any]:
    """The state of a training after a round trip through a file."""
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    saved: dict[str, Any] = torch.load(file, weights_only=True)
    return saved


def have_same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks are equal bit for bit."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)
