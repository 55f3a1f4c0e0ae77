"""Score every layer map of a teacher before any training.

A teacher of n layers has C(n, k) students of k layers. Sanh et al. 2019, section 3, take "one layer
out of two"; the authors' script copies 0, 2, 4, 7, 9, 11 of 12. All 924 maps of a 12-layer teacher
can be scored, for two reasons:

1. The maps are walked as the tree of their prefixes, depth first: a layer is applied once to each
   prefix. That is C(n + 1, k) − 1 times in place of k · C(n, k).
2. The teacher's own states serve the prefixes (0), (0, 1), ..., and its outputs all maps. Only the
   last hidden state of a map goes through the head, and of it only the rows that are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from distilkit.config import MLM_ONLY, LossConfig
from distilkit.distillation import check_fit
from distilkit.families import Head, family_of, mlm_head
from distilkit.losses import at_least_float32
from distilkit.masking import MaskedBlocks, in_order
from distilkit.processes import eval_mode, to_device
from distilkit.student import check_teacher, default_layers, named_layer_maps

if TYPE_CHECKING:
    import pandas as pd

PROBE_TOKENS = 2048
BATCH_TOKENS = 1024  # [tokens, V] stand in memory three times: the teacher's p, a map's log q, p·q

LayerMap = tuple[int, ...]


def score_layer_maps(
    teacher: PreTrainedModel,
    probe: MaskedBlocks,
    student_layers: int | None = None,
    *,
    loss_config: LossConfig | None = None,
) -> pd.DataFrame:
    """Score all layer maps to `student_layers` layers on a probe text, without training.

    Args:
        teacher: a masked-language model whose layers all take the same input; unchanged.
        probe: a small text (:func:`probe_of`), masked as in its epoch 0.
        student_layers: by default half of the teacher's.
        loss_config: the temperature, and whether the KD loss counts at all tokens or masked ones.

    Returns:
        A row a map, best first: ``layers``, ``name`` (all, joined), ``rank`` by soft_target
        from 1, ``masked_accuracy`` (a share). ``soft_target`` is T²·KL(teacher ‖ student) in nats,
        the mean over the tokens where the KD loss counts.
    """
    import pandas as pd

    depth = teacher.config.num_hidden_layers
    names = named_layer_maps(depth, student_layers)
    k = len(default_layers(depth, student_layers))
    check_teacher(teacher)
    if family_of(teacher).needs_layer_0 or getattr(teacher.config, "conv_kernel_size", 0):
        raise TypeError(
            f"the layers of this {type(teacher).__name__} take different inputs, so its maps "
            "cannot be scored one layer at a time: compare students (student_from_teacher) with "
            "losses_on"
        )

    scores = _score(teacher, probe, k, loss_config or LossConfig())
    table = pd.DataFrame(
        {"layers": layers, "name": ", ".join(k for k in names if names[k] == layers), **of_map}
        for layers, of_map in scores.items()
    ).sort_values(["soft_target", "layers"], ignore_index=True)
    return table.assign(rank=table.index + 1)


def probe_of(blocks: MaskedBlocks, tokens: int = PROBE_TOKENS) -> MaskedBlocks:
    """Take the first blocks of a text, about `tokens` tokens, masked independently of a run."""
    first = np.arange(min(len(blocks), max(1, tokens // blocks.blocks.shape[1])))
    return MaskedBlocks(blocks.blocks[first], blocks.tokenizer, seed=0, weights=blocks.weights)


States = tuple[Tensor, ...]  # n + 1 hidden states [B, L, H]: embeddings, then after each layer
Apply = Callable[[int, Tensor], Tensor]  # (layer, hidden) -> hidden, as the encoder calls it


def teacher_pass(teacher: PreTrainedModel, inputs: dict[str, Any]) -> tuple[States, Apply]:
    """Run the teacher and record how its encoder calls a layer (with its attention mask)."""
    stack, calls = teacher.base_model.get_submodule(family_of(teacher).layers), []
    hook = stack[0].register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args[1:], kwargs)), with_kwargs=True
    )
    try:
        states = teacher.base_model(**inputs, output_hidden_states=True).hidden_states
    finally:
        hook.remove()
    args, kwargs = calls[0]

    def apply(layer: int, hidden: Tensor) -> Tensor:
        out = stack[layer](hidden, *args, **kwargs)
        return out[0] if isinstance(out, tuple) else out  # of MPNet: (hidden, attention)

    return states, apply


def states_of_maps(
    states: States,
    apply: Apply,
    student_layers: int,
    prefix: LayerMap = (),
    hidden: Tensor | None = None,
) -> Iterator[tuple[LayerMap, Tensor]]:
    """Yield ``(layers, last hidden state [B, L, H])`` of every map, in lexicographic order.

    A walk through the tree of prefixes: no more than `student_layers` states are held at once.
    """
    left = student_layers - len(prefix)
    if not left:
        yield prefix, hidden
        return
    for layer in range(prefix[-1] + 1 if prefix else 0, len(states) - left):
        layers = (*prefix, layer)
        if layer == len(prefix):  # 0, 1, 2, ...: so far this is the teacher
            after = states[layer + 1]
        else:
            after = apply(layer, states[0] if hidden is None else hidden)
        yield from states_of_maps(states, apply, student_layers, layers, after)


def _score(
    teacher: PreTrainedModel, blocks: MaskedBlocks, student_layers: int, loss_config: LossConfig
) -> dict[LayerMap, dict[str, float]]:
    """Measure both scores of every map."""
    check_fit(teacher, None, MLM_ONLY, blocks)
    temperature, size = loss_config.temperature, max(1, BATCH_TOKENS // blocks.blocks.shape[1])
    sums: dict[LayerMap, tuple[float, int]] = {}  # KL, and masked words that were found
    rows_scored = masked = 0

    with eval_mode(teacher), torch.no_grad():
        head, depth = mlm_head(teacher), teacher.config.num_hidden_layers
        parts = in_order(blocks, size)
        bar = tqdm(total=comb(depth, student_layers) * len(parts), desc="layer maps", unit="pass")
        for ids in parts:
            batch = to_device(blocks.batch(0, ids), teacher.device)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            words, rows = batch["targets"], batch["rows"]  # M; N, the masked ones first
            if loss_config.restrict_kd_to_mask:
                rows = rows[: len(words)]
            rows_scored, masked = rows_scored + len(rows), masked + len(words)
            states, apply = teacher_pass(teacher, inputs)
            log_p = _log_softmax(states[-1], rows, head, temperature)  # N, V
            p = log_p.exp()
            negative_entropy = torch.linalg.vecdot(p, log_p)  # N
            del log_p
            for layers, hidden in states_of_maps(states, apply, student_layers):
                log_q = _log_softmax(hidden, rows, head, temperature)  # N, V
                kl = (negative_entropy - torch.linalg.vecdot(p, log_q)).sum().item()
                hits = (log_q[: len(words)].argmax(-1) == words).sum().item()
                kl_before, hits_before = sums.get(layers, (0.0, 0))
                sums[layers] = kl_before + kl, hits_before + hits
                bar.update()
        bar.close()
    return {
        layers: {
            "soft_target": temperature**2 * kl / max(rows_scored, 1),
            "masked_accuracy": hits / max(masked, 1),
        }
        for layers, (kl, hits) in sums.items()
    }


def _log_softmax(hidden: Tensor, rows: Tensor, head: Head, temperature: float) -> Tensor:
    """Return the log-softmax at T of the selected tokens of [B, L, H]: [N, V]."""
    selected = hidden.flatten(0, 1).index_select(0, rows)
    logits = head.decoder(head.transform(selected))
    return F.log_softmax(at_least_float32(logits) / temperature, dim=-1)
