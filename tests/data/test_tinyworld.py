"""The tiny world: its files, its determinism, and that its tasks cannot be had cheaply."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measure_shortcuts import scores
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import BertTokenizerFast
from wordpieces import WORDPIECES

from distilkit.config import RESULTS, SHIPPED
from distilkit.data import tasks as glue
from distilkit.data import tinyworld
from distilkit.study.arms import macro_scores

# GLUE's schema, written out once more by hand from its dataset card.
SCHEMA = {
    "cola": ["sentence", "label", "idx"],
    "sst2": ["sentence", "label", "idx"],
    "mrpc": ["sentence1", "sentence2", "label", "idx"],
    "qqp": ["question1", "question2", "label", "idx"],
    "stsb": ["sentence1", "sentence2", "label", "idx"],
    "mnli": ["premise", "hypothesis", "label", "idx"],
    "qnli": ["question", "sentence", "label", "idx"],
    "rte": ["sentence1", "sentence2", "label", "idx"],
    "wnli": ["sentence1", "sentence2", "label", "idx"],
}
SPLITS = {"train", "validation", "test"}
MNLI_SPLITS = {"train"} | {f"{s}_{m}atched" for s in ("validation", "test") for m in ("m", "mism")}
SMALL = dict.fromkeys(SCHEMA, 16)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The nine tasks at their default sizes; fewer documents, which nothing here needs."""
    return tinyworld.write(tmp_path_factory.mktemp("tiny") / "world", documents=1500)


def _read(world, task, split):
    return pd.read_parquet(world / "glue" / task / f"{split}.parquet")


def _texts(frame):
    return [frame[name] for name in frame.columns if name not in ("label", "idx", "phenomenon")]


def _contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes_and_another_seed_another_text(tmp_path):
    one = _contents(tinyworld.write(tmp_path / "one", 7, 50, SMALL))
    two = _contents(tinyworld.write(tmp_path / "two", 7, 50, SMALL))
    other = _contents(tinyworld.write(tmp_path / "other", 8, 50, SMALL))
    assert one == two
    same = {name for name in one if one[name] == other[name]}
    assert not same


def test_the_size_of_one_task_leaves_every_other_text_as_it_was(tmp_path):
    one = _contents(tinyworld.write(tmp_path / "one", 0, 50, SMALL))
    two = _contents(tinyworld.write(tmp_path / "two", 0, 60, {**SMALL, "cola": 24}))
    changed = {name for name in one if one[name] != two[name]} - {"world.json"}
    assert all(name.startswith(("glue/cola/", "text/")) for name in changed)
    assert "text/validation.parquet" not in changed


@pytest.mark.parametrize("task", SCHEMA)
def test_schema_is_glues(world, task):
    files = {path.stem: path for path in (world / "glue" / task).iterdir()}
    assert set(files) == (MNLI_SPLITS if task == "mnli" else SPLITS)
    for path in files.values():
        table = pq.read_table(path)
        label = pa.float32() if task == "stsb" else pa.int64()
        types = [*[pa.string()] * (len(SCHEMA[task]) - 2), label, pa.int32(), pa.string()]
        assert table.schema.names == [*SCHEMA[task], "phenomenon"]
        assert table.schema.types == types
        assert table["idx"].to_pylist() == list(range(table.num_rows))
        assert table.num_rows >= 150


@pytest.mark.parametrize("task", SCHEMA)
def test_labels_are_balanced(world, task):
    for path in (world / "glue" / task).iterdir():
        label = pd.read_parquet(path)["label"]
        if task == "stsb":
            assert label.between(0, 5).all()
            assert label.nunique() > 20
            low, high = (label < 2).mean(), (label > 3).mean()
            assert 0.25 < low < 0.6
            assert 0.25 < high < 0.6
        else:
            classes = 3 if task == "mnli" else 2
            shares = label.value_counts(normalize=True)
            assert sorted(shares.index) == list(range(classes))
            assert (abs(shares - 1 / classes) < 0.02).all()


@pytest.mark.parametrize("task", SCHEMA)
def test_no_example_stands_in_two_splits(world, task):
    frames = [pd.read_parquet(path) for path in (world / "glue" / task).iterdir()]
    rows = pd.concat([pd.concat(_texts(f), axis=1) for f in frames])
    assert not rows.duplicated().any()


def test_documents_are_short_different_and_kept_apart(world):
    train, validation = (
        pd.read_parquet(world / "text" / f"{split}.parquet")["text"]
        for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (1500, 200)
    assert not pd.concat([train, validation]).duplicated().any()
    sentences = train.map(lambda text: len(re.findall(r"[.?]", text)))
    assert sentences.between(3, 7).all()  # a question and its answer count as two
    assert train.map(lambda text: text[0].isupper() and text[-1] in ".?").all()


def test_mismatched_mnli_comes_from_other_themes(world):
    matched, mismatched = (
        " ".join(
            text
            for split in splits
            for column in _texts(_read(world, "mnli", split))
            for text in column
        )
        for splits in (
            ("train", "validation_matched", "test_matched"),
            ("validation_mismatched", "test_mismatched"),
        )
    )
    for word in ("hospital", "workshop", "theatre", "zoo", "doctor", "carpenter"):
        assert not re.search(rf"\b({word})\b", matched)
        assert re.search(rf"\b({word})\b", mismatched)


def test_every_word_is_in_the_vocabulary(world):
    """No [UNK], and no word in pieces either: the vocabulary holds all the generator can write."""
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDPIECES)})
    texts = []
    for path in world.rglob("*.parquet"):
        texts += [text for column in _texts(pd.read_parquet(path)) for text in column]
    pieces = {p for ids in tokenizer(texts)["input_ids"] for p in set(ids)}
    words = set(tokenizer.convert_ids_to_tokens(sorted(pieces)))
    assert "[UNK]" not in words
    assert not [word for word in words if word.startswith("##")]


def test_held_out_words_are_in_the_text_but_not_in_sst2_train(world):
    def words(texts):
        return set(re.findall(r"[a-z]+", " ".join(texts).lower()))

    held_out = set(tinyworld.HELD_OUT_POLARITY)
    assert len(held_out) > 25
    assert not held_out & words(_read(world, "sst2", "train")["sentence"])
    assert held_out <= words(pd.read_parquet(world / "text" / "train.parquet")["text"])
    assert len(held_out & words(_read(world, "sst2", "validation")["sentence"])) > 20


def _accuracy(train, valid, features):
    """Of logistic regression on `features`, one function (train, valid) -> two matrices."""
    x, y = features(train, valid)
    model = LogisticRegression(tol=1e-2, max_iter=2000).fit(x, train["label"])
    return model.score(y, valid["label"])


def _bag_of_words(*columns):
    def features(train, valid):
        both = []
        for column in columns:
            count = CountVectorizer(ngram_range=(1, 2), binary=True, min_df=2)
            both.append((count.fit_transform(train[column]), count.transform(valid[column])))
        return hstack([x for x, _ in both]).tocsr(), hstack([y for _, y in both]).tocsr()

    return features


def _lengths(*columns):
    def of(frame):
        counts = np.stack([frame[c].str.split().str.len() for c in columns], axis=1) / 10
        return np.concatenate([counts, counts**2], axis=1)

    return lambda train, valid: (of(train), of(valid))


@pytest.mark.parametrize(
    ("task", "split", "one_side", "all_words"),
    [
        ("mnli", "validation_matched", 0.42, 0.55),  # chance 0.33
        ("rte", "validation", 0.60, 0.70),  # chance 0.5, as below
        ("qnli", "validation", 0.60, 0.75),
        ("wnli", "validation", 0.60, 0.62),
    ],
)
def test_inference_needs_both_sentences(world, task, split, one_side, all_words):
    """Bounds on what shortcuts reach; a model that reads both sentences can reach 1."""
    train, valid = _read(world, task, "train"), _read(world, task, split)
    first, second = SCHEMA[task][:2]
    # The hypothesis (in QNLI the question) alone; then both as bags of words; then lengths.
    alone = first if task == "qnli" else second
    assert _accuracy(train, valid, _bag_of_words(alone)) < one_side
    assert _accuracy(train, valid, _bag_of_words(first, second)) < all_words
    assert _accuracy(train, valid, _lengths(first, second)) < one_side + 0.03


def test_shortcuts_stay_far_below_the_teacher_as_its_card_says(world):
    found = pd.DataFrame({task: scores(task, glue.load(task, world / "glue")) for task in SCHEMA}).T
    card = (SHIPPED / "teacher" / "README.md").read_text()
    rows = card.split("## What a task's label leaks")[1].split("\n\n")[2].splitlines()
    heads, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    heads = [head.replace("words of both", "words") for head in heads]
    said = pd.DataFrame(rows, columns=heads).set_index("task").drop(columns="teacher")
    for task, shortcut in found.stack().index:  # one of 150 examples is 0.7 points
        assert float(said.loc[task, shortcut]) == pytest.approx(found.loc[task, shortcut], abs=0.8)
    shown = pd.read_csv(RESULTS / "few_labels.csv")
    macros = macro_scores(shown[shown.arm == "teacher"]).score  # five seeds
    for shortcut in ("words", "words and bigrams", "lengths"):
        assert found[shortcut].mean() < macros.min() - 20


@pytest.mark.parametrize("task", ["mrpc", "qqp", "sst2", "cola"])
def test_bags_of_words_do_not_solve_the_other_tasks(world, task):
    train, valid = _read(world, task, "train"), _read(world, task, "validation")
    columns = SCHEMA[task][:-2]
    assert _accuracy(train, valid, _bag_of_words(*columns)) < 0.85
    assert _accuracy(train, valid, _lengths(*columns)) < 0.6


def test_no_evaluation_sentence_was_read_in_pretraining(world, tmp_path):
    teachers = tinyworld.write(tmp_path, tinyworld.TEACHER_SEED, tinyworld.TEACHER_DOCUMENTS, SMALL)
    read = set()
    for folder, documents in ((world, 1500), (teachers, 40_000)):
        texts = pd.read_parquet(folder / "text" / "train.parquet")["text"]
        assert len(texts) == documents
        for text in texts:
            read |= {part.strip() for part in re.findall(r"[^.?!]+[.?!]", text)}
    train_seen = 0
    for task in SCHEMA:
        for path in (world / "glue" / task).iterdir():
            seen = [t for column in _texts(pd.read_parquet(path)) for t in column if t in read]
            if path.stem == "train":
                train_seen += len(seen)
            else:
                assert not seen, f"{task}/{path.stem}: {seen[:3]}"
    assert train_seen > 100  # so the test can see what it looks for


def test_negation_stands_in_every_class(world):
    for task in ("mnli", "rte"):
        frame = _read(world, task, "train")
        negated = frame[SCHEMA[task][1]].str.contains(r"\bnot\b|\bnone\b")
        shares = negated.groupby(frame["label"]).mean()
        assert shares.min() > 0.25
        assert shares.max() - shares.min() < 0.1


def test_a_finished_world_is_not_written_again(tmp_path, monkeypatch):
    folder = tinyworld.write(tmp_path / "world", 0, 20, SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(tinyworld, "_write_into", None)  # would fail if it were called
    assert tinyworld.write(tmp_path / "world", 0, 20, SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize("damage", ["settings", "no json", "changed file", "lost file", "version"])
def test_a_damaged_or_other_world_is_rebuilt(tmp_path, damage):
    folder = tinyworld.write(tmp_path / "world", 0, 20, SMALL)
    whole = _contents(folder)
    record = folder / "world.json"
    settings = json.loads(record.read_text())
    if damage == "settings":
        record.write_text(json.dumps({**settings, "seed": 5}))
    elif damage == "version":
        record.write_text(json.dumps({**settings, "version": -1}))
    elif damage == "no json":
        record.write_text("{")
    elif damage == "changed file":
        (folder / "text" / "validation.parquet").write_bytes(b"PAR1")
    else:
        (folder / "glue" / "rte" / "test.parquet").unlink()
    tinyworld.write(tmp_path / "world", 0, 20, SMALL)
    assert _contents(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_failure_leaves_the_old_world_and_no_rubbish(tmp_path, monkeypatch):
    folder = tinyworld.write(tmp_path / "world", 0, 20, SMALL)
    whole = _contents(folder)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(tinyworld, "_examples", fail)
    with pytest.raises(OSError, match="disk full"):
        tinyworld.write(tmp_path / "world", 1, 20, SMALL)
    assert _contents(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        tinyworld.write(tmp_path, 0, 20, SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": 0}, "documents must be 1 or more, not 0"),
        ({"examples": {"snli": 10}}, "unknown task 'snli'.*cola.*wnli"),
        ({"examples": {"rte": 0}}, r"examples\['rte'\] must be 1 or more, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        tinyworld.write(tmp_path / "world", **arguments)
    assert not list(tmp_path.iterdir())


def test_more_examples_than_there_are_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(
        tinyworld._WRITERS, "wnli", lambda *_: tinyworld.Example(("It is so.", "It is."), 0, "")
    )
    with pytest.raises(ValueError, match=r"no 5 different examples of wnli/test.*ask for fewer"):
        tinyworld.write(tmp_path / "world", 0, 20, SMALL)
    assert not list(tmp_path.iterdir())
