"""What `mnist eval` shows: one checkpoint class by class, or several side by side."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from mnistcli.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    expected_calibration_error,
)
from mnistcli.evaluation.compare import Comparison
from mnistcli.evaluation.evaluate import Evaluation
from mnistcli.evaluation.metrics import ClassScore, Spread, macro_mean, summarize_spread
from mnistcli.evaluation.pareto import group_repetitions
from mnistcli.evaluation.scores import Score
from mnistcli.runs.find import display_names, run_of_best_checkpoint
from mnistcli.views.console import (
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_table,
    printable,
    stdout,
)


def show_evaluations(
    judged: Sequence[Evaluation], pairs: Sequence[Comparison], *, as_json: bool, quiet: bool
) -> None:
    """Checkpoints judged on the same images, and every two of them compared."""
    if as_json:
        print_json(_record_of(judged, pairs))
    elif quiet:
        print_line("\n".join(f"{100 * each.score.accuracy:.2f}" for each in judged))
    else:
        _print(judged, pairs)


def _print(judged: Sequence[Evaluation], pairs: Sequence[Comparison]) -> None:
    names = checkpoint_names([each.score.checkpoint for each in judged])
    if len(judged) == 1:
        _print_one(judged[0])
    else:
        _print_several(judged, names, pairs)
    if judged[0].calibration:
        _print_calibrations(judged, names)
    if judged[0].corrupted:
        _print_corrupted(judged, names)


def _record_of(judged: Sequence[Evaluation], pairs: Sequence[Comparison]) -> dict[str, Any]:
    if len(judged) == 1:
        return _record(judged[0])
    first = judged[0].score
    return {
        "dataset": first.dataset,
        "split": first.split,
        "num_images": first.num_images,
        "judgements": [_record(each) for each in judged],
        "spread": (found := _spread_of_repetitions(judged)) and asdict(found),
        "pairs": [asdict(pair) for pair in pairs],
    }


def _record(each: Evaluation) -> dict[str, Any]:
    found = each.calibration
    return {
        **asdict(each.score),
        "macro_f1": macro_mean(each.score.classes).f1,
        "ece": expected_calibration_error(each.score.bins),
        "recipe": each.recipe,
        "num_params": each.num_params,
        "members": list(each.members),
        "doubtful": list(each.doubtful),
        "num_doubtful_errors": each.num_doubtful_errors,
        "calibration": found and {**asdict(found), "ece": expected_calibration_error(found.bins)},
        "corrupted": [asdict(score) for score in each.corrupted],
        "mean_corrupted_accuracy": _mean_corrupted(each) if each.corrupted else None,
    }


def _spread_of_repetitions(judged: Sequence[Evaluation]) -> Spread | None:
    """Of checkpoints that differ in seed or fold, and in nothing else; None of others."""
    checkpoints = [(each.score, each.settings) for each in judged if each.settings]
    (first, *others) = group_repetitions([settings for _, settings in checkpoints])
    if others or len(first) < len(checkpoints):
        return None
    return summarize_spread([(score.accuracy, score.num_images) for score, _ in checkpoints])


def _mean_corrupted(each: Evaluation) -> float:
    return fmean(score.accuracy for score in each.corrupted)


def _print_one(each: Evaluation) -> None:
    score, console = each.score, stdout()
    console.print(Text(f"{score.checkpoint} ({each.recipe})", style="dim"), soft_wrap=True)
    console.print(Text.assemble((f"Accuracy {format_percent(score.accuracy)}", "bold"), _on(score)))
    console.print(
        f"95 % interval {_interval(score)} % (Wilson), {score.num_errors:,} errors, "
        f"loss {score.loss:.4f}, ECE {format_percent(expected_calibration_error(score.bins))}"
    )
    if each.doubtful:
        console.print(_doubtful([each]))
    console.print()
    console.print(_class_table(score))
    console.print(Text("\nRows: the true class. Columns: what was read."))
    console.print(_confusion_table(score))


def _doubtful(judged: Sequence[Evaluation]) -> str:
    counts = [each.num_doubtful_errors for each in judged]
    among = f"among the {len(judged[0].doubtful)} images whose label is doubtful"
    verb = "is" if counts == [1] else "are"
    return f"Of the errors, {', '.join(map(str, counts))} {verb} {among}"


def _on(score: Score) -> str:
    """On what a score was taken, and how."""
    how = ", mean of 9 shifts (TTA)" if score.tta else ""
    return f" on {score.num_images:,} {score.split} images of {score.dataset}{how}"


def _interval(score: Score) -> str:
    low, high = score.interval
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _class_table(score: Score) -> Table:
    table = plain_table("class", *map(number_column, ("images", "precision", "recall", "F1")))
    for each in score.classes:
        table.add_row(*_class_row(each))
    table.add_row(*_class_row(macro_mean(score.classes)))
    return table


def _class_row(each: ClassScore) -> tuple[Text | str, ...]:
    figures = (each.precision, each.recall, each.f1)
    return Text(each.name), f"{each.num_images:,}", *map(format_percent, figures)


def _confusion_table(score: Score) -> Table:
    names = [each.name for each in score.classes]
    table = plain_table("", *(number_column(escape(name[:4])) for name in names))
    for row, name in enumerate(names):
        counts = score.confusion[row]
        cells = [
            Text(str(count) if count else ".", style=_cell_style(row == column, count))
            for column, count in enumerate(counts)
        ]
        table.add_row(Text(name[:11]), *cells)
    return table


def _cell_style(is_diagonal: bool, count: int) -> str:
    if is_diagonal:
        return "green"
    return "red" if count else "dim"


def _print_several(
    judged: Sequence[Evaluation], names: Sequence[str], pairs: Sequence[Comparison]
) -> None:
    console, first = stdout(), judged[0]
    num_checkpoints = sum(not each.members for each in judged)
    console.print(Text.assemble((f"{num_checkpoints} checkpoints", "bold"), _on(first.score), "\n"))
    print_table(_side_by_side(judged, names))
    if found := _spread_of_repetitions(judged):
        console.print(f"\n{_describe_spread(found)}", soft_wrap=True)
    if first.doubtful:
        console.print(f"\n{_doubtful(judged)}", soft_wrap=True)
    if num_checkpoints == 2:
        sentence = pairs[0].in_words(names[0], names[1])
        console.print(Text(f"\n{sentence}", style="bold"), soft_wrap=True)


def _describe_spread(found: Spread) -> str:
    low, high = found.interval
    return (
        f"Mean {format_percent(found.mean)}, SD {format_percent(found.deviation)}; all errors together, "
        f"as if on other images each: {100 * low:.2f} to {100 * high:.2f} %"
    )


def _side_by_side(judged: Sequence[Evaluation], names: Sequence[str]) -> Table:
    headers = ("parameters", "accuracy", "95 % interval", "errors", "loss", "ECE")
    table = plain_table(Column("checkpoint", overflow="fold"), *map(number_column, headers))
    for each, name in zip(judged, names, strict=True):
        table.add_row(
            Text(name),
            f"{each.num_params:,}",
            format_percent(each.score.accuracy),
            _interval(each.score),
            f"{each.score.num_errors:,}",
            f"{each.score.loss:.4f}",
            format_percent(expected_calibration_error(each.score.bins)),
        )
    return table


def checkpoint_names(checkpoints: Sequence[str]) -> list[str]:
    """What runs are called for their best checkpoints; the paths of other files."""
    found = [run_of_best_checkpoint(Path(each)) for each in checkpoints]
    names = iter(display_names([run for run in found if run]))
    shown = [
        next(names) if run else checkpoint
        for checkpoint, run in zip(checkpoints, found, strict=True)
    ]
    return [printable(each) for each in shown]


def _print_calibrations(judged: Sequence[Evaluation], names: Sequence[str]) -> None:
    headers = ("temperature", "held out", "loss", "after", "ECE", "after")
    table = plain_table(Column("checkpoint", overflow="fold"), *map(number_column, headers))
    found = [each.calibration for each in judged if each.calibration]
    for each, name, calibration in zip(judged, names, found, strict=True):
        table.add_row(
            Text(name),
            f"{calibration.temperature:.3f}",
            f"{calibration.num_fitted:,}",
            f"{each.score.loss:.4f}",
            f"{calibration.loss:.4f}",
            format_percent(expected_calibration_error(each.score.bins)),
            format_percent(expected_calibration_error(calibration.bins)),
        )
    console = stdout()
    console.print()
    print_table(table)
    for bound, kind in ((MIN_TEMPERATURE, "lowest"), (MAX_TEMPERATURE, "highest")):
        if any(math.isclose(each.temperature, bound, rel_tol=1e-6) for each in found):
            console.print(f"\n{bound:g} is the {kind} temperature tried: the best lies beyond it.")


def _print_corrupted(judged: Sequence[Evaluation], names: Sequence[str]) -> None:
    headers = names if len(names) > 1 else ["accuracy"]
    columns = [Column(escape(name), justify="right", overflow="fold") for name in headers]
    table = plain_table("corruption", "by", *columns)
    for row in zip(*(each.corrupted for each in judged), strict=True):
        first = row[0]
        name = first.corruption if first.severity == 1 else ""
        table.add_row(name, first.amount, *(format_percent(each.accuracy) for each in row))
    table.add_row("mean", "", *(format_percent(_mean_corrupted(each)) for each in judged))
    console = stdout()
    console.print()
    print_table(table)
