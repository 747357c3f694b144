"""Run a notebook of docs/tutorials from the first cell to the last, and store what its cells show.

    python docs/run_notebook.py docs/tutorials/chairs.ipynb demo/run      # the run that the notebook opens

The value of the last line of a cell is stored beside the cell: a picture as a small PNG, anything else as text. No
Jupyter is needed. The test runs the notebook in the same way and stores nothing.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

_COLORS = 64
"""Colours of a stored picture; more make the file larger and look no better."""


def run_notebook(path: Path) -> dict[str, Any]:
    """Run the code cells of a notebook in the current folder. Return the notebook with the outputs of its cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        value = _run_cell("".join(cell["source"]), f"{path.name}, cell {number}", names)
        cell["execution_count"], cell["outputs"] = number, []
        if value is not None:
            output = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": _shown(value)}
            cell["outputs"] = [output]
    return notebook


def _run_cell(source: str, where: str, names: dict[str, Any]) -> Any:
    """Run a cell. Return the value of its last line, or None if this is a statement."""
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), names)


def _shown(value: Any) -> dict[str, Any]:
    """Return the forms of a value that a notebook stores, by their MIME types."""
    text = {"text/plain": [repr(value)]}
    if not isinstance(value, Image.Image):
        return text
    stream = io.BytesIO()
    value.convert("RGB").quantize(_COLORS).save(stream, "PNG", optimize=True)
    return {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": [f"picture, {value.size}"]}


def main() -> None:
    path, run = (Path(word).resolve() for word in sys.argv[1:])
    os.environ["SDFNET_RUN"] = str(run)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        notebook = run_notebook(path)
        os.chdir(path.parent)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
