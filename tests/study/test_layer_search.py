"""All layer maps at once: the numbers of the real students, each layer applied once a prefix."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from toy_models import shake, small_bert, teacher_and_text
from transformers import (
    BertModel,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    MPNetConfig,
    MPNetForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from distilkit.cli.main import main
from distilkit.config import RESULTS, SCALES, LossConfig
from distilkit.data import sources
from distilkit.data.packing import pack
from distilkit.data.sources import load_blocks, load_teacher
from distilkit.distillation import losses_on
from distilkit.families import mlm_head
from distilkit.losses import soft_target_loss
from distilkit.masking import MaskedBlocks
from distilkit.student import (
    DISTILBERT_LAYERS,
    default_layers,
    named_layer_maps,
    student_from_teacher,
)
from distilkit.study import layer_search
from distilkit.study.layer_search import (
    probe_of,
    score_layer_maps,
)

LENGTH = 24


def small_roberta(layers: int) -> RobertaForMaskedLM:
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = RobertaConfig(
        vocab_size=205,
        num_hidden_layers=layers,
        max_position_embeddings=LENGTH + 1,
        type_vocab_size=1,
        pad_token_id=0,  # the fixture tokenizer's
        **shape,
    )
    model = RobertaForMaskedLM(config).eval()
    shake(model)
    return model


def small_mpnet(layers: int) -> MPNetForMaskedLM:
    torch.manual_seed(4)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = MPNetConfig(
        vocab_size=205, num_hidden_layers=layers, max_position_embeddings=66, **shape
    )
    model = MPNetForMaskedLM(config).eval()
    shake(model)
    return model


def small_modernbert() -> ModernBertForMaskedLM:
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    return ModernBertForMaskedLM(
        ModernBertConfig(vocab_size=205, pad_token_id=0, num_hidden_layers=2, **shape)
    )


def small_distilbert(layers: int) -> DistilBertForMaskedLM:
    return student_from_teacher(small_bert(layers), range(layers))


TEACHERS = {
    "bert": small_bert,
    "distilbert": small_distilbert,
    "mpnet": small_mpnet,
    "roberta": small_roberta,
}


def guessing(model, ids=range(5, 11)):
    """The words of `blocks` made likely, so that some masked words are found."""
    with torch.no_grad():
        mlm_head(model).decoder.bias[list(ids)] += 3
    return model


@pytest.fixture(scope="module")
def blocks(tokenizer) -> MaskedBlocks:
    """11 blocks of six words, the last of them padded."""
    words = np.random.default_rng(0).integers(0, 6, 240)
    packed = pack([" ".join(f"w{i}" for i in words)], tokenizer, LENGTH)
    assert len(packed) == 11
    assert (packed[-1] == tokenizer.pad_token_id).any()
    return MaskedBlocks(packed, tokenizer, seed=5)


def one_by_one(teacher, layers, blocks, loss_config) -> tuple[float, float]:
    """T²·KL and masked accuracy of a student that is made, from the logits of its own forward."""
    ids, masked, originals = blocks.mask(0, np.arange(len(blocks)))
    real = originals != blocks.pad_id
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(real.astype(np.int64)),
    }
    with torch.no_grad():
        ours = student_from_teacher(teacher, layers)(**inputs).logits  # B, L, V
        theirs = teacher(**inputs).logits
    rows = torch.from_numpy(real if not loss_config.restrict_kd_to_mask else masked)
    soft = soft_target_loss(ours[rows], theirs[rows], loss_config.temperature)
    return soft.item(), (ours.argmax(-1).numpy() == originals)[masked].mean()


@pytest.mark.parametrize("tokens", ["all", "masked"])
@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.slow
def test_every_map_scores_as_the_student_made_of_it(kind, tokens, blocks, monkeypatch):
    monkeypatch.setattr(layer_search, "BATCH_TOKENS", 4 * LENGTH)  # several batches, one ragged
    teacher = guessing(TEACHERS[kind](5)).double()
    loss_config = LossConfig(temperature=3.0, restrict_kd_to_mask=tokens == "masked")
    scores = score_layer_maps(teacher, blocks, 3, loss_config=loss_config)
    assert sorted(scores.layers) == list(combinations(range(5), 3))
    for row in scores.itertuples():
        soft, accuracy = one_by_one(teacher, row.layers, blocks, loss_config)
        assert row.soft_target == pytest.approx(soft, rel=1e-10, abs=1e-12)
        assert row.masked_accuracy == pytest.approx(accuracy, abs=1e-12)
    assert scores.masked_accuracy.nunique() > 2
    assert scores.soft_target.is_monotonic_increasing
    assert scores["rank"].tolist() == list(range(1, 11))


def test_the_score_is_what_the_training_logs(blocks):
    teacher, loss_config = small_bert(4), LossConfig(temperature=2.0)
    scores = score_layer_maps(teacher, blocks, loss_config=loss_config).set_index("layers")
    logged = losses_on(student_from_teacher(teacher), blocks, loss_config, teacher)
    assert scores.loc[[default_layers(4)], "soft_target"].item() == pytest.approx(
        logged["soft_target"], rel=1e-5
    )


def test_all_layers_are_the_teacher(blocks):
    teacher = guessing(small_bert(3)).double()
    (row,) = score_layer_maps(teacher, blocks, 3).itertuples()
    assert row.layers == (0, 1, 2)
    assert row.soft_target == pytest.approx(0, abs=1e-12)
    assert row.masked_accuracy == one_by_one(teacher, range(3), blocks, LossConfig())[1] > 0


def test_default_is_the_papers_objective_and_half_the_layers(blocks):
    teacher = small_bert(4)
    given = score_layer_maps(teacher, blocks, 2, loss_config=LossConfig())
    assert score_layer_maps(teacher, blocks).equals(given)
    assert given.iloc[0].soft_target != score_layer_maps(
        teacher, blocks, loss_config=LossConfig(temperature=1.0)
    ).iloc[0].soft_target  # fmt: skip


@pytest.mark.parametrize(("depth", "k"), [(6, 3), (5, 2), (4, 4), (3, 1)])
def test_each_prefix_is_computed_once_and_the_teachers_own_not_again(depth, k, blocks, monkeypatch):
    monkeypatch.setattr(layer_search, "BATCH_TOKENS", 6 * LENGTH)
    teacher, calls = small_bert(depth), []
    for layer in teacher.bert.encoder.layer:
        layer.register_forward_hook(lambda *_: calls.append(1))
    score_layer_maps(teacher, blocks, k)
    assert len(calls) == 2 * (depth + comb(depth + 1, k) - 1 - k)  # two batches


def test_nothing_of_the_callers_changes(blocks):
    teacher = small_bert(4, hidden_dropout_prob=0.5).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    state = torch.get_rng_state()
    first = score_layer_maps(teacher, blocks)
    assert torch.equal(state, torch.get_rng_state())
    assert teacher.training
    assert all(module.training for module in teacher.modules())
    assert not any(layer._forward_pre_hooks for layer in teacher.bert.encoder.layer)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert score_layer_maps(teacher, blocks).equals(first)  # no dropout was drawn


def test_the_hook_goes_when_the_teacher_fails(blocks, monkeypatch):
    teacher = small_bert(3)
    monkeypatch.setattr(teacher.bert.encoder.layer[1], "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_layer_maps(teacher, blocks)
    assert not teacher.bert.encoder.layer[0]._forward_pre_hooks


def test_names():
    assert named_layer_maps(12) == {
        "the authors'": DISTILBERT_LAYERS,
        "every second from 0": (0, 2, 4, 6, 8, 10),
        "every second from 1": (1, 3, 5, 7, 9, 11),
        "first": (0, 1, 2, 3, 4, 5),
        "last": (6, 7, 8, 9, 10, 11),
    }
    assert named_layer_maps(12, 4) == {
        "default": default_layers(12, 4),
        "first": (0, 1, 2, 3),
        "last": (8, 9, 10, 11),
    }
    assert list(named_layer_maps(7)) == [
        "default",
        "every second from 0",
        "every second from 1",
        "first",
        "last",
    ]
    assert named_layer_maps(5)["every second from 0"] == (0, 2)
    assert list(named_layer_maps(7, 4)) == ["default", "every second from 0", "first", "last"]


def test_a_map_has_all_of_its_names(blocks):
    names = score_layer_maps(small_bert(2), blocks).set_index("layers").name
    assert names.to_dict() == {
        (0,): "default, every second from 0, first",
        (1,): "every second from 1, last",
    }


def test_ranks_say_where_the_named_maps_stand(blocks):
    scores = score_layer_maps(small_bert(6), blocks)
    assert len(scores) == comb(6, 3)
    named = scores[scores.name != ""].set_index("name")
    for name, layers in named_layer_maps(6).items():
        row = named.loc[name]
        assert row.layers == layers
        assert row["rank"] == 1 + (scores.soft_target < row.soft_target).sum()


def test_probe_is_the_beginning_of_the_text_whatever_the_seed(blocks, tokenizer):
    probe = probe_of(blocks, tokens=3 * LENGTH + 5)
    assert len(probe) == 3
    np.testing.assert_array_equal(probe.blocks, blocks.blocks[:3])
    other = probe_of(MaskedBlocks(blocks.blocks, tokenizer, seed=6), tokens=3 * LENGTH)
    assert torch.equal(
        probe.batch(0, np.arange(3))["input_ids"], other.batch(0, np.arange(3))["input_ids"]
    )
    assert len(probe_of(blocks, tokens=1)) == 1
    assert len(probe_of(blocks)) == len(blocks)


@pytest.mark.parametrize(
    ("teacher", "student_layers", "error", "says"),
    [
        (lambda: small_bert(4), 5, ValueError, "a teacher of 4 layers gives 1 to 4"),
        (lambda: small_bert(4), 0, ValueError, "student_layers = 0"),
        (lambda: small_bert(2, max_position_embeddings=16), 1, ValueError, "24 tokens, .* 16 pos"),
        (lambda: BertModel(small_bert(2).config), 1, TypeError, "AutoModelForMaskedLM"),
        (
            lambda: small_bert(2, vocab_size=100),
            1,
            ValueError,
            "205 entries, the .* 100",
        ),
        (lambda: small_bert(2, layer_norm_eps=1e-5), 1, ValueError, "layer_norm_eps is 1e-05"),
        (small_modernbert, 1, TypeError, "ModernBert"),
    ],
)
def test_what_cannot_be_scored_is_refused(teacher, student_layers, error, says, blocks):
    with pytest.raises(error, match=says):
        score_layer_maps(teacher(), blocks, student_layers)


@pytest.fixture
def toy(tmp_path, tokenizer, texts, home, monkeypatch):
    teacher_and_text(tmp_path, tokenizer, texts)
    small_bert(4).save_pretrained(tmp_path / "teacher")
    files = {"teacher": str(tmp_path / "teacher"), "text": str(tmp_path / "text.txt")}
    monkeypatch.setitem(SCALES, "tiny", replace(SCALES["tiny"], length=16, **files))


def test_from_the_command_line(toy, capsys):
    assert main(["layers", "--student-layers", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(f"({layer},)" in printed for layer in range(4))
    assert "masked_accuracy" in printed


def test_a_wrong_number_of_layers_is_refused_before_the_text_is_read(toy, monkeypatch, capsys):
    monkeypatch.setattr(sources, "load_blocks", None)
    assert main(["layers", "--student-layers", "5"]) == 2
    assert "a teacher of 4 layers gives 1 to 4" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_table_is_of_the_shipped_teacher(home):
    tiny, table = SCALES["tiny"], pd.read_csv(RESULTS / "layer_maps.csv")
    teacher, tokenizer = load_teacher(tiny)
    blocks, _ = load_blocks(tiny, tokenizer)
    scores = score_layer_maps(teacher, probe_of(blocks), loss_config=tiny.loss_config)
    scores = scores.set_index(scores.layers.map(lambda layers: "-".join(map(str, layers))))
    assert set(table.layers) == set(scores.index)
    for name in ("soft_target", "masked_accuracy"):
        cut = scores.loc[table.layers, name]
        np.testing.assert_allclose(table[f"{name}_cut"], cut, atol=4e-3)  # another machine's digits
