"""`mnist predict`: pictures in, digits out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Mnist


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One real handwritten digit of each class: dark ink on white paper, 120x120."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    bunch = load_digits()
    drawn = {}
    for label in range(10):
        grey = 255 - bunch.images[np.flatnonzero(bunch.target == label)[3]] * (255 / 16)
        paper = Image.new("L", (120, 120), 255)
        paper.paste(
            Image.fromarray(grey.astype(np.uint8)).resize((80, 80), Image.Resampling.BICUBIC),
            (25, 15),
        )
        drawn[str(label)] = folder / f"{label}.png"
        paper.save(drawn[str(label)])
    return drawn


def test_real_digits_are_read_with_the_bundled_weights(
    mnist: Mnist, digits: dict[str, Path]
) -> None:
    result = mnist("predict", *digits.values(), "-q")
    assert result.exit_code == 0
    right = sum(a == b for a, b in zip(result.stdout.split(), digits, strict=True))
    assert right >= 9


def test_a_person_sees_the_digit_and_the_likeliest_classes(
    mnist: Mnist, digits: dict[str, Path]
) -> None:
    lines = mnist("predict", digits["0"], "--top", "4").stdout.splitlines()
    assert lines[0].endswith("0.png: 0")
    shares = [float(line.split()[-2]) for line in lines[1:]]
    assert len(shares) == 4
    assert shares == sorted(shares, reverse=True)


def test_json_is_one_object_a_line(mnist: Mnist, digits: dict[str, Path]) -> None:
    result = mnist("predict", digits["1"], digits["2"], "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["file"] for record in records] == [str(digits["1"]), str(digits["2"])]
    for record in records:
        assert record["schema_version"] == 1
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert record["probability"] == max(record["probabilities"].values())
        assert record["probabilities"][record["digit"]] == record["probability"]
        left, top, right, bottom = record["box"]
        assert 0 <= left < right <= 120
        assert 0 <= top < bottom <= 120


def test_a_picture_comes_from_standard_input(digits: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "mnistcli", "predict", "-", "-q"]
    result = subprocess.run(
        command, input=digits["0"].read_bytes(), capture_output=True, check=True
    )
    assert result.stdout == b"0\n"


def test_another_checkpoint_is_used(mnist: Mnist, digits: dict[str, Path], trained: Path) -> None:
    bundled = json.loads(mnist("predict", digits["3"], "--json").stdout)
    other = json.loads(mnist("predict", digits["3"], "-c", trained, "--json").stdout)
    assert bundled["probabilities"] != other["probabilities"]


def test_one_bad_picture_does_not_stop_the_others(mnist: Mnist, digits: dict[str, Path]) -> None:
    Path("bad.png").write_bytes(b"not a picture")
    result = mnist("predict", digits["0"], "bad.png", "missing.png", digits["1"], "-q")
    assert result.exit_code == 3
    assert result.stdout.split()[1:3] == ["?", "?"]
    assert len(result.stdout.split()) == 4
    assert "bad.png" in result.stderr
    assert "missing.png" in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("missing.png", None),
    ],
)
def test_what_is_no_picture_ends_in_a_message(
    mnist: Mnist, name: str, content: bytes | None
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    result = mnist("predict", name)
    assert result.exit_code == 3
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_a_blank_picture_and_a_directory_end_in_a_message(mnist: Mnist) -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    blank = mnist("predict", "blank.png")
    assert (blank.exit_code, blank.stdout) == (3, "")
    assert "blank.png" in blank.stderr
    Path("folder").mkdir()
    folder = mnist("predict", "folder")
    assert folder.exit_code == 3
    assert "folder/*.png" in folder.stderr


@pytest.mark.parametrize("top", ["0", "11", "x"])
def test_top_has_bounds(mnist: Mnist, top: str, digits: dict[str, Path]) -> None:
    result = mnist("predict", digits["0"], "--top", top)
    assert result.exit_code == 2
    assert "--top" in result.stderr


@pytest.mark.mnist
def test_mnists_own_images_survive_being_saved_and_read(mnist_dir: Path) -> None:
    """Of 1,000 test images, at most one may be read otherwise from a PNG than from the tensor."""
    import io

    from mnistcli import datasets, images, runs
    from mnistcli.predict import classify

    examples = datasets.load(datasets.dataset("mnist"), "test", mnist_dir)
    direct, through_png = [], []
    for image_HW in examples.images_NHW[:1000].numpy():
        buffer = io.BytesIO()
        Image.fromarray(image_HW).save(buffer, "PNG")
        direct.append(images.DigitImage(image_HW, (0, 0, 28, 28)))
        through_png.append(images.read_digit(buffer.getvalue(), name="x.png"))
    loaded = runs.load_model(runs.BUNDLED)
    pairs = zip(classify(loaded, direct), classify(loaded, through_png), strict=True)
    labels = [str(label) for label in examples.labels_N[:1000].tolist()]
    right = [
        (a.label == label, b.label == label) for (a, b), label in zip(pairs, labels, strict=True)
    ]
    assert sum(b for _, b in right) >= sum(a for a, _ in right) - 1
