"""Events: who did what with what, where and when; told, reworded and altered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from words import (
    DIMENSIONS,
    EVERYWHERE,
    FRAMES,
    KIND,
    PLACES,
    SYNONYMS,
    WHEN,
    Dice,
    Frame,
    a,
    describable,
    participle,
    past,
    plural,
    random_dimension,
    synonym,
)


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


def random_event(
    dice: Dice, themes: Sequence[str] = EVERYWHERE, test: Callable | None = None
) -> Event:
    """A random event without details; `test(frame)` says which frames will do."""
    while True:
        frame = dice.choose(FRAMES[dice.choose(themes)])
        if test is None or test(frame):
            return event_in(dice, frame)


def event_in(dice: Dice, frame: Frame, agent: str = "") -> Event:
    return Event(
        frame,
        agent or dice.choose(frame.agents),
        dice.choose(frame.verbs),
        dice.choose(frame.things),
    )


def detailed(dice: Dice, event: Event, count: int, taboo: Sequence[str] = ()) -> Event:
    """The event with `count` of the details tool, place, when (fewer where there are no more)."""
    possible = [name for name in ("tool", "place", "when") if name not in taboo]
    if not event.frame.tool and "tool" in possible:
        possible.remove("tool")
    for name in dice.some(possible, count):
        event = replace(event, **{name: random_detail(dice, event, name)})
    return replace(event, front=dice.chance(0.3))


def random_detail(dice: Dice, event: Event, name: str) -> str:
    if name == "tool":
        return f"with {a(event.frame.tool)}"
    return dice.choose(PLACES[event.frame.theme] if name == "place" else WHEN)


def clause_of(event: Event) -> str:
    if event.passive:
        be = "were" if event.count else "was"
        no = " not" if event.negative else ""
        return f"{event.the_thing} {be}{no} {participle(event.verb)} by {event.the_agent}"
    did = f"did not {event.verb}" if event.negative else past(event.verb)
    return f"{event.the_agent} {did} {event.the_thing}"


def tell(event: Event, core: str = "") -> str:
    """The event as a clause in the past; `core` replaces its subject, verb and object."""
    core = core or clause_of(event)
    if event.front and (event.when or event.place):
        first = event.when or event.place
        rest = (event.tool, event.place if event.when else "")
        return " ".join(word for word in (f"{first},", core, *rest) if word)
    return " ".join(word for word in (core, event.tool, event.place, event.when) if word)


def reworded(dice: Dice, event: Event, allowed: Callable[[tuple], bool], count: int) -> Event:
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
        if noun in SYNONYMS and allowed(SYNONYMS[noun]):
            changes += [{name: synonym(dice, noun)}] * 2
    if event.adjective:
        words = next(s for d in DIMENSIONS for s in d[:2] if event.adjective in s)
        if len(words) > 1:
            changes.append({"adjective": dice.choose_other(words, [event.adjective])})
    for change in dice.some(changes, count):
        event = replace(event, **change)
    return event


def same_word(one: str, other: str) -> bool:
    return one == other or other in SYNONYMS.get(one, ())


def altered(dice: Dice, event: Event, taboo: Sequence[str] = ()) -> Event:
    """Another event in nearly the same words: one part that matters, not in `taboo`, differs."""
    frame, theme = event.frame, FRAMES[event.frame.theme]
    changes = []
    things = [t for t in frame.things if not same_word(t, event.thing)]
    if things:
        changes += [{"thing": dice.choose(things)}] * 2
    agents = [n for f in theme for n in f.agents if not same_word(n, event.agent)]
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
        changes.append({"when": dice.choose_other(WHEN, [event.when])})
    if event.adjective:
        for one, other, _ in DIMENSIONS:
            for words, opposite in ((one, other), (other, one)):
                if event.adjective in words:
                    changes.append({"adjective": dice.choose(opposite)})
                    break
    changes.append({"negative": not event.negative})
    return replace(event, **dice.choose([c for c in changes if not set(c) & set(taboo)]))


def rich_event(dice: Dice, themes: Sequence[str] = EVERYWHERE) -> Event:
    """An event with one or two details and, often, an adjective."""
    event = detailed(dice, random_event(dice, themes), dice.choose((1, 2)))
    if describable(event.thing) and dice.chance(0.4):
        event = replace(event, adjective=dice.choose(random_dimension(dice, KIND[event.thing])[0]))
    return replace(event, passive=dice.chance(0.3), negative=dice.chance(0.15))
