"""The reference loop: torchvision's images, the engine's network, a loss that falls."""

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
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState

DIGITS = get_dataset("digits")
NORMALIZATION = Normalization(DIGITS.mean, DIGITS.std, 28)


def digits(num: int) -> Examples:
    return load_dataset(DIGITS, "train", Path()).take(torch.arange(num))


def settings(recipe: str) -> TrainSettings:
    """The settings of a recipe, at a constant learning rate."""
    flags = {"recipe": recipe, "dataset": "digits", "schedule": "constant"}
    return fit_budget(resolve_settings(flags, environ={}).settings)


def test_its_images_are_the_engines() -> None:
    examples = digits(5)
    dataset = InMemoryMNIST(examples, NORMALIZATION)
    x_NCHW = normalize(examples.images_NHW, NORMALIZATION)
    assert len(dataset) == 5
    for index in range(5):
        image_CHW, label = dataset[index]
        torch.testing.assert_close(image_CHW, x_NCHW[index])
        assert label == int(examples.labels_N[index])


def test_images_are_enlarged_for_a_network_that_sees_more_pixels() -> None:
    dataset = InMemoryMNIST(digits(1), Normalization(0.5, 0.5, 64))
    assert dataset[0][0].shape == (1, 64, 64)


def test_every_image_comes_once_an_epoch_in_a_new_order() -> None:
    examples = digits(50)
    loader = make_loader(examples, NORMALIZATION, batch_size=20, num_processes=0)
    epochs = [[batch_N for _, batch_N in loader] for _ in range(2)]
    assert [len(batch_N) for batch_N in epochs[0]] == [20, 20, 10]
    orders = [torch.cat(epoch) for epoch in epochs]
    assert not torch.equal(*orders)
    for order_N in orders:
        assert torch.equal(order_N.sort().values, examples.labels_N.sort().values)


@pytest.mark.parametrize(
    ("recipe", "precision"), [("cnn-26k", "bfloat16"), ("cnn-small", "float32")]
)
def test_the_reference_loop_and_the_engine_train_the_same_network(
    recipe: str, precision: str
) -> None:
    options = settings(recipe)
    examples = digits(640)
    loop = ReferenceLoop(options, device="cpu", precision=precision)
    state = TrainState(options, num_examples=640, device="cpu", precision=precision)
    initial, expected = loop.model.state_dict(), state.model.state_dict()
    assert list(initial) == list(expected)
    assert all(torch.equal(initial[name], expected[name]) for name in initial)
    epochs = fit(state, examples, examples.take(torch.arange(0)), NORMALIZATION)
    engine_losses = [next(epochs).train_loss for _ in range(3)]
    loader = make_loader(examples, NORMALIZATION, batch_size=options.batch_size, num_processes=0)
    loop_losses = [loop.train(loader) for _ in range(3)]
    assert engine_losses[-1] < 0.9 * engine_losses[0]
    assert loop_losses[-1] < 0.9 * loop_losses[0]


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("mlp-nll-sgd", torch.optim.SGD),
        ("cnn-26k", torch.optim.Adam),
        ("cnn-small", torch.optim.AdamW),
    ],
)
def test_its_optimizer_is_pytorchs_default_for_the_recipe(
    recipe: str, kind: type[Optimizer]
) -> None:
    options = settings(recipe)
    optimizer = ReferenceLoop(options, device="cpu", precision="float32").optimizer
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["lr"] == options.lr
    assert group["weight_decay"] == options.weight_decay
    assert group.get("momentum", 0.9) == options.momentum
    assert not group["fused"]
