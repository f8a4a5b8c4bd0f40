"""What `mnist predict` shows: a picture's digits as text, JSON or CSV, and the score of many."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnistcli.errors import DataError
from mnistcli.reading.batch import PictureResult
from mnistcli.reading.predict import Prediction, predictions_to_text
from mnistcli.reading.scoring import LabeledPicture, PictureScores, Tally, resolve_path
from mnistcli.views.console import (
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_note,
    printable,
    stderr,
    stdout,
)
from mnistcli.views.preview import image_as_text, steps_as_text

OutputStyle = Literal["text", "json", "csv", "quiet"]

# With more pictures, each gets a line.
MAX_PREVIEWS = 4
CSV_COLUMNS = ("file", "read", "probability", "doubt", "label", "right", "error")


class PredictReport:
    """Shows readings as they come, under a bar where there are many; and their score."""

    def __init__(
        self,
        *,
        num_pictures: int,
        style: OutputStyle,
        top: int,
        show: bool,
        labels: Mapping[Path, str] | None,
    ) -> None:
        self._style, self._top, self._show = style, top, show
        self._labels = labels
        self._score = PictureScores()
        self._few = num_pictures <= MAX_PREVIEWS
        # Where each picture's line is seen, the lines tell how far it is.
        seen = sys.stdout.isatty() and (labels is None or style != "text")
        self._progress = Progress(
            TextColumn("reading"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=stderr(),
            transient=True,
            disable=self._few or seen or not sys.stderr.isatty(),
            # Rich would send what is printed meanwhile to the bar's stream.
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

    def add(self, found: PictureResult, predictions: Sequence[Prediction]) -> None:
        """Show what was read in a picture."""
        read = predictions_to_text(predictions) if found.error is None else None
        if found.num_frames > 1 and self._style != "quiet":
            print_note(f"{found.name} has {found.num_frames} frames or pages: the first is read.")
        reading = self._counted(found, read)
        if self._style == "json":
            print_json(_record(found, predictions, read=read, reading=reading))
        elif self._style == "csv":
            _write_csv(_row(found, predictions, read=read, reading=reading))
        elif self._labels is None:
            self._print(found, predictions, read)
        self._progress.advance(self._task)

    def _counted(self, found: PictureResult, read: str | None) -> LabeledPicture | None:
        """The reading beside its label, counted in the score; None without a label."""
        if self._labels is None:
            return None
        label = self._labels.get(resolve_path(Path(found.name)))
        if label is None:
            self._score.num_unlabelled += 1
            return None
        reading = LabeledPicture(found.name, label, read, found.width_px, found.height_px)
        self._score.readings.append(reading)
        return reading

    def _print(
        self, found: PictureResult, predictions: Sequence[Prediction], read: str | None
    ) -> None:
        if self._style == "quiet":
            print_line("?" if read is None else read)
        elif read is not None:
            console = stdout()
            if not (self._few or self._show):
                console.print(_line(found.name, predictions, read), soft_wrap=True)
                return
            title = Text.assemble(f"{printable(found.name)}: ", (read, "bold green"))
            console.print(title, soft_wrap=True)
            if self._show and found.steps:
                digits = [each.digit for each in predictions]
                console.print(steps_as_text(found.steps, digits, console))
            console.print(
                self._one(predictions[0]) if len(predictions) == 1 else _several(predictions)
            )
            for each in predictions:
                if each.doubt:
                    which = f"{each.label}, " if len(predictions) > 1 else ""
                    console.print(Text(f"  {which}{each.doubt}", style="yellow"), soft_wrap=True)

    def _one(self, predicted: Prediction) -> RenderableType:
        """What the network saw, beside the most probable classes."""
        console = stdout()
        bars = Table.grid(padding=(0, 1))
        for label, probability in predicted.top(self._top):
            bar = ProgressBar(total=1, completed=probability, width=30)
            bars.add_row(Text(label, style="bold"), bar, f"{100 * probability:6.2f} %")
        if not console.is_terminal:
            return bars
        beside = Table.grid(padding=(0, 3, 0, 0))
        beside.add_row(
            Group(*image_as_text(predicted.digit.ink(), console)), Group(Text("\n" * 3), bars)
        )
        return beside

    def print_score(self) -> None:
        """Show how many of the labelled pictures were read right.

        Raises:
            DataError: none of the pictures has a label.
        """
        score = self._score
        if not score.readings:
            raise DataError(
                "None of the pictures has a label.",
                why="The label file names other files; its names are relative to its directory.",
                fix="Check the column 'file', or name the pictures that it is about.",
            )
        tallies = score.tallies()
        if self._style == "json":
            print_json(_score_record(score))
        elif self._style == "quiet":
            print_line(f"{100 * tallies['all'].share:.2f}")
        elif self._style == "text":
            stdout().print(_score_table(tallies))
            _print_misread(score.misread)
        if score.num_unlabelled:
            print_note(
                f"Without a label, and not counted: {score.num_unlabelled:,} of the pictures."
            )


def _write_csv(row: Sequence[Any]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(row)


def _line(name: str, predictions: Sequence[Prediction], read: str) -> Text:
    """A picture among many: its name, its digits, the least probability of them."""
    doubts = [each.doubt for each in predictions if each.doubt]
    return Text.assemble(
        f"{printable(name)}: ",
        (read, "bold green"),
        f"  {100 * _min_probability(predictions):.2f} %",
        (f"  {doubts[0]}" if doubts else "", "yellow"),
    )


def _several(predictions: Sequence[Prediction]) -> Table:
    """A row a digit: what it was read as, what else it may be, and where it stands."""
    table = plain_table(
        "digit", number_column("probability"), "else", number_column("left"), number_column("top")
    )
    for each in predictions:
        (first, most), (second, next_most) = each.top(2)
        left, top, *_ = each.digit.box
        rest = f"{second} ({100 * next_most:.2f} %)"
        table.add_row(
            Text(first, style="bold"), format_percent(most), rest, f"{left:,}", f"{top:,}"
        )
    return table


def _min_probability(predictions: Sequence[Prediction]) -> float:
    return min(each.probability for each in predictions)


def _record(
    found: PictureResult,
    predictions: Sequence[Prediction],
    *,
    read: str | None,
    reading: LabeledPicture | None,
) -> dict[str, Any]:
    """A picture for programs."""
    record: dict[str, Any] = {"file": found.name, "read": read}
    if found.error is not None:
        record["error"] = {"what": found.error.what, "why": found.error.why}
    else:
        record["probability"] = _min_probability(predictions)
        record["width_px"], record["height_px"] = found.width_px, found.height_px
        record["num_frames"] = found.num_frames
        record["digits"] = [
            {
                "digit": each.label,
                "probability": each.probability,
                "probabilities": each.probabilities,
                "box": each.digit.box,
                "line": each.digit.line,
                "doubt": each.doubt,
            }
            for each in predictions
        ]
    if reading is not None:
        record["label"] = reading.label
        record["right"] = reading.right
    return record


def _row(
    found: PictureResult,
    predictions: Sequence[Prediction],
    *,
    read: str | None,
    reading: LabeledPicture | None,
) -> list[Any]:
    """A picture for spreadsheets, in the order of `CSV_COLUMNS`."""
    probability = _min_probability(predictions) if found.error is None else None
    doubts = "; ".join(each.doubt for each in predictions if each.doubt)
    label, right = (None, None) if reading is None else (reading.label, reading.right)
    error = None if found.error is None else found.error.what
    return [found.name, read, probability, doubts, label, right, error]


def _score_record(score: PictureScores) -> dict[str, Any]:
    """The score for programs; the interval is Wilson's of 95 %."""
    tallies = {
        kind: {"num": tally.num, "num_right": tally.num_correct, "interval": tally.interval}
        for kind, tally in score.tallies().items()
    }
    return {"score": tallies, "num_unlabelled": score.num_unlabelled}


def _score_table(tallies: Mapping[str, Tally]) -> Table:
    table = plain_table(
        "pictures", *map(number_column, ("right", "of", "accuracy")), "95 % interval (Wilson)"
    )
    for kind, tally in tallies.items():
        low, high = tally.interval
        share = format_percent(tally.share)
        interval = f"{100 * low:.2f} to {format_percent(high)}"
        table.add_row(kind, f"{tally.num_correct:,}", f"{tally.num:,}", share, interval)
    return table


def _print_misread(misread: Sequence[LabeledPicture]) -> None:
    if misread:
        print_line("\nMisread:")
    for each in misread:
        names = printable(f"{each.file}: {each.label}")
        print_line(f"  {names} read as {each.read or 'nothing'}")
