"""Two checkpoints on the same images: is one significantly better (McNemar's test)? No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations

from mnistcli.errors import SettingsError
from mnistcli.evaluation.scores import Score

# A difference with a smaller p counts as significant.
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints and the numbers of images that only one of them, or both, misclassify.

    `p` (0..1) is the probability that two equally good networks differ at least
    as much by chance.
    """

    first: str
    second: str
    num_only_first: int
    num_only_second: int
    num_both: int
    p: float

    def in_words(self, first: str = "", second: str = "") -> str:
        """A sentence that says which is better, if either; names replace the checkpoints'."""
        sides = [
            (self.num_only_first, first or self.first),
            (self.num_only_second, second or self.second),
        ]
        p = "p < 0.0001" if self.p < 0.0001 else f"p = {self.p:.2g}"
        if not self.num_only_first + self.num_only_second:
            return f"No significant difference: both misclassify the same images, {p}."
        verdict = "No significant difference"
        if self.p < SIGNIFICANCE_LEVEL:
            sides.sort()
            verdict = f"{sides[0][1]} is better"
        (num, name), (other_num, other_name) = sides
        images = "1 image is" if num == 1 else f"{num:,} images are"
        return (
            f"{verdict}: {images} misclassified by {name} only, "
            f"{other_num:,} by {other_name} only, {p}."
        )


def compare_all(scores: Sequence[Score]) -> list[Comparison]:
    """The comparison of every pair of scores on the same images."""
    return [compare(first, second) for first, second in combinations(scores, 2)]


def compare(first: Score, second: Score) -> Comparison:
    """Compare two scores on the same images, image by image.

    Raises:
        SettingsError: the scores show that their images differ.
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
    """Compare data set, split, images per class, and the labels of misclassified images."""
    sources = [
        (score.dataset, score.split, [class_score.num_images for class_score in score.classes])
        for score in (first, second)
    ]
    labels = {mistake.index: mistake.label for mistake in first.mistakes}
    have_same_labels = all(
        labels.get(mistake.index, mistake.label) == mistake.label for mistake in second.mistakes
    )
    if sources[0] != sources[1] or not have_same_labels:
        raise SettingsError(
            f"{first.checkpoint} and {second.checkpoint} cannot be compared.",
            why="They were evaluated on different images.",
            fix="Evaluate both on the same data set and split; the validation split depends on "
            "seed, val_size and fold.",
        )


def mcnemar_p_value(num_only_first: int, num_only_second: int) -> float:
    """The two-sided p of McNemar's test (1947), exact: a binomial test of the discordant pairs.

    If both networks were equally good, each image that only one of them
    misclassifies would be either's with probability 1/2. Whole numbers up to
    the last division, so that any count works.
    """
    num, fewest = num_only_first + num_only_second, min(num_only_first, num_only_second)
    binomials = accumulate(range(fewest), lambda last, k: last * (num - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(binomials) / (1 << num))
