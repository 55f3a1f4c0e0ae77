"""A teacher's logits, computed once: the losses are those of asking it at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_question_answering import split
from test_task_loss import KINDS, data_of, model_of
from transformers import BertForQuestionAnswering

from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data import examples as data_examples
from distilkit.data import teacher_logits
from distilkit.data.rows import Rows
from distilkit.data.task_examples import task_examples
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import TASKS
from distilkit.data.teacher_logits import TeacherLogits
from distilkit.finetuning import finetune
from distilkit.student import student_from_teacher

TOY = TrainingConfig(
    epochs=2,
    batch_size=4,
    micro_batch_size=3,
    learning_rate=1e-3,
    precision="fp32",
    checkpoint_interval=2,
)
CONFIG = FinetuneLossConfig(label_weight=0.3, kd_weight=0.6, temperature=3.0)
N = 13


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """A part is some four texts, and a batch two of them."""
    monkeypatch.setattr(teacher_logits, "PART", 40)
    monkeypatch.setattr(data_examples, "AT_ONCE_ON_CPU", 20)


def answered(monkeypatch, model) -> list[int]:
    """Grows with every batch that the model reads."""
    calls, forward = [], type(model).forward

    def counting(self, *arguments, **inputs):
        if self is model:
            calls.append(len(inputs["input_ids"]))
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(type(model), "forward", counting)
    return calls


def models_and_examples(kind, tokenizer, **more):
    if kind == "answers":
        task, data = TASKS["squad"], split(4, passage=20)
        models = [BertForQuestionAnswering(model_of("single", s).config) for s in (0, 3)]
        for model in models:
            model.config.num_labels = 2
            model.qa_outputs = torch.nn.Linear(32, 2)
        more["max_length"] = 24
    else:
        task, data = KINDS[kind], data_of(kind, N)
        models = [model_of(kind, s).float() for s in (0, 3)]
        more["max_length"] = 64
    examples = task_examples(data, task, tokenizer, seed=0, **more)
    return task, *(model.eval() for model in models), examples


@pytest.mark.parametrize("kind", [*KINDS, "answers", "other ids"])
@pytest.mark.slow
def test_the_losses_are_those_of_asking_at_every_step(home, tokenizer, kind, monkeypatch):
    more = {}
    if kind == "other ids":
        vocabulary = {token: 204 - i for token, i in tokenizer.get_vocab().items()}
        kind, more = "single", {"teacher_tokenizer": type(tokenizer)(vocab=vocabulary)}
    task, student, teacher, examples = models_and_examples(kind, tokenizer, **more)
    calls = answered(monkeypatch, teacher)
    stored = TeacherLogits(examples, task, teacher, TOY)
    assert sum(calls) == len(examples)
    loss, found = TaskLoss(task, teacher, CONFIG), []
    ids = stored.order(0, 5)
    assert np.array_equal(ids, examples.order(0, 5))
    for source in (examples, stored):
        parts = [source.batch(0, some) for some in (ids[:5], ids[5:6], ids[6:11])]
        counts = {k: sum(part["counts"][k] for part in parts) for k in parts[0]["counts"]}
        terms = [loss(student, part, counts) for part in parts]
        sum(term["loss"] for term in terms).backward()
        found.append([{k: v.item() for k, v in term.items()} for term in terms])
        found.append(torch.cat([p.grad.flatten() for p in student.parameters()]))
        student.zero_grad()
    asking, gradient, once, of_once = found
    for one, other in zip(asking, once, strict=True):
        assert one == pytest.approx(other, rel=2e-6)
    assert (gradient - of_once).norm() < 1e-5 * gradient.norm()
    assert sum(calls) == len(examples) + len(ids[:11])
    rows = {"words": sum(map(len, data_of("words", N)["words"])), "answers": examples.lengths.sum()}
    size = 4 * int(rows.get(kind, len(examples))) * task.outputs  # no row of padding or [CLS]
    assert (stored.path / "entries.bin").stat().st_size == size


@pytest.mark.slow
def test_one_pass_serves_epochs_seeds_and_students(home, tokenizer, monkeypatch):
    """And the trained weights are those of asking at every step."""
    task, _, teacher, _ = models_and_examples("single", tokenizer)
    teacher.config.id2label = dict(enumerate(task.labels))
    task = replace(task, metrics=("accuracy",))
    data = {"train": data_of("single", N)}
    students = [student_from_teacher(teacher, layers) for layers in ([0], [1])]
    calls = answered(monkeypatch, teacher)

    def run(name, student=students[0], **more):
        training = replace(TOY, **more)
        return finetune(
            student, tokenizer, task, data, training, name=name, teacher=teacher, loss_config=CONFIG
        )

    run("one")
    assert sum(calls) == N
    run("seed", seed=5)
    run("student", student=students[1])
    assert sum(calls) == N
    run("short", steps=1)  # less than an epoch
    assert sum(calls) == N + 4
    monkeypatch.setattr("distilkit.finetuning.sees_every_text", lambda *_: False)
    asking = run("asking")
    assert sum(calls) > 2 * N
    weights = [
        load_file(home / "runs" / n / "model" / "model.safetensors") for n in ("one", "asking")
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-5)
    assert asking.result()["scores"] == {}


@pytest.mark.slow
def test_hidden_states_are_asked_for_at_every_step(home, tokenizer, monkeypatch):
    task, student, teacher, _ = models_and_examples("single", tokenizer)
    for model in (student, teacher):
        model.config.id2label = dict(enumerate(task.labels))
    calls = answered(monkeypatch, teacher)
    config = FinetuneLossConfig(0.3, 0.6, 3.0, cosine_weight=0.7)
    data = {"train": data_of("single", N)}
    finetune(student, tokenizer, task, data, TOY, name="a", teacher=teacher, loss_config=config)
    assert sum(calls) == 2 * N
    assert not list(home.rglob("logits-*"))


@pytest.mark.slow
def test_the_key_is_teacher_texts_and_precision(home, tokenizer):
    task, student, teacher, examples = models_and_examples("single", tokenizer)
    _, _, _, others = models_and_examples("single", tokenizer)
    ids = [row.copy() for row in others.input_ids]
    ids[3][1] += 1
    others.input_ids = Rows(np.int32, ids)
    paths = {
        TeacherLogits(*arguments).path
        for arguments in (
            (examples, task, teacher, TOY),
            (others, task, teacher, TOY),
            (examples, task, student, TOY),
            (examples, task, teacher, replace(TOY, precision="bf16")),
        )
    }
    assert len(paths) == 4
    again = TeacherLogits(examples, task, teacher, replace(TOY, seed=9, epochs=7, batch_size=2))
    assert again.path in paths


@pytest.mark.slow
def test_damage_is_named_and_a_killed_build_resumes(home, tokenizer, monkeypatch):
    task, _, teacher, examples = models_and_examples("words", tokenizer)
    stored = TeacherLogits(examples, task, teacher, TOY)
    file, names = stored.path / "entries.bin", stored.path / "parts.txt"
    good, parts = file.read_bytes(), names.read_text().split()
    assert len(parts) > 2
    names.write_text("".join(f"{part}\n" for part in parts[:2]))  # killed after the second
    file.write_bytes(good[:-30])
    calls = answered(monkeypatch, teacher)
    TeacherLogits(examples, task, teacher, TOY)
    assert 0 < sum(calls) < N
    assert file.read_bytes() == good
    file.write_bytes(good[:5] + bytes([good[5] ^ 1]) + good[6:])
    calls.clear()
    with pytest.warns(UserWarning, match="damaged teacher cache: part 1"):
        TeacherLogits(examples, task, teacher, TOY)
    assert sum(calls) == N
    assert file.read_bytes() == good


def test_logits_that_are_not_finite_are_refused(home, tokenizer):
    task, _, teacher, examples = models_and_examples("single", tokenizer)
    with torch.no_grad():
        teacher.classifier.bias.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="not finite"):
        TeacherLogits(examples, task, teacher, TOY)
