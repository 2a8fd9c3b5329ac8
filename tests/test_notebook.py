"""The quickstart notebook runs from its first cell to its last."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_quickstart_runs(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])  # they would grow old
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    (tmp_path / "run.py").write_text("\n".join(_shown(cell) for cell in cells))
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = done.stdout
    assert '"stored": 100' in shown and "tRNA" in shown and "(((((((..((((........)))).(((((.......)))))" in shown
    assert "(2, 512)" in shown and "G1A+C72U" in shown and "ribosome_load" in shown


def _shown(cell: str) -> str:
    """A cell whose last line, if it is an expression, is printed, and asked for the HTML that a notebook shows."""
    tree = ast.parse(cell)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or (isinstance(last.value, ast.Call) and ast.unparse(last.value.func) == "print"):
        return cell
    head = "\n".join(ast.unparse(part) for part in tree.body[:-1])
    return f"{head}\n_ = {ast.unparse(last)}\nprint(_)\ngetattr(_, '_repr_html_', str)()"
