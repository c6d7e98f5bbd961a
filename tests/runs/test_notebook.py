"""The notebook of the documentation, executed as a user would."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.support.runs import HANGING, REPO, SMALLEST_SPACE, Launcher

NOTEBOOK = REPO / "docs" / "notebook.ipynb"
# A slow machine would train for a quarter of an hour.
SHORTER = {
    "models import resnet18": "models import shufflenet_v2_x0_5 as resnet18",
    "torchvision:resnet18": "torchvision:shufflenet_v2_x0_5",
    'set={"epochs": 40}': 'set={"epochs": 4}',
    "in range(12):": "in range(6):",
    "shots=20,": "shots=5, tuning_votes=50,",
    'space="digits"': f'space="{SMALLEST_SPACE}"',
    "certify_images=60": "certify_images=20",
}


def test_the_notebook_goes_from_a_torchvision_classifier_to_a_certificate_and_a_plot(
    launcher: Launcher, tmp_path: Path
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for usual, less in SHORTER.items():
        (cell,) = [cell for cell in notebook.cells if usual in cell.source]
        cell.source = cell.source.replace(usual, less)
    # Without what it showed when it was written.
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=HANGING, kernel_name="python3", resources=resources)
    client.execute(env=launcher.environment | {"PYTHONPATH": str(REPO)})
    *_, result = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert "Certificate(predicted=" in result.outputs[-1]["data"]["text/plain"]
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
