"""The tiny world: a seeded grammar that writes English-like text and the nine tasks of GLUE.

The embedded default, for machines without a network or a GPU, and built so that pretraining pays.
The documents hold what the tasks ask for: who does what with which tool and where, words of one
meaning in one context, which adjectives praise and which blame, kinds of things, and who a pronoun
means.  No text of an evaluation set is a sentence of what students, or a teacher made by this code,
are pretrained on.

Nothing here is GLUE's data.  The files have GLUE's columns, label numbers and splits, so that
code written for `nyu-mll/glue` reads them unchanged; they have one column more, `phenomenon`, and
unlike GLUE's, the test sets carry their true labels (GLUE's own hold -1 there).  Scores on these
tasks compare models of this kit with each other and say nothing about GLUE.

All chance comes from `random.Random(seed).random()`, whose numbers Python keeps equal between
versions and machines, and each split of each task has a stream of its own: another size for one
task leaves the text of every other as it was.
"""

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from distilkit.data import tinyworld_lexicon as lexicon

VERSION = 3  # of the generator; raise it with every change of what is written

DOCUMENTS = 2500  # some 10^5 tokens: scarce text, as in life, is where soft targets count
TEACHER_SEED, TEACHER_DOCUMENTS = 1, 40_000  # what the shipped teacher read

# Training examples a task; validation and test each get EVALUATION_SHARE of that.
DEFAULT_EXAMPLES = {
    "cola": 1500,
    "sst2": 900,
    "mrpc": 1200,
    "qqp": 1200,
    "stsb": 1200,
    "mnli": 1200,
    "qnli": 1200,
    "rte": 1200,
    "wnli": 450,
}
TASKS = tuple(DEFAULT_EXAMPLES)
EVALUATION_SHARE = 1 / 3

# The text columns of each task, in GLUE's order; `label` and `idx` follow, and one column that
# GLUE does not have: `phenomenon`, for whoever asks what a model gets wrong.
COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1", "sentence2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}

Item = TypeVar("Item")


def splits(task: str) -> tuple[str, ...]:
    """The names of a task's splits, as in GLUE."""
    if task == "mnli":
        return (
            "train",
            "validation_matched",
            "validation_mismatched",
            "test_matched",
            "test_mismatched",
        )
    return ("train", "validation", "test")


class Example(NamedTuple):
    """A row of a task, and what it takes to get it right."""

    texts: tuple[str, ...]
    label: float
    phenomenon: str


# --- chance ---------------------------------------------------------------------------------------


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


# --- words ----------------------------------------------------------------------------------------


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

_KIND = {noun: kind for kind, nouns in lexicon.KINDS.items() for noun in nouns.split()}
_HYPERNYM = {noun: upper for upper, nouns in lexicon.HYPERNYMS.items() for noun in nouns.split()}
_SYNONYMS = {word: tuple(line.split()) for line in lexicon.NOUN_SYNONYMS for word in line.split()}
_MASS = tuple(lexicon.MASS.split())
_WOMEN, _MEN = lexicon.WOMEN.split(), lexicon.MEN.split()
_NUMBERS = lexicon.NUMBERS.split()
_COLOURS = lexicon.COLOURS.split()
_DAYS = tuple(f"on {day}" for day in lexicon.DAYS.split())
_WHEN = lexicon.MOMENTS + _DAYS
_DIMENSIONS = [
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
# Pairs of synonyms that the train sets of MRPC and QQP never show as a paraphrase: every third.
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
    if phrase.split()[-1] in _MASS:
        return f"some {phrase}"
    vowel = phrase[0] in "aeiou" and not phrase.startswith("useful")
    return f"an {phrase}" if vowel else f"a {phrase}"


def upper(noun: str) -> str:
    """ "an animal" for "dog": the wider word with its article."""
    word = _HYPERNYM[noun]
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


def _synonym(dice: Dice, noun: str) -> str:
    """Another word for the noun, or the noun itself where there is none."""
    return dice.choose_other(_SYNONYMS[noun], [noun]) if noun in _SYNONYMS else noun


def _dimension(dice: Dice, kind: str, taboo: tuple = ()) -> tuple:
    """Two opposed sets of adjectives for a kind of noun, in random order, but not `taboo`."""
    found = [d for d in _DIMENSIONS if kind in d[2] and set(d[:2]) != set(taboo[:2])]
    one, other, _ = dice.choose(found)
    return (one, other) if dice.chance(0.5) else (other, one)


def _describable(noun: str) -> bool:
    return any(_KIND[noun] in kinds for _, _, kinds in _DIMENSIONS)


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Somebody did something once, and how it is to be told."""

    frame: Frame
    agent: str
    verb: str
    thing: str
    adjective: str = ""  # of the thing
    trait: str = ""  # of the agent
    count: str = ""  # of things; "" is "the thing"
    tool: str = ""  # phrases: "with a knife", "in the kitchen", "at noon"
    place: str = ""
    when: str = ""
    passive: bool = False
    negative: bool = False
    front: bool = False  # the time or the place comes first

    @property
    def the_agent(self) -> str:
        return " ".join(word for word in ("the", self.trait, self.agent) if word)

    @property
    def the_thing(self) -> str:
        noun = plural(self.thing) if self.count else self.thing
        return " ".join(word for word in (self.count or "the", self.adjective, noun) if word)

    @property
    def act(self) -> str:
        """ "slice the bread" """
        return f"{self.verb} {self.the_thing}"


def _event(dice: Dice, themes: Sequence[str] = EVERYWHERE, test: Callable | None = None) -> Event:
    """A random event without details; `test(frame)` says which frames will do."""
    while True:
        frame = dice.choose(FRAMES[dice.choose(themes)])
        if test is None or test(frame):
            return _event_in(dice, frame)


def _event_in(dice: Dice, frame: Frame, agent: str = "") -> Event:
    return Event(
        frame,
        agent or dice.choose(frame.agents),
        dice.choose(frame.verbs),
        dice.choose(frame.things),
    )


def _detailed(dice: Dice, event: Event, count: int, taboo: Sequence[str] = ()) -> Event:
    """The event with `count` of the details tool, place, when (fewer where there are no more)."""
    possible = [name for name in ("tool", "place", "when") if name not in taboo]
    if not event.frame.tool and "tool" in possible:
        possible.remove("tool")
    for name in dice.some(possible, count):
        event = replace(event, **{name: _detail(dice, event, name)})
    return replace(event, front=dice.chance(0.3))


def _detail(dice: Dice, event: Event, name: str) -> str:
    if name == "tool":
        return f"with {a(event.frame.tool)}"
    return dice.choose(PLACES[event.frame.theme] if name == "place" else _WHEN)


def _core(event: Event) -> str:
    if event.passive:
        be = "were" if event.count else "was"
        no = " not" if event.negative else ""
        return f"{event.the_thing} {be}{no} {participle(event.verb)} by {event.the_agent}"
    did = f"did not {event.verb}" if event.negative else past(event.verb)
    return f"{event.the_agent} {did} {event.the_thing}"


def tell(event: Event, core: str = "") -> str:
    """The event as a clause in the past; `core` replaces its subject, verb and object."""
    core = core or _core(event)
    if event.front and (event.when or event.place):
        first = event.when or event.place
        rest = (event.tool, event.place if event.when else "")
        return " ".join(word for word in (f"{first},", core, *rest) if word)
    return " ".join(word for word in (core, event.tool, event.place, event.when) if word)


def _reworded(dice: Dice, event: Event, allowed: Callable[[tuple], bool], count: int) -> Event:
    """The same event in other words: `count` changes out of synonyms, voice and order.

    `allowed(group)` says whether a group of synonyms may be used.
    """
    changes = [{"passive": not event.passive}]
    if event.when or event.place:
        changes.append({"front": not event.front})
    if len(event.frame.verbs) > 1 and allowed(event.frame.verbs):
        changes += [{"verb": dice.choose_other(event.frame.verbs, [event.verb])}] * 2
    for name in ("agent", "thing"):
        noun = getattr(event, name)
        if noun in _SYNONYMS and allowed(_SYNONYMS[noun]):
            changes += [{name: _synonym(dice, noun)}] * 2
    if event.adjective:
        words = next(s for d in _DIMENSIONS for s in d[:2] if event.adjective in s)
        if len(words) > 1:
            changes.append({"adjective": dice.choose_other(words, [event.adjective])})
    for change in dice.some(changes, count):
        event = replace(event, **change)
    return event


def _same_word(one: str, other: str) -> bool:
    return one == other or other in _SYNONYMS.get(one, ())


def _altered(dice: Dice, event: Event) -> Event:
    """Another event in nearly the same words: one thing that matters is different."""
    frame, theme = event.frame, FRAMES[event.frame.theme]
    changes = []
    things = [t for t in frame.things if not _same_word(t, event.thing)]
    if things:
        changes += [{"thing": dice.choose(things)}] * 2
    agents = [n for f in theme for n in f.agents if not _same_word(n, event.agent)]
    agents = [n for n in dict.fromkeys(agents) if n != event.thing]
    if agents:
        changes += [{"agent": dice.choose(agents)}] * 2
    verbs = [  # with their frames, or rewording would bring back a synonym of the old verb
        {"verb": verb, "frame": f}
        for f in theme
        if event.thing in f.things and not set(f.verbs) & set(frame.verbs)
        for verb in f.verbs
    ]
    if verbs:
        changes += [dice.choose(verbs)] * 2
    if event.place:
        changes.append({"place": dice.choose_other(PLACES[frame.theme], [event.place])})
    if event.when:
        changes.append({"when": dice.choose_other(_WHEN, [event.when])})
    if event.adjective:
        for one, other, _ in _DIMENSIONS:
            for words, opposite in ((one, other), (other, one)):
                if event.adjective in words:
                    changes.append({"adjective": dice.choose(opposite)})
                    break
    changes.append({"negative": not event.negative})
    return replace(event, **dice.choose(changes))


# --- documents ------------------------------------------------------------------------------------


def _document(dice: Dice) -> list[str]:
    """The sentences of one document: 3 to 6, on one small situation."""
    roll = dice.choose(range(100))
    if roll < 40:
        return _scene(dice)
    if roll < 54:
        return _retelling(dice)
    if roll < 68:
        return _review(dice)
    if roll < 77:
        return _meeting(dice)
    if roll < 87:
        return _riddle(dice)
    return _lesson(dice)


def _mood(dice: Dice, happy: bool = True) -> str:
    words = "happy glad cheerful proud content" if happy else "sad unhappy tired angry worried"
    return dice.choose(words.split())


def _scene(dice: Dice) -> list[str]:
    """A person at work: an opening, what was done, how it ended."""
    theme = dice.choose(EVERYWHERE)
    first = dice.choose(FRAMES[theme])
    agent = dice.choose(first.agents)
    frames = [frame for frame in FRAMES[theme] if agent in frame.agents]
    called = _synonym(dice, agent) if dice.chance(0.3) else agent
    name = f"the {called}"
    female = _pronouns(agent, dice.chance(0.5))[0] == "she"
    pronoun = "she" if female else "he"
    place = dice.choose(PLACES[theme])
    bare = place.partition(" ")[2]
    weather, *signs = dice.choose(lexicon.WEATHER)
    trait = dice.choose(_dimension(dice, "person")[0])
    person = dice.choose(_WOMEN if female else _MEN)
    opening = dice.choose(
        (
            f"{dice.choose(_WHEN)}, {name} came to {bare}",
            f"it was {a(dice.choose(weather.split()))} day, and {name} was {place}",
            f"{name} was {place}, and {dice.choose(signs)}",
            f"{person} was {a(called)} and worked {place}",
            f"{person}, {a(trait)} {called}, was {place} {dice.choose(_WHEN)}",
            f"there was {a(trait)} {called} {place}",
        )
    )
    sentences = [opening]
    for position in range(dice.choose((1, 2, 2))):
        event = _event_in(dice, first if position == 0 else dice.choose(frames), agent)
        event = replace(event, agent=called)
        if dice.chance(0.3):
            event = replace(event, thing=_synonym(dice, event.thing))
        subject = pronoun if dice.chance(0.4) else name
        happening = dice.choose(_HAPPENINGS)(dice, event, subject)
        if len(sentences) + len(happening) <= 6:
            sentences += happening
    if len(sentences) < 3 or (len(sentences) < 6 and dice.chance(0.5)):
        good = dice.choose(POLARITY[1])
        sentences.append(
            dice.choose(
                (
                    f"{name} went home tired but {_mood(dice)}",
                    f"in the end, {pronoun} was {_mood(dice)} because the work was done",
                    f"it was {a(good)} day for {name}",
                    f"then {pronoun} left {bare} and went home",
                    f"everyone {place} was {_mood(dice)}",
                    f"after that, {pronoun} was not {_mood(dice, False)} any more",
                )
            )
        )
    return [say(sentence) for sentence in sentences]


def _retelling(dice: Dice) -> list[str]:
    """The same told twice in other words, and what was not so: who reads it learns to compare."""
    event = _rich_event(dice)
    again = _reworded(dice, event, lambda _: True, dice.choose((1, 2, 2, 3)))
    other = event
    while other == event or other.negative != event.negative:
        other = _altered(dice, event)
    other = _reworded(dice, other, lambda _: True, dice.choose((0, 1)))
    same = dice.choose(("{}", "in other words, {}", "that is, {}", "yes, {}", "it is true that {}"))
    sentences = [tell(event), same.format(tell(again))]
    sentences.append(
        dice.choose(("it is not true that {}", "nobody said that {}")).format(tell(other))
    )
    detail = event.place or event.when
    if detail and not event.negative and dice.chance(0.5):
        sentences.append(f"all this happened {detail}")
    return [say(sentence) for sentence in sentences]


def _it(event: Event) -> str:
    return event.the_thing if _KIND.get(event.thing) in ("person", "group", None) else "it"


def _done(dice: Dice, event: Event, subject: str) -> list[str]:
    event = _detailed(dice, event, dice.choose((1, 2, 2)))
    first = [tell(event, f"{subject} {past(event.verb)} {event.the_thing}")]
    if dice.chance(0.5):  # the same in other words, so that synonyms share their contexts
        again = _reworded(dice, replace(event, place="", when="", tool=""), lambda _: True, 2)
        again = replace(again, passive=True, front=False)
        first.append(dice.choose(("so {}", "yes, {}", "{}")).format(_core(again)))
    return first


def _with_reason(dice: Dice, event: Event, subject: str) -> list[str]:
    if not event.frame.why:
        return _done(dice, event, subject)
    why = dice.choose(event.frame.why)
    did = f"{subject} {past(event.verb)} {event.the_thing}"
    text = dice.choose(
        (
            f"{did} because {_it(event)} was {why}",
            f"{event.the_thing} was {why}, so {did}",
            f"{subject} saw that {event.the_thing} was {why} and {past(event.verb)} it",
            f"{subject} knew that {event.the_thing} was {why}, so {did}",
        )
        if _it(event) == "it"
        else (
            f"{did} because {event.the_thing} was {why}",
            f"{event.the_thing} was {why}, so {did}",
        )
    )
    return [text, *_outcome(dice, event)]


def _outcome(dice: Dice, event: Event) -> list[str]:
    if not event.frame.after or dice.chance(0.3):
        return []
    after = dice.choose(event.frame.after)
    return [dice.choose((f"soon {_it(event)} was {after}", f"now {event.the_thing} was {after}"))]


def _with_outcome(dice: Dice, event: Event, subject: str) -> list[str]:
    event = _detailed(dice, event, 1)
    did = tell(event, f"{subject} {past(event.verb)} {event.the_thing}")
    return [did, *_outcome(dice, event)]


def _almost(dice: Dice, event: Event, subject: str) -> list[str]:
    """Verbs that say whether the deed was done: forget, remember, want."""
    was = f"{event.the_thing} was"
    done = participle(event.verb)
    return dice.choose(
        (
            [f"{subject} forgot to {event.act}", f"so {was} not {done}"],
            [f"{subject} remembered to {event.act}, so {was} {done}"],
            [f"{subject} wanted to {event.act}, but there was no time"],
            [f"{subject} did not {event.act} {dice.choose(_WHEN)}", f"{was} not {done} at all"],
            [f"{subject} refused to {event.act}, so nobody {past(event.verb)} it"],
            [f"{subject} managed to {event.act}", f"{was} {done} at last"],
            [f"{subject} planned to {event.act}", f"perhaps {was} {done} later"],
            [f"{subject} never {past(event.verb)} {event.the_thing}, so {was} not {done}"],
        )
    )


def _asked(dice: Dice, event: Event, subject: str) -> list[str]:
    """A question and its answer."""
    event = _detailed(dice, event, 2)
    told = tell(replace(event, front=False), f"{subject} {past(event.verb)} {event.the_thing}")
    asked = f"did {event.the_agent} {event.act}?"
    answers = [
        (f"who {past(event.verb)} {event.the_thing}?", f"it was {event.the_agent}"),
        (f"what did {event.the_agent} {event.verb}?", f"it was {event.the_thing}"),
    ]
    if event.place:
        answers.append((f"where {asked}", f"it was {event.place}"))
    if event.when:
        answers.append((f"when {asked}", f"it was {event.when}"))
    if event.tool:
        answers.append((f"how {asked}", f"it was done {event.tool}"))
    return [told, *dice.choose(answers)]


def _counted(dice: Dice, event: Event, subject: str) -> list[str]:
    if event.thing in _MASS or _KIND.get(event.thing) not in ("artefact", "food", "animal"):
        return _done(dice, event, subject)
    first = dice.choose(range(len(_NUMBERS) - 3))
    second = first + 1 + dice.choose((0, 1))
    few, many = _NUMBERS[first], _NUMBERS[second]
    left = "one was" if second - first == 1 else "two were"
    things = plural(event.thing)
    return dice.choose(
        (
            [
                f"there were {many} {things}",
                f"{subject} {past(event.verb)} {few} of them, so {left} left",
            ],
            [
                f"{subject} {past(event.verb)} {many} {things}",
                f"that is more than {few} {things}",
            ],
            [
                f"{subject} {past(event.verb)} all of the {things}",
                f"not one {event.thing} was forgotten",
            ],
            [
                f"{subject} {past(event.verb)} some of the {things}, but not all of them",
            ],
        )
    )


def _described(dice: Dice, event: Event, subject: str) -> list[str]:
    """Adjectives, colours and wider words for the thing."""
    if _KIND.get(event.thing) is None or not _describable(event.thing):
        return _done(dice, event, subject)
    one, other = _dimension(dice, _KIND[event.thing])
    word = dice.choose(one)
    did = f"{subject} {past(event.verb)} the {word} {event.thing}"
    follow = [
        f"the {event.thing} was {dice.choose(one)}, not {dice.choose(other)}",
        f"it was {a(word + ' ' + event.thing)}",
    ]
    if event.thing in _HYPERNYM:
        wider = _HYPERNYM[event.thing].removeprefix("some ")
        follow += [f"the {wider} was {word}"] * 2
    if _KIND[event.thing] == "artefact":
        follow.append(f"the {event.thing} was {dice.choose(_COLOURS)}")
    if _KIND[event.thing] == "person":
        follow = follow[:1]
    return [tell(replace(_detailed(dice, event, 1), front=False), did), dice.choose(follow)]


def _ordered(dice: Dice, event: Event, subject: str) -> list[str]:
    frames = [f for f in FRAMES[event.frame.theme] if set(f.agents) & set(event.frame.agents)]
    other = _event_in(dice, dice.choose(frames))
    if other.thing == event.thing or other.verb == event.verb:
        return _done(dice, event, subject)
    did, then = f"{past(event.verb)} {event.the_thing}", f"{past(other.verb)} {other.the_thing}"
    return dice.choose(
        (
            [f"first {subject} {did}, and then {subject} {then}"],
            [f"before {ing(other.verb)} {other.the_thing}, {subject} {did}"],
            [f"after {ing(event.verb)} {event.the_thing}, {subject} {then}"],
            [f"{subject} {did}", f"after that, {subject} {then}"],
        )
    )


def _together(dice: Dice, event: Event, subject: str) -> list[str]:
    """Quantifiers over people, and another person who helps."""
    agents = plural(event.agent)
    other = dice.choose([n for f in FRAMES[event.frame.theme] for n in f.agents])
    did = f"{past(event.verb)} {event.the_thing}"
    choices = [
        [f"all of the {agents} {did}", f"no {event.agent} was idle"],
        [f"some of the {agents} {did}, but not all of them"],
        [f"most of the {agents} {did}", f"only a few {agents} did not"],
        [f"every {event.agent} {did}, and everyone was {_mood(dice)}"],
        [f"none of the {agents} {did}", f"nobody {did}"],
    ]
    if not _same_word(other, event.agent):
        choices += [
            [f"the {other} helped to {event.act}, so {subject} thanked the {other}"],
            [f"{subject} {did}", f"it was not the {other} who {did}"],
        ]
    return dice.choose(choices)


_HAPPENINGS = (
    _done,
    _done,
    _done,
    _with_reason,
    _with_reason,
    _with_outcome,
    _almost,
    _asked,
    _asked,
    _counted,
    _described,
    _described,
    _ordered,
    _together,
)


def _opinion(dice: Dice, kind: str, words: tuple, label: int, patterns: Sequence[str]) -> str:
    """One sentence of a review; `words` are the polarity words by label."""
    part, parts = (dice.choose(group.split()) for group in lexicon.REVIEWED[kind][:2])
    p, p2 = dice.some(words[label], 2)
    q = dice.choose(words[1 - label])
    return dice.choose(patterns).format(
        kind=kind, part=part, parts=parts, p=p, p2=p2, q=q, ap=a(p), ap2=a(p2), aq=a(q)
    )


def _reaction(dice: Dice, kind: str, label: int, held_out: bool = True) -> str:
    lines = (lexicon.BLAME, lexicon.PRAISE)[label]
    usable = [line for line in lines if held_out or not line.startswith("*")]
    return dice.choose(usable).lstrip("*").format(kind=kind)


def _review(dice: Dice) -> list[str]:
    """Somebody goes to see something and says what it was like; all sentences agree."""
    kind = dice.choose(tuple(lexicon.REVIEWED))
    label = dice.choose((0, 1))
    female = dice.chance(0.5)
    name = dice.choose(_WOMEN if female else _MEN)
    pronoun = "she" if female else "he"
    saw = lexicon.REVIEWED[kind][2]
    good = dice.some(POLARITY[label], 3)
    feeling = _mood(dice, label == 1)
    loved = ("hated disliked regretted", "loved enjoyed praised")[label].split()
    sentences = [
        dice.choose(
            (
                f"{dice.choose(_WHEN)}, {name} {saw} a {kind}",
                f"{name} {saw} a {kind} {dice.choose(_WHEN)}",
                f"{name} and a friend {saw} {a(good[0])} {kind}",
            )
        )
    ]
    middle = (
        lambda: _opinion(dice, kind, POLARITY, label, lexicon.REVIEW_PLAIN),
        lambda: _opinion(dice, kind, POLARITY, label, lexicon.REVIEW_PLAIN),
        lambda: _opinion(dice, kind, POLARITY, label, lexicon.REVIEW_TURNED),
        lambda: _opinion(dice, kind, POLARITY, label, lexicon.REVIEW_CONTRAST),
        lambda: _reaction(dice, kind, label),
        lambda: f"everyone {dice.choose(loved)} the {kind} because it was {good[1]}",
        lambda: f"the {kind} was {good[0]}, {good[1]} and {good[2]}",
        lambda: f"{pronoun} {dice.choose(loved)} the {good[0]} {kind} and was {feeling}",
    )
    sentences += [write_one() for write_one in dice.some(middle, dice.choose((2, 2, 3)))]
    if dice.chance(0.6):
        advice = (
            f"{pronoun} told all friends to avoid such {a(good[2])} {kind}",
            f"{pronoun} told all friends to see such {a(good[2])} {kind}",
        )[label]
        back = (f"{pronoun} left early and never came back", f"{pronoun} wanted to come back soon")
        sentences.append(dice.choose((advice, back[label], f"in the end, {name} was {feeling}")))
    return [say(sentence) for sentence in sentences]


def _two_people(dice: Dice) -> tuple[str, str, str]:
    """Two people of whom one pronoun speaks."""
    female = dice.chance(0.5)
    one, other = dice.some(_WOMEN if female else _MEN, 2)
    return one, other, "she" if female else "he"


def _meeting(dice: Dice) -> list[str]:
    """One person does something to another; later sentences say again who was who."""
    one, other, pronoun = _two_people(dice)
    verb, why, feels = dice.choose(lexicon.SOCIAL)
    theme = dice.choose(EVERYWHERE)
    if dice.chance(0.4):
        people = list(dict.fromkeys(n for f in FRAMES[theme] for n in f.agents))
        if len(people) > 1:
            one, other = (f"the {noun}" for noun in dice.some(people, 2))
            pronoun = ""
    knew = dice.choose(("were good friends", "knew each other well", "lived in the same street"))
    sentences = [f"{one} and {other} {knew}"]
    because = f"{one} {past(verb)} {other} because {pronoun or other} {why}"
    sentences.append(
        because if dice.chance(0.6) else f"{other} {why}, so {one} {past(verb)} {other}"
    )
    sentences += dice.some(
        (
            f"{other} was {participle(verb)} by {one}",
            f"it was {one} who {past(verb)} {other}",
            f"{one} {feels}",
            f"{other} did not {verb} {one}",
            f"it was {other} who {why}",
            f"who {past(verb)} {other}? It was {one}",
        ),
        dice.choose((2, 2, 3)),
    )
    return [say(sentence) for sentence in sentences]


@dataclass(frozen=True)
class _Riddle:
    """A sentence with a pronoun, whom it means, and both readings."""

    sentence: str
    right: str
    wrong: str
    clause: str


_OWNED = ("bicycle", "kite", "guitar", "book", "map", "lamp", "ladder", "violin", "puzzle", "ball")


def _winograd(dice: Dice) -> _Riddle:
    if dice.chance(0.6):
        stem, fits_a, fits_b = dice.choose(lexicon.WINOGRAD_PEOPLE)
        one, other, pronoun = _two_people(dice)
        thing = dice.choose(_OWNED)
        names = {"A": one, "B": other, "she": pronoun, "thing": thing}
        people = (one, other)
    else:
        stem, fits_a, fits_b, things_a, things_b = dice.choose(lexicon.WINOGRAD_THINGS)
        one, other = dice.choose(things_a.split()), dice.choose(things_b.split())
        names = {"A": one, "B": other, "thing": ""}
        people = (f"the {one}", f"the {other}")
    means_a = dice.chance(0.5)
    clause = dice.choose((fits_a if means_a else fits_b).split("|")).format(**names)
    right, wrong = people if means_a else people[::-1]
    return _Riddle(f"{stem.format(**names)} {clause}", right, wrong, clause)


def _riddle(dice: Dice) -> list[str]:
    """A pronoun that needs thought, then the same with its meaning spelt out."""
    riddle = _winograd(dice)
    person = riddle.right[0].isupper()
    who = "who" if person else "which one"
    answers = (
        f"{riddle.right} {riddle.clause}",
        f"it was {riddle.right} that {riddle.clause}",
        f"{who} {riddle.clause}? It was {riddle.right}",
        f"it was not {riddle.wrong} that {riddle.clause}",
    )
    sentences = [riddle.sentence, *dice.some(answers, dice.choose((2, 3)))]
    return [say(sentence) for sentence in sentences]


def _lesson(dice: Dice) -> list[str]:
    """Plain facts: kinds, tools, synonyms, opposites, comparisons."""
    return [say(fact) for fact in dice.some(_facts(dice), dice.choose((3, 4)))]


def _facts(dice: Dice) -> list[str]:
    event = _event(dice, test=lambda f: f.tool and f.things[0] in _HYPERNYM)
    event = _event(dice) if dice.chance(0.5) else event
    frame, verb = event.frame, event.verb
    noun = event.thing if event.thing in _HYPERNYM else dice.choose(tuple(_HYPERNYM))
    wider = _HYPERNYM[noun].removeprefix("some ")
    bare = noun if noun in _MASS else a(noun)
    agents = plural(event.agent)
    place = dice.choose(PLACES[frame.theme])
    using = f" with {a(frame.tool)}" if frame.tool else ""
    facts = [
        f"{bare} is a kind of {wider}",
        f"{a(event.agent)} often {third(verb)} {a(event.thing)}{using}",
        f"{agents} {verb} {a(event.thing)}{using} {place}",
        f"we often see {a(event.agent)} {place}",
        f"anyone who has {a(noun)} has {upper(noun)}",
        f"what does {a(event.agent)} do? {say(f'{a(event.agent)} {third(verb)} {a(event.thing)}')}",
        f"{a(dice.choose(POLARITY[1]))} {event.agent} is never {dice.choose(POLARITY[0])} at work",
    ]
    if len(frame.verbs) > 1:
        one, other = dice.some(frame.verbs, 2)
        facts.append(f"to {one} {a(event.thing)} is to {other} {a(event.thing)}")
    one, other = dice.some(_SYNONYMS[dice.choose(tuple(_SYNONYMS))], 2)
    facts.append(f"another word for {one} is {other}")
    if _describable(event.thing):
        words, opposite = _dimension(dice, _KIND[event.thing])
        two = dice.choose(words), dice.choose(words)
        facts.append(f"{a(two[0] + ' ' + event.thing)} is not {dice.choose(opposite)}")
        if two[0] != two[1]:
            facts.append(f"{a(two[0] + ' ' + event.thing)} is also {two[1]}")
    label = dice.choose((0, 1))
    good, other = dice.some(POLARITY[label], 2)
    kind = dice.choose(tuple(lexicon.REVIEWED))
    facts.append(f"{a(good)} {kind} is {a(other)} one, and not {dice.choose(POLARITY[1 - label])}")
    more, less, (x, y) = _comparison(dice, EVERYWHERE)
    facts.append(f"if the {x} is {more} than the {y}, the {y} is {less} than the {x}")
    return facts


def _comparison(dice: Dice, themes: Sequence[str]) -> tuple[str, str, list[str]]:
    """A comparative, its opposite, and two nouns of one theme that can be compared so."""
    while True:
        more, less, kinds = dice.choose(lexicon.COMPARATIVES)
        theme = dice.choose(themes)
        nouns = [n for f in FRAMES[theme] for n in f.things + f.agents if _KIND[n] in kinds.split()]
        # Both of one kind: nobody compares a dog with a spoon.
        kind = dice.choose(kinds.split())
        nouns = [n for n in dict.fromkeys(nouns) if _KIND[n] == kind]
        if len(nouns) > 1:
            pair = (more, less) if dice.chance(0.5) else (less, more)
            return *pair, dice.some(nouns, 2)


# --- single sentences: CoLA and SST-2 -------------------------------------------------------------

_AGENTS = tuple(dict.fromkeys(n for fs in FRAMES.values() for f in fs for n in f.agents))
_VERBS = tuple(
    dict.fromkeys(
        [v for fs in FRAMES.values() for f in fs for v in f.verbs]
        + [verb for verb, _, _ in lexicon.SOCIAL]
    )
)
_NOUNS = tuple(
    dict.fromkeys(
        [*_KIND, *_SYNONYMS, *lexicon.TOOLS.split()]
        + [word.removeprefix("some ") for word in lexicon.HYPERNYMS]
        + [word.lstrip("@") for words, _ in lexicon.THEMES.values() for word in words.split()]
        + [f.tool for fs in FRAMES.values() for f in fs if f.tool]
    )
)
_SINGULAR = {
    plural(noun): noun
    for noun in _NOUNS
    if plural(noun) != noun and noun not in _MASS and f"some {noun}" not in lexicon.HYPERNYMS
}
_BASE_OF_PAST = {past(verb): verb for verb in _VERBS if past(verb) != verb}
_BASE_OF_PARTICIPLE = {participle(verb): verb for verb in _VERBS if participle(verb) != verb}
_BASE_OF_THIRD = {third(verb): verb for verb in _VERBS}
# "Mother cooked supper" and "Doctor, help!" are English: these may stand without an article.
_LIKE_NAMES = (
    *("mother", "father", "grandmother", "grandfather", "baby"),
    *("captain", "doctor", "nurse", "coach", "guard"),
)
_EITHER_NUMBER = (*lexicon.KINDS["group"].split(), *(n for n in _NOUNS if plural(n) == n))
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
        if helper in ("did", "to") and word in _VERBS:
            put("verb form", i, 1, past(word) if past(word) != word else ing(word))
        done = _BASE_OF_PARTICIPLE.get(word)
        if before in ("was", "were") and done and done not in _ALSO_ADJECTIVE:
            put("verb form", i, 1, done)
        if word == "was" and before in _KIND and after in _ADJECTIVES:
            put("missing verb", i, 1)
        if word in ("the", "a", "an") and after in _KIND:
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
        if after == "than" and word in _COMPARATIVE_WORDS:
            put("comparison", i, 1, "more", word)
        if before in _NUMBERS and word in _SINGULAR:
            put("number", i, 1, _SINGULAR[word])
    return broken


_ADJECTIVES = tuple(
    dict.fromkeys(
        [word for one, other, _ in _DIMENSIONS for word in one + other]
        + [word for words in POLARITY for word in words]
        + [word for fs in FRAMES.values() for f in fs for word in f.why + f.after]
    )
)
_COMPARATIVE_WORDS = tuple(word for line in lexicon.COMPARATIVES for word in line[:2])
_NAMES = (*_WOMEN, *_MEN, *lexicon.DAYS.split(), "I")


def _cola(dice: Dice, label: int, split: str) -> Example:
    while True:
        sentence = dice.choose(_document(dice))
        words = re.findall(r"[A-Za-z]+|[.,?!]", sentence)
        # Two sentences in one ("Who did it? It was Tom.") and very short ones are left out.
        if not 6 <= len(words) <= 18 or sum(word in ".?!" for word in words) > 1:
            continue
        if label == 1:
            return Example((sentence,), label, "well-formed")
        if words[0] not in _NAMES:
            words[0] = words[0].lower()
        broken = _corruptions(words)
        if broken:
            rule = dice.choose(tuple(broken))  # first the rule: doubled words are easy and many
            text = re.sub(r" ([.,?!])", r"\1", " ".join(dice.choose(broken[rule])))
            return Example((say(text),), label, rule)


def _sst2(dice: Dice, label: int, split: str) -> Example:
    kind = dice.choose(tuple(lexicon.REVIEWED))
    words = tuple(
        tuple(word for word in group if split != "train" or word not in HELD_OUT_POLARITY)
        for group in POLARITY
    )
    roll = dice.choose(range(100))
    if roll < 15:
        text = _reaction(dice, kind, label, held_out=split != "train")
        return Example((say(text),), label, "no polar word")
    phenomenon, patterns = "contrast", lexicon.REVIEW_CONTRAST
    if roll < 60:
        phenomenon, patterns = "plain polarity", lexicon.REVIEW_PLAIN
    elif roll < 78:
        phenomenon, patterns = "negated polarity", lexicon.REVIEW_TURNED
    return Example((say(_opinion(dice, kind, words, label, patterns)),), label, phenomenon)


# --- pairs of equal meaning: MRPC, QQP, STS-B -----------------------------------------------------


def _allowed(split: str) -> Callable[[tuple], bool]:
    """Which groups of synonyms a split may use as a paraphrase."""
    if split != "train":
        return lambda group: True
    return lambda group: group not in HELD_OUT_NOUNS and group not in HELD_OUT_VERBS


def _rich_event(dice: Dice, themes: Sequence[str] = EVERYWHERE) -> Event:
    """An event with one or two details and, often, an adjective."""
    event = _detailed(dice, _event(dice, themes), dice.choose((1, 2)))
    if _describable(event.thing) and dice.chance(0.4):
        event = replace(event, adjective=dice.choose(_dimension(dice, _KIND[event.thing])[0]))
    return replace(event, passive=dice.chance(0.3), negative=dice.chance(0.15))


def _difference(event: Event, other: Event) -> str:
    """The part in which two events differ, or "same meaning"."""
    for part, name in _PARTS.items():
        if getattr(event, part) != getattr(other, part):
            return "negation" if part == "negative" else f"another {name}"
    return "same meaning"


_PARTS = {
    "negative": "negation",
    "adjective": "adjective",
    "agent": "agent",
    "verb": "verb",
    "thing": "thing",
    "place": "place",
    "when": "time",
}


def _mrpc(dice: Dice, label: int, split: str) -> Example:
    if dice.chance(0.1):
        return Example(_roles(dice, label), label, "who did it to whom")
    event = _rich_event(dice)
    other = event if label == 1 else _altered(dice, event)
    phenomenon = _difference(event, other)
    # A false pair may be reworded too, or not at all: overlap alone gives little away.
    other = _reworded(dice, other, _allowed(split), dice.choose((1, 2) if label else (0, 1, 2)))
    return Example((say(tell(event)), say(tell(other))), label, phenomenon)


def _roles(dice: Dice, label: int) -> tuple[str, str]:
    """Who did it to whom: the same words, with the roles kept or exchanged."""
    one, other = _two_agents(dice, EVERYWHERE)
    verb, when = dice.choose(lexicon.SOCIAL)[0], dice.choose(_WHEN)

    def told(doer: str, done_to: str, passive: bool) -> str:
        if passive:
            return f"the {done_to} was {participle(verb)} by the {doer}"
        return f"the {doer} {past(verb)} the {done_to}"

    first_passive, second_passive = dice.chance(0.5), dice.chance(0.5)
    if label == 1:
        second_passive = not first_passive if dice.chance(0.7) else first_passive
    first = f"{told(one, other, first_passive)} {when}"
    pair = (one, other) if label == 1 else (other, one)
    second = told(*pair, second_passive)
    # Equal sentences would be no paraphrase: then the order of the parts must differ.
    front = (label == 1 and first_passive == second_passive) or dice.chance(0.4)
    return say(first), say(f"{when}, {second}" if front else f"{second} {when}")


def _two_agents(dice: Dice, themes: Sequence[str]) -> list[str]:
    while True:
        theme = dice.choose(themes)
        people = list(dict.fromkeys(n for f in FRAMES[theme] for n in f.agents))
        if len(people) > 1:
            return dice.some(people, 2)


def _qqp(dice: Dice, label: int, split: str) -> Example:
    allowed = _allowed(split)
    event = _event(dice)
    meaning = dice.choose(range(len(lexicon.QUESTIONS)))
    place = dice.choose(PLACES[event.frame.theme]) if dice.chance(0.4) else ""

    def ask(event: Event, meaning: int, form: str) -> str:
        act = f"{event.verb} {a((event.adjective + ' ' + event.thing).strip())} {place}".strip()
        return form.format(act=act)

    if _describable(event.thing) and dice.chance(0.3):
        event = replace(event, adjective=dice.choose(_dimension(dice, _KIND[event.thing])[0]))
    form = dice.choose(lexicon.QUESTIONS[meaning])
    first = ask(event, meaning, form)
    other, other_meaning = event, meaning
    if label == 0:
        if dice.chance(0.6):
            other_meaning = dice.choose_other(range(len(lexicon.QUESTIONS)), [meaning])
        else:
            while (other.verb, other.thing, other.adjective) == (
                event.verb,
                event.thing,
                event.adjective,
            ):
                other = _altered(dice, event)
    phenomenon = _difference(event, other) if other_meaning == meaning else "another question"
    second = first
    while second == first:
        again = _reworded(dice, other, allowed, dice.choose((0, 1, 2)))
        forms = lexicon.QUESTIONS[other_meaning]
        second = ask(
            again, other_meaning, form if dice.chance(0.3) and form in forms else dice.choose(forms)
        )
    return Example((first, second), label, phenomenon)


# What each part of an event weighs in STS-B; the sum is the scale's 5.
_WEIGHTS = {"agent": 1.25, "verb": 1.25, "thing": 1.25, "place": 0.75, "when": 0.5}


def _likeness(name: str, one: Event, other: Event) -> float:
    """0 to 1: how far one part of two events agrees."""
    x, y = getattr(one, name), getattr(other, name)
    if name == "verb":
        if y in one.frame.verbs:
            return 1.0
    elif _same_word(x, y):
        return 1.0
    if name == "thing" and x in _HYPERNYM and _HYPERNYM[x] == _HYPERNYM.get(y):
        return 0.6
    return 0.3 if one.frame.theme == other.frame.theme and name != "when" else 0.0


def _stsb(dice: Dice, level: int, split: str) -> Example:
    """The label is the score; `level` 0 (nothing agrees) to 5 (nothing differs)."""
    event = _event(dice)
    event = replace(event, place=_detail(dice, event, "place"), when=_detail(dice, event, "when"))
    event = replace(event, front=dice.chance(0.3), passive=dice.chance(0.2))
    theme = event.frame.theme
    if level == 0:
        other = _event(dice, [t for t in EVERYWHERE if t != theme])
        other = replace(
            other, place=_detail(dice, other, "place"), when=_detail(dice, event, "when")
        )
    else:
        other = event
        for _ in range(5 - level):
            other = _one_part_else(dice, event, other)
    other = _reworded(dice, other, lambda group: True, dice.choose((1, 2)))
    score = sum(weight * _likeness(name, event, other) for name, weight in _WEIGHTS.items())
    apart = sum(_likeness(name, event, other) < 1 for name in _WEIGHTS)
    phenomenon = f"{apart} of {len(_WEIGHTS)} parts differ"
    if dice.chance(0.08):  # the same told as not having happened is less alike
        other = replace(other, negative=True)
        score, phenomenon = max(0.0, score - 1.5), "negation"
    return Example((say(tell(event)), say(tell(other))), round(score, 2), phenomenon)


def _one_part_else(dice: Dice, event: Event, other: Event) -> Event:
    """`other` with one more part that is not as in `event`."""
    theme = FRAMES[event.frame.theme]
    changes = []
    if other.place == event.place:
        changes.append({"place": dice.choose_other(PLACES[event.frame.theme], [event.place])})
    if other.when == event.when:
        changes.append({"when": dice.choose_other(_WHEN, [event.when])})
    things = [t for t in other.frame.things if not _same_word(t, event.thing)]
    if other.thing == event.thing and things:
        changes.append({"thing": dice.choose(things)})
    if other.agent == event.agent:
        agents = [n for f in theme for n in f.agents if n not in (event.agent, other.thing)]
        if agents:
            changes.append({"agent": dice.choose(agents)})
    if other.frame == event.frame:
        frames = [f for f in theme if not set(f.verbs) & set(event.frame.verbs)]
        frame = dice.choose(frames)
        changes.append(
            {"frame": frame, "verb": dice.choose(frame.verbs), "thing": dice.choose(frame.things)}
        )
    return replace(other, **dice.choose(changes)) if changes else other


# --- inference: MNLI, RTE, QNLI -------------------------------------------------------------------
#
# Each family draws the hypothesis first, negated or not, and only then a premise for the label: so
# the hypothesis alone says nothing, and "not" stands in all classes alike.

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


def _setting(dice: Dice, theme: str) -> str:
    """A circumstance before a premise, told apart from it: "not" must not reach what it says.

    ("The cook did not slice the bread on Monday" leaves Tuesday open.)
    """
    return dice.choose(
        (
            "",
            f"it was {dice.choose(_DAYS)[3:]}, and ",
            f"everyone was {dice.choose(PLACES[theme])}, and ",
            f"{dice.choose(dice.choose(lexicon.WEATHER)[1:])}, and ",
        )
    )


def _flip(label: int, negated: bool) -> int:
    """The label that the same premise has for the hypothesis without its "not"."""
    return 2 - label if negated else label


def _nli_property(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = _event(dice, themes, lambda f: any(_describable(t) for t in f.things))
    while not _describable(event.thing):
        event = _event_in(dice, event.frame)
    of_agent = dice.chance(0.3)
    noun, kind = (event.agent, "person") if of_agent else (event.thing, _KIND[event.thing])
    one, other = _dimension(dice, kind)
    negated = dice.chance(0.5)
    hypothesis = f"the {noun} was {'not ' if negated else ''}{dice.choose(one)}"
    side = {
        ENTAILMENT: one,
        CONTRADICTION: other,
        NEUTRAL: _dimension(dice, kind, (one, other))[0],
    }[_flip(label, negated)]
    word = {"trait" if of_agent else "adjective": dice.choose(side)}
    premise = replace(_detailed(dice, event, dice.choose((1, 2))), **word)
    return tell(replace(premise, passive=dice.chance(0.3))), hypothesis


def _nli_deed(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = _event(dice, themes)
    negated = dice.chance(0.5)
    told = replace(event, negative=negated, passive=dice.chance(0.3))
    if dice.chance(0.5):
        told = replace(told, verb=dice.choose(event.frame.verbs))
    who, act = event.the_agent, event.act
    done = (
        f"{who} managed to {act}",
        f"{who} remembered to {act}",
        f"{who} did not forget to {act}",
        f"{who} {past(event.verb)} {event.the_thing}",
    )
    not_done = (
        f"{who} forgot to {act}",
        f"{who} refused to {act}",
        f"{who} never {past(event.verb)} {event.the_thing}",
        f"{who} did not manage to {act}",
    )
    open_ = (
        f"{who} wanted to {act}",
        f"{who} hoped to {act}",
        f"{who} did not want to {act}",
        f"{who} did not plan to {act}",
    )
    hypothesis = _core(told)
    answers = (done, open_, not_done)
    if dice.chance(0.5):  # or "wanted" would by itself mean neutral
        hypothesis = f"{who} {'did not wish' if negated else 'wished'} to {act}"
        wanted = (f"{who} wanted to {act}", f"{who} hoped to {act}")
        not_wanted = (f"{who} did not want to {act}", f"{who} refused to {act}")
        answers = (wanted, (done[3], not_done[2]), not_wanted)
    core = dice.choose(answers[_flip(label, negated)])
    return _setting(dice, event.frame.theme) + core, hypothesis


def _countable(frame: Frame) -> bool:
    return any(t not in _MASS and _KIND[t] != "other" for t in frame.things)


def _nli_number(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = _event(dice, themes, _countable)
    while event.thing in _MASS or _KIND[event.thing] == "other":
        event = _event_in(dice, event.frame)
    middle = dice.choose(range(2, len(_NUMBERS) - 2))
    number, less, more = _NUMBERS[middle], _NUMBERS[: middle - 1], _NUMBERS[middle + 1 :]
    # Who played nine did play eight: only "more than eight" is denied.
    negated = dice.chance(0.4)
    at_least = negated or dice.chance(0.4)
    want = _flip(label, negated)
    unknown = dice.choose(("some", "the", "all the", "some of the"))
    said = {
        ENTAILMENT: dice.choose(more) if at_least else number,
        NEUTRAL: unknown,
        CONTRADICTION: dice.choose(less if at_least else less + more),
    }[want]
    count = f"more than {number}" if at_least else number
    # "More than four boxes were not washed" would speak of other boxes: no passive when denied.
    passive = not negated and dice.chance(0.3)
    hypothesis = _core(replace(event, count=count, negative=negated, passive=passive))
    premise = replace(event, count=said, passive=dice.chance(0.3))
    return tell(_detailed(dice, premise, dice.choose((1, 2)))), hypothesis


def _nli_kind(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = _event(dice, themes, lambda f: any(t in _HYPERNYM for t in f.things))
    while event.thing not in _HYPERNYM:
        event = _event_in(dice, event.frame)
    who, verb = event.the_agent, event.verb
    wide = upper(event.thing)
    any_ = "any " + _HYPERNYM[event.thing].removeprefix("some ")
    negated = dice.chance(0.5)
    narrow = dice.chance(0.5)
    noun = a(event.thing) if narrow else wide
    did, not_did = f"{who} {past(verb)}", f"{who} did not {verb}"
    hypothesis = f"{not_did} {noun if narrow else any_}" if negated else f"{did} {noun}"
    nothing = (f"{not_did} {any_}", f"{who} never {past(verb)} {any_}")
    narrow_did = f"{did} {a(event.thing)}"
    narrow_not = f"{not_did} {a(event.thing)}"
    if narrow:
        yes, maybe, no = (narrow_did,), (f"{did} {wide}", f"{did} something"), nothing
    else:
        yes, maybe, no = (narrow_did,), (narrow_not, f"{did} something"), nothing
    core = dice.choose((yes, maybe, no)[_flip(label, negated)])
    return _setting(dice, event.frame.theme) + core, hypothesis


# What "X of the cooks did it" says about "Y of the cooks did it".
_QUANTIFIED = {
    "all of the": (("all of the", "each of the"), ("some of the", "most of the"), ("none of the",)),
    "some of the": (("all of the", "most of the"), ("not all of the",), ("none of the",)),
    "none of the": (("none of the",), ("not all of the",), ("all of the", "some of the")),
    "not all of the": (("none of the",), ("some of the",), ("all of the", "each of the")),
}


def _nli_quantity(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = _event(dice, themes)
    of = dice.choose(tuple(_QUANTIFIED))
    said = dice.choose(_QUANTIFIED[of][label])
    agents = plural(event.agent)
    other_verb = dice.choose(event.frame.verbs)
    premise = f"{said} {agents} {past(event.verb)} {event.the_thing}"
    premise = _setting(dice, event.frame.theme) + premise
    return premise, f"{of} {agents} {past(other_verb)} {event.the_thing}"


def _nli_detail(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    """Where, when and with what: the same, another, or not said."""
    event = _event(dice, themes)
    names = ("tool", "place", "when") if event.frame.tool else ("place", "when")
    name = dice.choose(names)
    negated = dice.chance(0.5)
    detail = _detail(dice, event, name)
    want = _flip(label, negated)
    did = "did not {} {}" if negated else "{} {}"
    verb = event.verb if negated else past(event.verb)
    hypothesis = f"{event.the_agent} {did.format(verb, event.the_thing)} {detail}"
    if name == "place":
        hypothesis = f"{event.the_agent} was {'not ' if negated else ''}{detail}"
        other = dice.choose_other(PLACES[event.frame.theme], [detail])
    elif name == "when":
        # Days exclude days, and times of day exclude times of day.
        same = _DAYS if detail in _DAYS else lexicon.MOMENTS
        other = dice.choose_other(same, [detail])
    else:
        hypothesis = (
            f"{event.the_agent} {'did not use' if negated else 'used'} {a(event.frame.tool)}"
        )
        other = f"without {a(event.frame.tool)}"
    said = {ENTAILMENT: detail, NEUTRAL: "", CONTRADICTION: other}[want]
    # Where it is not said, another detail keeps the length.
    event = _detailed(dice, event, dice.choose((0, 1)) if said else dice.choose((1, 2)), (name,))
    event = replace(event, **{name: said})
    return tell(replace(event, passive=dice.chance(0.3))), hypothesis


def _nli_order(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    while True:
        event = _event(dice, themes)
        frames = [f for f in FRAMES[event.frame.theme] if event.agent in f.agents]
        other = _event_in(dice, dice.choose(frames), event.agent)
        if other.thing != event.thing and other.verb not in event.frame.verbs:
            break
    who = event.the_agent

    def did(e: Event) -> str:
        return f"{past(e.verb)} {e.the_thing}"

    def doing(e: Event) -> str:
        return f"{ing(e.verb)} {e.the_thing}"

    if dice.chance(0.5):
        hypothesis = f"{who} {did(event)} before {doing(other)}"
    else:
        hypothesis = f"{who} {did(other)} after {doing(event)}"
    one, two = (event, other) if label == ENTAILMENT else (other, event)
    if label == NEUTRAL:
        one, two = dice.shuffled((event, other))
        premise = dice.choose(
            (
                f"{who} {did(one)} and {did(two)} on the same day",
                f"{who} {did(one)} and also {did(two)}",
            )
        )
    else:
        premise = dice.choose(
            (
                f"first {who} {did(one)}, and then {who} {did(two)}",
                f"{who} {did(one)} and later {did(two)}",
                f"before {doing(two)}, {who} {did(one)}",
                f"after {doing(one)}, {who} {did(two)}",
            )
        )
    return premise, hypothesis


def _nli_comparison(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    more, less, (x, y) = _comparison(dice, themes)
    kind = _KIND[x]
    negated = dice.chance(0.5)
    hypothesis = f"the {x} was {'not ' if negated else ''}{more} than the {y}"
    want = _flip(label, negated)
    if want == NEUTRAL:
        pairs = [line[:2] for line in lexicon.COMPARATIVES if kind in line[2].split()]
        more, less = dice.shuffled(dice.choose([p for p in pairs if more not in p]))
    if want == CONTRADICTION:
        more, less = less, more
    premise = f"the {x} was {more} than the {y}"
    if dice.chance(0.6):
        premise = f"the {y} was {less} than the {x}"
    theme = next(t for t in themes if any(x in f.things + f.agents for f in FRAMES[t]))
    return _setting(dice, theme) + premise, hypothesis


def _nli_roles(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    one, other = _two_agents(dice, themes)
    verb = dice.choose(lexicon.SOCIAL)[0]
    negated = dice.chance(0.5)
    did = f"did not {verb}" if negated else past(verb)
    hypothesis = f"the {one} {did} the {other}"
    yes = (
        f"the {one} {past(verb)} the {other}",
        f"the {other} was {participle(verb)} by the {one}",
    )
    no = (
        f"the {one} never {past(verb)} the {other}",
        f"the {other} was not {participle(verb)} by the {one}",
        f"the {one} refused to {verb} the {other}",
    )
    maybe = (
        f"the {other} {past(verb)} the {one}",
        f"the {one} was {participle(verb)} by the {other}",
        f"the {other} did not {verb} the {one}",
        f"the {one} was not {participle(verb)} by the {other}",
    )
    premise = dice.choose((yes, maybe, no)[_flip(label, negated)])
    theme = next(t for t in themes if any(one in f.agents for f in FRAMES[t]))
    return _setting(dice, theme) + premise, hypothesis


def _nli_belief(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    """To know is to be right; to think may be to err."""
    event = _event(dice, themes, lambda f: any(_describable(t) for t in f.things))
    while not _describable(event.thing):
        event = _event_in(dice, event.frame)
    one, other = _dimension(dice, _KIND[event.thing])
    negated = dice.chance(0.5)
    hypothesis = f"the {event.thing} was {'not ' if negated else ''}{dice.choose(one)}"
    want = _flip(label, negated)
    is_so, opposite = f"the {event.thing} was {dice.choose(one)}", f"the {event.thing} was "
    opposite += dice.choose(other)
    who = event.the_agent
    if dice.chance(0.4):  # or "thought" would by itself mean neutral
        hypothesis = f"{who} {'did not think' if negated else 'thought'} that {is_so}"
        same, other_way = (f"the {event.thing} was {dice.choose(words)}" for words in (one, other))
        premise = {
            ENTAILMENT: f"{who} {dice.choose(('knew', 'believed', 'saw'))} that {same}",
            NEUTRAL: dice.choose((same, other_way, f"{who} asked whether {same}")),
            CONTRADICTION: f"{who} {dice.choose(('knew', 'believed', 'saw'))} that {other_way}",
        }[want]
    elif want == NEUTRAL:
        claim = dice.choose((is_so, opposite))
        premise = f"{who} {dice.choose(('asked whether', 'thought that', 'hoped that'))} {claim}"
    else:
        right, wrong = (is_so, opposite) if want == ENTAILMENT else (opposite, is_so)
        premise = dice.choose(
            (
                f"{who} knew that {right}",
                f"{who} saw that {right}",
                f"{who} was wrong to think that {wrong}",
            )
        )
    return _setting(dice, event.frame.theme) + premise, hypothesis


_NLI = {
    "adjective": _nli_property,
    "negated deed": _nli_deed,
    "number": _nli_number,
    "hypernym": _nli_kind,
    "quantifier": _nli_quantity,
    "detail": _nli_detail,
    "order in time": _nli_order,
    "comparative": _nli_comparison,
    "who did it to whom": _nli_roles,
    "belief": _nli_belief,
}


# RTE keeps to half of the families; numbers, time, comparison and belief are left to MNLI.
_RTE_FAMILIES = ("adjective", "hypernym", "detail", "negated deed", "quantifier")


def _inference(
    dice: Dice, label: int, themes: Sequence[str], families: Sequence[str]
) -> tuple[str, str, str]:
    """Premise, hypothesis, and the family that they are of."""
    while True:
        family = dice.choose(families)
        premise, hypothesis = _NLI[family](dice, label, themes)
        if premise != hypothesis:
            return premise, hypothesis, family


# Every family must find its material inside one theme.
_RTE_THEMES = tuple(
    theme
    for theme, frames in FRAMES.items()
    if any(t in _HYPERNYM for f in frames for t in f.things)
)


def _mnli(dice: Dice, label: int, split: str) -> Example:
    themes = MISMATCHED if split.endswith("mismatched") else MATCHED
    premise, hypothesis, family = _inference(dice, label, themes, tuple(_NLI))
    return Example((say(premise), say(hypothesis)), label, family)


def _rte(dice: Dice, label: int, split: str) -> Example:
    """Two classes and a longer premise: one of its sentences decides."""
    theme = dice.choose(_RTE_THEMES)
    three = ENTAILMENT if label == 0 else dice.choose((NEUTRAL, CONTRADICTION))
    premise, hypothesis, family = _inference(dice, three, (theme,), _RTE_FAMILIES)
    # One weather is enough: a premise may have its own.
    openings = [f"many people were {dice.choose(PLACES[theme])}"]
    if not any(sign in premise for _, *signs in lexicon.WEATHER for sign in signs):
        weather, *signs = dice.choose(lexicon.WEATHER)
        openings += [f"it was {a(dice.choose(weather.split()))} day", dice.choose(signs)]
    opening = dice.choose(openings)
    sentences = [say(opening), say(premise)]
    premise = " ".join(sentences if dice.chance(0.6) else sentences[::-1])
    return Example((premise, say(hypothesis)), label, family)


def _qnli(dice: Dice, label: int, split: str) -> Example:
    """Does the sentence answer the question?  Label 0 if it does."""
    event = _event(dice, test=lambda f: f.tool)
    parts = {name: _detail(dice, event, name) for name in ("tool", "place", "when")}
    asked = dice.choose(("who", "what", "how", "where", "when", "why"))
    part = {"how": "tool", "where": "place", "when": "when"}.get(asked, "")
    tail = f"did {event.the_agent} {event.act}?"
    question = f"{asked} {tail}"
    if asked == "who":
        question = f"who {past(event.verb)} {event.the_thing}?"
    elif asked == "what":
        question = f"what did {event.the_agent} {event.verb}?"
    yes = label == 0
    told, phenomenon = event, f"{asked}: answered" if yes else f"{asked}: not said"
    # Some of the wrong sentences are about something else and would answer another question.
    if not yes and dice.chance(0.25):
        told, phenomenon = _near(dice, event, asked), f"{asked}: of another event"
        yes = True
    why = dice.choose(
        ("there was time", "it was needed", "everyone wished it", "it was a good day")
    )
    and_ = dice.choose(("it took an hour", "nobody saw it", "the day was long", "it was not easy"))
    shown = [name for name in parts if name != part]
    if yes and part:
        shown = [part, *dice.some(shown, dice.choose((0, 1)))]
    else:
        shown = dice.some(shown, dice.choose((1, 2)))
    told = replace(told, **{name: parts[name] for name in shown}, front=dice.chance(0.3))
    if told.frame != event.frame and told.tool:
        told = replace(told, tool=f"with {a(told.frame.tool)}" if told.frame.tool else "")
    told = replace(told, verb=dice.choose(told.frame.verbs) if dice.chance(0.3) else told.verb)
    core = _core(replace(told, passive=dice.chance(0.4)))
    if asked == "who" and not yes:
        core = f"{told.the_thing} was {participle(told.verb)}"
        core += dice.choose((" by somebody", " very slowly", " twice", ""))
    if asked == "what" and not yes:
        core = f"{told.the_agent} {past(told.verb)} {dice.choose(('something', 'many things'))}"
    sentence = tell(told, core)
    if asked == "why":
        sentence += f" because {why}" if yes else f", and {and_}"
    elif dice.chance(0.3):
        sentence += dice.choose((f" because {why}", f", and {and_}"))
    return Example((say(question), say(sentence)), label, phenomenon)


def _near(dice: Dice, event: Event, asked: str) -> Event:
    """An event of the same theme that does not answer a question about `event`."""
    theme = FRAMES[event.frame.theme]
    things = [t for t in event.frame.things if not _same_word(t, event.thing)]
    agents = [n for f in theme for n in f.agents if n not in (event.agent, event.thing)]
    choices = []
    if things and asked != "what":
        choices.append({"thing": dice.choose(things)})
    if agents and asked != "who":
        choices.append({"agent": dice.choose(agents)})
    others = [f for f in theme if not set(f.verbs) & set(event.frame.verbs)]
    frame = dice.choose(others)
    choices.append(
        {"frame": frame, "verb": dice.choose(frame.verbs), "thing": dice.choose(frame.things)}
    )
    return replace(event, **dice.choose(choices))


def _wnli(dice: Dice, label: int, split: str) -> Example:
    riddle = _winograd(dice)
    meant = riddle.right if label == 1 else riddle.wrong
    phenomenon = "whom it means" if meant[0].isupper() else "what it means"
    return Example((say(riddle.sentence), say(f"{meant} {riddle.clause}")), label, phenomenon)


_WRITERS = {
    "cola": _cola,
    "sst2": _sst2,
    "mrpc": _mrpc,
    "qqp": _qqp,
    "stsb": _stsb,
    "mnli": _mnli,
    "qnli": _qnli,
    "rte": _rte,
    "wnli": _wnli,
}
_LABELS = {"stsb": 6, "mnli": 3}  # kinds of examples to balance; else 2


# --- writing --------------------------------------------------------------------------------------


def _examples(task: str, seed: int, sizes: Mapping[str, int]) -> dict[str, list[Example]]:
    """Examples by split; no texts stand in two splits or twice in one.

    The evaluation sets are drawn first, so that they do not depend on the size of the train set.
    """
    seen: set[tuple] = set()  # asked, never iterated
    read = _pretraining_sentences(seed)
    rows = {}
    for split in reversed(splits(task)):
        dice = Dice(seed, task, split)
        kinds = _LABELS.get(task, 2)
        rows[split] = []
        for label in dice.shuffled(position % kinds for position in range(sizes[split])):
            for _ in range(200):
                example = _WRITERS[task](dice, label, split)
                known = split != "train" and any(text in read for text in example.texts)
                if example.texts not in seen and not known:
                    break
            else:
                raise ValueError(
                    f"the tiny world has no {sizes[split]} different examples of {task}/{split}; "
                    f"ask for fewer in examples={{{task!r}: ...}}"
                )
            seen.add(example.texts)
            rows[split].append(example)
    return {split: rows[split] for split in splits(task)}


@lru_cache(maxsize=4)
def _pretraining_sentences(seed: int) -> frozenset[str]:
    """What teacher and student read: the evaluation sets must be new to both.

    Else "seen before" would mean "well-formed" to CoLA and "true" to WNLI.
    """
    texts = _texts(TEACHER_SEED, TEACHER_DOCUMENTS)["train"] + _texts(seed, DOCUMENTS)["train"]
    return frozenset(sentence for text in texts for sentence in _SENTENCE_END.split(text))


_SENTENCE_END = re.compile(r"(?<=[.?!]) ")


def _texts(seed: int, documents: int) -> dict[str, list[str]]:
    """Documents by split, all different."""
    seen: set[str] = set()
    texts = {}
    for split, count in (("validation", max(200, documents // 50)), ("train", documents)):
        dice = Dice(seed, "text", split)
        texts[split] = []
        while len(texts[split]) < count:
            text = " ".join(_document(dice))
            if text not in seen:
                seen.add(text)
                texts[split].append(text)
    return texts


def vocabulary() -> list[str]:
    """Every word form of the world in lower case, sorted; it depends on the lexicon alone."""
    words = [*_NOUNS, *_SINGULAR, *_ADJECTIVES, *_COMPARATIVE_WORDS]
    for verb in _VERBS:
        words += [verb, third(verb), past(verb), participle(verb), ing(verb)]
    lines = [*lexicon.PRAISE, *lexicon.BLAME, *lexicon.REVIEW_PLAIN, *lexicon.REVIEW_TURNED]
    lines += [*lexicon.REVIEW_CONTRAST, *_WHEN, *_COLOURS, *_NUMBERS, *_NAMES]
    lines += [part for parts in lexicon.REVIEWED.values() for part in parts]
    lines += [*lexicon.REVIEWED, *(form for forms in lexicon.QUESTIONS for form in forms)]
    for table in (lexicon.WEATHER, lexicon.SOCIAL):
        lines += [line for row in table for line in row]
    for table in (lexicon.WINOGRAD_PEOPLE, lexicon.WINOGRAD_THINGS):
        lines += [line for row in table for line in row]
    lines.append(lexicon.FUNCTION_WORDS)
    for line in lines:
        words += re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", line).lower())
    return sorted({word.lower() for word in words})


def _settings(seed: int, documents: int, examples: Mapping[str, int] | None) -> dict:
    """The world's settings, checked, as `world.json` holds them."""
    if documents < 1:
        raise ValueError(f"documents must be 1 or more, not {documents}")
    wanted = dict(examples or {})
    for task, count in wanted.items():
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r} in examples; known: {', '.join(TASKS)}")
        if count < 1:
            raise ValueError(f"examples[{task!r}] must be 1 or more, not {count}")
    sizes = {task: int(wanted.get(task, DEFAULT_EXAMPLES[task])) for task in TASKS}
    return {"version": VERSION, "seed": seed, "documents": documents, "examples": sizes}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(folder: Path, settings: dict) -> bool:
    """Whether the folder holds the world of these settings, every file as it was written."""
    try:
        world = json.loads((folder / "world.json").read_text(encoding="utf-8"))
        return all(world[name] == value for name, value in settings.items()) and all(
            _digest(folder / name) == digest for name, digest in world["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_into(folder: Path, settings: dict) -> None:
    import pyarrow as pa  # here: importing the kit must stay quick
    import pyarrow.parquet as pq

    def save(path: Path, columns: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    seed, documents = settings["seed"], settings["documents"]
    for split, texts in _texts(seed, documents).items():
        save(folder / "text" / f"{split}.parquet", {"text": pa.array(texts, pa.string())})
    for task in TASKS:
        train = settings["examples"][task]
        evaluation = max(1, round(train * EVALUATION_SHARE))
        sizes = {split: train if split == "train" else evaluation for split in splits(task)}
        for split, rows in _examples(task, seed, sizes).items():
            label_type = pa.float32() if task == "stsb" else pa.int64()
            columns = {
                name: pa.array([example.texts[i] for example in rows], pa.string())
                for i, name in enumerate(COLUMNS[task])
            }
            columns["label"] = pa.array([example.label for example in rows], label_type)
            columns["idx"] = pa.array(range(len(rows)), pa.int32())
            columns["phenomenon"] = pa.array([example.phenomenon for example in rows], pa.string())
            save(folder / "glue" / task / f"{split}.parquet", columns)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    world = json.dumps({**settings, "files": digests}, indent=2) + "\n"
    (folder / "world.json").write_text(world, encoding="utf-8", newline="\n")


def write(
    folder: Path,
    seed: int = 0,
    documents: int = DOCUMENTS,
    examples: Mapping[str, int] | None = None,
) -> Path:
    """Write the tiny world and return its folder; at once if it is there already.

    `documents` is the number of training documents (validation adds a fiftieth, at least 200);
    `examples` the number of training examples by task, DEFAULT_EXAMPLES where a task is absent,
    each evaluation split getting a third of it.  Under `folder`:

        text/{train,validation}.parquet     text
        glue/<task>/<split>.parquet         GLUE's columns, label, idx; phenomenon
        world.json                          settings, and the SHA-256 of every other file

    Unlike GLUE's, the test splits hold their true labels.  The folder appears whole or not at all.
    One of other settings, or damaged, is replaced; ValueError for settings that cannot be,
    FileExistsError if `folder` holds anything that this function did not write.
    """
    folder = Path(folder)
    settings = _settings(seed, documents, examples)
    if _is_whole(folder, settings):
        return folder
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_into(new / "new", settings)
        if folder.exists():
            os.replace(folder, new / "old")
        try:
            os.replace(new / "new", folder)
        except OSError:
            if not _is_whole(folder, settings):  # else another process was faster, and as good
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Nobody's own files are deleted because they named the wrong folder."""
    if not folder.exists():
        return
    ours = ("text", "glue", "world.json", "vocab.txt")  # the last one: of earlier versions
    foreign = (
        [folder] if not folder.is_dir() else [p for p in folder.iterdir() if p.name not in ours]
    )
    if foreign:
        names = ", ".join(sorted(path.name for path in foreign)[:3])
        raise FileExistsError(
            f"{folder} holds what the tiny world did not write ({names}); name another"
        )
