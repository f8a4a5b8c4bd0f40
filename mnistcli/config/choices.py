"""Every closed list of values, once."""

from typing import Literal

EvalSplit = Literal["val", "test"]
