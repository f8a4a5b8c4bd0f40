"""The report: complete, in one file, and free of what a name could inject."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnistcli.evaluation.scores import Score, read_score
from mnistcli.models.summary import summarize_network
from mnistcli.plots.kinds import KINDS
from mnistcli.runs.directory import Run, read_settings
from tests.helpers.cli import Mnist
from tests.helpers.training import load_digits

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page: its texts, its tables by the heading above them, its images and other addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            self.images.append(values)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.tables[self._heading].append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(data)
        if self.open and self.open[-1] == "h2":
            self._heading = data
            self.tables[data] = []
        elif self.open and self.open[-1] in ("td", "th"):
            self.tables[self._heading][-1][-1] += data


@pytest.fixture
def page(mnist: Mnist, trained: Path) -> Page:
    assert mnist("plot", trained, "--kind", "report", "-o", "report.html").exit_code == 0
    return Page(Path("report.html").read_text(encoding="utf-8"))


@pytest.fixture
def score(page: Page, trained: Path) -> Score:
    found = read_score(Run(trained), "digits", "test")
    assert found
    return found


def test_everything_is_in_the_file(page: Page) -> None:
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    text = Path("report.html").read_text(encoding="utf-8")
    assert not re.findall(r"url\(|@import|<script|<link", text)
    assert list(page.tables) == [
        *("Settings", "Network", "Training", "Classes", "Misclassified images", "Calibration"),
        "Machine and versions",
    ]
    alts = [image["alt"] for image in page.images if "svg" in str(image["src"])]
    assert alts == ["Loss and accuracy by epoch", "Confusion matrix", "Accuracy against confidence"]
    assert all(image["alt"] for image in page.images)


def test_settings_mark_what_differs_from_the_recipe(page: Page) -> None:
    settings = dict(page.tables["Settings"])
    assert settings["recipe"] == "cnn-26k"
    assert {name for name, value in settings.items() if value.endswith("*")} == {
        "dataset",
        "epochs",
    }
    assert settings["epochs"] == "3 *"


def test_the_layers_are_those_of_the_summary(page: Page, trained: Path) -> None:
    settings = read_settings(Run(trained))
    network = summarize_network(settings.arch, settings.network)
    _, *rows, total = page.tables["Network"]
    assert [row[0] for row in rows] == [layer.name for layer in network.layers]
    assert [row[5] for row in rows] == [str(layer.receptive_field_px) for layer in network.layers]
    assert total[3] == f"{network.num_params:,}"


def test_the_mistakes_are_images_of_the_split_with_their_index(page: Page, score: Score) -> None:
    shown = score.mistakes[:25]
    images = [image for image in page.images if "png" in str(image["src"])]
    assert len(images) == len(shown) == 25
    indices = [int(each) for each in re.findall(r"index (\d+)", " ".join(page.texts))]
    assert indices == [mistake.index for mistake in shown]
    for image, mistake in zip(images, shown, strict=True):
        content = base64.b64decode(str(image["src"]).partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            ink_HW = 255 - np.asarray(picture)
        assert (ink_HW == load_digits("test").images_NHW[mistake.index].numpy()).all()
        assert image["alt"] == f"{mistake.label}, predicted as {mistake.predicted}"


def test_classes_machine_and_versions(page: Page, score: Score, trained: Path) -> None:
    _, *rows, mean = page.tables["Classes"]
    assert [row[3] for row in rows] == [f"{100 * each.recall:.2f} %" for each in score.classes]
    assert (mean[0], mean[1]) == ("mean", "360")
    environment: dict[str, Any] = json.loads((trained / "environment.json").read_text())
    machine = dict(page.tables["Machine and versions"])
    assert machine.items() >= environment["versions"].items()
    assert machine["cores"] == str(environment["num_cores"])
    assert machine["command"].split()[0] == "mnist"


def test_a_name_is_text_and_nothing_else(mnist: Mnist, trained: Path) -> None:
    run = trained.rename(trained.with_name("<script>&$content"))
    (run / "environment.json").unlink()
    assert mnist("plot", run, "--kind", "report", "-o", "report.html").exit_code == 0
    page = Page(Path("report.html").read_text(encoding="utf-8"))
    assert page.texts.count("<script>&$content") == 1
    assert page.tables["Machine and versions"] == [["", "This run did not record them."]]


def test_a_network_without_mistakes_or_validation(mnist: Mnist, trained: Path) -> None:
    mnist("eval", trained, "-q")
    path = trained / "eval-digits-test.json"
    record = json.loads(path.read_text())
    record |= {"mistakes": [], "num_errors": 0, "accuracy": 1.0}
    counts = [each["num_images"] for each in record["classes"]]
    record["confusion"] = np.diag(counts).tolist()
    path.write_text(json.dumps(record))
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (trained / "metrics.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"val_loss": "", "val_accuracy": ""} for row in rows)
    assert mnist("plot", trained, "--kind", "report", "-o", "report.html").exit_code == 0
    texts = Page(Path("report.html").read_text(encoding="utf-8")).texts
    assert "None." in texts
    assert any("there was no validation split" in text for text in texts)


def test_the_report_is_registered_as_a_page() -> None:
    assert KINDS["report"].formats == ("html",)
