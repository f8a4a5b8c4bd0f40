"""The output of `mnist eval`: one checkpoint class by class, or several side by side."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from mnistcli.config.choices import EvalSplit
from mnistcli.config.dataset_names import dataset_title
from mnistcli.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Calibration,
    ConfidenceBin,
    expected_calibration_error,
)
from mnistcli.evaluation.compare import Comparison
from mnistcli.evaluation.evaluate import Evaluation
from mnistcli.evaluation.metrics import Spread, macro_mean, summarize_spread
from mnistcli.evaluation.pareto import group_repetitions
from mnistcli.evaluation.scores import CorruptedScore, Score
from mnistcli.runs.checkpoint import checkpoint_title
from mnistcli.runs.find import display_names, run_of_best_checkpoint
from mnistcli.views.console import (
    format_interval,
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_table,
    printable,
    stdout,
)

# The matrix of more classes has no room in a terminal.
MAX_MATRIX_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord(Calibration):
    """A fitted temperature and its effect; `ece` is the expected calibration error with it."""

    ece: float


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(Score):
    """A checkpoint, or an ensemble of `members`, on a split.

    Rows of `confusion` are true classes. `mistakes` has every misclassified image by its index in
    the split, `doubtful` the images with a doubtful label. `calibration` is there with
    `--calibrate`, `corrupted` and its mean with `--corrupt`.
    """

    macro_f1: float
    ece: float
    recipe: str
    num_params: int
    members: list[str]
    doubtful: list[int]
    num_doubtful_errors: int
    calibration: CalibrationRecord | None
    corrupted: list[CorruptedScore]
    mean_corrupted_accuracy: float | None


@dataclass(frozen=True)
class EvaluationsRecord:
    """Several checkpoints on the same images; `pairs` compares every two of them.

    `spread` is that of their accuracies where they differ in seed or fold only.
    """

    dataset: str
    split: EvalSplit
    num_images: int
    evaluations: list[EvaluationRecord]
    spread: Spread | None
    pairs: list[Comparison]


def show_evaluations(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """The evaluations of checkpoints on the same images; quiet: their accuracies in percent."""
    if as_json:
        print_json(_json_record(evaluations, comparisons))
    elif quiet:
        print_line("\n".join(f"{100 * each.score.accuracy:.2f}" for each in evaluations))
    else:
        _print_evaluations(evaluations, comparisons)


def _json_record(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> EvaluationRecord | EvaluationsRecord:
    if len(evaluations) == 1:
        return _evaluation_record(evaluations[0])
    score = evaluations[0].score
    return EvaluationsRecord(
        dataset=score.dataset,
        split=score.split,
        num_images=score.num_images,
        evaluations=[_evaluation_record(evaluation) for evaluation in evaluations],
        spread=_spread_of_repetitions(evaluations),
        pairs=list(comparisons),
    )


def _evaluation_record(evaluation: Evaluation) -> EvaluationRecord:
    score, calibration = evaluation.score, evaluation.calibration
    return EvaluationRecord(
        **vars(score),
        macro_f1=macro_mean(score.classes).f1,
        ece=expected_calibration_error(score.bins),
        recipe=evaluation.recipe,
        num_params=evaluation.num_params,
        members=list(evaluation.members),
        doubtful=list(evaluation.doubtful),
        num_doubtful_errors=evaluation.num_doubtful_errors,
        calibration=CalibrationRecord(
            **vars(calibration), ece=expected_calibration_error(calibration.bins)
        )
        if calibration
        else None,
        corrupted=list(evaluation.corrupted),
        mean_corrupted_accuracy=_mean_corrupted_accuracy(evaluation)
        if evaluation.corrupted
        else None,
    )


def _spread_of_repetitions(evaluations: Sequence[Evaluation]) -> Spread | None:
    """The spread of checkpoints that differ in seed or fold only; None for any others."""
    checkpoints = [(each.score, each.settings) for each in evaluations if each.settings]
    first, *others = group_repetitions([settings for _, settings in checkpoints])
    if others or len(first) < len(checkpoints):
        return None
    return summarize_spread([(score.accuracy, score.num_images) for score, _ in checkpoints])


def _mean_corrupted_accuracy(evaluation: Evaluation) -> float:
    return fmean(corrupted.accuracy for corrupted in evaluation.corrupted)


def _print_evaluations(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> None:
    names = checkpoint_names([evaluation.score.checkpoint for evaluation in evaluations])
    if len(evaluations) == 1:
        _print_one(evaluations[0])
    else:
        _print_side_by_side(evaluations, names, comparisons)
    if evaluations[0].calibration:
        _print_calibrations(evaluations, names)
    if evaluations[0].corrupted:
        _print_corrupted(evaluations, names)


def _print_one(evaluation: Evaluation) -> None:
    score, console = evaluation.score, stdout()
    title = checkpoint_title(Path(score.checkpoint))
    console.print(Text(f"{title} ({evaluation.recipe})", style="dim"), soft_wrap=True)
    accuracy = f"Accuracy {format_percent(score.accuracy)}"
    console.print(Text.assemble((accuracy, "bold"), f" on {_describe_images(score)}"))
    console.print(
        f"95 % interval {format_interval(score.interval)} % (Wilson), "
        f"{score.num_errors:,} errors, loss {score.loss:.4f}, ECE {_format_ece(score.bins)}"
    )
    if evaluation.doubtful:
        console.print(_describe_doubtful([evaluation]))
    console.print()
    print_table(_class_table(score))
    confusion = _confusion_table(score)
    if console.is_terminal and len(score.classes) > MAX_MATRIX_CLASSES:
        console.print("\nMost frequent mistakes; the whole matrix: mnist plot --kind confusion")
        print_table(_frequent_mistakes(score))
    else:
        console.print("\nRows: the true class. Columns: the prediction.")
        print_table(confusion)


def _describe_images(score: Score) -> str:
    tta = ", mean of 9 shifts (TTA)" if score.tta else ""
    return f"{score.num_images:,} {score.split} images of {dataset_title(score.dataset)}{tta}"


def _describe_doubtful(evaluations: Sequence[Evaluation]) -> str:
    counts = ", ".join(str(evaluation.num_doubtful_errors) for evaluation in evaluations)
    return f"Errors on the {len(evaluations[0].doubtful)} images with a doubtful label: {counts}"


def _format_ece(bins: Sequence[ConfidenceBin]) -> str:
    return format_percent(expected_calibration_error(bins))


def _class_table(score: Score) -> Table:
    table = plain_table("class", *map(number_column, ("images", "precision", "recall", "F1")))
    for row in (*score.classes, macro_mean(score.classes)):
        figures = map(format_percent, (row.precision, row.recall, row.f1))
        table.add_row(Text(row.name), f"{row.num_images:,}", *figures)
    return table


def _confusion_table(score: Score) -> Table:
    names = [class_score.name for class_score in score.classes]
    table = plain_table("", *(number_column(escape(name[:4])) for name in names))
    for row, (name, counts) in enumerate(zip(names, score.confusion, strict=True)):
        cells = [
            Text(str(count) if count else ".", style=_cell_style(row == column, count))
            for column, count in enumerate(counts)
        ]
        table.add_row(Text(name[:11]), *cells)
    return table


def _frequent_mistakes(score: Score, *, num: int = 10) -> Table:
    names = [class_score.name for class_score in score.classes]
    pairs = Counter((names[each.label], names[each.predicted]) for each in score.mistakes)
    table = plain_table("true", "predicted", number_column("images"))
    for (label, predicted), count in pairs.most_common(num):
        table.add_row(Text(label), Text(predicted), f"{count:,}")
    return table


def _cell_style(is_diagonal: bool, count: int) -> str:
    if is_diagonal:
        return "green"
    return "red" if count else "dim"


def _print_side_by_side(
    evaluations: Sequence[Evaluation], names: Sequence[str], comparisons: Sequence[Comparison]
) -> None:
    console, first = stdout(), evaluations[0]
    num_checkpoints = sum(not evaluation.members for evaluation in evaluations)
    title = (f"{num_checkpoints} checkpoints", "bold")
    console.print(Text.assemble(title, f" on {_describe_images(first.score)}\n"))
    print_table(_side_by_side_table(evaluations, names))
    if spread := _spread_of_repetitions(evaluations):
        console.print(f"\n{_describe_spread(spread)}", soft_wrap=True)
    if first.doubtful:
        console.print(f"\n{_describe_doubtful(evaluations)}", soft_wrap=True)
    if num_checkpoints == 2:
        sentence = comparisons[0].in_words(names[0], names[1])
        console.print(Text(f"\n{sentence}", style="bold"), soft_wrap=True)


def _side_by_side_table(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Table:
    headers = ("parameters", "accuracy", "95 % interval", "errors", "loss", "ECE")
    table = _table_of_checkpoints(headers)
    for evaluation, name in zip(evaluations, names, strict=True):
        score = evaluation.score
        table.add_row(
            Text(name),
            f"{evaluation.num_params:,}",
            format_percent(score.accuracy),
            format_interval(score.interval),
            f"{score.num_errors:,}",
            f"{score.loss:.4f}",
            _format_ece(score.bins),
        )
    return table


def _table_of_checkpoints(headers: Sequence[str]) -> Table:
    return plain_table(Column("checkpoint", overflow="fold"), *map(number_column, headers))


def _describe_spread(spread: Spread) -> str:
    return (
        f"Mean {format_percent(spread.mean)}, SD {format_percent(spread.deviation)}; 95 % interval "
        f"{format_interval(spread.interval)} % (Wilson, treats the runs' errors as independent)"
    )


def checkpoint_names(checkpoints: Sequence[str]) -> list[str]:
    """Display names: a run's for its best checkpoint, a bundled network's, else the path."""
    runs = [run_of_best_checkpoint(Path(checkpoint)) for checkpoint in checkpoints]
    run_names = iter(display_names([run for run in runs if run]))
    return [
        printable(next(run_names) if run else checkpoint_title(Path(checkpoint)))
        for checkpoint, run in zip(checkpoints, runs, strict=True)
    ]


def _print_calibrations(evaluations: Sequence[Evaluation], names: Sequence[str]) -> None:
    headers = ("temperature", "held out", "loss", "calibrated", "ECE", "calibrated")
    table = _table_of_checkpoints(headers)
    calibrations = [each.calibration for each in evaluations if each.calibration]
    for evaluation, name, calibration in zip(evaluations, names, calibrations, strict=True):
        table.add_row(
            Text(name),
            f"{calibration.temperature:.3f}",
            f"{calibration.num_fitted:,}",
            f"{evaluation.score.loss:.4f}",
            f"{calibration.loss:.4f}",
            _format_ece(evaluation.score.bins),
            _format_ece(calibration.bins),
        )
    console = stdout()
    console.print()
    print_table(table)
    for bound, kind in ((MIN_TEMPERATURE, "lowest"), (MAX_TEMPERATURE, "highest")):
        if any(math.isclose(each.temperature, bound, rel_tol=1e-6) for each in calibrations):
            console.print(
                f"\n{bound:g} is the {kind} temperature tried; the best is outside this range."
            )


def _print_corrupted(evaluations: Sequence[Evaluation], names: Sequence[str]) -> None:
    headers = names if len(names) > 1 else ["accuracy"]
    columns = [Column(escape(header), justify="right", overflow="fold") for header in headers]
    table = plain_table("corruption", "amount", *columns)
    for row in zip(*(evaluation.corrupted for evaluation in evaluations), strict=True):
        name = row[0].corruption if row[0].severity == 1 else ""
        table.add_row(name, row[0].amount, *(format_percent(score.accuracy) for score in row))
    means = (format_percent(_mean_corrupted_accuracy(each)) for each in evaluations)
    table.add_row("mean", "", *means)
    stdout().print()
    print_table(table)
