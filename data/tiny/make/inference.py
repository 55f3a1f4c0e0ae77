"""Tasks about what follows from a sentence: MNLI, RTE, QNLI and WNLI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lexicon
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
from stories import winograd
from words import (
    DAYS,
    FRAMES,
    HYPERNYM,
    MATCHED,
    MISMATCHED,
    PLACES,
    Dice,
    Example,
    a,
    participle,
    past,
    plural,
    say,
    upper,
)

# Each family draws the hypothesis first, negated or not (a detail never is), and only then a
# premise for the label. So the hypothesis alone says nothing; "not" stands in all classes alike.

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
    detail = random_detail(dice, event, name)
    hypothesis = f"{event.the_agent} {past(event.verb)} {event.the_thing} {detail}"
    if name == "place":
        hypothesis = f"{event.the_agent} was {detail}"
        other = dice.choose_other(PLACES[event.frame.theme], [detail])
    elif name == "when":
        # Days exclude days, and times of day exclude times of day.
        same = DAYS if detail in DAYS else lexicon.MOMENTS
        other = dice.choose_other(same, [detail])
    else:
        hypothesis = f"{event.the_agent} used {a(event.frame.tool)}"
        other = f"without {a(event.frame.tool)}"
    said = {ENTAILMENT: detail, NEUTRAL: "", CONTRADICTION: other}[label]
    # Where it is not said, another detail keeps the length.
    event = detailed(dice, event, dice.choose((0, 1)) if said else dice.choose((1, 2)), (name,))
    event = replace(event, **{name: said})
    return tell(replace(event, passive=dice.chance(0.3))), hypothesis


_NLI = {
    "detail": _nli_detail,
    "hypernym": _nli_kind,
    "negated deed": _nli_deed,
    "quantifier": _nli_quantity,
}
_RTE_FAMILIES = ("hypernym", "negated deed", "quantifier")


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
    if not yes and dice.chance(0.1):
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
