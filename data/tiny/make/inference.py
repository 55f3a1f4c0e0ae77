"""Tasks about what follows from a sentence: MNLI, RTE, QNLI and WNLI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lexicon
import patterns
from events import (
    Event,
    clause_of,
    detailed,
    event_in,
    random_detail,
    random_event,
    same_word,
    tell,
)
from pairs import two_agents
from stories import random_comparison, winograd
from words import (
    DAYS,
    FRAMES,
    HYPERNYM,
    KIND,
    MASS,
    MATCHED,
    MISMATCHED,
    NUMBERS,
    PLACES,
    Dice,
    Example,
    Frame,
    a,
    describable,
    ing,
    participle,
    past,
    plural,
    random_dimension,
    say,
    upper,
)

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
            f"it was {dice.choose(DAYS)[3:]}, and ",
            f"everyone was {dice.choose(PLACES[theme])}, and ",
            f"{dice.choose(dice.choose(lexicon.WEATHER)[1:])}, and ",
        )
    )


def _flip(label: int, negated: bool) -> int:
    """The label that the same premise has for the hypothesis without its "not"."""
    return 2 - label if negated else label


def _nli_property(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = random_event(dice, themes, lambda f: any(describable(t) for t in f.things))
    while not describable(event.thing):
        event = event_in(dice, event.frame)
    of_agent = dice.chance(0.3)
    noun, kind = (event.agent, "person") if of_agent else (event.thing, KIND[event.thing])
    one, other = random_dimension(dice, kind)
    negated = dice.chance(0.5)
    hypothesis = f"the {noun} was {'not ' if negated else ''}{dice.choose(one)}"
    side = {
        ENTAILMENT: one,
        CONTRADICTION: other,
        NEUTRAL: random_dimension(dice, kind, (one, other))[0],
    }[_flip(label, negated)]
    word = {"trait" if of_agent else "adjective": dice.choose(side)}
    premise = replace(detailed(dice, event, dice.choose((1, 2))), **word)
    return tell(replace(premise, passive=dice.chance(0.3))), hypothesis


def _nli_deed(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = random_event(dice, themes)
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
    hypothesis = clause_of(told)
    answers = (done, open_, not_done)
    if dice.chance(0.5):  # or "wanted" would by itself mean neutral
        hypothesis = f"{who} {'did not wish' if negated else 'wished'} to {act}"
        wanted = (f"{who} wanted to {act}", f"{who} hoped to {act}")
        not_wanted = (f"{who} did not want to {act}", f"{who} refused to {act}")
        answers = (wanted, (done[3], not_done[2]), not_wanted)
    core = dice.choose(answers[_flip(label, negated)])
    return _setting(dice, event.frame.theme) + core, hypothesis


def _countable(frame: Frame) -> bool:
    return any(t not in MASS and KIND[t] != "other" for t in frame.things)


def _nli_number(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = random_event(dice, themes, _countable)
    while event.thing in MASS or KIND[event.thing] == "other":
        event = event_in(dice, event.frame)
    middle = dice.choose(range(2, len(NUMBERS) - 2))
    number, less, more = NUMBERS[middle], NUMBERS[: middle - 1], NUMBERS[middle + 1 :]
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
    hypothesis = clause_of(replace(event, count=count, negative=negated, passive=passive))
    premise = replace(event, count=said, passive=dice.chance(0.3))
    return tell(detailed(dice, premise, dice.choose((1, 2)))), hypothesis


def _nli_kind(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    event = random_event(dice, themes, lambda f: any(t in HYPERNYM for t in f.things))
    while event.thing not in HYPERNYM:
        event = event_in(dice, event.frame)
    who, verb = event.the_agent, event.verb
    wide = upper(event.thing)
    any_ = "any " + HYPERNYM[event.thing].removeprefix("some ")
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
    event = random_event(dice, themes)
    of = dice.choose(tuple(_QUANTIFIED))
    said = dice.choose(_QUANTIFIED[of][label])
    agents = plural(event.agent)
    other_verb = dice.choose(event.frame.verbs)
    premise = f"{said} {agents} {past(event.verb)} {event.the_thing}"
    premise = _setting(dice, event.frame.theme) + premise
    return premise, f"{of} {agents} {past(other_verb)} {event.the_thing}"


def _nli_detail(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    """Where, when and with what: the same, another, or not said."""
    event = random_event(dice, themes)
    names = ("tool", "place", "when") if event.frame.tool else ("place", "when")
    name = dice.choose(names)
    negated = dice.chance(0.5)
    detail = random_detail(dice, event, name)
    want = _flip(label, negated)
    did = "did not {} {}" if negated else "{} {}"
    verb = event.verb if negated else past(event.verb)
    hypothesis = f"{event.the_agent} {did.format(verb, event.the_thing)} {detail}"
    if name == "place":
        hypothesis = f"{event.the_agent} was {'not ' if negated else ''}{detail}"
        other = dice.choose_other(PLACES[event.frame.theme], [detail])
    elif name == "when":
        # Days exclude days, and times of day exclude times of day.
        same = DAYS if detail in DAYS else lexicon.MOMENTS
        other = dice.choose_other(same, [detail])
    else:
        hypothesis = (
            f"{event.the_agent} {'did not use' if negated else 'used'} {a(event.frame.tool)}"
        )
        other = f"without {a(event.frame.tool)}"
    said = {ENTAILMENT: detail, NEUTRAL: "", CONTRADICTION: other}[want]
    # Where it is not said, another detail keeps the length.
    event = detailed(dice, event, dice.choose((0, 1)) if said else dice.choose((1, 2)), (name,))
    event = replace(event, **{name: said})
    return tell(replace(event, passive=dice.chance(0.3))), hypothesis


def _nli_order(dice: Dice, label: int, themes: Sequence[str]) -> tuple[str, str]:
    while True:
        event = random_event(dice, themes)
        frames = [f for f in FRAMES[event.frame.theme] if event.agent in f.agents]
        other = event_in(dice, dice.choose(frames), event.agent)
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
    more, less, (x, y) = random_comparison(dice, themes)
    kind = KIND[x]
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
    one, other = two_agents(dice, themes)
    verb = dice.choose(patterns.SOCIAL)[0]
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
    event = random_event(dice, themes, lambda f: any(describable(t) for t in f.things))
    while not describable(event.thing):
        event = event_in(dice, event.frame)
    one, other = random_dimension(dice, KIND[event.thing])
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
    if any(t in HYPERNYM for f in frames for t in f.things)
)


def mnli(dice: Dice, label: int, split: str) -> Example:
    themes = MISMATCHED if split.endswith("mismatched") else MATCHED
    premise, hypothesis, family = _inference(dice, label, themes, tuple(_NLI))
    return Example((say(premise), say(hypothesis)), label, family)


def rte(dice: Dice, label: int, split: str) -> Example:
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


def qnli(dice: Dice, label: int, split: str) -> Example:
    """Does the sentence answer the question?  Label 0 if it does."""
    event = random_event(dice, test=lambda f: f.tool)
    parts = {name: random_detail(dice, event, name) for name in ("tool", "place", "when")}
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
    core = clause_of(replace(told, passive=dice.chance(0.4)))
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
    things = [t for t in event.frame.things if not same_word(t, event.thing)]
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


def wnli(dice: Dice, label: int, split: str) -> Example:
    riddle = winograd(dice)
    meant = riddle.right if label == 1 else riddle.wrong
    phenomenon = "whom it means" if meant[0].isupper() else "what it means"
    return Example((say(riddle.sentence), say(f"{meant} {riddle.clause}")), label, phenomenon)
