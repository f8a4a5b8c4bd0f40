"""The proof of an export: the exported network and PyTorch's predict the same images.

Shapes: N images, H rows, W columns, K classes.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mnistcli.config.choices import ExportPrecision
from mnistcli.data.datasets import Dataset, get_dataset, has_all_files, load_dataset, open_dataset
from mnistcli.data.examples import Examples
from mnistcli.errors import DataError, shorten
from mnistcli.evaluation.inference import Predictions
from mnistcli.export.c_source import fill_template
from mnistcli.export.layers import ExportError
from mnistcli.reading.picture_data import read_picture_data
from mnistcli.runs.checkpoint import LoadedModel

# How far a probability may be off in float32; rounding makes 1e-6.
_TOLERANCE = 1e-3
# The accuracy that int8 may lose and the share of predictions that it may change, in 0..1. Both are
# far above what it usually costs, because one of 360 digits is already 0.3 points.
_MAX_INT8_LOSS, _MAX_INT8_CHANGES = 0.01, 0.05
# No exported file has a space in its name.
_PROGRAM = "proof program.c"
_COMPILER = "cc"
_COMPILER_OPTIONS = ("-std=c99", "-O3")


@dataclass(frozen=True)
class ProofImages:
    """Test images to predict, and training images that show the ranges of activations.

    `has_classes`: whether the network knows their classes.
    """

    dataset: str
    test: Examples
    training: Examples
    has_classes: bool


@dataclass(frozen=True)
class Proof:
    """How an exported network compares with PyTorch's on test images; accuracies in 0..1."""

    dataset: str
    num_images: int
    num_agreeing: int
    largest_difference: float
    torch_accuracy: float | None
    accuracy: float | None

    @property
    def loss(self) -> float | None:
        """How much less accurate the exported network is, in 0..1; None if that is unknown."""
        if self.accuracy is None or self.torch_accuracy is None:
            return None
        return self.torch_accuracy - self.accuracy


def load_proof_images(loaded: LoadedModel, data_dir: Path) -> ProofImages:
    """The images of the data set that a network was trained on if they are here, else digits.

    Raises:
        DataError: a file is damaged.
    """
    try:
        dataset = _open_training_data(loaded)
    except DataError:  # a user's own data set, which is not here any more
        dataset = get_dataset("digits")
    if not has_all_files(dataset, data_dir):
        dataset = get_dataset("digits")
    return ProofImages(
        dataset.name,
        load_dataset(dataset, "test", data_dir),
        load_dataset(dataset, "train", data_dir),
        loaded.card.classes == dataset.classes,
    )


def _open_training_data(loaded: LoadedModel) -> Dataset:
    settings = loaded.card.settings
    read_picture_data(settings.dataset)
    return open_dataset(settings)


def compare(expected: Predictions, probabilities_NK: Tensor, images: ProofImages) -> Proof:
    """Compare the probabilities (N, K) of an exported network with PyTorch's."""
    classes_N = probabilities_NK.argmax(dim=1)
    agrees_N = classes_N == expected.probabilities_NK.argmax(dim=1)
    num_correct = int((classes_N == expected.labels_N).sum())
    return Proof(
        images.dataset,
        num_images=len(classes_N),
        num_agreeing=int(agrees_N.sum()),
        largest_difference=(probabilities_NK - expected.probabilities_NK).abs().max().item(),
        torch_accuracy=expected.accuracy if images.has_classes else None,
        accuracy=num_correct / len(classes_N) if images.has_classes else None,
    )


def require_agreement(proof: Proof, precision: ExportPrecision) -> None:
    """Raise ExportError unless a network predicts what PyTorch does, with leeway for int8."""
    num_other = proof.num_images - proof.num_agreeing
    why = (
        f"{num_other:,} of {proof.num_images:,} predictions differ, "
        f"probabilities by up to {proof.largest_difference:.2g}."
    )
    if precision == "float32":
        if num_other or not proof.largest_difference <= _TOLERANCE:  # NaN is not
            raise ExportError(
                "The exported network is not the same as PyTorch's, so it was not written.",
                why=why,
                fix="This is a bug: please report it with the checkpoint.",
            )
    elif num_other > _MAX_INT8_CHANGES * proof.num_images or (proof.loss or 0) > _MAX_INT8_LOSS:
        if proof.loss is not None:
            why = f"{why} It loses {100 * proof.loss:.2f} points of accuracy."
        raise ExportError(
            "The int8 network is too far from PyTorch's, so it was not written.",
            why=f"{why} At most {100 * _MAX_INT8_CHANGES:g} % and "
            f"{100 * _MAX_INT8_LOSS:g} point are accepted.",
            fix="Export it as float32: --precision float32",
        )


def has_compiler() -> bool:
    """Whether this machine has a C compiler."""
    return shutil.which(_COMPILER) is not None


def run_c(
    files: Mapping[str, bytes],
    header: str,
    images_NHW: Tensor,
    folder: Path,
    *,
    num_classes: int = 10,
) -> Tensor:
    """The probabilities (N, K) that C files compute, compiled in the empty directory `folder`.

    Raises:
        ExportError: they cannot be compiled, or the program fails.
    """
    program = {_PROGRAM: fill_template("proof.c", num_classes=num_classes, header=header).encode()}
    for name, content in {**files, **program}.items():
        (folder / name).write_bytes(content)
    sources = [name for name in (*files, *program) if name.endswith(".c")]
    _run([_COMPILER, *_COMPILER_OPTIONS, *sources, "-lm", "-o", "proof"], folder)
    output = _run([os.curdir + os.sep + "proof"], folder, images_NHW.numpy().tobytes())
    probabilities_NK = torch.frombuffer(bytearray(output), dtype=torch.float32)
    probabilities_NK = probabilities_NK.reshape(-1, num_classes)
    if len(probabilities_NK) != len(images_NHW):
        raise ExportError("The exported program ended early.")
    return probabilities_NK


def _run(command: list[str], folder: Path, data: bytes = b"") -> bytes:
    result = subprocess.run(  # noqa: S603 (the C compiler, and what it has made)
        command, cwd=folder, input=data, capture_output=True, check=False
    )
    if result.returncode:
        lines = result.stderr.decode(errors="replace").splitlines()
        # A compiler names the function and the file before it says what is wrong.
        errors = [line for line in lines if "error" in line] or lines
        raise ExportError(
            f"{command[0]} failed.",
            why=shorten(errors[0]) if errors else f"Its exit code is {result.returncode}.",
            fix="This is a bug, or the compiler does not know C99: please report it.",
        )
    return result.stdout
