"""`make check`: imports of the package run one way.

Reads the import statements (inside functions too) of every module. Fails on a cycle, on an import
that points to a later folder, and on a root module that imports a folder it may not.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "distilkit"
# A folder may import the root modules and the folders before it
FOLDERS = ("models", "data", "measure", "study", "compress", "plots", "panels", "report", "cli")
# The folders that a root module may import; all others import root modules only
ROOT_MAY_IMPORT = {"finetuning": ("models", "data")}


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Dotted name below the package -> file; `__init__` and `__main__`, which see all, left out."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if not path.stem.startswith("__")
    }


def imports(path: Path, names: set[str]) -> set[str]:
    """The modules among `names` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("distilkit.") for name in found} & names


def faults(package: Path = PACKAGE) -> list[str]:
    """What is wrong with the imports of a package, a line each."""
    files = modules(package)
    graph = {name: imports(path, set(files)) - {name} for name, path in files.items()}
    found = []
    for name, targets in graph.items():
        folder = name.partition(".")[0] if "." in name else None
        if folder and folder not in FOLDERS:
            found.append(f"{name}: the folder {folder} is not in FOLDERS")
            continue
        for target in sorted(targets):
            if "." not in target:
                continue  # root modules are for all
            other = target.partition(".")[0]
            if folder is None and other not in ROOT_MAY_IMPORT.get(name, ()):
                found.append(f"{name} is a root module and imports {target}")
            elif folder and FOLDERS.index(other) > FOLDERS.index(folder):
                found.append(f"{name} imports {target}, and {other} comes after {folder}")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append("a cycle: " + " -> ".join(error.args[1]))
    return found


if __name__ == "__main__":
    if wrong := faults():
        sys.exit("\n".join(wrong))
    print(f"imports of {PACKAGE.name}: one way only")
