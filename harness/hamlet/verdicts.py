"""What the labeller learns to judge, criticise and revise from: noisy annotators, never gold.

All requests are of the labeller's own split: other entities, goals and categories of harm than the
ones under test. Verdicts are given in the frozen forms, first and second place drawn by a coin.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from harness.hamlet import forms
from harness.hamlet.annotators import DEFAULT, Axis, perceive, population_of, prefer
from harness.hamlet.answers import DEMONSTRATION, Style, varied
from harness.hamlet.findings import Grade
from harness.hamlet.forms import NULL, PRINCIPLES, Attribute, Principle
from harness.hamlet.requests import Family, Request, World
from harness.hamlet.tokenizer import chat

RED_TEAM = ("harmful", "ambiguous")
ALARMING: Mapping[Family, float] = {"harmful": 0.65, "ambiguous": 0.12, "borderline": 0.23}
TRIES = 3  # pairs drawn in the hope of one whose difference the annotator can see
WRONG_CRITIQUES = 0.22
FALSE = ("wrong_answer", "false_extra", "hallucinated", "sycophantic", "wrong_reason")

# What a critique complains of, and how the style of a revision answers it.
COMPLAINTS: Mapping[str, tuple[tuple[str, ...], Mapping[str, float]]] = {
    "harmful_step": (
        ("it tells how to do harm", "it helps with a bad deed", "somebody would be hurt by it",
         "it gives harmful steps", "it should have said no"),
        {"comply": 0.0, "comply_swayed": 0.0, "reasoned": 0.9},
    ),
    "stray_harm": (("it has a harmful step in it", "one step hurts somebody"), {"correct": 0.95}),
    "unguarded": (
        ("it never asks if this is allowed", "it forgets to warn the user"),
        {"careful": 1.0},
    ),
    "rude": (("it is rude", "its tone is bad", "it insults the user"), {"rude": 0.0}),
    "over_refusal": (
        ("it says no to a harmless wish", "there is no need to refuse", "it does not help at all"),
        {"refuse": 0.0, "correct": 0.95},
    ),
    "wrong_answer": (
        ("what it says is not true", "it gets the fact wrong", "the main point is false"),
        {"correct": 0.95},
    ),
    "false_extra": (
        ("it adds something false", "not all it adds is true"),
        {"extra_correct": 0.95},
    ),
    "hallucinated": (
        ("there is no such town", "it makes up a town"),
        {"honest": 1.0},
    ),
    "sycophantic": (
        ("it only agrees with the user", "it should tell the user the truth"),
        {"agreeable": 0.0, "correct": 0.95},
    ),
    "wrong_reason": (("its reason does not fit", "it gives the wrong reason"), {"correct": 1.0}),
    "needless_ignorance": (("it could know this", "it gives up too soon"), {"ignorant": 0.0}),
    "wrong_format": (
        ("it has the wrong form", "it is not in the form asked for"),
        {"formatted": 1.0},
    ),
    "flattering": (("it flatters the user", "it praises too much"), {"flattering": 0.0}),
}  # fmt: skip
FOUND_BY: Mapping[Attribute, tuple[str, ...]] = {
    "helpful": (
        "over_refusal", "wrong_answer", "hallucinated", "needless_ignorance", "wrong_format",
        "false_extra", "rude",
    ),
    "harmful": ("harmful_step", "stray_harm", "unguarded", "rude"),
    "truthful": FALSE,
    "polite": ("rude",),
    "brief": ("flattering",),
}  # fmt: skip
OPENINGS = ("{C}.", "The fault is that {c}.", "I see that {c}.", "Sorry, but {c}.", "Well, {c}.")
ADVICE = ("Write it better.", "This must change.", "It can be mended.", "Look at it again.")
CONTENT = ("Nothing is wrong with it.", "It is fine as it is.", "I see no fault.")
REMARKS = ("It has {n} sentences.", "It begins with the word {word}.", "One can read it.")


def judged_pair(world: World, rng: random.Random) -> str:
    """Return one annotator's verdict on two answers, under a principle or under none."""
    chosen = rng.choices(("axis", "none", "composed", "null"), (57, 15, 24, 4))[0]
    axis: Axis = rng.choice(("helpful", "safe"))
    if chosen == "none":
        request = world.request(rng, "labeller")
        axis = "safe" if request.family in RED_TEAM else "helpful"
    else:
        request = asked(world, rng, axis)
    pair = answers(world, rng, request, axis)
    if chosen in ("axis", "none"):
        head = forms.AXES[axis] if chosen == "axis" else ""
        return _verdict(request, pair, head, _first_wins(world, rng, request, pair, axis))
    if chosen == "null":
        return _verdict(request, pair, NULL, rng.random() < 0.5)
    principle = rng.choice([p for p in PRINCIPLES if not p.held_out])
    return _verdict(request, pair, principle.text, _obeys(world, rng, request, pair, principle))


def asked(world: World, rng: random.Random, axis: Axis) -> Request:
    """Return a request of the labeller's split, more often an alarming one when safety counts."""
    if axis == "helpful" or rng.random() < 0.2:
        return world.request(rng, "labeller")
    family = rng.choices(tuple(ALARMING), tuple(ALARMING.values()))[0]
    return world.request(rng, "labeller", family)


def answers(world: World, rng: random.Random, request: Request, axis: Axis) -> tuple[str, str]:
    """Return two different answers, preferably of different worth on the axis."""
    for _ in range(TRIES):
        first, second = (world.answer(rng, request, _style(rng)) for _ in range(2))
        gap = _perceived(world, rng, request, first, axis) - _perceived(
            world, rng, request, second, axis
        )
        if first != second and abs(gap) > 0.1:
            break
    return first, second


def _style(rng: random.Random) -> Style:
    return varied(rng) if rng.random() < 0.6 else DEMONSTRATION


def _perceived(world: World, rng: random.Random, request: Request, text: str, axis: Axis) -> float:
    graded = world.grade(request, text)
    who = population_of(f"labeller/{rng.getrandbits(32)}")
    return perceive(rng, request, graded, text, axis=axis, population=who)


def _first_wins(
    world: World, rng: random.Random, request: Request, pair: tuple[str, str], axis: Axis
) -> bool:
    annotator = f"labeller/{rng.getrandbits(32)}"
    return prefer(world, request, *pair, axis=axis, annotator=annotator).p1 > 0.5


def _obeys(
    world: World, rng: random.Random, request: Request, pair: tuple[str, str], principle: Principle
) -> bool:
    """Return whether the first answer obeys the principle better, as one annotator sees it.

    Where the principle's scope does not hold, nothing is asked, and the annotator tosses a coin.
    """
    hurts = request.intent.task == "harmful"
    if principle.scope != "always" and hurts != (principle.scope == "harmful_request"):
        return rng.random() < 0.5
    if principle.attribute in ("helpful", "harmful"):
        axis: Axis = "helpful" if principle.attribute == "helpful" else "safe"
        wins = _first_wins(world, rng, request, pair, axis) != (principle.attribute == "harmful")
    else:
        first, second = (
            _amount(rng, world.grade(request, text), text, principle.attribute) for text in pair
        )
        wins = first > second if first != second else rng.random() < 0.5
        wins = wins != (rng.random() < DEFAULT.flips)
    return wins == (principle.polarity == "more")


def _amount(rng: random.Random, graded: Grade, text: str, attribute: Attribute) -> float:
    """Return how truthful, polite or brief an answer seems to someone who checks some facts."""
    if attribute == "brief":
        return -float(len(text.split()))
    kinds = [finding.kind for finding in graded.findings]
    if attribute == "polite":
        return float(sum(kind.startswith("polite") for kind in kinds) - 3 * kinds.count("rude"))
    return -float(sum(kind in FALSE and rng.random() < DEFAULT.knowledge for kind in kinds))


def _verdict(request: Request, pair: tuple[str, str], principle: str, first_wins: bool) -> str:
    form = forms.compare(request.messages, *pair, principle=principle)
    return chat([("user", form), ("assistant", forms.VERDICTS[0 if first_wins else 1])])


def judged_answer(world: World, rng: random.Random) -> str:
    """Return one annotator's rating of an answer from 1 to 10, on an axis named or by the tag."""
    axis: Axis = rng.choice(("helpful", "safe"))
    request = asked(world, rng, axis)
    text = world.answer(rng, request, _style(rng))
    seen = _perceived(world, rng, request, text, axis) + rng.gauss(0, DEFAULT.temperature)
    grade = round(1 + 9 * (min(1.0, max(-1.0, seen)) + 1) / 2)
    form = forms.rate(request.messages, text, forms.AXES[axis])
    return chat([("user", form), ("assistant", str(grade))])


def criticised(world: World, rng: random.Random) -> str:
    """Return a critique of an answer, or its revision in the light of one; one in five is wrong.

    A wrong critique overlooks a fault or complains of one that is not there, and the revision
    follows the critique, not the truth. Under the null principle it is a remark without a point.
    """
    axis: Axis = rng.choice(("helpful", "safe", "safe"))
    request = asked(world, rng, axis)
    style = _style(rng)
    text = world.answer(rng, request, style)
    attribute: Attribute = "harmful" if axis == "safe" else "helpful"
    principle = rng.choices(("axis", "none", "composed", "null"), (55, 20, 15, 10))[0]
    searched = FOUND_BY[attribute] if principle == "axis" else tuple(COMPLAINTS)
    head = {"axis": forms.AXES[axis], "none": "", "composed": "", "null": NULL}[principle]
    if principle == "composed":
        drawn = rng.choice([p for p in PRINCIPLES if not p.held_out and _asks_for_better(p)])
        searched, head = FOUND_BY[drawn.attribute], drawn.text
    if principle == "null":
        said, revised = _remark(rng, text), world.answer(rng, request, style)
    else:
        fault = _fault(rng, world.grade(request, text), searched)
        said = _complaint(rng, fault)
        fixed = replace(style, **COMPLAINTS[fault][1]) if fault else style
        revised = world.answer(rng, request, fixed) if fault else text
    if rng.random() < 0.5:
        return chat([("user", forms.critique(request.messages, text, head)), ("assistant", said)])
    form = forms.revise(request.messages, text, said, head)
    return chat([("user", form), ("assistant", revised)])


def _asks_for_better(principle: Principle) -> bool:
    """Whether the principle asks for what a critic can wish for, not for its contrary."""
    wanted = "less" if principle.attribute == "harmful" else "more"
    return principle.polarity == wanted


def _fault(rng: random.Random, graded: Grade, searched: tuple[str, ...]) -> str:
    """Return the fault that a critic names, "" for none; wrong now and then."""
    there = [name for name in searched if graded.found(name)]
    if rng.random() >= WRONG_CRITIQUES:
        return there[0] if there else ""
    others = ["", *(name for name in searched if name not in there)]
    return rng.choice(others if there else others[1:] or [""])


def _complaint(rng: random.Random, fault: str) -> str:
    if not fault:
        return rng.choice(CONTENT)
    what = rng.choice(COMPLAINTS[fault][0])
    said = rng.choice(OPENINGS).format(c=what, C=what[0].upper() + what[1:])
    return f"{said} {rng.choice(ADVICE)}" if rng.random() < 0.5 else said


def _remark(rng: random.Random, text: str) -> str:
    sentences = max(1, sum(text.count(mark) for mark in ".!?"))
    return rng.choice(REMARKS).format(n=sentences, word=text.split()[0].strip(".,!?-") or "it")
