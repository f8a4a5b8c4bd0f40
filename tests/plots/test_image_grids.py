"""Figures of many images: mistakes, samples, augmented images, filters, feature maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from mnistcli.config.settings import Augmentation
from mnistcli.evaluation.features import ConvolutionOutput
from mnistcli.evaluation.scores import Mistake
from mnistcli.plots import features as features_module
from mnistcli.plots.figures import augmented, features, filters, mistakes, samples
from tests.helpers.figures import CLOTHES, make_examples, make_model, mistakes_score, texts


@pytest.mark.parametrize(
    ("num_errors", "heading"),
    [
        (1, "All mistakes"),
        (25, "All mistakes"),
        (1234, "The 25 most confident of 1,234 mistakes"),
    ],
)
def test_mistakes_show_images_classes_and_probabilities(num_errors: int, heading: str) -> None:
    score, examples = mistakes_score(num_errors), make_examples(num_errors)
    figure = mistakes(score, examples)
    assert len(figure.axes) == min(num_errors, 25)
    assert any(text.endswith(f"\n{heading}: true → predicted") for text in texts(figure))
    for n, ax in enumerate(figure.axes):
        true, predicted = n % 10, (n + 1) % 10
        assert np.array_equal(np.asarray(ax.images[0].get_array()), examples.images_NHW[n])
        assert ax.get_title() == f"{true} → {predicted}"
        probabilities = [f"{predicted}  90.0 %", f"{true}  10.0 %"]
        assert [t.get_text() for t in ax.texts] == [*probabilities, f"image {n}"]


def test_the_next_mistakes_are_shown_from_a_number_on() -> None:
    figure = mistakes(mistakes_score(60), make_examples(60), first=50)
    assert [ax.texts[2].get_text() for ax in figure.axes] == [f"image {n}" for n in range(50, 60)]
    assert any("Mistakes 51 to 60 of 60 by confidence" in text for text in texts(figure))


def test_no_mistakes_are_stated() -> None:
    assert "No mistakes." in texts(mistakes(mistakes_score(0), make_examples(1)))
    shown = texts(mistakes(mistakes_score(7), make_examples(7), num=0))
    assert "None of 7 mistakes is shown." in shown
    one = texts(mistakes(mistakes_score(7), make_examples(7), num=1))
    assert any("The most confident of 7 mistakes" in text for text in one)


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.00049, "< 0.1 %"), (0.0005, "0.1 %"), (0.9994, "99.9 %"), (0.9995, "> 99.9 %")],
)
def test_no_probability_is_rounded_to_none_or_all(probability: float, shown: str) -> None:
    mistake = Mistake(0, label=1, predicted=2, probability=probability, label_probability=0.3)
    figure = mistakes(replace(mistakes_score(1), mistakes=[mistake]), make_examples(1))
    assert [text.get_text() for text in figure.axes[0].texts[:2]] == [f"2  {shown}", "1  30.0 %"]


def test_samples_show_the_images_in_order_with_few_empty_cells() -> None:
    examples = make_examples(30)
    figure = samples(examples, dataset="fashion-mnist", num=25)
    for ax, image_HW, label in zip(
        figure.axes, examples.images_NHW, examples.labels_N, strict=False
    ):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), image_HW)
        assert ax.images[0].get_clim() == (0, 255)
        assert ax.get_title() == CLOTHES[label]
    assert len(figure.axes) == 25
    positions = [ax.get_position() for ax in figure.axes]
    assert len({round(box.x0, 3) for box in positions}) == 5
    assert len({round(box.y0, 3) for box in positions}) == 5
    assert "fashion-mnist, training set" in texts(figure)
    assert "No images." in texts(samples(make_examples(0), dataset="mnist"))


def test_augmented_versions_are_next_to_their_image() -> None:
    examples = make_examples(2)
    figure = augmented(examples, Augmentation(rotate_degrees=20), dataset="mnist", num_versions=3)
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    for row, image_HW in enumerate(examples.images_NHW.numpy()):
        original, *versions = shown[4 * row : 4 * row + 4]
        assert np.array_equal(original, image_HW)
        assert not any(np.array_equal(version, original) for version in versions)
    first, second, third = (ax.get_position().x0 for ax in figure.axes[:3])
    assert second - first > third - second, "a gap follows the image"
    limits = (
        "rotated by up to 20°, sheared by up to 5°, scaled by up to 10 %, shifted by up to 1.5 px"
    )
    assert any(limits in " ".join(text.split()) for text in texts(figure))


def test_filters_share_a_scale_that_is_symmetric_around_zero() -> None:
    layer = nn.Conv2d(1, 8, 5)
    weights_NHW = layer.weight[:, 0].detach()
    weights_NHW[1, 2, 2] = -4
    figure = filters(make_model(layer), num=3)
    assert [ax.get_title() for ax in figure.axes] == ["1", "2", "3"]
    for ax, filter_HW in zip(figure.axes, weights_NHW, strict=False):
        assert_allclose(np.asarray(ax.images[0].get_array()), filter_HW)
        assert ax.images[0].get_clim() == (-4, 4)
    heading = "The first 3 of 8 filters: weights from -4 (blue) to 4 (orange)"
    assert f"net, first layer\n{heading}" in texts(figure)


def test_of_many_feature_maps_the_strongest_are_shown_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps_CHW = np.zeros((40, 4, 4), np.float32)
    maps_CHW[5:40:2, 0, 0] = np.arange(18) + 1  # of these 18, the first two are the weakest
    outputs = [
        ConvolutionOutput("convolution 1", maps_CHW[:3]),
        ConvolutionOutput("convolution 2", maps_CHW),
    ]
    monkeypatch.setattr(features_module, "feature_maps", lambda *_: outputs)
    image_HW = make_examples(1).images_NHW[0]
    figure = features(make_model(nn.Identity()), image_HW, what="a 5 from mnist")
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert torch.equal(torch.from_numpy(shown[0]), image_HW)
    assert len(shown) == 1 + 3 + 16
    assert [each[0, 0] for each in shown[4:]] == list(range(3, 19))
    assert figure.axes[-1].images[0].get_clim() == (0, 18)
    assert {
        "net: a 5 from mnist",
        "convolution 1\n3 maps, 4 x 4 px",
        "convolution 2\n16 of 40 maps, 4 x 4 px",
    } <= set(texts(figure))
