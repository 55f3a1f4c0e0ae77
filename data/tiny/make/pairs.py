"""Tasks about two sentences of equal meaning: MRPC, QQP and STS-B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import patterns
from events import (
    Event,
    altered,
    random_detail,
    random_event,
    reworded,
    rich_event,
    same_word,
    tell,
)
from words import (
    EVERYWHERE,
    FRAMES,
    HELD_OUT_NOUNS,
    HELD_OUT_VERBS,
    HYPERNYM,
    KIND,
    PLACES,
    WHEN,
    Dice,
    Example,
    a,
    describable,
    random_dimension,
    say,
)


def _allowed(split: str) -> Callable[[tuple], bool]:
    """Which groups of synonyms a split may use as a paraphrase."""
    if split != "train":
        return lambda group: True
    return lambda group: group not in HELD_OUT_NOUNS and group not in HELD_OUT_VERBS


def _different_part(event: Event, other: Event) -> str:
    """The first part in which two events differ; "" if there is none."""
    return next((part for part in _PARTS if getattr(event, part) != getattr(other, part)), "")


def _difference(event: Event, other: Event) -> str:
    part = _different_part(event, other)
    return _PARTS[part] if part else "same meaning"


_PARTS = {
    "negative": "negation",
    "adjective": "another adjective",
    "agent": "another agent",
    "verb": "another verb",
    "thing": "another thing",
    "place": "another place",
    "when": "another time",
}


def mrpc(dice: Dice, label: int, split: str) -> Example:
    event = rich_event(dice)
    other = event if label == 1 else altered(dice, event)
    phenomenon = _difference(event, other)
    if label == 0 and dice.chance(0.5):  # easier pairs, with which learning begins
        part = _different_part(event, other)
        other = altered(dice, other, ("verb", "thing") if part in ("verb", "thing") else (part,))
    # A false pair may be reworded too, or not at all: overlap alone gives little away.
    other = reworded(dice, other, lambda group: True, dice.choose((1, 2) if label else (0, 1, 2)))
    return Example((say(tell(event)), say(tell(other))), label, phenomenon)


def qqp(dice: Dice, label: int, split: str) -> Example:
    allowed = _allowed(split)
    event = random_event(dice)
    meaning = dice.choose(range(len(patterns.QUESTIONS)))
    place = dice.choose(PLACES[event.frame.theme]) if dice.chance(0.4) else ""

    def ask(event: Event, meaning: int, form: str) -> str:
        act = f"{event.verb} {a((event.adjective + ' ' + event.thing).strip())} {place}".strip()
        return form.format(act=act)

    if describable(event.thing) and dice.chance(0.3):
        event = replace(event, adjective=dice.choose(random_dimension(dice, KIND[event.thing])[0]))
    form = dice.choose(patterns.QUESTIONS[meaning])
    first = ask(event, meaning, form)
    other, other_meaning = event, meaning
    if label == 0:
        if dice.chance(0.4):
            other_meaning = dice.choose_other(range(len(patterns.QUESTIONS)), [meaning])
        else:
            while (other.verb, other.thing, other.adjective) == (
                event.verb,
                event.thing,
                event.adjective,
            ):
                other = altered(dice, event)
    phenomenon = _difference(event, other) if other_meaning == meaning else "another question"
    second = first
    while second == first:
        again = reworded(dice, other, allowed, dice.choose((0, 1, 2)))
        forms = patterns.QUESTIONS[other_meaning]
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
    elif same_word(x, y):
        return 1.0
    if name == "thing" and x in HYPERNYM and HYPERNYM[x] == HYPERNYM.get(y):
        return 0.6
    return 0.3 if one.frame.theme == other.frame.theme and name != "when" else 0.0


def stsb(dice: Dice, level: int, split: str) -> Example:
    """The label is the score; `level` 0 (nothing agrees) to 5 (nothing differs)."""
    event = random_event(dice)
    event = replace(
        event, place=random_detail(dice, event, "place"), when=random_detail(dice, event, "when")
    )
    event = replace(event, front=dice.chance(0.3), passive=dice.chance(0.2))
    theme = event.frame.theme
    if level == 0:
        other = random_event(dice, [t for t in EVERYWHERE if t != theme])
        other = replace(
            other,
            place=random_detail(dice, other, "place"),
            when=random_detail(dice, event, "when"),
        )
    else:
        other = event
        for _ in range(5 - level):
            other = _one_part_else(dice, event, other)
    other = reworded(dice, other, lambda group: True, dice.choose((1, 2)))
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
        changes.append({"when": dice.choose_other(WHEN, [event.when])})
    things = [t for t in other.frame.things if not same_word(t, event.thing)]
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
