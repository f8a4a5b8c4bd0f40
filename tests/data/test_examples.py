"""Splits, batches, normalization and augmentation, against what they promise."""

import itertools

import pytest
import torch
from torch import Tensor

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import Augmentation, Fold
from mnistcli.data.augment import augment
from mnistcli.data.batches import shuffled_batches, steps_per_epoch
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.data.splits import split_by_fold, split_by_size, split_examples
from mnistcli.errors import SettingsError

STILL = {"rotate_degrees": 0, "scale_fraction": 0, "shear_degrees": 0, "shift_px": 0}


def numbered(num: int) -> Examples:
    """Examples whose label is their number, repeated in their picture."""
    numbers_N = torch.arange(num)
    images_NHW = numbers_N.to(torch.uint8).reshape(num, 1, 1).expand(num, 2, 2)
    return Examples(images_NHW, numbers_N)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**strengths: float) -> Augmentation:
    return Augmentation.model_validate(STILL | strengths)


def blobs(num: int) -> Tensor:
    """Soft round spots of ink, uint8 (num, 28, 28), a little off the centre."""
    places = torch.arange(28.0)
    bump = torch.exp(-((places - 12.5) ** 2) / 18)
    return (bump[:, None] * bump * 255).to(torch.uint8).repeat(num, 1, 1)


def strokes(num: int) -> Tensor:
    """Upright bars, uint8 (num, 28, 28), which no rotation leaves as they are."""
    images_NHW = torch.zeros(num, 28, 28, dtype=torch.uint8)
    images_NHW[:, 5:23, 12:16] = 255
    return images_NHW


def mass(images_NHW: Tensor) -> Tensor:
    return images_NHW.float().sum(dim=(1, 2))


def centre_of_mass(images_NHW: Tensor) -> Tensor:
    """Row and column, (N, 2), in px."""
    places = torch.arange(images_NHW.shape[-1], dtype=torch.float32)
    rows_N = (images_NHW.float().sum(dim=2) * places).sum(dim=1)
    columns_N = (images_NHW.float().sum(dim=1) * places).sum(dim=1)
    return torch.stack([rows_N, columns_N], dim=1) / mass(images_NHW)[:, None]


@pytest.mark.parametrize(
    ("val_size", "num_val"), [(0.1, 10), (0.25, 25), (0, 0), (1, 1), (30, 30), (99, 99), (0.006, 1)]
)
def test_a_split_is_disjoint_and_complete(val_size: float, num_val: int) -> None:
    train, val = split_by_size(numbered(100), val_size, seed=0)
    assert (len(train), len(val)) == (100 - num_val, num_val)
    assert sorted([*train.labels_N.tolist(), *val.labels_N.tolist()]) == list(range(100))


def test_a_split_keeps_pictures_with_their_labels() -> None:
    for part in split_by_size(numbered(100), 0.3, seed=0):
        assert torch.equal(part.images_NHW[:, 0, 0].long(), part.labels_N)


def test_a_split_is_decided_by_its_seed() -> None:
    first, again, other = (
        split_by_size(numbered(100), 0.2, seed)[1].labels_N for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first.sort().values, other.sort().values)


def test_a_split_mixes_the_examples() -> None:
    val = split_by_size(numbered(100), 0.2, seed=0)[1]
    assert val.labels_N.tolist() != list(range(20))


def test_a_split_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    split_by_size(numbered(10), 0.5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("val_size", [100, 101, 59_999, 0.999])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(val_size: float) -> None:
    with pytest.raises(SettingsError, match="leaves nothing to train on") as caught:
        split_by_size(numbered(100), val_size, seed=0)
    assert caught.value.why == "The training set has 100 pictures."


@pytest.mark.parametrize(("num_all", "num_folds"), [(100, 5), (101, 3), (7, 7), (60, 2)])
def test_folds_are_disjoint_and_complete(num_all: int, num_folds: int) -> None:
    everything = list(range(num_all))
    parts = []
    for number in range(1, num_folds + 1):
        train, val = split_by_fold(numbered(num_all), Fold(number=number, of=num_folds), seed=0)
        assert sorted([*train.labels_N.tolist(), *val.labels_N.tolist()]) == everything
        assert torch.equal(val.images_NHW[:, 0, 0].long(), val.labels_N)
        parts.append(val.labels_N.tolist())
    assert sorted(itertools.chain(*parts)) == everything
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts[0] != everything[: len(parts[0])]


def test_folds_are_decided_by_their_seed() -> None:
    fold = Fold(number=2, of=5)
    first, again, other = (
        split_by_fold(numbered(100), fold, seed)[1].labels_N for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first.sort().values, other.sort().values)


def test_more_folds_than_examples_are_refused() -> None:
    with pytest.raises(SettingsError, match="100 folds leave nothing to validate on"):
        split_by_fold(numbered(99), Fold(number=1, of=100), seed=0)


def test_a_run_is_divided_by_its_fold_or_by_its_val_size() -> None:
    fold = {"number": 3, "of": 4}
    settings = resolve_settings({"fold": fold, "val_size": 0, "seed": 6}, environ={}).settings
    wanted_N = split_by_fold(numbered(50), Fold.model_validate(fold), seed=6)[1].labels_N
    assert torch.equal(split_examples(numbered(50), settings)[1].labels_N, wanted_N)
    settings = resolve_settings({"val_size": 9, "seed": 6}, environ={}).settings
    wanted_N = split_by_size(numbered(50), 9, seed=6)[1].labels_N
    assert torch.equal(split_examples(numbered(50), settings)[1].labels_N, wanted_N)


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "steps"),
    [(10, 3, 3), (9, 3, 3), (2, 3, 1), (3, 3, 1), (7, 1, 7)],
)
def test_an_epoch_has_the_full_batches_only(num_examples: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(num_examples, batch_size) == steps
    assert len(list(shuffled_batches(numbered(num_examples), batch_size, generator()))) == steps


def test_an_epoch_covers_the_examples_without_repetition() -> None:
    labels_N = torch.cat(
        [labels_N for _, labels_N in shuffled_batches(numbered(100), 10, generator())]
    )
    assert sorted(labels_N.tolist()) == list(range(100))
    assert labels_N.tolist() != list(range(100))


def test_an_incomplete_batch_is_dropped() -> None:
    batches = list(shuffled_batches(numbered(100), 30, generator()))
    assert [len(labels_N) for _, labels_N in batches] == [30, 30, 30]
    assert len(torch.cat([labels_N for _, labels_N in batches]).unique()) == 90


def test_what_one_epoch_drops_another_brings_back() -> None:
    examples, rng = numbered(100), generator()
    seen = {label for _ in range(8) for _, labels_N in shuffled_batches(examples, 60, rng)
            for label in labels_N.tolist()}  # fmt: skip
    assert seen == set(range(100))


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    (batch,) = shuffled_batches(numbered(5), 64, generator())
    assert sorted(batch[1].tolist()) == [0, 1, 2, 3, 4]


def test_a_batch_keeps_pictures_with_their_labels() -> None:
    for images_NHW, labels_N in shuffled_batches(numbered(50), 8, generator()):
        assert images_NHW.dtype == torch.uint8
        assert torch.equal(images_NHW[:, 1, 1].long(), labels_N)


def test_epochs_differ_and_the_seed_repeats_them() -> None:
    def epochs(seed: int) -> list[list[int]]:
        rng, examples = generator(seed), numbered(50)
        return [
            torch.cat([labels_N for _, labels_N in shuffled_batches(examples, 10, rng)]).tolist()
            for _ in range(2)
        ]

    first, second = epochs(1)
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2) != [first, second]


def test_taking_examples_keeps_the_order_asked_for() -> None:
    taken = numbered(10).take(torch.tensor([7, 2, 7]))
    assert taken.labels_N.tolist() == [7, 2, 7]
    assert taken.images_NHW[:, 0, 0].tolist() == [7, 2, 7]


def test_moving_examples_keeps_them() -> None:
    moved = numbered(3).to(torch.device("cpu"))
    assert moved.labels_N.tolist() == [0, 1, 2]


def test_normalised_values_are_those_worked_out_by_hand() -> None:
    images_NHW = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    x_NCHW = normalize(images_NHW, Normalization(mean=0.2, std=0.4, input_px=2))
    assert x_NCHW.dtype == torch.float32
    expected_NCHW = torch.tensor([[[[-0.5, 2.0], [0.0, 0.5]]]])
    torch.testing.assert_close(x_NCHW, expected_NCHW)


def test_a_picture_of_another_size_is_resized() -> None:
    x_NCHW = normalize(blobs(3), Normalization(mean=0.0, std=1.0, input_px=64))
    assert x_NCHW.shape == (3, 1, 64, 64)
    assert x_NCHW.min() >= 0
    assert x_NCHW.max() <= 1
    assert x_NCHW.mean().item() == pytest.approx(blobs(1).float().mean().item() / 255, rel=0.01)
    torch.testing.assert_close(
        centre_of_mass(x_NCHW.squeeze(1)), (centre_of_mass(blobs(3)) + 0.5) * 64 / 28 - 0.5,
        rtol=0, atol=0.05,
    )  # fmt: skip


def test_a_flat_picture_stays_flat_when_resized() -> None:
    gray_NHW = torch.full((1, 28, 28), 51, dtype=torch.uint8)
    x_NCHW = normalize(gray_NHW, Normalization(mean=0.0, std=1.0, input_px=64))
    torch.testing.assert_close(x_NCHW, torch.full((1, 1, 64, 64), 0.2))


def test_without_strength_augmentation_gives_the_picture_back() -> None:
    images_NHW = torch.randint(0, 256, (8, 28, 28), generator=generator(), dtype=torch.uint8)
    out_NHW = augment(images_NHW, only(), generator())
    assert (out_NHW - images_NHW.float()).abs().max() < 1


def test_augmented_pictures_keep_shape_and_range() -> None:
    out_NHW = augment(strokes(16), Augmentation(), generator())
    assert out_NHW.shape == (16, 28, 28)
    assert out_NHW.dtype == torch.float32
    assert out_NHW.min() >= 0
    assert out_NHW.max() <= 255.001


def test_augmentation_is_decided_by_its_generator() -> None:
    first, again, other = (
        augment(strokes(8), Augmentation(), generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_generator_gives_fresh_maps_each_time() -> None:
    rng = generator()
    first, second = (augment(strokes(8), Augmentation(), rng) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "strength",
    [{"rotate_degrees": 12}, {"scale_fraction": 0.1}, {"shear_degrees": 6}, {"shift_px": 2}],
    ids=lambda strength: next(iter(strength)),
)
def test_every_picture_is_changed_in_its_own_way(strength: dict[str, float]) -> None:
    images_NHW = strokes(8)
    out_NHW = augment(images_NHW, only(**strength), generator())
    assert len(out_NHW.unique(dim=0)) == 8
    assert (out_NHW - images_NHW).abs().amax(dim=(1, 2)).median() > 5


def test_augmentation_touches_neither_the_global_generator_nor_its_input() -> None:
    before, images_NHW = torch.get_rng_state(), strokes(4)
    augment(images_NHW, Augmentation(), generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images_NHW, strokes(4))


def test_the_usual_augmentation_keeps_the_ink_inside() -> None:
    out_NHW = augment(strokes(256), Augmentation(), generator())
    kept_N = mass(out_NHW) / mass(strokes(256))
    assert kept_N.min() > 0.7
    assert kept_N.mean().item() == pytest.approx(1, abs=0.05)


def test_a_shift_moves_the_centre_of_mass_by_no_more_than_its_bound() -> None:
    images_NHW = blobs(256)
    out_NHW = augment(images_NHW, only(shift_px=2), generator())
    moved_N2 = (centre_of_mass(out_NHW) - centre_of_mass(images_NHW)).abs()
    assert moved_N2.max() < 2.05
    assert (moved_N2.max(dim=0).values > 1.8).all()


def test_a_rotation_keeps_the_mass_and_turns_the_stroke() -> None:
    images_NHW = strokes(64)
    out_NHW = augment(images_NHW, only(rotate_degrees=45), generator())
    assert (mass(out_NHW) / mass(images_NHW) - 1).abs().max() < 0.04
    drift_N2 = centre_of_mass(out_NHW) - centre_of_mass(images_NHW)
    assert drift_N2.abs().max() < 0.1
    widths_N = (out_NHW.amax(dim=1) > 64).sum(dim=1)
    assert widths_N.max() > 10 > 5 > widths_N.min()


def test_a_scale_changes_the_mass_within_its_bounds() -> None:
    images_NHW = blobs(256)
    out_NHW = augment(images_NHW, only(scale_fraction=0.2), generator())
    ratio_N = mass(out_NHW) / mass(images_NHW)
    assert ratio_N.min() > 1 / 1.2**2 - 0.02
    assert ratio_N.max() < 1 / 0.8**2 + 0.02
    assert ratio_N.max() - ratio_N.min() > 0.4
