"""Two checkpoints on the same images: which is better, if that can be told. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations

from mnistcli.metrics import Score


@dataclass(frozen=True)
class Pair:
    """Two checkpoints by the images that one alone, or both, misread.

    `p` (0..1) is how often two equally good networks would differ at least as
    much by chance.
    """

    first: str
    second: str
    num_only_first: int
    num_only_second: int
    num_both: int
    p: float


def pairs(scores: Sequence[Score]) -> list[Pair]:
    """Every two of several scores on the same images, compared."""
    return [compare(first, second) for first, second in combinations(scores, 2)]


def compare(first: Score, second: Score) -> Pair:
    """Two scores on the same images, compared image by image."""
    wrong_first, wrong_second = (
        {mistake.index for mistake in score.mistakes} for score in (first, second)
    )
    only_first, only_second = len(wrong_first - wrong_second), len(wrong_second - wrong_first)
    return Pair(
        first=first.checkpoint,
        second=second.checkpoint,
        num_only_first=only_first,
        num_only_second=only_second,
        num_both=len(wrong_first & wrong_second),
        p=mcnemar(only_first, only_second),
    )


def mcnemar(num_only_first: int, num_only_second: int) -> float:
    """The two-sided p of McNemar's test (1947), exact: a binomial test of the discordant pairs.

    Were both networks equally good, each image that only one of them misreads
    would be the one's or the other's like the toss of a coin. In whole numbers
    up to the last division, so that no count is too large.
    """
    num, fewest = num_only_first + num_only_second, min(num_only_first, num_only_second)
    ways = accumulate(range(fewest), lambda before, k: before * (num - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(ways) / (1 << num))
