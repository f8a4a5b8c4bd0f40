"""Training images with their classes."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistcli.config.dataset_names import dataset_title
from mnistcli.data.datasets import get_dataset
from mnistcli.data.examples import Examples
from mnistcli.plots.headings import empty_figure
from mnistcli.plots.image_grids import image_grid
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import STYLE


def draw_samples(inputs: PlotInputs) -> Figure:
    """Images of the data set, or of the one that the named run was trained on."""
    dataset, examples = inputs.load_training_images(inputs.settings)
    return samples(examples, dataset=dataset.name, classes=dataset.classes)


@mpl.rc_context(STYLE)
def samples(
    examples: Examples, *, dataset: str, num: int = 50, classes: Sequence[str] = ()
) -> Figure:
    """The first `num` of some training examples of `dataset`, on the CPU, with their classes."""
    title = f"{dataset_title(dataset)}, training set"
    labels = examples.labels_N[:num].tolist()
    if not labels:
        return empty_figure(title, "No images.")
    classes = classes or get_dataset(dataset).classes
    captions = [classes[label] for label in labels]
    images_NHW = examples.images_NHW[:num].numpy()
    return image_grid(images_NHW, captions, heading=title, max_columns=10)
