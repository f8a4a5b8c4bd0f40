"""The settings of a training run: names, types, bounds and defaults."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from mnistcli.config.choices import (
    MAX_CLASSES,
    DeviceName,
    LossName,
    OptimizerName,
    Pooling,
    PrecisionName,
    ScheduleName,
    values,
)
from mnistcli.config.dataset_names import is_own_data, parse_dataset
from mnistcli.errors import find_known
from mnistcli.models.registry import get_architecture

MAX_SEED = 2**32 - 1
# In a multi-run, and so folds of a training set.
MAX_RUNS = 100
# Settings of earlier versions, which old files still contain; none of them changes a network.
RETIRED = frozenset(("compile", "teacher", "distillation"))


def split_list(value: object) -> object:
    """Split text such as "120,84" or "120 84"; leave anything else unchanged."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def parse_digits(value: object) -> object:
    """The number that text such as "5" stands for, which a Literal needs; else the value."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def any_case(choice: Any) -> BeforeValidator:
    """Accepts what plainly means a name in one of the lists of `config.choices`."""

    def canonical(value: object) -> object:
        return find_known(value, values(choice)) or value if isinstance(value, str) else value

    return BeforeValidator(canonical)


def require_printable(text: str) -> str:
    """The text; raises ValueError if a terminal cannot show it."""
    if not text.isprintable():
        raise ValueError("should have printable characters only")
    return text


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(require_printable)]
DataName = Annotated[str, Field(max_length=4096), AfterValidator(parse_dataset)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Classes = Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_CLASSES)]
Count = Annotated[int, Field(ge=1, le=65_536)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Sizes = Annotated[tuple[Count, ...], Field(max_length=32), BeforeValidator(split_list)]


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AnnModel(_FrozenModel):
    """An `ann`: sizes of the hidden layers, dropout probability after each."""

    arch: Literal["ann"] = "ann"
    hidden: Sizes
    dropout: Dropout


class MlpModel(_FrozenModel):
    """An `mlp`: sizes of the hidden layers, dropout probability after each."""

    arch: Literal["mlp"] = "mlp"
    hidden: Sizes
    dropout: Dropout


class CnnModel(_FrozenModel):
    """A `cnn`: channels, kernel and pooling of its stages, then sizes of the hidden layers."""

    arch: Literal["cnn"] = "cnn"
    channels: Annotated[Sizes, Field(min_length=1)]
    kernel_size: int = Field(ge=1, le=28)
    padding: int = Field(ge=0, le=14)
    pool: Annotated[Pooling, any_case(Pooling)] = "each"
    batch_norm: bool = False
    hidden: Sizes
    dropout: Dropout


class CnnDeepModel(_FrozenModel):
    """A `cnn-deep`: channels of each stage, dropout probability after each."""

    arch: Literal["cnn-deep"] = "cnn-deep"
    channels: Annotated[Sizes, Field(min_length=1)]
    dropout: Dropout


class CnnSmallModel(_FrozenModel):
    """A `cnn-small`: its width (channels; None: the widest within the budget), and its kernels."""

    arch: Literal["cnn-small"] = "cnn-small"
    width: int | None = Field(None, ge=1, le=32_768)
    kernel_size: Annotated[Literal[3, 5, 7], BeforeValidator(parse_digits)] = 3
    depthwise: int = Field(1, ge=1, le=6)


ModelSettings = Annotated[
    AnnModel | MlpModel | CnnModel | CnnDeepModel | CnnSmallModel, Field(discriminator="arch")
]

MODELS: dict[str, type[BaseModel]] = {
    model.model_fields["arch"].default: model
    for model in (AnnModel, MlpModel, CnnModel, CnnDeepModel, CnnSmallModel)
}

# The model settings of all architectures together.
MODEL_FIELDS = tuple(
    sorted({name for model in MODELS.values() for name in model.model_fields} - {"arch"})
)


class Augmentation(_FrozenModel):
    """Limits of the random affine map that each image of a batch gets, drawn uniformly."""

    rotate_degrees: float = Field(9.0, ge=0, le=180)
    scale_fraction: float = Field(0.1, ge=0, lt=1)
    shear_degrees: float = Field(5.0, ge=0, le=60)
    shift_px: float = Field(1.5, ge=0, le=14)


class Fold(_FrozenModel):
    """The held-out part of a shuffled training set: part `number` (from 1) of `of`."""

    number: int = Field(ge=1, le=MAX_RUNS)
    of: int = Field(ge=2, le=MAX_RUNS)


class OwnData(_FrozenModel):
    """What a run records of a user's own data set when it starts.

    `digest` (SHA-256) is of its images and labels, whatever file they are in; `classes` are the
    network's; `test_seed` decides which images are held out for testing, and is None where the
    data set has a test part.
    """

    digest: Sha256
    classes: Classes
    test_seed: int | None = Field(None, ge=0, le=MAX_SEED)


class Start(_FrozenModel):
    """The checkpoint whose weights a run starts from: a path, or the name of a bundled one.

    `sha256` is of its file, `mean` and `std` (of a pixel in 0..1) are those it was trained with.
    """

    checkpoint: str = Field(min_length=1, max_length=4096)
    sha256: Sha256
    mean: float = Field(ge=0, le=1)
    std: float = Field(ge=1e-3, le=1)


class TrainSettings(_FrozenModel):
    """Everything that decides what a training run computes, and nothing else.

    Directories are not settings, so that a run's `settings.json` can be replayed on another
    machine; the path of a user's own data set is.
    """

    recipe: Name
    model: ModelSettings
    dataset: DataName = "mnist"
    own_data: OwnData | None = None
    start: Start | None = Field(None, description="random weights if it is None")
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=60_000)
    optimizer: Annotated[OptimizerName, any_case(OptimizerName)] = "adam"
    lr: float = Field(1e-3, gt=0, le=100)
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(0.0, ge=0, le=10)
    schedule: Annotated[ScheduleName, any_case(ScheduleName)] = "constant"
    loss: Annotated[LossName, any_case(LossName)] = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: bool = False
    augmentation: Augmentation = Augmentation()
    composed: int = Field(
        0, ge=0, le=10_000_000, description="examples composed for reading pictures that are added"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weights' EMA; 0: off")
    val_size: float = Field(
        0.1, ge=0, le=59_999, description="a fraction of the training set below 1, else a count"
    )
    train_size: int | None = Field(
        None, ge=1, description="train on this many of the images that are not held out"
    )
    fold: Fold | None = Field(None, description="held out instead of val_size, which must be 0")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    device: Annotated[DeviceName, any_case(DeviceName)] = "auto"
    precision: Annotated[PrecisionName, any_case(PrecisionName)] = "auto"
    max_params: int | None = Field(None, ge=1, le=1_000_000_000)
    until: float | None = Field(
        None, ge=1, le=100, description="stop at this validation accuracy in %"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_retired(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in RETIRED}

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.fold and self.fold.number > self.fold.of:
            raise ValueError(f"there is no fold {self.fold.number} of {self.fold.of}")
        if self.own_data and not is_own_data(self.dataset):
            raise ValueError("own_data needs a dataset that is a path")
        if self.fold and self.val_size:
            raise ValueError("fold needs a val_size of 0")
        if self.until is not None and not self.holds_out:
            raise ValueError("until needs a val_size above 0, or a fold")
        if self.label_smoothing and self.loss == "nll":
            raise ValueError("label_smoothing needs loss cross-entropy")
        if isinstance(self.model, CnnSmallModel):
            size, num_uses = self.model.kernel_size, {3: 6, 5: 5, 7: 4}[self.model.kernel_size]
            if self.model.depthwise > num_uses:
                raise ValueError(
                    f"depthwise can be {num_uses} at most with a kernel_size of {size}"
                )
        width = get_architecture(self.arch).budget_setting
        if width and getattr(self.model, width) is None and self.max_params is None:
            raise ValueError(f"{self.arch} needs a {width} or max_params")
        return self

    @property
    def arch(self) -> str:
        """The name of the architecture."""
        return self.model.arch

    @property
    def holds_out(self) -> bool:
        """Whether a part of the training set is held out for validation."""
        return self.fold is not None or self.val_size > 0

    @property
    def split_key(self) -> tuple[object, ...]:
        """The settings that decide which images of the training set are held out."""
        return self.val_size, self.fold, self.seed

    @property
    def data_key(self) -> str:
        """What tells data sets apart: the digest of a user's own, the name of a known one."""
        return self.own_data.digest if self.own_data else self.dataset

    @property
    def network(self) -> dict[str, Any]:
        """The arguments of the network's class (see `models.registry.build_network`)."""
        num_classes = len(self.own_data.classes) if self.own_data else 10
        network = self.model.model_dump(exclude={"arch"})
        return network if num_classes == 10 else {**network, "num_classes": num_classes}


# Settings that are tables of settings, besides the model.
NESTED_SETTINGS: dict[str, type[BaseModel]] = {
    "augmentation": Augmentation,
    "fold": Fold,
    "own_data": OwnData,
    "start": Start,
}
