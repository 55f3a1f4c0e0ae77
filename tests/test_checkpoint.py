"""Checkpoints against damage and death: whatever happens, an intact one is found or none is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from paths import ROOT
from processes import Died

from distilkit import checkpoint
from distilkit.checkpoint import KEEP, atomic_file, load_newest, save, write_atomically, write_json

FILES = ("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json")


def tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    """Other values at every step, several dtypes, a scalar, an empty one, a transposed view."""
    random = torch.Generator().manual_seed(step)
    return {
        "model": {
            "a.weight": torch.randn(5, 7, generator=random),
            "a.bias": torch.randn(7, generator=random, dtype=torch.float64),
            "b.half": torch.randn(3, generator=random).to(torch.bfloat16),
            "b.view": torch.randn(4, 6, generator=random).t(),
            "b.none": torch.zeros(0, 3),
        },
        "optimizer": {"a.weight/step": torch.tensor(float(step)), "ids": torch.arange(step)},
    }


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        save(folder, step, tensors(step), {"step": step, "note": "ü"})


def assert_is(found, step: int) -> None:
    assert found is not None
    values, state = found
    assert state == {"step": step, "note": "ü"}
    wanted = tensors(step)
    assert values.keys() == wanted.keys()
    for stem, named in wanted.items():
        assert values[stem].keys() == named.keys()
        for name, tensor in named.items():
            assert values[stem][name].dtype == tensor.dtype
            assert torch.equal(values[stem][name], tensor), name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the good case ------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    path = save(tmp_path / "deep" / "checkpoints", 7, tensors(7), {"step": 7, "note": "ü"})
    assert path == tmp_path / "deep" / "checkpoints" / "step-00000007"
    assert tuple(names(path)) == FILES
    assert_is(load_newest(path.parent), 7)


def test_saving_leaves_the_tensors_as_they_were(tmp_path):
    mine = tensors(3)
    mine["model"]["a.weight"].requires_grad_()
    save(tmp_path, 3, mine, {"step": 3})
    assert mine["model"]["a.weight"].requires_grad
    for name, tensor in tensors(3)["model"].items():
        assert torch.equal(mine["model"][name].detach(), tensor)


def test_nothing_there(tmp_path):
    assert load_newest(tmp_path / "missing") is None
    assert load_newest(tmp_path) is None


def test_the_manifest_holds_the_sha256_of_every_other_file(tmp_path):
    write(tmp_path, 1)
    folder = tmp_path / "step-00000001"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in FILES
        if name != "manifest.json"
    }


def test_only_the_newest_are_kept(tmp_path):
    assert KEEP == 2
    write(tmp_path, 1, 2, 10, 9_999)
    assert names(tmp_path) == ["step-00000010", "step-00009999"]
    assert_is(load_newest(tmp_path), 9_999)


def test_the_same_step_again_replaces_what_was_there(tmp_path):
    write(tmp_path, 4)
    with open(tmp_path / "step-00000004" / "model.safetensors", "r+b") as file:
        file.truncate(10)
    write(tmp_path, 4)
    assert names(tmp_path) == ["step-00000004"]
    assert_is(load_newest(tmp_path), 4)


# --- damage -------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_last(path: Path) -> None:  # in a tensor's data: the file parses, its values are wrong
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:  # what a power cut leaves on some file systems
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE = (truncate, flip, flip_last, empty, zero, Path.unlink)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
@pytest.mark.slow
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(tmp_path, damage, name):
    write(tmp_path, 1, 2)
    broken = tmp_path / "step-00000002"
    damage(broken / name)
    with pytest.warns(UserWarning, match="damaged checkpoint not used") as caught:
        found = load_newest(tmp_path)
    assert len(caught) == 1
    assert_is(found, 1)
    message = str(caught[0].message)
    assert str(broken) in message
    if name != "manifest.json":  # a damaged manifest accuses itself or the file it describes
        assert name in message


@pytest.mark.parametrize("position", range(0, 300, 7))
def test_no_flipped_bit_of_a_manifest_is_believed(tmp_path, position):
    write(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / "manifest.json"
    data = bytearray(path.read_bytes())
    assert len(data) > 200
    at = position % len(data)
    data[at] ^= 1 << (position % 7)
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_newest(tmp_path)
    if caught:
        assert_is(found, 1)
    else:  # white space became other white space, or the like: then what is loaded is right
        assert_is(found, 2)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "7", '{"a": 1}', '{"state.json": null}', ""])
def test_a_manifest_of_another_form_is_not_believed(tmp_path, text):
    write(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / "manifest.json").write_text(text)
    with pytest.warns(UserWarning, match="step-00000002"):
        assert_is(load_newest(tmp_path), 1)


def test_all_damaged_is_none_and_two_warnings(tmp_path):
    write(tmp_path, 1, 2)
    for step in (1, 2):
        flip(tmp_path / f"step-0000000{step}" / "model.safetensors")
    with pytest.warns(UserWarning, match="damaged") as caught:
        assert load_newest(tmp_path) is None
    assert len(caught) == 2


def test_damaged_ones_do_not_push_out_intact_ones(tmp_path):
    """A run whose checkpoints are all damaged starts anew, below their step numbers."""
    write(tmp_path, 50, 60)
    for step in (50, 60):
        flip(tmp_path / f"step-000000{step}" / "model.safetensors")
    write(tmp_path, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_is(load_newest(tmp_path), 10)


# --- nothing is unpickled -----------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (os._exit, (66,))


@pytest.mark.parametrize("name", ["model.bin", "optimizer.pkl", "pytorch_model.bin", "model.pt"])
def test_a_planted_pickle_is_never_opened(tmp_path, name):
    """Its opening would end this process."""
    write(tmp_path, 1)
    torch.save({"a": Bomb()}, tmp_path / "step-00000001" / name)
    assert_is(load_newest(tmp_path), 1)


def test_a_pickle_in_place_of_a_safetensors_file_is_refused(tmp_path):
    write(tmp_path, 1, 2)
    torch.save({"a": Bomb()}, tmp_path / "step-00000002" / "model.safetensors")
    with pytest.warns(UserWarning, match=r"model\.safetensors"):
        assert_is(load_newest(tmp_path), 1)


def test_a_planted_safetensors_file_is_not_believed(tmp_path):
    """What is not in the manifest was not written by us."""
    write(tmp_path, 1)
    own = tmp_path / "step-00000001" / "model.safetensors"
    (own.parent / "more.safetensors").write_bytes(own.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # to refuse the checkpoint would be right as well
        found = load_newest(tmp_path)
    assert found is None or found[0].keys() == {"model", "optimizer"}


# --- death at every write -----------------------------------------------------------------------


CALLS = (  # every call that changes the disk, where the module looks it up
    ("os", "fsync"),
    ("os", "rename"),
    ("os", "replace"),
    ("shutil", "rmtree"),
    ("safetensors.torch", "save_file"),
    ("checkpoint", "write_json"),
    ("checkpoint", "file_sha256"),
)


def count_calls(monkeypatch, module: str, name: str, fatal: int | None, after: bool) -> list[int]:
    """Count the calls of a function; the one numbered `fatal` dies, before or after its work."""
    owner = {"checkpoint": checkpoint, "safetensors.torch": safetensors.torch}.get(module)
    owner = owner or getattr(checkpoint, module)
    real, calls = getattr(owner, name), []

    def patched(*arguments, **options):
        calls.append(1)
        dies = len(calls) - 1 == fatal
        if dies and not after:
            raise Died
        result = real(*arguments, **options)
        if dies:
            raise Died
        return result

    monkeypatch.setattr(owner, name, patched)
    return calls


@pytest.mark.faults
@pytest.mark.parametrize(("module", "name"), CALLS)
def test_death_at_any_call_leaves_an_intact_checkpoint(tmp_path, monkeypatch, module, name):
    with monkeypatch.context() as patch:
        calls = count_calls(patch, module, name, None, False)
        write(tmp_path / "counted", 1, 2, 3)  # the third removes the first
    assert calls, "the writer no longer calls this"
    with monkeypatch.context() as patch:
        counted = count_calls(patch, module, name, None, False)
        write(tmp_path / "two", 1, 2)
        in_first_two = len(counted)
    for after in (False, True):
        for fatal in range(len(calls) - in_first_two):
            folder = tmp_path / f"{after}-{fatal}"
            write(folder, 1, 2)
            with monkeypatch.context() as patch:
                count_calls(patch, module, name, fatal, after)
                with pytest.raises(Died):
                    write(folder, 3)
            found = load_newest(folder)  # a warning would be an error: nothing looks damaged
            assert found is not None
            assert_is(found, found[1]["step"])
            assert found[1]["step"] in (2, 3)
            # and life goes on: what was left behind goes away with the next
            write(folder, 4)
            assert_is(load_newest(folder), 4)
            assert len(names(folder)) == KEEP
            assert all(n.startswith("step-") for n in names(folder))


@pytest.mark.faults
def test_death_while_the_old_one_is_removed(tmp_path, monkeypatch):
    """Half of the folder of step 1 is gone; nobody asks it, and the next writing removes it."""
    write(tmp_path, 1, 2)

    def half(path):
        for file in sorted(Path(path).iterdir())[:2]:
            file.unlink()
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", half)
        with pytest.raises(Died):
            write(tmp_path, 3)
    assert_is(load_newest(tmp_path), 3)
    write(tmp_path, 4)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]


@pytest.mark.faults
def test_a_full_disk_is_an_error_and_keeps_the_old_one(tmp_path, monkeypatch):
    write(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path, 2)
    assert_is(load_newest(tmp_path), 1)
    write(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


LIMITED = """
import resource, sys, warnings
warnings.simplefilter("error")
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from distilkit import checkpoint
folder, tensors = Path(sys.argv[1]), {"model": {"a": torch.ones(300_000)}}
checkpoint.save(folder, 1, tensors, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    checkpoint.save(folder, 2, tensors, {"step": 2})
except OSError as error:
    print(error)
found = checkpoint.load_newest(folder)
assert found[1] == {"step": 1}
print(sorted(path.name for path in folder.iterdir()))
"""


@pytest.mark.faults
@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes there")
def test_a_file_that_may_not_grow_is_named_with_its_size_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "here"), str(ROOT)]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.strip().splitlines()
    assert "step 2 could not be written" in said
    assert "1.2 MB, " in said
    assert str(tmp_path / "here") in said
    assert left == "['step-00000001']"


@pytest.mark.faults
def test_a_rename_that_fails_while_a_damaged_one_of_the_same_step_is_replaced(
    tmp_path, monkeypatch
):
    write(tmp_path, 1, 2)
    flip(tmp_path / "step-00000002" / "model.safetensors")

    def fail(*_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "rename", fail)
        with pytest.raises(Died):
            write(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_is(load_newest(tmp_path), 1)


@pytest.mark.faults
@pytest.mark.processes
def test_a_process_that_dies_between_files_and_rename(tmp_path):
    """The same as above with a real death: no `finally`, no flushing."""
    write(tmp_path, 1)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from distilkit import checkpoint\n"
        "checkpoint.os.rename = lambda *_: os._exit(9)\n"
        "checkpoint.save(Path(sys.argv[1]), 2, {'model': {'a': torch.ones(3)}}, {'step': 2})\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT)]
    assert subprocess.run(command, timeout=120).returncode == 9
    assert len(names(tmp_path)) == 2
    assert_is(load_newest(tmp_path), 1)
    write(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


# --- single files ------------------------------------------------------------------------------


def test_write_json_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, None, "ü"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None, "ü"]}
    with monkeypatch.context() as patch:
        count_calls(patch, "os", "replace", 0, False)
        with pytest.raises(Died):
            write_json(path, {"a": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, None, "ü"]}


def test_a_file_appears_whole_and_flushed_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    with monkeypatch.context() as patch:
        flushed = count_calls(patch, "os", "fsync", None, False)
        assert write_atomically(path, b"old") == path
    assert len(flushed) == 1
    with monkeypatch.context() as patch:
        count_calls(patch, "os", "replace", 0, False)
        with pytest.raises(Died):
            write_atomically(path, b"ne")
    assert path.read_bytes() == b"old"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_write_json_refuses_what_is_not_json(tmp_path, value):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": 1}
