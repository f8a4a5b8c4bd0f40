"""Runs as points of a trade-off, their names, and published points from a file."""

from pathlib import Path

import pytest

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import SettingsError
from mnistcli.evaluation.pareto import (
    TradeoffPoint,
    group_repetitions,
    network_names,
    read_published_points,
    tradeoff_points,
)
from mnistcli.evaluation.scores import Score
from tests.helpers.evaluation import make_score

PUBLISHED = Path(__file__).parents[2] / "docs" / "public-records.csv"


def settings(**flags: object) -> TrainSettings:
    return resolve_settings(flags, environ={}).settings


def score(num_errors: int) -> Score:
    return make_score("x.pth", range(num_errors), num_images=10_000)


def test_runs_that_differ_in_their_seed_alone_make_one_point() -> None:
    evaluations = [
        (settings(width=18, seed=0), 964, score(110)),
        (settings(width=30, seed=0), 1_960, score(70)),
        (settings(width=18, seed=1), 964, score(130)),
        (settings(width=18, seed=1, epochs=3), 964, score(300)),
    ]
    small, large, short = tradeoff_points(evaluations, over="sizes")
    assert small.accuracies == pytest.approx((0.989, 0.987))
    assert (small.name, small.cost) == ("cnn-small", 964)
    assert (large.name, large.cost) == ("cnn-small", 1_960)
    assert short.accuracies == pytest.approx((0.97,))
    assert short.name == "cnn-small, epochs 3"


def test_folds_make_one_point_and_those_of_another_count_make_another() -> None:
    folds = [{"number": 1, "of": 5}, {"number": 2, "of": 5}, {"number": 1, "of": 3}]
    evaluations = [
        (settings(width=18, val_size=0, fold=fold), 964, score(num_errors))
        for fold, num_errors in zip(folds, (110, 130, 300), strict=True)
    ]
    five, three = tradeoff_points(evaluations, over="sizes")
    assert five.accuracies == pytest.approx((0.989, 0.987))
    assert three.accuracies == pytest.approx((0.97,))


def test_a_copy_is_no_repetition() -> None:
    first, again, second = (settings(width=18, seed=seed) for seed in (0, 0, 1))
    fold = settings(width=18, val_size=0, fold={"number": 2, "of": 3})
    other = settings(width=30)
    places = group_repetitions([first, again, other, second, fold, fold])
    assert places == [[0, 3], [2], [4]]
    evaluations = [(first, 964, score(110)), (again, 2_000, score(110))]
    (point,) = tradeoff_points(evaluations, over="sizes")
    assert point.cost == 964
    assert point.accuracies == pytest.approx((0.989,))
    assert tradeoff_points([], over="sizes") == []


def test_recipes_keep_their_order_and_sizes_are_sorted() -> None:
    evaluations = [
        (settings(recipe="sprint"), 46_778, score(80)),
        (settings(width=30), 1_960, score(70)),
        (settings(width=18), 964, score(110)),
    ]
    assert [each.cost for each in tradeoff_points(evaluations, over="sizes")] == [
        46_778,
        964,
        1_960,
    ]


def test_over_epochs_a_line_joins_trainings_of_one_network() -> None:
    evaluations = [
        (settings(max_params=1000, epochs=20), 60.0, score(120)),
        (settings(max_params=2000, lr=0.1), 50.0, score(90)),
        (settings(max_params=1000, epochs=10), 30.0, score(150)),
        (settings(recipe="sprint"), 5.0, score(80)),
    ]
    made = tradeoff_points(evaluations, over="epochs")
    assert [(each.name, each.cost) for each in made] == [
        ("cnn-small, max_params 1000", 30.0),
        ("cnn-small, max_params 1000", 60.0),
        ("cnn-small, max_params 2000", 50.0),
        ("sprint", 5.0),
    ]
    assert {each.name for each in tradeoff_points(evaluations[:3:2], over="sizes")} == {
        "cnn-small, epochs 20",
        "cnn-small, epochs 10",
    }


def test_networks_of_one_recipe_are_named_with_the_settings_that_distinguish_them() -> None:
    fold = {"number": 2, "of": 5}
    found = [
        settings(recipe="mlp-50-50", seed=3),
        settings(recipe="mlp-50-50", lr=0.1, schedule="constant"),
        settings(recipe="mlp-50-50", val_size=0, fold=fold),
        settings(recipe="sprint", epochs=3),
    ]
    assert network_names(found) == [
        "mlp-50-50, folds none, lr 0.01",
        "mlp-50-50, folds none, lr 0.1",
        "mlp-50-50, folds 5, lr 0.01",
        "sprint",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "digits"}, {"device": "cpu"}, {"precision": "bfloat16"}, {"until": 99},
        {"hidden": [60, 60]}, {"augment": True},
        {"augmentation": {"shift_px": 1}}, {"epochs": 3},
    ],
)  # fmt: skip
def test_no_two_networks_have_the_same_name(change: dict[str, object]) -> None:
    recipe, other = settings(recipe="mlp-50-50"), settings(recipe="mlp-50-50", **change)
    first, second = network_names([recipe, other])
    assert first != second
    evaluations = [(recipe, 10.0, score(100)), (other, 10.0, score(100))]
    is_size, is_length = "hidden" in change, "epochs" in change
    assert len({each.name for each in tradeoff_points(evaluations, over="sizes")}) == 2 - is_size
    assert len({each.name for each in tradeoff_points(evaluations, over="epochs")}) == 2 - is_length


def test_a_recipe_that_is_gone_still_makes_a_point() -> None:
    gone = settings(width=18).model_copy(update={"recipe": "cnn-tiny"})
    other = settings(recipe="mlp-50-50").model_copy(update={"recipe": "cnn-small"})
    evaluations = [
        (gone, 964, score(110)),
        (settings(), 7_976, score(50)),
        (other, 42_310, score(300)),
    ]
    for made in (
        tradeoff_points(evaluations, over="sizes"),
        tradeoff_points(evaluations, over="epochs"),
    ):
        assert [each.name.partition(",")[0] for each in made] == [
            "cnn-tiny",
            "cnn-small",
            "cnn-small",
        ]
        assert len({each.name for each in made}) == 3


def test_mean_and_deviation_of_a_point() -> None:
    point = TradeoffPoint("a", 1, (0.98, 0.99, 1.0))
    assert point.mean == pytest.approx(0.99)
    assert point.deviation == pytest.approx(0.01)  # the sample's: divided by n - 1
    assert TradeoffPoint("a", 1, (0.98,)).deviation is None


def test_the_published_records_are_points() -> None:
    points = {point.name: point for point in read_published_points(PUBLISHED)}
    mean = points["JoshWarn/Parameter-Efficient-MNIST, mean of 223 seeds"]
    assert mean.cost == 997
    assert mean.mean == pytest.approx(0.9876)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# only a comment\n", "no rows"),
        ("parameters,name\n1,a\n", "parameters, name"),
        ("parameters,accuracy,name\nmany,99,a\n", "many,99,a"),
        ("parameters,accuracy,name\n0,99,a\n", "0,99,a"),
        ("parameters,accuracy,name\n10,101,a\n", "10,101,a"),
        ("parameters,accuracy,name\n10,nan,a\n", "10,nan,a"),
        ("parameters,accuracy,name\n10\n", "10,,"),
        (None, "No such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "points.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match="published results") as refused:
        read_published_points(file)
    assert why in refused.value.why
