"""Runs the notebook docs/tour.ipynb and keeps in it what it shows, but not when and on what.

$ python docs/run_tour.py
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).with_name("tour.ipynb")


def main() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    where = {"metadata": {"path": str(TOUR.parent)}}
    client = NotebookClient(notebook, record_timing=False, coalesce_streams=True, resources=where)
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
