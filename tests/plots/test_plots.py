"""What the pictures show, how they are saved, and what they never touch."""

import io
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.testing import assert_allclose

from mnistcli import plots
from mnistcli.errors import RunError, SettingsError
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.pareto import TradeoffPoint
from mnistcli.evaluation.scores import Mistake
from mnistcli.plots.style import MARKERS, PALE
from mnistcli.runs.history import EpochResult

DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
RNG = np.random.default_rng(0)


def history(val: Sequence[float | None], train: Sequence[float] | None = None) -> list[EpochResult]:
    """Epochs with these validation and training accuracies; each loss is 3 (1 - accuracy)."""
    train = train or [0.99] * len(val)
    return [
        EpochResult(
            epoch=epoch,
            lr=0.1,
            train_loss=3 * (1 - t),
            train_accuracy=t,
            val_loss=None if v is None else 3 * (1 - v),
            val_accuracy=v,
            seconds=1.0,
            images_per_second=1.0,
        )
        for epoch, (v, t) in enumerate(zip(val, train, strict=True), start=1)
    ]


def saturating(num_epochs: int, best: float = 0.995) -> list[EpochResult]:
    val = [best - (best - 0.6) * math.exp(-8 * e / num_epochs) for e in range(num_epochs)]
    return history(val, [v - 0.005 for v in val])


def drawn(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text that reaches the page, its box in pixels and its rotation.

    Taken as it is drawn: `findobj` also returns ticks beyond the end of an axis.
    """
    found: dict[Text, tuple[str, Bbox, float]] = {}  # the layout draws too; the last one counts
    draw = Text.draw

    def record(text: Text, *args: Any) -> None:
        if text.get_visible() and text.get_text():
            found[text] = (text.get_text(), text.get_window_extent(), text.get_rotation())
        draw(text, *args)

    with mock.patch.object(Text, "draw", record):
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [*found.values()]


def texts(figure: Figure) -> list[str]:
    return [text for text, _, _ in drawn(figure)]


def curve(ax: Axes, style: str) -> Any:
    """The x and y of the only line in this style."""
    (line,) = (line for line in ax.lines if line.get_linestyle() == style)
    return line.get_data()


def pictures(num: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return RNG.integers(0, 256, (num, 28, 28), dtype=np.uint8)


def make_mistakes(num: int, *, total: int, classes: Sequence[str] = DIGITS) -> Figure:
    misread = [
        Mistake(n, label=n % 10, predicted=(n + 1) % 10, probability=0.9, label_probability=0.092)
        for n in range(num)
    ]
    return plots.mistakes(
        pictures(num), misread, classes=classes, title="net on the test set", total=total
    )


def confusion_counts() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    counts_KK = np.diag(np.full(10, 1000))
    counts_KK[4, 9], counts_KK[9, 4], counts_KK[3, 5] = 8, 5, 1
    return counts_KK


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of upright texts whose boxes, less a pixel all round, meet."""
    boxes = [(text, box.padded(-1)) for text, box, rotation in drawn(figure) if rotation % 90 == 0]
    return [
        (a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)
    ]


def outside(figure: Figure) -> list[str]:
    """Texts that the edge of the figure cuts off."""
    page = figure.bbox.padded(1)
    return [
        text
        for text, box, _ in drawn(figure)
        if not all(page.contains(x, y) for x, y in box.corners())
    ]


def test_curves_draw_the_records() -> None:
    figure = plots.curves({"a": history([0.97, 0.98, 0.99], [0.95, 0.96, 0.97])})
    loss, accuracy, _ = figure.axes
    assert_allclose(curve(accuracy, "-"), ([1, 2, 3], [97, 98, 99]))
    assert_allclose(curve(accuracy, "--"), ([1, 2, 3], [95, 96, 97]))
    assert_allclose(curve(loss, "-"), ([1, 2, 3], [0.09, 0.06, 0.03]))
    assert_allclose(curve(loss, "--"), ([1, 2, 3], [0.15, 0.12, 0.09]))
    assert loss.get_yscale() == "log"


def test_the_epoch_that_training_keeps_is_marked_in_both_panels() -> None:
    epochs = history([0.97, 0.99, 0.99, 0.98])
    epochs[2] = replace(epochs[2], val_loss=0.02)
    figure = plots.curves({"a": epochs})
    loss, accuracy, _ = figure.axes
    assert_allclose(curve(accuracy, "None"), ([3], [99]))
    assert_allclose(curve(loss, "None"), ([3], [0.02]))
    assert "best: 99.00 % in epoch 3" in texts(figure)


def test_a_bad_first_epoch_is_cut_off_and_a_note_says_so() -> None:
    figure = plots.curves({"a": history([0.6, 0.985, 0.995], [0.5, 0.98, 0.99])})
    low, high = figure.axes[1].get_ylim()
    # The worst curve ends at 1 % error; three times that, and 5 % of the span as a margin.
    assert low == pytest.approx(97 - 0.05 * 2.5)
    assert 99.5 < high < 100
    assert "points down to 50.0 % cut off" in texts(figure)


def test_nothing_is_cut_off_where_all_points_are_near() -> None:
    figure = plots.curves({"a": history([0.91, 0.92, 0.93], [0.9, 0.91, 0.92])})
    assert figure.axes[1].get_ylim()[0] < 90
    assert not [text for text in texts(figure) if "cut off" in text]


def test_perfect_training_does_not_hide_the_validation() -> None:
    figure = plots.curves({"a": history([1.0, 1.0, 0.995], [0.5, 1.0, 1.0])})
    low, high = figure.axes[1].get_ylim()
    assert low < 99.1
    assert 100 < high < 100.5


def test_curves_without_validation() -> None:
    figure = plots.curves({"a": history([None, None], [0.9, 0.95])})
    assert [line.get_linestyle() for line in figure.axes[1].lines] == ["--"]
    shown = texts(figure)
    assert "training" in shown
    assert not [text for text in shown if "validation" in text or "best" in text]


@pytest.mark.parametrize("val", [0.995, None])
def test_one_epoch_shows_points_and_one_tick(val: float | None) -> None:
    figure = plots.curves({"a": history([val])})
    assert all(line.get_marker() not in ("", "None") for line in figure.axes[1].lines)
    texts(figure)
    low, high = figure.axes[1].get_xlim()
    assert [x for x in figure.axes[1].get_xticks() if low <= x <= high] == [1]


def test_a_loss_of_zero_has_a_linear_axis() -> None:
    figure = plots.curves({"a": history([0.99, 1.0])})
    assert figure.axes[0].get_yscale() == "linear"


def test_every_loss_axis_has_two_ticks_or_more() -> None:
    for accuracy in (0.5, 0.9, 0.95, 0.99, 0.9999):
        ax = plots.curves({"a": history([accuracy], [accuracy])}).axes[0]
        low, high = ax.get_ylim()
        assert len([tick for tick in ax.get_yticks() if low <= tick <= high]) >= 2


def test_twelve_runs_differ_in_colour_and_marker_and_are_all_named() -> None:
    runs = {f"run-{i:02}-{'x' * 33}": saturating(20 + i, 0.99 + i / 2500) for i in range(12)}
    figure = plots.curves(runs)
    marks = [line for line in figure.axes[1].lines if line.get_linestyle() == "None"]
    assert len({line.get_color() for line in marks}) == 12
    assert len({line.get_marker() for line in marks}) > 5
    shown = texts(figure)
    for name, epochs in runs.items():
        best = max(e.val_accuracy or 0 for e in epochs)
        assert f"{100 * best:.2f} %  {name}" in shown


def test_a_long_name_keeps_both_ends() -> None:
    runs = {name: history([0.99]) for name in ("short", "a" * 40 + "b" * 40)}
    assert f"99.00 %  {'a' * 23} … {'b' * 22}" in texts(plots.curves(runs))


def test_names_are_text_and_not_markup() -> None:
    names = ("$x_{", "_hidden", "50 %", "[bold]")
    shown = texts(plots.curves({name: history([0.99, 0.98]) for name in names}))
    assert {f"99.00 %  {name}" for name in names} <= set(shown)


def test_the_learning_rate_stands_below_a_single_run_only() -> None:
    epochs = [replace(each, lr=rate) for each, rate in zip(saturating(3), (1, 3, 2), strict=True)]
    figure = plots.curves({"a": epochs})
    rate = figure.axes[2]
    assert_allclose(curve(rate, "-"), ([1, 2, 3], [1, 3, 2]))
    assert "learning rate" in texts(figure)
    assert rate.get_ylim()[0] == 0
    assert len(plots.curves({"a": epochs, "b": epochs}).axes) == 2


def test_seeds_are_their_mean_with_a_band_of_one_deviation() -> None:
    seeds = [history([0.97, 0.98]), history([0.98, 0.99]), history([0.99, 0.97, 0.96])]
    figure = plots.curves_with_spread({"quick": seeds})
    loss, accuracy = figure.axes
    # The sample's deviation of 97, 98 and 99 is 1; the third epoch, which one has, is left out.
    assert_allclose(curve(accuracy, "-"), ([1, 2], [98, 98]))
    (band,) = accuracy.collections
    assert_allclose(band.get_paths()[0].get_extents().intervaly, [97, 99])
    assert_allclose(curve(loss, "-"), ([1, 2], [0.06, 0.06]))
    assert_allclose(loss.collections[0].get_paths()[0].get_extents().intervaly, [0.03, 0.09])
    assert_allclose(curve(accuracy, "--"), ([1, 2], [99, 99]))
    shown = texts(figure)
    # Of the best epochs: 98, 99 and 99.
    assert "best epochs: 98.67 ± 0.58 %  quick, n = 3" in shown
    assert "mean ± SD, n runs" in shown


def test_a_band_beside_a_run_of_one_seed() -> None:
    pair = [history([0.98, 0.99]), history([0.97, 0.98])]
    figure = plots.curves_with_spread({"pair": pair, "alone": [saturating(4)]})
    assert len(figure.axes[1].collections) == 1
    shown = texts(figure)
    assert "best epochs: 98.50 ± 0.71 %  pair, n = 2" in shown
    assert any(text.endswith("%  alone") for text in shown)


def test_a_band_to_below_no_loss_stays_on_the_page() -> None:
    figure = plots.curves_with_spread({"far": [history([0.999]), history([0.5])]})
    low, _ = figure.axes[0].collections[0].get_paths()[0].get_extents().intervaly
    assert low > 0


def test_a_band_ends_at_all_right() -> None:
    figure = plots.curves_with_spread({"near": [history([1.0]), history([0.98])]})
    (band,) = figure.axes[1].collections
    assert band.get_paths()[0].get_extents().intervaly[1] == 100


def test_of_equal_means_the_one_of_the_lower_loss_is_marked() -> None:
    losses = (0.3, 0.1, 0.2)
    seeds = [
        [replace(each, val_loss=loss) for each, loss in zip(history(got), losses, strict=True)]
        for got in ([0.98, 0.98, 0.98], [0.99, 0.99, 0.99])
    ]
    accuracy = plots.curves_with_spread({"equal": seeds}).axes[1]
    (mark,) = (line for line in accuracy.lines if line.get_marker() == MARKERS[0])
    assert_allclose(np.asarray(mark.get_xydata()), [[2, 98.5]])


def test_a_single_run_is_named() -> None:
    figure = plots.curves({"five/seed-0": saturating(3)})
    assert "five/seed-0" in texts(figure)
    assert not overlaps(figure)


def test_seeds_without_validation_have_no_band_and_no_accuracy() -> None:
    figure = plots.curves_with_spread({"blind": [history([None, None]), history([None, None])]})
    assert "blind, n = 2" in texts(figure)
    assert [line.get_linestyle() for line in figure.axes[1].lines] == ["--"]


def test_runs_without_an_epoch_are_left_out() -> None:
    shown = texts(plots.curves({"empty": [], "full": saturating(3)}))
    assert not [text for text in shown if "empty" in text]


def test_the_diagonal_is_not_on_the_scale_of_the_errors() -> None:
    figure = plots.confusion(confusion_counts(), classes=DIGITS, title="net")
    (mesh,) = (m for m in figure.axes[0].collections if m.get_gid() == "errors")
    assert isinstance(mesh, QuadMesh)
    shown_KK = np.ma.getmaskarray(np.ma.asarray(mesh.get_array()))
    assert mesh.norm.vmax == 8
    assert set(map(tuple, np.argwhere(~shown_KK).tolist())) == {(4, 9), (9, 4), (3, 5)}


def test_every_cell_that_is_not_zero_has_its_count_in_place() -> None:
    counts_KK = confusion_counts()
    ax = plots.confusion(counts_KK, classes=DIGITS, title="net").axes[0]
    written = {t.get_position(): t.get_text() for t in ax.texts}
    places = np.argwhere(counts_KK)
    assert written == {(c + 0.5, r + 0.5): str(counts_KK[r, c]) for r, c in places}
    bottom, top = ax.get_ylim()
    assert bottom > top, "row 0 stands at the top"


def test_recall_stands_beside_each_true_class() -> None:
    counts_KK = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    figure = plots.confusion(counts_KK, classes=("a", "b", "c"), title="net")
    (recall,) = figure.axes[0].child_axes
    assert [t.get_text() for t in recall.get_yticklabels()] == ["75.0", "100.0", "—"]
    assert {"net", "true class", "predicted class", "recall (%)"} <= set(texts(figure))


def test_counts_are_legible_on_their_cells() -> None:
    counts_KK = np.array([[50, *range(1, 10)], *[[1] * 10] * 9])
    ax = plots.confusion(counts_KK, classes=DIGITS, title="net").axes[0]
    (mesh,) = (m for m in ax.collections if m.get_gid() == "errors")
    for text in ax.texts:
        column, row = (int(v) for v in text.get_position())
        fill = to_rgb(PALE) if row == column else mesh.to_rgba(counts_KK)[row, column]
        pair = sorted(luminance(c) for c in (fill[:3], to_rgb(text.get_color())))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) > 3.5, text


def luminance(color: Sequence[float]) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize(
    ("num", "total", "heading"),
    [
        (1, 1, "Every mistake"),
        (1, 9, "The most confident of 9 mistakes"),
        (25, 1234, "The 25 most confident of 1,234 mistakes"),
    ],
)
def test_mistakes_show_images_titles_and_probabilities(num: int, total: int, heading: str) -> None:
    figure = make_mistakes(num, total=total)
    assert len(figure.axes) == num
    assert f"net on the test set\n{heading}: true → predicted" in texts(figure)
    for n, ax in enumerate(figure.axes):
        true, wrong = n % 10, (n + 1) % 10
        assert ax.get_title() == f"{true} → {wrong}"
        assert [t.get_text() for t in ax.texts] == [f"{wrong}  90.0 %", f"{true}  9.2 %"]


def test_no_mistakes_say_so() -> None:
    figure = make_mistakes(0, total=0)
    assert "No mistakes: all read correctly." in texts(figure)
    assert "None of 7 mistakes is shown." in texts(make_mistakes(0, total=7))


def test_samples_show_the_images_in_order() -> None:
    images_NHW, labels_N = pictures(12), np.arange(12) % 10
    figure = plots.samples(images_NHW, labels_N, classes=CLOTHES, title="Fashion-MNIST")
    for ax, image_HW, label in zip(figure.axes, images_NHW, labels_N, strict=True):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), image_HW)
        assert ax.images[0].get_clim() == (0, 255)
        assert ax.get_title() == CLOTHES[label]
    assert "Fashion-MNIST" in texts(figure)


def test_no_samples_say_so() -> None:
    figure = plots.samples(pictures(0), np.zeros(0, np.int64), classes=DIGITS, title="MNIST")
    assert "No images." in texts(figure)


def test_the_frontier_shows_means_bars_and_what_is_beside() -> None:
    points = [
        TradeoffPoint("small", 1_000, (0.98, 0.99, 1.0)),
        TradeoffPoint("small", 8_000, (0.996,)),
        TradeoffPoint("large", 90_000, (1.0,)),
    ]
    beside = [TradeoffPoint("another", 2_000, (0.991,))]
    figure = plots.frontier(points, beside=beside, title="mnist, test")
    (ax,) = figure.axes
    small, large = (line for line in ax.lines if line.get_marker() in MARKERS[:2])
    assert_allclose(np.asarray(small.get_xydata()), [[1_000, 1.0], [8_000, 0.4]])
    assert np.asarray(large.get_ydata()) > 0  # which a logarithmic axis needs
    low, high = ax.get_ylim()
    assert low > 2 > 0.1 > high  # the more accurate, the higher; with all of the bars
    bars = ax.collections[0]
    assert isinstance(bars, LineCollection)
    assert_allclose(bars.get_segments()[0], [[1_000, 0.1], [1_000, 2.0]])
    shown = texts(figure)
    assert "small, mean ± SD, n = 1 to 3" in shown
    assert "large, n = 1" in shown
    assert "1  2,000: 99.10 %, another" in shown
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert "99" in labels


def test_time_is_drawn_as_parameters_are() -> None:
    points = [TradeoffPoint("fast", 3.2, (0.98,)), TradeoffPoint("slow", 390.4, (0.99, 0.994))]
    figure = plots.time(points, title="mnist, test")
    (ax,) = figure.axes
    assert ax.get_xlabel() == "training time (s)"
    assert ax.get_xscale() == "log"
    fast, slow = (line for line in ax.lines if line.get_marker() in MARKERS[:2])
    assert_allclose(np.asarray(fast.get_xydata()), [[3.2, 2.0]])
    assert_allclose(np.asarray(slow.get_xydata()), [[390.4, 0.8]])
    assert {"fast, n = 1", "slow, mean ± SD, n = 2", "100"} <= set(texts(figure))


def calibrated() -> list[ConfidenceBin]:
    """Off by 0.1 for 4 images of 10,000, and by 0.01 for all others."""
    empty = [ConfidenceBin(0, 0.0, 0.0)] * 2
    return [*empty, ConfidenceBin(4, 0.5, 0.6), ConfidenceBin(9996, 1.0, 0.99)]


def test_calibration_shows_filled_bins_with_their_intervals() -> None:
    figure = plots.calibration(calibrated(), title="net on mnist, test")
    upper, lower = figure.axes
    (points,) = (line for line in upper.lines if line.get_marker() == "o")
    assert_allclose(np.asarray(points.get_xydata()), [[60, 50], [99, 100]])
    assert_allclose(curve(upper, "--"), ([0, 100], [0, 100]))
    bars = upper.collections[0]
    assert isinstance(bars, LineCollection)
    # Wilson's interval of 2 in 4, from his formula: 0.5 ± 0.35.
    assert_allclose(bars.get_segments()[0], [[60, 15.0], [60, 85.0]], atol=0.01)
    boxes = [bar.get_path().get_extents(bar.get_patch_transform()) for bar in lower.patches]
    assert_allclose([(box.x0 + box.x1) / 2 for box in boxes], [62.5, 87.5])
    assert [box.y1 for box in boxes] == [4, 9996]
    assert "net on mnist, test\nexpected calibration error 1.00 %" in texts(figure)


def test_filters_share_a_scale_around_nothing() -> None:
    weights_NHW = RNG.normal(size=(3, 5, 5)).astype(np.float32)
    weights_NHW[1, 2, 2] = -4
    figure = plots.filters(weights_NHW, total=8, title="net, first layer")
    assert [ax.get_title() for ax in figure.axes] == ["1", "2", "3"]
    for ax, filter_HW in zip(figure.axes, weights_NHW, strict=True):
        assert_allclose(np.asarray(ax.images[0].get_array()), filter_HW)
        assert ax.images[0].get_clim() == (-4, 4)
    heading = "The first 3 of 8 filters: weights from -4 (blue) to 4 (orange)"
    assert f"net, first layer\n{heading}" in texts(figure)


def test_feature_maps_show_the_strongest_of_many_in_their_order() -> None:
    maps_CHW = np.zeros((40, 4, 4), np.float32)
    maps_CHW[5:40:2, 0, 0] = np.arange(18) + 1  # of these 18, the first two are the weakest
    (image_HW,) = pictures(1)
    stages = [("convolution 1", maps_CHW[:3]), ("convolution 2", maps_CHW)]
    figure = plots.feature_maps(image_HW, stages, title="net: a 5 of mnist")
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert np.array_equal(shown[0], image_HW)
    assert len(shown) == 1 + 3 + 16
    assert [each[0, 0] for each in shown[4:]] == list(range(3, 19))
    assert figure.axes[-1].images[0].get_clim() == (0, 18)
    assert {
        "the picture",
        "convolution 1\n3 maps, 4 x 4 px",
        "convolution 2\n16 of 40 maps, 4 x 4 px",
    } <= set(texts(figure))


def test_augmented_samples_stand_beside_what_they_are_made_from() -> None:
    images_NHW = pictures(2)
    versions_NVHW = RNG.uniform(0, 255, (2, 3, 28, 28)).astype(np.float32)
    figure = plots.augmented(images_NHW, versions_NVHW, labels=["7", "Ankle boot"], title="mnist")
    rows = [figure.axes[:4], figure.axes[4:]]
    for row, image_HW, versions_VHW in zip(rows, images_NHW, versions_NVHW, strict=True):
        expected = [image_HW, *versions_VHW]
        for ax, picture_HW in zip(row, expected, strict=True):
            assert_allclose(np.asarray(ax.images[0].get_array()), picture_HW)
            assert ax.images[0].get_clim() == (0, 255)
        first, second, third = (ax.get_position().x0 for ax in row[:3])
        assert second - first > third - second, "the sample stands apart"
    assert {"7", "Ankle boot", "mnist"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.00049, "< 0.1 %"), (0.0005, "0.1 %"), (0.9994, "99.9 %"), (0.9995, "> 99.9 %")],
)
def test_no_probability_is_said_to_be_nothing_or_certain(share: float, shown: str) -> None:
    misread = [Mistake(0, label=1, predicted=2, probability=share, label_probability=0.3)]
    figure = plots.mistakes(pictures(1), misread, classes=DIGITS, title="net", total=1)
    assert [text.get_text() for text in figure.axes[0].texts] == [f"2  {shown}", "1  30.0 %"]


def test_a_grid_leaves_few_cells_empty() -> None:
    figure = plots.samples(pictures(25), np.zeros(25, np.int64), classes=DIGITS, title="MNIST")
    columns = {round(ax.get_position().x0, 3) for ax in figure.axes}
    rows = {round(ax.get_position().y0, 3) for ax in figure.axes}
    assert (len(columns), len(rows)) == (5, 5)


EVERYTHING = {
    "one run": lambda: plots.curves({"a": saturating(10)}),
    "frontier": lambda: plots.frontier(
        [TradeoffPoint(f"{i}-{'n' * 37}", 10**i, (0.9, 0.99)) for i in range(1, 8)],
        beside=[TradeoffPoint("b" * 60, 500 * 2**i, (0.5,)) for i in range(9)],
        title="t" * 90,
    ),
    "seeds": lambda: plots.curves_with_spread(
        {f"{i}-{'n' * 37}": [saturating(9), saturating(9, 0.99)] for i in range(5)}
    ),
    "calibration": lambda: plots.calibration(calibrated(), title="t" * 90),
    "time": lambda: plots.time([TradeoffPoint("a", 3.2, (0.9,))], title="t" * 90),
    "filters": lambda: plots.filters(
        RNG.normal(size=(20, 5, 5)).astype(np.float32), total=1024, title="a heading " * 20
    ),
    "feature maps": lambda: plots.feature_maps(
        pictures(1)[0],
        [(f"convolution {i}", np.ones((128, 4, 4), np.float32)) for i in range(9, 12)],
        title="a heading " * 20,
    ),
    "augmented": lambda: plots.augmented(
        pictures(3), np.ones((3, 10, 28, 28), np.float32), labels=CLOTHES[:3], title="a " * 99
    ),
    "one epoch": lambda: plots.curves({"a": saturating(1)}),
    "twelve runs": lambda: plots.curves({f"{i}-{'n' * 37}": saturating(100) for i in range(12)}),
    "digits": lambda: plots.confusion(confusion_counts(), classes=DIGITS, title="net " * 40),
    "clothes": lambda: plots.confusion(
        RNG.integers(0, 10**4, (10, 10)), classes=CLOTHES, title="net"
    ),
    "mistakes": lambda: make_mistakes(25, total=912, classes=CLOTHES),
    "one mistake": lambda: make_mistakes(1, total=1, classes=CLOTHES),
    "samples": lambda: plots.samples(
        pictures(30), np.arange(30) % 10, classes=CLOTHES, title="a heading " * 20
    ),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_text_covers_another_or_leaves_the_page(name: str) -> None:
    figure = EVERYTHING[name]()
    assert overlaps(figure) == []
    assert outside(figure) == []


def test_a_dark_style_of_the_person_changes_nothing(tmp_path: Path) -> None:
    plots.save(EVERYTHING["one run"](), tmp_path / "plain.png")
    dark: dict[Any, Any] = {
        "figure.facecolor": "black",
        "text.color": "white",
        "axes.labelcolor": "white",
    }
    with mpl.rc_context(dark):
        plots.save(EVERYTHING["one run"](), tmp_path / "dark.png")
        assert mpl.rcParams["figure.facecolor"] == "black"
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "dark.png").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89")],
)
def test_saving_follows_the_suffix_and_repeats_its_bytes(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    contents = []
    for name in ("a", "b"):
        figure = plots.curves({"a": saturating(5), "b": saturating(7)})
        plots.save(figure, tmp_path / f"{name}.{suffix}")
        contents.append((tmp_path / f"{name}.{suffix}").read_bytes())
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]
    assert not re.search(rb"CreationDate|<dc:date>", contents[0])


def test_png_has_200_dots_an_inch(tmp_path: Path) -> None:
    figure = plots.curves({"a": saturating(5)})
    stream = io.BytesIO()
    plots.save(figure, stream)
    width = int.from_bytes(stream.getvalue()[16:20], "big")
    assert width == round(200 * figure.get_figwidth())


def test_a_format_overrides_the_suffix(tmp_path: Path) -> None:
    plots.save(plots.curves({"a": saturating(5)}), tmp_path / "picture.tmp", format="svg")
    assert (tmp_path / "picture.tmp").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", ["picture.gif", "picture"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        plots.save(plots.curves({"a": saturating(5)}), tmp_path / name)
    assert refused.value.exit_code == 2
    assert all(format_ in refused.value.fix for format_ in ("png", "svg", "pdf"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")

    def refuse(self: Path, other: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunError, match=r"picture\.png") as failed:
        plots.save(plots.curves({"a": saturating(5)}), target)
    assert failed.value.why == "No space left on device."
    assert failed.value.fix
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_directory_is_named_in_the_fix(tmp_path: Path) -> None:
    with pytest.raises(RunError) as failed:
        plots.save(plots.curves({"a": saturating(5)}), tmp_path / "no where" / "picture.png")
    assert failed.value.fix.endswith(f"mkdir -p '{tmp_path}/no where'")


def test_a_closed_pipe_is_a_run_error() -> None:
    class Closed(io.BytesIO):
        def write(self, *_: object) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(RunError, match="output"):
        plots.save(plots.curves({"a": saturating(5)}), Closed(), format="pdf")


def test_importing_plots_loads_neither_torch_nor_pyplot() -> None:
    code = "import sys, mnistcli.plots; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "mnistcli.plots" in loaded
    assert not {"torch", "torchvision", "matplotlib.pyplot"} & {*loaded}
