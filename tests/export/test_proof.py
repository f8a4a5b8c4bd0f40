"""The comparison with PyTorch."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnistcli.data.datasets import get_dataset
from mnistcli.evaluation.inference import Predictions
from mnistcli.export.layers import ExportError
from mnistcli.export.proof import (
    Proof,
    ProofImages,
    compare,
    load_proof_images,
    require_agreement,
    run_c,
)
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint
from tests.helpers.evaluation import with_settings
from tests.helpers.exports import needs_compiler
from tests.helpers.training import some_digits

EXAMPLES = some_digits(4, "test")
IMAGES = ProofImages("digits", EXAMPLES, EXAMPLES, has_classes=True)


def certain(*classes: int) -> torch.Tensor:
    """Probabilities (N, 10) of 0.91 for one class each and 0.01 for the others."""
    return 0.9 * torch.eye(10)[list(classes)] + 0.01


LABELS = EXAMPLES.labels_N.tolist()
EXPECTED = Predictions(0.0, certain(*LABELS), EXAMPLES.labels_N)


def test_equal_predictions_agree() -> None:
    proof = compare(EXPECTED, certain(*LABELS) + 1e-6, IMAGES)
    assert (proof.num_images, proof.num_agreeing) == (4, 4)
    assert proof.largest_difference == pytest.approx(1e-6, rel=0.1)
    assert proof.accuracy == proof.torch_accuracy == 1
    require_agreement(proof, "float32")


def test_one_other_prediction_is_an_error() -> None:
    proof = compare(EXPECTED, certain((LABELS[0] + 1) % 10, *LABELS[1:]), IMAGES)
    assert (proof.num_agreeing, proof.accuracy, proof.torch_accuracy) == (3, 0.75, 1)
    with pytest.raises(ExportError) as caught:
        require_agreement(proof, "float32")
    assert "1 of 4 predictions" in caught.value.why


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_other_probabilities_are_an_error(change: float) -> None:
    probabilities_NK = certain(*LABELS)
    probabilities_NK[0, (LABELS[0] + 1) % 10] += change
    with pytest.raises(ExportError):
        require_agreement(compare(EXPECTED, probabilities_NK, IMAGES), "float32")


@pytest.mark.parametrize(
    ("num_agreeing", "accuracy", "accepted"),
    [
        *((950, 0.97, True), (949, 0.97, False), (990, 0.961, True), (990, 0.959, False)),
        *((950, None, True), (949, None, False)),
    ],
)
def test_int8_may_change_few_predictions_and_lose_little(
    num_agreeing: int, accuracy: float | None, accepted: bool
) -> None:
    torch_accuracy = None if accuracy is None else 0.97
    proof = Proof("digits", 1000, num_agreeing, 0.5, torch_accuracy, accuracy)
    with nullcontext() if accepted else pytest.raises(ExportError, match="int8"):
        require_agreement(proof, "int8")


def test_digits_stand_in_for_a_data_set_that_is_not_here(tmp_path: Path) -> None:
    loaded = load_checkpoint(BUNDLED_CHECKPOINT)
    images = load_proof_images(loaded, tmp_path)
    assert (images.dataset, len(images.test), images.has_classes) == ("digits", 360, True)
    classes = get_dataset("kmnist").classes
    other = with_settings(loaded, dataset="kmnist")
    other = replace(other, card=other.card.model_copy(update={"classes": classes}))
    images = load_proof_images(other, tmp_path)
    assert not images.has_classes
    assert compare(EXPECTED, certain(*LABELS), images).accuracy is None


@needs_compiler
@pytest.mark.parametrize("text", ["int x = ;", "int mnist_predict(void) { return 1 / 0 }"])
def test_a_program_that_cannot_be_compiled_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        run_c({"net.c": text.encode()}, "net.h", EXAMPLES.images_NHW, tmp_path)
    assert "cc" in caught.value.what
    assert "error" in caught.value.why
