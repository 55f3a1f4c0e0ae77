"""The importance of heads and units, against finite differences; and what is chosen by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import shake, small_bert
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from distilkit.compress.importance import Importance, head_and_unit_importance, least_important
from distilkit.config import FinetuneLossConfig, LossConfig
from distilkit.data.examples import Examples
from distilkit.data.packing import pack
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import get_task
from distilkit.distillation import LanguageModelLoss
from distilkit.masking import MaskedBlocks
from distilkit.models.pruning import prune
from distilkit.student import student_from_teacher

pytestmark = pytest.mark.slow

HEAD_SIZE, UNITS = 8, 12
COLUMNS = {  # of these matrices: the heads', the units'
    "bert": ("attention.output.dense.weight", "output.dense.weight"),
    "distilbert": ("attention.out_lin.weight", "ffn.lin2.weight"),
}


def bert(layers: int = 2, **more) -> BertForMaskedLM:
    return small_bert(
        layers, hidden_size=24, num_attention_heads=3, intermediate_size=UNITS, **more
    )


def classifier(kind: type) -> nn.Module:
    config = bert().config
    if kind is DistilBertForSequenceClassification:
        config = student_from_teacher(bert(), [0, 1]).config
    torch.manual_seed(1)
    model = kind(config).eval().double()
    shake(model, 0.3)
    return model


def some_examples() -> Examples:
    """Five texts of 3 to 9 tokens."""
    random = np.random.default_rng(0)
    ids = [random.integers(5, 200, n).tolist() for n in (9, 3, 6, 4, 7)]
    encoded = {"input_ids": ids, "token_type_ids": [[0] * len(i) for i in ids]}
    return Examples(encoded, np.array([0, 1, 1, 0, 1]), pad_id=0, seed=0)


def matrix(model: nn.Module, layer: int, which: int) -> torch.Tensor:
    kind = model.config.model_type
    stack = {"bert": "bert.encoder", "distilbert": "distilbert.transformer"}[kind]
    return model.get_parameter(f"{stack}.layer.{layer}.{COLUMNS[kind][which]}")


def slopes(model: nn.Module, losses, layer: int, which: int, index: int, step: float = 1e-5):
    """|dL(x)/dξ| of each example, by central differences; ξ scales the columns that read a head."""
    size = (HEAD_SIZE, 1)[which]
    columns = slice(index * size, (index + 1) * size)
    weight = matrix(model, layer, which)
    original, found = weight.detach().clone(), []
    with torch.no_grad():
        for sign in (1, -1):
            weight[:, columns] = original[:, columns] * (1 + sign * step)
            found.append(losses(model))
            weight.copy_(original)
    ahead, behind = found
    return ((ahead - behind) / (2 * step)).abs()


def assert_is_the_mean_slope(importance: Importance, model: nn.Module, losses, units) -> None:
    assert [len(of_layer) for of_layer in importance.heads] == [3, 3]
    assert [len(of_layer) for of_layer in importance.units] == [UNITS, UNITS]
    for layer in range(2):
        for which, indices in ((0, range(3)), (1, units)):
            for index in indices:
                expected = slopes(model, losses, layer, which, index).sum()
                assert importance[which][layer][index] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize(
    "kind", [BertForSequenceClassification, DistilBertForSequenceClassification]
)
def test_a_classifiers_importance_is_the_mean_slope_of_the_loss(kind, batch_size):
    model, examples = classifier(kind), some_examples()
    loss = TaskLoss(get_task("sst2"))

    def losses(model: nn.Module) -> torch.Tensor:
        """Each example alone, its share of the mean over five."""
        found = []
        for i in range(5):
            ids = torch.tensor(examples.input_ids[i])[None]  # no padding at all
            logits = model(input_ids=ids).logits
            label = torch.tensor([int(examples.labels[i])])
            found.append(torch.nn.functional.cross_entropy(logits, label) / 5)
        return torch.stack(found)

    importance = head_and_unit_importance(model, examples, loss, batch_size=batch_size)
    assert_is_the_mean_slope(importance, model, losses, range(UNITS))


@pytest.mark.parametrize("kind", [BertForMaskedLM, DistilBertForMaskedLM])
@pytest.mark.parametrize(
    "loss_config", [LossConfig(0.0, 1.0, 0.0), LossConfig(5.0, 2.0, 1.0)], ids=["words", "triple"]
)
def test_a_masked_language_models_importance(tokenizer, texts, kind, loss_config):
    teacher = bert(seed=3).double()
    model = bert(seed=4).double()
    if kind is DistilBertForMaskedLM:
        model = student_from_teacher(model, [0, 1])
    blocks = MaskedBlocks(pack(texts[:3], tokenizer, 16), tokenizer, seed=1)
    loss = LanguageModelLoss(loss_config, teacher if loss_config.needs_teacher else None)
    counted = [blocks.batch(0, np.array([i]))["counts"] for i in range(len(blocks))]
    counts = {key: sum(each[key] for each in counted) for key in counted[0]}

    def losses(model: nn.Module) -> torch.Tensor:
        each = [blocks.batch(0, np.array([i])) for i in range(len(blocks))]
        return torch.stack([loss(model, batch, counts)["loss"] for batch in each])

    importance = head_and_unit_importance(model, blocks, loss, batch_size=2)
    assert_is_the_mean_slope(importance, model, losses, (0, 5, 11))


def test_a_layer_that_works_in_chunks_has_the_same_scores():
    model, examples, loss = (
        classifier(BertForSequenceClassification),
        some_examples(),
        TaskLoss(get_task("sst2")),
    )
    expected = head_and_unit_importance(model, examples, loss, batch_size=1)
    for layer in model.bert.encoder.layer:
        layer.chunk_size_feed_forward = 1
    found = head_and_unit_importance(model, examples, loss, batch_size=1)
    for ours, theirs in zip(
        found.heads + found.units, expected.heads + expected.units, strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-9)


def test_nothing_of_the_model_changes():
    model = classifier(DistilBertForSequenceClassification).float()
    model.train()
    model.distilbert.embeddings.eval()
    model.pre_classifier.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    with torch.no_grad():  # the caller's, who only measures
        head_and_unit_importance(model, some_examples(), TaskLoss(get_task("sst2")))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not hasattr(model.config, "pruned")


def test_after_an_error_the_model_is_as_it_was():
    model = classifier(DistilBertForSequenceClassification).train()

    def fails(*_):
        raise RuntimeError("the loss failed")

    with pytest.raises(RuntimeError, match="the loss failed"):
        head_and_unit_importance(model, some_examples(), fails)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_frozen_model_has_an_importance_too():
    model, loss = classifier(BertForSequenceClassification), TaskLoss(get_task("sst2"))
    expected = head_and_unit_importance(model, some_examples(), loss)
    found = head_and_unit_importance(model.requires_grad_(False), some_examples(), loss)
    assert all(map(torch.equal, found.heads, expected.heads))


def test_what_nothing_reads_is_found_and_goes_first():
    """Two heads and seven units whose outputs are multiplied by 0 matter not at all."""
    model = classifier(DistilBertForSequenceClassification)
    dead = [{0: [2], 1: [0]}, {0: [1, 4], 1: [0, 2, 5, 6, 7, 11]}]
    with torch.no_grad():
        for which, size in ((0, HEAD_SIZE), (1, 1)):
            for layer, indices in dead[which].items():
                for i in indices:
                    matrix(model, layer, which)[:, i * size : (i + 1) * size] = 0
    examples, loss = some_examples(), TaskLoss(get_task("sst2"))
    importance = head_and_unit_importance(model, examples, loss)
    for which in (0, 1):
        for layer, scores in enumerate(importance[which]):
            zero = torch.nonzero(scores == 0)[:, 0].tolist()
            assert zero == dead[which][layer]
    cut = least_important(importance, 4 / 6)
    assert cut == dead
    batch = examples.batch(0, np.arange(5))
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = [each(**inputs).logits for each in (model, prune(model, *cut))]
    assert torch.allclose(*logits, atol=1e-12)


def test_a_pruned_models_importance_has_its_shape():
    model, loss = classifier(BertForSequenceClassification), TaskLoss(get_task("sst2"))
    pruned = prune(model, {0: [0, 1, 2], 1: [1]}, {1: range(UNITS)})
    importance = head_and_unit_importance(pruned, some_examples(), loss)
    assert [len(scores) for scores in importance.heads] == [0, 2]
    assert [len(scores) for scores in importance.units] == [UNITS, 0]
    heads, units = least_important(importance, 0.5)
    assert list(heads) == [1]
    assert (len(heads[1]), len(units[0])) == (1, 6)


def test_soft_targets_can_be_the_loss():
    model, teacher = (classifier(BertForSequenceClassification) for _ in range(2))
    loss = TaskLoss(get_task("sst2"), teacher, FinetuneLossConfig(label_weight=0.0, kd_weight=1.0))
    importance = head_and_unit_importance(model, some_examples(), loss)
    for scores in importance.heads + importance.units:  # at equality the divergence has no slope
        assert scores.abs().max() < 1e-12
    shake(model)
    importance = head_and_unit_importance(model, some_examples(), loss)
    assert min(scores.max() for scores in importance.heads) > 1e-6


def test_what_cannot_be_measured_is_refused():
    model, loss = classifier(BertForSequenceClassification), TaskLoss(get_task("sst2"))
    with pytest.raises(TypeError, match="pruning knows no Linear"):
        head_and_unit_importance(nn.Linear(2, 2), some_examples(), loss)
    with torch.no_grad():
        model.classifier.weight.fill_(np.nan)
    with pytest.raises(ValueError, match="importance is not finite"):
        head_and_unit_importance(model, some_examples(), loss)


# ---- what goes


def scores(*layers: list[float]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(layer, dtype=torch.float64) for layer in layers)


UNLIKE = scores([0.3, 0.6, 0.0], [0.5, 9.0, 0.4])


def test_layers_compete_and_the_least_of_the_whole_model_go():
    importance = Importance(UNLIKE, scores([1.0], [1.0]))
    order = [(0, 2), (0, 0), (1, 2), (1, 0)]
    for gone in range(5):
        heads, units = least_important(importance, (6 - gone) / 6)
        assert units == {}
        removed = [(layer, i) for layer, some in heads.items() for i in some]
        assert sorted(removed) == sorted(order[:gone])
    # the best of each layer stays, whatever is asked
    assert least_important(importance, 1e-9) == [{0: [0, 2], 1: [0, 2]}, {}]


@pytest.mark.parametrize(("share", "left"), [(1.0, 8), (0.5, 4), (0.44, 4), (0.43, 3), (0.01, 2)])
def test_the_share_that_is_kept(share, left):
    random = np.random.default_rng(0)
    units = scores(random.random(3).tolist(), random.random(5).tolist())
    _, removed = least_important(Importance(scores([1.0], [1.0]), units), share)
    assert 8 - sum(map(len, removed.values())) == left


def test_a_layer_that_does_not_matter_at_all_keeps_one_head():
    heads, _ = least_important(Importance(scores([0.0, 0.0], [1.0, 2.0]), scores([1.0])), 0.5)
    assert heads == {0: [1], 1: [0]}


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_share_that_is_none(share):
    importance = Importance(UNLIKE, UNLIKE)
    with pytest.raises(ValueError, match=r"keep_ratio = .*: give a share above 0, at most 1"):
        least_important(importance, share)
