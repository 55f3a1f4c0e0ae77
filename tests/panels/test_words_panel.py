"""What the words panel hands to the browser, and what it says to wrong sentences and runs."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toy_models import small_bert
from transformers import BertTokenizerFast

from distilkit import student_from_teacher, words_panel

SENTENCES = ["w1 w2 [MASK] w4", "[MASK] w7"]


@pytest.fixture(scope="module")
def models():
    teacher = small_bert(4)
    return {"teacher": teacher, "student": student_from_teacher(teacher)}


def unpacked(answer) -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer["logits"]), dtype="<f4")


def plain(model, tokenizer, sentence: str) -> np.ndarray:
    """All logits at the gap, from the model itself."""
    inputs = tokenizer(sentence, return_tensors="pt", return_token_type_ids=False)
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        return model(**inputs).logits[0, place].numpy()


def sent_by(panel, request) -> list[dict]:
    sent = []
    panel.send = lambda content, buffers=None: sent.append(content)
    panel._handle_custom_msg(request, [])
    return sent


def test_words_and_logits_are_the_models(models, tokenizer, home):
    panel = words_panel(models, tokenizer, SENTENCES)
    for sentence in (SENTENCES[0], "w9 [MASK]"):
        assert sent_by(panel, {"ask": "sentence", "sentence": sentence}) == []
        value = json.loads(json.dumps(panel.value))
        assert value["sentence"] == sentence
        for answer, model in zip(value["answers"], models.values(), strict=True):
            logits = plain(model, tokenizer, sentence)
            np.testing.assert_allclose(unpacked(answer), np.sort(logits)[::-1], atol=1e-6)
            best = np.argsort(-logits)[: len(answer["words"])]
            assert answer["words"] == tokenizer.convert_ids_to_tokens(best.tolist())


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("w1 w2 w3", "write [MASK] once"),
        ("[MASK] [MASK]", "write [MASK] once"),
        ("", "write [MASK] once"),
        ("w1 zebra [MASK] zebra", "'zebra': unknown to this tokenizer"),
        ("w1 " * 600 + "[MASK]", "was cut off"),
    ],
)
def test_a_wrong_sentence_is_said_in_the_panel_and_the_last_answer_stays(
    models, tokenizer, sentence, said, home
):
    panel = words_panel(models, tokenizer, SENTENCES)
    before = panel.value
    (sent,) = sent_by(panel, {"ask": "sentence", "sentence": sentence})
    assert said in sent["error"]
    assert panel.value == before


def test_markup_in_a_sentence_or_a_name_is_text(models, tokenizer):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"<script>/alert(1);", "w"]
    reader = BertTokenizerFast(vocab={word: i for i, word in enumerate(dict.fromkeys(words))})
    model = small_bert(2, vocab_size=205)
    panel = words_panel({"</script><script>": model}, reader, ["<w>[MASK]</w>"])
    page = panel.to_html()
    assert page.count("<script") == page.count("</script>") == 1
    assert "<w>" not in page


def test_sentences_that_the_tokenizer_does_not_know_are_left_out(models, tokenizer):
    assert words_panel(models, tokenizer).value["sentences"] == ["[MASK]"]


def test_wrong_arguments_are_refused(models, tokenizer):
    with pytest.raises(ValueError, match="models or sentences are empty"):
        words_panel({}, tokenizer)
    with pytest.raises(ValueError, match="models or sentences are empty"):
        words_panel(models, tokenizer, [])
    with pytest.raises(ValueError, match="'movie'"):
        words_panel(models, tokenizer, ["a [MASK] movie"])
    with pytest.raises(ValueError, match=r"write \[MASK\] once"):
        words_panel(models, tokenizer, ["w1 w2"])
    with pytest.raises(ValueError, match="temperature = 50"):
        words_panel(models, tokenizer, SENTENCES, temperature=50)


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_bars_are_the_softmax_over_the_whole_vocabulary(
    models, tokenizer, alone, tmp_path, temperature
):
    panel = words_panel(models, tokenizer, SENTENCES, temperature=temperature)
    file = tmp_path / "panel.html"
    file.write_text(f'<!doctype html><meta charset="utf-8">{panel.to_html()}')
    alone.goto(file.as_uri())
    alone.wait_for_selector(".dk-panel svg")
    for name, model in models.items():
        p = np.sort(softmax(plain(model, tokenizer, SENTENCES[0]) / temperature))[::-1]
        bars = alone.locator(f"rect[data-bar={name}]")
        widths = bars.evaluate_all("bars => bars.map(bar => Number(bar.getAttribute('width')))")
        full = (680 - 20) / 2 - 92 - 56  # pixels for a probability of 1
        np.testing.assert_allclose(np.array(widths) / full, p[: len(widths)], atol=1e-5)
    box = alone.locator("input[type=text]")
    box.fill("no gap here")
    box.press("Enter")
    assert "write [MASK] once" in alone.locator(".dk-problem").inner_text()
    box.fill(SENTENCES[1])
    box.press("Enter")
    assert "needs a kernel" in alone.locator(".dk-problem").inner_text()
    alone.get_by_role("button", name="Reset").click()
    assert alone.locator(".dk-problem").inner_text() == ""
    dial = alone.locator("input[type=number]")
    dial.fill("0")
    box.fill("no gap")
    box.press("Enter")
    assert alone.locator(".dk-problem").inner_text().count("\n") == 1  # both are said
    dial.fill("3")
    assert "write [MASK] once" in alone.locator(".dk-problem").inner_text()
    assert "dk-stale" in alone.locator("svg").get_attribute("class")  # one of two is mended
