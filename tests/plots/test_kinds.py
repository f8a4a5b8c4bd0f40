"""The registry of kinds: its functions exist, and reading it loads nothing heavy."""

import subprocess
import sys
from importlib import import_module

import pytest

from mnistcli.plots.kinds import KINDS, PlotKind


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_function_of_each_kind_exists(kind: PlotKind) -> None:
    module_name, function_name = kind.function.split(":")
    assert callable(getattr(import_module(module_name), function_name))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mnistcli.plots.kinds", {"torch", "matplotlib", "numpy", "pydantic"}),
        ("mnistcli.plots.curves", {"torch", "matplotlib.pyplot"}),
    ],
)
def test_modules_load_no_more_than_they_need(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = {*subprocess.check_output([sys.executable, "-c", code], text=True).split()}
    assert module in loaded
    assert not absent & loaded
