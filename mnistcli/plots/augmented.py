"""Training images and the versions that augmentation makes of them."""

from collections.abc import Sequence

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from mnistcli.config.dataset_names import dataset_title
from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import Augmentation
from mnistcli.data.augment import augment
from mnistcli.data.datasets import get_dataset
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.plots.image_grids import ImageRow, image_rows
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import STYLE


def draw_augmented(inputs: PlotInputs) -> Figure:
    """Images as the named run augments them; without a run, by the default augmentation."""
    settings = inputs.settings or resolve_settings({}, environ={}).settings
    if inputs.settings and not settings.augment:
        raise SettingsError(
            f"{inputs.runs[0].path} was trained without augmentation.",
            why="It has no augmented images to show.",
            fix="Name a run that was trained with --augment, or no run.",
        )
    dataset, examples = inputs.load_training_images(inputs.settings)
    return augmented(examples, settings.augmentation, dataset=dataset.name, classes=dataset.classes)


@mpl.rc_context(STYLE)
def augmented(
    examples: Examples,
    how: Augmentation,
    *,
    dataset: str,
    num: int = 8,
    num_versions: int = 10,
    classes: Sequence[str] = (),
) -> Figure:
    """The first `num` of some training examples, each followed by augmented versions of it.

    The same images always get the same versions.

    Args:
        examples: at least one of `dataset`, on the CPU.
        how: the limits of the augmentation.
        dataset: the name of the data set.
        num: how many images to show at most.
        num_versions: how many versions of each.
        classes: the names of the labels; by default, those of the data set.
    """
    classes = classes or get_dataset(dataset).classes
    images_NHW, labels = examples.images_NHW[:num], examples.labels_N[:num].tolist()
    repeated_MHW = images_NHW.repeat_interleave(num_versions, dim=0)
    versions_MHW = augment(repeated_MHW, how, torch.Generator().manual_seed(0)).numpy()
    versions_NVHW = versions_MHW.reshape(len(labels), num_versions, *images_NHW.shape[1:])
    rows = [
        ImageRow(classes[label], [image_HW, *versions_VHW], num_leading=1)
        for label, image_HW, versions_VHW in zip(
            labels, images_NHW.numpy(), versions_NVHW, strict=True
        )
    ]
    limits = (
        f"rotated by up to {how.rotate_degrees:g}°, sheared by up to {how.shear_degrees:g}°, "
        f"scaled by up to {100 * how.scale_fraction:g} %, shifted by up to {how.shift_px:g} px"
    )
    return image_rows(
        rows,
        heading=f"{dataset_title(dataset)}, training set: images and augmented versions\n{limits}",
    )
