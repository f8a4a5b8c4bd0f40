"""How a network arranges images: the activations before its last layer, in two dimensions.

Shapes: N images, D values.
"""

import math
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from mnistcli.config.dataset_names import dataset_title
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.eval_data import load_eval_split
from mnistcli.evaluation.features import last_activations
from mnistcli.plots.headings import checkpoint_name, wrap_heading
from mnistcli.plots.inputs import PlotInputs, read_own_pictures
from mnistcli.plots.style import CENTERED, COLORS, INK, MARKERS, STYLE
from mnistcli.runs.checkpoint import LoadedModel

# t-SNE takes seconds for as many images, and minutes for all 10,000 of MNIST.
MAX_IMAGES: Final = 2000
# Fewer have no neighborhoods.
MIN_IMAGES: Final = 10
PERPLEXITY: Final = 30
SEED: Final = 0


def draw_embedding(inputs: PlotInputs) -> Figure:
    """The embedding of images that the named checkpoint was not trained on."""
    model = inputs.load_network()
    dataset = inputs.dataset or model.card.settings.dataset
    read_own_pictures(dataset)
    examples = load_eval_split(
        model, dataset=dataset, split=inputs.split, data_dir=inputs.resolved_data_dir()
    )
    return embedding(model, examples, what=f"{dataset_title(dataset)}, {inputs.split}")


@mpl.rc_context(STYLE)
def embedding(model: LoadedModel, examples: Examples, *, what: str) -> Figure:
    """Images as points, near each other where the network sees them alike.

    The activations before the last layer, brought to two dimensions by scikit-learn's t-SNE (van
    der Maaten and Hinton 2008, "Visualizing Data using t-SNE", JMLR 9) with a fixed seed. Of more
    than `MAX_IMAGES` images every second, third … is taken. Neighbors mean something; the
    distances between groups and their sizes mean little.

    Args:
        model: a network.
        examples: any images with labels, on the CPU.
        what: describes them in the heading.

    Raises:
        SettingsError: there are fewer than `MIN_IMAGES` images.
    """
    step = math.ceil(len(examples) / MAX_IMAGES)
    images_NHW, labels_N = examples.images_NHW[::step], examples.labels_N[::step].numpy()
    if len(labels_N) < MIN_IMAGES:
        raise SettingsError(
            f"An embedding needs {MIN_IMAGES} images or more.",
            why=f"There are {len(labels_N)} in {what}.",
            fix="Use another split: --split test",
        )
    activations_ND, predicted_N = last_activations(model, images_NHW)
    points_N2 = _reduce(activations_ND)
    which = "all" if step == 1 else f"{len(labels_N):,} of"
    heading = (
        f"{checkpoint_name(model.path)} on {what}: {which} {len(examples):,} images\n"
        f"The {activations_ND.shape[1]:,} activations before the last layer, by t-SNE "
        f"(van der Maaten and Hinton 2008; perplexity {_perplexity(len(labels_N)):g}, "
        f"seed {SEED})"
    )
    figure = Figure(figsize=(6.4, 6.6))
    figure.suptitle(wrap_heading(heading, 6.4), x=0.02, ha="left", fontsize=10)
    ax = figure.add_subplot(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    _draw_points(ax, points_N2, labels_N, predicted_N, model.card.classes)
    figure.legend(loc="outside lower left", ncols=6, markerscale=1.5)
    return figure


def _reduce(activations_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    reduction = TSNE(init="pca", perplexity=_perplexity(len(activations_ND)), random_state=SEED)
    return np.asarray(reduction.fit_transform(activations_ND))


def _perplexity(num_images: int) -> float:
    """The usual perplexity, and fewer neighbors for few images."""
    return min(PERPLEXITY, num_images // 3)


def _draw_points(
    ax: Axes,
    points_N2: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    predicted_N: NDArray[np.int64],
    classes: tuple[str, ...],
) -> None:
    """Draw each image in the color and shape of its class, and a cross over each mistake."""
    for label, name in enumerate(classes):
        own_N2 = points_N2[labels_N == label]
        if not len(own_N2):
            continue
        x_N, y_N = own_N2.T
        # Where there are more classes than colors, the shape tells them apart.
        repeat, color = divmod(label, len(COLORS))
        look: dict[str, Any] = {"color": COLORS[color], "marker": MARKERS[repeat]}
        ax.scatter(x_N, y_N, s=7, linewidths=0, alpha=0.8, label=name, **look)
        halo = [withStroke(linewidth=3, foreground="white")]
        style = {"size": 12, "weight": "bold", "path_effects": halo, "zorder": 4, **CENTERED}
        ax.text(float(np.median(x_N)), float(np.median(y_N)), name, **style)
    wrong_N = labels_N != predicted_N
    x_N, y_N = points_N2[wrong_N].T
    crosses = f"misclassified: {wrong_N.sum():,}"
    ax.scatter(x_N, y_N, s=26, marker="x", color=INK, lw=1, label=crosses, zorder=3)
