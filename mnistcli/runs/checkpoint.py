"""What a checkpoint file holds: a network's weights and a card that describes them."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnistcli.config.settings import Name, TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError, MnistError, first_mismatch, shorten
from mnistcli.models.registry import build_on_meta, get_architecture
from mnistcli.runs.archive import invalid_checkpoint, is_dense_on_cpu, load_archive, pack
from mnistcli.version import __version__

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mnistcli.data.normalization import Normalization


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
from mnistcli.runs.directory import Run, cannot_write, write_file

BUNDLED_CHECKPOINT = Path(__file__).parents[1] / "models" / "weights" / "cnn-small.pth"


class CheckpointCard(BaseModel):
    """What a checkpoint says of itself, beside its tensors.

    `mean` and `std` are of a pixel in 0..1; `epoch` is the one the weights are
    from, `val_accuracy` (0..1) what they reached there, None without a
    validation split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    settings: TrainSettings
    classes: Annotated[tuple[Name, ...], Field(min_length=10, max_length=10)]
    mean: float = Field(ge=0, le=1)
    std: float = Field(ge=1e-3, le=1)
    input_px: int = Field(ge=1, le=1024)
    epoch: int = Field(ge=1)
    val_accuracy: float | None = Field(None, ge=0, le=1)
    versions: dict[str, str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two of its classes have the same name")
        if self.input_px != get_architecture(self.settings.arch).input_px:
            raise ValueError(f"{self.settings.arch} does not see {self.input_px} pixels")
        return self


@dataclass(frozen=True)
class LoadedModel:
    """A network with trained weights, in evaluation mode on the CPU, and its card.

    `path` is its file, or of a network that is in none the name it goes by.
    """

    path: Path
    network: "nn.Module"
    card: CheckpointCard

    @property
    def normalization(self) -> "Normalization":
        """The normalization it was trained with."""
        from mnistcli.data.normalization import Normalization

        return Normalization(self.card.mean, self.card.std, self.card.input_px)


def software_versions() -> dict[str, str]:
    """The versions that decide what is computed."""
    import torch

    # str: torch's version is a subclass, which a checkpoint of plain types may not hold.
    return {
        "mnistcli": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def pack_checkpoint(network: "nn.Module", card: CheckpointCard) -> bytes:
    """The file of a checkpoint: weights and card as plain types and tensors on the CPU."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    return pack({"card": card.model_dump(mode="json"), "weights": weights})


def load_checkpoint(path: Path) -> LoadedModel:
    """The network in a checkpoint file. No code in the file is ever run.

    Raises:
        DataError: the file is missing, damaged, or no checkpoint that this version reads.
    """
    content = load_archive(path)
    # Whatever else a file may hold, it is not asked for its items.
    if type(content) is not dict or content.keys() != {"card", "weights"}:
        raise invalid_checkpoint(path, "It does not hold a card and weights.")
    try:
        card = CheckpointCard.model_validate(content["card"])
    except ValidationError as error:
        why = f"Its card is wrong: {shorten(first_problem(error))}."
        raise invalid_checkpoint(path, why) from error
    try:
        network = _build_network(card, content["weights"])
    except MnistError as error:
        raise invalid_checkpoint(path, f"{shorten(str(error).rstrip('. '))}.") from error
    except RuntimeError as error:
        why = f"Its weights are not those of its {card.settings.arch}: {first_mismatch(error)}."
        raise invalid_checkpoint(path, why) from error
    return LoadedModel(path, network, card)


def model_snapshot(network: "nn.Module", card: CheckpointCard, *, name: str) -> LoadedModel:
    """What `load_model` would give for the file of a checkpoint, without a file; a copy."""
    import torch

    weights = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in network.state_dict().items()
    }
    return LoadedModel(Path(name), _build_network(card, weights), card)


def _build_network(card: CheckpointCard, weights: object) -> "nn.Module":
    """The network of `card` with `weights`, allocating nothing but what the file brought."""
    import torch

    network = build_on_meta(card.settings.arch, card.settings.network)
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise DataError("Its weights are no table of names and tensors")
    # Detached, because attributes that a file gave to a tensor would hide its methods.
    tensors = {
        name: torch.detach(value) for name, value in weights.items() if type(value) is torch.Tensor
    }
    for name, expected in network.state_dict().items():
        if name in weights and not (
            name in tensors and _is_plain_tensor(tensors[name], expected.dtype)
        ):
            raise DataError(f"{name} is no tensor that this tool writes")
    network.load_state_dict(weights | tensors, assign=True)
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise DataError("Its weights are not finite")
    network.eval().requires_grad_(requires_grad=False)
    if not _gives_finite_logits(network, card):
        raise DataError("With its weights the network gives no finite numbers")
    return network


def _is_plain_tensor(tensor: "torch.Tensor", dtype: "torch.dtype") -> bool:
    """Whether it is a tensor as `packed` makes it."""
    return is_dense_on_cpu(tensor) and tensor.dtype == dtype and tensor.is_contiguous()


def _gives_finite_logits(network: "nn.Module", card: CheckpointCard) -> bool:
    """Whether the logits of an empty and of a full picture are finite."""
    import torch

    levels_N = (torch.tensor([0.0, 1.0]) - card.mean) / card.std
    x_NCHW = levels_N.reshape(2, 1, 1, 1).expand(2, 1, card.input_px, card.input_px)
    with torch.inference_mode():
        return bool(network(x_NCHW).isfinite().all())


def save_checkpoint(path: Path, network: "nn.Module", card: CheckpointCard) -> None:
    """Write a checkpoint; raises RunError if the file cannot be written."""
    write_file(path, pack_checkpoint(network, card))


def save_best(run: Run, network: "nn.Module", card: CheckpointCard) -> None:
    """Replace the run's best checkpoint, and remove the scores of the one before.

    Raises:
        RunError: a file cannot be written or removed.
    """
    for score in run.path.glob("eval-*.json"):
        try:
            score.unlink()
        except OSError as error:
            raise cannot_write(score, error) from error
    save_checkpoint(run.best, network, card)
