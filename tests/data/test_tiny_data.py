"""The tiny text and tasks: equal to what their script writes, and not solved by shortcuts."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stories
import words
import world
from measure_shortcuts import scores
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from distilkit.config import SHIPPED
from distilkit.data import task_files

pytestmark = pytest.mark.slow

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


def _read(task, split):
    return pd.read_parquet(SHIPPED / "glue" / task / f"{split}.parquet")


def _texts(frame):
    return [frame[name] for name in frame.columns if name not in ("label", "idx", "phenomenon")]


def _tables(folder):
    return {
        path.relative_to(folder).as_posix(): pq.read_table(path)
        for path in sorted(folder.rglob("*.parquet"))
    }


@pytest.mark.slow
def test_the_committed_files_are_what_the_script_writes(tmp_path):
    written = _tables(world.write(tmp_path / "tiny"))
    committed = {
        f"{part}/{name}": table
        for part in ("text", "glue")
        for name, table in _tables(SHIPPED / part).items()
    }
    assert list(written) == sorted(committed)
    for name, table in written.items():
        assert table.equals(committed[name]), name


@pytest.mark.slow
def test_the_size_of_one_task_leaves_every_other_text_unchanged(tmp_path):
    one = _tables(world.write(tmp_path / "one", 0, 50, SMALL))
    two = _tables(world.write(tmp_path / "two", 0, 60, {**SMALL, "cola": 24}))
    other = _tables(world.write(tmp_path / "other", 8, 50, SMALL))
    changed = {name for name in one if one[name] != two[name]}
    assert changed
    assert all(name.startswith(("glue/cola/", "text/train")) for name in changed)
    assert not any(one[name] == other[name] for name in one)  # another seed, other data


@pytest.mark.parametrize("task", SCHEMA)
def test_schema_is_glues(task):
    files = {path.stem: path for path in (SHIPPED / "glue" / task).iterdir()}
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
def test_labels_are_balanced(task):
    for path in (SHIPPED / "glue" / task).iterdir():
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
def test_no_example_stands_in_two_splits(task):
    frames = [pd.read_parquet(path) for path in (SHIPPED / "glue" / task).iterdir()]
    rows = pd.concat([pd.concat(_texts(f), axis=1) for f in frames])
    assert not rows.duplicated().any()


def test_documents_are_short_different_and_kept_apart():
    train, validation = (
        pd.read_parquet(SHIPPED / "text" / f"{split}.parquet")["text"]
        for split in ("train", "validation")
    )
    assert (len(train), len(validation)) == (2500, 200)
    assert not pd.concat([train, validation]).duplicated().any()
    sentences = train.map(lambda text: len(re.findall(r"[.?]", text)))
    assert sentences.between(3, 7).all()  # a question and its answer count as two
    assert train.map(lambda text: text[0].isupper() and text[-1] in ".?").all()


def test_mismatched_mnli_comes_from_other_themes():
    matched, mismatched = (
        " ".join(
            text for split in splits for column in _texts(_read("mnli", split)) for text in column
        )
        for splits in (
            ("train", "validation_matched", "test_matched"),
            ("validation_mismatched", "test_mismatched"),
        )
    )
    for word in ("hospital", "workshop", "theatre", "zoo", "doctor", "carpenter"):
        assert not re.search(rf"\b({word})\b", matched)
        assert re.search(rf"\b({word})\b", mismatched)


def test_every_word_is_in_the_vocabulary_that_the_teacher_gets():
    known = set(world.vocabulary())
    for path in (*SHIPPED.glob("text/*.parquet"), *SHIPPED.glob("glue/*/*.parquet")):
        for column in _texts(pd.read_parquet(path)):
            assert set(re.findall(r"[a-z]+", " ".join(column).lower())) <= known


def test_held_out_words_are_in_the_text_but_not_in_sst2_train():
    def words_of(texts):
        return set(re.findall(r"[a-z]+", " ".join(texts).lower()))

    held_out = set(words.HELD_OUT_POLARITY)
    assert len(held_out) > 25
    assert not held_out & words_of(_read("sst2", "train")["sentence"])
    assert held_out <= words_of(pd.read_parquet(SHIPPED / "text" / "train.parquet")["text"])
    assert len(held_out & words_of(_read("sst2", "validation")["sentence"])) > 20


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
def test_inference_needs_both_sentences(task, split, one_side, all_words):
    """Bounds on what shortcuts reach; a model that reads both sentences can reach 1."""
    train, valid = _read(task, "train"), _read(task, split)
    first, second = SCHEMA[task][:2]
    # The hypothesis (in QNLI the question) alone; then both as bags of words; then lengths.
    alone = first if task == "qnli" else second
    assert _accuracy(train, valid, _bag_of_words(alone)) < one_side
    assert _accuracy(train, valid, _bag_of_words(first, second)) < all_words
    assert _accuracy(train, valid, _lengths(first, second)) < one_side + 0.03


# Of the teacher's card: fine-tuned on these files with seed 1, on the validation sets
TEACHER = {
    **{"cola": 89.6, "mnli": 77.2, "mrpc": 87.1, "qnli": 84.2},
    **{"qqp": 88.5, "rte": 95.5, "sst2": 97.3, "stsb": 97.0},
}


@pytest.mark.parametrize("task", TEACHER)
def test_shortcuts_stay_far_below_the_teacher(task):
    shortcuts = scores(task, task_files.load(task, SHIPPED / "glue"))
    del shortcuts["lengths and overlap"]  # overlap is much of what similarity means
    assert max(shortcuts.values()) < TEACHER[task] - 10


@pytest.mark.parametrize("task", ["mrpc", "qqp", "sst2", "cola"])
def test_bags_of_words_do_not_solve_the_other_tasks(task):
    train, valid = _read(task, "train"), _read(task, "validation")
    columns = SCHEMA[task][:-2]
    assert _accuracy(train, valid, _bag_of_words(*columns)) < 0.85
    assert _accuracy(train, valid, _lengths(*columns)) < 0.6


@pytest.mark.slow
def test_no_evaluation_sentence_was_read_in_pretraining():
    read = set()
    teacher_texts = stories.texts(world.TEACHER_SEED, world.TEACHER_DOCUMENTS)["train"]
    for text in (*teacher_texts, *pd.read_parquet(SHIPPED / "text" / "train.parquet")["text"]):
        read |= {part.strip() for part in re.findall(r"[^.?!]+[.?!]", text)}
    train_seen = 0
    for path in SHIPPED.glob("glue/*/*.parquet"):
        seen = [t for column in _texts(pd.read_parquet(path)) for t in column if t in read]
        if path.stem == "train":
            train_seen += len(seen)
        else:
            assert not seen, f"{path}: {seen[:3]}"
    assert train_seen > 100  # so the test can see what it looks for


def test_negation_stands_in_every_class():
    for task in ("mnli", "rte"):
        frame = _read(task, "train")
        negated = frame[SCHEMA[task][1]].str.contains(r"\bnot\b|\bnone\b")
        shares = negated.groupby(frame["label"]).mean()
        assert shares.min() > 0.25
        assert shares.max() - shares.min() < 0.1


def test_an_existing_folder_is_refused_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="name a new folder"):
        world.write(tmp_path, 0, 20, SMALL)
    monkeypatch.setitem(world.WRITERS, "wnli", lambda *_: world.Example(("It is.", "It."), 0, ""))
    with pytest.raises(ValueError, match=r"no 5 different examples of wnli/test.*ask for fewer"):
        world.write(tmp_path / "world", 0, 20, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": 0}, "documents = 0: give at least 1"),
        ({"examples": {"snli": 10}}, "unknown task 'snli'.*cola.*wnli"),
        ({"examples": {"rte": 0}}, "rte = 0: give at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        world.write(tmp_path / "world", **arguments)
    assert not list(tmp_path.iterdir())
