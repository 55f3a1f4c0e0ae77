"""Measure whether a teacher knows which adjectives praise and which blame.

    python data/tiny/make/polarity.py TEACHER

It prints the accuracy of a probe on adjectives that SST-2's training set never shows.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from words import HELD_OUT_POLARITY, POLARITY

from distilkit.models.loading import load_model, load_tokenizer

# Sentences that do not themselves say which polarity the word has
PROBE_FRAMES = ("the {noun} was {word} .", "it was a {word} {noun} .")
PROBE_NOUNS = ("film", "book", "meal", "concert")


def polarity_probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the share of held-out adjectives whose polarity a linear probe reads, 0 to 1.

    The probe (logistic regression on the hidden states) is trained on the polar adjectives of the
    tiny SST-2's training set and scored on the others, which the text holds. It can be right only
    about what the model learned of these words in pretraining.
    """
    words = [(word, label) for label in (0, 1) for word in POLARITY[label]]
    features = np.stack([_word_states(model, tokenizer, word) for word, _ in words])  # W, H
    labels = np.array([label for _, label in words])
    held_out = np.array([word in HELD_OUT_POLARITY for word, _ in words])
    scaler = StandardScaler().fit(features[~held_out])
    probe = LogisticRegression(C=0.1, max_iter=1000)
    probe.fit(scaler.transform(features[~held_out]), labels[~held_out])
    return float(probe.score(scaler.transform(features[held_out]), labels[held_out]))


def _word_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, word: str
) -> np.ndarray:
    """Return the last hidden state of a word [H], mean over its pieces and some sentences."""
    pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
    states = []
    for frame in PROBE_FRAMES:
        for noun in PROBE_NOUNS:
            ids = tokenizer(frame.format(noun=noun, word=word))["input_ids"]
            at = next(i for i in range(len(ids)) if ids[i : i + len(pieces)] == pieces)
            with torch.no_grad():
                hidden = model.base_model(torch.tensor([ids])).last_hidden_state[0]  # L, H
            states.append(hidden[at : at + len(pieces)].mean(0))
    return torch.stack(states).mean(0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", help="Hub id or folder of a masked-language model")
    teacher = parser.parse_args().teacher
    model, _ = load_model(AutoModelForMaskedLM, teacher)
    share = polarity_probe(model.eval(), load_tokenizer(teacher))
    print(f"polarity of held-out adjectives by probe: {share:.1%}")


if __name__ == "__main__":
    main()
