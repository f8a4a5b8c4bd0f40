"""The report of a run: one HTML page with everything in it, for the screen and for paper."""

import base64
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from mnistcli.config.dataset_names import dataset_title
from mnistcli.config.differences import flatten_settings, format_value, run_changes
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import get_dataset
from mnistcli.data.examples import Examples
from mnistcli.errors import count_noun
from mnistcli.evaluation.calibration import expected_calibration_error
from mnistcli.evaluation.metrics import macro_mean
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.models.summary import NetworkSummary, summarize_network
from mnistcli.plots.calibration import calibration
from mnistcli.plots.confusion import confusion
from mnistcli.plots.curves import curves
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.mistakes import describe_selection
from mnistcli.plots.save import save
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.history import EpochResult, best_epoch, read_metrics, training_seconds
from mnistcli.version import __version__

NUM_MISTAKES: Final = 25
_TEMPLATE: Final = Path(__file__).with_name("report.html")


def draw_report(inputs: PlotInputs) -> str:
    """The report of the named run, as HTML that needs no other file and no network.

    Raises:
        DataError: the name is not a run, or a file of it or the data set is missing or damaged.
    """
    run = inputs.runs[0]
    settings, epochs, score = read_settings(run), read_metrics(run), inputs.find_score()
    examples = inputs.load_scored_images(inputs.load_network(), score)
    network = summarize_network(settings.arch, settings.network)
    sections = (
        _heading(run, settings, network, epochs, score),
        _settings_section(settings),
        _network_section(network),
        _training_section(run, epochs),
        _classes_section(score),
        _mistakes_section(score, examples),
        _calibration_section(score),
        _machine_section(run),
        _footer(run),
    )
    page = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(title=escape(f"{run.name}: report"), content="\n".join(sections))


def _heading(
    run: Run,
    settings: TrainSettings,
    network: NetworkSummary,
    epochs: Sequence[EpochResult],
    score: Score,
) -> str:
    low, high = (f"{100 * bound:.2f}" for bound in score.interval)
    ece = expected_calibration_error(score.bins)
    figures = (
        (f"{score.split} accuracy", _percent(score.accuracy), f"95 %: {low} to {high} % (Wilson)"),
        ("errors", f"{score.num_errors:,}", f"of {score.num_images:,} {score.split} images"),
        ("loss", f"{score.loss:.4f}", "mean cross-entropy in nats"),
        ("parameters", f"{network.num_params:,}", f"{network.num_bytes:,} bytes as float32"),
        ("MACs", f"{network.num_macs:,}", "multiply-accumulates per image"),
        ("calibration error", _percent(ece), "ECE, 15 bins"),
        (
            "training",
            f"{training_seconds(epochs):,.1f} s",
            count_noun(len(epochs), "epoch"),
        ),
    )
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in figures
    )
    what = (
        f"{settings.arch}, recipe {settings.recipe}, trained on {dataset_title(settings.dataset)}"
    )
    return f"<h1>{escape(run.name)}</h1>\n<p>{escape(what)}</p>\n<dl class='figures'>{cells}</dl>"


def _settings_section(settings: TrainSettings) -> str:
    changes = run_changes(settings)
    values = {"recipe": settings.recipe, "arch": settings.arch, **flatten_settings(settings)}
    values |= {"seed": settings.seed}
    if settings.fold:
        values["fold"] = settings.fold.number
    rows = "".join(
        f"<tr{' class=strong' if name in changes else ''}><th>{escape(name)}</th>"
        f"<td>{escape(format_value(value))}{' *' if name in changes else ''}</td></tr>"
        for name, value in values.items()
    )
    note = "* differs from the recipe." if changes else "All settings are the recipe's."
    return (
        f"<h2>Settings</h2>\n<div class='columns'><table><tbody>{rows}</tbody></table></div>\n"
        f"<p class='note'>{note} <code>settings.json</code> in the run's directory repeats it: "
        "<code>mnist train --config settings.json</code></p>"
    )


def _network_section(network: NetworkSummary) -> str:
    rows = [
        (
            layer.name,
            layer.kind,
            " x ".join(map(str, layer.output_shape)),
            f"{layer.num_params:,}",
            f"{layer.num_macs:,}",
            str(layer.receptive_field_px),
            str(layer.stride_px),
        )
        for layer in network.layers
    ]
    rows.append(("total", "", "", f"{network.num_params:,}", f"{network.num_macs:,}", "", ""))
    headers = ("layer", "kind", "output", "parameters", "MACs", "receptive field", "stride")
    side = network.input_px
    return (
        f"<h2>Network</h2>\n<p>Input: one gray image of {side} x {side} pixels.</p>\n"
        f"{_table(headers, rows, num_texts=2)}\n"
        "<p class='note'>Receptive field: side of the square of input pixels that an output value "
        "depends on; stride: from one square to the next; both in pixels. A layer that is applied "
        "again counts its parameters once.</p>"
    )


def _training_section(run: Run, epochs: Sequence[EpochResult]) -> str:
    best = best_epoch(epochs)
    text = f"Epoch {best.epoch}, the last, is evaluated: there was no validation split."
    if best.val_accuracy is not None:
        text = (
            f"Epoch {best.epoch} of {len(epochs)} has the highest validation accuracy, "
            f"{_percent(best.val_accuracy)}, and is the one that is evaluated here."
        )
    figure = curves({run.name: epochs})
    return f"<h2>Training</h2>\n<p>{text}</p>\n{_embed(figure, 'Loss and accuracy by epoch')}"


def _classes_section(score: Score) -> str:
    rows = [
        (
            each.name,
            f"{each.num_images:,}",
            *map(_percent, (each.precision, each.recall, each.f1)),
        )
        for each in (*score.classes, macro_mean(score.classes))
    ]
    headers = ("class", "images", "precision", "recall", "F1")
    return (
        f"<h2>Classes</h2>\n{_table(headers, rows, num_texts=1)}\n"
        f"{_embed(confusion(score), 'Confusion matrix')}"
    )


def _mistakes_section(score: Score, examples: Examples) -> str:
    shown = score.mistakes[:NUM_MISTAKES]
    if not shown:
        return "<h2>Misclassified images</h2>\n<p>None.</p>"
    classes = [each.name for each in score.classes]
    doubtful = get_dataset(score.dataset).doubtful if score.split == "test" else ()
    items = "".join(
        _mistake_item(
            mistake,
            examples.images_NHW[mistake.index].numpy(),
            classes,
            is_doubtful=mistake.index in doubtful,
        )
        for mistake in shown
    )
    which = describe_selection(score, len(shown))
    return (
        f"<h2>Misclassified images</h2>\n<p>{which}: "
        "<span class='true'>true class</span> → <span class='predicted'>prediction</span>, its "
        f"probability, and the image's index in the {escape(score.split)} split of "
        f"{escape(dataset_title(score.dataset))}.</p>\n<ol class='mistakes'>{items}</ol>"
    )


def _mistake_item(
    mistake: Mistake, image_HW: NDArray[np.uint8], classes: Sequence[str], *, is_doubtful: bool
) -> str:
    true, predicted = escape(classes[mistake.label]), escape(classes[mistake.predicted])
    content = io.BytesIO()
    Image.fromarray(255 - image_HW).save(content, format="png")
    label = "<br>doubtful label" if is_doubtful else ""
    return (
        f'<li><img alt="{true}, predicted as {predicted}" src="{_data_url(content, "png")}">'
        f"<b><span class='true'>{true}</span> → <span class='predicted'>{predicted}</span></b> "
        f"{100 * mistake.probability:.1f} %<br>index {mistake.index:,}{label}</li>"
    )


def _calibration_section(score: Score) -> str:
    return (
        "<h2>Calibration</h2>\n<p>The nearer the points are to the diagonal, the more the "
        "probabilities can be trusted (Guo et al. 2017, arXiv:1706.04599).</p>\n"
        f"{_embed(calibration(score), 'Accuracy against confidence')}"
    )


def _machine_section(run: Run) -> str:
    environment: Mapping[str, Any] = {}
    if (run.path / "environment.json").exists():
        environment = read_record(run, "environment.json")
    rows = list(_environment_rows(environment)) or [("", "This run did not record them.")]
    return f"<h2>Machine and versions</h2>\n{_table(('', ''), rows, num_texts=2)}"


def _environment_rows(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What is recorded of the machine; older versions recorded less."""
    for name, value in environment.items():
        label = name.removeprefix("num_").replace("_", " ")
        if name == "command" and isinstance(value, list):
            yield label, shlex.join(map(str, value))
        elif name == "versions" and isinstance(value, dict):
            yield from ((str(package), str(version)) for package, version in value.items())
        elif isinstance(value, dict):  # a choice with its reason
            yield label, f"{value.get('value')} ({value.get('reason')})"
        elif isinstance(value, list):
            yield label, f"{len(value)} times"
        elif value is not None:
            yield label, str(value)


def _footer(run: Run) -> str:
    command = f"mnist plot {shlex.quote(run.name)} --kind report"
    return (
        f"<p class='footer'>Made by mnist {escape(__version__)}: <code>{escape(command)}</code></p>"
    )


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, num_texts: int) -> str:
    """A table whose first `num_texts` columns are texts and the others numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if column < num_texts else ' class=number'}>{escape(cell)}</{tag}>"
            for column, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells(headers, 'th')}</tr></thead>" if any(headers) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<div class='scroll'><table>{head}<tbody>{body}</tbody></table></div>"


def _embed(figure: Figure, alt: str) -> str:
    """A figure as an image in the page; as SVG it stays sharp on paper."""
    content = io.BytesIO()
    save(figure, content, format="svg")
    width = round(96 * figure.get_figwidth())
    url = _data_url(content, "svg+xml")
    return f'<figure><img alt="{escape(alt)}" width="{width}" src="{url}"></figure>'


def _data_url(content: io.BytesIO, subtype: str) -> str:
    return f"data:image/{subtype};base64,{base64.b64encode(content.getvalue()).decode()}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
