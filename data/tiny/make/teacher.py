"""Make a small teacher from a pretrained encoder: the recipe of `data/tiny/teacher`.

    python data/tiny/make/teacher.py ENCODER --text FILE [FILE ...] --out FOLDER

From masked words alone, a BERT of a few million parameters learns next to nothing of English in the
hours that a laptop has. It learns quickly from another model, whose answers at every token say more
than the one right word (Turc et al. 2019, arXiv 1908.08962; Jiao et al. 2020, arXiv 1909.10351). So
there are two steps, both by the kit's own loop:

1. A pretrained encoder gets a smaller vocabulary and a masked-language-model head. All of it is
   trained as such on the text, held to the hidden states that it had.
2. A small BERT, from random weights, is distilled from it on the same text: soft targets at all
   tokens, masked words, hidden states through learned projections, and attention. The text is cut
   into sentences, each closed by [SEP] as in a task with two of them.

Both are runs like any other: an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import stories
import torch
import world
from attention_transfer import AttentionTransfer
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerBase,
)
from vocabulary import commonest_pieces, cut_vocabulary

from distilkit.config import LossConfig, TrainingConfig
from distilkit.data.documents import read_file
from distilkit.data.packing import pack
from distilkit.distillation import distil
from distilkit.masking import MaskedBlocks
from distilkit.models.heads import masked_lm_from_encoder, train_head
from distilkit.processes import seeded
from distilkit.run import Run

VOCABULARY = 5000
LENGTH = 64  # tokens in a block, and positions of the small model: it ships none untrained
SHAPE = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "intermediate_size": 768,
    "max_position_embeddings": LENGTH,
    "initializer_range": 0.03,  # BERT's 0.02 is made for 768
    "hidden_dropout_prob": 0.0,  # what hardly sees a text twice cannot overfit
    "attention_probs_dropout_prob": 0.0,
}
OF_ENCODER = TrainingConfig(
    steps=1500,
    batch_size=32,
    micro_batch_size=32,
    learning_rate=3e-4,
    eps=1e-8,
    weight_decay=0.01,
    max_grad_norm=1.0,
    seed=1,
    precision="bf16",
    log_interval=20,
    eval_interval=500,
    checkpoint_interval=250,
)
SMALL = TrainingConfig(
    steps=12_000,
    batch_size=32,
    micro_batch_size=32,
    learning_rate=1.5e-3,
    eps=1e-8,
    weight_decay=0.01,
    seed=1,
    precision="bf16",
    log_interval=20,
    eval_interval=500,
    checkpoint_interval=250,
)
HELD_OUT = 200


def teacher_texts(files: Sequence[str | Path]) -> tuple[list[str], list[str]]:
    """Return training and held-out documents: of the files, and of the grammar's text.

    One document in :data:`HELD_OUT` of each file is held out.
    """
    training, held_out = [], []
    for file in files:
        documents = list(read_file(Path(file)))
        training += [text for i, text in enumerate(documents) if (i + 1) % HELD_OUT]
        held_out += documents[HELD_OUT - 1 :: HELD_OUT]
    written = stories.texts(world.TEACHER_SEED, world.TEACHER_DOCUMENTS)  # not the students' seed
    return training + written["train"], held_out + written["validation"][::4]


def encoder_as_teacher(
    encoder: str | Path,
    texts: Sequence[str],
    held_out: Sequence[str],
    *,
    name: str = "teacher-of-encoder",
    training: TrainingConfig = OF_ENCODER,
) -> Run:
    """Step 1: turn a pretrained encoder into a masked-language model of a smaller vocabulary.

    Args:
        encoder: folder or Hub id of a BertModel with its WordPiece tokenizer.
        texts, held_out: documents to learn from, and to measure on.
        name: of the run.
        training: how long, in which batches.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    pieces = commonest_pieces(texts, tokenizer, VOCABULARY, always=[" ".join(world.vocabulary())])
    model = masked_lm_from_encoder(
        AutoModel.from_pretrained(encoder, dtype=torch.float32), training.seed
    )
    model, tokenizer = cut_vocabulary(model, tokenizer, pieces)
    blocks, validation = _blocks(texts, held_out, tokenizer, training.seed)
    return train_head(model, blocks, training, name=name, validation=validation)


def small_teacher(
    teacher: str | Path,
    texts: Sequence[str],
    held_out: Sequence[str],
    *,
    name: str = "teacher",
    training: TrainingConfig = SMALL,
) -> Run:
    """Step 2: distil a small BERT from random weights.

    Args:
        teacher: folder of a BertForMaskedLM and its tokenizer, as step 1 leaves them.
        texts, held_out, name, training: as for :func:`encoder_as_teacher`.
    """
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    large = BertForMaskedLM.from_pretrained(teacher, dtype=torch.float32).eval()
    with seeded(training.seed):
        heads = large.config.num_attention_heads  # compared one by one, so as many, and narrower
        shape = {"vocab_size": len(tokenizer), "num_attention_heads": heads, **SHAPE}
        small = BertForMaskedLM(BertConfig(**shape))
    tokenizer.model_max_length = small.config.max_position_embeddings  # the large one's was another
    depth, large_depth = small.config.num_hidden_layers, large.config.num_hidden_layers
    # every hidden state of the large one has a partner as far up in the small one
    pairs = tuple((round(layer * depth / large_depth), layer) for layer in range(large_depth + 1))
    # states and attention weigh as much as the soft targets: what the large one knows of comparing
    # sentences shows in them, and hardly in the words it expects
    loss_config = LossConfig(mlm_weight=1.0, cosine_weight=20.0, cosine_layers=pairs)
    blocks, validation = _blocks(sentences(texts), sentences(held_out), tokenizer, training.seed)
    return distil(
        small,
        large,
        blocks,
        training,
        name=name,
        loss_config=loss_config,
        validation=validation,
        extra_loss=AttentionTransfer(20.0, pairs),
    )


def sentences(texts: Iterable[str]) -> list[str]:
    """Cut the texts where space follows a full stop, ! or ?."""
    return [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text) if part]


def ship(model: str | Path, folder: str | Path) -> Path:
    """Save model and tokenizer in half precision: half the bytes, no score lost.

    No text of the pretraining had a second segment, so its vector is still random, and as large as
    a word's: fine-tuned on pairs, the second sentence would look like another language. It starts
    as a copy of the first one's.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    small = BertForMaskedLM.from_pretrained(model, dtype=torch.float16)
    segments = small.bert.embeddings.token_type_embeddings.weight
    with torch.no_grad():
        segments[1:] = segments[0]
    small.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _blocks(
    texts: Sequence[str], held_out: Sequence[str], tokenizer: PreTrainedTokenizerBase, seed: int
) -> tuple[MaskedBlocks, MaskedBlocks]:
    blocks = MaskedBlocks(pack(texts, tokenizer, LENGTH), tokenizer, seed=seed)
    validation = MaskedBlocks(
        pack(held_out, tokenizer, LENGTH), tokenizer, seed=0, weights=blocks.weights
    )
    return blocks, validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="Hub id or folder of a BertModel and its tokenizer")
    parser.add_argument(
        "--text", nargs="+", required=True, help=".txt, .jsonl or .parquet files to learn from"
    )
    parser.add_argument("--out", required=True, help="folder for the finished teacher")
    parser.add_argument("--name", default="teacher", help="of the run folders")
    options = parser.parse_args()
    training, held_out = teacher_texts(options.text)
    name = options.name
    large = encoder_as_teacher(options.encoder, training, held_out, name=f"{name}-of-encoder")
    small = small_teacher(large.model, training, held_out, name=name)
    print(f"{ship(small.model, options.out)}: model and tokenizer, in half precision")


if __name__ == "__main__":
    main()
