"""Chance, the words of the lexicon as tables, and how they are inflected."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import lexicon

Item = TypeVar("Item")


class Example(NamedTuple):
    """A row of a task, and what it takes to get it right."""

    texts: tuple[str, ...]
    label: float
    phenomenon: str


class Dice:
    """A stream of choices named by its key; streams of different keys are unrelated."""

    def __init__(self, *key: object):
        name = "/".join(str(part) for part in key)
        self._random = random.Random(zlib.crc32(name.encode())).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def choose(self, items: Sequence[Item]) -> Item:
        return items[int(self._random() * len(items))]

    def choose_other(self, items: Sequence[Item], taboo: Iterable[Item]) -> Item:
        """One of `items` that is not in `taboo`; IndexError if there is none."""
        taboo = tuple(taboo)
        return self.choose([item for item in items if item not in taboo])

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        left = list(items)
        return [left.pop(int(self._random() * len(left))) for _ in range(len(left))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different positions of `items`, in random order."""
        return self.shuffled(items)[:count]


class Frame(NamedTuple):
    """What some people do to some things: every agent, verb and thing go together."""

    theme: str
    agents: tuple[str, ...]
    verbs: tuple[str, ...]  # synonyms here
    things: tuple[str, ...]
    tool: str  # "" where none is used
    why: tuple[str, ...]  # adjectives of the thing before
    after: tuple[str, ...]  # adjectives of the thing afterwards


def _parse_frames(theme: str, text: str) -> list[Frame]:
    frames = []
    for line in text.strip().splitlines():
        agents, verbs, things, tool, outcome = (part.strip() for part in line.split(":"))
        why, _, after = outcome.partition(">")
        words = (tuple(part.split()) for part in (agents, verbs, things))
        frames.append(Frame(theme, *words, tool, tuple(why.split()), tuple(after.split())))
    return frames


def _place(word: str) -> str:
    return f"at the {word[1:]}" if word.startswith("@") else f"in the {word}"


FRAMES = {theme: _parse_frames(theme, text) for theme, (_, text) in lexicon.THEMES.items()}
PLACES = {
    theme: [_place(word) for word in words.split()] for theme, (words, _) in lexicon.THEMES.items()
}
MISMATCHED = tuple(lexicon.MISMATCHED_THEMES.split())
MATCHED = tuple(theme for theme in FRAMES if theme not in MISMATCHED)
EVERYWHERE = tuple(FRAMES)

KIND = {noun: kind for kind, nouns in lexicon.KINDS.items() for noun in nouns.split()}
HYPERNYM = {noun: upper for upper, nouns in lexicon.HYPERNYMS.items() for noun in nouns.split()}
SYNONYMS = {word: tuple(line.split()) for line in lexicon.NOUN_SYNONYMS for word in line.split()}
MASS = tuple(lexicon.MASS.split())
WOMEN, MEN = lexicon.WOMEN.split(), lexicon.MEN.split()
NUMBERS = lexicon.NUMBERS.split()
COLOURS = lexicon.COLOURS.split()
DAYS = tuple(f"on {day}" for day in lexicon.DAYS.split())
WHEN = lexicon.MOMENTS + DAYS
DIMENSIONS = [
    (tuple(one.split()), tuple(other.split()), tuple(kinds.split()))
    for one, other, kinds in lexicon.DIMENSIONS
]


def _unstarred(words: str) -> tuple[str, ...]:
    return tuple(word.lstrip("*") for word in words.split())


POLARITY = tuple(
    tuple(word for line in lines for word in _unstarred(line))
    for lines in (lexicon.NEGATIVE, lexicon.POSITIVE)  # by SST-2's label
)
HELD_OUT_POLARITY = tuple(
    word[1:]
    for line in lexicon.NEGATIVE + lexicon.POSITIVE
    for word in line.split()
    if word.startswith("*")
)
# Pairs of synonyms that the train set of QQP never shows as a paraphrase: every third.
HELD_OUT_NOUNS = tuple(tuple(line.split()) for line in lexicon.NOUN_SYNONYMS[::3])
HELD_OUT_VERBS = tuple(
    dict.fromkeys(
        frame.verbs for frames in FRAMES.values() for frame in frames[::3] if len(frame.verbs) > 1
    )
)


def plural(noun: str) -> str:
    if noun in lexicon.IRREGULAR_PLURALS:
        return lexicon.IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def a(phrase: str) -> str:
    """The phrase with its indefinite article ("some" before what is not counted)."""
    if phrase.split()[-1] in MASS:
        return f"some {phrase}"
    vowel = phrase[0] in "aeiou" and not phrase.startswith("useful")
    return f"an {phrase}" if vowel else f"a {phrase}"


def upper(noun: str) -> str:
    """ "an animal" for "dog": the wider word with its article."""
    word = HYPERNYM[noun]
    return word if word.startswith("some ") else a(word)


def third(verb: str) -> str:
    return plural(verb) if verb != "do" else "does"


def _stem(verb: str) -> str:
    return verb + verb[-1] if verb in lexicon.DOUBLING.split() else verb


def _regular_past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return _stem(verb) + "ed"


def past(verb: str) -> str:
    return lexicon.IRREGULAR_VERBS.get(verb, _regular_past(verb)).split()[0]


def participle(verb: str) -> str:
    return lexicon.IRREGULAR_VERBS.get(verb, _regular_past(verb)).split()[-1]


def ing(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return _stem(verb) + "ing"


def say(text: str) -> str:
    """A clause as a sentence: first letter large, a full stop where no mark stands."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text + "."


def _pronouns(noun: str, female: bool) -> tuple[str, str]:
    """Subject and object pronoun; some nouns decide it themselves."""
    if noun in lexicon.FEMALE.split():
        female = True
    if noun in lexicon.MALE.split():
        female = False
    return ("she", "her") if female else ("he", "him")


def synonym(dice: Dice, noun: str) -> str:
    """Another word for the noun, or the noun itself where there is none."""
    return dice.choose_other(SYNONYMS[noun], [noun]) if noun in SYNONYMS else noun


def random_dimension(dice: Dice, kind: str) -> tuple:
    """Two opposed sets of adjectives for a kind of noun, in random order."""
    one, other, _ = dice.choose([d for d in DIMENSIONS if kind in d[2]])
    return (one, other) if dice.chance(0.5) else (other, one)


def describable(noun: str) -> bool:
    return any(KIND[noun] in kinds for _, _, kinds in DIMENSIONS)
