"""The tiny teacher's recipe at toy size, from an encoder to the finished folder; the probe."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import teacher
import torch
import world
from polarity import polarity_probe
from safetensors.torch import load_file
from toy_models import small_bert
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizerFast,
    pipeline,
)
from wordpieces import WORDPIECES
from words import HELD_OUT_POLARITY, POLARITY

from distilkit import distillation
from distilkit.run import Run


@pytest.fixture
def encoder(tmp_path):
    """An encoder whose vocabulary is the tiny world's words and some more."""
    words = [*WORDPIECES, "reef", "comet"]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    torch.manual_seed(0)
    shape = {"hidden_size": 36, "num_attention_heads": 4, "intermediate_size": 32}
    shape |= {"num_hidden_layers": 4, "max_position_embeddings": 300}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.mark.slow
def test_from_an_encoder_to_a_shipped_folder(home, encoder, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"a comet number {i} and the reef\n" for i in range(250)))
    size = len(WORDPIECES) + 1
    short = {"steps": 3, "batch_size": 4, "micro_batch_size": 4, "eval_interval": None}
    patches = {
        "VOCABULARY": size,
        "SHAPE": {**teacher.SHAPE, "hidden_size": 24},
    }
    monkeypatch.setattr(world, "TEACHER_DOCUMENTS", 40)
    for name, value in patches.items():
        monkeypatch.setattr(teacher, name, value)
    for function in (teacher.encoder_as_teacher, teacher.small_teacher):
        default = function.__kwdefaults__
        monkeypatch.setitem(default, "training", replace(default["training"], **short))

    arguments = ["teacher.py", str(encoder), "--text", str(text), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    teacher.main()
    assert "half precision" in capsys.readouterr().out
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert not any("projection" in name for name in weights)
    segments = weights["bert.embeddings.token_type_embeddings.weight"]
    assert torch.equal(segments[0], segments[1])
    model = BertForMaskedLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert model.config.hidden_size == 24
    assert model.config.vocab_size == size
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    assert ("reef" in vocabulary) != ("comet" in vocabulary)  # one more than the world's words
    fill = pipeline("fill-mask", str(tmp_path / "out"), device="cpu")
    assert len(fill("the cook made some [MASK] .")) == 5

    of_encoder, small = (Run(home / "runs" / name) for name in ("teacher-of-encoder", "teacher"))
    held = of_encoder.config()["loss_config"]  # masked words, each hidden state held where it was
    assert (held["kd_weight"], held["mlm_weight"]) == (0, 1)
    assert held["cosine_weight"] > 0
    assert held["cosine_layers"] == [[i, i] for i in range(5)]
    assert all(0 < row["cosine"] < 0.2 for row in of_encoder.rows())  # of dropout alone, so soon
    assert small.config()["loss_config"]["cosine_layers"] == [
        [0, 0],
        [2, 1],
        [3, 2],
        [4, 3],
        [6, 4],
    ]
    assert "AttentionTransfer(weight=20.0" in small.config()["extra_loss"]
    assert model.config.num_attention_heads == 4  # as many as the large one's
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == teacher.LENGTH
    monkeypatch.setattr(distillation, "train", None)  # finished: nothing is trained again
    teacher.main()


def test_sentences_are_cut_at_their_ends():
    texts = ["One. Two, 3.5 of it!  And three?", "no end", 'He said "no." Then left.']
    got = teacher.sentences(texts)
    assert got == ["One.", "Two, 3.5 of it!", "And three?", "no end", 'He said "no." Then left.']


def test_one_document_in_so_many_is_held_out(home, tmp_path, monkeypatch):
    monkeypatch.setattr(world, "TEACHER_DOCUMENTS", 10)
    (tmp_path / "text.txt").write_text("".join(f"document {i}\n" for i in range(1000)))
    texts, held_out = teacher.teacher_texts([tmp_path / "text.txt"])
    own = [text for text in held_out if text.startswith("document")]
    assert own == [f"document {i}" for i in (199, 399, 599, 799, 999)]
    assert len([text for text in texts if text.startswith("document")]) == 995
    assert not set(texts) & set(held_out)


@pytest.mark.slow
def test_probe_reads_what_the_states_hold_and_nothing_else():
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDPIECES)})
    model = small_bert(1, vocab_size=len(tokenizer))
    blind = polarity_probe(model, tokenizer)
    assert 0.2 < blind < 0.8  # random embeddings: held-out words are anyone's guess
    embeddings = model.bert.embeddings.word_embeddings.weight
    direction = torch.randn(embeddings.shape[1])
    with torch.no_grad():
        for label, words in enumerate(POLARITY):
            for word in words:
                row = tokenizer.convert_tokens_to_ids(word)
                embeddings[row] += (2 * label - 1) * 2 * direction
    assert polarity_probe(model, tokenizer) > 0.95


def test_probe_is_asked_about_held_out_words_only():
    held_out = set(HELD_OUT_POLARITY)
    for words in POLARITY:
        assert len(held_out & set(words)) >= 10
        assert len(set(words) - held_out) >= 10
