"""Settings for tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import SettingsError


def resolve(**flags: Any) -> TrainSettings:
    """The settings of these flags alone."""
    return resolve_settings(flags, environ={}).settings


def refused(
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> SettingsError:
    """The error that resolving raises."""
    with pytest.raises(SettingsError) as caught:
        resolve_settings(flags, config=config, environ=environ or {})
    assert caught.value.exit_code == 2
    return caught.value


def write_config(folder: Path, content: object, name: str = "config.json") -> Path:
    """A settings file in `folder`: text as it is, anything else as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path
