"""Ink made up for tests: bars, discs, and their connected parts."""

import numpy as np

from mnistcli.data.arrays import Box, GrayImage
from mnistcli.reading.parts import Part, find_parts


def bars(*boxes: Box) -> GrayImage:
    """Boxes full of ink, with 10 pixels to the right of them and below."""
    width, height = max(box[2] for box in boxes) + 10, max(box[3] for box in boxes) + 10
    ink_HW = np.zeros((height, width), np.float32)
    for left, top, right, bottom in boxes:
        ink_HW[top:bottom, left:right] = 1
    return ink_HW


def parts_of(*boxes: Box) -> list[Part]:
    """The connected parts of boxes that do not touch."""
    _, parts = find_parts(bars(*boxes))
    return parts


def boxes_of(parts: list[Part]) -> list[Box]:
    return [part.box for part in parts]


def discs(num: int, *, radius: int = 20) -> GrayImage:
    """Discs of ink in a row, each touching the next."""
    center_W = 2 * radius * (np.arange(2 * radius * num) // (2 * radius)) + radius - 0.5
    x_W, y_H1 = np.arange(2 * radius * num), np.arange(2 * radius)[:, None]
    inside_HW = (x_W - center_W) ** 2 + (y_H1 - radius + 0.5) ** 2 <= radius**2
    return np.asarray(inside_HW, np.float32)
