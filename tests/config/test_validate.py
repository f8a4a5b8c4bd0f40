"""What a setting may be, and what is said when it is something else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mnistcli.config.choices import (
    DatasetName,
    DeviceName,
    LossName,
    OptimizerName,
    PrecisionName,
    ScheduleName,
    values,
)
from mnistcli.models.registry import ARCHITECTURES
from tests.helpers.settings import refused, resolve, write_config

CHOICES = {
    "dataset": DatasetName,
    "optimizer": OptimizerName,
    "schedule": ScheduleName,
    "loss": LossName,
    "device": DeviceName,
    "precision": PrecisionName,
}


@pytest.mark.parametrize("value", ["120,84", "120 84", "120, 84", [120, 84], (120, 84)])
def test_a_list_is_written_with_commas_or_spaces(value: object) -> None:
    assert resolve(arch="mlp", hidden=value).network["hidden"] == (120, 84)


def test_a_list_may_be_empty_where_layers_may_be_missing() -> None:
    assert resolve(arch="mlp", hidden="").network["hidden"] == ()
    assert "--channels" in refused({"arch": "cnn", "channels": ""}).why


@pytest.mark.parametrize("value", ["0", "65537", "1.5", "a", "8 b", " ".join(["1"] * 33), 120])
def test_a_list_of_anything_but_sizes_is_refused(value: object) -> None:
    assert refused({"arch": "mlp", "hidden": value}).why.startswith("--hidden: ")


@pytest.mark.parametrize(
    ("name", "arch", "value"),
    [
        ("epochs", "cnn", "0"),
        ("epochs", "cnn", "1.5"),
        ("batch_size", "cnn", "60001"),
        ("lr", "cnn", "nan"),
        ("lr", "cnn", ""),
        ("ema", "cnn", "1"),
        ("val_size", "cnn", "-0.1"),
        ("seed", "cnn", "-1"),
        ("max_params", "cnn", "0"),
        ("until", "cnn", "0.97"),
        ("kernel_size", "cnn", "29"),
        ("dropout", "mlp", "1"),
        ("width", "cnn-small", "many"),
        ("augment", "cnn", "maybe"),
    ],
)
def test_an_invalid_value_is_named_with_its_flag(name: str, arch: str, value: str) -> None:
    why = refused({"arch": arch, name: value}).why
    assert why.startswith(f"--{name.replace('_', '-')}: ")
    assert value in why
    assert len(why.splitlines()) == 1


@pytest.mark.parametrize(
    ("arch", "name", "value", "rule"),
    [
        ("cnn", "epochs", "x", "a whole number, not x."),
        ("cnn", "epochs", "2.5", "a whole number, not 2.5."),
        ("cnn", "lr", "fast", "a number, not fast."),
        ("cnn", "lr", "0", "more than 0, not 0."),
        ("cnn", "lr", "inf", "a finite number, not inf."),
        ("cnn", "max_params", "9e9", "a whole number, not 9e9."),
        ("cnn", "max_params", str(10**10), "at most 1000000000, not 10000000000."),
        ("cnn", "ema", "1", "less than 1, not 1."),
        ("cnn", "augment", "maybe", "true or false, not maybe."),
        ("cnn", "channels", "", "at least 1 value, not"),
        ("cnn", "pool", "frist", "each or last, not frist."),
        ("cnn", "optimizer", "adm", "sgd, adam or adamw, not adm. Did you mean adam?"),
        ("cnn", "dataset", "fashion", "Did you mean fashion-mnist?"),
        ("cnn", "device", "cuda:1", "CUDA_VISIBLE_DEVICES=1"),
        ("cnn", "until", "0.97", "at least 1, not 0.97. Did you mean 97?"),
        ("cnn-small", "kernel_size", "4", "3, 5 or 7, not 4."),
    ],
)
def test_what_a_value_should_be_is_said_in_plain_words(
    arch: str, name: str, value: str, rule: str
) -> None:
    why = refused({"arch": arch, name: value}).why
    assert rule in why
    assert not any(word in why for word in ("Input", "valid", "parse", "'"))


@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [
        ("device", "cuda:0", "cuda"),
        ("device", "CPU", "cpu"),
        ("precision", "fp16", "float16"),
        ("precision", "BF16", "bfloat16"),
        ("dataset", "MNIST", "mnist"),
        ("dataset", "fashion_mnist", "fashion-mnist"),
        ("optimizer", "AdamW", "adamw"),
        ("schedule", "OneCycle", "onecycle"),
        ("loss", "cross_entropy", "cross-entropy"),
    ],
)
def test_a_name_in_another_case_or_by_an_alias_is_taken(name: str, typed: str, meant: str) -> None:
    assert getattr(resolve(**{name: typed}), name) == meant


@pytest.mark.parametrize(("name", "choice"), CHOICES.items())
def test_a_choice_is_one_of_its_list(name: str, choice: object) -> None:
    why = refused({name: "other"}).why
    for value in values(choice):
        assert value in why
        assert getattr(resolve(**{name: value}), name) == value


def test_a_setting_is_called_as_it_was_given(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"batch_size": 0, "augmentation": {"shift_px": 99}})
    assert refused({"batch_size": 0}).why.startswith("--batch-size: ")
    assert refused({}, environ={"MNIST_BATCH_SIZE": "0"}).why.startswith("MNIST_BATCH_SIZE: ")
    assert refused({}, config=config).why.splitlines()[0].startswith(f"batch_size (in {config}): ")
    assert f"augmentation.shift_px (in {config}): " in refused({}, config=config).why


@pytest.mark.parametrize(
    ("arch", "typed", "meant"),
    [
        ("cnn", "epoch", "epochs"),
        ("cnn", "kernal_size", "kernel_size"),
        ("cnn-small", "hiden", "hidden"),
        ("cnn", "augmentation.rotate_degree", "augmentation.rotate_degrees"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest(
    tmp_path: Path, arch: str, typed: str, meant: str
) -> None:
    table, _, name = typed.rpartition(".")
    content = {"arch": arch, **({table: {name: 3}} if table else {name: 3})}
    why = refused({}, config=write_config(tmp_path, content)).why
    assert why.startswith(f"{typed} (in ")
    assert f"Did you mean {meant}?" in why


def test_a_setting_of_another_architecture_is_refused() -> None:
    for arch, name, belongs_to in (
        ("cnn-small", "hidden", "ann, mlp, cnn: --arch ann"),
        ("cnn-small", "padding", "cnn: --arch cnn"),
        ("mlp", "kernel_size", "cnn, cnn-small: --arch cnn"),
        ("ann", "width", "cnn-small: --arch cnn-small"),
    ):
        why = refused({"arch": arch, name: "3"}).why
        assert f"architecture {arch}" in why
        assert why.endswith(f"It belongs to {belongs_to}")
    assert ARCHITECTURES.keys() >= {"cnn-small", "mlp", "ann"}


def test_every_invalid_setting_has_a_line_up_to_a_limit(tmp_path: Path) -> None:
    error = refused({"epochs": "0", "lr": "-1", "augment": "maybe", "optimizer": "lion"})
    assert "4 settings" in error.what
    assert len(error.why.splitlines()) == 4
    many = refused({}, config=write_config(tmp_path, {f"key{n}": 1 for n in range(999)}))
    assert "999" in many.what
    assert len(many.why.splitlines()) == 21


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", f'{{"recipe": "{"x" * 9000}"}}'),
        ("c.json", f'{{"{"y" * 9000}": 1}}'),
        ("c.json", f'{{"lr": "{"z" * 9000}"}}'),
        ("c.toml", ".".join(["lr"] * 4000) + " = 1"),
    ],
)
def test_a_message_stays_short(tmp_path: Path, name: str, text: str) -> None:
    error = refused({}, config=write_config(tmp_path, text, name))
    assert len(error.what + error.why) < 2500


@pytest.mark.parametrize("name", ["lr", "recipe", "hidden", "unheard_of"])
@pytest.mark.parametrize("value", ["0x" + "f" * 9000, "[" * 400 + "]" * 400])
def test_a_value_that_cannot_be_converted_is_refused(tmp_path: Path, name: str, value: str) -> None:
    error = refused({}, config=write_config(tmp_path, f"{name} = {value}", "x.toml"))
    assert len(error.what + error.why) < 1000


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss": "nll", "label_smoothing": "0.1"}, "label_smoothing"),
        ({"fold": {"number": 1, "of": 5}, "val_size": 0.1}, "val_size"),
        ({"fold": {"number": 6, "of": 5}, "val_size": 0}, "fold 6 of 5"),
        ({"fold": 3, "val_size": 0}, "--fold"),
        ({"until": 99, "val_size": 0}, "until"),
        ({"max_params": None}, "width"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], named: str
) -> None:
    assert named in refused(changes).why


def test_what_is_held_out() -> None:
    assert resolve(fold={"number": 5, "of": 5}, val_size=0, until=99).holds_out
    assert resolve(val_size=0.1).holds_out
    assert not resolve(val_size=0).holds_out


def test_retired_settings_are_ignored_in_files_and_refused_elsewhere(tmp_path: Path) -> None:
    old = {"recipe": "cnn-26k", "compile": False, "teacher": [], "distillation": {"weight": 0.9}}
    from_file = write_config(tmp_path, old)
    assert "compile" in refused({"compile": True}).what
    assert refused({"teacher": ["x.pth"]}, config=from_file).exit_code == 2


def test_settings_are_frozen() -> None:
    settings = resolve(arch="cnn")
    for model, name in ((settings, "epochs"), (settings.model, "dropout")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, 1)
