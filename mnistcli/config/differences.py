"""How the settings of two runs differ."""

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import RESUMABLE, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.models.registry import get_architecture


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


def differing_settings(one: TrainSettings, other: TrainSettings) -> list[str]:
    """The names of the settings that differ, but for CHANGEABLE ones."""
    ours, theirs = (each.model_dump(mode="json", exclude=set(RESUMABLE)) for each in (one, other))
    return [name for name in ours if ours[name] != theirs[name]]
