"""What a distillation step needs, by formula: operations and bytes, before anything has run."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from distilkit.fused_loss import CHUNK_ELEMENTS, GPU_CHUNK
from distilkit.measure.size import parameter_count

# Numbers that a layer keeps for its backward pass, for each token and unit of width: inputs of the
# six projections and two norms, the feed-forward block's four times as wide middle twice (before
# and after GELU), dropout's masks and results. Fitted to measured steps.
KEPT_PER_UNIT = 30
# And for each token, head and position looked at: attention's softmax, its dropout and the result
# of both. A GPU's fused attention keeps none of them.
KEPT_PER_LOOK = 2.25


def flops_per_token(teacher: Any, student: Any, length: int, share_of_rows: float = 1.0) -> float:
    """Floating-point operations that one token of a step needs (2 a multiply-add).

    Forward of the teacher, forward and backward (twice the forward) of the student: of a layer
    ``2 · (4H² + 2HI) + 4LH`` (projections and feed-forward; attention's two products), of the head
    ``2H² + 2HV`` for the share of rows that it sees. Embeddings, norms and softmax are left out.

    Args:
        teacher, student: configurations of masked language models.
        length: L, tokens a sequence.
        share_of_rows: 1 for soft targets at all tokens, else the share of masked ones.
    """

    def forward(config: Any) -> float:
        width = config.hidden_size
        layer = 2 * (4 * width**2 + 2 * width * _inner(config)) + 4 * length * width
        head = 2 * width**2 + 2 * width * config.vocab_size
        return config.num_hidden_layers * layer + share_of_rows * head

    return forward(teacher) + 3 * forward(student)


def step_bytes(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    batch_size: int,
    length: int,
    *,
    fused_attention: bool = False,
) -> float:
    """Bytes that teacher, student and a micro-batch hold at once, in float32.

    Weights of both; the student's gradients and AdamW's two moments; what its layers keep for the
    backward pass; the head's chunk of logits of both models and its gradient of the projection.
    The libraries themselves (some hundred MB) come on top.

    Args:
        teacher, student: masked language models; the meta device will do.
        batch_size, length: of a micro-batch: B sequences, L tokens each.
        fused_attention: the device keeps no attention maps (a GPU).
    """
    config, tokens = student.config, batch_size * length
    width, vocabulary = config.hidden_size, config.vocab_size
    looks = 0 if fused_attention else KEPT_PER_LOOK * config.num_attention_heads * length
    kept = tokens * config.num_hidden_layers * (KEPT_PER_UNIT * width + looks)
    most = CHUNK_ELEMENTS * (GPU_CHUNK if fused_attention else 1)
    chunk = min(most, tokens * vocabulary)
    head = 2 * chunk + vocabulary * width + 3 * tokens * width
    return 4.0 * (4 * parameter_count(student) + parameter_count(teacher) + kept + head)


def _inner(config: Any) -> int:
    """Units of the feed-forward block, under BERT's name or DistilBERT's."""
    return getattr(config, "intermediate_size", None) or config.hidden_dim
