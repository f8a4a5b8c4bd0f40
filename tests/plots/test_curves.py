"""Curves of loss and accuracy: their data, marks, axes and names."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from mnistcli.plots.figures import curves, seeds
from mnistcli.plots.style import MARKERS
from tests.helpers.figures import line_data, make_history, saturating_history, texts


def test_curves_show_the_epochs_on_a_log_loss_and_a_linear_accuracy_axis() -> None:
    figure = curves({"a": make_history([0.97, 0.98, 0.99], [0.95, 0.96, 0.97])})
    loss, accuracy, _ = figure.axes
    assert_allclose(line_data(accuracy, "-"), ([1, 2, 3], [97, 98, 99]))
    assert_allclose(line_data(accuracy, "--"), ([1, 2, 3], [95, 96, 97]))
    assert_allclose(line_data(loss, "-"), ([1, 2, 3], [0.09, 0.06, 0.03]))
    assert_allclose(line_data(loss, "--"), ([1, 2, 3], [0.15, 0.12, 0.09]))
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    # A loss of 0 has no logarithm.
    assert curves({"a": make_history([0.99, 1.0])}).axes[0].get_yscale() == "linear"


def test_the_best_epoch_is_marked_in_both_panels() -> None:
    epochs = make_history([0.97, 0.99, 0.99, 0.98])
    epochs[2] = replace(epochs[2], val_loss=0.02)
    figure = curves({"a": epochs})
    loss, accuracy, _ = figure.axes
    assert_allclose(line_data(accuracy, "None"), ([3], [99]))
    assert_allclose(line_data(loss, "None"), ([3], [0.02]))
    assert "best: 99.00 % in epoch 3" in texts(figure)


def test_a_low_first_epoch_is_cut_off_with_a_note() -> None:
    figure = curves({"a": make_history([0.6, 0.985, 0.995], [0.5, 0.98, 0.99])})
    low, high = figure.axes[1].get_ylim()
    # The worst curve ends at 1 % error; three times that, and 5 % of the span as a margin.
    assert low == pytest.approx(97 - 0.05 * 2.5)
    assert 99.5 < high < 100
    assert "points down to 50.0 % cut off" in texts(figure)
    near = curves({"a": make_history([0.91, 0.92, 0.93], [0.9, 0.91, 0.92])})
    assert near.axes[1].get_ylim()[0] < 90
    assert not [text for text in texts(near) if "cut off" in text]


def test_perfect_training_does_not_hide_the_validation() -> None:
    low, high = curves({"a": make_history([1.0, 1.0, 0.995], [0.5, 1.0, 1.0])}).axes[1].get_ylim()
    assert low < 99.1
    assert 100 < high < 100.5


@pytest.mark.parametrize(
    "figure",
    [
        curves({"a": make_history([None, None], [0.9, 0.95])}),
        seeds({"blind": [make_history([None, None]), make_history([None, None])]}),
    ],
)
def test_without_validation_only_training_is_drawn(figure: Figure) -> None:
    assert [line.get_linestyle() for line in figure.axes[1].lines] == ["--"]
    shown = texts(figure)
    assert "training" in shown
    assert not [text for text in shown if "validation" in text or "best" in text]


@pytest.mark.parametrize("val", [0.995, None])
def test_one_epoch_beside_more_shows_points(val: float | None) -> None:
    ax = curves({"a": make_history([val]), "b": make_history([0.5, 0.6])}).axes[1]
    assert all(line.get_marker() not in ("", "None") for line in ax.lines)


@pytest.mark.parametrize(
    ("val", "stated"),
    [(0.995, "a: validation 99.50 %, loss 0.0150; training 97.00"), (None, "a: training 97.00 %")],
)
def test_one_epoch_is_a_sentence_without_axes(val: float | None, stated: str) -> None:
    figure = curves({"a": make_history([val], [0.97]), "b": make_history([0.9])})
    assert not figure.axes
    (message,) = (text for text in texts(figure) if text.startswith("a: "))
    assert " ".join(message.split()).startswith(stated)
    assert "b: validation 90.00 %" in " ".join(message.split())
    mean = seeds({"two": [make_history([0.8]), make_history([0.9])]})
    assert any("85.00 ± 7.07 %  two, n = 2" in text for text in texts(mean))


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.95, 0.99, 0.9999])
def test_every_loss_axis_has_two_ticks_or_more(accuracy: float) -> None:
    ax = curves({"a": make_history([accuracy] * 2, [accuracy] * 2)}).axes[0]
    low, high = ax.get_ylim()
    assert len([tick for tick in ax.get_yticks() if low <= tick <= high]) >= 2


def test_twelve_runs_differ_in_color_and_marker() -> None:
    runs = {f"run-{i}": saturating_history(20 + i) for i in range(12)}
    lines = curves(runs).axes[1].lines
    marks = [line for line in lines if line.get_linestyle() == "None"]
    assert len({line.get_color() for line in marks}) == 12
    assert len({line.get_marker() for line in marks}) > 5


def test_each_run_is_named_with_its_best_accuracy_and_long_names_keep_both_ends() -> None:
    # Matplotlib would read some of these as markup, or leave them out.
    names = ["$x_{", "_hidden", "50 %", "[bold]", "a" * 40 + "b" * 40]
    histories = {name: make_history([0.99, 0.98]) for name in names}
    shown = texts(curves({**histories, "without epochs": []}))
    expected = [*names[:-1], f"{'a' * 23} … {'b' * 22}"]
    assert [text for text in shown if "99.00 %" in text] == [f"99.00 %  {n}" for n in expected]


def test_only_a_single_run_has_its_learning_rate_below() -> None:
    rates = (1, 3, 2)
    epochs = [replace(e, lr=lr) for e, lr in zip(saturating_history(3), rates, strict=True)]
    figure = curves({"five/seed-0": epochs})
    rate = figure.axes[2]
    assert_allclose(line_data(rate, "-"), ([1, 2, 3], rates))
    assert rate.get_ylim()[0] == 0
    assert {"learning rate", "five/seed-0"} <= set(texts(figure))
    assert len(curves({"a": epochs, "b": epochs}).axes) == 2


def test_seeds_are_drawn_as_their_mean_with_a_band_of_one_deviation() -> None:
    runs = [make_history([0.97, 0.98]), make_history([0.98, 0.99])]
    runs.append(make_history([0.99, 0.97, 0.96]))
    figure = seeds({"quick": runs, "alone": [make_history([0.99])]})
    loss, accuracy = figure.axes
    # The sample's deviation of 97, 98 and 99 is 1; the third epoch, which one has, is left out.
    mean = accuracy.lines[1]
    assert_allclose(np.asarray(mean.get_xydata()), [[1, 98], [2, 98]])
    (band,), (loss_band,) = accuracy.collections, loss.collections
    assert_allclose(band.get_paths()[0].get_extents().intervaly, [97, 99])
    assert_allclose(loss_band.get_paths()[0].get_extents().intervaly, [0.03, 0.09])
    # Of the best epochs: 98, 99 and 99.
    labels = {"best epochs: 98.67 ± 0.58 %  quick, n = 3", "99.00 %  alone", "mean ± SD, n runs"}
    assert labels <= set(texts(figure))


def test_bands_stay_above_no_loss_and_below_perfect_accuracy() -> None:
    loss, accuracy = seeds({"far": [make_history([1.0] * 2), make_history([0.5] * 2)]}).axes
    assert loss.collections[0].get_paths()[0].get_extents().y0 > 0
    assert accuracy.collections[0].get_paths()[0].get_extents().y1 == 100


def test_of_equal_mean_accuracies_the_one_with_the_lower_loss_is_marked() -> None:
    losses = (0.3, 0.1, 0.2)
    runs = [
        [replace(e, val_loss=loss) for e, loss in zip(make_history([v] * 3), losses, strict=True)]
        for v in (0.98, 0.99)
    ]
    accuracy = seeds({"equal": runs}).axes[1]
    (mark,) = (line for line in accuracy.lines if line.get_marker() == MARKERS[0])
    assert_allclose(np.asarray(mark.get_xydata()), [[2, 98.5]])
