"""Settings files and environment variables."""

from pathlib import Path

import pytest

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.sources import misspelled_variables, read_config
from mnistcli.errors import SettingsError
from tests.helpers.settings import refused, resolve, write_config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"recipe": "cnn-26k", "epochs": 3, "model": {"hidden": [9], "dropout": 0.5}}'),
        ("c.json", '\ufeff{"recipe": "cnn-26k", "epochs": 3, "hidden": [9], "dropout": 0.5}'),
        ("c.toml", 'recipe = "cnn-26k"\nepochs = 3\n[model]\nhidden = [9]\ndropout = 0.5\n'),
        ("c.toml", 'recipe = "cnn-26k"\nepochs = 3\nhidden = "9"\ndropout = 0.5\n'),
    ],
)
def test_settings_are_read_from_json_and_toml(tmp_path: Path, name: str, text: str) -> None:
    config = write_config(tmp_path, text, name)
    settings = resolve_settings({}, config=config, environ={}).settings
    assert (settings.recipe, settings.epochs) == ("cnn-26k", 3)
    assert (settings.network["hidden"], settings.network["dropout"]) == ((9,), 0.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", b"{"),
        ("c.toml", b"epochs = = 3"),
        ("c.toml", b"\xff"),
        ("c.json", b"[1, 2]"),
        ("c.json", b"[" * 10_000),
        ("c.json", b"x" * 20_000),
        ("c.json", b'{"model": {"model": {}}}'),
        ("c.yaml", b"epochs: 3"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused({}, config=tmp_path / name)
    assert str(tmp_path / name) in error.what
    assert error.why
    assert error.fix


@pytest.mark.parametrize("name", ["missing.json", "missing.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) in refused({}, config=tmp_path / name).what


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to("/dev/zero")
    with pytest.raises(SettingsError) as caught:
        read_config(tmp_path / "x.json")
    assert "16,384" in caught.value.why


def test_variables_set_settings_and_empty_ones_nothing() -> None:
    environ = {"MNIST_ARCH": "cnn", "MNIST_CHANNELS": "4,5", "MNIST_HIDDEN": "7"}
    network = resolve_settings({}, environ=environ).settings.network
    assert (network["channels"], network["hidden"]) == ((4, 5), (7,))
    nothing = {"MNIST_EPOCHS": "", "EPOCHS": "3", "MNIST_OTHER": "x"}
    assert resolve_settings({}, environ=nothing).settings == resolve()


@pytest.mark.parametrize(
    ("name", "meant"),
    {
        "MNIST_EPOCH": "MNIST_EPOCHS",
        "MNIST_BATCHSIZE": "MNIST_BATCH_SIZE",
        "MNIST_DATADIR": "MNIST_DATA_DIR",
        "MNIST_SEEDS": "--seeds",
        "MNIST_EPOCHS": None,
        "MNIST_DATA_DIR": None,
        "MNIST_MODELS": None,
        "MNIST": None,
        "EPOCHS": None,
    }.items(),
)
def test_a_misspelled_variable_is_recognized(name: str, meant: str | None) -> None:
    assert misspelled_variables({name: "7"}) == ({name: meant} if meant else {})
