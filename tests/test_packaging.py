"""What pyproject.toml and the requirements say, against what the code imports."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
OTHERWISE_NAMED = {"PIL": "pillow", "sklearn": "scikit-learn"}


def pins(file: str) -> dict[str, str]:
    """Version by distribution, as a requirements file pins them."""
    lines = (ROOT / file).read_text().splitlines()
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pinned}


def imported(source: str) -> Iterator[str]:
    """The top-level names that a module imports, wherever in the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def distributions(sources: Iterable[str], own: set[str]) -> set[str]:
    """The distributions that these modules import directly."""
    names = {name for source in sources for name in imported(source)}
    names -= own | set(sys.stdlib_module_names)
    return {canonicalize_name(OTHERWISE_NAMED.get(name, name)) for name in names}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def cells() -> Iterator[str]:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                yield re.sub(r"^( *)%.*", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)


@pytest.mark.slow
def test_what_the_package_and_the_notebooks_import_is_declared():
    sources = [*(path.read_text() for path in python_files("distilkit")), *cells()]
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    assert distributions(sources, {"distilkit"}) - declared == set()


@pytest.mark.slow
def test_what_the_tests_and_the_makers_of_the_data_import_is_pinned():
    files = python_files("tests") + python_files("data")
    own = {"distilkit", "conftest"} | {path.stem for path in files}
    found = distributions([path.read_text() for path in files], own)
    assert found - {*pins("requirements.txt"), *pins("tests/requirements.txt")} == set()


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_a_declared_dependency_is_pinned_within_its_range(requirement):
    version = pins("requirements.txt")[canonicalize_name(requirement.name)]
    assert version in requirement.specifier


def test_the_oldest_python_is_the_same_everywhere():
    oldest = PROJECT["tool"]["ruff"]["target-version"].removeprefix("py3")
    assert SpecifierSet(PROJECT["project"]["requires-python"]) == SpecifierSet(f">=3.{oldest}")
