"""The notebook runs from top to bottom, and the page of the Python API names every function."""

import json
import subprocess
import sys
from pathlib import Path

import launch
import prep

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    program = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    program += "\nassert 'exists already' in message and stats.rows > 100 and len(split.outputs) == 2\n"
    # As a kernel does it: the working folder is the notebook's, and the packages are installed.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code"), "kept without outputs"


def test_the_page_names_every_public_name_of_both_packages() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    for package in (prep, launch):
        for name in package.__all__:
            assert f"`{name}" in page or f" {name}," in page or name in {"__version__", "RunState"}, name
