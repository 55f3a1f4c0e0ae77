"""Windows cover the passage, answers are cut out right, and the scores are the official ones."""

from __future__ import annotations

import json
import re
import string

import datasets
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from toy_models import small_bert

from distilkit.cli.doctor import task_doctor
from distilkit.compress.compress import compress
from distilkit.config import FinetuneLossConfig, TrainingConfig
from distilkit.data.own_task import task_from, unlabelled_from
from distilkit.data.question_answering import best_answers
from distilkit.data.task_examples import task_examples
from distilkit.data.task_files import load
from distilkit.data.task_loss import TaskLoss
from distilkit.data.tasks import TASKS, scores
from distilkit.finetuning import (
    classifier,
    evaluate_task,
    fine_tuned_on,
    finetune,
)

SQUAD = TASKS["squad"]


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
                "label": {"text": [answer, "other"], "answer_start": [start, 0]},
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    small_bert(2, max_position_embeddings=128).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def examples_of(data, tokenizer, max_length):
    return task_examples(data, SQUAD, tokenizer, max_length=max_length, seed=0)


@pytest.mark.parametrize("max_length", [128, 32, 24])
def test_windows_cover_the_passage_and_mark_the_answer(tokenizer, max_length):
    data = split()
    examples = examples_of(data, tokenizer, max_length)
    passages, marked = examples.passages, set()
    for window, example in enumerate(passages.of_window):
        characters = passages.offsets[window]
        context, answers = data["context"][example], data["label"][example]
        first, last = examples.labels[window]
        inside = characters[:, 0] >= 0
        start = answers["answer_start"][0]
        end = start + len(answers["text"][0])
        whole = characters[inside][0, 0] <= start and characters[inside][-1, 1] >= end
        assert (first > 0) == whole
        if first:
            assert context[characters[first, 0] : characters[last, 1]] == answers["text"][0]
            marked.add(example)
        assert len(examples.input_ids[window]) <= max_length
    for example, context in enumerate(data["context"]):
        seen = np.zeros(len(context), bool)
        for window in np.flatnonzero(passages.of_window == example):
            for a, b in passages.offsets[window][passages.offsets[window][:, 0] >= 0]:
                seen[a:b] = True
        assert all(seen[i] for i, letter in enumerate(context) if letter != " ")
    assert marked == set(range(12))


def test_answers_are_the_best_span_over_all_windows(tokenizer):
    passages = examples_of(split(n=4), tokenizer, 32).passages
    random = np.random.default_rng(1)
    logits = [random.normal(size=(len(o) + 2, 2)) for o in passages.offsets]  # padding too
    answers = best_answers(passages, logits)
    for example in range(4):  # every pair, the slow way
        best = (-np.inf, "")
        for w in np.flatnonzero(passages.of_window == example):
            for i, (a, _) in enumerate(passages.offsets[w]):
                for j, (_, b) in enumerate(passages.offsets[w]):
                    if a < 0 or b < 0 or not 0 <= j - i < 30:
                        continue
                    score = logits[w][i, 0] + logits[w][j, 1]
                    best = max(best, (score, passages.texts[example][a:b]))
        assert answers[example] == best[1]


def test_padding_and_question_are_no_answer(tokenizer):
    passages = examples_of(split(n=2, passage=20), tokenizer, 64).passages
    logits = [np.where(o[:, 0] < 0, 100.0, np.arange(len(o))) for o in passages.offsets]
    answers = best_answers(passages, [np.stack([z, z], 1) for z in logits])
    assert answers == [text.split()[-1] for text in passages.texts]


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
    found = scores("squad", [p for p, _ in cases], [a for _, a in cases])
    assert [found["exact_match"], found["f1"]] == pytest.approx(expected, abs=1e-12)
    assert 0 < found["exact_match"] < found["f1"] < 1


def test_the_loss_is_the_authors(checkpoint, tokenizer):
    """(start + end) / 2, with T²·KL by batch mean; padding takes no part."""
    teacher = classifier(checkpoint, "squad", 1).double().eval()
    student = classifier(checkpoint, "squad", 2).double().eval()
    data = split(n=6)
    data["label"][5] = {"text": [], "answer_start": []}  # soft targets alone
    examples = examples_of(data, tokenizer, 48)
    of_first = int((examples.passages.of_window == 0).sum())
    ids = np.array([0, of_first - 1, of_first, len(examples) - 1])
    batch = examples.batch(0, ids)
    assert not batch["attention_mask"].all()
    config = FinetuneLossConfig(0.3, 0.7, 2.0)
    parts = [examples.batch(0, some) for some in (ids[:3], ids[3:])]  # of unequal size
    losses = [TaskLoss(SQUAD, teacher, config)(student, part, batch["counts"]) for part in parts]
    found = {name: sum(part[name].item() for part in losses) for name in losses[0]}
    cross, soft = [], []
    for row, n in enumerate(examples.lengths[ids]):
        inputs = {k: batch[k][row : row + 1, :n] for k in ("input_ids", "token_type_ids")}
        of_student, of_teacher = student(**inputs), teacher(**inputs)
        for k, name in enumerate(("start_logits", "end_logits")):
            if batch["labels"][row, k] >= 0:
                labels = batch["labels"][row : row + 1, k]
                cross.append(F.cross_entropy(of_student[name], labels))
            s, t = (F.log_softmax(out[name] / 2, -1) for out in (of_student, of_teacher))
            soft.append(4 * (t.exp() * (t - s)).sum())
    assert len(cross) == len(soft) - 2
    cross, soft = torch.stack(cross).mean().item(), torch.stack(soft).mean().item()
    expected = {"loss": 0.3 * cross + 0.7 * soft, "task": cross, "soft_target": soft}
    assert found == pytest.approx(expected, abs=1e-9)


TOY = TrainingConfig(
    steps=150, batch_size=8, micro_batch_size=8, learning_rate=2e-3, precision="fp32"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """A question answerer that has overfitted its task, and the task."""
    home = tmp_path_factory.mktemp("answers")
    rows = split(16, passage=20)
    rows["answers"] = rows.pop("label")
    frame = pd.DataFrame(rows)
    task = task_from({"train": frame, "validation": frame, "test": frame}, name="qa")
    assert (task.kind, task.columns, task.max_length) == (SQUAD.kind, SQUAD.columns, 384)
    small_bert(2, max_position_embeddings=64).save_pretrained(home / "bert")
    tokenizer.save_pretrained(home / "bert")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILKIT_HOME", str(home))
        start = classifier(home / "bert", task, 1)
        run = finetune(start, tokenizer, task, task.data, TOY, name="qa")
        before = evaluate_task(start, tokenizer, task, task.data["test"])
        assert run.result()["scores"]["test"]["f1"] > before["f1"] + 0.3
        again = finetune(start, tokenizer, task, task.data, TOY, name="qa")
        assert again.result() == run.result()
    return task, run.model


@pytest.mark.slow
def test_a_teacher_helps_with_texts_without_answers(home, trained, tokenizer):
    task, teacher = trained
    more = split(10, passage=20, seed=5)
    more = unlabelled_from(datasets.Dataset.from_dict({c: more[c] for c in task.columns}), task)
    model = classifier(teacher, task, 3)
    run = finetune(
        model,
        tokenizer,
        task,
        task.data,
        TrainingConfig(**{**vars(TOY), "steps": 2}),
        name="distilled",
        teacher=fine_tuned_on(teacher, task),
        unlabelled=more,
        max_length=48,
    )
    assert run.metrics()["soft_target"].iloc[0] > 0
    assert run.config()["loss_config"]["kd_weight"] == 0.5
    assert run.result()["teacher_scores"]["validation"]["f1"] > 0.3


@pytest.mark.slow
def test_the_doctor_and_compress_take_it(home, trained):
    task, teacher = trained
    training = TrainingConfig(**{**vars(TOY), "steps": 4})
    table = task_doctor(task, str(teacher), training, teacher=str(teacher))
    assert table.good.all(), table
    table = compress(teacher, task, home / "small", training, depth=1)
    assert len(table) == 6
    assert table.agreement[0] == 1
    assert table.agreement.between(0, 1).all()
    graph = onnx.load(home / "small" / "onnx" / "model.onnx").graph
    assert [node.name for node in graph.output] == ["start_logits", "end_logits"]
    card = (home / "small" / "README.md").read_text()
    code = card.split("```python")[1].split("```")[0]
    exec(code.replace("PATH OR NAME OF THIS FOLDER", str(home / "small")), {})


def test_what_does_not_fit_is_refused_first(home, checkpoint, tokenizer):
    data = {"train": split(4), "validation": split(4)}
    model = classifier(checkpoint, "squad", 1)
    with pytest.raises(ValueError, match="has 128 positions"):
        finetune(model, tokenizer, "squad", data, TOY, name="qa", max_length=129)
    with pytest.raises(ValueError, match="too little room"):
        examples_of(split(1) | {"question": ["w1 " * 40]}, tokenizer, 64)
    data["train"]["label"][1] = {"text": [], "answer_start": []}
    with pytest.raises(ValueError, match="without a label"):
        finetune(model, tokenizer, "squad", data, TOY, name="qa")
    moved = split(3)
    moved["label"][2]["answer_start"][0] += 1
    with pytest.raises(ValueError, match=r"example 2: .* does not stand at character"):
        examples_of(moved, tokenizer, 64)
    for wrong in (
        "w1",
        {"text": "w1", "answer_start": 0},
        {"text": ["w1"], "answer_start": []},
        {"text": "w1", "answer_start": [0]},
    ):
        moved["label"][2] = wrong
        with pytest.raises(ValueError, match=r"example 2: .*answer_start"):
            examples_of(moved, tokenizer, 64)
    assert not (home / "runs").exists()


# --- files ----------------------------------------------------------------------------------------


def official_json(data):
    """SQuAD's own file: two passages a document."""
    paragraphs = []
    for i, (question, context, label) in enumerate(zip(*data, strict=True)):
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(label["text"], label["answer_start"], strict=True)
        ]
        qas = [{"id": str(i), "question": question, "answers": answers}]
        paragraphs.append({"context": context, "qas": qas})
    documents = [{"title": "x", "paragraphs": paragraphs[i : i + 2]} for i in (0, 2)]
    return json.dumps({"version": "1.1", "data": documents})


def test_squad_is_read_from_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        load("squad", tmp_path / "gone")
    folder = tmp_path / "squad"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"train\.parquet"):
        load("squad", tmp_path)
    rows = split(4)
    labels = rows.pop("label")
    for part in ("train", "validation"):
        pd.DataFrame(rows).to_parquet(folder / f"{part}.parquet")
    with pytest.raises(ValueError, match="no column 'answers'"):
        load("squad", tmp_path)
    for part in ("train", "validation"):
        pd.DataFrame(rows | {"answers": labels}).to_parquet(folder / f"{part}.parquet")
    found = load("squad", tmp_path)
    assert found["train"]["label"][:] == labels
    labels[3]["answer_start"][0] += 1
    pd.DataFrame(rows | {"answers": labels}).to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"train, row 3: .* does not stand"):
        load("squad", tmp_path)


def test_the_official_download_is_read_as_the_hubs(tmp_path):
    rows = split(4)
    text = official_json([rows[c] for c in ("question", "context", "label")])
    folder = tmp_path / "squad"
    folder.mkdir()
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (folder / name).write_text(text)
    found = load("squad", tmp_path)
    assert set(found) == {"train", "validation"}
    for column in ("question", "context", "label"):
        assert found["train"][column][:] == rows[column]
    task = task_from({"train": folder / "train-v1.1.json", "validation": folder / "dev-v1.1.json"})
    assert task.kind == "question_answering"
    assert task.data["validation"]["label"][:] == rows["label"]
    (folder / "train-v1.1.json").write_text('{"data": [{"paragraphs": [{"qas": [{}]}]}]}')
    with pytest.raises(ValueError, match=r"train-v1\.1\.json is not in SQuAD's format"):
        task_from(folder / "train-v1.1.json")


def test_one_table_is_divided_by_passage(tmp_path):
    rows = split(48)
    rows["context"] = [rows["context"][i // 4 * 4] for i in range(48)]  # 12 passages
    for i, context in enumerate(rows["context"]):
        word = context.split()[i % 4]
        rows["label"][i] = {"text": [word], "answer_start": [context.index(word)]}
    frame = pd.DataFrame(rows).rename(columns={"label": "found", "context": "passage"})
    options = {"text_columns": ["question", "passage"], "label_column": "found"}
    task = task_from(frame, kind="question_answering", **options)
    contexts = [set(part["passage"]) for part in task.data.values()]
    assert [len(part) for part in task.data.values()] == [32, 8, 8]
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 12
    with pytest.raises(ValueError, match="question_answering needs two columns"):
        task_from(frame, kind="question_answering", text_columns="question", label_column="found")
    frame.at[7, "found"] = {"text": ["w1"], "answer_start": [10_000]}
    with pytest.raises(ValueError, match="row 8, column 'found': 'w1' does not stand"):
        task_from(frame, kind="question_answering", **options)
    frame.at[7, "found"] = None
    task = task_from(frame, kind="question_answering", **options)
    assert any("1 of 48 rows without a label" in note for note in task.notes)
