"""New heads, and what is said of checkpoints that have none, or another one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import small_bert
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ElectraConfig,
    ElectraForPreTraining,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from distilkit.config import SCALES
from distilkit.data.sources import load_encoder, load_teacher
from distilkit.data.tasks import Task
from distilkit.finetuning import classifier, fine_tuned_on
from distilkit.models.heads import fine_tuned, masked_lm_from_encoder
from distilkit.models.pruning import prune

WORDS = Task("ner", "NER", ("words",), ("O", "B-X", "I-X"), "token_classification")
TAGS = Task("tags", "Tags", ("text",), ("a", "b"), "multi_label_classification")


@pytest.fixture
def fine_tuned_bert(tmp_path):
    """A folder with a fine-tuned classifier of two classes."""
    torch.manual_seed(0)
    config = small_bert(2).config
    config.id2label, config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("task", ["sst2", "mnli", "stsb"])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.slow
def test_a_head_is_new_also_where_there_is_one(fine_tuned_bert, tmp_path, task, pruned):
    old = BertForSequenceClassification.from_pretrained(fine_tuned_bert)
    folder = fine_tuned_bert
    with torch.no_grad():
        old.classifier.bias.fill_(3)
    if pruned:
        old = prune(old, heads={0: [1]})
    old.save_pretrained(folder)
    one, again, other = (classifier(folder, task, seed) for seed in (1, 1, 2))
    assert torch.equal(one.classifier.weight, again.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert not one.classifier.bias.any()
    assert not other.classifier.bias.any()
    if task == "sst2":
        assert not torch.isin(one.classifier.weight, old.classifier.weight).any()
    assert torch.equal(one.bert.pooler.dense.weight, old.bert.pooler.dense.weight)


def test_all_of_a_robertas_head_is_new(tmp_path):
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=205, num_hidden_layers=1, **shape)
    old = RobertaForSequenceClassification(config)
    old.save_pretrained(tmp_path)
    new = classifier(tmp_path, "sst2", 1)
    for part in ("dense", "out_proj"):
        assert not torch.isin(
            getattr(new.classifier, part).weight, getattr(old.classifier, part).weight
        ).any()


def test_the_head_is_of_the_tasks_kind(fine_tuned_bert):
    words, tags = (classifier(fine_tuned_bert, task, 1) for task in (WORDS, TAGS))
    assert type(words) is BertForTokenClassification
    assert (words.config.problem_type, tags.config.problem_type) == (None, TAGS.kind)
    assert words.config.id2label == {0: "O", 1: "B-X", 2: "I-X"}
    assert words.config.label2id["I-X"] == 2


@pytest.mark.parametrize("task", [WORDS, TAGS, "sst2"])
def test_a_saved_classifier_is_read_for_its_task_again(fine_tuned_bert, tmp_path, task):
    model = classifier(fine_tuned_bert, task, 1)
    model.save_pretrained(tmp_path / "again")
    again = fine_tuned_on(tmp_path / "again", task)
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_a_head_for_texts_is_none_for_words(fine_tuned_bert):
    """Both are called classifier; transformers loads one as the other without a word."""
    two = Task("two", "Two", ("words",), ("no", "yes"), "token_classification")
    with pytest.raises(ValueError, match=r"BertForSequence.*TokenClassification"):
        fine_tuned_on(fine_tuned_bert, two)


def test_each_kind_of_missing_weight_has_its_diagnosis(fine_tuned_bert, tmp_path):
    file = fine_tuned_bert / "model.safetensors"
    whole = load_file(file)

    def without(part: str) -> None:
        left = {name: value for name, value in whole.items() if part not in name}
        save_file(left, file, metadata={"format": "pt"})

    kind = AutoModelForSequenceClassification
    for part, match in (
        ("pooler", "pooler"),
        ("classifier", "not fine-tuned"),
        ("layer.1.output", "incomplete"),
    ):
        without(part)
        with pytest.raises(ValueError, match=match):
            fine_tuned(kind, fine_tuned_bert)


def test_heads_that_transformers_4_pruned_are_refused(fine_tuned_bert):
    """Version 5 reads the config's entry and keeps all heads."""
    file = fine_tuned_bert / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pruned_heads": {"0": [1]}}))
    for load in (
        lambda: classifier(fine_tuned_bert, "sst2", 1),
        lambda: fine_tuned(AutoModelForSequenceClassification, fine_tuned_bert),
    ):
        with pytest.raises(ValueError, match="pruned_heads"):
            load()


def test_a_body_of_another_shape_is_no_new_head(fine_tuned_bert):
    file = fine_tuned_bert / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"intermediate_size": 32}))
    with pytest.raises(ValueError, match=r"shape than its config\.json"):
        classifier(fine_tuned_bert, "sst2", 1)


def test_an_electra_discriminator_is_no_teacher_of_masked_words(tmp_path, tokenizer):
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = ElectraConfig(vocab_size=205, embedding_size=32, num_hidden_layers=1, **shape)
    ElectraForPreTraining(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scale = type(SCALES["tiny"])(**{**vars(SCALES["tiny"]), "teacher": str(tmp_path)})
    with pytest.raises(ValueError, match="ELECTRA discriminator"):
        load_teacher(scale)


@pytest.mark.parametrize("what", ["pruned", "a layer less"])
def test_an_encoder_that_is_not_whole_gets_no_head(tmp_path, tokenizer, what):
    tokenizer.save_pretrained(tmp_path)
    encoder = BertModel(small_bert(2).config, add_pooling_layer=False)
    encoder.save_pretrained(tmp_path)
    if what == "pruned":
        with pytest.raises(ValueError, match="before pruning"):
            masked_lm_from_encoder(prune(encoder, {0: [0]}), 0)
        return
    weights = load_file(tmp_path / "model.safetensors")
    fewer = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(fewer, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights"):
        load_encoder(replace(SCALES["tiny"], teacher=str(tmp_path)))
