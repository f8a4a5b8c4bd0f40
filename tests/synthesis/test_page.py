"""Composed pages: a picture, and which ink in it is writing."""

import numpy as np
import pytest
from scipy import ndimage

from mnistcli.synthesis.page import PAGE_PX, Page, compose_page, draw_writing
from mnistcli.synthesis.pen_digits import pen_digits
from mnistcli.synthesis.shapes import DigitShapes
from mnistcli.synthesis.writing import LAYOUT_SHARES, Writing, random_writing

LABELS_N = np.arange(20) % 10


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def shapes() -> DigitShapes:
    return DigitShapes(pen_digits(LABELS_N, rng(0)), LABELS_N)


@pytest.fixture(scope="module")
def pages(shapes: DigitShapes) -> list[Page]:
    return [compose_page(shapes, rng(seed)) for seed in range(60)]


def writing_of(seed: int) -> Writing:
    """The writing on the page of this seed, which is what is drawn first."""
    return random_writing(rng(seed), PAGE_PX)


def test_a_page_is_a_picture_and_its_ink(pages: list[Page]) -> None:
    for page in pages:
        for pixels_HW in (page.gray_HW, page.ink_HW):
            assert pixels_HW.shape == (PAGE_PX, PAGE_PX)
            assert pixels_HW.dtype == np.uint8
        assert np.ptp(page.gray_HW) > 0


def test_a_seed_gives_the_same_page(shapes: DigitShapes, pages: list[Page]) -> None:
    for seed in (3, 4):
        again = compose_page(shapes, rng(seed))
        assert (again.gray_HW == pages[seed].gray_HW).all()
        assert (again.ink_HW == pages[seed].ink_HW).all()
    assert (pages[3].gray_HW != pages[4].gray_HW).any()


def test_most_pages_have_ink_of_which_most_is_full_or_none(pages: list[Page]) -> None:
    shares = np.array([(page.ink_HW > 127).mean() for page in pages])
    assert (shares > 0).mean() > 0.7
    assert (shares < 0.5).all()
    assert np.mean([((page.ink_HW > 60) & (page.ink_HW < 195)).mean() for page in pages]) < 0.06


def test_ink_is_darker_than_what_is_around_it_or_lighter(pages: list[Page]) -> None:
    contrasts = []
    for page in pages:
        ink_HW = page.ink_HW > 200
        near_HW = ndimage.binary_dilation(page.ink_HW > 20, iterations=4) & (page.ink_HW < 20)
        if ink_HW.sum() > 100 and near_HW.sum() > 100:
            near = np.median(page.gray_HW[near_HW])
            contrasts.append(float(near - page.gray_HW[ink_HW].mean()))
    assert len(contrasts) > 30
    assert np.mean(np.abs(contrasts) > 8) > 0.9
    assert 0.6 < np.mean(np.array(contrasts) > 0) < 1


def test_writing_too_small_to_be_read_is_not_to_be_found(
    shapes: DigitShapes, pages: list[Page]
) -> None:
    illegible = [seed for seed in range(400) if not writing_of(seed).is_legible][:5]
    assert illegible
    for seed in illegible:
        assert not compose_page(shapes, rng(seed)).ink_HW.any()
    empty = [seed for seed in range(60) if writing_of(seed).layout == "empty"]
    assert not any(pages[seed].ink_HW.any() for seed in empty)


def test_all_layouts_come_up() -> None:
    assert {writing_of(seed).layout for seed in range(300)} == set(LAYOUT_SHARES)


def test_digits_are_where_the_writing_places_them(shapes: DigitShapes) -> None:
    checked = 0
    for seed in range(40):
        writing = writing_of(seed)
        if writing.layout != "single" or not 20 < writing.height_px < 80:
            continue
        # The first random numbers for the ink are its pen, its font, print and marks.
        ink_HW = draw_writing(writing, shapes, rng(seed + 1000))
        assert ink_HW.dtype == np.float32
        assert 0 <= ink_HW.min() <= ink_HW.max() <= 1
        rows_N, columns_N = np.nonzero(ink_HW > 0.5)
        assert max(np.ptp(rows_N), np.ptp(columns_N)) < 2 * writing.height_px
        checked += 1
    assert checked


def test_places_of_tilted_rows_are_on_tilted_lines() -> None:
    writing = next(w for w in map(writing_of, range(500)) if w.layout == "rows" and w.tilt > 0.1)
    (x0, y0), (x1, y1) = (writing.to_page(u, 0, PAGE_PX) for u in (0, 50))
    assert (x0, y0) == (PAGE_PX / 2, PAGE_PX / 2)
    assert np.arctan2(y1 - y0, x1 - x0) == pytest.approx(writing.tilt)
