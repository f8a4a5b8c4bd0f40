"""scikit-learn's digits as a data set."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from mnistcli.config.choices import DataSplit
from mnistcli.data.datasets import DATASETS, load_dataset

DIGITS = DATASETS["digits"]


@pytest.mark.parametrize(("split", "num_images"), [("train", 1437), ("test", 360)])
def test_digits_are_centered_uint8_images_with_labels(
    split: DataSplit, num_images: int, tmp_path: Path
) -> None:
    examples = load_dataset(DIGITS, split, tmp_path)
    images, labels = examples.images_NHW, examples.labels_N
    assert (images.shape, images.dtype) == ((num_images, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((num_images,), torch.int64)
    assert images.amax(dim=(1, 2)).min() > 200
    assert images.amin(dim=(1, 2)).max() == 0
    positions, mass_N = torch.arange(28, dtype=torch.float64), images.sum(dim=(1, 2))
    for axis in (1, 2):
        centers_N = (images.double().sum(dim=axis) * positions).sum(dim=1) / mass_N
        assert (centers_N - 13.5).abs().max() < 1
    assert not list(tmp_path.iterdir())


def test_digits_keep_every_label_in_order_and_share_no_image_between_the_splits(
    tmp_path: Path,
) -> None:
    train, test = (load_dataset(DIGITS, split, tmp_path) for split in ("train", "test"))
    assert torch.cat([train.labels_N, test.labels_N]).tolist() == load_digits().target.tolist()
    train_images = {image.numpy().tobytes() for image in train.images_NHW}
    assert not any(image.numpy().tobytes() in train_images for image in test.images_NHW)


def test_the_mean_and_std_of_digits_are_the_measured_ones(tmp_path: Path) -> None:
    pixels = load_dataset(DIGITS, "train", tmp_path).images_NHW.double() / 255
    assert round(pixels.mean().item(), 4) == DIGITS.mean
    assert round(pixels.std().item(), 4) == DIGITS.std
