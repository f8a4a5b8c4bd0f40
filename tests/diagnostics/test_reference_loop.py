"""The usual loop: torchvision's pictures, the engine's network, a loss that falls."""

from pathlib import Path

import pytest
import torch
from torch.optim import Optimizer

from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.diagnostics.reference_loop import InMemoryMNIST, ReferenceLoop, make_loader
from mnistcli.models.registry import count_parameters
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState

DIGITS = get_dataset("digits")
NORMALISATION = Normalization(DIGITS.mean, DIGITS.std, 28)


def digits(num: int) -> Examples:
    return load_dataset(DIGITS, "train", Path()).take(torch.arange(num))


def settings(recipe: str) -> TrainSettings:
    """Of a recipe, at a rate that does not wait for an end."""
    flags = {"recipe": recipe, "dataset": "digits", "schedule": "constant"}
    return fit_budget(resolve_settings(flags, environ={}).settings)


def test_its_pictures_are_those_the_engine_sees() -> None:
    examples = digits(5)
    pictures = InMemoryMNIST(examples, NORMALISATION)
    x_NCHW = normalize(examples.images_NHW, NORMALISATION)
    assert len(pictures) == 5
    for index in range(5):
        picture_CHW, label = pictures[index]
        torch.testing.assert_close(picture_CHW, x_NCHW[index])
        assert label == int(examples.labels_N[index])


def test_pictures_are_enlarged_for_a_network_that_sees_more_pixels() -> None:
    pictures = InMemoryMNIST(digits(1), Normalization(0.5, 0.5, 64))
    assert pictures[0][0].shape == (1, 64, 64)


def test_every_picture_comes_once_an_epoch_in_a_new_order() -> None:
    examples = digits(50)
    data = make_loader(examples, NORMALISATION, batch_size=20, num_processes=0)
    epochs = [[batch_N for _, batch_N in data] for _ in range(2)]
    assert [len(batch_N) for batch_N in epochs[0]] == [20, 20, 10]
    orders = [torch.cat(epoch) for epoch in epochs]
    assert not torch.equal(*orders)
    for order_N in orders:
        assert torch.equal(order_N.sort().values, examples.labels_N.sort().values)


@pytest.mark.parametrize(
    ("recipe", "precision"), [("cnn-26k", "bfloat16"), ("cnn-small", "float32")]
)
def test_the_usual_loop_and_the_engine_train_the_same_network(recipe: str, precision: str) -> None:
    chosen = settings(recipe)
    examples = digits(640)
    loop = ReferenceLoop(chosen, device="cpu", precision=precision)
    state = TrainState(chosen, num_examples=640, device="cpu", precision=precision)
    ours, theirs = state.model.state_dict(), loop.model.state_dict()
    # They begin with the same weights, name by name.
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sum(p.numel() for p in loop.model.parameters()) == count_parameters(
        chosen.arch, chosen.network
    )
    nothing = examples.take(torch.arange(0))
    epochs = fit(state, examples, nothing, NORMALISATION)
    our_losses = [next(epochs).train_loss for _ in range(3)]
    data = make_loader(examples, NORMALISATION, batch_size=chosen.batch_size, num_processes=0)
    their_losses = [loop.train(data) for _ in range(3)]
    assert our_losses[-1] < 0.9 * our_losses[0]
    assert their_losses[-1] < 0.9 * their_losses[0]


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("mlp-nll-sgd", torch.optim.SGD),
        ("cnn-26k", torch.optim.Adam),
        ("cnn-small", torch.optim.AdamW),
    ],
)
def test_its_optimiser_is_pytorchs_default_for_the_recipe(
    recipe: str, kind: type[Optimizer]
) -> None:
    chosen = settings(recipe)
    optimizer = ReferenceLoop(chosen, device="cpu", precision="float32").optimizer
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["lr"] == chosen.lr
    assert group["weight_decay"] == chosen.weight_decay
    assert group.get("momentum", 0.9) == chosen.momentum
    assert not group["fused"]
