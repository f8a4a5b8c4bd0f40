"""Weights that another program has saved: which of our networks they would fit."""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnistcli.config.resolve import resolve_settings
from mnistcli.errors import DataError, MnistError
from mnistcli.models.registry import build_on_meta
from mnistcli.runs.archive import invalid_checkpoint


def foreign_weights(path: Path, content: object) -> DataError:
    """The error for a file without a card, with the command for a network of the same layers."""
    if isinstance(content, dict) and content.keys() == {"origin", "weights"}:
        return DataError(
            f"{path} is not a checkpoint of mnist train.",
            why="It is a network that finds ink, which mnist train-finder wrote.",
            fix="Name a .pth file or a run that mnist train wrote.",
        )
    shapes = _weight_shapes(content)
    if not shapes or (isinstance(content, dict) and "card" in content):
        return invalid_checkpoint(path, "It does not hold a card and weights.")
    options = _matching_options(shapes)
    fix = "None of the architectures has these layers: mnist summary --help lists them."
    if options:
        fix = (
            f"This trains a network with these layers: mnist train {options} "
            "(docs/python.md shows how to copy the weights into it)"
        )
    return DataError(
        f"{path} is not a checkpoint of mnist train.",
        why="It holds weights only, as other programs save them: not for which network, which "
        "input, or which classes.",
        fix=fix,
    )


def _weight_shapes(content: object) -> list[tuple[int, ...]]:
    """The shapes of the tensors in a state dict, in its order; empty if it has no layer's weights.

    It may be inside of a dict, as training scripts save it.
    """
    import torch

    if isinstance(content, dict):
        for state in (content, *dict.values(content)):
            if isinstance(state, dict):
                tensors = [value for value in dict.values(state) if type(value) is torch.Tensor]
                shapes = [tuple(tensor.shape) for tensor in map(torch.detach, tensors)]
                if any(len(shape) in (2, 4) for shape in shapes):
                    return shapes
    return []


def _matching_options(shapes: list[tuple[int, ...]]) -> str:
    """The options of `mnist train` for a `cnn` or `mlp` of these layers; empty if there is none."""
    channels = [shape[0] for shape in shapes if len(shape) == 4]
    hidden = [shape[0] for shape in shapes if len(shape) == 2][:-1]
    candidates: list[dict[str, Any]] = [{"arch": "mlp", "hidden": hidden}]
    if channels:
        size = next(shape[2] for shape in shapes if len(shape) == 4)
        candidates = [
            {
                "arch": "cnn",
                "channels": channels,
                "kernel_size": size,
                "padding": padding,
                "pool": pool,
                "batch_norm": batch_norm,
                "hidden": hidden,
            }
            for batch_norm in (False, True)
            for pool in ("each", "last")
            for padding in (0, size // 2)
        ]
    for options in candidates:
        with suppress(MnistError):
            settings = resolve_settings(options, environ={}).settings
            network = build_on_meta(settings.arch, settings.network)
            if _weight_shapes(network.state_dict()) == shapes:
                return shlex.join(map(str, _words(options)))
    return ""


def _words(options: dict[str, Any]) -> Iterator[object]:
    for name, value in options.items():
        if value is not False:
            yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            # An empty list is an empty word.
            yield from (value or [""]) if isinstance(value, list) else [value]
