"""What is lent comes back as it was."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from paths import ROOT
from torch import nn

from distilkit.processes import eval_mode, keep_freed_memory


class Traveller(nn.Linear):
    """Notes where it is sent; its weights stay."""

    def __init__(self):
        super().__init__(2, 2)
        self.sent = []

    def to(self, device):
        self.sent.append(str(device))
        return self


def seen_inside(*models, **device):
    """What the block sees, which is left by an exception."""
    seen = []

    def block():
        with eval_mode(*models, **device):
            seen.extend((model.training, list(getattr(model, "sent", []))) for model in models)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        block()
    return seen


def test_modes_and_devices_are_put_back_whatever_happens():
    one, other = nn.Sequential(nn.Linear(2, 2), nn.Dropout()), Traveller()
    one[1].eval()  # frozen inside a model in train mode
    assert seen_inside(one, other) == [(False, []), (False, [])]
    assert [one.training, one[0].training, one[1].training] == [True, True, False]
    assert other.sent == []
    assert seen_inside(other, device=torch.device("cuda:1")) == [(False, ["cuda:1"])]
    assert other.sent == ["cuda:1", "cpu"]
    assert other.training


# Prints how many pages the kernel clears for eight tensors of 64 MiB: inside, then afterwards
PAGES = """
import resource
import torch
from distilkit.processes import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(8):
        torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

with keep_freed_memory():
    new_pages()  # until there is a hole that fits
    print(new_pages())
print(new_pages())
"""


def takes_large_thresholds() -> bool:
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch):
    for name in os.environ:
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)


@pytest.mark.skipif(not takes_large_thresholds(), reason="needs glibc 2.35")
def test_freed_memory_serves_the_next_step():
    """In a fresh process: where an allocation failed before, glibc has moved the thread to an
    arena whose heaps end at 64 MiB."""
    command = [sys.executable, "-c", PAGES]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    inside, afterwards = map(int, printed.stdout.split())
    assert inside < afterwards / 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_an_older_glibc_gets_the_most_that_it_takes(monkeypatch):
    calls = []
    libc = SimpleNamespace(
        mallopt=lambda *call: calls.append(call) or int(call[1] <= 32 << 20),
        malloc_trim=lambda _: 1,
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    with keep_freed_memory():
        assert calls == [(-3, 1 << 30), (-3, 32 << 20), (-1, -1)]
    assert calls[3:] == [(-3, 32 << 20), (-1, 64 << 20)]
    calls.clear()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    with keep_freed_memory():  # the user's settings hold
        assert not calls


def test_other_systems_manage_memory_themselves(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    with keep_freed_memory():
        pass
