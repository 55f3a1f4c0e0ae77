"""Is a teacher worth distilling? Asked before any student is judged.

A student can only keep what its teacher knows: where the teacher is at chance, every arm of a
comparison is at chance, and the comparison says nothing. So the teacher has to show three things:
that it completes English sentences like English, that it knows which adjectives praise and which
blame without having been told, and that on the tasks it is far above its own shape from random
weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distilkit.config import Scale, home
from distilkit.data import tinyworld
from distilkit.data.sources import load_task, load_teacher
from distilkit.distillation import fingerprint
from distilkit.models.fill_mask import fill_mask
from distilkit.processes import processes
from distilkit.student import random_student_like
from distilkit.study.arms import finetune_arms, macro_scores, results_table

if TYPE_CHECKING:
    import pandas as pd

SENTENCES = (
    "it was really {} .",
    "what a waste of {} .",
    "the president of the united {} .",
    "she opened the {} and went into the house .",
    "the dog chased the {} .",
    "he drank a cup of {} .",
    "they went to the {} to buy some bread .",
    "the sun was {} in the sky .",
    "i would like to {} you for your help .",
    "the children played in the {} .",
    "the movie was so {} that i fell asleep .",
    "the food was {} and the service was excellent .",
    "he was born in the {} of london .",
    "she has two brothers and one {} .",
    "the opposite of hot is {} .",
    "a rose is a kind of {} .",
    "the carpenter repaired the chair with a {} .",
    "the doctor treated the {} .",
    "it was not good , it was {} .",
    "on monday , the farmer fed the {} .",
)
# sentences that do not themselves say which polarity the word has
PROBE_FRAMES = ("the {noun} was {word} .", "it was a {word} {noun} .")
PROBE_NOUNS = ("film", "book", "meal", "concert")


def polarity_probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of held-out adjectives whose polarity a linear probe reads from the hidden states.

    The probe (logistic regression) learns from the tiny world's polar adjectives that stand in
    SST-2's training set, and is asked about those that do not: whether it is right depends on what
    the model made of these words in pretraining.

    Returns:
        0 to 1, over words; a word's answer is the mean over sentences.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    words = [(word, label) for label in (0, 1) for word in tinyworld.POLARITY[label]]
    features = np.stack([_word_states(model, tokenizer, word) for word, _ in words])  # W, H
    labels = np.array([label for _, label in words])
    held_out = np.array([word in tinyworld.HELD_OUT_POLARITY for word, _ in words])
    scaler = StandardScaler().fit(features[~held_out])
    probe = LogisticRegression(C=0.1, max_iter=1000)
    probe.fit(scaler.transform(features[~held_out]), labels[~held_out])
    return float(probe.score(scaler.transform(features[held_out]), labels[held_out]))


def _word_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, word: str
) -> np.ndarray:
    """[H]: the model's last hidden states of a word, mean over its pieces and some sentences."""
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


def gate(scale: Scale) -> dict[str, Any]:
    """What a teacher has to show; printed by ``python -m distilkit gate``.

    Returns:
        ``answers`` (20 completed sentences), ``polarity`` (of :func:`polarity_probe`), ``scores``
        (table of the teacher and of its shape from random weights, fine-tuned alike), ``above``
        (points of macro-score between them) and ``above_chance`` (tasks more than two standard
        errors above the best constant answer).
    """
    teacher, tokenizer = load_teacher(scale)
    sentences = [sentence.format(tokenizer.mask_token) for sentence in SENTENCES]
    which = fingerprint(teacher)["sha256"][:8]  # teachers can be compared, each has its own runs
    untrained = home() / "data" / "cache" / f"untrained-{which}"
    if processes().is_main_process:
        random_student_like(teacher, seed=0).save_pretrained(untrained)
    processes().wait_for_everyone()
    arms = {"teacher": scale.teacher, "random_weights": untrained}
    scores = finetune_arms(arms, tokenizer, scale, prefix=f"gate-{which}-")
    macros = macro_scores(scores).groupby("arm").score.median()
    return {
        "answers": fill_mask({"teacher": teacher}, tokenizer, sentences, top_k=5),
        "polarity": polarity_probe(teacher, tokenizer),
        "scores": results_table(scores),
        "above": float(macros["teacher"] - macros["random_weights"]),
        "above_chance": _above_chance(scores[scores.arm == "teacher"], scale),
    }


def _above_chance(scores: pd.DataFrame, scale: Scale) -> list[str]:
    """Tasks whose median score is more than two standard errors above a constant answer's."""
    found = []
    for task, score in scores.groupby("task", sort=False).score.median().items():
        data = load_task(scale, task)
        labels = np.array(data["validation_matched" if task == "mnli" else "validation"]["label"])
        if task in ("cola", "stsb"):  # correlations: 0 for a constant
            chance, error = 0.0, 100 / len(labels) ** 0.5
        else:
            share = np.unique(labels, return_counts=True)[1].max() / len(labels)
            chance, error = 100 * share, 100 * (share * (1 - share) / len(labels)) ** 0.5
        if task == "mrpc":  # F1 of answering "paraphrase" always
            share = labels.mean()
            chance = 100 * 2 * share / (1 + share)
        if score > chance + 2 * error:
            found.append(task)
    return found
