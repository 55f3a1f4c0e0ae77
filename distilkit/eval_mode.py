"""Models without dropout, on another device, for a while; afterwards they are as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(*models: nn.Module, device: torch.device | None = None) -> Iterator[None]:
    """Eval mode inside, and on `device` if there is one; both put back, whatever happens.

    By module, not by model: a frozen part may be in eval mode inside a model in train mode. A
    model goes back to where its first parameter was.
    """
    places = [next(model.parameters()).device for model in models] if device else []
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
            if device:
                model.to(device)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for model, place in zip(models, places, strict=bool(device)):
            model.to(place)
