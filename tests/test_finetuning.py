"""Fine-tuning on toys: what can be learnt is learnt, and what does not fit is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import weakref

import datasets
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
import transformers
from torch import nn
from torch._dynamo import OptimizedModule
from toy_models import assert_same, shake, small_bert, state_of
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    PretrainedConfig,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from distilkit import finetuning
from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.task_examples import labelled, task_examples
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import TASKS, Task
from distilkit.finetuning import (
    answers,
    check_classifier,
    classifier,
    evaluate_task,
    fine_tuned_on,
    finetune,
    predict,
    score_of,
)
from distilkit.run import Run
from distilkit.student import student_from_teacher

TOY = TrainingConfig(
    steps=60,
    batch_size=16,
    micro_batch_size=16,
    learning_rate=2e-3,
    betas=(0.9, 0.999),
    warmup_fraction=0.1,
    max_grad_norm=1.0,
    seed=0,
    precision="fp32",
    checkpoint_interval=1000,
)
SHORT = dataclasses.replace(TOY, steps=3)


# --- toys ---------------------------------------------------------------------------------------


def single(n: int, seed: int = 0) -> dict[str, list]:
    """The first word says the label, and so does every second one after it."""
    generator = np.random.default_rng(seed)
    found = {"sentence": [], "label": generator.integers(0, 2, n).tolist()}
    for label in found["label"]:
        words = [f"w{i}" for i in generator.integers(10, 200, generator.integers(3, 13))]
        words[::2] = [f"w{label}"] * len(words[::2])
        found["sentence"].append(" ".join(words))
    return found


def pairs(n: int, seed: int = 0, *, real: bool = False) -> dict[str, list]:
    """Whether w0 stands in the second text (token types tell), or, for `real`, a number 0 to 5."""
    generator = np.random.default_rng(seed)

    def words() -> list[str]:
        return [f"w{i}" for i in generator.integers(10, 200, generator.integers(2, 8))]

    found = {"sentence1": [], "sentence2": [], "label": []}
    for _ in range(n):
        if real:
            value = int(generator.integers(0, 6))
            first, second, label = [f"w{value}", *words()], words(), float(value)
        else:
            label = int(generator.integers(0, 2))
            first, second = words(), words()
            (second if label else first).insert(0, "w0")
        found["sentence1"].append(" ".join(first))
        found["sentence2"].append(" ".join(second))
        found["label"].append(label)
    return found


def toy(task: str, seed: int = 0, cls=BertForSequenceClassification, **more):
    labels = list(TASKS[task].labels) or ["score"]
    names = {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    bert = small_bert(2, seed=seed)
    if cls is DistilBertForSequenceClassification:
        config = student_from_teacher(bert).config
    else:
        config = bert.config
    config = type(config)(**{**config.to_dict(), **names, **more})
    torch.manual_seed(seed)
    return cls(config).eval()


def data_of(maker=single, train: int = 96, held_out: int = 40, **more) -> dict:
    return {"train": maker(train, **more), "validation": maker(held_out, seed=1, **more)}


class Oracle(nn.Module):
    """A teacher that knows: its logits are a function of what it is given."""

    name_or_path = ""

    def __init__(self, task: str, answer) -> None:
        super().__init__()
        labels = list(TASKS[task].labels) or ["score"]
        self.config = PretrainedConfig(id2label=dict(enumerate(labels)))
        self.weight, self.answer, self.seen = nn.Parameter(torch.zeros(1)), answer, []
        self.modes = set()

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        self.seen.append((input_ids, attention_mask, token_type_ids, torch.is_grad_enabled()))
        self.modes.add(self.training)
        return SequenceClassifierOutput(logits=self.answer(input_ids, token_type_ids))


@pytest.mark.parametrize("labels", [None, [-1] * 4])
def test_a_split_without_labels_is_not_scored(tokenizer, labels):
    split = single(4)
    split.pop("label")
    split |= {} if labels is None else {"label": labels}
    with pytest.raises(ValueError, match="no labels to be scored on"):
        evaluate_task(toy("sst2"), tokenizer, "sst2", split)


# --- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cls", [BertForSequenceClassification, DistilBertForSequenceClassification]
)
@pytest.mark.slow
def test_a_learnable_task_is_learnt(home, tokenizer, cls):
    model, data = toy("sst2", cls=cls), data_of()
    before = state_of(model)
    run = finetune(model, tokenizer, "sst2", data, TOY, name="toy")
    result = run.result()
    assert result["scores"]["validation"]["accuracy"] >= 0.95
    assert evaluate_task(model, tokenizer, "sst2", data["validation"])["accuracy"] < 0.8
    assert (result["kind"], result["task"], result["steps"]) == ("finetune", "sst2", 60)
    rows = run.rows()
    assert np.mean([row["loss"] for row in rows[-5:]]) < rows[0]["loss"] / 2
    assert rows[0]["loss"] == rows[0]["task"]
    # the saved model is the one that was scored
    saved = cls.from_pretrained(run.model)
    assert evaluate_task(saved, tokenizer, "sst2", data["validation"]) == {
        "accuracy": result["scores"]["validation"]["accuracy"]
    }
    # the argument stayed as it was
    assert_same(state_of(model), before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_pairs_are_told_apart_by_token_types(home, tokenizer):
    """Whether w0 is in the first or second text: BERT learns it."""
    data = data_of(pairs, 128)
    training = dataclasses.replace(TOY, steps=120)
    run = finetune(toy("wnli"), tokenizer, "wnli", data, training, name="toy")
    assert run.result()["scores"]["validation"]["accuracy"] >= 0.9


@pytest.mark.slow
def test_regression(home, tokenizer):
    data = data_of(pairs, 128, real=True)
    training = dataclasses.replace(TOY, steps=250, learning_rate=3e-3)
    run = finetune(toy("stsb"), tokenizer, "stsb", data, training, name="toy")
    found = run.result()["scores"]["validation"]
    assert found["pearson"] > 0.9
    assert found["spearman"] > 0.9


@pytest.mark.slow
def test_three_classes_and_two_validation_sets(home, tokenizer):
    columns = pairs(30)
    columns = {
        "premise": columns["sentence1"],
        "hypothesis": columns["sentence2"],
        "label": [i % 3 for i in range(30)],
    }
    data = {"train": columns, "validation_matched": columns, "validation_mismatched": columns}
    data["test_matched"] = columns | {"label": [-1] * 30}
    run = finetune(toy("mnli"), tokenizer, "mnli", data, SHORT, name="toy")
    found = run.result()["scores"]
    assert set(found) == {"validation_matched", "validation_mismatched"}  # no labels, no score
    assert found["validation_matched"] == found["validation_mismatched"]


@pytest.mark.slow
def test_a_labelled_test_set_is_scored(home, tokenizer):
    data = data_of() | {"test": single(9, seed=5)}
    run = finetune(toy("sst2"), tokenizer, "sst2", data, SHORT, name="toy")
    assert set(run.result()["scores"]) == {"validation", "test"}


# --- with a teacher -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_student_learns_from_soft_targets_alone(home, tokenizer):
    """The labels are noise with weight 0; the teacher knows that w0 means 0 and w1 means 1."""
    data = data_of()
    true = data["train"]["label"]
    data["train"] = data["train"] | {"label": np.random.default_rng(9).permutation(true).tolist()}
    one = tokenizer.convert_tokens_to_ids("w1")
    teacher = Oracle(
        "sst2", lambda ids, _: 6.0 * torch.stack([ids[:, 1] != one, ids[:, 1] == one], 1).float()
    )
    run = finetune(
        toy("sst2", cls=DistilBertForSequenceClassification),
        tokenizer,
        "sst2",
        data,
        TOY,
        name="toy",
        teacher=teacher,
        loss_config=FinetuneLossConfig(label_weight=0.0, kd_weight=1.0),
    )
    assert run.result()["scores"]["validation"]["accuracy"] >= 0.95
    assert not any(gradient for *_, gradient in teacher.seen)
    assert teacher.modes == {False}
    assert teacher.training  # as it was


@pytest.mark.slow
def test_the_teacher_gets_token_types_though_the_student_has_none(home, tokenizer):
    """A teacher whose whole output is its token types; a student that must be told by it."""

    def answer(ids, types):
        seconds = types.sum(1).float()
        return torch.stack([-seconds, seconds], 1)

    teacher = Oracle("rte", answer)
    student = toy("rte", cls=DistilBertForSequenceClassification)
    data = data_of(pairs, 40)
    run = finetune(student, tokenizer, "rte", data, SHORT, name="toy", teacher=teacher)
    assert [len(ids) for ids, *_ in teacher.seen] == [40, 40]  # validation and training, once
    for ids, mask, types, _ in teacher.seen:
        for row in range(len(ids)):
            real = ids[row][mask[row].bool()].tolist()
            first = real.index(tokenizer.sep_token_id) + 1
            assert types[row].tolist() == (
                [0] * first + [1] * (len(real) - first) + [0] * (ids.shape[1] - len(real))
            )
    assert all(row["soft_target"] > 1 for row in run.rows())


def test_the_loss_is_the_plain_formula(tokenizer):
    columns = single(13)
    student, teacher = toy("sst2"), toy("sst2", seed=3)
    for model in (student, teacher):
        shake(model, 0.3)
    data = task_examples(columns, TASKS["sst2"], tokenizer, max_length=64, seed=0)
    loss_config = FinetuneLossConfig(label_weight=0.3, kd_weight=0.6, temperature=3.0)
    loss = TaskLoss(TASKS["sst2"], teacher, loss_config)
    counts = {"labels": 13, "targets": 13, "tokens": 1}
    with torch.no_grad():
        parts = [
            loss(student, data.batch(0, np.arange(a, b)), counts) for a, b in ((0, 5), (5, 13))
        ]
        found = {name: sum(float(part[name]) for part in parts) for name in parts[0]}
        ce = kl = 0.0
        for text, label in zip(columns["sentence"], columns["label"], strict=True):
            one = tokenizer(text, return_tensors="pt")
            z = student(**one).logits[0].double()
            y = teacher(**one).logits[0].double()
            ce -= float(z.softmax(-1)[label].log()) / 13
            p, q = (y / 3).softmax(-1), (z / 3).softmax(-1)
            kl += 9 * float((p * (p / q).log()).sum()) / 13
    assert kl > 0.01
    wanted = {"loss": 0.3 * ce + 0.6 * kl, "task": ce, "soft_target": kl}
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_regression_loss_is_the_plain_formula(tokenizer):
    columns = pairs(9, real=True)
    student, teacher = toy("stsb"), toy("stsb", seed=3)
    data = task_examples(columns, TASKS["stsb"], tokenizer, max_length=64, seed=0)
    batch = data.batch(0, np.arange(9))
    options = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        found = TaskLoss(TASKS["stsb"], teacher, FinetuneLossConfig())(
            student, batch, batch["counts"]
        )
        z, y = student(**options).logits.squeeze(1), teacher(**options).logits.squeeze(1)
    task = float(((z - torch.tensor(columns["label"])) ** 2).mean())
    soft = float(((z - y) ** 2).mean())
    wanted = {"loss": 0.5 * task + 0.5 * soft, "task": task, "soft_target": soft}
    assert {k: float(v) for k, v in found.items()} == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_the_teacher_stays_as_it_was(home, tokenizer):
    student, teacher = toy("sst2"), toy("sst2", seed=3)
    before = state_of(teacher)
    finetune(student, tokenizer, "sst2", data_of(), SHORT, name="toy", teacher=teacher)
    assert_same(state_of(teacher), before)
    assert all(p.grad is None for p in teacher.parameters())


# --- evaluation ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 30, 200, 10_000])
def test_predictions_are_in_the_datas_order(tokenizer, monkeypatch, tokens):
    monkeypatch.setattr("distilkit.data.examples.AT_ONCE_ON_CPU", tokens)
    model, columns = toy("sst2"), single(40)
    shake(model, 0.3)
    data = task_examples(columns, TASKS["sst2"], tokenizer, max_length=64, seed=0)
    logits, labels = predict(model, data)
    assert labels.tolist() == columns["label"]
    with torch.no_grad():
        alone = [model(**tokenizer(t, return_tensors="pt")).logits[0] for t in columns["sentence"]]
    assert np.abs(logits - torch.stack(alone).numpy()).max() < 1e-5
    assert logits.std(0).min() > 1e-2


@pytest.mark.slow
def test_scores_do_not_depend_on_the_order_of_the_data(tokenizer):
    model, columns = toy("sst2"), single(40)
    shake(model, 0.3)
    with torch.no_grad():  # answers of both kinds
        z = [model(**tokenizer(t, return_tensors="pt")).logits[0] for t in columns["sentence"]]
        model.classifier.bias -= torch.stack(z).median(0).values
    found = evaluate_task(model, tokenizer, "sst2", columns)
    order = np.random.default_rng(0).permutation(40)
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    assert evaluate_task(model, tokenizer, "sst2", shuffled) == found
    with torch.no_grad():
        answers = [
            int(model(**tokenizer(t, return_tensors="pt")).logits.argmax())
            for t in columns["sentence"]
        ]
    assert 0 < sum(answers) < 40
    plain = sklearn.metrics.accuracy_score(columns["label"], answers)
    assert found == {"accuracy": pytest.approx(plain)}


def test_evaluation_has_no_dropout_and_restores_the_mode(tokenizer):
    model = toy("sst2").train()
    shake(model, 0.3)
    data = task_examples(single(20), TASKS["sst2"], tokenizer, max_length=64, seed=0)
    first = predict(model, data)[0]
    assert np.array_equal(predict(model, data)[0], first)
    assert model.training
    assert np.array_equal(predict(model.eval(), data)[0], first)


def test_predictions_that_are_not_finite_are_no_score(tokenizer):
    model = toy("sst2")
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="sst2"):
        evaluate_task(model, tokenizer, "sst2", single(4))


# --- runs ---------------------------------------------------------------------------------------


def test_a_finished_run_is_returned_without_training(home, tokenizer, monkeypatch):
    arguments = (toy("sst2"), tokenizer, "sst2", data_of(), SHORT)
    run = finetune(*arguments, name="toy")

    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(finetuning, "train", never)
    assert finetune(*arguments, name="toy").result() == run.result()


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["model", "teacher", "loss_config", "training", "length", "labels", "texts"]
)
def test_another_question_is_not_answered_by_an_old_run(home, tokenizer, what):
    model, data, training, more = toy("sst2"), data_of(), SHORT, {}
    if what == "loss_config":
        more = {"teacher": toy("sst2", seed=3)}
    finetune(model, tokenizer, "sst2", data, training, name="toy", **more)
    data = copy.deepcopy(data)
    if what == "model":
        model = toy("sst2", seed=1)
    if what == "teacher":
        more = {"teacher": toy("sst2", seed=3)}
    if what == "loss_config":
        more["loss_config"] = FinetuneLossConfig(temperature=3.0)
    if what == "training":
        training = dataclasses.replace(SHORT, seed=1)
    if what == "length":
        more = {"max_length": 8}
    if what == "labels":
        data["train"]["label"][5] ^= 1
    if what == "texts":
        data["train"]["sentence"][5] = "w199 w1"
    with pytest.raises(ValueError, match="another config"):
        finetune(model, tokenizer, "sst2", data, training, name="toy", **more)


def test_models_that_only_finetune_holds_are_freed_before_training(home, tokenizer, monkeypatch):
    """Else a large model is in memory twice, and its teacher too, for the whole training."""
    given = [toy("sst2", seed=3), toy("sst2")]
    held, real = [weakref.ref(model) for model in given], finetuning.train

    def trained(*arguments):
        assert [model() for model in held] == [None, None]
        return real(*arguments)

    monkeypatch.setattr(finetuning, "train", trained)
    an_epoch, data = dataclasses.replace(TOY, epochs=1, steps=None), data_of()
    # *arguments, **options and an assert would hold the models
    run = finetune(given.pop(), tokenizer, "sst2", data, an_epoch, name="toy", teacher=given.pop())
    assert run.finished


def test_weights_are_kept_only_if_asked(home, tokenizer):
    arguments = (toy("sst2"), tokenizer, "sst2", data_of(), SHORT)
    run = finetune(*arguments, name="toy", keep_model=False)
    assert run.finished
    kept = [p.name for p in run.path.rglob("*") if p.suffix == ".safetensors"]
    assert kept == ["predictions.safetensors"]
    assert not run.model.exists()


@pytest.mark.slow
def test_a_run_keeps_what_it_answered_to_what_it_was_scored_on(home, tokenizer):
    data = data_of() | {"test": single(9, seed=5)}
    run = finetune(toy("sst2"), tokenizer, "sst2", data, SHORT, name="toy")
    kept = run.predictions()
    assert {split: z.shape for split, z in kept.items()} == {"validation": (40, 2), "test": (9, 2)}
    trained = BertForSequenceClassification.from_pretrained(run.model)
    for split, logits in kept.items():
        examples = task_examples(data[split], TASKS["sst2"], tokenizer, max_length=64, seed=0)
        assert np.array_equal(logits, predict(trained, examples)[0])
        labels = np.asarray(data[split]["label"])
        assert score_of(TASKS["sst2"], logits, labels) == run.result()["scores"][split]


@pytest.mark.slow
def test_answers_that_cannot_be_written_leave_the_run_unfinished(home, tokenizer, monkeypatch):
    """A run with a result has its answers: they are written first, whole or not at all."""
    from distilkit import checkpoint

    real = checkpoint.os.replace

    def full(source, target):
        if "predictions" in str(target):
            raise OSError("no space left on device")
        real(source, target)

    arguments = (toy("sst2"), tokenizer, "sst2", data_of(), SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            finetune(*arguments, name="toy")
    run = Run(home / "runs" / "toy")
    assert not run.finished
    assert not (run.path / "predictions.safetensors").exists()
    finetune(*arguments, name="toy")
    assert finetune(*arguments, name="whole").predictions()["validation"].tolist() == (
        run.predictions()["validation"].tolist()
    )


# --- what is refused ----------------------------------------------------------------------------


def refused(home, match: str, *arguments, **options) -> None:
    with pytest.raises(ValueError, match=match):
        finetune(*arguments, SHORT, name="toy", **options)
    assert not (home / "runs").exists()


def test_unknown_task(home, tokenizer):
    refused(home, "unknown task 'sst3'", toy("sst2"), tokenizer, "sst3", data_of())


def test_another_number_of_labels(home, tokenizer):
    match = r"sst2 has 2 output\(s\), the (model|teacher) 3"
    refused(home, match, toy("mnli"), tokenizer, "sst2", data_of())
    teacher = toy("mnli")
    refused(home, match, toy("sst2"), tokenizer, "sst2", data_of(), teacher=teacher)
    refused(home, r"stsb has 1", toy("sst2"), tokenizer, "stsb", data_of(pairs, real=True))


def test_the_same_labels_in_another_order(home, tokenizer):
    """MNLI's order differs between published checkpoints."""
    order = {0: "contradiction", 1: "entailment", 2: "neutral"}
    for names in (order, {i: name.upper() for i, name in order.items()}):
        odd = toy("mnli", id2label=names, label2id={v: k for k, v in names.items()})
        with pytest.raises(ValueError, match="another order"):
            check_classifier(odd, TASKS["mnli"])
    columns = pairs(9)
    columns = {"premise": columns["sentence1"], "hypothesis": columns["sentence2"]}
    columns["label"] = [0, 1, 2] * 3
    data = {"train": columns, "validation_matched": columns, "validation_mismatched": columns}
    refused(home, "another order", odd, tokenizer, "mnli", data)
    refused(home, "another order", toy("mnli"), tokenizer, "mnli", data, teacher=odd)
    with pytest.raises(ValueError, match="another order"):
        evaluate_task(odd, tokenizer, "mnli", columns)
    check_classifier(toy("mnli"), TASKS["mnli"])
    unnamed = {i: f"LABEL_{i}" for i in range(3)}
    check_classifier(toy("mnli", id2label=unnamed), TASKS["mnli"])


def test_an_objective_without_a_teacher(home, tokenizer):
    arguments = (toy("sst2"), tokenizer, "sst2", data_of())
    refused(home, "needs teacher", *arguments, loss_config=FinetuneLossConfig())


def test_metrics_that_the_kind_does_not_have(home, tokenizer):
    """Otherwise scikit-learn says so, after the training."""
    for wrong in (
        {"metrics": ("accuracy", "f1"), "labels": ("a", "b", "c")},
        {"metrics": ("accurracy",), "score": "accurracy"},
        {"metrics": ("accuracy",), "score": "macro_f1"},
        {"kind": "regression", "metrics": ("pearson", "rmse"), "score": "rmse", "labels": ()},
        {"kind": "multi_label_classification", "metrics": ("accuracy", "f1")},
        {"kind": "token_classification", "metrics": ("entity_f1", "accuracy")},
    ):
        task = dataclasses.replace(TASKS["sst2"], **wrong)
        refused(home, "the score is one of the metrics", toy("sst2"), tokenizer, task, data_of())


def test_pipelines_are_told_the_kind_and_the_names(home, tokenizer):
    """Otherwise they take softmax for several labels, and a sigmoid of a real number."""
    unnamed = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    model = toy("sst2", problem_type=None, **unnamed)
    run = finetune(model, tokenizer, "sst2", data_of(), SHORT, name="toy")
    saved = json.loads((run.model / "config.json").read_text())
    assert saved["problem_type"] == "single_label_classification"
    assert saved["id2label"] == {"0": "negative", "1": "positive"}
    assert model.config.problem_type is None  # the given one stays


def test_a_model_without_a_head(home, tokenizer):
    refused(home, "is a BertModel", small_bert(2).bert, tokenizer, "sst2", data_of())


@pytest.mark.parametrize(
    ("label", "why"), [(0.5, "0.5 is no class"), ("bad", "no numbers"), (np.inf, "inf is no class")]
)
def test_labels_that_are_no_classes(home, tokenizer, label, why):
    """A decimal would be cut: 0.9 to 0."""
    data = data_of()
    data["train"]["label"][3] = label
    refused(home, why, toy("sst2"), tokenizer, "sst2", data)
    with pytest.raises(ValueError, match=why):
        evaluate_task(toy("sst2"), tokenizer, "sst2", data["train"])


def test_a_missing_label_is_none(tokenizer):
    split = single(6)
    split["label"][4] = None
    examples = task_examples(split, TASKS["sst2"], tokenizer, max_length=16, seed=0)
    assert examples.labels.tolist() == [*split["label"][:4], -1, split["label"][5]]


def test_classes_that_the_data_numbers_otherwise(home, tokenizer):
    """As class_encode_column does, which sorts the names."""
    names = ["positive", "negative"]
    features = {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    split = datasets.Dataset.from_dict(single(20), datasets.Features(features))
    data = {"train": split, "validation": split}
    refused(home, "'positive' is 0 in the data", toy("sst2"), tokenizer, "sst2", data)
    with pytest.raises(ValueError, match="'positive' is 0 in the data"):
        evaluate_task(toy("sst2"), tokenizer, "sst2", split)
    other = split.cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    assert evaluate_task(toy("sst2"), tokenizer, "sst2", other)


def test_a_column_called_features():
    frame = pd.DataFrame({**single(8), "features": 1.0})
    assert labelled(TASKS["sst2"], frame).all()


def test_all_splits_in_place_of_one(tokenizer):
    with pytest.raises(ValueError, match="no column 'sentence', only train, validation"):
        evaluate_task(toy("sst2"), tokenizer, "sst2", data_of())


def test_frames_with_any_index(home, tokenizer):
    shuffled = {k: pd.DataFrame(v).sample(frac=1, random_state=0) for k, v in data_of().items()}
    arguments = toy("sst2"), tokenizer, "sst2", shuffled, SHORT
    run = finetune(*arguments, name="frames", teacher=toy("sst2", seed=3))
    lists = {k: v.to_dict("list") for k, v in shuffled.items()}
    assert run.config()["data"]["train"] == task_digest(lists["train"], tokenizer)


def task_digest(split, tokenizer) -> str:
    return task_examples(split, TASKS["sst2"], tokenizer, max_length=64, seed=0).digest()


def test_a_compiled_model(home, tokenizer):
    """Its signature hides token types, so that two sentences would be read as one."""
    compiled = OptimizedModule(toy("rte"), lambda f: f)
    with pytest.raises(TypeError, match="_orig_mod"):
        evaluate_task(compiled, tokenizer, "rte", pairs(8))
    with pytest.raises(TypeError, match="_orig_mod"):
        finetune(compiled, tokenizer, "rte", data_of(pairs), SHORT, name="toy")


def test_longer_than_the_model(home, tokenizer):
    """Refused or cut; otherwise it fails at the first long text, at any step of the training."""
    data = data_of()
    data["train"]["sentence"][7] = " ".join(["w5"] * 100)
    epoch = dataclasses.replace(SHORT, steps=6)
    arguments = (toy("sst2"), tokenizer, "sst2", data, epoch)
    refusal = ""
    try:
        assert finetune(*arguments, name="toy", max_length=128).finished
    except ValueError as error:
        refusal = str(error)
    assert (home / "runs").exists() or "positions" in refusal


def test_a_test_set_without_labels_does_not_cost_the_training(home, tokenizer):
    """The test split is loaded unchecked; it may lack the column."""
    data = data_of() | {"test": {"sentence": ["w1 w2"]}}
    run = finetune(toy("sst2"), tokenizer, "sst2", data, SHORT, name="toy")
    assert set(run.result()["scores"]) == {"validation"}


# --- a new head ---------------------------------------------------------------------------------


@pytest.fixture
def quiet():
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # a new head is meant
    yield
    transformers.logging.set_verbosity(level)


@pytest.mark.parametrize("name", TASKS)
def test_classifier(tmp_path, quiet, name):
    bert = small_bert(2)
    bert.save_pretrained(tmp_path)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    model, again = (classifier(tmp_path, name, seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(state_of(model), state_of(again))
    other = classifier(tmp_path, name, seed=2)
    head, of_other = (
        each.get_submodule("qa_outputs" if name == "squad" else "classifier")
        for each in (model, other)
    )
    assert not torch.equal(of_other.weight, head.weight)
    labels = {"stsb": ["score"], "squad": ["start", "end"]}.get(name, list(TASKS[name].labels))
    assert [model.config.id2label[i] for i in range(len(labels))] == labels
    assert head.out_features == len(labels)
    query = "encoder.layer.1.attention.self.query.weight"
    assert torch.equal(model.bert.state_dict()[query], bert.bert.state_dict()[query])
    check_classifier(model, TASKS[name])


def test_a_half_precision_checkpoint_is_trained_in_float32(home, tmp_path, tokenizer, quiet):
    """transformers loads what was saved; AdamW in half precision loses small updates."""
    small_bert(2).to(torch.bfloat16).save_pretrained(tmp_path / "half")
    model = classifier(tmp_path / "half", "sst2", seed=1)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "std"), [(768, 0.02), (192, 0.08), (32, 0.48)])
def test_a_new_head_is_as_wide_as_the_width_asks(tmp_path, quiet, width, std):
    """0.02 · 768 / H; the pooler and pre_classifier of [H, H] are part of the head."""
    shape = {"hidden_size": width, "num_attention_heads": 4, "intermediate_size": 32}
    teacher = small_bert(1, **shape)
    teacher.save_pretrained(tmp_path / "bert")
    student_from_teacher(teacher).save_pretrained(tmp_path / "distilbert")
    for kind, part in (("bert", "bert.pooler.dense"), ("distilbert", "pre_classifier")):
        model = classifier(tmp_path / kind, "mnli", seed=1)
        for layer in (model.get_submodule(part), model.classifier):
            # the standard error of a standard deviation is 1/sqrt(2 n) of it: five of those
            error = 5 / (2 * layer.weight.numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=error)
            assert not layer.bias.any()
    kept = model.distilbert.embeddings.word_embeddings.weight
    assert torch.equal(kept, teacher.bert.embeddings.word_embeddings.weight)


# --- every kind of task, with and without labels ------------------------------------------------

TAGS = Task(
    *("tags", "Tags", ("text",), ("a", "b", "c"), "multi_label_classification"),
    metrics=("micro_f1",),
    score="micro_f1",
)
WORDS = Task(
    *("ner", "NER", ("words",), ("B-X", "O"), "token_classification"),
    metrics=("entity_f1",),
    score="entity_f1",
)


def tagged(n: int, seed: int = 0) -> dict[str, list]:
    """w0, w1 and w2 are labels of their own."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (n, 3))
    texts = []
    for row in labels:
        words = [f"w{i}" for i in generator.integers(10, 200, 4)]
        texts.append(" ".join([*(f"w{i}" for i in range(3) if row[i]), *words]))
    return {"text": texts, "label": labels.tolist()}


def words(n: int, seed: int = 0) -> dict[str, list]:
    """Words below w50 are entities; every sentence has an empty word, which has no token."""
    generator = np.random.default_rng(seed)
    sentences = [generator.integers(0, 200, generator.integers(3, 9)) for _ in range(n)]
    return {
        "words": [["", *(f"w{i}" for i in sentence)] for sentence in sentences],
        "label": [[1, *(int(i >= 50) for i in sentence)] for sentence in sentences],
    }


def toy_for(task: Task, tmp_path, seed: int = 0, **shape):
    small_bert(2, **shape).save_pretrained(tmp_path / "bert")
    return classifier(tmp_path / "bert", task, seed)


@pytest.mark.slow
def test_several_labels_are_learnt(home, tmp_path, tokenizer, quiet):
    data = data_of(tagged, 192)
    training = dataclasses.replace(TOY, steps=200)
    run = finetune(toy_for(TAGS, tmp_path), tokenizer, TAGS, data, training, name="toy")
    assert run.result()["scores"]["validation"]["micro_f1"] > 0.9
    logits = run.predictions()["validation"]
    assert logits.shape == (40, 3)
    right = sklearn.metrics.f1_score(data["validation"]["label"], logits > 0, average="micro")
    assert run.result()["scores"]["validation"]["micro_f1"] == pytest.approx(right)


@pytest.mark.slow
def test_words_are_labelled(home, tmp_path, tokenizer, quiet):
    data = data_of(words)
    training = dataclasses.replace(TOY, steps=100)
    run = finetune(toy_for(WORDS, tmp_path), tokenizer, WORDS, data, training, name="toy")
    assert run.result()["scores"]["validation"]["entity_f1"] > 0.7
    total = sum(len(sentence) for sentence in data["validation"]["words"])
    stored = run.predictions()["validation"]
    assert stored.shape == (total, 2)
    model = fine_tuned_on(run.model, WORDS)
    examples = task_examples(data["validation"], WORDS, tokenizer, max_length=64, seed=0)
    logits, labels = predict(model, examples)
    assert np.array_equal(np.concatenate(logits), stored, equal_nan=True)
    assert [own.tolist() for own in labels] == data["validation"]["label"]
    for found, sentence in zip(logits, data["validation"]["words"], strict=True):
        assert found.shape == (len(sentence), 2)
        assert np.isnan(found[0]).all()  # the empty word
        with torch.no_grad():
            inputs = tokenizer([sentence], is_split_into_words=True, return_tensors="pt")
            alone = model(**inputs).logits[0, 1:-1].numpy()
        assert np.abs(found[1:] - alone).max() < 1e-5


def test_words_that_were_cut_off_count_as_outside(tmp_path, tokenizer, quiet):
    """In the order of their numbers: O is not the first label."""
    model = toy_for(WORDS, tmp_path)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0, 0.0]))  # every word an entity
    data = {"words": [[f"w{i}" for i in range(20)]], "label": [[0] * 20]}
    examples = task_examples(data, WORDS, tokenizer, max_length=8, seed=0)
    logits, labels = predict(model, examples)
    assert answers(WORDS, logits)[0].tolist() == [0] * 6 + [1] * 14
    assert labels[0].tolist() == [0] * 20
    whole = evaluate_task(model, tokenizer, WORDS, data)["entity_f1"]
    cut = evaluate_task(model, tokenizer, WORDS, data, max_length=8)["entity_f1"]
    assert whole == 1
    assert cut == pytest.approx(2 * 6 / (6 + 20))


@pytest.mark.parametrize("transfer_only", [False, True])
@pytest.mark.slow
def test_unlabelled_texts_teach_through_the_teacher(home, tokenizer, transfer_only):
    """A few labels, all of them wrong; the soft targets of more texts outweigh them."""
    one = tokenizer.convert_tokens_to_ids("w1")
    teacher = Oracle(
        "sst2", lambda ids, _: 6.0 * torch.stack([ids[:, 1] != one, ids[:, 1] == one], 1).float()
    )
    data = data_of(train=8)
    texts = {"sentence": single(96, seed=7)["sentence"]}
    if transfer_only:
        data["train"], more = texts, {}
    else:
        more = {"unlabelled": datasets.Dataset.from_dict(texts)}
    arguments = (toy("sst2"), tokenizer, "sst2", data, TOY)
    if transfer_only:
        with pytest.warns(UserWarning, match="label term is 0"):
            run = finetune(*arguments, name="toy", teacher=teacher)
        assert {row["task"] for row in run.rows()} == {0.0}
    else:
        run = finetune(*arguments, name="toy", teacher=teacher, **more)
        assert run.config()["examples"] == 8 + 96
    assert run.result()["scores"]["validation"]["accuracy"] >= 0.9
    assert run.result()["teacher_scores"] == {"validation": {"accuracy": 1.0}}


@pytest.mark.slow
def test_hidden_states_are_aligned_in_fine_tuning(home, tokenizer):
    student, teacher = toy("sst2"), toy("sst2", seed=3)
    config = FinetuneLossConfig(0.0, 0.0, cosine_weight=1.0, cosine_layers=((1, 1), (2, 2)))
    run = finetune(
        student, tokenizer, "sst2", data_of(), TOY, name="toy", teacher=teacher, loss_config=config
    )
    rows = run.rows()
    assert rows[0]["loss"] == rows[0]["cosine"]
    assert rows[-1]["cosine"] < rows[0]["cosine"] / 1.5
    pairs = FinetuneLossConfig(cosine_weight=1.0, cosine_layers=((3, 1),))
    with pytest.raises(ValueError, match=r"\(3, 1\).*student.*2 layers"):
        finetune(
            *(student, tokenizer, "sst2", data_of(), TOY),
            name="other",
            teacher=teacher,
            loss_config=pairs,
        )


@pytest.mark.slow
def test_a_teacher_with_its_own_vocabulary(home, tmp_path, tokenizer, quiet):
    """It is found in the teacher's folder; without it the teacher would read other words."""
    vocabulary = {token: 204 - i for token, i in tokenizer.get_vocab().items()}
    backwards = type(tokenizer)(vocab=vocabulary)
    own = dataclasses.replace(TOY, steps=100)
    small_bert(2).save_pretrained(tmp_path / "bert")
    first = classifier(tmp_path / "bert", "sst2", 3)
    taught = finetune(first, backwards, "sst2", data_of(), own, name="teacher")
    teacher = fine_tuned_on(taught.model, "sst2")
    student = toy("sst2")
    run = finetune(student, tokenizer, "sst2", data_of(), TOY, name="toy", teacher=teacher)
    assert run.result()["teacher_scores"] == {"validation": taught.result()["scores"]["validation"]}
    aligned = FinetuneLossConfig(cosine_weight=1.0)
    with pytest.raises(ValueError, match="other token ids"):
        finetune(
            *(student, tokenizer, "sst2", data_of(), TOY),
            name="aligned",
            teacher=teacher,
            loss_config=aligned,
        )
    with pytest.raises(ValueError, match="another vocabulary"):
        finetune(teacher, tokenizer, "sst2", data_of(), TOY, name="swapped")
    with pytest.raises(ValueError, match="another vocabulary"):
        evaluate_task(teacher, tokenizer, "sst2", single(4))


def test_a_teacher_of_words_has_to_read_the_same_ids(home, tmp_path, tokenizer, quiet):
    backwards = type(tokenizer)(vocab={t: 204 - i for t, i in tokenizer.get_vocab().items()})
    model, data = toy_for(WORDS, tmp_path), data_of(words)
    teacher = toy_for(WORDS, tmp_path, 3)
    teacher.name_or_path = str(tmp_path / "teacher")
    backwards.save_pretrained(teacher.name_or_path)
    refused(home, "other token ids", model, tokenizer, WORDS, data, teacher=teacher)


def test_a_teacher_without_names_is_measured_first(home, tokenizer):
    one = tokenizer.convert_tokens_to_ids("w1")
    swapped = Oracle(
        "sst2", lambda ids, _: 6.0 * torch.stack([ids[:, 1] == one, ids[:, 1] != one], 1).float()
    )
    swapped.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    arguments = (toy("sst2"), tokenizer, "sst2", data_of())
    refused(home, r"\['positive', 'negative'\]", *arguments, teacher=swapped)
    data = {"train": single(96), "test": single(9)}
    with pytest.warns(UserWarning, match="order is not checked"):
        finetune(*arguments[:3], data, SHORT, name="unchecked", teacher=swapped)


def test_without_a_teacher_every_training_example_needs_a_label(home, tokenizer):
    model, data = toy("sst2"), data_of()
    texts = {"sentence": ["w1 w2"]}
    refused(home, "teacher", model, tokenizer, "sst2", data, unlabelled=texts)
    refused(home, "teacher", model, tokenizer, "sst2", data | {"train": texts})
    data["train"]["label"][3] = -1
    refused(home, "teacher", model, tokenizer, "sst2", data)
    options = {"teacher": toy("sst2", seed=3), "loss_config": FinetuneLossConfig(kd_weight=0)}
    refused(home, "kd_weight = 0", model, tokenizer, "sst2", data, **options)
    refused(
        *(home, "no column 'sentence'", model, tokenizer, "sst2", data_of()),
        unlabelled={"text": ["w1"]},
        teacher=options["teacher"],
    )


@pytest.mark.parametrize("what", ["name", "length", "rows", "teacher", "cosine", "half"])
def test_what_can_be_refused_is_refused_before_texts_are_read(home, tokenizer, monkeypatch, what):
    def never(*_, **__):
        raise AssertionError("tokenized")

    monkeypatch.setattr(finetuning, "task_examples", never)
    model, options = toy("sst2"), {"name": "toy"}
    if what == "name":
        options["name"] = "a/b"
    if what == "length":
        options["max_length"] = 100
    if what == "rows":
        model.config.vocab_size = 100
    if what == "teacher":
        options["teacher"] = toy("mnli")
    if what == "half":
        model.half()
    if what == "cosine":
        config = FinetuneLossConfig(cosine_weight=1.0, cosine_layers=((0, 9),))
        options |= {"teacher": toy("sst2", seed=3), "loss_config": config}
    with pytest.raises(ValueError, match=r"a/b|positions|100 rows|output|cosine_layers|float16"):
        finetune(model, tokenizer, "sst2", data_of(), SHORT, **options)
