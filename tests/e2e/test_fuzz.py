"""Command lines and run folders that nobody would write: a status and a sentence, no traceback."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from toy_models import teacher_and_text

from distilkit.cli import main as cli
from distilkit.cli.main import main

STEPS = ["--batch-size", "8", "--micro-batch-size", "4", "--steps", "4"]
WORDS = [
    *("figures", "report", "head", "doctor", "study", "distil", "finetune", "layers"),
    *("teacher-quality", "frontier", "notebooks", "measure", "bench", "step"),
    *("--scale", "--teacher", "--text", "--seed", "--kd-weight", "--restrict-kd-to-mask"),
    *("--steps", "--task", "--glue", "--out", "--seeds", "--help", "--name", "--length", "--json"),
    *("tiny", "nobody", "sst2", "", "-1", "0", "nan", "1e999", "../..", "\0", "ä", "--", "a b"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def status_of(command: list[str]) -> int:
    try:
        return main(command)
    except SystemExit as exit:
        return exit.code


@pytest.mark.parametrize("seed", range(60))
def test_any_command_line(seed, capsys, monkeypatch):
    """A command that would work is stopped before the work itself."""

    def worked(_options):
        """It would have worked."""
        raise ValueError("it would have worked")

    for group in cli.GROUPS:
        for name in set(group.VERBS) - {"report", "head", "finetune", "measure"}:
            monkeypatch.setitem(group.VERBS, name, (worked, group.VERBS[name][1]))
    monkeypatch.setitem(cli.measure.BENCHES, "step", (worked, cli.measure.BENCHES["step"][1]))
    chance = random.Random(seed)
    command = chance.choices(WORDS, k=chance.randint(0, 6))
    if seed % 2:  # half of them begin with a verb
        command[:0] = [chance.choice(WORDS[:9])]
    assert status_of(command) in (0, 2), command
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tokenizer, texts) -> Path:
    """A home with a finished run, one that was stopped, and what they were made from."""
    folder = tmp_path_factory.mktemp("finished")
    teacher_and_text(folder, tokenizer, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(folder / "home"))
        assert main(["distil", *_given(folder), *STEPS, "--name", "tiny-distilled"]) == 0
    shutil.copytree(folder / "home" / "runs" / "tiny-distilled", folder / "home" / "runs" / "half")
    (folder / "home" / "runs" / "half" / "result.json").unlink()
    return folder


def _given(folder: Path) -> list[str]:
    return ["--teacher", str(folder / "teacher"), "--text", str(folder / "text.txt")]


FILES = ["config.json", "environment.json", "result.json", "metrics.jsonl"]
INSTEAD = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b'"text"',
    b"{}",
    b"\xff\xfe\x00",
    b'{"a": NaN}',
    b"{}\n",
    b"[3]\n",
]


@pytest.mark.faults
@pytest.mark.parametrize("file", FILES)
def test_run_folders_that_were_cut_or_altered(finished, tmp_path, monkeypatch, capsys, file):
    whole = (finished / "home" / "runs" / "tiny-distilled" / file).read_bytes()
    chance = random.Random(file)
    cut = [whole[: chance.randrange(len(whole))] for _ in range(2)]
    flipped = []
    for _ in range(2):
        at = chance.randrange(len(whole))
        flipped.append(
            whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
        )
    for number, content in enumerate([*INSTEAD, *cut, *flipped, None]):
        home = tmp_path / f"home-{number}"
        shutil.copytree(finished / "home", home)
        monkeypatch.setenv("DISTILKIT_HOME", str(home))
        for run in ("tiny-distilled", "half"):
            if content is None:
                (home / "runs" / run / file).unlink(missing_ok=True)
            elif (home / "runs" / run / file).exists():
                (home / "runs" / run / file).write_bytes(content)
        for command in (
            ["report"],
            ["distil", *_given(finished), *STEPS, "--name", "tiny-distilled"],
            ["distil", *_given(finished), *STEPS, "--name", "half"],
        ):
            assert status_of(command) in (0, 2), (command, content)
            said = capsys.readouterr().err
            assert "Traceback" not in said
