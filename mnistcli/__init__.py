"""Train, judge and use small networks that read handwritten digits.

The names below are for programs and notebooks (`docs/python.md`). Each is loaded
when it is first asked for, so that `import mnistcli` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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
    from mnistcli.compare import compare
    from mnistcli.errors import MnistError
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'mnistcli' has no attribute '{name}'")
        if name == "figures":
            return import_module("mnistcli.figures")
        homes = {"compare": "mnistcli.comparison", "MnistError": "mnistcli.errors"}
        return getattr(import_module(homes.get(name, "mnistcli.api")), name)


__version__ = "0.1.0"

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

# Of all records and of what --json prints: raised when a reader of the old form would fail.
SCHEMA_VERSION = 1


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
