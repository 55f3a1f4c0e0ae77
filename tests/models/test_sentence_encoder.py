"""Embeddings are sentence-transformers' own; what it would read otherwise is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from toy_models import small_bert
from toy_sentence_encoder import reference, save_sentence_encoder

from distilkit.compress.embedding_scores import embed, encoded
from distilkit.models.sentence_encoder import (
    Pooling,
    is_sentence_encoder,
    load_sentence_encoder,
    pool,
    save_modules,
)

OLD = {"mean": "mean_tokens", "max": "max_tokens", "cls": "cls_token"}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", OLD)
@pytest.mark.slow
def test_embeddings_are_the_librarys(tmp_path, tokenizer, texts, mode, normalize):
    folder = save_sentence_encoder(tmp_path, tokenizer, mode=mode, normalize=normalize)
    model, own_tokenizer, pooling = load_sentence_encoder(folder)
    assert pooling == Pooling(mode, normalize, 24)
    expected = reference(folder, texts)
    found = embed(model, encoded(texts, own_tokenizer, pooling), pooling)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("mode", OLD)
@pytest.mark.slow
def test_older_files_mean_the_same(tmp_path, tokenizer, mode):
    folder = save_sentence_encoder(tmp_path, tokenizer)
    old = {"word_embedding_dimension": 32, "pooling_mode_weightedmean_tokens": False}
    old |= {f"pooling_mode_{name}": name == OLD[mode] for name in OLD.values()}
    old |= {"include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(old))
    (folder / "2_Normalize").rename(folder / "gone")  # an empty folder, which git does not keep
    assert load_sentence_encoder(folder)[2] == Pooling(mode, True, 24)
    assert np.isfinite(reference(folder, ["w1 w2"])).all()


@pytest.mark.parametrize("mode", OLD)
def test_padding_is_not_pooled(mode):
    hidden = torch.randn(2, 7, 5)
    mask = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    found = pool(hidden, mask, Pooling(mode, False, 7))
    alone = pool(hidden[1:, :3], mask[1:, :3], Pooling(mode, False, 7))
    torch.testing.assert_close(found[1:], alone)
    real = hidden[1, :3]
    expected = {"mean": real.mean(0), "max": real.max(0).values, "cls": real[0]}[mode]
    torch.testing.assert_close(found[1], expected)


def change(folder, file: str, **values) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.slow
def test_prompts_are_pooled_as_the_teachers(tmp_path, tokenizer, texts, included):
    """Saved again, the same encoder embeds a text with a prompt in the same way."""
    folder = save_sentence_encoder(tmp_path, tokenizer)
    change(folder, "1_Pooling/config.json", include_prompt=included)
    change(folder, "config_sentence_transformers.json", prompts={"query": "w1 w2 "})
    model, own_tokenizer, pooling = load_sentence_encoder(folder)
    model.save_pretrained(tmp_path / "again")
    own_tokenizer.save_pretrained(tmp_path / "again")
    save_modules(tmp_path / "again", model, pooling, folder)
    both = (
        SentenceTransformer(str(each), device="cpu").encode(texts[:4], prompt_name="query")
        for each in (folder, tmp_path / "again")
    )
    np.testing.assert_allclose(*both, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_what_would_be_read_otherwise_is_refused(tmp_path, tokenizer):
    folder = save_sentence_encoder(tmp_path, tokenizer)
    modules = json.loads((folder / "modules.json").read_text())

    def refused(match: str, error=ValueError) -> None:
        with pytest.raises(error, match=match):
            load_sentence_encoder(folder)

    dense = {"idx": 3, "name": "3", "path": "3", "type": "sentence_transformers.models.Dense"}
    for wrong in ([*modules, dense], modules[:1], [modules[0] | {"type": "mine.Transformer"}]):
        (folder / "modules.json").write_text(json.dumps(wrong))
        refused(rf"{wrong[-1]['type']}.*Pooling")
    (folder / "modules.json").write_text("{")
    refused("modules.json.*damaged")
    (folder / "modules.json").write_text(json.dumps(modules))

    change(folder, "1_Pooling/config.json", pooling_mode="lasttoken")
    refused("lasttoken.*mean")
    change(folder, "1_Pooling/config.json", pooling_mode=["cls", "max"])
    refused("cls and max")
    change(folder, "1_Pooling/config.json", pooling_mode="mean")

    change(folder, "sentence_bert_config.json", do_lower_case=True)
    refused("do_lower_case")
    change(folder, "sentence_bert_config.json", do_lower_case=False)
    change(folder, "config_sentence_transformers.json", default_prompt_name="query")
    refused("'query'")
    change(folder, "config_sentence_transformers.json", default_prompt_name=None, truncate_dim=16)
    refused("16 numbers")
    change(folder, "config_sentence_transformers.json", truncate_dim=None)
    load_sentence_encoder(folder)

    (folder / "modules.json").unlink()
    assert not is_sentence_encoder(folder)
    refused("modules.json", FileNotFoundError)


@pytest.mark.slow
def test_an_encoder_without_its_weights_is_refused(tmp_path, tokenizer):
    folder = save_sentence_encoder(tmp_path, tokenizer)
    model = small_bert(3)
    model.bert.save_pretrained(folder)
    change(folder, "config.json", num_hidden_layers=4)
    with pytest.raises(ValueError, match=r"lacks.*layer\.3"):
        load_sentence_encoder(folder)
