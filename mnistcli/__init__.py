"""Train, evaluate and use small networks that read handwritten digits.

The names below are for programs and notebooks (`docs/python.md`). Each is imported when it is
first used, so that `import mnistcli` itself is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mnistcli.version import __version__ as __version__

if TYPE_CHECKING:
    from mnistcli.api import (
        Training,
        configure,
        judge,
        load_examples,
        load_model,
        read_history,
        read_picture,
    )
    from mnistcli.errors import MnistError
    from mnistcli.evaluation.compare import compare
    from mnistcli.plots import figures
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'mnistcli' has no attribute '{name}'")
        if name == "figures":
            return import_module("mnistcli.plots.figures")
        modules = {"compare": "mnistcli.evaluation.compare", "MnistError": "mnistcli.errors"}
        return getattr(import_module(modules.get(name, "mnistcli.api")), name)


__all__ = [
    "MnistError",
    "Training",
    "compare",
    "configure",
    "figures",
    "judge",
    "load_examples",
    "load_model",
    "read_history",
    "read_picture",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
