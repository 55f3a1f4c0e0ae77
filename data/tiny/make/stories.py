"""Documents of 3 to 6 sentences about one small situation: the text to pretrain on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import lexicon
import patterns
from events import (
    Event,
    altered,
    clause_of,
    detailed,
    event_in,
    random_event,
    reworded,
    rich_event,
    same_word,
    tell,
)
from words import (
    COLOURS,
    EVERYWHERE,
    FRAMES,
    HYPERNYM,
    KIND,
    MASS,
    MEN,
    NUMBERS,
    PLACES,
    POLARITY,
    SYNONYMS,
    WHEN,
    WOMEN,
    Dice,
    _pronouns,
    a,
    describable,
    ing,
    participle,
    past,
    plural,
    random_dimension,
    say,
    synonym,
    third,
    upper,
)


def random_document(dice: Dice) -> list[str]:
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
    called = synonym(dice, agent) if dice.chance(0.3) else agent
    name = f"the {called}"
    female = _pronouns(agent, dice.chance(0.5))[0] == "she"
    pronoun = "she" if female else "he"
    place = dice.choose(PLACES[theme])
    bare = place.partition(" ")[2]
    weather, *signs = dice.choose(lexicon.WEATHER)
    trait = dice.choose(random_dimension(dice, "person")[0])
    person = dice.choose(WOMEN if female else MEN)
    opening = dice.choose(
        (
            f"{dice.choose(WHEN)}, {name} came to {bare}",
            f"it was {a(dice.choose(weather.split()))} day, and {name} was {place}",
            f"{name} was {place}, and {dice.choose(signs)}",
            f"{person} was {a(called)} and worked {place}",
            f"{person}, {a(trait)} {called}, was {place} {dice.choose(WHEN)}",
            f"there was {a(trait)} {called} {place}",
        )
    )
    sentences = [opening]
    for position in range(dice.choose((1, 2, 2))):
        event = event_in(dice, first if position == 0 else dice.choose(frames), agent)
        event = replace(event, agent=called)
        if dice.chance(0.3):
            event = replace(event, thing=synonym(dice, event.thing))
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
    event = rich_event(dice)
    again = reworded(dice, event, lambda _: True, dice.choose((1, 2, 2, 3)))
    other = event
    while other == event or other.negative != event.negative:
        other = altered(dice, event)
    other = reworded(dice, other, lambda _: True, dice.choose((0, 1)))
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
    return event.the_thing if KIND.get(event.thing) in ("person", "group", None) else "it"


def _done(dice: Dice, event: Event, subject: str) -> list[str]:
    event = detailed(dice, event, dice.choose((1, 2, 2)))
    first = [tell(event, f"{subject} {past(event.verb)} {event.the_thing}")]
    if dice.chance(0.5):  # the same in other words, so that synonyms share their contexts
        again = reworded(dice, replace(event, place="", when="", tool=""), lambda _: True, 2)
        again = replace(again, passive=True, front=False)
        first.append(dice.choose(("so {}", "yes, {}", "{}")).format(clause_of(again)))
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
    event = detailed(dice, event, 1)
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
            [f"{subject} did not {event.act} {dice.choose(WHEN)}", f"{was} not {done} at all"],
            [f"{subject} refused to {event.act}, so nobody {past(event.verb)} it"],
            [f"{subject} managed to {event.act}", f"{was} {done} at last"],
            [f"{subject} planned to {event.act}", f"perhaps {was} {done} later"],
            [f"{subject} never {past(event.verb)} {event.the_thing}, so {was} not {done}"],
        )
    )


def _asked(dice: Dice, event: Event, subject: str) -> list[str]:
    """A question and its answer."""
    event = detailed(dice, event, 2)
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
    if event.thing in MASS or KIND.get(event.thing) not in ("artefact", "food", "animal"):
        return _done(dice, event, subject)
    first = dice.choose(range(len(NUMBERS) - 3))
    second = first + 1 + dice.choose((0, 1))
    few, many = NUMBERS[first], NUMBERS[second]
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
    if KIND.get(event.thing) is None or not describable(event.thing):
        return _done(dice, event, subject)
    one, other = random_dimension(dice, KIND[event.thing])
    word = dice.choose(one)
    did = f"{subject} {past(event.verb)} the {word} {event.thing}"
    follow = [
        f"the {event.thing} was {dice.choose(one)}, not {dice.choose(other)}",
        f"it was {a(word + ' ' + event.thing)}",
    ]
    if event.thing in HYPERNYM:
        wider = HYPERNYM[event.thing].removeprefix("some ")
        follow += [f"the {wider} was {word}"] * 2
    if KIND[event.thing] == "artefact":
        follow.append(f"the {event.thing} was {dice.choose(COLOURS)}")
    if KIND[event.thing] == "person":
        follow = follow[:1]
    return [tell(replace(detailed(dice, event, 1), front=False), did), dice.choose(follow)]


def _ordered(dice: Dice, event: Event, subject: str) -> list[str]:
    frames = [f for f in FRAMES[event.frame.theme] if set(f.agents) & set(event.frame.agents)]
    other = event_in(dice, dice.choose(frames))
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
    if not same_word(other, event.agent):
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


def opinion(dice: Dice, kind: str, words: tuple, label: int, forms: Sequence[str]) -> str:
    """One sentence of a review; `words` are the polarity words by label."""
    part, parts = (dice.choose(group.split()) for group in patterns.REVIEWED[kind][:2])
    p, p2 = dice.some(words[label], 2)
    q = dice.choose(words[1 - label])
    return dice.choose(forms).format(
        kind=kind, part=part, parts=parts, p=p, p2=p2, q=q, ap=a(p), ap2=a(p2), aq=a(q)
    )


def reaction(dice: Dice, kind: str, label: int, held_out: bool = True) -> str:
    lines = (patterns.BLAME, patterns.PRAISE)[label]
    usable = [line for line in lines if held_out or not line.startswith("*")]
    return dice.choose(usable).lstrip("*").format(kind=kind)


def _review(dice: Dice) -> list[str]:
    """Somebody goes to see something and says what it was like; all sentences agree."""
    kind = dice.choose(tuple(patterns.REVIEWED))
    label = dice.choose((0, 1))
    female = dice.chance(0.5)
    name = dice.choose(WOMEN if female else MEN)
    pronoun = "she" if female else "he"
    saw = patterns.REVIEWED[kind][2]
    good = dice.some(POLARITY[label], 3)
    feeling = _mood(dice, label == 1)
    loved = ("hated disliked regretted", "loved enjoyed praised")[label].split()
    sentences = [
        dice.choose(
            (
                f"{dice.choose(WHEN)}, {name} {saw} a {kind}",
                f"{name} {saw} a {kind} {dice.choose(WHEN)}",
                f"{name} and a friend {saw} {a(good[0])} {kind}",
            )
        )
    ]
    middle = (
        lambda: opinion(dice, kind, POLARITY, label, patterns.REVIEW_PLAIN),
        lambda: opinion(dice, kind, POLARITY, label, patterns.REVIEW_PLAIN),
        lambda: opinion(dice, kind, POLARITY, label, patterns.REVIEW_TURNED),
        lambda: opinion(dice, kind, POLARITY, label, patterns.REVIEW_CONTRAST),
        lambda: reaction(dice, kind, label),
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
    one, other = dice.some(WOMEN if female else MEN, 2)
    return one, other, "she" if female else "he"


def _meeting(dice: Dice) -> list[str]:
    """One person does something to another; later sentences say again who was who."""
    one, other, pronoun = _two_people(dice)
    verb, why, feels = dice.choose(patterns.SOCIAL)
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


def winograd(dice: Dice) -> _Riddle:
    if dice.chance(0.6):
        stem, fits_a, fits_b = dice.choose(patterns.WINOGRAD_PEOPLE)
        one, other, pronoun = _two_people(dice)
        thing = dice.choose(_OWNED)
        names = {"A": one, "B": other, "she": pronoun, "thing": thing}
        people = (one, other)
    else:
        stem, fits_a, fits_b, things_a, things_b = dice.choose(patterns.WINOGRAD_THINGS)
        one, other = dice.choose(things_a.split()), dice.choose(things_b.split())
        names = {"A": one, "B": other, "thing": ""}
        people = (f"the {one}", f"the {other}")
    means_a = dice.chance(0.5)
    clause = dice.choose((fits_a if means_a else fits_b).split("|")).format(**names)
    right, wrong = people if means_a else people[::-1]
    return _Riddle(f"{stem.format(**names)} {clause}", right, wrong, clause)


def _riddle(dice: Dice) -> list[str]:
    """A pronoun that needs thought, then the same with its meaning spelt out."""
    riddle = winograd(dice)
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
    event = random_event(dice, test=lambda f: f.tool and f.things[0] in HYPERNYM)
    event = random_event(dice) if dice.chance(0.5) else event
    frame, verb = event.frame, event.verb
    noun = event.thing if event.thing in HYPERNYM else dice.choose(tuple(HYPERNYM))
    wider = HYPERNYM[noun].removeprefix("some ")
    bare = noun if noun in MASS else a(noun)
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
    one, other = dice.some(SYNONYMS[dice.choose(tuple(SYNONYMS))], 2)
    facts.append(f"another word for {one} is {other}")
    if describable(event.thing):
        words, opposite = random_dimension(dice, KIND[event.thing])
        two = dice.choose(words), dice.choose(words)
        facts.append(f"{a(two[0] + ' ' + event.thing)} is not {dice.choose(opposite)}")
        if two[0] != two[1]:
            facts.append(f"{a(two[0] + ' ' + event.thing)} is also {two[1]}")
    label = dice.choose((0, 1))
    good, other = dice.some(POLARITY[label], 2)
    kind = dice.choose(tuple(patterns.REVIEWED))
    facts.append(f"{a(good)} {kind} is {a(other)} one, and not {dice.choose(POLARITY[1 - label])}")
    more, less, (x, y) = random_comparison(dice)
    facts.append(f"if the {x} is {more} than the {y}, the {y} is {less} than the {x}")
    return facts


def random_comparison(dice: Dice) -> tuple[str, str, list[str]]:
    """A comparative, its opposite, and two nouns of one theme that can be compared so."""
    while True:
        more, less, kinds = dice.choose(lexicon.COMPARATIVES)
        theme = dice.choose(EVERYWHERE)
        nouns = [n for f in FRAMES[theme] for n in f.things + f.agents if KIND[n] in kinds.split()]
        # Both of one kind: nobody compares a dog with a spoon.
        kind = dice.choose(kinds.split())
        nouns = [n for n in dict.fromkeys(nouns) if KIND[n] == kind]
        if len(nouns) > 1:
            pair = (more, less) if dice.chance(0.5) else (less, more)
            return *pair, dice.some(nouns, 2)


def texts(seed: int, documents: int) -> dict[str, list[str]]:
    """Documents by split, all different; validation adds a fiftieth, at least 200."""
    seen: set[str] = set()
    written = {}
    for split, count in (("validation", max(200, documents // 50)), ("train", documents)):
        dice = Dice(seed, "text", split)
        written[split] = []
        while len(written[split]) < count:
            text = " ".join(random_document(dice))
            if text not in seen:
                seen.add(text)
                written[split].append(text)
    return written
