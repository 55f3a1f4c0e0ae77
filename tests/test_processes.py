"""What is lent comes back as it was."""

import ctypes
import resource
import sys

import pytest
import torch
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


def new_pages(allocations: int = 8) -> int:
    """The pages that the kernel clears while a tensor of 64 MiB is made and freed so often."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(allocations):
        torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
def test_freed_memory_serves_the_next_step():
    with keep_freed_memory():
        new_pages(1)
        inside = new_pages()
    assert inside < 2**26 / resource.getpagesize()  # less than one of the eight
    # afterwards each gets new pages; a huge one counts once
    assert new_pages() > 8 * max(1, inside)


def test_other_systems_manage_memory_themselves(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    with keep_freed_memory():
        pass
