"""The public names: the same results as the commands, bit for bit, without a file."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mnistcli
from mnistcli import (
    MnistError,
    Training,
    configure,
    judge,
    load_examples,
    load_model,
    read_history,
    read_picture,
)
from mnistcli.errors import DataError, RunError, SettingsError
from mnistcli.evaluation.compare import compare
from mnistcli.runs.checkpoint import LoadedModel
from mnistcli.runs.directory import Run
from mnistcli.runs.history import EpochResult, read_metrics
from mnistcli.training import engine
from mnistcli.training.engine import _train_step
from tests.helpers.cli import Mnist
from tests.helpers.paths import REPOSITORY

# As the fixture `trained` was trained.
SMALL = configure("cnn-26k", dataset="digits", epochs=3)


def without_times(epochs: list[EpochResult]) -> list[EpochResult]:
    return [replace(epoch, seconds=0, images_per_second=0) for epoch in epochs]


def assert_same(first: LoadedModel, second: LoadedModel) -> None:
    assert first.card == second.card
    weights = second.network.state_dict()
    assert len(weights) == 8
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_every_name_is_there_and_documented() -> None:
    assert set(mnistcli.__all__) <= set(dir(mnistcli))
    assert [name for name in mnistcli.__all__ if getattr(mnistcli, name).__doc__ is None] == []
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        getattr(mnistcli, "trian")  # noqa: B009


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(mnistcli.__file__).with_name("py.typed").is_file()


def test_settings_are_a_recipe_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_LR", "7")
    settings = configure("cnn-26k", hidden=(20,), augmentation={"shift_px": 3})
    assert (settings.arch, settings.network["hidden"], settings.lr) == ("cnn", (20,), 0.01)
    assert settings.augmentation.shift_px == 3
    assert configure(arch="mlp").recipe == "mlp-120-84"
    # Every setting of a run, with one changed.
    assert configure(**SMALL.model_dump() | {"seed": 1}) == SMALL.model_copy(update={"seed": 1})
    with pytest.raises(SettingsError, match="cnn-15k"):
        configure("cnn-15k", model={"arch": "mlp", "hidden": [9]})


def test_invalid_settings_have_their_python_names() -> None:
    with pytest.raises(SettingsError) as raised:
        configure("cnn-26k", batch_size=0, epoch=3)
    batch_size, epoch = raised.value.why.splitlines()
    assert batch_size.startswith("batch_size: ")
    assert epoch.startswith("epoch: ")
    assert "epochs" in epoch


def test_examples_are_tensors_of_bytes_and_classes() -> None:
    train, test = load_examples("digits"), load_examples("digits", "test")
    assert (train.images_NHW.shape, test.images_NHW.shape) == ((1437, 28, 28), (360, 28, 28))
    assert (train.images_NHW.dtype, train.labels_N.dtype) == (torch.uint8, torch.int64)
    assert train.labels_N[:5].tolist() == [0, 1, 2, 3, 4]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(SettingsError, match="'val'"):
        load_examples("digits", "val")  # type: ignore[arg-type]


def test_missing_data_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load_examples("kmnist", data_dir=tmp_path)
    assert "mnist download --dataset kmnist" in raised.value.fix


def test_a_second_loop_over_a_training_ends_the_first() -> None:
    training = Training(SMALL.model_copy(update={"epochs": 3}))
    first = iter(training)
    next(first)
    second = iter(training)
    assert next(second).epoch == 2
    with pytest.raises(RunError, match="another loop"):
        next(first)
    assert [epoch.epoch for epoch in (*training.history, *second)] == [1, 2, 3]


def test_a_training_gives_the_weights_of_the_command(trained: Path) -> None:
    training = Training(SMALL)
    epochs = list(training)
    assert training.history == epochs
    assert without_times(epochs) == without_times(read_history(trained))
    assert_same(training.last, load_model(trained / "last.pth"))
    assert_same(training.best, load_model(trained))
    assert list(training) == [], "there is nothing left to train"


def test_an_interrupted_training_continues_to_the_same_weights(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(SMALL)
    for _ in training:
        break
    assert training.last.card.epoch == len(training.history) == 1
    whole, steps = _train_step, itertools.count()

    def interrupted(*args: object) -> object:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return whole(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(training)
    assert len(training.history) == 1
    assert [epoch.epoch for epoch in training] == [2, 3]
    assert without_times(training.history) == without_times(read_history(trained))
    assert_same(training.last, load_model(trained / "last.pth"))


def test_a_training_stops_at_its_target_accuracy() -> None:
    training = Training(configure("cnn-26k", dataset="digits", epochs=9, until=20))
    assert len(list(training)) == 1
    assert training.is_finished
    assert list(training) == []


def test_before_its_first_epoch_a_training_has_no_network() -> None:
    training = Training(configure("mlp-50-50", dataset="digits"), name="mine")
    assert (training.plan.num_params, training.is_finished) == (42_310, False)
    for model in ("last", "best"):
        with pytest.raises(RunError, match="mine"):
            getattr(training, model)


def test_judge_gives_the_figures_of_mnist_eval(mnist: Mnist, trained: Path) -> None:
    options = ("--calibrate", "--corrupt", "shift", "--json")
    record = json.loads(mnist("eval", trained, *options).stdout)
    evaluation = judge(load_model(trained), calibrate=True, corrupt="shift")
    assert evaluation.score.num_errors == record["num_errors"] > 0
    assert list(evaluation.score.interval) == record["interval"]
    assert evaluation.calibration is not None
    assert evaluation.calibration.temperature == record["calibration"]["temperature"]
    assert [each.accuracy for each in evaluation.corrupted] == [
        each["accuracy"] for each in record["corrupted"]
    ]


def test_evaluating_a_network_does_not_change_it(trained: Path) -> None:
    model = load_model(trained)
    before = [tensor.data_ptr() for tensor in model.network.parameters()]
    assert judge(model, split="val").score.num_images == 144
    assert [tensor.data_ptr() for tensor in model.network.parameters()] == before
    assert judge(model, split="train").score.num_images == 1293
    with pytest.raises(SettingsError, match="'all'"):
        judge(model, split="all")  # type: ignore[arg-type]


def test_scores_are_compared_on_the_same_images_only(trained: Path) -> None:
    model = load_model(trained)
    other = replace(
        model,
        path=Path("other"),
        card=model.card.model_copy(
            update={"settings": configure("cnn-26k", dataset="digits", seed=1)}
        ),
    )
    here, there = (judge(each, split="val").score for each in (model, other))
    assert here.num_images == there.num_images
    for scores in ((here, there), (here, judge(model).score)):
        with pytest.raises(SettingsError, match="different images"):
            compare(*scores)
    pair = compare(here, here)
    assert (pair.num_both, pair.p) == (here.num_errors, 1)


def test_runs_are_found_as_the_commands_find_them(trained: Path) -> None:
    out = trained.parent
    assert load_model("small", out=out).path == trained / "best.pth"
    assert load_model("last", out=str(out)).path == trained / "best.pth"
    assert read_history(out=out) == read_metrics(Run(trained))
    with pytest.raises(DataError, match="nothing"):
        read_history("nothing")


def test_paths_may_begin_with_a_tilde(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model = load_model("~/trained/small/last.pth")
    assert model.path == trained / "last.pth"
    assert load_model("small", out="~/trained").path == trained / "best.pth"
    assert read_history("~/trained/small") == read_history("last", out="~/trained")
    shutil.copy(REPOSITORY / "docs" / "images" / "year.jpg", tmp_path)
    assert read_picture("~/year.jpg", model)


def test_a_picture_is_read_as_mnist_predict_reads_it(mnist: Mnist, trained: Path) -> None:
    year = REPOSITORY / "docs" / "images" / "year.jpg"
    said = json.loads(mnist("predict", year, "-c", trained, "--json").stdout)
    read = read_picture(year, load_model(trained))
    assert "".join(each.label for each in read) == said["read"]
    assert [each.probabilities for each in read] == [
        each["probabilities"] for each in said["digits"]
    ]
    assert len(read_picture(str(year), load_model(trained), single=True)) == 1
    with pytest.raises(DataError, match=r"none\.png"):
        read_picture("none.png", load_model(trained))


def test_pictures_in_memory_are_read_like_files() -> None:
    path = REPOSITORY / "docs" / "images" / "year.jpg"
    image = Image.open(path)
    gray_HW = np.asarray(image.convert("L"))
    pictures: dict[str, Any] = {
        "content": path.read_bytes(),
        "content that can be changed": bytearray(path.read_bytes()),
        "image": image,
        "image in CMYK": image.convert("CMYK"),
        "uint8": gray_HW,
        "uint16": gray_HW.astype(np.uint16),
        "int64": gray_HW.astype(np.int64),
        "float from 0 to 1": gray_HW / 255,
        "color": np.asarray(image.convert("RGB")),
        "color, float": np.asarray(image.convert("RGB")) / 255,
        "tensor": torch.from_numpy(gray_HW.copy())[None],
    }
    for name, picture in pictures.items():
        assert "".join(digit.label for digit in read_picture(picture)) == "2026", name


@pytest.mark.parametrize("shape", [(0, 28), (28,), (2, 28, 28), (28, 28, 2), (1, 1, 28, 28, 3)])
def test_arrays_that_are_not_pictures_are_refused_by_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=re.escape(str(shape))):
        read_picture(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="not a picture"):
        read_picture(np.full((28, 28), "x"))


def documented_code() -> Iterator[tuple[str, str]]:
    """The Python of the documents, a page at a time."""
    for page in (REPOSITORY / "README.md", REPOSITORY / "docs" / "python.md"):
        text = page.read_text(encoding="utf-8")
        yield page.name, "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize(("page", "code"), list(documented_code()))
def test_documented_python_works(
    page: str, code: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each page is run from its top to its end, where there are a run and a picture."""
    shutil.copytree(trained, "runs/quick")
    for name in ("digit.png", "year.jpg"):
        shutil.copy(REPOSITORY / "docs" / "images" / name, name)
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", mnistcli.__all__)
def test_every_name_is_documented(name: str) -> None:
    code = dict(documented_code())["python.md"]
    assert len(re.findall(rf"\b{name}\b", code)) > 1, "imported, and used"


def test_a_traceback_shows_why_and_the_fix() -> None:
    with pytest.raises(MnistError) as raised:
        load_model("nothing")
    assert raised.value.__notes__ == [raised.value.why, raised.value.fix]


def test_a_network_predicts_images_of_a_data_set_and_of_numpy() -> None:
    model, test = load_model(), load_examples("digits", "test")
    probabilities_NK = model.predict(test.images_NHW)
    assert probabilities_NK.shape == (360, 10)
    assert torch.allclose(probabilities_NK.sum(dim=1), torch.ones(360))
    score = judge(model, dataset="digits").score
    assert int((probabilities_NK.argmax(dim=1) != test.labels_N).sum()) == score.num_errors
    one = model.predict(test.images_NHW[3].numpy())
    assert torch.allclose(one, probabilities_NK[3:4], atol=1e-5)
    for images in (test.images_NHW.float(), test.images_NHW[:, :8], test.images_NHW[0, 0]):
        with pytest.raises(DataError, match="shape") as raised:
            model.predict(images)
        assert "uint8" in raised.value.why


def test_results_are_shown_in_a_line() -> None:
    model = load_model()
    assert "cnn-small.pth: cnn-small, 7,882 parameters, trained on mnist" in repr(model)
    evaluation = judge(model, dataset="digits")
    for shown in (repr(evaluation), repr(evaluation.score)):
        assert "360 test images of digits" in shown
        assert f"{evaluation.score.num_errors} errors" in shown
        assert len(shown) < 250
    shown = repr(read_picture(REPOSITORY / "docs" / "images" / "digit.png"))
    assert "Prediction 7, " in shown
    assert "array" not in shown
