"""CSV files with an image in every row: Kaggle's form and its variants.

With or without a header, the label first, last or missing, 8x8 to 28x28 pixels, separated by
commas, semicolons, tabs or spaces, gzipped or not.

Shapes: N images, D pixels of an image.
"""

import csv
import gzip
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.data.arrays import IMAGE_PX
from mnistcli.data.csv_table import find_delimiter, whole_number
from mnistcli.errors import DataError, first_line, shorten
from mnistcli.system.files import require_readable

# More do not fit in the memory of most machines: 28x28 pixels of these are 1.6 GB.
MAX_IMAGES = 2_000_000
_MAX_LINE_BYTES = 1 << 20
_LABEL_COLUMNS = ("label", "labels", "class", "digit", "character", "target", "y")
_ID_COLUMNS = ("id", "imageid", "image_id", "index", "")
_SIZES = [side * side for side in range(4, IMAGE_PX + 1)]


@dataclass(frozen=True)
class ImageTable:
    """The pixels (N, D), uint8 or float32, and the label of each row.

    `label_column` says where the labels were found; there are none where it is empty.
    """

    pixels_ND: NDArray[np.generic]
    labels: list[str]
    label_column: str


@dataclass(frozen=True)
class _Layout:
    """How a file is written: its delimiter (None: spaces), its header if any, its columns."""

    delimiter: str | None
    header: tuple[str, ...]
    num_columns: int

    def named(self, names: Sequence[str]) -> list[int]:
        """The columns whose header is one of these names."""
        return [column for column, name in enumerate(self.header) if name in names]


def first_cells(path: Path) -> tuple[str | None, list[str]]:
    """The delimiter (None: spaces) and the cells of a file's first line.

    Raises:
        DataError: the file cannot be read, or its first line is no text.
    """
    try:
        require_readable(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            line = file.readline(_MAX_LINE_BYTES).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise _unreadable(path, "Its content is not text") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or first_line(error)) from error
    delimiter = find_delimiter(line)
    if delimiter is None:
        return None, line.split()
    return delimiter, next(csv.reader([line], delimiter=delimiter))


def read_image_table(path: Path) -> ImageTable:
    """Read a CSV file with an image in every row.

    Raises:
        DataError: the file cannot be read or has another form.
    """
    layout = _find_layout(path)
    # Numbers of one byte are read several times as fast as others.
    cells_NC = _try_load(path, layout)
    if cells_NC is not None and cells_NC.shape[1] != layout.num_columns:
        raise _unreadable(
            path,
            f"Its first line has {layout.num_columns:,} columns, the others {cells_NC.shape[1]:,}",
        )
    labels_at = _find_labels(path, layout, cells_NC)
    others = {labels_at, *layout.named(_ID_COLUMNS)}
    pixel_columns = [column for column in range(layout.num_columns) if column not in others]
    if len(pixel_columns) not in _SIZES:
        raise _unreadable(
            path,
            f"It has {len(pixel_columns):,} columns of pixels; they should be those of a square "
            f"image, for example 784 for {IMAGE_PX}x{IMAGE_PX}",
        )
    labels: list[str] = []
    if cells_NC is not None:
        pixels_ND: NDArray[np.generic] = cells_NC[:, pixel_columns]
        if labels_at is not None:
            labels = cells_NC[:, labels_at].astype(str).tolist()
    else:
        pixels_ND = _load(path, layout, np.float32, pixel_columns)
        if labels_at is not None:
            texts_N = _load(path, layout, str, [labels_at])[:, 0]
            labels = [whole_number(text.strip()) for text in texts_N.tolist()]
    return ImageTable(pixels_ND, labels, _describe_column(layout, labels_at))


def _find_layout(path: Path) -> _Layout:
    delimiter, cells = first_cells(path)
    if not cells:
        raise _unreadable(path, "It is empty")
    names = [cell.strip() for cell in cells]
    # A single cell that is no number is a label.
    has_header = sum(not _is_number(name) for name in names) > 1
    header = tuple(name.lower() for name in names) if has_header else ()
    return _Layout(delimiter, header, len(names))


def _find_labels(path: Path, layout: _Layout, cells_NC: NDArray[np.uint8] | None) -> int | None:
    """The column of the labels; None if all columns are pixels."""
    named = layout.named(_LABEL_COLUMNS)
    if named:
        return named[0]
    num_others = layout.num_columns - len(layout.named(_ID_COLUMNS))
    if num_others in _SIZES:
        return None
    ends = (0, layout.num_columns - 1)
    # A corner of the images is nearly always background, but no class is that common.
    shares = [
        _largest_share(
            _load(path, layout, str, [column])[:, 0] if cells_NC is None else cells_NC[:, column]
        )
        for column in ends
    ]
    return ends[int(shares[1] < shares[0])]


def _largest_share(values_N: NDArray[np.generic]) -> float:
    _, counts = np.unique(values_N, return_counts=True)
    return float(counts.max() / counts.sum())


def _describe_column(layout: _Layout, column: int | None) -> str:
    if column is None:
        return ""
    if layout.header and layout.header[column] in _LABEL_COLUMNS:
        return f"column '{layout.header[column]}'"
    return "first column" if column == 0 else "last column"


def _try_load(path: Path, layout: _Layout) -> NDArray[np.uint8] | None:
    """All cells, or None if some are not whole numbers from 0 to 255."""
    try:
        return _loadtxt(path, layout, np.uint8, None)
    except ValueError:
        return None
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, first_line(error)) from error


def _load(path: Path, layout: _Layout, dtype: type, columns: list[int]) -> NDArray[np.generic]:
    try:
        return _loadtxt(path, layout, dtype, columns)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, shorten(first_line(error))) from error


def _loadtxt(path: Path, layout: _Layout, dtype: type, columns: list[int] | None) -> NDArray[Any]:
    with warnings.catch_warnings(action="ignore"):  # of a file without rows
        cells: NDArray[Any] = np.loadtxt(
            path,
            dtype,
            comments=None,
            delimiter=layout.delimiter,
            skiprows=int(bool(layout.header)),
            usecols=columns,
            ndmin=2,
            encoding="utf-8-sig",
            max_rows=MAX_IMAGES + 1,
            quotechar='"',
        )
    if not 0 < len(cells) <= MAX_IMAGES:
        raise ValueError(f"It has {'no rows' if not len(cells) else f'over {MAX_IMAGES:,} rows'}")
    return cells


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"'{path}' is not a table of images.",
        why=f"{why[:1].upper()}{why[1:].rstrip('.')}.",
        fix="Give it one row per image: its label and its pixels, as in label,pixel0,…,pixel783",
    )
