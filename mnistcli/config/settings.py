"""The settings of a training run: their bounds, their defaults, where each came from."""

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
    DatasetName,
    DeviceName,
    LossName,
    OptimizerName,
    Pooling,
    PrecisionName,
    ScheduleName,
)
from mnistcli.models.registry import get_architecture

MAX_SEED = 2**32 - 1
# Of a series, and so folds of a training set.
MAX_RUNS = 100
# Settings of earlier versions, which files may still hold; none of them changes a network.
RETIRED = frozenset(("compile", "teacher", "distillation"))


def split_list(value: object) -> object:
    """The parts of a text such as "120,84" or "120 84"; anything else as it is."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def require_printable(text: str) -> str:
    """The text, if a terminal shows it as it is."""
    if not text.isprintable():
        raise ValueError("it has characters that cannot be shown")
    return text


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(require_printable)]
Count = Annotated[int, Field(ge=1, le=65_536)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Sizes = Annotated[tuple[Count, ...], Field(max_length=32), BeforeValidator(split_list)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AnnModel(_Frozen):
    """A member of `ann`: hidden layer sizes and the dropout after each."""

    arch: Literal["ann"] = "ann"
    hidden: Sizes
    dropout: Dropout


class MlpModel(_Frozen):
    """A member of `mlp`: hidden layer sizes and the dropout after each."""

    arch: Literal["mlp"] = "mlp"
    hidden: Sizes
    dropout: Dropout


class CnnModel(_Frozen):
    """A member of `cnn`: channels of each stage, its kernel, where it pools, the layers after."""

    arch: Literal["cnn"] = "cnn"
    channels: Annotated[Sizes, Field(min_length=1)]
    kernel_size: int = Field(ge=1, le=28)
    padding: int = Field(ge=0, le=14)
    pool: Pooling = "each"
    batch_norm: bool = False
    hidden: Sizes
    dropout: Dropout


class CnnDeepModel(_Frozen):
    """A member of `cnn-deep`: channels of each stage, dropout after each."""

    arch: Literal["cnn-deep"] = "cnn-deep"
    channels: Annotated[Sizes, Field(min_length=1)]
    dropout: Dropout


class CnnSmallModel(_Frozen):
    """A member of `cnn-small`: its width."""

    arch: Literal["cnn-small"] = "cnn-small"
    width: int | None = Field(None, ge=1, le=32_768, description="None: the widest that fits")


ModelSettings = Annotated[
    AnnModel | MlpModel | CnnModel | CnnDeepModel | CnnSmallModel, Field(discriminator="arch")
]

MODELS: dict[str, type[BaseModel]] = {
    model.model_fields["arch"].default: model
    for model in (AnnModel, MlpModel, CnnModel, CnnDeepModel, CnnSmallModel)
}

# The settings of any family; which of them a family takes is its class's business.
MODEL_FIELDS = tuple(
    sorted({name for model in MODELS.values() for name in model.model_fields} - {"arch"})
)


class Augmentation(_Frozen):
    """Random affine maps, drawn uniformly and independently for every image of a batch."""

    rotate_degrees: float = Field(9.0, ge=0, le=180)
    scale_fraction: float = Field(0.1, ge=0, lt=1)
    shear_degrees: float = Field(5.0, ge=0, le=60)
    shift_px: float = Field(1.5, ge=0, le=14)


class Fold(_Frozen):
    """Which of the `of` parts of a shuffled training set is held out; `number` counts from 1."""

    number: int = Field(ge=1, le=MAX_RUNS)
    of: int = Field(ge=2, le=MAX_RUNS)


class TrainSettings(_Frozen):
    """Everything that decides what a training run computes, and nothing else.

    Where the run is written and where the data lie are not settings: the file
    `settings.json` of a run can be replayed on another machine.
    """

    recipe: Name
    model: ModelSettings
    dataset: DatasetName = "mnist"
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=60_000)
    optimizer: OptimizerName = "adam"
    lr: float = Field(1e-3, gt=0, le=100)
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(0.0, ge=0, le=10)
    schedule: ScheduleName = "constant"
    loss: LossName = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: bool = False
    augmentation: Augmentation = Augmentation()
    ema: float = Field(0.0, ge=0, lt=1, description="decay a step of the averaged weights; 0: none")
    val_size: float = Field(
        0.1, ge=0, le=59_999, description="below 1 a fraction of the training set, else a count"
    )
    fold: Fold | None = Field(None, description="held out instead of val_size, which is 0 then")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    device: DeviceName = "auto"
    precision: PrecisionName = "auto"
    max_params: int | None = Field(None, ge=1, le=1_000_000_000)
    until: float | None = Field(
        None, ge=1, le=100, description="stop at this validation accuracy in %; None: never"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_retired(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in RETIRED}

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.fold and self.fold.number > self.fold.of:
            raise ValueError(f"there is no fold {self.fold.number} of {self.fold.of}")
        if self.fold and self.val_size:
            raise ValueError("fold needs a val_size of 0")
        if self.until is not None and not self.holds_out:
            raise ValueError("until needs a val_size above 0, or a fold")
        if self.label_smoothing and self.loss == "nll":
            raise ValueError("label_smoothing needs loss cross-entropy")
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
    def division(self) -> tuple[object, ...]:
        """What decides which images of a data set are held out, beside the data set."""
        return self.val_size, self.fold, self.seed

    @property
    def network(self) -> dict[str, Any]:
        """What `registry.build` takes beside the name of the architecture."""
        return self.model.model_dump(exclude={"arch"})


# The settings that are tables of settings, beside the model.
NESTED_SETTINGS: dict[str, type[BaseModel]] = {
    "augmentation": Augmentation,
    "fold": Fold,
}
