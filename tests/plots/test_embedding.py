"""Embeddings: which images are shown, their classes, the mistakes, the same every time."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection

from mnistcli.config.choices import MAX_CLASSES
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.plots import embedding as module
from mnistcli.plots.figures import embedding
from mnistcli.plots.save import save
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint
from tests.helpers.figures import texts
from tests.helpers.training import load_digits


@pytest.fixture
def model(trained: Path) -> LoadedModel:
    return load_checkpoint(trained / "best.pth")


def some(num: int) -> Examples:
    return load_digits("test").take(torch.arange(num))


def points(figure: object) -> dict[str, np.ndarray]:
    (ax,) = figure.axes  # type: ignore[attr-defined]
    return {
        str(each.get_label()): np.asarray(each.get_offsets())
        for each in ax.collections
        if isinstance(each, PathCollection)
    }


def test_each_image_is_a_point_of_its_class_and_mistakes_are_crossed(model: LoadedModel) -> None:
    examples = some(100)
    figure = embedding(model, examples, what="digits, test")
    shown = points(figure)
    for label in range(10):
        assert len(shown[str(label)]) == int((examples.labels_N == label).sum())
    predictions = evaluate_network(model.network, examples, model.normalization)
    num_errors = len(examples) - predictions.num_correct
    assert len(shown[f"misclassified: {num_errors}"]) == num_errors > 0
    heading = " ".join(" ".join(texts(figure)).split())
    assert "small on digits, test: all 100 images" in heading
    assert "The 32 activations before the last layer, by t-SNE (van der Maaten" in heading


def test_of_many_classes_each_has_its_own_color_and_shape(model: LoadedModel) -> None:
    names = tuple(f"class {number}" for number in range(MAX_CLASSES))
    many = replace(model, card=model.card.model_copy(update={"classes": names}))
    examples = some(2 * MAX_CLASSES)
    labels_N = torch.arange(len(examples)) % MAX_CLASSES
    figure = embedding(many, Examples(examples.images_NHW, labels_N), what="letters, test")
    (ax,) = figure.axes
    looks = {
        each.get_label(): (
            np.asarray(each.get_facecolor()).tobytes(),
            np.asarray(each.get_paths()[0].vertices).tobytes(),
        )
        for each in ax.collections
        if each.get_label() in names
    }
    assert set(looks) == set(names)
    assert len(set(looks.values())) == MAX_CLASSES


def test_images_alike_for_the_network_are_near_each_other(model: LoadedModel) -> None:
    shown = points(embedding(model, some(200), what="digits, test"))
    centers = np.array([np.median(shown[str(label)], axis=0) for label in range(10)])
    nearest = [
        np.linalg.norm(centers - point, axis=1).argmin() == label
        for label in range(10)
        for point in shown[str(label)]
    ]
    assert np.mean(nearest) > 0.6


def test_the_same_bytes_every_time(model: LoadedModel) -> None:
    files = [BytesIO(), BytesIO()]
    for file in files:
        save(embedding(model, some(60), what="digits, test"), file)
    assert files[0].getvalue() == files[1].getvalue()


def test_of_many_images_every_nth_is_shown(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 40)
    figure = embedding(model, some(100), what="digits, test")
    shown = points(figure)
    assert sum(len(shown[str(label)]) for label in range(10) if str(label) in shown) == 34
    assert "34 of 100 images" in "".join(texts(figure))


def test_too_few_images_are_refused(model: LoadedModel) -> None:
    with pytest.raises(SettingsError) as caught:
        embedding(model, some(9), what="digits, val")
    assert "9 in digits, val" in caught.value.why
