"""`mnist export`: write a network for other programs once it predicts what PyTorch predicts."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.config.choices import ExportFormat, ExportPrecision
from mnistcli.config.dataset_names import dataset_title
from mnistcli.errors import SettingsError
from mnistcli.evaluation.inference import Predictions, evaluate_network
from mnistcli.export.c_source import CSource, fill_template, float_source, integer_source
from mnistcli.export.layers import ExportError, fold_layers, plain_modules
from mnistcli.export.onnx import onnx_model, require_onnx, run_onnx
from mnistcli.export.proof import (
    Proof,
    ProofImages,
    compare,
    has_compiler,
    require_agreement,
    run_c,
)
from mnistcli.export.quantize import quantize
from mnistcli.runs.checkpoint import LoadedModel, software_versions
from mnistcli.system.files import write_atomically

# Training images that show the ranges of activations.
_NUM_CALIBRATION_IMAGES = 1000


@dataclass(frozen=True)
class Exported:
    """What was written; `source` for C only, `proof` None where it could not be made."""

    paths: list[Path]
    num_bytes: int
    source: CSource | None
    proof: Proof | None


def export_network(
    loaded: LoadedModel,
    target: Path,
    images: ProofImages,
    *,
    export_format: ExportFormat,
    precision: ExportPrecision = "float32",
    with_main: bool = False,
    command: Sequence[str] = (),
) -> Exported:
    """Write a network to `target`; for C also a header and, `with_main`, a program, beside it.

    Raises:
        ExportError: the network cannot be exported, or does not predict what PyTorch predicts; then
            nothing is written.
        OSError: a file cannot be written.
    """
    if export_format == "onnx":
        require_onnx()
    expected = evaluate_network(loaded.network, images.test, loaded.normalization)
    facts = _facts(loaded, expected, images, command)
    source: CSource | None = None
    proof: Proof | None
    if export_format == "onnx":
        files = {target.name: onnx_model(loaded.network, loaded.normalization, facts)}
        proof = compare(expected, run_onnx(files[target.name], images.test.images_NHW), images)
    else:
        source = _c_source(loaded, target, images, precision)
        num_classes = len(loaded.card.classes)
        files = _c_files(
            source, target, facts, precision, num_classes=num_classes, with_main=with_main
        )
        proof = _prove_c(files, target, expected, images)
    if proof:
        require_agreement(proof, precision)
    _write(files, target.parent)
    paths = [target.with_name(name) for name in files]
    return Exported(paths, sum(map(len, files.values())), source, proof)


def _write(files: dict[str, bytes], folder: Path) -> None:
    directories = [name for name in files if (folder / name).is_dir()]
    if directories:
        raise ExportError(
            f"'{folder / directories[0]}' cannot be written.",
            why="It is a directory.",
            fix="Choose another name with -o.",
        )
    for name, content in files.items():
        _replace(folder / name, content)


def _replace(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def check_target(target: Path, export_format: ExportFormat) -> None:
    """Raise an error if a file of this name should not or cannot be written.

    Raises:
        SettingsError: the suffix is another format's, or other characters than `#include` allows.
        ExportError: its directory does not exist.
    """
    if target.suffix != f".{export_format}":
        raise SettingsError(
            f"'{target.name}' does not end in .{export_format}.",
            fix=f"Choose another name: -o {target.stem or 'network'}.{export_format}",
        )
    if export_format == "c" and not re.fullmatch(r"\w[\w.+-]*", target.name, re.ASCII):
        raise SettingsError(
            f"'{target.name}' cannot be included in a C program.",
            why="It has to begin with a letter, a digit or _; then . + - may follow too.",
            fix="Choose another name: -o network.c",
        )
    if not target.parent.is_dir():
        raise ExportError(
            f"'{target}' cannot be written.",
            why=f"{target.parent} is not a directory.",
            fix=f"Make it first: mkdir -p {shlex.quote(str(target.parent))}",
        )


def _facts(
    loaded: LoadedModel, expected: Predictions, images: ProofImages, command: Sequence[str]
) -> dict[str, str]:
    """What a file says about its network."""
    settings = loaded.card.settings
    num_params = sum(parameter.numel() for parameter in loaded.network.parameters())
    facts = {
        "network": f"{settings.arch} (recipe {settings.recipe}), {num_params:,} parameters",
        "trained on": dataset_title(settings.dataset),
        "classes": ", ".join(loaded.card.classes),
        "versions": ", ".join(f"{name} {value}" for name, value in software_versions().items()),
        "command": shlex.join(command),
    }
    if images.has_classes:
        facts["accuracy"] = (
            f"{100 * expected.accuracy:.2f} % by PyTorch on the {len(images.test):,} test images "
            f"of {dataset_title(images.dataset)}"
        )
    return facts


def _c_source(
    loaded: LoadedModel, target: Path, images: ProofImages, precision: ExportPrecision
) -> CSource:
    normalization, header = loaded.normalization, f"{target.stem}.h"
    layers = fold_layers(
        plain_modules(loaded.network, normalization.input_px), normalization.input_px
    )
    if precision == "float32":
        return float_source(layers, normalization, header=header)
    calibration_NHW = images.training.images_NHW[:_NUM_CALIBRATION_IMAGES]
    return integer_source(
        quantize(layers, normalization, calibration_NHW), normalization, header=header
    )


def _c_files(
    source: CSource,
    target: Path,
    facts: dict[str, str],
    precision: ExportPrecision,
    *,
    num_classes: int,
    with_main: bool,
) -> dict[str, bytes]:
    """The content of the C files by their names."""
    facts = {
        **facts,
        "precision": precision,
        "flash": f"{source.flash_bytes:,} bytes of constants on a 32-bit processor, and the code",
        "RAM": f"{source.ram_bytes:,} bytes of static variables, and a small stack",
    }
    lines = "\n".join(f" * {key}: {value}" for key, value in facts.items())
    # Within a comment, neither end it nor seem to begin another.
    lines = lines.replace("*/", "* /").replace("/*", "/ *")
    header = f"{target.stem}.h"
    texts = {
        header: fill_template("network.h", num_classes=num_classes, facts=lines),
        target.name: source.text,
    }
    if with_main:
        name = f"{target.stem}_main.c"
        texts[name] = fill_template(
            "main.c", num_classes=num_classes, header=header, stem=target.stem
        )
    return {name: text.encode() for name, text in texts.items()}


def _prove_c(
    files: dict[str, bytes], target: Path, expected: Predictions, images: ProofImages
) -> Proof | None:
    if not has_compiler():
        return None
    header = f"{target.stem}.h"
    proved = {name: files[name] for name in (header, target.name)}
    with TemporaryDirectory(prefix="mnist-export-") as folder:
        probabilities_NK = run_c(
            proved,
            header,
            images.test.images_NHW,
            Path(folder),
            num_classes=expected.probabilities_NK.shape[1],
        )
    return compare(expected, probabilities_NK, images)
