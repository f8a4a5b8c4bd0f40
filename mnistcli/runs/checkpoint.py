"""Checkpoints: a network's weights and a card that describes them; writing, reading, validating."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli.config.settings import Classes, Start, TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError, MnistError, first_mismatch, shorten
from mnistcli.models.registry import build_on_meta, get_architecture
from mnistcli.runs.archive import (
    WEIGHTS,
    invalid_checkpoint,
    is_dense_on_cpu,
    load_archive,
    pack,
)
from mnistcli.runs.directory import Run, unwritable_path, write_file
from mnistcli.runs.foreign_weights import foreign_weights
from mnistcli.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from mnistcli.data.normalization import Normalization

# The networks that come with the package, by their names.
BUNDLED = {name: WEIGHTS / f"{name}.pth" for name in ("cnn-small", "reader")}
BUNDLED_CHECKPOINT = BUNDLED["cnn-small"]


class CheckpointCard(BaseModel):
    """The description of a checkpoint's weights.

    `mean` and `std` are of a pixel in 0..1; `epoch` is the one after which the weights were saved;
    `val_accuracy` (0..1) is theirs, None without a validation split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    settings: TrainSettings
    classes: Classes
    mean: float = Field(ge=0, le=1)
    std: float = Field(ge=1e-3, le=1)
    input_px: int = Field(ge=1, le=1024)
    epoch: int = Field(ge=1)
    val_accuracy: float | None = Field(None, ge=0, le=1)
    versions: dict[str, str]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two of its classes have the same name")
        num_classes = self.settings.network.get("num_classes", 10)
        if len(self.classes) != num_classes:
            raise ValueError(f"it names {len(self.classes)} classes instead of {num_classes}")
        if self.input_px != get_architecture(self.settings.arch).input_px:
            raise ValueError(f"{self.settings.arch} does not take {self.input_px} pixels")
        return self


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, in evaluation mode on the CPU, with its card.

    `path` is its file; a network that has not been saved has its name there.
    """

    path: Path
    network: "nn.Module"
    card: CheckpointCard

    def __repr__(self) -> str:
        """The name, recipe, parameters, data set, epoch and validation accuracy."""
        card, num = self.card, sum(each.numel() for each in self.network.parameters())
        accuracy = "" if card.val_accuracy is None else f", validation {card.val_accuracy:.2%}"
        return (
            f"<LoadedModel {self.path}: {card.settings.recipe}, {num:,} parameters, trained on "
            f"{card.settings.dataset}, epoch {card.epoch}{accuracy}>"
        )

    def predict(self, images: "torch.Tensor | NDArray[np.uint8]") -> "torch.Tensor":
        """The probabilities of the classes for images in MNIST's format, on the CPU.

        The most probable class of each is `predict(images).argmax(1)`; its name is in
        `card.classes`.

        Args:
            images: uint8, 0 background to 255 ink, (N, 28, 28) or a single (28, 28): a tensor as
                `load_examples` gives it, or a NumPy array.

        Returns:
            float32 (N, K), each row with the sum 1.

        Raises:
            DataError: the images have another type or shape.
        """
        import torch

        from mnistcli.data.batches import evaluation_batches
        from mnistcli.data.normalization import normalize

        images_NHW = torch.as_tensor(images).cpu()
        if images_NHW.ndim == 2:
            images_NHW = images_NHW[None]
        if images_NHW.dtype != torch.uint8 or images_NHW.shape[1:] != (28, 28):
            shape = " x ".join(map(str, images_NHW.shape))
            raise DataError(
                f"These images are {images_NHW.dtype} of shape {shape}.",
                why="A network takes uint8 images (N, 28, 28), 0 background to 255 ink.",
                fix="Convert them, or read pictures of any kind with read_picture.",
            )
        with torch.no_grad():
            logits = [
                self.network(normalize(batch_NHW, self.normalization))
                for batch_NHW in evaluation_batches(images_NHW)
            ]
        return torch.cat(logits).softmax(dim=1)

    @property
    def normalization(self) -> "Normalization":
        """The normalization it was trained with."""
        from mnistcli.data.normalization import Normalization

        return Normalization(self.card.mean, self.card.std, self.card.input_px)


def software_versions() -> dict[str, str]:
    """The versions that results depend on."""
    import torch

    # str: torch's version is a subclass, which a file of plain values cannot hold.
    return {
        "mnistcli": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def save_checkpoint(path: Path, network: "nn.Module", card: CheckpointCard) -> None:
    """Write a checkpoint; raises RunError if it cannot be written."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    write_file(path, pack({"card": card.model_dump(mode="json"), "weights": weights}))


def save_best(run: Run, network: "nn.Module", card: CheckpointCard) -> None:
    """Replace a run's `best.pth`, and remove the scores of the previous one.

    Raises:
        RunError: a file cannot be written or removed.
    """
    for score in run.path.glob("eval-*.json"):
        try:
            score.unlink()
        except OSError as error:
            raise unwritable_path(score, error) from error
    save_checkpoint(run.best, network, card)


def load_checkpoint(path: Path) -> LoadedModel:
    """Read and validate a checkpoint, running no code in it.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint that this version reads.
    """
    content = load_archive(path)
    # type, not isinstance: a file may hold a dict whose keys are not to be trusted.
    if type(content) is not dict or content.keys() != {"card", "weights"}:
        raise foreign_weights(path, content)
    try:
        card = CheckpointCard.model_validate(content["card"])
    except ValidationError as error:
        why = f"Its card is invalid: {shorten(first_problem(error))}."
        raise invalid_checkpoint(path, why) from error
    try:
        network = _build_network(card, content["weights"])
    except MnistError as error:
        raise invalid_checkpoint(path, f"{shorten(str(error).rstrip('. '))}.") from error
    except RuntimeError as error:
        why = f"Its weights do not fit its {card.settings.arch}: {first_mismatch(error)}."
        raise invalid_checkpoint(path, why) from error
    return LoadedModel(path, network, card)


def is_valid_checkpoint(path: Path) -> bool:
    """Whether `load_checkpoint` can read it."""
    try:
        load_checkpoint(path)
    except DataError:
        return False
    return True


def checkpoint_title(path: Path) -> str:
    """The name of a bundled network, the path of another checkpoint."""
    return next((name for name, bundled in BUNDLED.items() if bundled == path), str(path))


def describe_start(path: Path) -> tuple[LoadedModel, Start]:
    """The network in a checkpoint, and what a run that starts from its weights records.

    Raises:
        DataError: as `load_checkpoint`.
    """
    loaded = load_checkpoint(path)
    return loaded, Start(
        checkpoint=checkpoint_title(path.absolute()),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        mean=loaded.card.mean,
        std=loaded.card.std,
    )


def load_start(start: Start) -> LoadedModel:
    """The network whose weights a run starts from.

    Raises:
        DataError: its file is missing, or has changed.
    """
    loaded, found = describe_start(BUNDLED.get(start.checkpoint, Path(start.checkpoint)))
    if found.sha256 != start.sha256:
        raise DataError(
            f"{loaded.path} has changed since it was chosen to start from.",
            why="The run would start from other weights.",
            fix=f"Start a new run from it: mnist train --from {loaded.path}",
        )
    return loaded


def model_snapshot(network: "nn.Module", card: CheckpointCard, *, name: str) -> LoadedModel:
    """A copy of a network, as if it had been saved and loaded."""
    import torch

    weights = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in network.state_dict().items()
    }
    return LoadedModel(Path(name), _build_network(card, weights), card)


def _build_network(card: CheckpointCard, weights: object) -> "nn.Module":
    """The network of `card` with `weights`; allocates no memory of its own.

    Raises:
        DataError: the weights are not plain, dense and finite, or the logits are not finite.
        RuntimeError: the weights do not fit the network.
    """
    import torch

    network = build_on_meta(card.settings.arch, card.settings.network)
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise DataError("Its weights are not a dict of names and tensors")
    # Detached, because attributes that a file gave to a tensor would hide its methods.
    tensors = {
        name: torch.detach(value) for name, value in weights.items() if type(value) is torch.Tensor
    }
    for name, expected in network.state_dict().items():
        if name in weights and not (
            name in tensors and _is_saved_tensor(tensors[name], expected.dtype)
        ):
            raise DataError(f"{name} is not a tensor as mnist train saves it")
    network.load_state_dict(weights | tensors, assign=True)
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise DataError("Its weights are not finite")
    network.eval().requires_grad_(requires_grad=False)
    if not _has_finite_logits(network, card):
        raise DataError("The network's outputs are not finite with its weights")
    return network


def _is_saved_tensor(tensor: "torch.Tensor", dtype: "torch.dtype") -> bool:
    """Whether it is a tensor as `save_checkpoint` writes it."""
    return is_dense_on_cpu(tensor) and tensor.dtype == dtype and tensor.is_contiguous()


def _has_finite_logits(network: "nn.Module", card: CheckpointCard) -> bool:
    """Whether the logits of a black and of a white image are finite."""
    import torch

    levels_N = (torch.tensor([0.0, 1.0]) - card.mean) / card.std
    x_NCHW = levels_N.reshape(2, 1, 1, 1).expand(2, 1, card.input_px, card.input_px)
    with torch.inference_mode():
        return bool(network(x_NCHW).isfinite().all())
