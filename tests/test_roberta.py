"""The whole path with a RoBERTa: byte-level pieces, <s> and </s>, positions that start at 2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from toy_models import shake
from transformers import (
    AutoTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
    pipeline,
)
from wordpieces import tiny_words

from distilkit import classifier, distil, finetune, load_blocks, load_teacher
from distilkit.config import SCALES
from distilkit.data.packing import pack
from distilkit.data.sources import load_task
from distilkit.finetuning import fine_tuned_on
from distilkit.masking import MaskedBlocks
from distilkit.student import student_from_teacher

LENGTH = 32


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A folder with a small RoBERTa and its tokenizer, pieces of the tiny world's words."""
    folder = tmp_path_factory.mktemp("roberta")
    words = folder / "words.txt"
    words.write_text(" ".join(tiny_words()))
    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train(str(words), vocab_size=700, special_tokens=special, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    torch.manual_seed(0)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=130,  # for 128 tokens: counting starts behind the padding's 1
            type_vocab_size=1,
        )
    )
    shake(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_blocks_are_made_of_its_own_special_tokens(roberta):
    tokenizer = AutoTokenizer.from_pretrained(roberta)
    texts = ["the cook made some bread", "a dog sat", "Ünknown wörds, too"]
    (block,) = pack(texts, tokenizer, 64)
    real = block[block != tokenizer.pad_token_id]
    by_hand = [tokenizer.bos_token_id]
    for text in texts:
        by_hand += tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    assert real.tolist() == by_hand
    masked = MaskedBlocks(block[None].repeat(200, 0), tokenizer, seed=0)
    batch = masked.batch(0, np.arange(200))
    shown = batch["input_ids"].numpy()
    hidden = shown == tokenizer.mask_token_id
    assert hidden.any()
    assert not np.isin(block[None].repeat(200, 0)[hidden], tokenizer.all_special_ids).any()
    assert (shown[:, 0] == tokenizer.bos_token_id).all()


@pytest.mark.slow
def test_from_teacher_to_fine_tuned_student(home, roberta):
    scale = replace(
        SCALES["tiny"],
        teacher=str(roberta),
        length=LENGTH,
        distillation=replace(
            SCALES["tiny"].distillation, steps=6, batch_size=4, micro_batch_size=2
        ),
        finetuning=replace(SCALES["tiny"].finetuning, steps=3),
    )
    teacher, tokenizer = load_teacher(scale)
    student = student_from_teacher(teacher)
    assert (type(student), student.config.num_hidden_layers) == (RobertaForMaskedLM, 2)
    blocks, validation = load_blocks(scale, tokenizer)
    run = distil(student, teacher, blocks, scale.distillation, name="half", validation=validation)
    terms = run.rows()[0]
    assert all(np.isfinite(terms[name]) for name in ("soft_target", "mlm", "cosine"))
    fill = pipeline("fill-mask", str(run.model), device="cpu")
    assert len(fill("the cook made some <mask> .")) == 5

    data = load_task(scale, "rte")
    at_work = classifier(roberta, "rte", 1)
    taught = finetune(at_work, tokenizer, "rte", data, scale.finetuning, name="of-teacher")
    model = classifier(run.model, "rte", 1)
    assert model.config.num_hidden_layers == 2
    result = finetune(
        model,
        AutoTokenizer.from_pretrained(run.model),
        "rte",
        data,
        scale.finetuning,
        name="of-student",
        teacher=fine_tuned_on(taught.model, "rte"),
    ).result()
    assert 0 <= result["scores"]["validation"]["accuracy"] <= 1
