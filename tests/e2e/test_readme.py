"""The READMEs: commands and examples work, links lead somewhere, the first page stays short."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT

from distilkit.cli.main import build_parser
from distilkit.config import SCALES

README = ROOT / "README.md"
FOLDERS = ("", "data", "data/results", "data/tiny/teacher", "distilkit", "distilkit/measure")
READMES = [ROOT / folder / "README.md" for folder in (*FOLDERS, "figures", "tests")]
PACKAGE_README = ROOT / "distilkit" / "README.md"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.M)


def commands(path: Path) -> list[list[str]]:
    """The lines of a file's shell blocks as words, comments left out."""
    joined = "\n".join(blocks(path, "sh")).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_readme_is_short():
    text = README.read_text("utf-8")
    assert len(text.encode()) <= 10_240
    assert len(text.splitlines()) <= 190


@pytest.mark.parametrize("path", READMES, ids=relative)
def test_relative_links_lead_somewhere(path):
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, heading = target.partition("#")
        place = path.parent / file if file else path
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", place.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert heading in anchors, target


@pytest.mark.parametrize("path", READMES, ids=relative)
def test_commands_exist(path):
    """Each distilkit command is parsed by the real parser, each make target and script is there."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for words in commands(path):
        if "make" in words:
            assert words[words.index("make") + 1] in targets, words
        elif "distilkit" in words and "pip" not in words:
            build_parser().parse_args(words[words.index("distilkit") + 1 :])
        for word in words:
            if word.endswith(".py"):
                assert (ROOT / word).is_file(), words


def test_the_readme_has_the_commands_that_matter():
    called = {" ".join(words) for words in commands(README)}
    assert {"make figures", "make test"} <= called
    assert sum("-m distilkit" in command for command in called) >= 6


def test_python_blocks_run_as_pasted(home, monkeypatch):
    """At the tiny scale, with fewer steps; the second block goes on where the first one ends."""
    tiny = SCALES["tiny"]
    toy = replace(tiny, distillation=replace(tiny.distillation, steps=2, eval_interval=2))
    monkeypatch.setitem(SCALES, "tiny", toy)
    examples = blocks(README, "python")
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["run"].metrics()) > 0
    assert (home / "runs" / "watched" / "result.json").is_file()


def test_every_module_has_its_line_in_the_package_readme():
    folder = PACKAGE_README.parent
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    modules -= {path for path in modules if path.endswith("/__init__.py")}
    (tree,) = re.findall(r"^```\n(.*?)^```", PACKAGE_README.read_text("utf-8"), re.DOTALL | re.M)
    named, place = [], ""
    for line in tree.splitlines():
        if line.endswith("/"):
            place = line
        elif match := re.match(r"(?:  )?(\w+\.py) +\S", line):
            named.append(place + match[1])
    assert sorted(named) == sorted(modules)


def test_the_tests_that_hold_promises_exist():
    text = (ROOT / "tests" / "README.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
