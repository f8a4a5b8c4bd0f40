"""Rows of a CSV file that a user wrote."""

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mnistcli.errors import DataError, MnistError, shorten

# Spreadsheets of different languages, and a copied table.
_DELIMITERS = ",;\t"
# The labels of about 250,000 pictures. The limit is for devices, which never end.
MAX_CHARACTERS = 8_000_000


def read_label_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a label file, with the columns `file` (relative to it) and `label`.

    The header may be missing if the first line names a file that exists, and nothing but its label.

    Raises:
        DataError: as for `read_csv_rows`, or a file's name is impossible.
    """
    refuse, is_row = partial(_label_file_error, path), partial(is_label_row, path.parent)
    rows = read_csv_rows(path, ("file", "label"), refuse=refuse, is_row=is_row)
    for line, row in rows:
        if "\0" in row["file"]:
            raise refuse(f"The file's name in line {line} has a null character.")
    return rows


def is_label_row(folder: Path, cells: Sequence[str]) -> bool:
    """Whether the cells are a file that exists in `folder`, and nothing but its label."""
    return len(cells) == 2 and os.path.isfile(listed_file(folder, cells[0]))  # noqa: PTH113


def _label_file_error(path: Path, why: str) -> DataError:
    """The error for a file that is not a label file."""
    return DataError(
        f"'{path}' is not a label file.",
        why=why,
        fix="Write a CSV file with file,label as first line and lines like digit.png,7",
    )


def find_delimiter(line: str) -> str | None:
    """The one of commas, semicolons and tabs that a line has most of; None if it has none."""
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter if delimiter in line else None


def read_csv_rows(
    path: Path,
    columns: Sequence[str],
    *,
    refuse: Callable[[str], MnistError],
    comment: str = "",
    is_row: Callable[[Sequence[str]], bool] = lambda _: False,
) -> list[tuple[int, dict[str, str]]]:
    """The `columns` of every row, by the names in the header, with the number of its last line.

    Cells are separated by the `find_delimiter` of the header, or by spaces. Spaces around them do
    not count, and a missing one is empty. Lines that are empty or begin with `comment` (if any) are
    skipped, as are other columns; the header's names may be capitalized. If the first line
    `is_row`, there is no header: it and the others have the `columns` in their order. There is at
    least one row.

    Raises:
        MnistError: `refuse` of the reason why the file cannot be used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
        lines = [
            "\n" if comment and line.startswith(comment) else line
            for line in io.StringIO(text[:MAX_CHARACTERS], newline="")
        ]
        first = next(filter(str.strip, lines), "").strip()
        delimiter = find_delimiter(first) or " "
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        table = [
            (reader.line_num, cells)
            for row in reader
            if any(cells := [cell.strip() for cell in row])
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refuse(f"It cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(text) > MAX_CHARACTERS:
        raise refuse(f"It has more than {MAX_CHARACTERS:,} characters.")
    if table and is_row(table[0][1]):
        table.insert(0, (0, list(columns)))
    header = [name.lower() for name in table[0][1]] if table else []
    if table and not set(columns) <= set(header):
        raise refuse(f"Its first line is {shorten(', '.join(header))}.")
    if len(table) < 2:
        raise refuse("It has no rows.")
    rows = ((line, dict(zip(header, cells, strict=False))) for line, cells in table[1:])
    return [(line, {name: row.get(name, "") for name in columns}) for line, row in rows]


def listed_file(folder: Path, name: str) -> Path:
    """The path of a file that a table in `folder` lists, perhaps with backslashes of Windows."""
    path = folder / name
    return path if "\\" not in name or path.exists() else folder / name.replace("\\", "/")


def whole_number(label: str) -> str:
    """A label without the decimals with which pandas and NumPy write whole numbers: "7.0"."""
    whole = re.fullmatch(r"([0-9]+)\.0*", label)
    return whole[1] if whole else label
