"""Names of data sets: the known ones, and paths of users' own files and directories.

A path is kept absolute, so that a run finds its data from any directory. `raw:` before it means
that pictures of 28x28 pixels are taken as they are.
"""

import os
from pathlib import Path

from mnistcli.config.choices import DatasetName, values
from mnistcli.errors import find_known, unknown_name
from mnistcli.system.files import expand_home

KNOWN_DATASETS = values(DatasetName)
RAW = "raw:"


def parse_dataset(text: str) -> str:
    """A known name as it is, a path as an absolute one.

    Raises:
        ValueError: it is neither a known name nor a path.
    """
    if known := find_known(text, KNOWN_DATASETS):
        return known
    prefix = RAW if is_raw(text) else ""
    path = expand_home(text.removeprefix(RAW))
    has_directory = "/" in text or len(path.parts) > 1
    looks_like_a_path = has_directory or path.suffix or path.is_absolute() or path.exists()
    if not looks_like_a_path or not text.isprintable():
        raise ValueError(f"should be {', '.join(KNOWN_DATASETS)} or the path of your own data")
    return f"{prefix}{Path(os.path.abspath(path))}"  # noqa: PTH100 (resolve() follows links)


def require_dataset_name(text: str) -> str:
    """`parse_dataset`; SettingsError, with the nearest known name, for what is neither."""
    try:
        return parse_dataset(text)
    except ValueError:
        raise unknown_name("data set", text, KNOWN_DATASETS) from None


def is_own_data(name: str) -> bool:
    """Whether a data set's name is a path."""
    return name not in KNOWN_DATASETS


def is_raw(name: str) -> bool:
    """Whether the pictures of a user's own data set are taken as they are."""
    return name.startswith(RAW)


def data_path(name: str) -> Path:
    """The path in the name of a user's own data set."""
    return Path(name.removeprefix(RAW))


def dataset_title(name: str) -> str:
    """The name to show: of a path the last part."""
    if not is_own_data(name):
        return name
    path = data_path(name)
    return f"{path.name or path}{' (raw)' if is_raw(name) else ''}"
