"""How the small teacher in ``data/tiny/teacher`` was made; a reader's own is made the same way.

A BERT of a few million parameters learns next to nothing of English from masked words alone in the
hours that a laptop has: it stays for long on the plateau of word frequencies. It learns quickly
from another model, whose answers at every token say far more than the one right word (Turc et al.
2019, arXiv 1908.08962; Jiao et al. 2020, arXiv 1909.10351). So two steps, both by the kit's loop:

1. A pretrained encoder gets a smaller vocabulary and a masked-language-model head, and all of it is
   trained as such on the text.
2. A small BERT, from random weights, is distilled from it on the same text: soft targets at all
   tokens, the masked words themselves, and hidden states through learned projections.

Both are runs like any other: killed, they go on where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM

from distilkit.config import Objective, Training
from distilkit.corpus import MaskedBlocks, pack
from distilkit.encoder import commonest_pieces, cut_vocabulary, masked_lm_from_encoder
from distilkit.pretraining import distil, pretrain
from distilkit.run import Run

VOCABULARY = 5000
LENGTH = 128
SHAPE = {
    "hidden_size": 192,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "max_position_embeddings": 128,
    "initializer_range": 0.03,  # BERT's 0.02 is made for 768
    "hidden_dropout_prob": 0.0,  # what never sees a text twice cannot overfit
    "attention_probs_dropout_prob": 0.0,
}
FIRST = Training(
    steps=2200,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=3e-4,
    eps=1e-8,
    weight_decay=0.01,
    max_grad_norm=1.0,
    seed=1,
    precision="bf16",
    log_every=20,
    validate_every=550,
    checkpoint_every=200,
)
SECOND = Training(
    steps=8000,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=1e-3,
    eps=1e-8,
    weight_decay=0.01,
    seed=1,
    precision="bf16",
    log_every=20,
    validate_every=500,
    checkpoint_every=250,
)
# embeddings, middle and top, as far up in both
OBJECTIVE = Objective(cosine=5.0, cosine_layers=((0, 0), (4, 3), (8, 6)))


def train_small_teacher(
    encoder: str | Path,
    texts: Sequence[str],
    held_out: Sequence[str],
    *,
    always: Sequence[str] = (),
    name: str = "small-teacher",
    first: Training = FIRST,
    second: Training = SECOND,
) -> tuple[Run, Run]:
    """Both steps; finished ones are not done again.

    Args:
        encoder: folder or Hub id of a BertModel with its WordPiece tokenizer.
        texts, held_out: documents to learn from, and to measure on.
        always: texts whose word pieces all stay in the vocabulary.
        name: of the runs: ``<name>-of-encoder`` and ``<name>``.
        first, second: the two trainings.

    Returns:
        The runs of step 1 and step 2; ``run.model`` holds model and tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    pieces = commonest_pieces(texts, tokenizer, VOCABULARY, always=always)
    large = masked_lm_from_encoder(
        AutoModel.from_pretrained(encoder, dtype=torch.float32), first.seed
    )
    large, tokenizer = cut_vocabulary(large, tokenizer, pieces)
    blocks = MaskedBlocks(pack(texts, tokenizer, LENGTH), tokenizer, seed=first.seed)
    validation = MaskedBlocks(
        pack(held_out, tokenizer, LENGTH), tokenizer, seed=0, weights=blocks.weights
    )
    one = pretrain(large, blocks, first, name=f"{name}-of-encoder", validation=validation)
    large = BertForMaskedLM.from_pretrained(one.model, dtype=torch.float32).eval()
    with torch.random.fork_rng():
        torch.manual_seed(second.seed)
        small = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SHAPE))
    two = distil(
        small, large, blocks, second, name=name, objective=OBJECTIVE, validation=validation
    )
    return one, two
