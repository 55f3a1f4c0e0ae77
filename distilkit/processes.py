"""This process among those that ``torchrun`` or ``accelerate launch`` started, or alone."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState
from torch import nn


def processes() -> PartialState:
    """accelerate's handle on rank, world size and device, joined on the first call.

    Where there is no accelerator (or ``accelerate launch --cpu`` says so) the processes talk
    through gloo; accelerate by itself would leave each of them alone.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=told or not torch.accelerator.is_available())


def shard_layers(model: nn.Module) -> nn.Module:
    """Deal the weights of a model's layers out over the processes, in place (FSDP).

    A layer is put together while it computes and given up again; embeddings and head stay whole.
    All processes have to call the model equally often. Alone, nothing happens.

    Returns:
        The model.
    """
    state = processes()
    if state.num_processes == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh, reshard_after_forward=True)
            return model
    raise TypeError(f"a {type(model).__name__} has no list of layers to deal out")
