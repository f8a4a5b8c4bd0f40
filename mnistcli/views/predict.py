"""Output of `mnist predict`: digits as text, JSON or CSV, and the score of labeled pictures."""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistcli.errors import DataError
from mnistcli.evaluation.submission import Submission
from mnistcli.reading.batch import PictureResult
from mnistcli.reading.predict import Prediction, Reading
from mnistcli.reading.scoring import LabeledPicture, PictureScores, Tally
from mnistcli.views.console import (
    ErrorRecord,
    format_interval,
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_note,
    print_table,
    printable,
    stderr,
    stdout,
)
from mnistcli.views.preview import image_as_text, steps_as_text

OutputStyle = Literal["text", "json", "csv", "quiet"]

# More pictures get one line each.
MAX_PREVIEWS = 4
CSV_COLUMNS = ("file", "read", "probability", "doubt", "label", "correct", "error")


@dataclass(frozen=True)
class DigitRecord:
    """A digit: its class, the probabilities of all, and where it is.

    `box` is left, top, right and bottom in pixels; `line` counts from 0; `digit_probability` is
    the probability that it is a digit at all; `doubt` says why the class may be wrong.
    """

    digit: str
    probability: float
    probabilities: dict[str, float]
    box: tuple[int, int, int, int]
    line: int
    digit_probability: float
    doubt: str | None


@dataclass(frozen=True)
class LeftOutRecord:
    """Ink that is not read as a digit, and why."""

    box: tuple[int, int, int, int]
    reason: str


@dataclass(frozen=True)
class PictureRecord:
    """One picture; `read` is null where nothing was read, and `error` says why.

    What does not apply is null: most figures where there is an error, `label` and `correct`
    without a label.
    """

    file: str
    read: str | None
    error: ErrorRecord | None = None
    probability: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    num_frames: int | None = None
    doubts: list[str] | None = None
    digits: list[DigitRecord] | None = None
    left_out: list[LeftOutRecord] | None = None
    label: str | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class TallyRecord:
    """How many of `num_pictures` were read correctly, and the 95 % Wilson interval of the share."""

    num_pictures: int
    num_correct: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class ScoreRecord:
    """With `--labels`, the last line: tallies of the pictures with a label, by their kind."""

    score: dict[str, TallyRecord]
    num_unlabeled: int


@dataclass(frozen=True)
class SubmissionRecord:
    """A written submission, and the file that it was checked against, if there is one."""

    submission: str
    num_images: int
    sample: str | None


class PredictReport:
    """Prints each picture's digits as they come, with a progress bar, and the score at the end."""

    def __init__(
        self,
        *,
        num_pictures: int,
        style: OutputStyle,
        top: int,
        show: bool,
        is_scored: bool,
    ) -> None:
        self._style, self._top, self._show = style, top, show
        self._is_scored = is_scored
        self._few = num_pictures <= MAX_PREVIEWS
        # On a terminal, the lines of the pictures show the progress.
        prints_lines = sys.stdout.isatty() and (not is_scored or style != "text")
        self._progress = Progress(
            TextColumn("reading"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=stderr(),
            transient=True,
            disable=self._few or prints_lines or not sys.stderr.isatty(),
            # Rich would redirect what is printed meanwhile to the bar's stream.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("reading", total=num_pictures)
        if style == "csv":
            _write_csv(CSV_COLUMNS)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def add(
        self,
        picture: PictureResult,
        reading: Reading,
        error: DataError | None,
        labeled: LabeledPicture | None = None,
    ) -> None:
        """Print what was read in a picture; `error` is the reason why nothing was."""
        read = None if error else reading.text
        if picture.num_frames > 1 and self._style != "quiet":
            print_note(
                f"{picture.name} has {picture.num_frames} frames or pages: only the first is read."
            )
        if self._style == "json":
            print_json(_json_record(picture, reading, error=error, labeled=labeled))
        elif self._style == "csv":
            _write_csv(_csv_row(picture, reading, error=error, labeled=labeled))
        else:
            if not self._is_scored:
                self._print(picture, reading, read)
                if self._style == "quiet" and read is not None:
                    _note_doubts(picture, reading)
            _note_left_out(picture, reading)
        self._progress.advance(self._task)

    def _print(self, picture: PictureResult, reading: Reading, read: str | None) -> None:
        if self._style == "quiet":
            print_line("?" if read is None else read)
        elif read is not None and (self._few or self._show):
            self._print_preview(picture, reading)
        elif read is not None:
            stdout().print(_summary_line(picture.name, reading), soft_wrap=True)

    def _print_preview(self, picture: PictureResult, reading: Reading) -> None:
        console, predictions = stdout(), reading.predictions
        title = Text.assemble(f"{printable(picture.name)}: ", (reading.text, "bold green"))
        console.print(title, soft_wrap=True)
        if self._show:
            console.print(steps_as_text(picture, reading, console))
        if len(predictions) > 1:
            print_table(_digit_table(predictions))
        else:
            console.print(self._top_classes(predictions[0]))
        for doubt in _doubted_digits(reading):
            console.print(Text(f"  {doubt}", style="yellow"), soft_wrap=True)

    def _top_classes(self, prediction: Prediction) -> RenderableType:
        """Bars of the most probable classes; on a terminal, next to the network's input."""
        console = stdout()
        bars = Table.grid(padding=(0, 1))
        for label, probability in prediction.top(self._top):
            bar = ProgressBar(total=1, completed=probability, width=30)
            bars.add_row(Text(label, style="bold"), bar, f"{100 * probability:6.2f} %")
        if not console.is_terminal:
            return bars
        columns = Table.grid(padding=(0, 3, 0, 0))
        image = image_as_text(prediction.digit.ink(), console)
        columns.add_row(Group(*image), Group(Text("\n" * 3), bars))
        return columns

    def print_score(self, scores: PictureScores) -> None:
        """Print how many of the labeled pictures, one or more, were read correctly."""
        tallies = scores.tallies()
        if self._style == "json":
            print_json(_score_record(scores))
        elif self._style == "quiet":
            print_line(f"{100 * tallies['all'].share:.2f}")
        elif self._style == "text":
            print_table(_score_table(tallies))
            _print_misread(scores.misread)
        if scores.num_unlabeled:
            print_note(f"Pictures without a label, not counted: {scores.num_unlabeled:,}.")


def show_submission(submission: Submission, *, as_json: bool, quiet: bool) -> None:
    """What was written; quiet: the file's name."""
    path, sample = printable(str(submission.path)), submission.sample
    if as_json:
        sample_name = str(sample) if sample else None
        print_json(SubmissionRecord(str(submission.path), submission.num_images, sample_name))
    elif quiet:
        print_line(path)
    else:
        checked = f", checked against {printable(str(sample))}" if sample else ""
        print_line(f"Wrote {submission.num_images:,} predictions to {path}{checked}")


def _write_csv(row: Sequence[Any]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(row)


def _summary_line(name: str, reading: Reading) -> Text:
    """One line: file, digits, lowest probability, first doubt."""
    doubts = _doubted_digits(reading) or reading.doubts
    more = f", and {len(doubts) - 1} more" if len(doubts) > 1 else ""
    return Text.assemble(
        f"{printable(name)}: ",
        (reading.text, "bold green"),
        f"  {100 * _min_probability(reading.predictions):.2f} %",
        (f"  {doubts[0]}{more}" if doubts else "", "yellow"),
    )


def _doubted_digits(reading: Reading) -> list[str]:
    """Each doubt about a digit; where there are several digits, with which one it is."""
    several = len(reading.predictions) > 1
    return [
        f"digit {number} ({each.label}) {each.doubt}" if several else each.doubt
        for number, each in enumerate(reading.predictions, start=1)
        if each.doubt
    ]


def _note_doubts(picture: PictureResult, reading: Reading) -> None:
    """Print which digits of a picture are doubted."""
    if doubts := _doubted_digits(reading):
        print_note(f"{picture.name}: {'; '.join(doubts)}.")


def _note_left_out(picture: PictureResult, reading: Reading) -> None:
    """Print how much ink was not read as digits, and where the first of it is."""
    if not reading.left_out:
        return
    first, num = reading.left_out[0], len(reading.left_out)
    left, top, right, bottom = first.box
    more = f", and {num - 1:,} more" if num > 1 else ""
    print_note(
        f"{picture.name}: ink left out at {left:,}, {top:,} "
        f"({right - left:,}x{bottom - top:,} px, {first.reason}){more}."
    )


def _digit_table(predictions: Sequence[Prediction]) -> Table:
    """A row per digit: the two most probable classes, and where it is."""
    table = plain_table(
        "digit",
        number_column("probability"),
        "second choice",
        number_column("left"),
        number_column("top"),
    )
    for prediction in predictions:
        (first, most), (second, next_most) = prediction.top(2)
        left, top, *_ = prediction.digit.box
        other = f"{second} ({100 * next_most:.2f} %)"
        table.add_row(
            Text(first, style="bold"), format_percent(most), other, f"{left:,}", f"{top:,}"
        )
    return table


def _min_probability(predictions: Sequence[Prediction]) -> float:
    return min(prediction.probability for prediction in predictions)


def _json_record(
    picture: PictureResult,
    reading: Reading,
    *,
    error: DataError | None,
    labeled: LabeledPicture | None,
) -> PictureRecord:
    left_out = [LeftOutRecord(each.box, each.reason) for each in reading.left_out]
    record = PictureRecord(
        file=picture.name,
        read=None if error else reading.text,
        left_out=None if picture.error else left_out,
        label=labeled.label if labeled else None,
        correct=labeled.is_correct if labeled else None,
    )
    if error is not None:
        return replace(record, error=ErrorRecord(error.what, error.why))
    width_px, height_px = picture.size
    return replace(
        record,
        probability=_min_probability(reading.predictions),
        width_px=width_px,
        height_px=height_px,
        num_frames=picture.num_frames,
        doubts=reading.doubts,
        digits=[
            DigitRecord(
                digit=prediction.label,
                probability=prediction.probability,
                probabilities=prediction.probabilities,
                box=prediction.digit.box,
                line=prediction.line,
                digit_probability=prediction.digit_probability,
                doubt=prediction.doubt,
            )
            for prediction in reading.predictions
        ],
    )


def _csv_row(
    picture: PictureResult,
    reading: Reading,
    *,
    error: DataError | None,
    labeled: LabeledPicture | None,
) -> list[Any]:
    """The values of `CSV_COLUMNS`."""
    read, probability = None, None
    if error is None:
        read, probability = reading.text, _min_probability(reading.predictions)
    label, correct = (None, None) if labeled is None else (labeled.label, labeled.is_correct)
    what = error.what if error else None
    return [picture.name, read, probability, "; ".join(reading.doubts), label, correct, what]


def _score_record(scores: PictureScores) -> ScoreRecord:
    tallies = {
        kind: TallyRecord(tally.num, tally.num_correct, tally.interval)
        for kind, tally in scores.tallies().items()
    }
    return ScoreRecord(tallies, scores.num_unlabeled)


def _score_table(tallies: Mapping[str, Tally]) -> Table:
    table = plain_table(
        "pictures", *map(number_column, ("correct", "of", "accuracy")), "95 % interval (Wilson)"
    )
    for kind, tally in tallies.items():
        share, interval = format_percent(tally.share), f"{format_interval(tally.interval)} %"
        table.add_row(kind, f"{tally.num_correct:,}", f"{tally.num:,}", share, interval)
    return table


def _print_misread(misread: Sequence[LabeledPicture]) -> None:
    if misread:
        print_line("\nMisread:")
    for picture in misread:
        file_and_label = printable(f"{picture.file}: {picture.label}")
        print_line(f"  {file_and_label} read as {picture.read or 'nothing'}")
