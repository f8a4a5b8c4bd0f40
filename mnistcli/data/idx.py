"""The IDX format of MNIST's files."""

import numpy as np

from mnistcli.errors import DataError, shorten


def read_idx(content: bytes, *, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The uint8 array in an IDX file: two zeros, type 8, the number of axes, sizes, values.

    `name` is for the message. Format: the page of the MNIST database,
    "THE IDX FILE FORMAT".

    Raises:
        DataError: the content is no such array or not all of it.
    """
    num_axes = content[3] if len(content) > 3 else 0
    header_bytes = 4 + 4 * num_axes
    if content[:3] != b"\x00\x00\x08" or num_axes == 0 or len(content) < header_bytes:
        raise DataError(f"{name} is no IDX file of bytes.", fix="Get it again: mnist download")
    shape = tuple(np.frombuffer(content[4:header_bytes], ">u4").tolist())
    expected_bytes = int(np.prod(shape, dtype=object))
    if len(content) - header_bytes != expected_bytes:
        raise DataError(
            f"{name} is damaged.",
            why=f"Its header promises {shorten(f'{expected_bytes:,}')} values, "
            f"{len(content) - header_bytes:,} are there.",
            fix="Get it again: mnist download",
        )
    try:
        return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy()
    except ValueError as error:  # more axes than NumPy has, or a size of 0 beside huge ones
        raise DataError(
            f"{name} is damaged.", why=f"{error}.", fix="Get it again: mnist download"
        ) from error
