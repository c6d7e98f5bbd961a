"""The notebook of the documentation, executed as a user would."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.runs import REPO

NOTEBOOK = REPO / "docs" / "notebook.ipynb"


def test_the_notebook_goes_from_a_torchvision_classifier_to_a_certificate_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Without what it showed when it was written.
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=resources).execute()
    *_, result = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert "Certificate(predicted=" in result.outputs[-1]["data"]["text/plain"]
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
