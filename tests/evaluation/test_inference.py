"""Predictions are the ones worked out by hand, in float32, and leave the network unchanged."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnistcli.data import batches
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.evaluation.inference import evaluate_network
from tests.helpers.training import (
    build_state,
    digits_normalization,
    load_digits,
    make_settings,
    some_digits,
    train_network,
)


class FixedLogits(nn.Module):
    """Returns the same logits for any images."""

    def __init__(self, logits_NK: Tensor) -> None:
        super().__init__()
        self.logits_NK = logits_NK

    def forward(self, _x_NCHW: Tensor) -> Tensor:
        return self.logits_NK


def test_predictions_are_the_ones_worked_out_by_hand() -> None:
    probabilities_NK = torch.full((3, 10), 0.05)
    probabilities_NK[0, 4], probabilities_NK[1, 7], probabilities_NK[2, 0] = 0.55, 0.55, 0.55
    examples = Examples(torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([4, 7, 1]))
    model = FixedLogits(probabilities_NK.log() - 3)
    predictions = evaluate_network(model, examples, Normalization(0, 1, 28))
    assert predictions.accuracy == 2 / 3
    assert predictions.loss == pytest.approx(-(2 * math.log(0.55) + math.log(0.05)) / 3)
    torch.testing.assert_close(predictions.probabilities_NK, probabilities_NK)
    assert predictions.labels_N.tolist() == [4, 7, 1]


@pytest.mark.parametrize("training", [False, True])
def test_an_evaluation_changes_nothing(training: bool) -> None:
    """It keeps the mode, the weights, batch norm's statistics and the random generator."""
    settings = make_settings(recipe="cnn-small", width=2)
    model = build_state(settings, 8).model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rng = torch.get_rng_state()
    modes: list[bool] = []
    model.register_forward_hook(lambda model, _inputs, _output: modes.append(model.training))
    evaluate_network(model, some_digits(20), digits_normalization(settings))
    assert set(modes) == {False}
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_batches_of_any_size_give_the_same_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, examples = make_settings(), some_digits(50, "test")
    model = build_state(settings, 50).model
    whole = evaluate_network(model, examples, digits_normalization(settings))
    monkeypatch.setattr(batches, "evaluation_batch_size", lambda _device: 7)
    parts = evaluate_network(model, examples, digits_normalization(settings))
    torch.testing.assert_close(parts.probabilities_NK, whole.probabilities_NK)
    assert parts.loss == pytest.approx(whole.loss)
    assert parts.accuracy == whole.accuracy


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_evaluation_is_float32_without_tf32(device: str) -> None:
    settings = make_settings(recipe="cnn-26k", lr=0.003)
    state, _ = train_network(settings, some_digits(320))
    test, normalization = load_digits("test"), digits_normalization(settings)
    model = state.eval_model.to(device)
    precisions: set[str] = set()

    def note(_model: nn.Module, _inputs: Any, _output: Any) -> None:
        backends: Any = torch.backends
        precisions.update((backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision))

    hook = model.register_forward_hook(note)
    predictions = evaluate_network(model, test.to(torch.device(device)), normalization)
    hook.remove()
    assert "tf32" not in precisions
    assert predictions.probabilities_NK.device.type == "cpu"
    model.to("cpu", torch.float64).eval()
    with torch.inference_mode():
        exact_NK = model(normalize(test.images_NHW, normalization).double()).softmax(dim=1)
    # Float32 rounds at 6e-8 of logits around 10, some hundred times; float16 at 5e-4.
    assert (predictions.probabilities_NK.double() - exact_NK).abs().max() < 1e-4
