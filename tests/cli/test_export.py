"""`mnist export`: files that predict what PyTorch predicts, or none."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from tests.helpers.cli import Mnist
from tests.helpers.exports import SANITIZED, needs_compiler


@pytest.fixture
def needs_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.usefixtures("needs_onnx")
def test_onnx_is_proved_on_the_test_images(mnist: Mnist, trained: Path) -> None:
    result = mnist("export", trained, "-o", "net.onnx", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["file"], record["files"]) == ("net.onnx", ["net.onnx"])
    assert record["num_bytes"] == Path("net.onnx").stat().st_size
    proof = record["proof"]
    assert (proof["dataset"], proof["num_images"], proof["num_agreeing"]) == ("digits", 360, 360)
    assert proof["largest_difference"] < 1e-5
    assert proof["accuracy"] == proof["torch_accuracy"] > 0.8
    import onnx

    metadata = {each.key: each.value for each in onnx.load("net.onnx").metadata_props}
    assert metadata["classes"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert f"{100 * proof['accuracy']:.2f} %" in metadata["accuracy"]
    assert {"versions", "command"} < set(metadata)


@needs_compiler
def test_c_is_proved_and_says_what_it_needs(mnist: Mnist, trained: Path) -> None:
    result = mnist("export", trained, "--format", "c", "--main")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path().glob("small*")) == [
        *("small.c", "small.h", "small_main.c")
    ]
    assert "360 of 360" in result.stdout
    assert "Flash 106,992 bytes" in result.stdout
    header = Path("small.h").read_text()
    assert "106,992 bytes" in header
    assert "26,698 parameters" in header
    subprocess.run(["cc", *SANITIZED, "small.c", "small_main.c", "-lm", "-o", "small"], check=True)


@needs_compiler
def test_int8_is_a_quarter_of_the_size_and_about_as_accurate(mnist: Mnist, trained: Path) -> None:
    record = json.loads(
        mnist("export", "-c", trained, "-o", "net.c", "--precision", "int8", "--json").stdout
    )
    assert record["flash_bytes"] < 28_000
    assert record["ram_bytes"] < 3000
    proof = record["proof"]
    assert proof["accuracy"] > proof["torch_accuracy"] - 0.006
    assert proof["num_agreeing"] >= 355


@needs_compiler
def test_quiet_prints_the_file(mnist: Mnist, trained: Path) -> None:
    assert mnist("export", trained, "-o", "net.c", "-q").stdout == "net.c\n"


@needs_compiler
@pytest.mark.parametrize("name", [None, "cnn-small"])
def test_bundled_networks_are_proved_on_digits_without_mnist(
    mnist: Mnist, name: str | None
) -> None:
    words = [name] if name else []
    result = mnist("export", *words, "-o", "net.c", "--data-dir", "none")
    assert result.exit_code == 0, result.stderr
    assert "mnist is not in none" in result.stderr
    assert "digits" in result.stdout


@needs_compiler
def test_what_predicts_something_else_is_not_written(
    mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.export.export.run_c", lambda *_, **__: torch.full((360, 10), 0.1))
    result = mnist("export", trained, "-o", "net.c")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "of 360 predictions differ" in result.stderr
    assert not list(Path().glob("net*"))


@pytest.mark.usefixtures("needs_onnx")
def test_an_onnx_file_that_predicts_something_else_is_not_written(
    mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.export.export.run_onnx", lambda *_: torch.full((360, 10), 0.1))
    Path("net.onnx").write_text("before")
    assert mnist("export", trained, "-o", "net.onnx").exit_code == 1
    assert Path("net.onnx").read_text() == "before"


@needs_compiler
def test_int8_that_predicts_something_else_is_not_written(
    mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.export.export.run_c", lambda *_, **__: torch.full((360, 10), 0.1))
    result = mnist("export", trained, "-o", "net.c", "--precision", "int8")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--precision float32" in result.stderr
    assert not list(Path().glob("net*"))


@pytest.mark.parametrize("name", ["net.c", "net.h", "net_main.c"])
def test_a_directory_in_the_way_leaves_nothing_half_written(
    mnist: Mnist, trained: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    Path(name).mkdir()
    result = mnist("export", trained, "-o", "net.c", "--main")
    assert result.exit_code == 1
    assert name in result.stderr
    assert [path.name for path in Path().glob("*net*")] == [name]


@needs_compiler
@pytest.mark.parametrize("name", ["proof.c", "math.c", "stdint.c"])
def test_any_name_can_be_proved(mnist: Mnist, trained: Path, name: str) -> None:
    assert json.loads(mnist("export", trained, "-o", name, "--json").stdout)["proof"]


def test_without_a_compiler_c_is_written_and_not_proved(
    mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    result = mnist("export", trained, "-o", "net.c", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["proof"] is None
    assert "cc" in result.stderr
    assert Path("net.c").is_file()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        ([], 2, "-o digits.onnx"),
        (["-o", "net"], 2, "-o digits.onnx"),
        (["-o", "net.tflite"], 2, "onnx"),
        (["-f", "onx"], 2, "Did you mean onnx?"),
        (["-f", "c", "-o", "net.onnx"], 2, "-o net.c"),
        (["-f", "c", "--precision", "int4"], 2, "int8"),
        (["-f", "onnx", "--precision", "int8"], 2, "--format c, or leave out --precision int8"),
        (["-f", "onnx", "--main"], 2, "--format c, or leave out --main"),
        (["-o", "net.onnx", "--precision", "int8"], 2, "-o net.c"),
        (["--precision", "int8"], 2, "-o digits.c"),
        (["-o", "my net.c"], 2, "my net.c"),
        (["-o=-net.c"], 2, "-net.c"),
        (["a.pth", "-c", "b.pth", "-f", "c"], 2, "a.pth and b.pth"),
        (["none.pth", "-f", "c"], 3, "none.pth"),
        (["-o", "none/net.c"], 1, "mkdir -p none"),
    ],
)
def test_what_cannot_be_exported_is_an_error(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("export", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert words in result.stderr
    assert not list(Path().iterdir())


@pytest.mark.slow
@pytest.mark.mnist
@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "num_other"), [("-f onnx", 0), ("-f c", 0), ("-f c --precision int8", 5)]
)
def test_all_of_mnist(
    mnist: Mnist,
    mnist_dir: Path,
    arguments: str,
    num_other: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C with all warnings and sanitizers."""
    monkeypatch.setattr("mnistcli.export.proof._COMPILER_OPTIONS", SANITIZED)
    result = mnist("export", *arguments.split(), "--data-dir", mnist_dir, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    proof = record["proof"]
    assert (proof["dataset"], proof["num_images"]) == ("mnist", 10_000)
    assert proof["num_agreeing"] >= 10_000 - num_other
    assert proof["accuracy"] >= proof["torch_accuracy"] - 0.0005
    if "int8" in arguments:
        assert record["flash_bytes"] <= 12_000
        assert record["ram_bytes"] <= 32_768
