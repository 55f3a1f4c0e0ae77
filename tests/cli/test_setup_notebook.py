"""How threads wait for one another, and how many of them a notebook gets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import distilkit
from distilkit.cli.setup_notebook import setup_notebook

CODE = """
import os, sys, types
if sys.argv[1:]: sys.modules["torch"] = types.ModuleType("torch")
import distilkit
print(distilkit.SHORT_SPIN, os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "torch_first", "expected"),
    [
        ({}, False, "True 300"),
        ({}, True, "False None"),
        ({"GOMP_SPINCOUNT": "5"}, False, "True 5"),
        ({"GOMP_SPINCOUNT": "5"}, True, "True 5"),
        ({"OMP_WAIT_POLICY": "active"}, False, "True None"),
        ({"OMP_WAIT_POLICY": "passive"}, True, "True None"),
    ],
)
def test_threads_spin_briefly_unless_told_otherwise(given, torch_first, expected):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {k: v for k, v in os.environ.items() if k not in names} | given
    command = [sys.executable, "-c", CODE, *["first"] * torch_first]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("short", "load", "threads", "left"),
    [(True, 9.0, 4, 4), (False, 0.1, 4, 4), (False, 9.0, 4, 3), (False, 9.0, 1, 1)],
)
def test_a_thread_less_where_they_spin_and_the_machine_is_busy(
    short, load, threads, left, monkeypatch, capsys
):
    monkeypatch.setattr(distilkit, "SHORT_SPIN", short)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        setup_notebook("tiny")
        assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(before)
    assert ("OMP_WAIT_POLICY" in capsys.readouterr().out) == (left < threads)
