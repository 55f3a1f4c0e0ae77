"""The one timing of micro-batches: wall and processor seconds, and the gradients it leaves."""

from __future__ import annotations

import time

import torch
from torch import nn

from distilkit.measure.latency import gradient_step, time_micro_batch


def test_each_micro_batch_is_timed_alone():
    timings = [time_micro_batch(time.sleep, seconds, "cpu") for seconds in (0.02, 0.06)]
    assert 0.02 <= timings[0].seconds < 0.06
    assert timings[1].seconds >= 0.06
    assert all(timing.processor_seconds < 0.02 for timing in timings)  # asleep


def test_the_gradient_step_leaves_the_gradients_of_the_loss():
    model = nn.Linear(3, 1)

    def loss(model, batch, counts):
        return {"loss": model(batch["x"]).sum() / counts["examples"]}

    x = torch.arange(6.0).view(2, 3)
    batch = {"x": x, "counts": {"examples": 2}}
    time_micro_batch(gradient_step(model, loss, "fp32"), batch, "cpu")
    torch.testing.assert_close(model.weight.grad, x.mean(0, keepdim=True))
