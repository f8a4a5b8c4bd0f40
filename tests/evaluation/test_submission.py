"""Predictions in the form that Kaggle takes, checked against its sample."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.errors import DataError, SettingsError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.evaluation.submission import read_test_images, write_submission
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint
from tests.helpers.own_data import digit_arrays, write_table
from tests.helpers.training import some_digits

IMAGES, LABELS = digit_arrays(50)
SAMPLE = "ImageId,Label\n" + "".join(f"{number},0\n" for number in range(1, 51))


@pytest.fixture
def models(trained: Path) -> list[LoadedModel]:
    return [load_checkpoint(trained / "best.pth")]


def submit(models: list[LoadedModel], target: Path = Path("out.csv")) -> list[str]:
    images_NHW = read_test_images(Path("test.csv"))
    write_submission(models, images_NHW, target, beside=Path())
    return target.read_text().splitlines()


@pytest.mark.parametrize("with_sample", [False, True])
def test_a_submission_has_a_row_for_every_image(
    models: list[LoadedModel], with_sample: bool
) -> None:
    write_table(Path("test.csv"), IMAGES, header="")
    if with_sample:
        Path("sample_submission.csv").write_text(SAMPLE)
    header, *rows = submit(models)
    assert header == "ImageId,Label"
    (model,) = models
    predictions = evaluate_network(model.network, some_digits(50), model.normalization)
    expected = predictions.probabilities_NK.argmax(dim=1).tolist()
    assert rows == [f"{number},{label}" for number, label in enumerate(expected, start=1)]
    assert submit(models * 2) == [header, *rows]


def test_labels_in_the_table_are_ignored(models: list[LoadedModel]) -> None:
    write_table(Path("test.csv"), IMAGES)
    without = submit(models)
    write_table(Path("test.csv"), IMAGES, LABELS)
    assert submit(models) == without


def test_classes_with_a_comma_are_quoted(models: list[LoadedModel]) -> None:
    write_table(Path("test.csv"), IMAGES)
    (model,) = models
    classes = tuple(f"{number},x" for number in range(10))
    card = model.card.model_copy(update={"classes": classes})
    submit([replace(model, card=card)])
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [len(row) for row in rows] == [2] * 51
    assert {label for _, label in rows[1:]} <= set(classes)


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (SAMPLE.replace("ImageId", "id"), "id,Label"),
        (SAMPLE.replace("50,0\n", ""), "49 rows for 50"),
        (SAMPLE.replace("\n7,", "\n8,"), "8 as ImageId instead of 7"),
        ("", "header"),
    ],
)
def test_a_sample_of_another_form_is_an_error(
    models: list[LoadedModel], sample: str, why: str
) -> None:
    write_table(Path("test.csv"), IMAGES)
    Path("sample_submission.csv").write_text(sample)
    with pytest.raises(DataError) as caught:
        submit(models)
    assert why in caught.value.why
    assert not Path("out.csv").exists()


def test_the_sample_is_not_overwritten(models: list[LoadedModel]) -> None:
    write_table(Path("test.csv"), IMAGES)
    with pytest.raises(SettingsError):
        submit(models, Path("sample_submission.csv"))
    assert not Path("sample_submission.csv").exists()


def test_images_of_other_ranges_are_refused() -> None:
    write_table(Path("test.csv"), IMAGES.astype(int) * 4)
    with pytest.raises(DataError, match=r"test\.csv"):
        read_test_images(Path("test.csv"))
