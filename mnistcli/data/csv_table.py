"""Rows of a CSV file that a user wrote."""

import csv
import io
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mnistcli.errors import MnistError, shorten

# Spreadsheets of different languages, and a copied table.
DELIMITERS = ",;\t"
# The labels of about 250,000 pictures. The limit is for devices, which never end.
MAX_CHARACTERS = 8_000_000


def read_label_rows(path: Path, *, refuse: Callable[[str], MnistError]) -> list[dict[str, str]]:
    """The rows of a label file, with the columns `file` (relative to it) and `label`.

    The header may be missing if the first line names a file that exists, and nothing but its label.

    Raises:
        MnistError: as for `read_csv_rows`.
    """

    def is_row(cells: Sequence[str]) -> bool:
        return len(cells) == 2 and os.path.isfile(path.parent / cells[0].strip())  # noqa: PTH113

    return read_csv_rows(path, ("file", "label"), refuse=refuse, is_row=is_row)


def read_csv_rows(
    path: Path,
    columns: Sequence[str],
    *,
    refuse: Callable[[str], MnistError],
    comment: str = "",
    is_row: Callable[[Sequence[str]], bool] = lambda _: False,
) -> list[dict[str, str]]:
    """The `columns` of every row, by the names in the header; a missing cell is empty.

    Lines that begin with `comment` (if any) are skipped, as are other columns;
    the header's names may be capitalized. Cells are separated by the one of
    `DELIMITERS` that the header has most of. There is at least one row. If the first line `is_row`,
    there is no header: it and the others have the `columns` in their order.

    Raises:
        MnistError: `refuse` of the reason why the file cannot be used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
        lines = io.StringIO(text[:MAX_CHARACTERS], newline="")
        kept = (line for line in lines if not (comment and line.startswith(comment)))
        first_line = next(kept, "")
        delimiter = max(DELIMITERS, key=first_line.count)
        names, *cells = csv.reader(
            itertools.chain([first_line], kept), delimiter=delimiter, skipinitialspace=True
        )
        if is_row(names):
            names, cells = list(columns), [names, *cells]
        header = [name.strip().lower() for name in names]
        rows = [
            dict(itertools.zip_longest(header, row[: len(header)], fillvalue=""))
            for row in cells
            if row
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refuse(f"It cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(text) > MAX_CHARACTERS:
        raise refuse(f"It has more than {MAX_CHARACTERS:,} characters.")
    if (header or rows) and not set(columns) <= set(header):
        raise refuse(f"Its first line is {shorten(', '.join(header))}.")
    if not rows:
        raise refuse("It has no rows.")
    return [{name: row[name] for name in columns} for row in rows]
