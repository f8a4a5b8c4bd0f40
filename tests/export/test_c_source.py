"""C99 by a real compiler, with all warnings and with sanitizers."""

import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnistcli.data.normalization import Normalization
from mnistcli.export.c_source import CSource, _float, fill_template, integer_source
from mnistcli.models.registry import ARCHITECTURES
from tests.helpers.exports import (
    SANITIZED,
    SMALLER,
    c_files,
    every_recipe,
    float_c,
    integer_c,
    needs_compiler,
    predictions,
    quantized,
    random_network,
    run_integers,
    run_sanitized,
)
from tests.helpers.training import some_digits

pytestmark = needs_compiler


def check(
    network: nn.Module,
    normalization: Normalization,
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    num_classes: int = 10,
) -> None:
    """Float32 computes what PyTorch computes, and int8 what the integer layers stand for."""
    examples = some_digits(20, "test")
    expected_NK = predictions(network, normalization, examples).probabilities_NK
    source = float_c(network, normalization)
    run = partial(run_sanitized, examples=examples, monkeypatch=patch, num_classes=num_classes)
    computed_NK = run(source, folder=folder / "float32")
    torch.testing.assert_close(computed_NK, expected_NK, rtol=0, atol=1e-4)
    layers = quantized(network, normalization)
    source = integer_source(layers, normalization, header="net.h")
    computed_NK = run(source, folder=folder / "int8")
    exact_NK = run_integers(layers, normalization, examples.images_NHW)
    torch.testing.assert_close(computed_NK, exact_NK, rtol=0, atol=1e-5)
    assert (exact_NK - expected_NK).abs().mean() < 0.1


@every_recipe
def test_every_recipe(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(*random_network(recipe, **SMALLER.get(recipe, {})), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("cnn-15k", {"pool": "last", "padding": 0}),
        ("cnn-15k", {"kernel_size": 4, "padding": 3, "batch_norm": True}),
        ("cnn-small", {"width": 5, "kernel_size": 7, "depthwise": 4}),
        ("cnn-small", {"width": 3, "kernel_size": 3}),
    ],
)
def test_other_shapes(
    recipe: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*random_network(recipe, **changes), tmp_path, monkeypatch)


def test_other_numbers_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, normalization = random_network("cnn-15k", num_classes=62)
    check(network, normalization, tmp_path, monkeypatch, num_classes=62)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_in_its_usual_size(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*random_network(ARCHITECTURES[arch].default_recipe), tmp_path, monkeypatch)


def sources(recipe: str = "cnn-small") -> list[CSource]:
    network = random_network(recipe)
    return [float_c(*network), integer_c(*network)]


def test_the_same_network_gives_the_same_text() -> None:
    assert sources() == sources()


@pytest.mark.parametrize("recipe", ["cnn-small", "cnn-26k", "mlp-50-50"])
def test_the_sizes_are_the_compilers(recipe: str, tmp_path: Path) -> None:
    for number, source in enumerate(sources(recipe)):
        constants = re.findall(r"^static const \w+ (\w+)\[\d+\] =", source.text, re.MULTILINE)
        variables = re.findall(r"^static \w+ (.+);$", source.text, re.MULTILINE)
        names = re.findall(r"(\w+)\[", " ".join(variables))
        assert names
        for path, content in c_files(source).items():
            (tmp_path / path).write_bytes(content)
        (tmp_path / "sizes.c").write_text(
            '#include "net.c"\n#include <stdio.h>\n'
            f'int main(void) {{ printf("%zu %zu", {sum_of(constants)}, {sum_of(names)}); }}\n'
        )
        program = compile_c(tmp_path, f"sizes{number}", "sizes.c", options=("-std=c99",))
        flash_bytes, ram_bytes = map(int, subprocess.check_output([program]).split())
        assert ram_bytes == source.ram_bytes
        # The rest is the table of layers, whose pointers may have 8 bytes here.
        table_bytes = source.flash_bytes - flash_bytes
        assert table_bytes % source.text.count(".weights = ") == 0
        assert 0 < table_bytes <= 14 * 56


def sum_of(names: list[str]) -> str:
    return " + ".join(f"sizeof {name}" for name in names)


def compile_c(folder: Path, name: str, *files: str, options: tuple[str, ...] = SANITIZED) -> Path:
    subprocess.run(["cc", *options, *files, "-lm", "-o", name], cwd=folder, check=True)
    return folder / name


def test_nothing_but_expf_is_called(tmp_path: Path) -> None:
    for source in sources():
        for path, content in c_files(source).items():
            (tmp_path / path).write_bytes(content)
        subprocess.run(["cc", "-std=c99", "-O2", "-c", "net.c"], cwd=tmp_path, check=True)
        table = subprocess.check_output(["nm", "-u", "net.o"], cwd=tmp_path, text=True)
        called = {line.split()[-1].lstrip("_") for line in table.splitlines()}
        # What a compiler makes of loops that fill and copy.
        assert called - {"memset", "memcpy", "GLOBAL_OFFSET_TABLE_"} == {"expf"}


def test_the_program_reads_idx_and_pgm(tmp_path: Path) -> None:
    network, normalization = random_network("cnn-small")
    examples = some_digits(3, "test")
    files = c_files(integer_c(network, normalization))
    files["net_main.c"] = fill_template("main.c", header="net.h", stem="net").encode()
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    program = compile_c(tmp_path, "net", "net.c", "net_main.c")
    pixels = examples.images_NHW.numpy().tobytes()
    idx = tmp_path / "idx"
    idx.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28]) + pixels)
    lines = subprocess.check_output([program, idx], text=True).splitlines()
    probable_N = predictions(network, normalization, examples).probabilities_NK.max(dim=1)
    for line, value, index in zip(lines, *probable_N, strict=True):
        digit, probability = line.split()
        assert int(digit) == index
        assert abs(float(probability) - value) < 0.15

    pgm = tmp_path / "digit.pgm"
    pgm.write_bytes(b"P5\n# a comment\n28 28\n255\n" + pixels[: 28 * 28])
    assert subprocess.check_output([program, pgm], text=True).splitlines() == lines[:1]

    for content, words in (
        (b"P5 29 28 255\n" + bytes(29 * 28), "not a PGM"),
        (b"P5 28", "not a PGM"),
        (b"P2 28 28 255\n", "not a PGM"),
        (b"", "not a PGM"),
        (idx.read_bytes()[:-1], "after 2 of 3"),
        (bytes([0, 0, 8, 3, 255, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28]), "not a PGM"),
    ):
        idx.write_bytes(content)
        result = subprocess.run([program, idx], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert words in result.stderr
    for arguments, code in (([], 2), ([tmp_path / "none"], 1)):
        result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (code, "")


@pytest.mark.parametrize("value", [1.0, -3.0, 1e-30, 0.1, 1e30])
def test_literals_read_back_as_the_same_float32(value: float) -> None:
    literal = _float(torch.tensor(value).item())
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?f", literal)
    assert re.search(r"[.e]", literal)
    assert torch.tensor(float(literal[:-1])) == torch.tensor(value)
