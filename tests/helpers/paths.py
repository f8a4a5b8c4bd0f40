"""Where the repository, the real data and the labeled pictures are."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# The labeled pictures of docs/predict.md.
PICTURES = REPOSITORY.parent / "shared" / "digits-dev"
# Ten small pictures that are composed, each a case that is easily misread.
CASES = REPOSITORY.parent / "shared" / "cases" / "reading"


def _mnist_source() -> Path | None:
    """The directory with the real MNIST files, laid out as by torchvision or flat."""
    data_dir = os.environ.get("MNIST_DATA_DIR")
    for place in (*([Path(data_dir)] if data_dir else []), REPOSITORY.parent / "shared" / "mnist"):
        for folder in (place, place / "MNIST" / "raw"):
            if (folder / "train-images-idx3-ubyte.gz").is_file():
                return folder
    return None


MNIST_SOURCE = _mnist_source()
