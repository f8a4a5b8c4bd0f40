"""Two checkpoints on the same images: which is better, if that can be told. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations

from mnistcli.errors import SettingsError
from mnistcli.evaluation.scores import Score

# Below it a difference is said to be one: the usual bound.
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
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

    def in_words(self, first: str = "", second: str = "") -> str:
        """Which of the two is better, in a sentence; called as given, else by their names here."""
        first, second = first or self.first, second or self.second
        p = "p < 0.0001" if self.p < 0.0001 else f"p = {self.p:.2g}"
        if not self.num_only_first + self.num_only_second:
            return f"No difference can be told: both misread the same images, {p}."
        if self.p >= SIGNIFICANCE_LEVEL:
            return (
                f"No difference can be told: {_count_images(self.num_only_first)} misread by {first} "
                f"only, {self.num_only_second:,} by {second} only, {p}."
            )
        sides = sorted([(self.num_only_first, first), (self.num_only_second, second)])
        (fewer, better), (more, worse) = sides
        return (
            f"{better} is better: {_count_images(fewer)} misread by it only, "
            f"{more:,} by {worse} only, {p}."
        )


def _count_images(num: int) -> str:
    return "1 image is" if num == 1 else f"{num:,} images are"


def compare_all(scores: Sequence[Score]) -> list[Comparison]:
    """Every two of several scores on the same images, compared."""
    return [compare(first, second) for first, second in combinations(scores, 2)]


def compare(first: Score, second: Score) -> Comparison:
    """Two scores on the same images, compared image by image.

    Raises:
        SettingsError: they are not on the same images, as far as scores tell.
    """
    _check_same_images(first, second)
    wrong_first, wrong_second = (
        {mistake.index for mistake in score.mistakes} for score in (first, second)
    )
    only_first, only_second = len(wrong_first - wrong_second), len(wrong_second - wrong_first)
    return Comparison(
        first=first.checkpoint,
        second=second.checkpoint,
        num_only_first=only_first,
        num_only_second=only_second,
        num_both=len(wrong_first & wrong_second),
        p=mcnemar_p_value(only_first, only_second),
    )


def _check_same_images(first: Score, second: Score) -> None:
    """By their data set and split, the images of every class, and the labels of the misread."""
    one, other = (
        (score.dataset, score.split, [each.num_images for each in score.classes])
        for score in (first, second)
    )
    labels = {mistake.index: mistake.label for mistake in first.mistakes}
    agrees = all(labels.get(each.index, each.label) == each.label for each in second.mistakes)
    if one != other or not agrees:
        raise SettingsError(
            f"{first.checkpoint} and {second.checkpoint} cannot be compared.",
            why="They were not judged on the same images.",
            fix="Judge both on the same data set and split; a validation split changes with seed, "
            "val_size and fold.",
        )


def mcnemar_p_value(num_only_first: int, num_only_second: int) -> float:
    """The two-sided p of McNemar's test (1947), exact: a binomial test of the discordant pairs.

    Were both networks equally good, each image that only one of them misreads
    would be the one's or the other's like the toss of a coin. In whole numbers
    up to the last division, so that no count is too large.
    """
    num, fewest = num_only_first + num_only_second, min(num_only_first, num_only_second)
    ways = accumulate(range(fewest), lambda before, k: before * (num - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(ways) / (1 << num))
