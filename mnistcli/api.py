"""The functions that `mnistcli` exports for programs and notebooks.

They do what the commands do, but write nothing, print nothing and never use the network. Errors
are MnistError.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from numpy.typing import ArrayLike
from PIL import Image

from mnistcli.config.choices import DataSplit, EvalSplit, values
from mnistcli.config.dataset_names import require_dataset_name
from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.corruptions import parse_corruptions
from mnistcli.data.datasets import get_dataset, load_dataset, resolve_data_dir
from mnistcli.data.examples import Examples
from mnistcli.errors import RunError, require_known
from mnistcli.evaluation.eval_data import load_eval_data
from mnistcli.evaluation.evaluate import EvalOptions, Evaluation, check_options, evaluate_models
from mnistcli.reading.batch import decode_data, decode_file, no_digit_error
from mnistcli.reading.decode import encode_picture
from mnistcli.reading.picture_data import read_picture_data
from mnistcli.reading.predict import Prediction, load_networks, read_pictures
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint, model_snapshot
from mnistcli.runs.find import find_checkpoint, find_run
from mnistcli.runs.history import EpochResult, best_epoch, is_finished, read_metrics
from mnistcli.system.files import expand_home
from mnistcli.system.machine import keep_freed_memory
from mnistcli.system.signals import defer_interrupts
from mnistcli.training.device import pick_device
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import load_training_data, make_plan, translate_out_of_memory

AnyPath = str | Path


def configure(recipe: str | None = None, **changes: Any) -> TrainSettings:
    """The settings of a recipe, with changes: `configure("cnn-26k", epochs=3, lr=0.01)`.

    Settings have the names they have in `settings.json` (`batch_size`, not `--batch-size`); those
    of the network are given with the others. Without a recipe, `arch` picks its default one.
    `MNIST_*` variables have no effect.

    Raises:
        SettingsError: an unknown name or an invalid value; a line for each.
    """
    if isinstance(changes.get("model"), Mapping):
        changes |= changes.pop("model")
    given = changes if recipe is None else {"recipe": recipe, **changes}
    return resolve_settings(given, environ={}, flags_source="").settings


def load_examples(
    dataset: str = "mnist", split: DataSplit = "train", *, data_dir: AnyPath | None = None
) -> Examples:
    """All training or test examples: images uint8 (N, 28, 28), labels int64 (N,).

    "digits" comes with scikit-learn; get the others with `mnist download`. The path of a data set
    of your own is a name too; if it has no test part, all images are in both splits.

    Raises:
        SettingsError: unknown data set or split.
        DataError: the data set is missing or damaged.
    """
    source = get_dataset(_prepare(dataset))
    known_split = cast("DataSplit", require_known("split", split, values(DataSplit)))
    return load_dataset(source, known_split, resolve_data_dir(data_dir, os.environ))


def _prepare(dataset: str) -> str:
    """The name of a data set, after the pictures of a user's own have been read."""
    name = require_dataset_name(dataset)
    read_picture_data(name)
    return name


class Training:
    """Trains a network while it is iterated over; yields an EpochResult after every epoch.

    `history` holds the finished epochs. After a `break` or an interrupt, iterating again continues
    after the last of them. The same settings give the same weights as `mnist train`, bit for bit.

    Args:
        settings: from `configure`.
        name: the network's name in figures and comparisons; by default its recipe.
        data_dir: directory of the data sets; by default that of `mnist train`.

    Raises:
        GateError: the network does not fit `max_params`.
        SettingsError: the split or the batch is too small to train on.
        DeviceError: the device or precision does not work here.
        DataError: the data set is missing or damaged.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        name: str | None = None,
        data_dir: AnyPath | None = None,
    ) -> None:
        keep_freed_memory()
        self.name = name or settings.recipe
        _prepare(settings.dataset)
        self.plan = make_plan(settings)
        self.history: list[EpochResult] = []
        self._train, self._val = load_training_data(
            self.plan, resolve_data_dir(data_dir, os.environ)
        )
        self._state: dict[str, Any] | None = None
        self._num_loops = 0
        self._last: LoadedModel | None = None
        self._best: LoadedModel | None = None

    def __iter__(self) -> Iterator[EpochResult]:
        """Train the remaining epochs. Seeds PyTorch's global random generator.

        Raises:
            RunError: the loss is not finite, memory is full, or another loop over the same
                training has started meanwhile.
        """
        if self.is_finished:
            return
        self._num_loops += 1
        this_loop = self._num_loops
        with translate_out_of_memory(self.plan):
            state = self.plan.build_state(len(self._train))
            if self._state:
                state.load_state_dict(self._state)
            for epoch in fit(state, self._train, self._val, self.plan.normalization):
                with defer_interrupts():
                    self._keep(state, epoch)
                yield epoch
                if self.is_finished:
                    return
                if self._num_loops != this_loop:
                    raise RunError(
                        f"{self.name} is being trained by another loop.",
                        why="A Training continues in the loop that was started last.",
                        fix="Continue with that loop.",
                    )

    def _keep(self, state: TrainState, epoch: EpochResult) -> None:
        # A copy, because the next epoch may be interrupted halfway.
        self._state = copy.deepcopy(state.state_dict())
        self._last = model_snapshot(state.eval_model, self.plan.card(epoch), name=self.name)
        self.history.append(epoch)
        if best_epoch(self.history) is epoch:
            self._best = self._last

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last one has reached the accuracy `until`."""
        return is_finished(self.history, self.plan.settings)

    @property
    def last(self) -> LoadedModel:
        """The network after the last epoch; raises RunError before there is one."""
        return self._trained(self._last)

    @property
    def best(self) -> LoadedModel:
        """The network of the best epoch; raises RunError before there is one.

        The best epoch has the highest validation accuracy and, if several do, the lowest loss.
        """
        return self._trained(self._best)

    def _trained(self, model: LoadedModel | None) -> LoadedModel:
        if model is None:
            raise RunError(
                f"{self.name} has not finished an epoch.",
                why="A network is trained by iterating over its Training.",
                fix="Train it first: for epoch in training: print(epoch)",
            )
        return model


def judge(
    model: LoadedModel,
    *,
    dataset: str | None = None,
    split: EvalSplit = "test",
    tta: bool = False,
    calibrate: bool = False,
    corrupt: str | None = None,
    device: str = "auto",
    data_dir: AnyPath | None = None,
) -> Evaluation:
    """Evaluate a network as `mnist eval` does, by default on the test set it was trained for.

    Args:
        model: from a Training or from `load_model`.
        dataset: another data set with the same classes, or the path of one.
        split: "test", "val" for the images held out in training, or "train".
        tta: average the probabilities over 9 shifts of 0 or 1 px in each direction.
        calibrate: fit a temperature on the validation split and report its effect.
        corrupt: evaluate on corrupted images too: "rotate,noise", or "all".
        device: "auto", "cpu", "cuda" or "mps".
        data_dir: directory of the data sets; by default that of `mnist eval`.

    Raises:
        SettingsError: these images do not exist, or an option cannot be used on them.
        DataError: a data set is missing or damaged.
        DeviceError: the device does not work here.
    """
    split = cast("EvalSplit", require_known("split", split, values(EvalSplit)))
    corruptions = parse_corruptions(corrupt) if corrupt else ()
    options = EvalOptions(tta=tta, calibrate=calibrate, corruptions=corruptions)
    chosen, name = pick_device(device), _prepare(dataset or model.card.settings.dataset)
    check_options([model], options, dataset=name, split=split)
    data = load_eval_data(
        [model],
        dataset=name,
        split=split,
        calibrate=calibrate,
        data_dir=resolve_data_dir(data_dir, os.environ),
    )
    (evaluation,) = evaluate_models([model], data, options=options, device=chosen.value)
    return evaluation


def load_model(name: AnyPath | None = None, *, out: AnyPath = "runs") -> LoadedModel:
    """The network in a checkpoint, or in the best checkpoint of a run; by default the bundled one.

    Args:
        name: a .pth file, a run's directory or name, or "last".
        out: directory of the runs.

    Raises:
        DataError: the checkpoint is missing, damaged, or not readable by this version.
    """
    meant = None if name is None else str(expand_home(name))
    return load_checkpoint(find_checkpoint(meant, expand_home(out)))


def read_history(name: AnyPath = "last", *, out: AnyPath = "runs") -> list[EpochResult]:
    """The epochs of a run (directory or name), by default of the newest.

    Raises:
        DataError: there is no such run, or its metrics are damaged.
    """
    return read_metrics(find_run(str(expand_home(name)), expand_home(out)))


def read_picture(
    picture: AnyPath | bytes | Image.Image | ArrayLike,
    model: LoadedModel | None = None,
    *,
    single: bool = False,
) -> list[Prediction]:
    """Read the digits in a picture, in reading order, as `mnist predict` does.

    Args:
        picture: a PNG, JPEG, BMP, GIF, WebP, TIFF or HEIC file, its content, a PIL image, or an
            array or tensor of shape (H, W), (H, W, 3) or (H, W, 4): integers from 0 to 255 (or
            65,535), or floats, whose smallest value is black and whose largest is white.
        model: by default the bundled network.
        single: treat all ink as one digit.

    Raises:
        DataError: it cannot be read, or contains no digit.
    """
    name = str(expand_home(picture)) if isinstance(picture, str | Path) else "the picture"
    if isinstance(picture, str | Path):
        decoded = decode_file(name, single=single)
        if decoded.error:
            raise decoded.error
    elif isinstance(picture, bytes | bytearray | memoryview):
        decoded = decode_data(bytes(picture), name=name, single=single)
    else:
        decoded = decode_data(encode_picture(picture), name=name, single=single)
    (reading,) = read_pictures([decoded], load_networks([model] if model else ()), single=single)
    if not reading.predictions:
        raise no_digit_error(name)
    return reading.predictions
