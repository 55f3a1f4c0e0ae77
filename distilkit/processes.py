"""This process among those that ``torchrun`` or ``accelerate launch`` started, or alone."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """accelerate's handle on rank, world size and device, joined on the first call.

    Where there is no accelerator (or ``accelerate launch --cpu`` says so) the processes talk
    through gloo; accelerate by itself would leave each of them alone.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=told or not torch.accelerator.is_available())
