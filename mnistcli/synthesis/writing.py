"""How digits are set out on a page: rows, cells, scattered, or one large digit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mnistcli.synthesis.canvas import Point

Layout = Literal["rows", "cells", "scatter", "single", "empty"]
LAYOUT_SHARES: dict[Layout, float] = {
    "rows": 0.5,
    "cells": 0.27,
    "scatter": 0.1,
    "single": 0.09,
    "empty": 0.04,
}
# The heights of digits that are to be found, in pixels, and of writing too small to be read.
MIN_HEIGHT_PX, MAX_HEIGHT_PX = 9, 150
TOO_SMALL_PX, TOO_SMALL_SHARE = (3.0, 6.5), 0.06
# On this share of the pages strokes are as thin as those of a large digit seen from near.
HAIRLINE_SHARE = 0.2
# More digits on a page teach nothing more, and take their time.
MAX_DIGITS = 80


@dataclass(frozen=True)
class Writing:
    """One hand's digits on a square page.

    Rows and columns are those of a grid around the page's middle, tilted by `tilt` radians
    and shifted by `offset` pixels; `first`, `last` bound its columns, `rows` its rows. Columns are
    `pitch_px` apart, rows `lead_px`; a share `filled` of the places has a digit. `slant` and
    `aspect` are as in `Pose`.
    """

    layout: Layout
    height_px: float
    pen_px: float
    tilt: float
    slant: float
    aspect: float
    pitch_px: float
    lead_px: float
    offset: Point
    rows: range
    first: int
    last: int
    filled: float

    @property
    def is_legible(self) -> bool:
        """Whether the digits are large enough to be read."""
        return self.height_px >= MIN_HEIGHT_PX

    def places(self, side_px: int, rng: np.random.Generator) -> Iterator[Point]:
        """The centers of its digits on a page of this side."""
        if self.layout == "scatter":
            for _ in range(rng.integers(1, 7)):
                yield tuple(side_px * rng.uniform(-0.1, 1.1, 2))
        elif self.layout == "single":
            yield tuple(side_px * rng.uniform(0.2, 0.8, 2))
        elif self.layout != "empty":
            unevenness = self.height_px * (0.04 if self.layout == "cells" else 0.06)
            for row in self.rows:
                for column in range(self.first, self.last + 1):
                    if rng.random() < self.filled:
                        u, v = rng.normal(0, unevenness, 2) + self.offset
                        yield self.to_page(
                            u + column * self.pitch_px, v + row * self.lead_px, side_px
                        )

    def to_page(self, u: float, v: float, side_px: int) -> Point:
        """A point of the tilted grid on the page."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return side_px / 2 + u * cos - v * sin, side_px / 2 + u * sin + v * cos


def random_writing(rng: np.random.Generator, side_px: int) -> Writing:
    """Digits of any size, pen and layout for a page of this side."""
    uniform = rng.uniform
    layout: Layout = rng.choice(list(LAYOUT_SHARES), p=list(LAYOUT_SHARES.values()))
    height = math.exp(uniform(math.log(MIN_HEIGHT_PX), math.log(MAX_HEIGHT_PX)))
    if rng.random() < TOO_SMALL_SHARE:
        height = uniform(*TOO_SMALL_PX)
    share = math.exp(rng.normal(math.log(0.085), 0.45))
    if rng.random() < HAIRLINE_SHARE:
        share = math.exp(uniform(math.log(0.01), math.log(0.04)))
    pen = np.clip(share * height, 0.8, 0.3 * height + 0.5)
    spacing = rng.random()
    if layout == "cells":
        pitch = height * uniform(0.95, 2.2)
    elif spacing < 0.35:
        pitch = height * (0.62 + uniform(-0.08, 0.06))
    else:
        pitch = height * (0.62 + (uniform(0.06, 0.5) if spacing < 0.85 else uniform(0.5, 1.6)))
    is_dense = layout == "cells" or rng.random() < 0.6
    lead = height * (uniform(1.12, 1.9) if is_dense else uniform(1.5, 3))
    num_rows, num_columns = (int(0.75 * side_px / step) + 1 for step in (lead, pitch))
    has_one_row = layout in ("rows", "cells") and rng.random() < 0.45
    columns = (-num_columns, num_columns)
    if rng.random() < 0.4:
        columns = tuple(sorted(rng.integers(-num_columns, num_columns + 1, 2).tolist()))
    rows = range(1) if has_one_row else range(-num_rows, num_rows + 1)
    num_places = len(rows) * (columns[1] - columns[0] + 1)
    filled = 1.0 if rng.random() < 0.4 else uniform(0.4, 1)
    return Writing(
        layout=layout,
        height_px=height,
        pen_px=float(pen),
        tilt=math.radians(rng.normal(0, 3) if rng.random() < 0.8 else uniform(-25, 25)),
        slant=rng.normal(0, 0.12),
        aspect=math.exp(rng.normal(0, 0.12)),
        pitch_px=pitch,
        lead_px=lead,
        offset=(uniform(-0.5, 0.5) * pitch, uniform(-0.5, 0.5) * lead),
        rows=rows,
        first=columns[0],
        last=columns[1],
        filled=min(filled, MAX_DIGITS / num_places),
    )
