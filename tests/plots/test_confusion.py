"""Confusion matrices: counts, colors, recall."""

import numpy as np
from matplotlib.collections import QuadMesh

from mnistcli.plots.figures import confusion
from tests.helpers.figures import confusion_score, texts


def test_every_count_is_in_its_cell_and_only_errors_are_colored() -> None:
    counts_KK = np.diag(np.full(10, 1000))
    counts_KK[4, 9], counts_KK[9, 4], counts_KK[3, 5] = 8, 5, 1
    figure = confusion(confusion_score(counts_KK))
    ax = figure.axes[0]
    (mesh,) = (each for each in ax.collections if each.get_gid() == "errors")
    assert isinstance(mesh, QuadMesh)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    cells = np.argwhere(counts_KK)
    assert written == {(c + 0.5, r + 0.5): str(counts_KK[r, c]) for r, c in cells}
    bottom, top = ax.get_ylim()
    assert bottom > top, "row 0 is at the top"
    is_hidden_KK = np.ma.getmaskarray(np.ma.asarray(mesh.get_array()))
    assert set(map(tuple, np.argwhere(~is_hidden_KK).tolist())) == {(4, 9), (9, 4), (3, 5)}
    assert mesh.norm.vmax == 8
    assert "net on mnist, test (14 errors in 10,014)" in texts(figure)


def test_recall_is_next_to_each_true_class() -> None:
    figure = confusion(confusion_score([[3, 1, 0], [0, 2, 0], [0, 0, 0]], classes=("a", "b", "c")))
    (recall,) = figure.axes[0].child_axes
    assert [t.get_text() for t in recall.get_yticklabels()] == ["75.0", "100.0", "—"]
    assert {"true class", "predicted class", "recall (%)"} <= set(texts(figure))
