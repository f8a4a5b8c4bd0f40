"""Users' own data sets, as files of every form, made of scikit-learn's digits."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.small_mnist import idx
from tests.helpers.training import some_digits

Images = NDArray[np.uint8]


def digit_arrays(num: int) -> tuple[Images, list[int]]:
    """Images (num, 28, 28), 0 background to 255 ink, and their labels."""
    examples = some_digits(num)
    return examples.images_NHW.numpy(), examples.labels_N.tolist()


def write_table(
    path: Path,
    pixels: NDArray[Any],
    labels: Sequence[object] | None = None,
    *,
    header: str | None = "label",
    last: bool = False,
    delimiter: str = ",",
) -> Path:
    """A CSV file with an image in every row; `header` is the name of the labels' column."""
    flat = pixels.reshape(len(pixels), -1)
    rows = [list(map(str, row)) for row in flat.tolist()]
    names = [f"pixel{i}" for i in range(flat.shape[1])]
    if labels is not None:
        for row, label in zip(rows, labels, strict=True):
            row.insert(len(row) if last else 0, str(label))
        names.insert(len(names) if last else 0, header or "")
    lines = [delimiter.join(row) for row in ([names] if header else []) + rows]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def write_idx(path: Path, array: Any) -> Path:
    content = idx(np.asarray(array, np.uint8))
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def on_paper(image: Images) -> Image.Image:
    """A digit as a person would scan it: dark on light, with a margin."""
    digit = Image.fromarray(255 - image).resize((56, 56), Image.Resampling.LANCZOS)
    picture = Image.new("L", (90, 110), 235)
    picture.paste(digit.point(lambda level: min(level, 235)), (17, 27))
    return picture


def write_class_folders(root: Path, num: int, *, names: str = "0123456789") -> Path:
    """A directory of pictures for every class."""
    for number, (image, label) in enumerate(zip(*digit_arrays(num), strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        on_paper(image).save(folder / f"{number}.png")
    return root


def write_labeled_pictures(folder: Path, num: int) -> Path:
    """Pictures and the file of their labels, as `mnist draw --keep` writes them."""
    folder.mkdir(parents=True)
    lines = ["file,label"]
    for number, (image, label) in enumerate(zip(*digit_arrays(num), strict=True), start=1):
        on_paper(image).save(folder / f"{number:05d}.png")
        lines.append(f"{number:05d}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder
