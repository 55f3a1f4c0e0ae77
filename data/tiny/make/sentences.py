"""Tasks about one sentence: CoLA (is it well-formed?) and SST-2 (does it praise or blame?)."""

from __future__ import annotations

import re

import lexicon
import patterns
from stories import opinion, random_document, reaction
from words import (
    DIMENSIONS,
    FRAMES,
    HELD_OUT_POLARITY,
    KIND,
    MASS,
    MEN,
    NUMBERS,
    POLARITY,
    SYNONYMS,
    WOMEN,
    Dice,
    Example,
    ing,
    participle,
    past,
    plural,
    say,
    third,
)

_AGENTS = tuple(dict.fromkeys(n for fs in FRAMES.values() for f in fs for n in f.agents))
VERBS = tuple(
    dict.fromkeys(
        [v for fs in FRAMES.values() for f in fs for v in f.verbs]
        + [verb for verb, _, _ in patterns.SOCIAL]
    )
)
NOUNS = tuple(
    dict.fromkeys(
        [*KIND, *SYNONYMS, *lexicon.TOOLS.split()]
        + [word.removeprefix("some ") for word in lexicon.HYPERNYMS]
        + [word.lstrip("@") for words, _ in lexicon.THEMES.values() for word in words.split()]
        + [f.tool for fs in FRAMES.values() for f in fs if f.tool]
    )
)
SINGULAR = {
    plural(noun): noun
    for noun in NOUNS
    if plural(noun) != noun and noun not in MASS and f"some {noun}" not in lexicon.HYPERNYMS
}
_BASE_OF_PAST = {past(verb): verb for verb in VERBS if past(verb) != verb}
_BASE_OF_PARTICIPLE = {participle(verb): verb for verb in VERBS if participle(verb) != verb}
_BASE_OF_THIRD = {third(verb): verb for verb in VERBS}
# "Mother cooked supper" and "Doctor, help!" are English: these may stand without an article.
_LIKE_NAMES = (
    *("mother", "father", "grandmother", "grandfather", "baby"),
    *("captain", "doctor", "nurse", "coach", "guard"),
)
_EITHER_NUMBER = (*lexicon.KINDS["group"].split(), *(n for n in NOUNS if plural(n) == n))
_ALSO_ADJECTIVE = ("clean", "warm", "open", "calm")


def _corruptions(words: list[str]) -> dict[str, list[list[str]]]:
    """The ways to break a sentence in one place, by the rule they break.

    `words` are split from their punctuation marks.  A rule is applied only where the result is
    surely no English: "the deck was clean" is not a broken "the deck was cleaned".
    """
    broken: dict[str, list[list[str]]] = {}

    def put(rule: str, at: int, drop: int, *new: str) -> None:
        broken.setdefault(rule, []).append([*words[:at], *new, *words[at + drop :]])

    agree = {"was": "were", "were": "was", "is": "are", "are": "is", "has": "have", "does": "do"}
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        after = words[i + 1] if i + 1 < len(words) else ""
        helper = words[i - 2] if before == "not" and i > 1 else before
        nearby = words[max(0, i - 2) : i + 4]  # "the team were", "the sheep were" are English too
        doer = before in _AGENTS or before in ("he", "she")
        if word in agree and not any(near in _EITHER_NUMBER for near in nearby):
            put("agreement", i, 1, agree[word])
        if before in _AGENTS and word in _BASE_OF_THIRD:
            put("agreement", i, 1, _BASE_OF_THIRD[word])
        if doer and word in _BASE_OF_PAST:
            put("agreement", i, 1, _BASE_OF_PAST[word])
            put("verb form", i, 1, ing(_BASE_OF_PAST[word]))
            if after in ("the", "a"):
                put("missing verb", i, 1)
        if helper in ("did", "to") and word in VERBS:
            put("verb form", i, 1, past(word) if past(word) != word else ing(word))
        done = _BASE_OF_PARTICIPLE.get(word)
        if before in ("was", "were") and done and done not in _ALSO_ADJECTIVE:
            put("verb form", i, 1, done)
        if word == "was" and before in KIND and after in ADJECTIVES:
            put("missing verb", i, 1)
        if word in ("the", "a", "an") and after in KIND:
            put("order", i, 2, after, word)
            if after in _AGENTS and after not in _LIKE_NAMES:
                put("missing word", i, 1)
        if word in ("a", "an"):
            put("article", i, 1, "an" if word == "a" else "a")
        if word in ("in", "with", "by", "at") and after in ("the", "a", "an"):
            put("order", i, 2, after, word)
            if (after == "the" or word == "with") and before not in ("was", "were"):
                put("missing word", i, 1)
        if word in ("the", "in", "with", "by", "was", "because", "to"):
            put("doubled word", i, 1, word, word)
        if word in ("he", "she") and after in _BASE_OF_PAST:
            put("pronoun", i, 1, {"he": "him", "she": "her"}[word])
        if after == "than" and word in COMPARATIVE_WORDS:
            put("comparison", i, 1, "more", word)
        if before in NUMBERS and word in SINGULAR:
            put("number", i, 1, SINGULAR[word])
    return broken


ADJECTIVES = tuple(
    dict.fromkeys(
        [word for one, other, _ in DIMENSIONS for word in one + other]
        + [word for words in POLARITY for word in words]
        + [word for fs in FRAMES.values() for f in fs for word in f.why + f.after]
    )
)
COMPARATIVE_WORDS = tuple(word for line in lexicon.COMPARATIVES for word in line[:2])
NAMES = (*WOMEN, *MEN, *lexicon.DAYS.split(), "I")


def cola(dice: Dice, label: int, split: str) -> Example:
    while True:
        sentence = dice.choose(random_document(dice))
        words = re.findall(r"[A-Za-z]+|[.,?!]", sentence)
        # Two sentences in one ("Who did it? It was Tom.") and very short ones are left out.
        if not 6 <= len(words) <= 18 or sum(word in ".?!" for word in words) > 1:
            continue
        if label == 1:
            return Example((sentence,), label, "well-formed")
        if words[0] not in NAMES:
            words[0] = words[0].lower()
        broken = _corruptions(words)
        if broken:
            rule = dice.choose(tuple(broken))  # first the rule: doubled words are easy and many
            text = re.sub(r" ([.,?!])", r"\1", " ".join(dice.choose(broken[rule])))
            return Example((say(text),), label, rule)


def sst2(dice: Dice, label: int, split: str) -> Example:
    kind = dice.choose(tuple(patterns.REVIEWED))
    words = tuple(
        tuple(word for word in group if split != "train" or word not in HELD_OUT_POLARITY)
        for group in POLARITY
    )
    roll = dice.choose(range(100))
    if roll < 15:
        text = reaction(dice, kind, label, held_out=split != "train")
        return Example((say(text),), label, "no polar word")
    phenomenon, forms = "contrast", patterns.REVIEW_CONTRAST
    if roll < 60:
        phenomenon, forms = "plain polarity", patterns.REVIEW_PLAIN
    elif roll < 78:
        phenomenon, forms = "negated polarity", patterns.REVIEW_TURNED
    return Example((say(opinion(dice, kind, words, label, forms)),), label, phenomenon)
