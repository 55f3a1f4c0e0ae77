"""What is on this disk goes before the Hub, and a path that leads nowhere is no name.

A tokenizer that makes words of its vocabulary unreachable is named.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_models import small_bert
from transformers import AutoModelForMaskedLM, BertTokenizerFast

from distilkit.data.documents import about_how_many, open_text
from distilkit.models.hub import fetch, local_path
from distilkit.models.loading import load_model, load_tokenizer


def test_what_is_on_this_disk_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("owner/name").mkdir(parents=True)
    Path("tickets.csv").touch()
    for source in ("owner/name", "tickets.csv", "./tickets.csv", Path("tickets.csv"), "..", "."):
        assert local_path(source) == Path(source)
    assert local_path("~/tickets.csv") == tmp_path / "tickets.csv"
    assert local_path(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "name",
    ["bert", "owner/bert", "owner/bert-v1.5", "nyu-mll/glue", "Salesforce/wikitext:wikitext-2-v1"],
)
def test_a_name_on_the_hub_is_no_path(name):
    assert local_path(name) is None


@pytest.mark.parametrize(
    "source",
    [
        *("", " ", "/gone", "./gone", "../gone", "~/gone", "~nobody/gone", "runs/gone/model"),
        *("gone.csv", "gone.TSV", "gone.txt.gz", "a/gone.jsonl", "a.parquet", "a.safetensors"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for door in (local_path, fetch, open_text, about_how_many):
        with pytest.raises(FileNotFoundError, match="no file or folder at"):
            door(source)


def test_a_file_or_folder_without_a_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_model(AutoModelForMaskedLM, tmp_path)
    small_bert(1).save_pretrained(tmp_path / "model")
    for name in ("config.json", "environment.json"):  # as a run writes them
        (tmp_path / name).write_text("{}")
    for load in (load_tokenizer, lambda folder: load_model(AutoModelForMaskedLM, folder)):
        with pytest.raises(FileNotFoundError, match=f"give {tmp_path / 'model'}"):
            load(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"model\.safetensors is a file"):
        load_model(AutoModelForMaskedLM, tmp_path / "model" / "model.safetensors")
    model, _ = load_model(AutoModelForMaskedLM, "~/model")
    assert model.config.num_hidden_layers == 1


@pytest.mark.parametrize("lower", [True, False])
def test_a_lower_casing_tokenizer_with_a_cased_vocabulary_is_named(tmp_path, lower):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "The", "Berlin", "##a"]
    vocabulary = {word: number for number, word in enumerate(words)}
    BertTokenizerFast(vocab=vocabulary, do_lower_case=lower).save_pretrained(tmp_path)
    if lower:
        with pytest.warns(UserWarning, match="2 capitalised entries"):
            load_tokenizer(tmp_path)
    else:
        load_tokenizer(tmp_path)  # a warning would be an error
