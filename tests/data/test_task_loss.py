"""Each term of the task loss against its plain formula in float64, over unequal micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from toy_models import shake, small_bert
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from distilkit.config import FinetuneLossConfig
from distilkit.data.task_examples import task_examples
from distilkit.data.task_loss import TaskLoss, binary_soft_target_loss
from distilkit.data.tasks import Task
from distilkit.families import inputs_of
from distilkit.student import student_from_teacher

CONFIG = FinetuneLossConfig(label_weight=0.3, kd_weight=0.6, temperature=3.0)
ALIGNED = FinetuneLossConfig(0.3, 0.6, 3.0, cosine_weight=0.7)
KINDS = {
    "single": Task("topic", "Topic", ("text",), ("a", "b", "c")),
    "several": Task("tags", "Tags", ("text",), ("a", "b", "c"), "multi_label_classification"),
    "real": Task("grade", "Grade", ("text",), (), "regression"),
    "words": Task("ner", "NER", ("words",), ("O", "B-X", "I-X"), "token_classification"),
}


def data_of(kind: str, n: int = 13, seed: int = 0) -> dict[str, list]:
    """Texts of 3 to 9 words; every third example (or word) has no label."""
    generator = np.random.default_rng(seed)
    texts = [
        [f"w{i}" for i in generator.integers(0, 200, generator.integers(3, 10))] for _ in range(n)
    ]
    if kind == "words":
        labels = [[int(x) for x in generator.integers(-1, 3, len(words))] for words in texts]
        return {"words": texts, "label": labels}
    labels = {
        "single": lambda: int(generator.integers(0, 3)),
        "several": lambda: [int(x) for x in generator.integers(0, 2, 3)],
        "real": lambda: float(generator.normal()),
    }[kind]
    none = {"single": -1, "several": [np.nan] * 3, "real": np.nan}[kind]
    column = [none if i % 3 == 1 else labels() for i in range(n)]
    return {"text": [" ".join(words) for words in texts], "label": column}


def model_of(kind: str, seed: int, **more):
    cls = BertForTokenClassification if kind == "words" else BertForSequenceClassification
    config = small_bert(2, seed=seed, **more).config
    config.num_labels = 1 if kind == "real" else 3
    torch.manual_seed(seed)
    model = cls(config).eval()
    shake(model, 0.3)
    return model.double()


def micro_batches(loss, model, examples, parts=((0, 5), (5, 6), (6, 13))):
    batches = [examples.batch(0, np.arange(*part)) for part in parts]
    counts = {k: sum(b["counts"][k] for b in batches) for k in batches[0]["counts"]}
    return [loss(model, batch, counts) for batch in batches], counts


def logits_one_by_one(kind, model, data, tokenizer):
    """Logits of each target, [N, C], and of all real tokens the last hidden states, unpadded."""
    rows, hidden = [], []
    for text in data["words" if kind == "words" else "text"]:
        one = tokenizer(text, is_split_into_words=kind == "words", return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs_of(model, one), output_hidden_states=True)
        logits = out.logits[0].numpy()
        rows.append(logits[1:-1] if kind == "words" else logits[None])  # a word is one token here
        hidden.append([h[0].numpy() for h in out.hidden_states])
    return np.concatenate(rows), hidden


def reference(kind: str, z: np.ndarray, y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    t = 3.0
    if kind == "real":
        known = ~np.isnan(labels)
        task = ((z[known, 0] - labels[known]) ** 2).mean()
        soft = ((z - y) ** 2).mean()
    elif kind == "several":
        known = ~np.isnan(labels).any(1)
        p = expit(z[known])
        task = -(labels[known] * np.log(p) + (1 - labels[known]) * np.log(1 - p)).mean()
        p, q = expit(y / t), expit(z / t)
        soft = t**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    else:
        known = labels >= 0
        task = -log_softmax(z[known], 1)[np.arange(known.sum()), labels[known]].mean()
        p, q = softmax(y / t, 1), softmax(z / t, 1)
        soft = t**2 * (p * np.log(p / q)).sum(1).mean()
    return {"loss": 0.3 * task + 0.6 * soft, "task": task, "soft_target": soft}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_sum_of_micro_batches_is_the_formula_of_the_whole(tokenizer, kind):
    student, teacher = model_of(kind, 0), model_of(kind, 3)
    data, task = data_of(kind), KINDS[kind]
    examples = task_examples(data, task, tokenizer, max_length=64, seed=0)
    parts, _ = micro_batches(TaskLoss(task, teacher, CONFIG), student, examples)
    found = {name: sum(part[name].item() for part in parts) for name in parts[0]}
    z, _ = logits_one_by_one(kind, student, data, tokenizer)
    y, _ = logits_one_by_one(kind, teacher, data, tokenizer)
    labels = np.concatenate(data["label"]) if kind == "words" else np.array(data["label"])
    # the tokenizer's batches are float32 where the labels are real
    assert found == pytest.approx(reference(kind, z, y, labels), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_label_has_no_gradient_of_the_label_term(tokenizer, kind):
    model, task, data = model_of(kind, 0), KINDS[kind], data_of(kind)
    examples = task_examples(data, task, tokenizer, max_length=64, seed=0)
    batch = examples.batch(0, np.arange(13))
    kept = {}

    def keep(_module, _inputs, out):
        kept["logits"] = out
        out.retain_grad()

    handle = model.classifier.register_forward_hook(keep)
    TaskLoss(task)(model, batch, batch["counts"])["loss"].backward()
    handle.remove()
    gradient = kept["logits"].grad.flatten(0, -2)
    if kind == "words":
        gradient = gradient[batch["rows"]]
    labels = batch["labels"].double()
    is_known = ~labels.isnan() & (labels >= (-np.inf if kind == "real" else 0))
    is_known = is_known.reshape(len(labels), -1).all(-1)
    assert 0 < is_known.sum() < len(labels)
    assert (gradient[is_known].abs().sum(-1) > 0).all()
    assert (gradient[~is_known] == 0).all()  # not NaN either


def test_a_batch_without_any_label_gives_zero(tokenizer):
    task = KINDS["real"]
    examples = task_examples({"text": ["w1", "w2 w3"]}, task, tokenizer, max_length=64, seed=0)
    batch = examples.batch(0, np.arange(2))
    found = TaskLoss(task)(model_of("real", 0), batch, batch["counts"])
    assert (found["loss"].item(), batch["counts"]["labels"]) == (0.0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", [None, ((0, 0), (2, 1))])
@pytest.mark.slow
def test_the_cosine_term_is_over_all_real_tokens(tokenizer, kind, pairs):
    student, teacher = model_of(kind, 0), model_of(kind, 3)
    data, task = data_of(kind), KINDS[kind]
    examples = task_examples(data, task, tokenizer, max_length=64, seed=0)
    config = FinetuneLossConfig(0.3, 0.6, 3.0, cosine_weight=0.7, cosine_layers=pairs)
    loss = TaskLoss(task, teacher, config)
    loss.add_projections(student, 0)
    assert loss.projections is None
    parts, _ = micro_batches(loss, student, examples)
    found = {name: sum(part[name].item() for part in parts) for name in parts[0]}
    hidden = [logits_one_by_one(kind, model, data, tokenizer)[1] for model in (student, teacher)]
    distances = []
    for a, b in pairs or ((-1, -1),):
        x, y = (
            np.concatenate([h[i] for h in side]) for side, i in zip(hidden, (a, b), strict=True)
        )
        cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        distances.append(1 - cosine.mean())
    assert found["cosine"] == pytest.approx(np.mean(distances), rel=1e-9)
    terms = 0.3 * found["task"] + 0.6 * found["soft_target"] + 0.7 * found["cosine"]
    assert found["loss"] == pytest.approx(terms, rel=1e-12)


def test_other_widths_are_compared_through_trained_projections(tokenizer):
    student, teacher = model_of("single", 0), model_of("single", 3, hidden_size=48)
    loss = TaskLoss(KINDS["single"], teacher, ALIGNED).double()
    loss.add_projections(student, 1)
    loss.double()
    assert [tuple(p.shape) for p in loss.parameters()] == [(48, 32)]
    data = task_examples(data_of("single"), KINDS["single"], tokenizer, max_length=64, seed=0)
    batch = data.batch(0, np.arange(13))
    loss(student, batch, batch["counts"])["loss"].backward()
    assert loss.projections[0].weight.grad.abs().sum() > 0


def test_the_binary_kl_is_stable_and_zero_at_equality():
    z = torch.tensor([[500.0, -500.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert binary_soft_target_loss(z, z, 2.0, count=1).item() == 0
    y = torch.tensor([[-500.0, 500.0, 1.0]], dtype=torch.float64)
    value = binary_soft_target_loss(z, y, 1.0, count=1)
    value.backward()
    assert value.item() == pytest.approx((500 + 500) / 3, rel=1e-3)
    assert torch.isfinite(z.grad).all()


def test_a_teacher_may_read_its_own_ids(tokenizer):
    """The same texts in another vocabulary, in the order of the same batch."""
    backwards = type(tokenizer)(
        vocab={token: 204 - i for token, i in tokenizer.get_vocab().items()}
    )
    task, data = KINDS["single"], data_of("single")
    student, teacher = model_of("single", 0), model_of("single", 3)
    both = task_examples(data, task, tokenizer, max_length=64, seed=0, teacher_tokenizer=backwards)
    batch = both.batch(0, np.array([4, 0, 2]))
    found = TaskLoss(task, teacher, CONFIG)(student, batch, batch["counts"])
    chosen = {name: [data[name][i] for i in (4, 0, 2)] for name in data}
    z, _ = logits_one_by_one("single", student, chosen, tokenizer)
    y, _ = logits_one_by_one("single", teacher, chosen, backwards)
    wanted = reference("single", z, y, np.array(chosen["label"]))
    assert found["soft_target"].item() == pytest.approx(wanted["soft_target"], rel=1e-9)


def test_a_model_with_one_token_type_is_given_none(tokenizer):
    """A RoBERTa; it would look up the second text's type beyond its table."""
    shape = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = RobertaConfig(
        vocab_size=205, num_hidden_layers=1, max_position_embeddings=66, type_vocab_size=1, **shape
    )
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(config).eval()
    task = Task("pair", "Pair", ("a", "b"), ("no", "yes"))
    data = {"a": ["w1 w2"], "b": ["w3"], "label": [1]}
    batch = task_examples(data, task, tokenizer, max_length=64, seed=0).batch(0, [0])
    assert batch["token_type_ids"].max() == 1
    assert set(inputs_of(model, batch)) == {"input_ids", "attention_mask"}
    model(**inputs_of(model, batch))
    bert = model_of("single", 0)
    assert set(inputs_of(bert, batch)) == {"input_ids", "attention_mask", "token_type_ids"}
    student = student_from_teacher(bert)
    assert type(student) is DistilBertForSequenceClassification
    assert set(inputs_of(student, batch)) == {"input_ids", "attention_mask"}
