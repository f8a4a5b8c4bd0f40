"""Weights of other programs: PyTorch's example of MNIST, and what is like it."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from mnistcli.errors import DataError
from mnistcli.runs.checkpoint import load_checkpoint
from tests.helpers.cli import Mnist


class ExampleNet(nn.Module):
    """The layers of `mnist/main.py` of PyTorch's examples, by their names there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)


def fix_of(content: object) -> str:
    torch.save(content, "weights.pt")
    with pytest.raises(DataError, match=r"weights\.pt") as caught:
        load_checkpoint(Path("weights.pt"))
    return caught.value.fix


NETWORKS = {
    "example": ExampleNet(),
    "no hidden layer": nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten(), nn.Linear(8 * 144, 10)),
    "no layer but one": nn.Linear(784, 10),
    "batch norm": nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Linear(16 * 49, 10),
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_command_for_a_network_of_the_same_layers_works(mnist: Mnist, kind: str) -> None:
    weights = NETWORKS[kind].state_dict()
    [options] = re.findall(r"mnist train (--arch [^(]*)", fix_of(weights))
    words = [*shlex.split(options), "--dataset", "digits", "--epochs", "1", "--name", "x"]
    assert mnist("train", *words).exit_code == 0
    network = load_checkpoint(Path("runs/x/best.pth")).network
    # As docs/python.md says.
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_inside_of_a_training_state_are_found(key: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 10))
    assert "--arch mlp --hidden 50" in fix_of({"epoch": 3, key: network.state_dict()})


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(784, 50), nn.Linear(50, 26)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8 * 13 * 13, 10)),
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 5), nn.Linear(8 * 100, 10)),
        nn.Sequential(nn.Conv2d(1, 8, 40), nn.Linear(8, 10)),
        nn.Linear(784, 10, bias=False),
        nn.Sequential(nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.Linear(8 * 144, 10)),
    ],
)
def test_other_layers_fit_no_architecture(network: nn.Module) -> None:
    assert "mnist train --arch" not in fix_of(network.state_dict())


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(10, 784)], torch.zeros(3), {}])
def test_what_are_not_weights_is_said_to_be_no_checkpoint(content: object) -> None:
    assert "mnist train wrote" in fix_of(content)
