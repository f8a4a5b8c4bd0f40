"""Accuracy against parameters and training time: points, error bars, legend."""

import numpy as np
from matplotlib.collections import LineCollection
from numpy.testing import assert_allclose

from mnistcli.evaluation.pareto import TradeoffPoint
from mnistcli.plots.style import MARKERS
from mnistcli.plots.tradeoffs import draw_points
from tests.helpers.figures import texts


def test_one_point_is_a_sentence_without_axes() -> None:
    point = TradeoffPoint("small", 7_882, (0.9957,))
    figure = draw_points([point], [], title="mnist, test", axis="parameters")
    assert not figure.axes
    assert any("small: 99.57 %, parameters 7,882." in text for text in texts(figure))
    assert draw_points([point], [point], title="mnist, test", axis="parameters").axes


def test_points_of_a_name_are_joined_with_bars_of_one_deviation() -> None:
    points = [
        TradeoffPoint("small", 1_000, (0.98, 0.99, 1.0)),
        TradeoffPoint("small", 8_000, (0.996,)),
        TradeoffPoint("large", 90_000, (1.0,)),
    ]
    published = [TradeoffPoint("another", 2_000, (0.991,))]
    figure = draw_points(points, published, title="mnist, test", axis="parameters")
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_xscale(), ax.get_yscale()) == ("parameters", "log", "log")
    small, large = (line for line in ax.lines if line.get_marker() in MARKERS[:2])
    assert_allclose(np.asarray(small.get_xydata()), [[1_000, 1.0], [8_000, 0.4]])
    assert np.asarray(large.get_ydata()) > 0  # as a logarithmic axis needs
    low, high = ax.get_ylim()
    assert low > 2 > 0.1 > high  # better is higher, and all bars are visible
    bars = ax.collections[0]
    assert isinstance(bars, LineCollection)
    assert_allclose(bars.get_segments()[0], [[1_000, 0.1], [1_000, 2.0]])
    shown = {"small, mean ± SD, n = 1 to 3", "large, n = 1", "1  2,000: 99.10 %, another", "99"}
    assert shown <= set(texts(figure))
