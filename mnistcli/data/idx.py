"""Parsing IDX, the format of MNIST's files."""

import numpy as np

from mnistcli.errors import DataError, shorten


def read_idx(
    content: bytes, *, name: str, fix: str = "Get it again: mnist download"
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The uint8 array in an IDX file: two zeros, type 8, the number of axes, sizes, values.

    `name` and `fix` are for the message. Format: the page of the MNIST database,
    "THE IDX FILE FORMAT".

    Raises:
        DataError: the content is not such an array, or not a whole one.
    """
    num_axes = content[3] if len(content) > 3 else 0
    header_bytes = 4 + 4 * num_axes
    if content[:3] != b"\x00\x00\x08" or num_axes == 0 or len(content) < header_bytes:
        raise DataError(f"{name} is not an IDX file of bytes.", fix=fix)
    shape = tuple(np.frombuffer(content[4:header_bytes], ">u4").tolist())
    expected_bytes = int(np.prod(shape, dtype=object))
    if len(content) - header_bytes != expected_bytes:
        raise DataError(
            f"{name} is damaged.",
            why=f"Its header announces {shorten(f'{expected_bytes:,}')} values, "
            f"but there are {len(content) - header_bytes:,}.",
            fix=fix,
        )
    try:
        return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy()
    except ValueError as error:  # more axes than NumPy allows, or a size of 0 next to huge ones
        raise DataError(f"{name} is damaged.", why=f"{error}.", fix=fix) from error
