"""The recipes, as plain data: networks with the settings that train them.

Eleven reproduce published descriptions; the sprints and the reader are our own. `docs/results.md`
has what each was claimed to reach and what it reaches here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnistcli.errors import require_known


@dataclass(frozen=True)
class Recipe:
    """A network and the settings that train it.

    Attributes:
        test_percent: mean accuracy on MNIST's test images over seeds, in %, as measured in
            `docs/results.md`; None if it was not.
        seconds: of its training, start-up apart, measured there on one or two cores.
        model: settings of the network; the others are its architecture's defaults.
        training: settings of the training; the others are the defaults of `TrainSettings`.
        by_dataset: changes to `training` for a data set; `by_size` takes precedence.
        by_size: changes to `model` and `training` for small networks; the smallest key that is at
            least the `budget_setting` of the changed network applies.
    """

    name: str
    arch: str
    summary: str
    seconds: float
    test_percent: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_size: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


DEFAULT_RECIPE = "cnn-small"

_ADAMW = dict(optimizer="adamw", weight_decay=0.01, schedule="onecycle")

# 5x5 kernels cover whole strokes and the last feature map keeps their positions, so that a few
# epochs are enough. Label smoothing limits the overconfidence of a short, fast training.
_SPRINT_MODEL = dict(kernel_size=5, padding=0, batch_norm=True, dropout=0.0)
_SPRINT_TRAINING = dict(_ADAMW, batch_size=128, lr=0.02, label_smoothing=0.1)

# The smaller a network, the less augmentation it has room for (`docs/results.md`). The medium one
# is the default of `settings.Augmentation`.
_STRONG_AUGMENTATION = dict(
    rotate_degrees=12.0, scale_fraction=0.15, shear_degrees=8.0, shift_px=2.0
)
_MEDIUM_AUGMENTATION = dict(rotate_degrees=9.0, scale_fraction=0.1, shear_degrees=5.0, shift_px=1.5)
_MILD_AUGMENTATION = dict(rotate_degrees=5.0, scale_fraction=0.05, shear_degrees=3.0, shift_px=1.0)

# Larger kernels and more of them cost a narrow network too much of its width.
_NARROW = dict(kernel_size=3, depthwise=1)

_CNN_SMALL_TRAINING = dict(
    _ADAMW,
    batch_size=128,
    lr=0.015,
    augment=True,
    augmentation=_STRONG_AUGMENTATION,
    ema=0.99,
    max_params=8000,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "ann",
            "ann",
            "hidden 1024, 512, 256",
            test_percent=98.68,
            seconds=144,
            model=dict(hidden=[1024, 512, 256], dropout=0.3),
            training=dict(_ADAMW, epochs=10, batch_size=128, lr=2e-3),
        ),
        Recipe(
            "cnn-deep",
            "cnn-deep",
            "eight convolutions",
            test_percent=99.64,
            seconds=632,
            model=dict(channels=[16, 32, 64, 128], dropout=0.1),
            training=dict(_ADAMW, epochs=4, batch_size=128, lr=5e-3),
        ),
        Recipe(
            "mlp-nll-sgd",
            "mlp",
            "four hidden layers, NLL, SGD",
            test_percent=98.24,
            seconds=65,
            model=dict(hidden=[264, 128, 64, 28], dropout=0.25),
            training=dict(epochs=50, batch_size=256, optimizer="sgd", lr=0.025, loss="nll"),
        ),
        Recipe(
            "cnn-linear",
            "cnn",
            "5x5 kernels, one linear layer",
            test_percent=99.21,
            seconds=232,
            model=dict(channels=[32, 64], kernel_size=5, padding=0, hidden=[], dropout=0.0),
            training=dict(epochs=20, batch_size=64, optimizer="adam", lr=1e-3),
        ),
        Recipe(
            "cnn-26k",
            "cnn",
            "padded 3x3 kernels",
            test_percent=98.96,
            seconds=34,
            model=dict(channels=[8, 16], kernel_size=3, padding=1, hidden=[32], dropout=0.0),
            training=dict(epochs=10, batch_size=128, optimizer="adam", lr=0.01, schedule="plateau"),
        ),
        Recipe(
            "cnn-15k",
            "cnn",
            "the same, smaller, dropout",
            test_percent=98.66,
            seconds=51.6,
            model=dict(channels=[6, 12], kernel_size=3, padding=1, hidden=[24], dropout=0.2),
            training=dict(
                epochs=12, batch_size=128, optimizer="adam", lr=0.005, schedule="plateau"
            ),
        ),
        Recipe(
            "cnn-small",
            "cnn-small",
            "most accurate under 8,000",
            test_percent=99.64,
            seconds=330,
            model=dict(kernel_size=5, depthwise=2),
            training=dict(_CNN_SMALL_TRAINING, epochs=30),
            # Its 1,293 images make ten batches of 128.
            by_dataset={"digits": dict(epochs=15, batch_size=64)},
            # The widest under 5,000, 2,000, 1,000 and 700 parameters. Learning rate times width
            # stays about constant, and so does the time, since an epoch of fewer channels is
            # shorter.
            by_size={
                55: dict(_NARROW, epochs=36, lr=0.02),
                30: dict(_NARROW, epochs=64, lr=0.035, augmentation=_MEDIUM_AUGMENTATION),
                18: dict(
                    _NARROW, epochs=90, lr=0.06, weight_decay=0.001, augmentation=_MILD_AUGMENTATION
                ),
                14: dict(_NARROW, epochs=90, lr=0.06, augment=False),
            },
        ),
        Recipe(
            "cnn-small-15",
            "cnn-small",
            "the same in 15 epochs",
            test_percent=99.58,
            seconds=150,
            model=dict(kernel_size=5, depthwise=2),
            training=dict(_CNN_SMALL_TRAINING, epochs=15),
            by_dataset={"digits": dict(batch_size=64)},
        ),
        Recipe(
            "mlp-120-84",
            "mlp",
            "hidden 120, 84",
            test_percent=97.62,
            seconds=9,
            model=dict(hidden=[120, 84], dropout=0.0),
            training=dict(epochs=10, batch_size=64, optimizer="adam", lr=1e-3),
        ),
        Recipe(
            "mlp-50-50",
            "mlp",
            "hidden 50, 50",
            test_percent=97.26,
            seconds=4,
            model=dict(hidden=[50, 50], dropout=0.0),
            # With a constant rate this high it ends at 96 %.
            training=dict(epochs=10, batch_size=128, optimizer="adam", lr=1e-2, schedule="cosine"),
        ),
        Recipe(
            "cnn-10-20",
            "cnn",
            "5x5 kernels, 50 hidden",
            test_percent=98.98,
            seconds=64,
            model=dict(channels=[10, 20], kernel_size=5, padding=0, hidden=[50], dropout=0.0),
            training=dict(epochs=10, batch_size=64, optimizer="adam", lr=1e-3),
        ),
        Recipe(
            "cnn-dropout",
            "cnn",
            "3x3 kernels, dropout",
            test_percent=99.19,
            seconds=161,
            model=dict(channels=[32, 64], kernel_size=3, padding=1, hidden=[128], dropout=0.25),
            training=dict(epochs=10, batch_size=96, optimizer="adam", lr=1e-3),
        ),
        Recipe(
            "sprint",
            "cnn",
            "cnn, one epoch",
            test_percent=99.24,
            seconds=4.6,
            model=dict(_SPRINT_MODEL, channels=[16, 32], hidden=[64]),
            training=dict(_SPRINT_TRAINING, epochs=1, ema=0.95),
        ),
        Recipe(
            "sprint-99.4",
            "cnn",
            "cnn, four epochs",
            test_percent=99.57,
            seconds=16.1,
            model=dict(_SPRINT_MODEL, channels=[16, 32], hidden=[128]),
            training=dict(_SPRINT_TRAINING, epochs=4, ema=0.98, augment=True),
        ),
        Recipe(
            "sprint-99.6",
            "cnn",
            "cnn, eight epochs",
            test_percent=99.61,
            seconds=62,
            model=dict(_SPRINT_MODEL, channels=[32, 64], hidden=[128]),
            training=dict(_SPRINT_TRAINING, epochs=8, ema=0.99, augment=True),
        ),
        Recipe(
            "reader",
            "cnn",
            "cnn, reads pictures",
            seconds=660,
            model=dict(_SPRINT_MODEL, channels=[48, 96], hidden=[128]),
            training=dict(
                _SPRINT_TRAINING,
                epochs=12,
                ema=0.997,
                augment=True,
                label_smoothing=0.0,
                composed=120_000,
            ),
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`; raises SettingsError with the nearest name."""
    return RECIPES[require_known("recipe", name, RECIPES)]
