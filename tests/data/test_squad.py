"""SQuAD: windows cover the passage, answers are cut out right, EM and F1 are the official ones."""

from __future__ import annotations

import re
import string

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from toy_models import small_bert

from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.metrics import SquadMetric
from distilkit.data.question_answering import (
    answer_loss,
    finetune_squad,
    question_answerer,
    squad_scores,
    start_and_end,
)
from distilkit.data.squad import best_answers, load_squad, windows
from distilkit.student import student_from_teacher


def split(n=12, passage=60, seed=0):
    """Passages of random words; the answer is the two words after the one that is asked for."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        words = [f"w{k}" for k in random.permutation(200)[:passage]]
        at = int(random.integers(0, passage - 3))
        answer = " ".join(words[at + 1 : at + 3])
        start = len(" ".join(words[: at + 1])) + 1
        rows.append(
            {
                "id": str(i),
                "question": f"w{int(words[at][1:])} w1",
                "context": " ".join(words),
                "answers": {"text": [answer, "other"], "answer_start": [start, 0]},
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    torch.manual_seed(0)
    small_bert(2, max_position_embeddings=128).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize(("max_length", "stride"), [(128, 16), (32, 8), (24, 0)])
def test_windows_cover_the_passage_and_mark_the_answer(tokenizer, max_length, stride):
    data = split()
    found = windows(data, tokenizer, max_length=max_length, stride=stride)
    marked = set()
    for window, example in enumerate(found.of_example):
        characters = found.offsets[window]
        context, answers = data["context"][example], data["answers"][example]
        first, last = found.examples.labels[window]
        inside = characters[:, 0] >= 0
        start, end = (
            answers["answer_start"][0],
            answers["answer_start"][0] + len(answers["text"][0]),
        )
        whole = characters[inside][0, 0] <= start and characters[inside][-1, 1] >= end
        assert (first > 0) == whole
        if first:
            assert context[characters[first, 0] : characters[last, 1]] == answers["text"][0]
            marked.add(example)
        assert len(found.examples.input_ids[window]) <= max_length
    for example, context in enumerate(data["context"]):
        seen = np.zeros(len(context), bool)
        for window in np.flatnonzero(found.of_example == example):
            for a, b in found.offsets[window][found.offsets[window][:, 0] >= 0]:
                seen[a:b] = True
        assert all(seen[i] for i, letter in enumerate(context) if letter != " ")
    if stride:
        assert marked == set(range(12))


def test_answers_are_the_best_span_over_all_windows(tokenizer):
    data = split(n=4)
    found = windows(data, tokenizer, max_length=32, stride=8)
    random = np.random.default_rng(1)
    starts = [random.normal(size=len(o)) for o in found.offsets]
    ends = [random.normal(size=len(o)) for o in found.offsets]
    answers = best_answers(found, data["context"], starts, ends)
    for example in range(4):  # every pair, the slow way
        best = (-np.inf, "")
        for w in np.flatnonzero(found.of_example == example):
            for i, (a, _) in enumerate(found.offsets[w]):
                for j, (_, b) in enumerate(found.offsets[w]):
                    if a < 0 or b < 0 or not 0 <= j - i < 30:
                        continue
                    best = max(best, (starts[w][i] + ends[w][j], data["context"][example][a:b]))
        assert answers[example] == best[1]


def test_padding_and_question_are_no_answer(tokenizer):
    data = split(n=2, passage=20)
    found = windows(data, tokenizer, max_length=64, stride=8)
    starts = [np.where(o[:, 0] < 0, 100.0, np.arange(len(o))) for o in found.offsets]
    for answer, context in zip(
        best_answers(found, data["context"], starts, starts), data["context"], strict=True
    ):
        assert answer == context.split()[-1]


def official(prediction, answers):
    """The official evaluation script's arithmetic, written again."""

    def normal(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def f1(answer):
        p, g = normal(prediction).split(), normal(answer).split()
        same = sum(min(p.count(word), g.count(word)) for word in set(p))
        if not same:
            return 0.0
        precision, recall = same / len(p), same / len(g)
        return 2 * precision * recall / (precision + recall)

    return max(normal(prediction) == normal(a) for a in answers), max(f1(a) for a in answers)


def test_the_metric_is_the_official_one():
    cases = [
        ("The Eiffel Tower", ["eiffel tower!", "Paris"]),
        ("tower", ["the Eiffel Tower", "a tower of Paris"]),
        ("", ["something"]),
        ("1,000 men", ["1000 men"]),
        ("the the cat cat", ["cat the cat cat"]),
        ("an apple", ["apples"]),
    ]
    expected = np.mean([official(*case) for case in cases], axis=0)
    found = SquadMetric().compute(
        predictions=[p for p, _ in cases], references=[a for _, a in cases]
    )
    assert [found["exact_match"], found["f1"]] == pytest.approx(expected, abs=1e-12)
    assert 0 < found["exact_match"] < found["f1"] < 1


def test_the_loss_is_the_authors(checkpoint, tokenizer):
    """(start + end) / 2, with T²·KL by batch mean; padding takes no part."""
    teacher = question_answerer(checkpoint, 1).double().eval()
    student = question_answerer(checkpoint, 2).double().eval()
    examples = windows(split(n=6), tokenizer, max_length=48, stride=8).examples
    ids = np.argsort(examples.lengths)[[0, -1, 2]]
    batch = examples.batch(0, ids)
    assert not batch["attention_mask"].all()
    loss = answer_loss(teacher, FinetuneLossConfig(0.3, 0.7, 2.0))
    found = {k: v.item() for k, v in loss(student, batch, batch["counts"]).items()}
    cross, soft = [], []
    for row, n in enumerate(examples.lengths[ids]):
        inputs = {k: batch[k][row : row + 1, :n] for k in ("input_ids", "token_type_ids")}
        ours, theirs = student(**inputs), teacher(**inputs)
        for k, name in enumerate(("start_logits", "end_logits")):
            cross.append(F.cross_entropy(ours[name], batch["labels"][row : row + 1, k]))
            s, t = F.log_softmax(ours[name] / 2, -1), F.log_softmax(theirs[name] / 2, -1)
            soft.append(4 * (t.exp() * (t - s)).sum())
    cross, soft = torch.stack(cross).mean().item(), torch.stack(soft).mean().item()
    expected = {"loss": 0.3 * cross + 0.7 * soft, "task": cross, "soft_target": soft}
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_student_without_token_types_answers_too(checkpoint, tokenizer, tmp_path):
    student_from_teacher(small_bert(2, max_position_embeddings=128)).save_pretrained(tmp_path / "s")
    student = question_answerer(tmp_path / "s", 1)
    batch = windows(split(n=3), tokenizer, max_length=48, stride=8).examples.batch(0, [0, 1])
    assert start_and_end(student, batch).shape == (4, batch["input_ids"].shape[1])


@pytest.mark.slow
def test_fine_tuning_learns_and_resumes_as_a_run(home, checkpoint, tokenizer):
    data = {"train": split(16, passage=20), "validation": split(16, passage=20)}
    training = TrainingConfig(
        steps=150, batch_size=8, micro_batch_size=8, learning_rate=2e-3, precision="fp32"
    )
    start = question_answerer(checkpoint, 1)
    arguments = {"training": training, "max_length": 64, "stride": 8}
    run = finetune_squad(start, tokenizer, data, name="qa", **arguments)
    found = run.result()["scores"]["validation"]
    before = squad_scores(
        start, windows(data["validation"], tokenizer, max_length=64, stride=8), data["validation"]
    )
    assert found["f1"] > before["f1"] + 0.3  # the same examples: it can learn them by heart
    again = finetune_squad(start, tokenizer, data, name="qa", **arguments)
    assert again.result() == run.result()
    taught = finetune_squad(
        start,
        tokenizer,
        data,
        name="qa-taught",
        teacher=question_answerer(run.model, 1),
        **arguments | {"training": TrainingConfig(**{**vars(training), "steps": 2})},
    )
    assert taught.metrics()["soft_target"].iloc[0] > 0
    assert taught.config()["loss_config"]["kd_weight"] == 0.5


def test_what_does_not_fit_is_said_first(home, checkpoint, tokenizer, tmp_path):
    data = {"train": split(4), "validation": split(4)}
    model = question_answerer(checkpoint, 1)
    with pytest.raises(ValueError, match="has 128 positions"):
        finetune_squad(model, tokenizer, data, TrainingConfig(), name="qa", max_length=129)
    with pytest.raises(ValueError, match="needs teacher="):
        finetune_squad(
            model, tokenizer, data, TrainingConfig(), name="qa", loss_config=FinetuneLossConfig()
        )
    with pytest.raises(ValueError, match="too little room"):
        windows(split(4), tokenizer, max_length=16, stride=12)
    without = split(2)
    without["answers"][1] = {"text": [], "answer_start": []}
    with pytest.raises(ValueError, match="example 1 has no answer"):
        windows(without, tokenizer, max_length=64, stride=8)
    moved = split(3)
    moved["answers"][2]["answer_start"][0] += 1
    with pytest.raises(ValueError, match=r"example 2: .* does not stand at character"):
        windows(moved, tokenizer, max_length=64, stride=8)
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        load_squad(tmp_path / "gone")
    (tmp_path / "squad").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train\.parquet"):
        load_squad(tmp_path)
    for part in ("train", "validation"):
        pd.DataFrame(split(3)).drop(columns="answers").to_parquet(
            tmp_path / "squad" / f"{part}.parquet"
        )
    with pytest.raises(ValueError, match="no column 'answers'"):
        load_squad(tmp_path)
    for part in ("train", "validation"):
        pd.DataFrame(split(3)).to_parquet(tmp_path / "squad" / f"{part}.parquet")
    assert load_squad(tmp_path)["train"]["answers"][0]["text"][1] == "other"
