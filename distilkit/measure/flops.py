"""FLOPs and memory of a distillation step, known before anything runs."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, PreTrainedModel

from distilkit.fused_loss import CHUNK_ELEMENTS
from distilkit.measure.size import parameter_count

# Numbers that a layer stores for its backward pass, for each token and unit of width. Inputs of six
# projections and two norms; the feed-forward middle, four times as wide, before and after GELU;
# dropout's masks and results. Fitted to measured peaks.
STORED_PER_UNIT = 30
# The same for each token, head and attended position: attention's softmax, its dropout and the
# result of both. (A GPU's fused attention stores none of them: there it takes less.)
STORED_PER_ATTENTION = 2.25


def flops_per_token(teacher: Any, student: Any, length: int, share_of_rows: float = 1.0) -> float:
    """Count the floating-point operations of a step per token (2 a multiply-add), as torch does.

    The forward pass of the teacher, forward and backward of the student, both built on the meta
    device from their configurations. Only matrix products are counted: no embeddings, norms,
    softmax or optimizer. `share_of_rows` is the share of tokens that the vocabulary head sees: 1
    for soft targets at all tokens, else the share of masked ones.
    """

    def count(config: Any, backward: bool) -> float:
        with torch.device("meta"):
            model = AutoModelForMaskedLM.from_config(config)
            ids = torch.zeros(1, length, dtype=torch.long)  # 1, L
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
            logits = model(ids).logits  # 1, L, V
            if backward:
                logits.sum().backward()
        layers = f"{type(model).__name__}.{model.base_model_prefix}"
        body = sum(counter.get_flop_counts()[layers].values())
        head = counter.get_total_flops() - body
        return (body + share_of_rows * head) / length

    return count(teacher, backward=False) + count(student, backward=True)


def step_bytes(
    teacher: PreTrainedModel, student: PreTrainedModel, batch_size: int, length: int
) -> float:
    """Estimate the bytes that teacher, student and a micro-batch occupy at once, in float32.

    Weights of both; the student's gradients and AdamW's two moments; what its layers store for the
    backward pass. Of the head, a chunk of both models' logits and the gradient of its projection.
    The libraries themselves (some hundred MB) come on top. The models may be on the meta device.
    """
    config, tokens = student.config, batch_size * length
    width, vocabulary = config.hidden_size, config.vocab_size
    attention = STORED_PER_ATTENTION * config.num_attention_heads * length
    stored = tokens * config.num_hidden_layers * (STORED_PER_UNIT * width + attention)
    chunk = min(CHUNK_ELEMENTS, tokens * vocabulary)
    head = 2 * chunk + vocabulary * width + 3 * tokens * width
    return 4.0 * (4 * parameter_count(student) + parameter_count(teacher) + stored + head)
