"""The feature maps that a network's convolutions make of an image.

Shapes: C channels, H rows, W columns.
"""

from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from mnistcli.evaluation.features import ConvolutionOutput, feature_maps, require_convolutions
from mnistcli.plots.headings import checkpoint_name
from mnistcli.plots.image_grids import ColorScale, ImageRow, image_rows
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import STYLE
from mnistcli.runs.checkpoint import LoadedModel

# Feature maps of a convolution; the others are left out.
MAX_MAPS: Final = 16


def draw_features(inputs: PlotInputs) -> Figure:
    """The feature maps of the named checkpoint for a training image."""
    model = inputs.load_network()
    require_convolutions(model)  # before a data set is asked for
    dataset, examples = inputs.load_training_images(model.card.settings)
    label = dataset.classes[int(examples.labels_N[0])]
    what = f"a {label} from {dataset.title} (image {inputs.first:,} of the training set)"
    return features(model, examples.images_NHW[0], what=what)


@mpl.rc_context(STYLE)
def features(model: LoadedModel, image_HW: Tensor, *, what: str) -> Figure:
    """An image, and below it the feature maps of each convolution: the darker, the stronger.

    Each convolution has its own scale, from 0 to its strongest activation. Of more than 16 maps
    the 16 with the strongest activations are shown, in their order.

    Args:
        model: a network.
        image_HW: uint8, 0 background to 255 ink, on the CPU.
        what: describes the image in the heading.

    Raises:
        SettingsError: the network has no convolution.
    """
    rows = [ImageRow("input image", [image_HW.numpy()])]
    rows += [_maps_row(output) for output in feature_maps(model, image_HW)]
    return image_rows(rows, heading=f"{checkpoint_name(model.path)}: {what}")


def _maps_row(output: ConvolutionOutput) -> ImageRow:
    maps_CHW = output.maps_CHW
    num, side = len(maps_CHW), maps_CHW.shape[-1]
    strongest = np.sort(np.argsort(-maps_CHW.max(axis=(1, 2)), kind="stable")[:MAX_MAPS])
    count = f"{num} maps" if num <= MAX_MAPS else f"{MAX_MAPS} of {num} maps"
    scale = ColorScale("gray_r", 0, float(maps_CHW.max()) or 1.0)
    return ImageRow(f"{output.name}\n{count}, {side} x {side} px", maps_CHW[strongest], scale)
