"""Reliability diagrams: points, intervals, counts."""

from dataclasses import replace

import numpy as np
from matplotlib.collections import LineCollection
from numpy.testing import assert_allclose

from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.plots.figures import calibration
from tests.helpers.figures import confusion_score, line_data, texts


def test_filled_bins_are_points_with_intervals_above_their_counts() -> None:
    empty = [ConfidenceBin(0, 0.0, 0.0)] * 2
    bins = [*empty, ConfidenceBin(4, 0.5, 0.6), ConfidenceBin(9996, 1.0, 0.99)]
    figure = calibration(replace(confusion_score(np.eye(10, dtype=int)), bins=bins))
    upper, lower = figure.axes
    (points,) = (line for line in upper.lines if line.get_marker() == "o")
    assert_allclose(np.asarray(points.get_xydata()), [[60, 50], [99, 100]])
    assert_allclose(line_data(upper, "--"), ([0, 100], [0, 100]))
    bars = upper.collections[0]
    assert isinstance(bars, LineCollection)
    # Wilson's interval of 2 in 4, from his formula: 0.5 ± 0.35.
    assert_allclose(bars.get_segments()[0], [[60, 15.0], [60, 85.0]], atol=0.01)
    boxes = [bar.get_path().get_extents(bar.get_patch_transform()) for bar in lower.patches]
    assert_allclose([(box.x0 + box.x1) / 2 for box in boxes], [62.5, 87.5])
    assert [box.y1 for box in boxes] == [4, 9996]
    # 4 images of 10,000 are off by 0.1, the others by 0.01.
    heading = "net on mnist, test (0 errors in 10)\nexpected calibration error 1.00 %"
    assert heading in texts(figure)
