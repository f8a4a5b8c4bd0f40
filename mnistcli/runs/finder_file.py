"""The file of a network that finds ink: its weights in float16, and how it was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistcli.errors import DataError
from mnistcli.runs.archive import WEIGHTS, load_archive, or_reinstall, pack
from mnistcli.runs.directory import write_file

if TYPE_CHECKING:
    from mnistcli.models.ink_finder import InkFinder

BUNDLED_FINDER = WEIGHTS / "ink-finder.pth"


def save_finder(path: Path, network: "InkFinder", origin: Mapping[str, Any]) -> None:
    """Write the weights and their origin, plain values; raises RunError if that fails."""
    import torch

    weights = {
        name: tensor.detach().cpu().to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    write_file(path, pack({"origin": dict(origin), "weights": weights}))


def load_finder(path: Path = BUNDLED_FINDER) -> "InkFinder":
    """The network in a file, in evaluation mode on the CPU.

    Raises:
        DataError: the file is missing, damaged, or holds another network.
    """
    from mnistcli.models.ink_finder import InkFinder

    content = load_archive(path)
    if type(content) is not dict or content.keys() != {"origin", "weights"}:
        raise _invalid_finder(path, "It does not hold a network that finds ink.")
    network = InkFinder()
    try:
        network.load_state_dict(content["weights"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _invalid_finder(path, "Its weights do not fit.") from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise _invalid_finder(path, "Some of its weights are not finite.")
    return network.eval()


def _invalid_finder(path: Path, why: str) -> DataError:
    fix = or_reinstall(path, "Name a file that mnist train-finder wrote.")
    return DataError(f"{path} is not a finder that this version reads.", why=why, fix=fix)
