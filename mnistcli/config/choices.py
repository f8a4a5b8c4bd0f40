"""Every closed list of names, once: settings validate by them, options complete from them."""

from typing import Any, Literal, get_args

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["onecycle", "cosine", "step", "plateau", "constant"]
LossName = Literal["cross-entropy", "nll"]
Pooling = Literal["each", "last"]

DatasetName = Literal["mnist", "fashion-mnist", "kmnist", "digits"]
# The splits that a data set comes with, and those that a network is evaluated on: "val" is the
# part of the training set that its training held out, "train" what it was trained on.
DataSplit = Literal["train", "test"]
EvalSplit = Literal["test", "val", "train"]
ExportFormat = Literal["onnx", "c"]
ExportPrecision = Literal["float32", "int8"]
CorruptionName = Literal["rotate", "shift", "scale", "shear", "blur", "noise", "thin", "thick"]

# Digits, capital and small letters.
MAX_CLASSES = 62


def values(choice: Any) -> tuple[str, ...]:
    """The names in one of the lists above, in order."""
    return get_args(choice)
