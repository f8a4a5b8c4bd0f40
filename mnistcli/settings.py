"""The settings of a training run: their bounds, their defaults, where each came from."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from mnistcli.errors import GateError, SettingsError, shorten, unknown_name
from mnistcli.registry import (
    DEFAULT_RECIPE,
    RECIPES,
    Recipe,
    count_parameters,
    get_architecture,
    get_recipe,
    widest_fitting,
)

# Characters of a settings file; a run's has 1,000. Longer keys would take TOML's reader minutes.
MAX_CONFIG_CHARACTERS = 16_384
MAX_SEED = 2**32 - 1
# Of a series, and so folds of a training set.
MAX_RUNS = 100
# Settings of earlier versions, which files may still hold; none of them changes a network.
RETIRED = frozenset(("compile", "teacher", "distillation"))
# Wrong settings that a message names.
MAX_PROBLEM_LINES = 20


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
    pool: Literal["each", "last"] = "each"
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
    dataset: Literal["mnist", "fashion-mnist", "kmnist", "digits"] = "mnist"
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=60_000)
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = Field(1e-3, gt=0, le=100)
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(0.0, ge=0, le=10)
    schedule: Literal["onecycle", "cosine", "step", "plateau", "constant"] = "constant"
    loss: Literal["cross-entropy", "nll"] = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: bool = False
    augmentation: Augmentation = Augmentation()
    ema: float = Field(0.0, ge=0, lt=1, description="decay a step of the averaged weights; 0: none")
    val_size: float = Field(
        0.1, ge=0, le=59_999, description="below 1 a fraction of the training set, else a count"
    )
    fold: Fold | None = Field(None, description="held out instead of val_size, which is 0 then")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
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


def repetition_key(settings: TrainSettings) -> str:
    """The settings without seed and fold, as one text: runs that are repetitions have the same."""
    fold = settings.fold and settings.fold.model_copy(update={"number": 1})
    return settings.model_copy(update={"seed": 0, "fold": fold}).model_dump_json()


def flatten_settings(settings: TrainSettings) -> dict[str, object]:
    """What tells trainings apart but their seed and fold, by name; the network comes first.

    The settings of tables stand for themselves. Of folds there is their number.
    """
    values = settings.model_dump(exclude={"recipe", "model", "seed", "fold"})
    network, augmentation = settings.network, values.pop("augmentation")
    folds = settings.fold and settings.fold.of
    return {
        "max_params": values.pop("max_params"),
        **network,
        "folds": folds,
        **values,
        **augmentation,
    }


def changes_from_recipe(settings: TrainSettings) -> dict[str, object]:
    """What of `flat` is not the recipe's own for the same size; all if there is no recipe."""
    own: dict[str, object] = {}
    if settings.recipe in RECIPES:
        budget = {"max_params": settings.max_params} if settings.max_params else {}
        name = get_architecture(settings.arch).budget_setting
        size = {name: settings.network[name]} if name else {}
        own = flatten_settings(
            resolve_settings({"recipe": settings.recipe, **budget, **size}, environ={}).settings
        )
        # The size is no recipe's own.
        own |= dict.fromkeys(size)
    return {
        name: value
        for name, value in flatten_settings(settings).items()
        if name not in own or value != own[name]
    }


@dataclass(frozen=True)
class Resolved:
    """Settings and, for every field that is not a built-in default, where its value came from.

    For a table that is where its strongest field did; each field has a source
    of its own too, as "augmentation.shift_px". A source reads "recipe cnn-small",
    "environment", "flag" or the path of a file.
    """

    settings: TrainSettings
    sources: Mapping[str, str]


def resolve_settings(
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    given_as: str = "flag",
) -> Resolved:
    """Built-in defaults < recipe < config file < `MNIST_*` environment < flags.

    The recipe's training may depend on the size of the network, so that is
    found first. `flags` holds only what was given; its key `arch` picks the architecture's
    default recipe. `environ` is usually `os.environ`. Given as "flag", a setting
    is called `--batch-size` in messages; given as "" it is `batch_size`.

    Raises:
        SettingsError: an unknown name, key or value; one line a field.
        GateError: `max_params` is below the smallest network of the architecture.
    """
    in_file = read_config(config) if config else {}
    # Strongest first.
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (given_as, flags),
        ("environment", _read_environ(environ)),
        (str(config), in_file),
    ]
    recipe, recipe_source = _pick_recipe(layers)
    _check_same_network(recipe, in_file, file=str(config), source=recipe_source)
    named = {"recipe": recipe.name, "arch": recipe.arch}

    def combined() -> Resolved:
        values, sources = _merge_layers(layers)
        values.update(named)
        sources.update(dict.fromkeys(named, recipe_source))
        _drop_weaker_size(values, sources, order=[source for source, _ in layers])
        return Resolved(_validate(values, sources), sources)

    own = f"recipe {recipe.name}"
    layers.append((own, {**recipe.training, **recipe.model}))
    resolved = combined()
    step = recipe.step(_size(resolved.settings)) if recipe.by_size else None
    if step is None:
        return resolved
    width = get_architecture(recipe.arch).budget_setting
    layers.insert(-1, (f"{own}, {width} up to {step}", recipe.by_size[step]))
    return combined()


def _merge_layers(
    layers: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """What layers, the strongest first, say together, tables field by field; and which say it."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in reversed(layers):
        for name, value in layer.items():
            weaker = values.get(name)
            sources[name] = source
            if name in _TABLES and isinstance(value, Mapping):
                values[name] = {**(weaker if isinstance(weaker, Mapping) else {}), **value}
                sources.update({f"{name}.{key}": source for key in value})
            else:
                values[name] = value
    return values, sources


def _size(settings: TrainSettings) -> int:
    """The network's `budget_setting`: as it is set, or the largest that fits `max_params`."""
    name = get_architecture(settings.arch).budget_setting
    assert name is not None
    size: int | None = getattr(settings.model, name)
    if size is None:
        assert settings.max_params is not None
        return widest_fitting(settings.arch, settings.max_params)
    return size


# The settings that are tables of settings, beside the model.
_TABLES: dict[str, type[BaseModel]] = {
    "augmentation": Augmentation,
    "fold": Fold,
}

# What may change when a run goes on: how far, and on what it is computed.
RESUMABLE = ("epochs", "until", "device", "precision")


def differing_settings(one: TrainSettings, other: TrainSettings) -> list[str]:
    """The names of the settings that differ, but for CHANGEABLE ones."""
    ours, theirs = (each.model_dump(mode="json", exclude=set(RESUMABLE)) for each in (one, other))
    return [name for name in ours if ours[name] != theirs[name]]


def resumed_settings(before: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """The settings of a run that goes on, with `changes` of CHANGEABLE ones.

    Raises:
        SettingsError: another setting is to change, or a value is wrong.
    """
    for name in changes:
        if name not in RESUMABLE:
            label = _label(name, "flag")
            raise SettingsError(
                f"{label} cannot be used with --resume.",
                why="A resumed run keeps its settings; only "
                f"{', '.join(f'--{each}' for each in RESUMABLE)} may change.",
                fix=f"Leave out {label}, or begin a new run with --config RUN/settings.json",
            )
    values = before.model_dump()
    values.update(values.pop("model"))
    return _validate({**values, **changes}, dict.fromkeys(changes, "flag"))


def _drop_weaker_size(values: dict[str, Any], sources: dict[str, str], *, order: list[str]) -> None:
    """Of a width and a budget that come from different places, keep the stronger one's.

    A width on the command line is not bound by the recipe's budget, and a
    budget there is not bound by the width that a replayed run was given.
    """
    width = get_architecture(values["arch"]).budget_setting
    if width in values and "max_params" in values and sources[width] != sources["max_params"]:
        weaker = max((width, "max_params"), key=lambda name: order.index(sources[name]))
        del values[weaker], sources[weaker]


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON or TOML file, the keys of its `model` table among the others.

    Raises:
        SettingsError: the file cannot be read, is broken, or holds no table.
    """
    if path.is_file() and path.suffix not in (".json", ".toml"):
        raise SettingsError(
            f"Cannot tell what {path} is.",
            why="Settings are read from .json and .toml files.",
            fix="Give --config such a file; the settings.json of any run shows the form.",
        )
    try:
        text = _read_text(path)
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingsError(
            f"Cannot read the settings file {path}.",
            why=f"{error.strerror}.",
            fix="Give --config a JSON or TOML file, such as the settings.json of a run.",
        ) from error
    # ValueError: also JSONDecodeError, TOMLDecodeError, UnicodeDecodeError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"The settings file {path} is broken.",
            why=f"{shorten(error)}.",
            fix="Mend the file; the settings.json of any run shows the form.",
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"The settings file {path} holds no settings.",
            why=f"It holds a {type(values).__name__} where a table of names and values belongs.",
            fix="The settings.json of any run shows the form.",
        )
    model = values.pop("model", {})
    if isinstance(model, dict) and "model" in model:
        raise SettingsError(
            f"The settings file {path} has a model in its model.",
            why="A network is described by one table.",
            fix="Mend the file; the settings.json of any run shows the form.",
        )
    return {**values, **(model if isinstance(model, dict) else {"model": model})}


def _read_text(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MAX_CONFIG_CHARACTERS + 1)
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise ValueError(f"It has more than {MAX_CONFIG_CHARACTERS:,} characters")
    return text


# What several runs are made by is no setting of one.
_ONLY_FLAGS = {"MNIST_SEEDS": "--seeds", "MNIST_FOLDS": "--folds"}


def misspelled_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that set nothing but are nearly called as one that does, with that.

    Of those that only a flag can say, the flag.
    """
    known = {"MNIST_DATA_DIR", *_variables()}
    settable = sorted(known - {f"MNIST_{name.upper()}" for name in ("model", *_TABLES)})
    found = {name: flag for name, flag in _ONLY_FLAGS.items() if name in environ}
    for name in sorted(environ.keys() - known - found.keys()):
        if name.startswith("MNIST_") and (near := get_close_matches(name, settable, 1, 0.9)):
            found[name] = near[0]
    return found


def _variables() -> dict[str, str]:
    """The settings that environment variables set, by the names of these."""
    names = [*TrainSettings.model_fields, "arch", *MODEL_FIELDS]
    return {f"MNIST_{name.upper()}": name for name in names}


def _read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: environ[variable] for variable, name in _variables().items() if environ.get(variable)
    }


def _pick_recipe(
    layers: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[Recipe, str]:
    """The recipe of the strongest layer that names a recipe or an architecture; and the layer.

    A recipe of a weaker layer counts if it is of the architecture wanted.
    """
    wanted, wanted_by = None, "default"
    for source, layer in layers:
        named = {
            key: _as_text(layer[key]) for key in ("recipe", "arch") if layer.get(key) is not None
        }
        arch = get_architecture(named["arch"]) if "arch" in named else None
        recipe = get_recipe(named["recipe"]) if "recipe" in named else None
        if arch and recipe and recipe.arch != arch.name:
            raise SettingsError(
                f"The recipe {recipe.name} is no {arch.name}.",
                why=f"It trains the architecture {recipe.arch}.",
                fix=f"Leave out --arch, or use --recipe {arch.default_recipe}",
            )
        if recipe and (wanted is None or wanted.name == recipe.arch):
            return recipe, source if wanted is None else wanted_by
        if arch and wanted is None:
            wanted, wanted_by = arch, source
    return get_recipe(wanted.default_recipe if wanted else DEFAULT_RECIPE), wanted_by


def _check_same_network(
    recipe: Recipe, in_file: Mapping[str, Any], *, file: str, source: str
) -> None:
    """Refuse a settings file that describes the network of another recipe or architecture."""
    if not any(name in in_file for name in MODEL_FIELDS):
        return
    for key, value in (("recipe", recipe.name), ("arch", recipe.arch)):
        if in_file.get(key) is not None and in_file[key] != value:
            raise SettingsError(
                f"{file} is for the {key} {in_file[key]}, not {value}.",
                why=f"It describes that one's network, and {_label(key, source)} asks for another.",
                fix=f"Leave out --config or {_label(key, source)}.",
            )


def fit_budget(settings: TrainSettings) -> TrainSettings:
    """The same settings with the width chosen, or an error if the network is over `max_params`.

    Raises:
        GateError: the network has more parameters than allowed.
    """
    model, budget = settings.model, settings.max_params
    if budget is None:
        return settings
    width = get_architecture(settings.arch).budget_setting
    if width and getattr(model, width) is None:
        chosen = model.model_copy(update={width: _size(settings)})
        return settings.model_copy(update={"model": chosen})
    num_params = count_parameters(settings.arch, settings.network)
    if num_params > budget:
        raise GateError(
            f"{settings.recipe} has {num_params:,} parameters, more than {budget:,}.",
            why="Its size is fixed by its settings.",
            fix=f"{f'Leave out --{width}' if width else 'Use --arch cnn-small'}, "
            f"or allow more: --max-params {num_params}",
        )
    return settings


def _validate(values: Mapping[str, Any], sources: Mapping[str, str]) -> TrainSettings:
    model = {name: values[name] for name in ("arch", *MODEL_FIELDS) if name in values}
    rest = {name: value for name, value in values.items() if name not in model}
    try:
        return TrainSettings.model_validate({"model": model, **rest})
    except ValidationError as error:
        lines = [_explain(problem, values["arch"], sources) for problem in error.errors()]
        count = "A setting is" if len(lines) == 1 else f"{len(lines)} settings are"
        if len(lines) > MAX_PROBLEM_LINES:
            lines[MAX_PROBLEM_LINES:] = [f"… and {len(lines) - MAX_PROBLEM_LINES} more."]
        raise SettingsError(
            f"{count} wrong.",
            why="\n".join(lines),
            fix="mnist train --help lists every setting.",
        ) from None  # it says all that pydantic's error does


def _explain(problem: Any, arch: str, sources: Mapping[str, str]) -> str:
    """One line for one thing pydantic found wrong: the field, what is wrong, what is right."""
    path = problem["loc"]
    if not path:
        return f"{problem['msg'].removeprefix('Value error, ')}."
    if path[0] == "model" and len(path) > 1:
        path = path[2:]  # ("model", its architecture, the field)
    name = ".".join(part for part in path if isinstance(part, str))
    label = _label(name, sources.get(path[0], ""))
    if problem["type"] == "extra_forbidden":
        return f"{label}: {_unknown(name, arch)}"
    if problem["type"] == "missing":
        return f"{label}: {arch} needs it."
    given = _as_text(problem["input"])
    shown = given if len(given) <= 40 else f"{given[:40]}…"
    return f"{label}: {shown} will not do; it must be {_bounds(name, arch) or problem['msg']}."


def _as_text(value: object) -> str:
    """A value of any file, as text: one that has no end, or is too long to write, by its kind."""
    try:
        return str(value)
    # Tables in tables in tables; a number of more digits than Python writes.
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a record, and where: "settings.lr: Input should …"."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return shorten(f"{place}: {problem['msg']}" if place else problem["msg"])


def _label(name: str, source: str) -> str:
    name = shorten(name)
    if source == "flag":
        return f"--{name.replace('_', '-')}"
    if source == "environment":
        return f"MNIST_{name.upper()}"
    return f"{name} (in {source})" if source else name


def _unknown(name: str, arch: str) -> str:
    if name in MODEL_FIELDS:
        return f"the architecture {arch} has no such setting."
    return f"no such setting. {unknown_name('setting', name, {*_fields(arch), *MODEL_FIELDS}).fix}"


def _fields(arch: str) -> dict[str, FieldInfo]:
    """All settings by name, those of one architecture and of nested tables among them."""
    nested = {
        f"{table}.{name}": field
        for table, model in _TABLES.items()
        for name, field in model.model_fields.items()
    }
    return MODELS[arch].model_fields | TrainSettings.model_fields | nested


def _bounds(name: str, arch: str) -> str:
    """What a field takes, in words: "a whole number from 1 to 10,000"."""
    field = _fields(arch).get(name)
    if field is None:
        return ""
    if name in ("hidden", "channels"):
        at_least = "1 to 32" if name == "channels" else "up to 32"
        return f"{at_least} whole numbers from 1 to 65,536"
    if name in ("model", *_TABLES):
        return "a table of settings"
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(get_args(field.annotation))}"
    if field.annotation is bool:
        return "true or false"
    is_whole = field.annotation in (int, int | None)
    kind = "a whole number" if is_whole else "a number"
    limits = {
        key: value
        for constraint in field.metadata
        for key in ("ge", "gt", "le", "lt")
        if (value := getattr(constraint, key, None)) is not None
    }
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return f"{kind} {' and '.join(f'{words[key]} {value:,}' for key, value in limits.items())}"
