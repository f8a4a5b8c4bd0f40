"""How command lines are parsed: lists, help pages, the answers to wrong usage."""

import json
import re

import pytest

from mnistcli.cli.app import app
from mnistcli.cli.parsing import join_lists, split_items
from mnistcli.config.choices import Pooling, values
from mnistcli.config.settings import MODEL_FIELDS, MODELS
from tests.helpers.cli import Mnist

COMMANDS = [command.name or "" for command in app.registered_commands]
LISTS = {"--hidden": (), "--corrupt": ("rotate", "noise"), "-a": ("mlp", "cnn")}


@pytest.mark.parametrize(
    ("typed", "joined"),
    [
        ("--hidden 120 84 --lr 1", "--hidden 120,84 --lr 1"),
        ("--hidden=120 84", "--hidden=120,84"),
        ("--hidden 120, 84", "--hidden 120,,84"),
        ("--hidden 8,9 7", "--hidden 8,9,7"),
        ("--hidden 5 x 6", "--hidden 5 x 6"),
        ("--hidden", "--hidden"),
        ("--hidden --lr 1", "--hidden --lr 1"),
        ("--epochs 5 6", "--epochs 5 6"),
        ("first --corrupt rotate noise second", "first --corrupt rotate,noise second"),
        ("--corrupt=rotate NOISE", "--corrupt=rotate,NOISE"),
        ("-a mlp cnn -q", "-a mlp,cnn -q"),
    ],
)
def test_a_list_takes_all_its_items_that_follow(typed: str, joined: str) -> None:
    assert join_lists(typed.split(), LISTS) == joined.split()


def test_the_items_of_a_repeated_list() -> None:
    assert split_items(["mlp,,cnn", "ann reader"]) == ["mlp", "cnn", "ann", "reader"]
    assert split_items(None) == []


@pytest.mark.parametrize(
    "typed", ["--hidden 20 30", "--hidden 20,30", "--hidden 20, 30", "--hidden=20 30"]
)
def test_sizes_are_written_with_commas_or_spaces(mnist: Mnist, typed: str) -> None:
    result = mnist("summary", "--arch", "mlp", *typed.split(), "--json")
    assert json.loads(result.stdout)["model"]["hidden"] == [20, 30]


@pytest.mark.parametrize(
    "typed",
    [
        "--corrupt rotate noise",
        "--corrupt rotate,noise",
        "--corrupt rotate, noise",
        "--corrupt rotate --corrupt noise",
    ],
)
def test_corruptions_are_written_with_commas_or_spaces_or_repeated(
    mnist: Mnist, typed: str
) -> None:
    result = mnist("eval", *typed.split(), "--dataset", "digits", "--json")
    names = [each["corruption"] for each in json.loads(result.stdout)["corrupted"]]
    assert list(dict.fromkeys(names)) == ["rotate", "noise"]


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize("typed", ["--arch mlp ann", "-a mlp,ann", "--arch mlp --arch ann"])
def test_architectures_are_written_with_commas_or_spaces_or_repeated(
    mnist: Mnist, typed: str
) -> None:
    quick = "--precision fp32 --device cpu --seconds 0.01 --repeats 1 --data-dir none --json"
    result = mnist("bench", *typed.split(), *quick.split())
    assert [each["arch"] for each in json.loads(result.stdout)["results"]] == ["mlp", "ann"]


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("trian", "Did you mean train?"),
        ("test", "Did you mean eval?"),
        ("read x.png", "Did you mean predict?"),
        ("ls", "Did you mean runs?"),
        ("train --epoch 3", "Did you mean --epochs?"),
        ("eval --model first", "Did you mean --checkpoint?"),
        ("train --model mlp", "Did you mean --arch?"),
        ("train --learning-rate 0.1", "Did you mean --lr?"),
        ("train digits", "Did you mean --dataset digits?"),
        ("train CNN-26K", "Did you mean --recipe cnn-26k?"),
        ("bench mlp", "Did you mean --arch mlp?"),
        ("doctor cuda:0", "Did you mean --device cuda?"),
        ("download KMNIST", "Did you mean --dataset kmnist?"),
        ("eval --min-accuracy 0.97", "Did you mean 97?"),
        ("plot --first x", "whole number, not x"),
        ("train --seeds 2.5", "whole number, not 2.5"),
        ("doctor --seconds -1", "0 to 3600, not -1"),
        ("plot --first -1", "at least 0, not -1"),
        ("train --epochs", "--epochs needs a value"),
        ("train-finder --nothing", "mnist train-finder --help"),
        ("--nothing", "mnist --help"),
        ("plot x --out x.png", "--output x.png"),
        ("export x --out x.onnx", "--output x.onnx"),
        ("train --out model.pth", "Name a directory"),
    ],
)
def test_wrong_usage_is_answered_in_our_style_with_what_was_meant(
    mnist: Mnist, typed: str, suggestion: str
) -> None:
    result = mnist(*typed.split())
    assert result.exit_code == 2
    assert not result.stdout
    first, *others = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert all(line.startswith("  ") for line in others)
    assert suggestion in result.stderr


@pytest.mark.parametrize("typed", ["tset", "eval --model-name x", "train foo"])
def test_nothing_is_suggested_that_is_not_near(mnist: Mnist, typed: str) -> None:
    assert "Did you mean" not in mnist(*typed.split()).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_writes_placeholders_and_defaults_in_one_way(
    mnist: Mnist, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = mnist(command, "--help").stdout
    assert not re.findall(r"<[a-z ]+>|default: \(", page)
    for option in re.findall(r"│ +(--[a-z-]+.*?) {2,}[A-Z]?[a-z]", page):
        for placeholder in re.findall(r"[A-Z]{1,}…?", option):
            assert placeholder in (
                *("N", "X", "N…", "NAME", "NAME…", "PERCENT", "FILE", "DIR", "RUN", "CHECKPOINT"),
                *("URL", "ADDRESS"),
            )


def test_the_help_names_the_architectures_that_have_a_setting(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    page = mnist("train", "--help").stdout
    for name in MODEL_FIELDS:
        (line,) = re.findall(rf"^│ --{name.replace('_', '-')}\b.*$", page, re.MULTILINE)
        having = [arch for arch, model in MODELS.items() if name in model.model_fields]
        assert f"({', '.join(having)})." in line
    (pool,) = re.findall(r"^│ --pool\b.*$", page, re.MULTILINE)
    assert all(value in pool for value in values(Pooling))
    assert "MNIST_EPOCHS" in page
