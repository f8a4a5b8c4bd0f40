"""Taking, shuffling and batching examples."""

import pytest
import torch

from mnistcli.data.batches import evaluation_batches, shuffled_batches, steps_per_epoch
from tests.helpers.examples import numbered, seeded


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(10, 3, [3, 3, 3]), (9, 3, [3, 3, 3]), (2, 3, [2]), (3, 1, [1, 1, 1])],
)
def test_an_epoch_has_only_full_batches_unless_there_is_none(
    num_examples: int, batch_size: int, sizes: list[int]
) -> None:
    assert steps_per_epoch(num_examples, batch_size) == len(sizes)
    batches = list(shuffled_batches(numbered(num_examples), batch_size, seeded()))
    assert [len(labels_N) for _, labels_N in batches] == sizes
    labels_N = torch.cat([labels_N for _, labels_N in batches])
    assert len(labels_N.unique()) == sum(sizes)
    for images_NHW, labels_N in batches:
        assert images_NHW.dtype == torch.uint8
        assert torch.equal(images_NHW[:, 1, 1].long(), labels_N)


def test_an_epoch_is_in_the_generators_next_order() -> None:
    generator, reference = seeded(1), seeded(1)
    for _ in range(2):
        batches = shuffled_batches(numbered(50), 10, generator)
        order_N = torch.randperm(50, generator=reference)
        assert torch.equal(torch.cat([labels_N for _, labels_N in batches]), order_N)


def test_images_dropped_in_one_epoch_come_back_in_another() -> None:
    examples, generator, labels = numbered(100), seeded(), set()
    for _ in range(8):
        for _, labels_N in shuffled_batches(examples, 60, generator):
            labels |= set(labels_N.tolist())
    assert labels == set(range(100))


def test_evaluation_batches_keep_the_order_and_copy_nothing() -> None:
    images_NHW = torch.arange(250).reshape(250, 1, 1)
    batches = evaluation_batches(images_NHW)
    assert len(batches) > 1
    assert torch.equal(torch.cat(batches), images_NHW)
    assert batches[0].data_ptr() == images_NHW.data_ptr()


def test_examples_are_taken_in_the_order_asked_for_and_moved_unchanged() -> None:
    examples = numbered(10).take(torch.tensor([7, 2, 7])).to(torch.device("cpu"))
    assert examples.labels_N.tolist() == [7, 2, 7]
    assert examples.images_NHW[:, 0, 0].tolist() == [7, 2, 7]
