"""Where the repository, the real data and the labeled pictures are."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# The labeled pictures of docs/predict.md.
PICTURES = REPOSITORY.parent / "shared" / "digits-dev"


def _mnist_source() -> Path | None:
    """The directory with the real MNIST files, laid out as by torchvision or flat."""
    places = [os.environ.get("MNIST_DATA_DIR"), REPOSITORY.parent / "shared" / "mnist"]
    for place in filter(None, places):
        for folder in (Path(place), Path(place) / "MNIST" / "raw"):
            if (folder / "train-images-idx3-ubyte.gz").is_file():
                return folder
    return None


MNIST_SOURCE = _mnist_source()
