"""The notebook in docs/ runs, and its committed outputs are of the same kinds."""

import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.helpers.paths import REPOSITORY

TOUR = REPOSITORY / "docs" / "tour.ipynb"
MAX_BYTES = 300_000


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_kinds(cell: NotebookNode) -> list[str]:
    """The kinds of a cell's outputs, in order."""
    return [
        output.get("name") or ", ".join(sorted(output.get("data", [output.output_type])))
        for output in cell.outputs
    ]


@pytest.fixture
def tour() -> NotebookNode:
    notebook: NotebookNode = nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


@pytest.mark.slow
def test_the_notebook_runs_in_a_fresh_kernel(
    tour: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = [output_kinds(cell) for cell in code_cells(tour)]
    for cell in code_cells(tour):
        cell.outputs = []
    resources = {"metadata": {"path": str(TOUR.parent)}}
    NotebookClient(
        tour, kernel_name="python3", timeout=120, coalesce_streams=True, resources=resources
    ).execute()
    assert [output_kinds(cell) for cell in code_cells(tour)] == before


def test_the_notebook_is_committed_as_it_ran(tour: NotebookNode) -> None:
    cells = code_cells(tour)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {kind for cell in cells for kind in output_kinds(cell)}
    assert kinds == {"stdout", "image/png, text/plain"}
    assert sum("image/png" in kind for cell in cells for kind in output_kinds(cell)) >= 8
    nbformat.validate(tour)


def test_the_notebook_is_small_and_names_no_path_of_a_machine() -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.findall(
        r"(?<![\w.:/])/\w[\w.-]*/|[A-Z]:\\|~/|Warning|Traceback", without_pictures
    )
    # The times at which cells ran.
    assert "iopub" not in text
