"""Small training runs for tests: start, stop and resume them, and compare their files."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mnistcli.config.resolve import resolve_settings
from mnistcli.runs.directory import Run, read_settings
from mnistcli.runs.history import EpochResult, read_metrics
from mnistcli.runs.saved_state import SavedState, read_state
from mnistcli.training.trainer import (
    TrainingRun,
    load_training_data,
    resume_run,
    start_run,
    train_run,
)

ONE = Path("runs/one")
# A tenth of a second an epoch, with everything that is random and everything that is remembered.
QUICK_SETTINGS: dict[str, Any] = {
    "recipe": "mlp-50-50",
    "dataset": "digits",
    "hidden": [16],
    "dropout": 0.1,
    "augment": True,
    "ema": 0.9,
    "batch_size": 256,
    "lr": 0.01,
    "schedule": "onecycle",
    "epochs": 4,
    "device": "cpu",
    "precision": "float32",
}


def train_command(**changes: Any) -> list[str]:
    """`train` with `QUICK_SETTINGS` as flags; a change to None leaves a flag out."""
    words = ["train"]
    for name, value in ({**QUICK_SETTINGS, **changes}).items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def train(name: str, stop_after: int | None = None, **changes: Any) -> Path:
    """Train a new run in this process, and stop it after `stop_after` epochs."""
    flags = {
        key: value for key, value in {**QUICK_SETTINGS, **changes}.items() if value is not None
    }
    settings = resolve_settings(flags, environ={}).settings
    with start_run(settings, name=name, out=Path("runs")) as run:
        _train_epochs(run, stop_after)
    return Path("runs", name)


def resume(name: str, stop_after: int | None = None, **changes: Any) -> Path:
    """Resume a run in this process, and stop it after `stop_after` more epochs."""
    with resume_run(name, changes=changes, out=Path("runs")) as run:
        _train_epochs(run, stop_after)
    return Path("runs", name)


def _train_epochs(run: TrainingRun, stop_after: int | None) -> None:
    epochs = train_run(run, *load_training_data(run.plan, Path()))
    list(islice(epochs, stop_after))
    epochs.close()  # type: ignore[attr-defined]


def copy_as_multirun(trained: Path, multirun: Path, *, seeds: range, num_copies: int) -> None:
    """Copy a run as the first `num_copies` of a multi-run, whose summary lists none yet."""
    settings = json.loads((trained / "settings.json").read_text())
    for seed in seeds[:num_copies]:
        run = Path(shutil.copytree(trained, multirun / f"seed-{seed}"))
        (run / "settings.json").write_text(json.dumps({**settings, "seed": seed}))
    summary = {
        "schema_version": 1,
        "layout": {"by": "seeds", "num_runs": len(seeds)},
        "settings": {**settings, "seed": seeds[0]},
        "runs": [],
        "last": None,
        "best": None,
    }
    (multirun / "summary.json").write_text(json.dumps(summary))


def saved_state(path: Path) -> SavedState:
    """The state of a run that has finished an epoch."""
    saved = read_state(Run(path), read_settings(Run(path)))
    assert saved
    return saved


def assert_same_run(a: Path, b: Path, *, best: bool = True) -> None:
    """Two runs are equal bit for bit, except for the times."""
    for name in ("settings.json", "last.pth", *(["best.pth"] if best else [])):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    first, second = (without_times(read_metrics(Run(path))) for path in (a, b))
    assert first == second
    first_state, second_state = saved_state(a), saved_state(b)
    assert without_times(first_state.history) == without_times(second_state.history) == first
    assert_same(first_state.state, second_state.state)


def without_times(epochs: Sequence[EpochResult]) -> list[EpochResult]:
    """The epochs with their times set to 0."""
    return [replace(epoch, seconds=0, images_per_second=0) for epoch in epochs]


def assert_same(a: Any, b: Any, where: str = "state") -> None:
    """Two trees of plain values and tensors are equal bit for bit, strides included."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.stride()) == (b.dtype, b.stride()), where
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}.{number}")
    else:
        assert a == b, where


# Code for `prepare`: only the steps of the training itself are taken, so that they can be counted.
NO_TRIAL_STEPS = """
from mnistcli.training import estimate
estimate.estimate_epoch_seconds = lambda *_: None
"""


def signal_at_step(number: int, *, step: int = 13) -> str:
    """Code for `prepare`: the process sends itself signal `number` before that training step."""
    return f"""{NO_TRIAL_STEPS}
from itertools import count
from mnistcli.training import engine
train_step, steps = engine._train_step, count(1)
def interrupted(*args):
    if next(steps) == {step}:
        os.kill(os.getpid(), {int(number)})
    return train_step(*args)
engine._train_step = interrupted
"""


def signal_while_writing(number: int, *, epoch: int = 2) -> str:
    """Code for `prepare`: the process sends itself signal `number` while it writes that epoch."""
    return f"""
from mnistcli.training import trainer
write_metrics = trainer.write_metrics
def interrupted(run, epochs):
    if len(epochs) == {epoch}:
        os.kill(os.getpid(), {int(number)})
    write_metrics(run, epochs)
trainer.write_metrics = interrupted
"""
