"""The READMEs: commands and examples work, links lead somewhere, the first page stays short."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fewer_rows import fewer_rows
from paths import ROOT
from toy_models import first_layers

from distilkit.cli import run_notebooks
from distilkit.cli.main import build_parser, main
from distilkit.config import SCALES, SHIPPED
from distilkit.data.own_task import task_from
from distilkit.finetuning import classifier, finetune
from distilkit.measure import latency
from distilkit.models.loading import load_tokenizer

README = ROOT / "README.md"
FOLDERS = ("data", "data/results", "data/tiny/make", "data/tiny/teacher", "distilkit")
READMES = [ROOT / each / "README.md" for each in ("", *FOLDERS, "distilkit/measure", "figures")]
READMES += [ROOT / "tests" / "README.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
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


def text_of(path: Path) -> str:
    """A Markdown file's text, or that of a notebook's Markdown cells."""
    if path.suffix == ".md":
        return path.read_text("utf-8")
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_every_markdown_file_is_checked():
    listed = ["git", "-C", str(ROOT), "ls-files", "*.md"]
    files = subprocess.run(listed, capture_output=True, text=True).stdout.split()
    assert {ROOT / file for file in files} <= set(READMES)


@pytest.mark.parametrize("path", [*READMES, *NOTEBOOKS], ids=relative)
def test_relative_links_lead_somewhere(path):
    text = text_of(path)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, heading = target.partition("#")
        place = path.parent / file if file else path
        assert place.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", text_of(place), re.MULTILINE)
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


@pytest.fixture
def toy_scale(home, monkeypatch):
    """The tiny scale with two steps, few rows, two tasks and two layers, in a folder of its own."""
    tiny = SCALES["tiny"]
    first_layers(SHIPPED / "teacher", home / "teacher", 2)
    toy = replace(
        tiny,
        teacher=str(home / "teacher"),
        text=str(fewer_rows(SHIPPED / "text", home / "text", 80)),
        glue=str(fewer_rows(SHIPPED / "glue", home / "glue", 40)),
        tasks=("cola", "sst2"),
        distillation=replace(tiny.distillation, steps=2, eval_interval=2),
        finetuning=replace(tiny.finetuning, steps=2),
    )
    monkeypatch.setitem(SCALES, "tiny", toy)
    monkeypatch.setattr(latency, "TIMED", 1)
    monkeypatch.chdir(home)
    return toy


def test_python_blocks_run_as_pasted(home, toy_scale):
    """The second block goes on where the first one ends."""
    examples = blocks(README, "python")
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["run"].metrics()) > 0
    assert (home / "runs" / "live" / "result.json").is_file()


@pytest.mark.slow
def test_commands_run_in_their_order(home, toy_scale, monkeypatch):
    """Each distilkit command of the page, as typed; the rest is pip's, venv's and make's."""
    monkeypatch.setattr(run_notebooks, "run_notebooks", notebooks_were_run)
    notebooks_were_run(home, "tiny")  # make figures, the page's first command
    rows = ["the cook sold some fish,north\n", "a sailor lost the rope,south\n"] * 20
    (home / "my.csv").write_text("".join(["text,team\n", *rows]))
    own = task_from("my.csv", text_columns="text", label_column="team")
    model = classifier(toy_scale.teacher, own, seed=0)
    # enough to be better than chance
    training = replace(toy_scale.finetuning, steps=25, learning_rate=2e-4)
    words = load_tokenizer(toy_scale.teacher)
    finetune(model, words, own, own.data, training, name="mine").model.rename("my-classifier")

    verbs = []
    for words in commands(README):
        if "make" in words:
            target = words[words.index("make") + 1]
            subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
        elif "my-embedder" in words:
            continue  # tests/compress/test_embeddings.py runs it
        elif "distilkit" in words and "pip" not in words:
            verb, *rest = words[words.index("distilkit") + 1 :]
            assert main([verb, *rest]) == 0, words
            verbs.append(verb)
    assert len(verbs) >= 7
    assert (home / "runs" / "first" / "result.json").is_file()
    assert (home / "small" / "README.md").is_file()
    assert (home / "figures" / "tiny" / "report.html").is_file()
    assert len(list((home / "my-notebooks").glob("*.ipynb"))) == len(NOTEBOOKS)


def notebooks_were_run(out: Path, scale: str) -> None:
    """Stands for the sequence, which `test_notebooks.py` executes."""
    (SCALES[scale].figures / "results.csv").write_text("arm,macro\nteacher,80\ndistilled,78\n")


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
