"""Documents come one by one from files of three kinds; what is held out is never trained on."""

from __future__ import annotations

import tracemalloc

import pandas as pd
import pytest

from distilkit.data.documents import (
    HELD_OUT_AT_MOST,
    about_how_many,
    open_text,
    read_file,
    read_texts,
)


def test_a_txt_file_is_one_document_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one two\n\n   \nthrée\n\tfour \n", encoding="utf-8")
    assert read_texts(path) == ["one two", "thrée", "\tfour "]
    assert read_texts(str(path)) == read_texts(path)


def test_a_parquet_file_is_one_document_a_row(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "text": ["one\ntwo", None, " ", "thrée"]})
    frame.to_parquet(path)
    assert read_texts(path) == ["one\ntwo", "thrée"]


def test_errors_of_reading_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        read_texts(tmp_path / "missing.txt")
    with pytest.raises(FileNotFoundError):
        read_texts(tmp_path)  # a folder
    for name in ("a.csv", "a", "a.txt.gz"):
        (tmp_path / name).write_text("text\n")
        with pytest.raises(ValueError, match=r"ends in \.txt, \.jsonl or \.parquet"):
            read_texts(tmp_path / name)
    (tmp_path / "empty.txt").write_text("\n  \n\t\n")
    with pytest.raises(ValueError, match=r"empty\.txt holds no text"):
        read_texts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("thrée\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8"):
        read_texts(tmp_path / "latin.txt")
    pd.DataFrame({"sentence": ["a"], "label": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has no column 'text', only sentence, label"):
        read_texts(tmp_path / "b.parquet")
    pd.DataFrame({"text": ["", None]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet holds no text"):
        read_texts(tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"not a parquet file")
    with pytest.raises(ValueError, match=r"[Pp]arquet"):
        read_texts(tmp_path / "d.parquet")


def test_a_text_column_of_numbers_is_refused(tmp_path):
    pd.DataFrame({"text": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="text"):
        read_texts(tmp_path / "a.parquet")


def test_only_line_ends_end_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("one\u2028still one\ntwo\u0085still two\x0cand two\n")
    assert len(read_texts(tmp_path / "a.txt")) == 2


def test_jsonl_has_a_document_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "one\\ntwo", "id": 1}\r\n\n{"text": " "}\n{"text": "déjà"}\n', "utf-8"
    )
    assert read_texts(path) == ["one\ntwo", "déjà"]
    for line, message in (
        ("not json", "line 2 is not JSON"),
        ('["text"]', "line 2 has no text"),
        ('{"txt": "a"}', "line 2 has no text"),
        ('{"text": 3}', "line 2 has no text"),
    ):
        path.write_text('{"text": "a"}\n' + line)
        with pytest.raises(ValueError, match=message):
            read_texts(path)
    path.write_text('{"text": ""}\n')
    with pytest.raises(ValueError, match="holds no text"):
        read_texts(path)


def write(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def test_a_text_without_a_validation_part_gives_up_every_fiftieth(tmp_path):
    texts = [f"document {i}" for i in range(120)]
    train, held_out = open_text(write(tmp_path / "a.txt", texts))
    assert list(held_out.read()) == [texts[1], texts[51], texts[101]]
    assert list(train.read()) == [t for i, t in enumerate(texts) if i % 50 != 1]
    assert list(train.read()) == list(train.read())  # from the first on, every time
    assert train.identity() != held_out.identity()


def test_a_document_that_occurs_twice_is_on_one_side_only(tmp_path):
    texts = [f"document {i % 40}" for i in range(200)]
    train, held_out = open_text(write(tmp_path / "a.txt", texts))
    assert set(held_out.read()) == {"document 1", "document 11", "document 21", "document 31"}
    assert set(train.read()) == set(texts) - set(held_out.read())


def test_no_more_is_held_out_than_a_validation_needs(tmp_path):
    train, held_out = open_text(write(tmp_path / "a.txt", range(30_000)))
    aside = list(held_out.read())
    assert len(aside) == HELD_OUT_AT_MOST
    assert len(list(train.read())) == 30_000 - HELD_OUT_AT_MOST


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_documents(tmp_path, world):
    train, held_out = open_text(write(tmp_path / "a.txt", range(101)))
    shares = [list(train.read(rank, world)) for rank in range(world)]
    together = [text for share in shares for text in share]
    assert sorted(together) == sorted(train.read())
    assert max(map(len, shares)) - min(map(len, shares)) <= 3  # three are held out
    assert not {*held_out.read()} & {*together}


def test_a_folder_is_its_text_files_in_order(tmp_path):
    write(tmp_path / "b.txt", ["three", "four"])
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "c.jsonl").write_text('{"text": "five"}\n')
    (tmp_path / "notes.md").write_text("not a text")
    train, held_out = open_text(tmp_path)
    assert list(held_out.read()) == ["two"]
    assert list(train.read()) == ["one", "three", "four", "five"]


def test_train_and_validation_files_of_a_folder_are_its_parts(tmp_path):
    write(tmp_path / "train-00000-of-00002.txt", ["one", "two"])
    write(tmp_path / "train-00001-of-00002.txt", ["three"])
    write(tmp_path / "validation.txt", ["four", "five"])
    write(tmp_path / "test.txt", ["six"])
    train, held_out = open_text(tmp_path)
    assert list(train.read()) == ["one", "two", "three"]
    assert list(train.read(1, 2)) == ["two"]
    assert list(held_out.read()) == ["four", "five"]
    assert train.identity() != held_out.identity()
    assert about_how_many(tmp_path) == 3
    write(tmp_path / "more.txt", ["seven"])
    with pytest.raises(ValueError, match=r"more\.txt: name it train-"):
        open_text(tmp_path)
    (tmp_path / "validation.txt").unlink()
    assert len([*open_text(tmp_path)[0].read()]) == 4  # no such part: some of all is held out


def test_the_identity_follows_the_content(tmp_path):
    one = open_text(write(tmp_path / "a.txt", ["one", "two", "three"]))[0].identity()
    assert open_text(tmp_path / "a.txt")[0].identity() == one
    assert open_text(write(tmp_path / "a.txt", ["one", "two", "four!"]))[0].identity() != one


def test_what_cannot_be_opened_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        open_text(tmp_path / "gone.txt")
    with pytest.raises(FileNotFoundError, match=r"no \.txt, \.jsonl, \.parquet file in"):
        open_text(tmp_path)
    with pytest.raises(ValueError, match="one document: at least two"):
        open_text(write(tmp_path / "a.txt", ["only"]))
    with pytest.raises(ValueError, match="finds no document that is not held out"):
        list(open_text(write(tmp_path / "a.txt", ["again"] * 9))[0].read())
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match=r"a\.csv: a text file ends in \.txt"):
        open_text(tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ValueError, match="line 2 holds half a character"):
        read_texts(tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="streaming is for texts of the Hub"):
        open_text(write(tmp_path / "a.txt", ["a", "b"]), stream=True)


def test_how_many_documents_there_are_about(tmp_path):
    texts = [f"document number {i}" for i in range(5000)]
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "a.parquet")
    assert about_how_many(tmp_path / "a.parquet") == 5000
    assert about_how_many(write(tmp_path / "b.txt", texts)) == 5000
    assert about_how_many(tmp_path) == 10_000
    write(tmp_path / "c.txt", (f"{i} " * 100 for i in range(20_000)))  # more than is looked at
    assert abs(about_how_many(tmp_path / "c.txt") - 20_000) < 3000
    assert about_how_many("Salesforce/wikitext") is None


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_reading_does_not_hold_the_text_in_memory(tmp_path, kind):
    path, texts = tmp_path / f"a.{kind}", [f"{i} " * 100 for i in range(20_000)]  # 11 MB
    if kind == "parquet":
        pd.DataFrame({"text": texts}).to_parquet(path, row_group_size=1000)
    elif kind == "jsonl":
        path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    else:
        write(path, texts)
    del texts
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_file(path)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3e6
