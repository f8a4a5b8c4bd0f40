"""Random affine augmentation."""

import pytest
import torch
from torch import Tensor

from mnistcli.config.settings import Augmentation
from mnistcli.data.augment import augment
from tests.helpers.examples import blobs, center_of_mass, seeded

NO_CHANGE = {"rotate_degrees": 0, "scale_fraction": 0, "shear_degrees": 0, "shift_px": 0}


def only(**strengths: float) -> Augmentation:
    return Augmentation.model_validate(NO_CHANGE | strengths)


def strokes(num: int) -> Tensor:
    """Upright bars, uint8 (num, 28, 28), which every rotation changes."""
    images_NHW = torch.zeros(num, 28, 28, dtype=torch.uint8)
    images_NHW[:, 5:23, 12:16] = 255
    return images_NHW


def mass(images_NHW: Tensor) -> Tensor:
    return images_NHW.float().sum(dim=(1, 2))


def test_without_strength_augmentation_returns_the_images() -> None:
    images_NHW = torch.randint(0, 256, (8, 28, 28), generator=seeded(), dtype=torch.uint8)
    out_NHW = augment(images_NHW, only(), seeded())
    assert (out_NHW - images_NHW.float()).abs().max() < 1


def test_augmented_images_keep_shape_range_and_ink() -> None:
    out_NHW = augment(strokes(256), Augmentation(), seeded())
    assert (out_NHW.shape, out_NHW.dtype) == ((256, 28, 28), torch.float32)
    assert out_NHW.min() >= 0
    assert out_NHW.max() <= 255.001
    kept_N = mass(out_NHW) / mass(strokes(256))
    assert kept_N.min() > 0.7
    assert kept_N.mean().item() == pytest.approx(1, abs=0.05)


def test_augmentation_depends_on_its_generator_alone() -> None:
    before, images_NHW, generator = torch.get_rng_state(), strokes(8), seeded(1)
    first, second = (augment(images_NHW, Augmentation(), generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, augment(images_NHW, Augmentation(), seeded(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images_NHW, strokes(8))


@pytest.mark.parametrize(
    "strength",
    [{"rotate_degrees": 12}, {"scale_fraction": 0.1}, {"shear_degrees": 6}, {"shift_px": 2}],
    ids=lambda strength: next(iter(strength)),
)
def test_every_image_is_changed_in_its_own_way(strength: dict[str, float]) -> None:
    images_NHW = strokes(8)
    out_NHW = augment(images_NHW, only(**strength), seeded())
    assert len(out_NHW.unique(dim=0)) == 8
    assert (out_NHW - images_NHW).abs().amax(dim=(1, 2)).median() > 5


def test_a_shift_moves_the_center_of_mass_by_no_more_than_its_bound() -> None:
    images_NHW = blobs(256)
    out_NHW = augment(images_NHW, only(shift_px=2), seeded())
    moved_N2 = (center_of_mass(out_NHW) - center_of_mass(images_NHW)).abs()
    assert moved_N2.max() < 2.05
    assert (moved_N2.max(dim=0).values > 1.8).all()


def test_a_rotation_keeps_the_mass_and_turns_the_stroke() -> None:
    images_NHW = strokes(64)
    out_NHW = augment(images_NHW, only(rotate_degrees=45), seeded())
    assert (mass(out_NHW) / mass(images_NHW) - 1).abs().max() < 0.04
    assert (center_of_mass(out_NHW) - center_of_mass(images_NHW)).abs().max() < 0.1
    widths_N = (out_NHW.amax(dim=1) > 64).sum(dim=1)
    assert widths_N.max() > 10 > 5 > widths_N.min()


def test_a_scale_changes_the_mass_within_its_bounds() -> None:
    images_NHW = blobs(256)
    ratio_N = mass(augment(images_NHW, only(scale_fraction=0.2), seeded())) / mass(images_NHW)
    assert ratio_N.min() > 1 / 1.2**2 - 0.02
    assert ratio_N.max() < 1 / 0.8**2 + 0.02
    assert ratio_N.max() - ratio_N.min() > 0.4
