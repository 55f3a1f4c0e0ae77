"""Pruning: the smaller model computes what the whole one does without those heads and units."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
import transformers
from processes import Died, dying_at
from safetensors.torch import load_file, save_file
from torch import nn
from toy_models import assert_same, shake, small_bert, zeroed
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
)

from distilkit.compress.importance import head_and_unit_importance, least_important
from distilkit.config import FinetuneLossConfig, LossConfig, TrainingConfig
from distilkit.data.packing import pack
from distilkit.distillation import LanguageModelLoss, distil, losses_on
from distilkit.finetuning import classifier, evaluate_task, finetune
from distilkit.masking import MaskedBlocks
from distilkit.measure.latency import time_passes
from distilkit.measure.size import bytes_on_disk, parameter_count
from distilkit.models.heads import fine_tuned
from distilkit.models.loading import load_model
from distilkit.models.pruning import prune, read_pruned
from distilkit.run import Run
from distilkit.student import random_student_like, student_from_teacher

HEADS, HIDDEN, UNITS, LAYERS = 4, 32, 20, 3
KINDS = [
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForQuestionAnswering,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForQuestionAnswering,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForQuestionAnswering,
]
CUTS = {
    "some": ({0: [1, 3], 2: [0, 1, 2]}, {0: [0, 5, 19], 1: list(range(1, 20))}),
    "heads only": ({1: [2]}, {}),
    "units only": ({}, {2: [7]}),
    "nothing": ({}, {}),
    "all heads of a layer": ({0: [0, 1, 2, 3], 1: [1]}, {}),
    "all units of a layer": ({}, {1: list(range(UNITS)), 2: [3, 4]}),
    "all of everything": (
        {layer: list(range(HEADS)) for layer in range(LAYERS)},
        {layer: list(range(UNITS)) for layer in range(LAYERS)},
    ),
}


def whole(kind: type, **more) -> nn.Module:
    """A model of whatever class, every weight shaken."""
    shape = {"vocab_size": 60, "max_position_embeddings": 24}
    if kind.config_class is DistilBertConfig:
        shape |= {"dim": HIDDEN, "n_heads": HEADS, "hidden_dim": UNITS, "n_layers": LAYERS}
    else:
        shape |= {"hidden_size": HIDDEN, "num_attention_heads": HEADS}
        shape |= {"intermediate_size": UNITS, "num_hidden_layers": LAYERS}
    torch.manual_seed(0)
    model = kind(kind.config_class(**shape | more)).eval()
    shake(model)
    return model


def ragged() -> dict[str, torch.Tensor]:
    """Three texts of 9, 5 and 2 tokens."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long()
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask}


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        out = model(**ragged())
    return torch.stack([out.start_logits, out.end_logits]) if "logits" not in out else out.logits


def copy_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


# ---- the same numbers


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_pruned_model_computes_what_the_whole_one_does_with_zeros(kind, cut):
    model = whole(kind).double()
    expected = outputs(zeroed(model, *CUTS[cut]))
    pruned = prune(model, *CUTS[cut])
    assert type(pruned) is kind
    assert torch.allclose(outputs(pruned), expected, rtol=0, atol=1e-10)
    assert torch.equal(outputs(model), expected) == (cut == "nothing")


@pytest.mark.parametrize("kind", [BertForMaskedLM, DistilBertForMaskedLM])
def test_the_same_with_eager_attention_and_its_maps_are_those_of_the_heads_left(kind):
    model = whole(kind, attn_implementation="eager").double()
    heads, units = CUTS["some"]
    pruned = prune(model, heads, units)
    expected = outputs(zeroed(model, heads, units))
    assert torch.allclose(outputs(pruned), expected, rtol=0, atol=1e-10)
    with torch.no_grad():
        ours = pruned(**ragged(), output_attentions=True).attentions
        theirs = model(**ragged(), output_attentions=True).attentions
    assert [maps.shape[1] for maps in ours] == [2, 4, 1]
    assert torch.allclose(ours[0], theirs[0][:, [0, 2]], rtol=0, atol=1e-12)  # first layer: as was


def test_gradients_are_those_of_the_parts_that_are_left():
    model = whole(BertForMaskedLM).double()
    heads, units = CUTS["some"]
    pruned, reference = prune(model, heads, units), zeroed(model, heads, units)
    for each in (pruned, reference):
        each(**ragged()).logits.square().mean().backward()
    layers = [m.bert.encoder.layer[0] for m in (pruned, reference)]
    ours, theirs = (layer.attention.self.value.weight.grad for layer in layers)
    kept = [*range(8), *range(16, 24)]  # heads 0 and 2, of 8 rows each
    assert torch.allclose(ours, theirs[kept], rtol=0, atol=1e-12)
    ours, theirs = (layer.output.dense.weight.grad for layer in layers)
    assert torch.allclose(
        ours, theirs[:, [i for i in range(20) if i not in (0, 5, 19)]], atol=1e-12
    )


def test_pruning_twice_is_pruning_once():
    model = whole(DistilBertForMaskedLM)
    twice = prune(
        prune(model, {0: [1]}, {2: [0, 4]}), {0: [1], 1: [0]}, {2: [3]}
    )  # of what is left
    once = prune(model, {0: [1, 2], 1: [0]}, {2: [0, 4, 5]})
    assert_same(twice.state_dict(), once.state_dict())
    assert twice.config.pruned == once.config.pruned == {"heads": [2, 3, 4], "units": [20, 20, 17]}


@pytest.mark.parametrize("kind", [BertForSequenceClassification, DistilBertForMaskedLM])
def test_the_model_stays_as_it_was_and_shares_nothing(kind):
    model = whole(kind)
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layer.0." not in name)
    before, config = copy_of(model.state_dict()), model.config.to_dict()
    random = torch.get_rng_state()
    pruned = prune(model, *CUTS["some"])
    assert torch.equal(torch.get_rng_state(), random)
    assert pruned.training
    frozen = {name: not p.requires_grad for name, p in model.named_parameters()}
    assert {name: not p.requires_grad for name, p in pruned.named_parameters()} == frozen
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    assert_same(model.state_dict(), before)
    assert model.config.to_dict() == config
    assert prune(model.double(), {0: [1]}).dtype == torch.float64


def test_every_matrix_and_number_says_what_is_left():
    pruned = prune(whole(BertForMaskedLM), *CUTS["some"])
    attention = pruned.bert.encoder.layer[2].attention
    assert attention.self.query.weight.shape == (8, 32)
    assert (attention.self.query.out_features, attention.output.dense.in_features) == (8, 8)
    assert pruned.cls.predictions.decoder.weight is pruned.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize(
    ("heads", "units", "what"),
    [
        ({3: [0]}, {}, "heads: no layer 3; the model's 3 layers are numbered 0 to 2"),
        ({-1: [0]}, {}, "no layer -1"),
        ({0: [4]}, {}, "heads: layer 0 has 4 of them, numbered from 0; there is no number 4"),
        ({0: [-1]}, {}, "no number -1"),
        ({}, {1: [20]}, "units: layer 1 has 20 of them"),
        ({0: [1, 1]}, {}, "layer 0 names one twice"),
        ({"0": [1]}, {}, r"'0' is no whole number; give {layer: \[heads\]}"),
        ({0: [0.5]}, {}, "0.5 is no whole number"),
        ({}, {0: [True]}, "True is no whole number"),
    ],
)
def test_what_is_not_there_cannot_be_removed(heads, units, what):
    with pytest.raises(ValueError, match=what):
        prune(whole(DistilBertForMaskedLM), heads, units)


def test_a_model_that_cannot_be_pruned():
    with pytest.raises(TypeError, match="knows no Linear"):
        prune(nn.Linear(2, 2), {})
    with pytest.raises(TypeError, match="knows no ElectraModel"):
        prune(ElectraModel(ElectraConfig(embedding_size=8, hidden_size=8, intermediate_size=8)), {})
    model = whole(DistilBertForMaskedLM)
    model.distilbert.transformer.layer[1].ffn.lin2 = nn.Bilinear(2, 2, 2)
    with pytest.raises(TypeError, match=r"a Bilinear in place of a plain nn\.Linear"):
        prune(model, {0: [1]})


# ---- saved and read


def load_pruned(folder):
    """All weights from the file, as the class that config.json names."""
    config = json.loads((folder / "config.json").read_text())
    model, info = load_model(getattr(transformers, config["architectures"][0]), folder)
    assert not any(info.values())
    return model


@pytest.mark.parametrize("cut", ["some", "all of everything", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_saved_and_read_bit_for_bit(tmp_path, kind, cut):
    pruned = prune(whole(kind), *CUTS[cut])
    pruned.save_pretrained(tmp_path)
    random = torch.get_rng_state()
    again = load_pruned(tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert type(again) is kind
    assert not again.training
    assert_same(again.state_dict(), pruned.state_dict())
    assert torch.equal(outputs(again), outputs(pruned))
    assert again.config.pruned == pruned.config.pruned
    assert parameter_count(again) == parameter_count(pruned)  # tied weights are tied
    again.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_half_precision_file_is_computed_with_in_full(tmp_path):
    pruned = prune(whole(BertForMaskedLM), *CUTS["some"])
    pruned.half().save_pretrained(tmp_path)
    again = load_pruned(tmp_path)
    assert again.dtype == torch.float32
    assert_same(again.state_dict(), pruned.float().state_dict())


@pytest.mark.parametrize("cut", ["some", "heads only", "units only"])
def test_stock_loading_fails_aloud(tmp_path, cut):
    prune(whole(DistilBertForMaskedLM), *CUTS[cut]).save_pretrained(tmp_path)
    for kind in (DistilBertForMaskedLM, AutoModelForMaskedLM):
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            kind.from_pretrained(tmp_path)


def test_a_pruned_masked_language_model_becomes_a_classifier(tmp_path):
    """Every way in that the kit has reads it: here the one of fine-tuning, with a new head."""
    pruned = prune(whole(DistilBertForMaskedLM), *CUTS["some"])
    pruned.save_pretrained(tmp_path)
    model = classifier(tmp_path, "sst2", seed=1)
    assert type(model) is DistilBertForSequenceClassification
    assert list(model.config.id2label.values()) == ["negative", "positive"]
    assert_same(model.distilbert.state_dict(), pruned.distilbert.state_dict())
    other = classifier(tmp_path, "sst2", seed=1)
    assert_same(model.state_dict(), other.state_dict())
    with pytest.raises(ValueError, match="not fine-tuned yet"):
        fine_tuned(AutoModelForSequenceClassification, tmp_path)
    model.save_pretrained(tmp_path / "classifier")
    again = fine_tuned(AutoModelForSequenceClassification, tmp_path / "classifier")
    assert_same(again.state_dict(), model.state_dict())


def test_the_bare_encoder_of_a_pruned_model(tmp_path):
    pruned = prune(whole(DistilBertForMaskedLM), *CUTS["some"])
    pruned.save_pretrained(tmp_path)
    encoder, info = load_model(AutoModel, tmp_path)
    assert type(encoder) is DistilBertModel
    assert_same(encoder.state_dict(), pruned.distilbert.state_dict())
    assert not info["missing_keys"]
    assert all(name.startswith("vocab_") for name in info["unexpected_keys"])
    encoder.save_pretrained(tmp_path / "encoder")
    assert_same(load_pruned(tmp_path / "encoder").state_dict(), encoder.state_dict())
    model, info = load_model(AutoModelForMaskedLM, tmp_path / "encoder")
    assert_same(model.distilbert.state_dict(), encoder.state_dict())
    assert all(name.startswith("vocab_") for name in info["missing_keys"])
    assert len(info["missing_keys"]) == 5  # the whole head but the tied matrix
    assert_same(
        prune(model.distilbert, {1: [0]}).state_dict(),
        prune(model, {1: [0]}).distilbert.state_dict(),
    )


def edit(**changes):
    """config.json with some entries replaced; None removes one."""

    def change(folder) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


def weights(change):
    def apply(folder) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return apply


def shapes(heads, units):
    return edit(pruned={"heads": heads, "units": units})


LAYER_0 = "distilbert.transformer.layer.0."
DAMAGED = {
    "no sidecar": (edit(pruned=None), "makes no pruned model"),
    "no config": (lambda f: (f / "config.json").unlink(), "makes no pruned model"),
    "config cut": (lambda f: os.truncate(f / "config.json", 50), "makes no pruned model"),
    "config a list": (lambda f: (f / "config.json").write_text("[1]"), "makes no pruned model"),
    "config no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "makes no pruned"),
    "sidecar a word": (edit(pruned="yes"), "makes no pruned model"),
    "no units": (edit(pruned={"heads": [2, 4, 1]}), "makes no pruned model"),
    "a layer too few": (shapes([2, 4], [17, 1, 20]), "makes no pruned model"),
    "too many heads": (shapes([2, 5, 1], [17, 1, 20]), "makes no pruned model"),
    "fewer than none": (shapes([2, -1, 1], [17, 1, 20]), "makes no pruned model"),
    "half a head": (shapes([2, 1.5, 1], [17, 1, 20]), "makes no pruned model"),
    "true": (shapes([2, True, 1], [17, 1, 20]), "another shape"),
    "other heads": (shapes([3, 4, 1], [17, 1, 20]), "another shape"),
    "other units": (shapes([2, 4, 1], [16, 1, 20]), "another shape"),
    "no type": (edit(model_type=None), "makes no pruned model"),
    "heads in words": (edit(n_heads="four"), "makes no pruned model"),
    "a width that does not go": (edit(n_heads=5), "makes no pruned model"),
    "another vocabulary": (edit(vocab_size=61), "another shape"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "weights cannot be read"),
    "weights cut": (lambda f: os.truncate(f / "model.safetensors", 900), "weights cannot be read"),
    "weights empty": (lambda f: os.truncate(f / "model.safetensors", 0), "weights cannot be read"),
    "not finite": (
        weights(lambda s: s[LAYER_0 + "ffn.lin1.bias"].fill_(np.nan)),
        "not finite, for instance .*lin1.bias",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_folder_is_refused_by_name(tmp_path, damage):
    change, message = DAMAGED[damage]
    prune(whole(DistilBertForMaskedLM), *CUTS["some"]).save_pretrained(tmp_path)
    load_pruned(tmp_path)
    change(tmp_path)
    of_config = message.startswith("makes no pruned")
    with pytest.raises(ValueError, match=message):
        (read_pruned if of_config else load_model)(DistilBertForMaskedLM, tmp_path)


def test_weights_that_are_lost_or_left_over_are_named(tmp_path):
    prune(whole(DistilBertForMaskedLM), *CUTS["some"]).save_pretrained(tmp_path)
    lost = LAYER_0 + "ffn.lin1.bias"
    weights(lambda state: state.pop(lost))(tmp_path)
    weights(lambda state: state.update(more=torch.zeros(1)))(tmp_path)
    _, info = read_pruned(DistilBertForMaskedLM, tmp_path)
    assert (info["missing_keys"], set(info["unexpected_keys"])) == ({lost}, {"more"})


def test_nothing_there_and_a_whole_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        load_model(BertForMaskedLM, tmp_path / "nowhere")
    whole(BertForMaskedLM).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="makes no pruned model"):
        read_pruned(BertForMaskedLM, tmp_path)


# ---- recovery: the same loop, with a teacher


TOY = TrainingConfig(
    steps=40,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=2e-3,
    betas=(0.9, 0.999),
    max_grad_norm=1.0,
    seed=0,
    precision="fp32",
    log_interval=1,
    checkpoint_interval=7,
)


def sentiment(n: int, seed: int) -> dict[str, list]:
    """Which of w0 and w1 stands there says the label."""
    random = np.random.default_rng(seed)
    found = {"sentence": [], "label": random.integers(0, 2, n).tolist()}
    for label in found["label"]:
        words = [f"w{i}" for i in random.integers(10, 200, random.integers(3, 13))]
        words[::2] = [f"w{label}"] * len(words[::2])
        found["sentence"].append(" ".join(words))
    return found


@pytest.fixture
def taught(tokenizer):
    """A classifier, not yet fine-tuned, and its task."""
    data = {"train": sentiment(96, 0), "validation": sentiment(40, 1)}
    labels = {0: "negative", 1: "positive"}
    names = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    model = whole(BertForSequenceClassification, vocab_size=len(tokenizer), **names)
    return model, data


@pytest.mark.parametrize(
    "kind", [BertForSequenceClassification, DistilBertForSequenceClassification]
)
@pytest.mark.slow
def test_a_pruned_classifier_recovers_and_is_read_again(home, tokenizer, taught, kind):
    untaught, data = taught
    teacher_run = finetune(untaught, tokenizer, "sst2", data, TOY, name="teacher")
    teacher = fine_tuned(AutoModelForSequenceClassification, teacher_run.model)
    if kind is BertForSequenceClassification:
        model = teacher
    else:
        torch.manual_seed(0)
        student = student_from_teacher(teacher, [0, 2])
        model = fine_tuned(
            AutoModelForSequenceClassification,
            finetune(student, tokenizer, "sst2", data, TOY, name="student").model,
        )
    heads = {0: [0, 1, 2, 3], 1: [3]}
    pruned = prune(model, heads, {0: list(range(15)), 1: list(range(5, 20))})
    before = copy_of(pruned.state_dict())
    options = {
        "teacher": teacher,
        "loss_config": FinetuneLossConfig(label_weight=0.0, kd_weight=1.0),
    }
    run = finetune(pruned, tokenizer, "sst2", data, TOY, name="recovery", **options)

    losses = [row["loss"] for row in run.rows()]
    assert np.mean(losses[-5:]) < losses[0] / 2
    assert_same(pruned.state_dict(), before)
    again = load_pruned(run.model)
    assert again.config.pruned == pruned.config.pruned
    scores = run.result()["scores"]["validation"]
    assert scores["accuracy"] >= 0.95
    assert evaluate_task(again, tokenizer, "sst2", data["validation"]) == scores
    assert (run.model / "tokenizer.json").is_file()


@pytest.mark.slow
def test_a_killed_recovery_goes_on_from_a_checkpoint_of_the_pruned_shapes(
    home, tokenizer, taught, monkeypatch
):
    teacher, data = taught
    pruned = prune(teacher, *CUTS["some"])
    training = dataclasses.replace(TOY, steps=10, checkpoint_interval=4)

    def recover(name: str) -> Run:
        return finetune(pruned, tokenizer, "sst2", data, training, name=name, teacher=teacher)

    whole = recover("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", dying_at(6))
        with pytest.raises(Died):
            recover("killed")
    assert [f.name for f in (home / "runs" / "killed" / "checkpoints").iterdir()] == [
        "step-00000004"
    ]
    killed = recover("killed")
    assert [row["step"] for row in killed.rows()] == list(range(1, 11))
    assert_same(load_pruned(killed.model).state_dict(), load_pruned(whole.model).state_dict())


@pytest.mark.slow
def test_a_pruned_masked_language_model_recovers_by_the_triple_loss(home, tokenizer, texts):
    teacher = small_bert(2)
    student = student_from_teacher(teacher, [0, 1])  # computes what its teacher does
    blocks = MaskedBlocks(pack(texts, tokenizer, 24), tokenizer, seed=1)
    loss_config = LossConfig(mlm_weight=0.0)
    importance = head_and_unit_importance(
        small_bert(2, seed=5), blocks, LanguageModelLoss(LossConfig(0.0, 1.0, 0.0))
    )
    pruned = prune(student, *least_important(importance, 0.5))
    training = dataclasses.replace(TOY, batch_size=8, micro_batch_size=4)
    before = losses_on(pruned, blocks, loss_config, teacher)
    run = distil(pruned, teacher, blocks, training, name="recovery", loss_config=loss_config)
    again = load_pruned(run.model)
    after = losses_on(again, blocks, loss_config, teacher)
    assert after["loss"] < before["loss"] / 2
    assert again.config.pruned == pruned.config.pruned
    assert again.config.pruned["heads"] != [4, 4]
    model, info = load_model(AutoModelForMaskedLM, run.model)
    assert not info["missing_keys"]
    assert_same(model.state_dict(), again.state_dict())


# ---- its neighbours in the kit


@pytest.mark.parametrize("kind", [BertForMaskedLM, DistilBertForSequenceClassification])
def test_measured_like_any_model(tmp_path, kind):
    model = whole(kind)
    heads, units = CUTS["some"]
    pruned = prune(model, heads, units)
    d = HIDDEN // HEADS
    a_head = 3 * (HIDDEN * d + d) + d * HIDDEN
    a_unit = HIDDEN + 1 + HIDDEN
    gone = 5 * a_head + 22 * a_unit
    assert parameter_count(model) - parameter_count(pruned) == gone
    assert 4 * gone <= bytes_on_disk(model) - bytes_on_disk(pruned) <= 4 * gone + 200  # the header
    seconds = time_passes({"whole": model, "pruned": pruned}, length=8, runs=2, warmup=0)
    assert seconds["pruned"].min() > 0


def test_a_random_control_of_a_pruned_student_is_refused():
    with pytest.raises(ValueError, match="pruned"):
        random_student_like(prune(whole(DistilBertForMaskedLM), *CUTS["some"]), seed=3)


def test_a_student_is_not_made_from_a_pruned_teacher():
    with pytest.raises(ValueError, match="the teacher is pruned: make the student first"):
        student_from_teacher(prune(small_bert(2), {0: [1]}))
