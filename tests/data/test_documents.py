"""Documents come one by one from files of three kinds; what is held out is never trained on."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from distilkit.data import documents
from distilkit.data.documents import (
    HELD_OUT_AT_MOST,
    about_how_many,
    open_text,
    read_file,
)
from distilkit.data.packing import pack


def read_texts(path: Path) -> list[str]:
    return list(read_file(path))


def test_a_txt_file_is_one_document_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one two\n\n   \nthrée\n\tfour \n", encoding="utf-8")
    assert read_texts(path) == ["one two", "thrée", "\tfour "]


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
    for name in ("a.csv", "a", "a.parquet.gz"):
        (tmp_path / name).write_text("text\n")
        with pytest.raises(ValueError, match=r"ends in \.txt, \.jsonl, \.parquet"):
            read_texts(tmp_path / name)
    (tmp_path / "latin.txt").write_bytes("thrée\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt, line 1 is not UTF-8"):
        read_texts(tmp_path / "latin.txt")
    pd.DataFrame({"sentence": ["a"], "label": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: no column 'text', only sentence, label"):
        read_texts(tmp_path / "b.parquet")
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
        ("not json", "line 3, column 1 is not JSON"),
        ('{"text": "cut', "line 3, column 10 is not JSON"),
        ("[" * 100_000, "line 3.* is not JSON"),
        ('["text"]', "line 3 holds a list"),
        ('{"text": 3}', "line 3 holds a int"),
        ('{"text": ["a"]}', "line 3 holds a list"),
    ):
        path.write_text('{"text": "a"}\n\n' + line)  # blank lines count
        with pytest.raises(ValueError, match=message):
            read_texts(path)
    path.write_text('{"body": "a", "id": 1}\n' * 2)
    with pytest.raises(ValueError, match="no 'text' in any line, only body, id"):
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


@pytest.mark.parametrize("name", ["valid", "val", "dev"])
def test_a_validation_part_has_other_names_too(tmp_path, name):
    write(tmp_path / "train.txt", ["one", "two"])
    write(tmp_path / f"{name}.txt", ["three"])
    write(tmp_path / "test.txt", ["four"])
    train, held_out = open_text(tmp_path)
    assert (list(train.read()), list(held_out.read())) == (["one", "two"], ["three"])
    for other in ("validation", "valid" if name == "dev" else "dev"):  # two of them
        path = write(tmp_path / f"{other}.txt", ["five"])
        second = max(name, other) if other != "validation" else name
        with pytest.raises(ValueError, match=rf"and {second}\.txt: name it train-"):
            open_text(tmp_path)
        path.unlink()


def test_the_identity_follows_the_content(tmp_path):
    one = open_text(write(tmp_path / "a.txt", ["one", "two", "three"]))[0].identity()
    assert open_text(tmp_path / "a.txt")[0].identity() == one
    assert open_text(write(tmp_path / "a.txt", ["one", "two", "four!"]))[0].identity() != one


def test_what_cannot_be_opened_says_so(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        open_text(tmp_path / "gone.txt")
    with pytest.raises(FileNotFoundError, match=r"no \.txt, \.jsonl, \.parquet, .* file in"):
        open_text(tmp_path)
    with pytest.raises(ValueError, match="two documents: at least two"):
        open_text(write(tmp_path / "a.txt", ["only"]))
    repeated, _ = open_text(write(tmp_path / "a.txt", ["again"] * 9))
    with pytest.raises(ValueError, match="all of it is held out"):
        pack(repeated.read(), tokenizer, 16)
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match=r"a\.csv: a text file ends in \.txt"):
        open_text(tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"line 2 holds half a character, .*\\ud800. at 0 of"):
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
@pytest.mark.slow
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


def test_rows_without_text_are_skipped_alike_and_counted(tmp_path):
    texts = ["one", None, "", " ", "two"]
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "a.parquet")
    lines = ['{"text": "one"}', '{"id": 1}', '{"text": ""}', "", '{"text": "two"}']
    write(tmp_path / "a.jsonl", lines)
    write(tmp_path / "b.jsonl", [line.replace("id", "text").replace("1", "null") for line in lines])
    for name in ("a.parquet", "a.jsonl", "b.jsonl"):
        rows = Counter()
        assert list(read_file(tmp_path / name, rows)) == ["one", "two"]
        assert rows == {"documents": 2, "empty": 2, "without text": 1}
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.nulls(3)}), tmp_path / "c.parquet")
    assert list(read_file(tmp_path / "c.parquet")) == []


def test_what_was_read_is_told_once(tmp_path, caplog):
    caplog.set_level("INFO", "distilkit")
    write(tmp_path / "a.txt", ["one", "", "two", "three"])
    train, _ = open_text(tmp_path / "a.txt")
    assert len([*train.read(), *train.read()]) == 4
    (record,) = caplog.records
    for part in ("a.txt", "3 documents", "1 file", "1 empty"):
        assert part in record.getMessage()


def test_a_folder_names_what_it_leaves_out(tmp_path, caplog):
    write(tmp_path / "A.TXT", ["one", "two"])
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"three\nfour\n"))
    (tmp_path / "c.JSONL.GZ").write_bytes(gzip.compress(b'{"text": "five"}\n'))
    for name in ("README.txt", "license.txt", ".hidden.txt", "d.csv"):
        write(tmp_path / name, ["not a text"])
    (tmp_path / "more").mkdir()
    train, held_out = open_text(tmp_path)
    assert [*held_out.read(), *train.read()] == ["two", "one", "three", "four", "five"]
    assert about_how_many(tmp_path) == 5
    (record,) = (each for each in caplog.records if each.levelname == "WARNING")
    told = record.getMessage().split("not read: ")[1].split(", ")
    assert told == [".hidden.txt", "README.txt", "d.csv", "license.txt", "more"]
    for name in ("A.TXT", "b.txt.gz", "c.JSONL.GZ"):
        (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"only \.hidden\.txt, README\.txt"):
        open_text(tmp_path)


def test_compressed_parts_of_a_folder_are_its_parts(tmp_path):
    for part in ("train-0", "Validation", "test"):
        (tmp_path / f"{part}.txt.gz").write_bytes(gzip.compress(part.encode()))
    train, held_out = open_text(tmp_path)
    assert [*train.read(), *held_out.read()] == ["train-0", "Validation"]


def test_a_damaged_gzip_file_is_named(tmp_path):
    whole = gzip.compress("".join(f"text {i}\n" for i in range(9999)).encode())
    for content in (whole[:-9], b"text", whole[:99] + b"????" + whole[103:]):
        (tmp_path / "a.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.txt\.gz is truncated or not gzip"):
            read_texts(tmp_path / "a.txt.gz")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", [0, 3, 5000])
def test_what_is_not_utf_8_has_the_line_of_the_file(tmp_path, end, before):
    lines = [*(["", "grün"][i % 2] for i in range(before)), "gr\udcfcn", "more"]
    path = tmp_path / "a.txt"
    path.write_bytes(end.join(lines).encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"line {before + 1} is not UTF-8 .*0xfc"):
        read_texts(path)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "txt.gz", "parquet"])
@pytest.mark.slow
def test_a_long_line_takes_a_small_multiple_of_its_length(tmp_path, kind):
    size, path = 20_000_000, tmp_path / f"a.{kind}"
    line = "0123456 89" * (size // 10)
    if kind == "parquet":  # rows of 1 MB: bounded by bytes, not by rows
        rows = pyarrow.table({"text": [line[i : i + 10**6] for i in range(0, size, 10**6)] * 5})
        how = {"use_dictionary": False, "write_batch_size": 1, "compression": "none"}
        pyarrow.parquet.write_table(rows, path, **how)  # one row group, a page a row
        del rows
    else:
        data = (f'{{"text": "{line}"}}\n' if kind == "jsonl" else f"{line}\n") * 2
        path.write_bytes(gzip.compress(data.encode(), 1) if kind == "txt.gz" else data.encode())
        del data
    del line
    usual = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pool := pyarrow.proxy_memory_pool(usual))  # counts from 0
    tracemalloc.start()
    try:
        found = sum(len(part) - part.count(" ") for part in read_file(path))
        assert found == size * 9 // 10 * (5 if kind == "parquet" else 2)  # but for the spaces
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        pyarrow.set_memory_pool(usual)
    assert peak < (size / 2 if kind.startswith("txt") else 6 * size)  # .txt: in parts
    assert (pool.max_memory() or 0) < 3 * size
    assert kind != "parquet" or pool.max_memory() > 1e6


def test_a_long_document_becomes_several(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST", 12)
    text = "the old man saw théir dog and " * 4 + "x" * 40 + " "
    (tmp_path / "a.txt").write_text(f"{text}\nshort\n{'y' * 12}\n{'z' * 11} {'w' * 30}\n")
    rows = [{"text": line} for line in (tmp_path / "a.txt").read_text().splitlines()]
    pd.DataFrame(rows).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = " ".join(row["text"] for row in rows).split()
    for name in ("a.txt", "b.parquet", "c.jsonl"):
        found = read_texts(tmp_path / name)
        assert " ".join(found).split() == words, name  # no word is cut
        assert max(len(each) for each in found[:8]) <= 12 + len(" théir"), name
        assert "short" in found, name
        assert all(each.strip() for each in found), name
