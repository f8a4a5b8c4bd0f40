"""The published schemas follow from the code, and what the commands print follows the schemas."""

import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from mnistcli.cli.app import app
from mnistcli.data.datasets import DATASETS
from mnistcli.diagnostics.bench import BenchRow
from mnistcli.diagnostics.measurement import BenchCase, BenchOptions, MachineInfo
from mnistcli.errors import MnistError
from mnistcli.version import SCHEMA_VERSION
from mnistcli.views.bench import show_bench
from tests.helpers.cli import Mnist
from tests.helpers.own_data import digit_arrays, write_table
from tests.helpers.paths import REPOSITORY
from tests.helpers.small_mnist import put_data, small_mnist, unpacked

SCHEMAS = REPOSITORY / "docs" / "schemas"
BENCH = "--seconds 0.01 --repeats 1 --batch-size 8 --device cpu --data-dir none"
# Command lines for all kinds of records; RUN is a run of three epochs.
COMMANDS = (
    "eval RUN",
    "eval RUN --calibrate --corrupt shift --split test",
    "eval RUN RUN/last.pth --ensemble",
    "train --recipe mlp-50-50 --dataset digits --epochs 1",
    "train --recipe mlp-50-50 --dataset digits --epochs 1 --val-size 0",
    "train --recipe mlp-50-50 --dataset digits --epochs 1 --folds 2",
    "train --recipe ann --dry-run",
    "train --dry-run --seeds 2",
    "predict digit.png blank.png missing.png",
    "predict digit.png blank.png --labels labels.csv",
    "predict test.csv -c RUN --submission submission.csv",
    "summary",
    "summary --arch cnn-small --max-params 2000",
    "runs --out RUN/..",
    "runs RUN",
    "runs --out none",
    "doctor --device cpu --seconds 0 --data-dir none",
    f"bench --arch mlp --reference {BENCH}",
    f"bench --recipe cnn-26k --precision float32 {BENCH}",
    "plot RUN",
    "plot RUN --kind report -o report.html",
    "export RUN -o digits.c",
    "download --dataset digits",
    "download --verify --data-dir data",
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """docs/schemas.py as a module."""
    spec = importlib.util.spec_from_file_location("schemas", REPOSITORY / "docs" / "schemas.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published(command: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
    return schema


def test_the_published_schemas_are_those_of_the_code(script: ModuleType) -> None:
    files = {path.stem: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    assert files == {command: script.schema_text(command) for command in script.RECORDS}


def test_every_command_with_json_has_a_schema(script: ModuleType) -> None:
    with_json = {
        command.name
        for command in app.registered_commands
        if command.callback and "json" in inspect.signature(command.callback).parameters
    }
    assert with_json == {*script.RECORDS} == {line.split()[0] for line in COMMANDS}


def check(command: str, line: str) -> None:
    """The record follows the published schema, and has no field that is not in it."""
    record, schema = json.loads(line), published(command)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(record)
    assert record["schema_version"] == SCHEMA_VERSION
    without_version = {**record}
    del without_version["schema_version"], schema["properties"]["schema_version"]
    schema["required"].remove("schema_version")
    for part in objects(schema):
        if part.get("properties"):
            part.setdefault("additionalProperties", False)
    Draft202012Validator(schema).validate(without_version)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all schemas in it."""
    if isinstance(schema, dict):
        yield schema
    parts = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        for part in parts:
            yield from objects(part)


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.usefixtures("measured_here")
def test_what_a_command_prints_follows_its_schema(
    line: str, mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "mnist", small_mnist())
    put_data(Path("data"), unpacked())
    Path("digit.png").write_bytes((REPOSITORY / "docs" / "images" / "digit.png").read_bytes())
    Image.new("L", (28, 28), 255).save("blank.png")
    Path("labels.csv").write_text("file,label\ndigit.png,7\n")
    write_table(Path("test.csv"), digit_arrays(5)[0])
    words = line.replace("RUN", str(trained)).split()
    result = mnist(*words, "--json")
    # A picture that is missing is an error, and so may be an old driver.
    assert result.exit_code == 0 or words[0] in ("predict", "doctor"), result.stderr
    lines = result.stdout.splitlines()
    assert lines
    for each in lines:
        check(words[0], each)


def test_a_network_that_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"recipe": "ann", "model": {"arch": "ann"}, "batch_size": 8}
    case = BenchCase(settings, 10, {"value": "float32", "reason": "requested"})
    machine = MachineInfo({}, {}, [], {"value": "cpu", "reason": "requested"}, "noise")
    rows = [BenchRow(case, MnistError("Out of memory."))]
    show_bench(machine, BenchOptions([]), rows, num_cases=1, as_json=True, quiet=False)
    line = capsys.readouterr().out
    check("bench", line)
    assert json.loads(line)["results"][0]["failure"] == "Out of memory."


def test_a_record_of_another_form_is_refused() -> None:
    for record in (
        {"schema_version": SCHEMA_VERSION, "file": 3},
        {"schema_version": SCHEMA_VERSION},
        {"file": "x.png"},
    ):
        assert not Draft202012Validator(published("plot")).is_valid(record)
