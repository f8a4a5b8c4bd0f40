"""How the settings of runs differ."""

from mnistcli.config.differences import changes_from_recipe, differing_settings, repetition_key
from mnistcli.config.resolve import fit_budget
from tests.helpers.settings import resolve


def test_a_size_alone_is_the_only_change_to_a_recipe() -> None:
    assert changes_from_recipe(resolve(width=18)) == {"width": 18}
    small = fit_budget(resolve(max_params=1000, epochs=9))
    assert changes_from_recipe(small) == {"width": 18, "epochs": 9}


def test_seeds_and_folds_repeat_each_other() -> None:
    first = resolve(fold={"number": 1, "of": 5}, val_size=0)
    second = resolve(fold={"number": 2, "of": 5}, val_size=0, seed=3)
    assert repetition_key(first) == repetition_key(second)
    assert repetition_key(first) != repetition_key(resolve())


def test_what_may_change_on_resuming_is_not_a_difference() -> None:
    before, after = resolve(), resolve(epochs=99, device="cpu", lr=0.5, seed=1)
    assert differing_settings(before, after) == ["lr", "seed"]
