"""Every precision trains on every device there is: the same tests on CUDA and on this CPU."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli import Training, judge
from mnistcli.data.normalization import normalize
from mnistcli.diagnostics.device_checks import check_loss_scaling
from mnistcli.training.device import DTYPES, Choice, pick_device, pick_precision
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from tests.helpers.cli import Mnist
from tests.helpers.training import (
    build_state,
    digits_normalization,
    make_settings,
    some_digits,
    split_digits,
    train_network,
)

CNN = {"recipe": "cnn-26k", "lr": 0.003}
on_every_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
)


@pytest.mark.slow
@on_every_device
@pytest.mark.parametrize("precision", DTYPES)
def test_every_precision_learns_to_read_digits(device: str, precision: str) -> None:
    settings = make_settings(**CNN, epochs=5, batch_size=32)
    train, val = split_digits(device)
    _, epochs = train_network(settings, train, val, device=device, precision=precision)
    assert epochs[-1].val_accuracy is not None
    assert epochs[-1].val_accuracy > 0.8  # a tenth by chance; all precisions reach 0.95


def optimizer_tensors(state: TrainState) -> list[Tensor]:
    return [tensor for tensors in state.optimizer.state.values() for tensor in tensors.values()]


@on_every_device
@pytest.mark.parametrize("precision", DTYPES)
def test_only_forward_and_backward_pass_are_in_the_precision(device: str, precision: str) -> None:
    """Weights, optimizer and evaluation stay in float32; only float16 scales its loss."""
    settings, target = make_settings(**CNN, epochs=1), torch.device(device)
    train, val = some_digits(320).to(target), some_digits(40, "test").to(target)
    state = build_state(settings, 320, device=device, precision=precision)
    outputs: set[tuple[bool, torch.dtype]] = set()
    state.model.register_forward_hook(
        lambda model, _inputs, output: outputs.add((model.training, output.dtype))
    )
    list(fit(state, train, val, digits_normalization(settings)))
    assert outputs == {(True, DTYPES[precision]), (False, torch.float32)}
    tensors = [*state.model.parameters(), *optimizer_tensors(state)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert {tensor.device.type for tensor in tensors} == {device}
    assert state.scaler.is_enabled() is (precision == "float16")


@on_every_device
@pytest.mark.parametrize("precision", DTYPES)
def test_augmentation_ema_and_schedule_work_in_every_precision(device: str, precision: str) -> None:
    """A schedule that warns of a skipped step would fail this test."""
    settings = make_settings(
        recipe="cnn-small", schedule="onecycle", width=4, batch_size=64, augment=True, ema=0.9
    )
    train = some_digits(320).to(torch.device(device))
    val = some_digits(0).to(torch.device(device))
    state, epochs = train_network(settings, train, val, device=device, precision=precision)
    assert len(epochs) == 2
    assert state.ema
    assert next(state.ema.module.parameters()).device.type == device


def float16_state(device: str) -> tuple[TrainState, Tensor, Tensor]:
    settings, examples = make_settings(**CNN), some_digits(64).to(torch.device(device))
    x_NCHW = normalize(examples.images_NHW, digits_normalization(settings))
    return build_state(settings, 64, device=device, precision="float16"), x_NCHW, examples.labels_N


def changes_weights(state: TrainState, x_NCHW: Tensor, labels_N: Tensor, factor: float) -> bool:
    """Take a step like the engine's, with its loss times `factor`."""
    before = [weight.detach().clone() for weight in state.model.parameters()]
    with torch.autocast(state.device.type, state.dtype):
        logits_NK = state.model(x_NCHW)
    loss = F.cross_entropy(logits_NK.float(), labels_N) * factor
    state.optimizer.zero_grad()
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    after = state.model.parameters()
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@on_every_device
def test_an_overflow_skips_the_step_and_halves_the_scale(device: str) -> None:
    state, x_NCHW, labels_N = float16_state(device)
    # Finite in float32; its gradients are far above the largest float16 number, 65,504.
    assert not changes_weights(state, x_NCHW, labels_N, factor=1e25)
    assert state.scaler.get_scale() == 2.0**15
    assert not changes_weights(state, x_NCHW, labels_N, factor=1e25)
    assert state.scaler.get_scale() == 2.0**14
    assert changes_weights(state, x_NCHW, labels_N, factor=1.0)
    tensors = [*state.model.parameters(), *optimizer_tensors(state)]
    assert all(tensor.isfinite().all() for tensor in tensors)


@on_every_device
@pytest.mark.parametrize("is_scaled", [True, False])
def test_scaling_keeps_small_gradients_in_float16(device: str, is_scaled: bool) -> None:
    """Float16 rounds to 0 what is below 3e-8, as all gradients of this loss are."""
    state, x_NCHW, labels_N = float16_state(device)
    state.scaler = torch.amp.GradScaler(device, enabled=is_scaled)
    assert changes_weights(state, x_NCHW, labels_N, factor=1e-7) is is_scaled


@on_every_device
def test_the_doctors_check_of_loss_scaling_agrees(device: str) -> None:
    assert check_loss_scaling(device).status == "ok"


@pytest.mark.gpu
def test_auto_picks_the_gpu_and_a_precision_of_its_tensor_cores() -> None:
    assert pick_device("auto") == Choice("cuda", f"{torch.cuda.get_device_name()} works")
    is_native = torch.cuda.get_device_capability() >= (8, 0)
    assert pick_precision("auto", "cuda").value == ("bfloat16" if is_native else "float16")


@pytest.mark.gpu
def test_the_doctor_reports_that_cuda_works(mnist: Mnist) -> None:
    result = mnist("doctor", "--seconds", "5", "--data-dir", "data", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0, record["verdict"]
    checks = {check["name"]: check for check in record["checks"] if check["subject"] == "cuda:0"}
    for name in ("kernels", "float32", "float16", "loss scaling"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["bfloat16"]["status"] in ("ok", "skipped")
    # A GPU need not repeat bit for bit, but the doctor must report whether it does.
    assert checks["repeatable"]["status"] in ("ok", "warning")
    training = next(check for check in record["checks"] if check["name"] == "training")
    assert (training["status"], training["facts"]["device"]) == ("ok", "cuda")


@pytest.mark.gpu
def test_from_python_a_network_is_on_the_gpu_only_while_it_is_used() -> None:
    training = Training(make_settings(**CNN, device="cuda"))
    for _ in training:
        break
    assert len(list(training)) == 1, "it continues from the copy of its state"
    score = judge(training.best, device="cuda").score
    assert next(training.best.network.parameters()).device.type == "cpu"
    # Only a digit whose two best classes are equal but for rounding may differ.
    assert abs(judge(training.best, device="cpu").score.num_errors - score.num_errors) <= 2
