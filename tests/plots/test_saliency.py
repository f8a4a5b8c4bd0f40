"""Saliency: the colors of pixels, the captions, and where nothing is shown."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

from mnistcli.evaluation.attribution import integrated_gradients
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.plots.figures import saliency
from mnistcli.plots.style import BLUE, VERMILLION
from mnistcli.runs.checkpoint import load_checkpoint
from tests.helpers.figures import confusion_score, mistakes_score, texts
from tests.helpers.training import load_digits


def score_of(*mistakes: Mistake) -> Score:
    base = mistakes_score(len(mistakes))
    return Score(**{**vars(base), "mistakes": list(mistakes)})


def test_the_strongest_pixel_for_each_side_has_its_color(trained: Path) -> None:
    model, examples = load_checkpoint(trained / "best.pth"), load_digits("test")
    figure = saliency(model, score_of(Mistake(5, 2, 7, 0.9, 0.05)), examples)
    (image,) = figure.axes[0].get_images()
    colors_HWC = np.asarray(image.get_array())
    (votes_HW,) = integrated_gradients(model, examples.images_NHW[5:6], [7], [2])
    strongest = np.unravel_index(np.abs(votes_HW).argmax(), votes_HW.shape)
    expected = to_rgb(VERMILLION if votes_HW[strongest] > 0 else BLUE)
    np.testing.assert_allclose(colors_HWC[strongest], expected, atol=1e-3)
    blank_HW = examples.images_NHW[5].numpy() == 0
    assert (colors_HWC[blank_HW] == 1).all()
    assert {"2 → 7", "7  90.0 %", "2  5.0 %"} <= {*texts(figure)}


def test_the_source_and_the_meaning_of_the_colors_are_in_the_heading(trained: Path) -> None:
    model, examples = load_checkpoint(trained / "best.pth"), load_digits("test")
    figure = saliency(model, mistakes_score(30), examples, num=2)
    heading = " ".join(" ".join(texts(figure)).split())
    for part in ("Sundararajan et al. 2017", "Orange", "The 2 most confident of 30 mistakes"):
        assert part in heading
    assert len(figure.axes) == 2


def test_without_mistakes_there_is_a_message(trained: Path) -> None:
    model = load_checkpoint(trained / "best.pth")
    figure = saliency(model, confusion_score(np.eye(10, dtype=int)), load_digits("test"))
    assert "No mistakes." in texts(figure)
