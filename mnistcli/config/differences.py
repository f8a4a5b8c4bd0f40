"""How the settings of runs differ, and their values as text."""

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import RESUMABLE, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.models.registry import get_architecture


def repetition_key(settings: TrainSettings) -> str:
    """The settings without seed and fold, as text: equal for runs that repeat each other."""
    fold = settings.fold and settings.fold.model_copy(update={"number": 1})
    return settings.model_copy(update={"seed": 0, "fold": fold}).model_dump_json()


def flatten_settings(settings: TrainSettings) -> dict[str, object]:
    """All settings but recipe, seed and fold number in one table, those of the network first."""
    values = settings.model_dump(exclude={"recipe", "model", "seed", "fold", "own_data"})
    max_params, augmentation = values.pop("max_params"), values.pop("augmentation")
    values["start"] = settings.start and settings.start.checkpoint
    return {
        "max_params": max_params,
        **settings.network,
        "folds": settings.fold and settings.fold.of,
        **values,
        **augmentation,
    }


def format_value(value: object) -> str:
    """The value of a setting: lists with spaces, yes and no, none."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def changes_from_recipe(settings: TrainSettings) -> dict[str, object]:
    """The flattened settings that differ from the recipe's for the same size.

    All of them if the recipe is unknown.
    """
    own: dict[str, object] = {}
    if settings.recipe in RECIPES:
        budget = {"max_params": settings.max_params} if settings.max_params else {}
        name = get_architecture(settings.arch).budget_setting
        size = {name: settings.network[name]} if name else {}
        flags = {"recipe": settings.recipe, "dataset": settings.dataset, **budget, **size}
        own = flatten_settings(resolve_settings(flags, environ={}).settings)
        # No size is the recipe's own, and no data set but the default.
        own |= {**dict.fromkeys(size), "dataset": TrainSettings.model_fields["dataset"].default}
    return {
        name: value
        for name, value in flatten_settings(settings).items()
        if name not in own or value != own[name]
    }


def run_changes(settings: TrainSettings) -> dict[str, object]:
    """As `changes_from_recipe`, and which repetition it is: the fold, and a seed above 0."""
    changes = changes_from_recipe(settings)
    if settings.fold:
        changes["fold"] = settings.fold.number
    if settings.seed:
        changes["seed"] = settings.seed
    return changes


def differing_settings(one: TrainSettings, other: TrainSettings) -> list[str]:
    """The names of the settings that differ, apart from RESUMABLE ones and a moved data set."""
    is_moved = one.own_data is not None and one.own_data == other.own_data
    excluded = {*RESUMABLE, *(["dataset"] if is_moved else [])}
    first, second = (
        settings.model_dump(mode="json", exclude=excluded) for settings in (one, other)
    )
    return [name for name in first if first[name] != second[name]]
