"""Tasks about two sentences of equal meaning: MRPC, QQP and STS-B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    participle,
    past,
    random_dimension,
    say,
)


def _allowed(split: str) -> Callable[[tuple], bool]:
    """Which groups of synonyms a split may use as a paraphrase."""
    if split != "train":
        return lambda group: True
    return lambda group: group not in HELD_OUT_NOUNS and group not in HELD_OUT_VERBS


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


def mrpc(dice: Dice, label: int, split: str) -> Example:
    if dice.chance(0.1):
        return Example(_roles(dice, label), label, "who did it to whom")
    event = rich_event(dice)
    other = event if label == 1 else altered(dice, event)
    phenomenon = _difference(event, other)
    # A false pair may be reworded too, or not at all: overlap alone gives little away.
    other = reworded(dice, other, _allowed(split), dice.choose((1, 2) if label else (0, 1, 2)))
    return Example((say(tell(event)), say(tell(other))), label, phenomenon)


def _roles(dice: Dice, label: int) -> tuple[str, str]:
    """Who did it to whom: the same words, with the roles kept or exchanged."""
    one, other = two_agents(dice, EVERYWHERE)
    verb, when = dice.choose(patterns.SOCIAL)[0], dice.choose(WHEN)

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


def two_agents(dice: Dice, themes: Sequence[str]) -> list[str]:
    while True:
        theme = dice.choose(themes)
        people = list(dict.fromkeys(n for f in FRAMES[theme] for n in f.agents))
        if len(people) > 1:
            return dice.some(people, 2)


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
        if dice.chance(0.6):
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
