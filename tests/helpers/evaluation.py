"""Two networks and some images to evaluate them on, and made-up scores."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from mnistcli.data.examples import Examples
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint
from tests.helpers.training import load_digits


def load_models(trained: Path) -> list[LoadedModel]:
    """The bundled network, which knows MNIST, and one trained for three epochs on digits."""
    return [load_checkpoint(BUNDLED_CHECKPOINT), load_checkpoint(trained / "best.pth")]


def hundred_digits() -> Examples:
    """A hundred test digits; each of the two networks misclassifies some."""
    return load_digits("test").take(torch.arange(100, 200))


def probabilities(loaded: LoadedModel, examples: Examples) -> torch.Tensor:
    """The probabilities (N, 10) of a network alone."""
    return evaluate_network(loaded.network, examples, loaded.normalization).probabilities_NK


def count_errors(probabilities_NK: torch.Tensor, examples: Examples) -> int:
    """The number of images with another label than the most probable class."""
    return int((probabilities_NK.argmax(dim=1) != examples.labels_N).sum())


def with_settings(loaded: LoadedModel, **settings: object) -> LoadedModel:
    """The same network with other settings in its card."""
    new = loaded.card.settings.model_copy(update=settings)
    return replace(loaded, card=loaded.card.model_copy(update={"settings": new}))


def make_score(name: str, wrong: Collection[int], *, num_images: int = 100) -> Score:
    """A score on images of two classes; those at `wrong` are 1 and were predicted as 0."""
    num_errors = len(wrong)
    accuracy = 1 - num_errors / num_images
    return Score(
        *(name, "mnist", "test", num_images, num_errors, 0.5, accuracy, (0.25, 0.75)),
        classes=[ClassScore("a", 60, 0.5, 0.6, 0.7), ClassScore("b", 40, 0.7, 0.8, 0.8)],
        confusion=[[60, 0], [num_errors, num_images - 60 - num_errors]],
        mistakes=[Mistake(index, 1, 0, 0.9, 0.1) for index in wrong],
    )
