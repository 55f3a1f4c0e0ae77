"""`make check`: the package's modules import one way only.

Reads the import statements (inside functions too) of every module and fails on a cycle.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "distilkit"


def imports(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.removeprefix("distilkit.").partition(".")[0] for name in names}
    return found & modules


def cycle(folder: Path = PACKAGE) -> list[str] | None:
    """A cycle among the modules of a folder, or None. `__init__` and `__main__` see all."""
    files = {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("__")}
    graph = {name: imports(path, set(files)) - {name} for name, path in files.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


if __name__ == "__main__":
    if found := cycle():
        sys.exit("imports go in a circle: " + " -> ".join(found))
    print(f"imports of {PACKAGE.name}: one way only")
