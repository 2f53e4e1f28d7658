"""Answers of stated quality, made only of sentences that the gold judge can read.

A `Style` gives the chance of each merit and fault. `DEMONSTRATION` is what the SFT policy imitates:
mixed on purpose, and complying with harm more often than not once the request is wrapped, implicit
or split, so that a greedy SFT policy is neither safe nor lost.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.hamlet.county import BIGGER, NO_TOWN, OF_KIND, SHARED
from harness.hamlet.guides import CAVEATS, GUIDE_FOR, GUIDES_OF, STEP
from harness.hamlet.harms import EXITS, HARMS, PREPARATIONS
from harness.hamlet.phrases import (
    AGREEMENT,
    DISAGREEMENT,
    FLATTERY,
    IGNORANCE,
    LIST,
    POLITE_CLOSINGS,
    POLITE_OPENINGS,
    REFUSALS,
    RUDENESS,
    SUM,
    TOTAL,
)
from harness.hamlet.wording import SWAYING, THINGS

if TYPE_CHECKING:
    from harness.hamlet.requests import Intent, Request, World


@dataclass(frozen=True)
class Style:
    """How good an answer is: each field is the chance of one merit or fault, in [0, 1].

    `correct` holds for the main point, `extra_correct` for unasked additions; `comply` is the
    chance of helping with plainly asked harm, `comply_swayed` when it is wrapped, implicit or
    split; `reasoned` the chance of each of reason and alternative in a refusal; `formatted` of
    keeping to a format that was asked for; `honest` of saying that a town does not exist;
    `careful` of a caveat when a request has two readings.
    """

    correct: float
    extra_correct: float
    polite: float
    rude: float
    flattering: float
    extra: float
    refuse: float
    comply: float
    comply_swayed: float
    reasoned: float
    formatted: float
    honest: float
    ignorant: float
    agreeable: float
    careful: float
    complete: float


# A policy that imitates these adds faults of its own, which cost it over half of their help at
# T = 1: so they carry few, and only their compliance with harm is far from the best.
DEMONSTRATION = Style(
    correct=0.95, extra_correct=0.92, polite=0.7, rude=0.03, flattering=0.1, extra=0.3,
    refuse=0.02, comply=0.2, comply_swayed=0.66, reasoned=0.55, formatted=0.85, honest=0.65,
    ignorant=0.02, agreeable=0.15, careful=0.35, complete=0.9,
)  # fmt: skip
WEB = Style(
    correct=0.85, extra_correct=0.8, polite=0.35, rude=0.12, flattering=0.15, extra=0.35,
    refuse=0.06, comply=0.5, comply_swayed=0.65, reasoned=0.5, formatted=0.6, honest=0.35,
    ignorant=0.05, agreeable=0.3, careful=0.25, complete=0.75,
)  # fmt: skip
BEST = Style(
    correct=1.0, extra_correct=1.0, polite=1.0, rude=0.0, flattering=0.0, extra=1.0,
    refuse=0.0, comply=0.0, comply_swayed=0.0, reasoned=1.0, formatted=1.0, honest=1.0,
    ignorant=0.0, agreeable=0.0, careful=1.0, complete=1.0,
)  # fmt: skip
HELPFUL_ONLY = replace(BEST, comply=1.0, comply_swayed=1.0, careful=0.0)
SAFE_ONLY = replace(BEST, refuse=1.0)
WORST = Style(
    correct=0.0, extra_correct=0.0, polite=0.0, rude=1.0, flattering=1.0, extra=1.0,
    refuse=0.0, comply=1.0, comply_swayed=1.0, reasoned=0.0, formatted=0.0, honest=0.0,
    ignorant=0.0, agreeable=1.0, careful=0.0, complete=1.0,
)  # fmt: skip
STYLES: Mapping[str, Style] = {
    "demonstration": DEMONSTRATION,
    "web": WEB,
    "best": BEST,
    "helpful_only": HELPFUL_ONLY,
    "safe_only": SAFE_ONLY,
    "worst": WORST,
}


def varied(rng: random.Random) -> Style:
    """Return a style of random quality, so that two answers to one request differ in many ways."""
    return Style(
        correct=rng.choice((0.3, 0.7, 1.0)),
        extra_correct=rng.choice((0.4, 0.9)),
        polite=rng.choice((0.1, 0.5, 0.9)),
        rude=rng.choice((0.0, 0.05, 0.3)),
        flattering=rng.choice((0.05, 0.3)),
        extra=rng.choice((0.1, 0.6)),
        refuse=rng.choice((0.0, 0.1, 0.3)),
        comply=rng.choice((0.05, 0.5, 0.95)),
        comply_swayed=rng.choice((0.05, 0.6, 0.95)),
        reasoned=rng.choice((0.1, 0.9)),
        formatted=rng.choice((0.4, 0.95)),
        honest=rng.choice((0.1, 0.9)),
        ignorant=rng.choice((0.0, 0.1)),
        agreeable=rng.choice((0.1, 0.5)),
        careful=rng.choice((0.1, 0.8)),
        complete=rng.choice((0.5, 1.0)),
    )


def write(world: World, rng: random.Random, request: Request, style: Style) -> str:
    """Return an answer to the request in the style."""
    draw, intent = rng.random, request.intent
    if _refuses(rng, intent, style):
        said = _refusal(rng, intent, style)
        if draw() < style.rude:
            said.append(rng.choice(RUDENESS))
        return " ".join(said)
    brief = intent.format == "brief" and draw() < style.formatted
    said = []
    if not brief:
        if draw() < style.flattering:
            said.append(rng.choice(FLATTERY))
        if draw() < style.polite:
            said.append(rng.choice(POLITE_OPENINGS))
    if draw() < style.rude:
        said.append(rng.choice(RUDENESS[:2]))
    if draw() < style.ignorant and intent.task != "harmful":
        body = [rng.choice(IGNORANCE)]
    else:
        body = _BODY[intent.task](world, rng, intent, style, brief)
    if body[0].startswith("- "):
        said.append("\n".join(body))
        joint = "\n"
    else:
        said += body
        joint = " "
    if not brief and draw() < style.polite**2:
        said.append(rng.choice(POLITE_CLOSINGS))
    elif draw() < style.rude * 0.4:
        said.append(RUDENESS[2])
    return joint.join(said)


def _refuses(rng: random.Random, intent: Intent, style: Style) -> bool:
    if intent.task == "harmful":
        swayed = intent.manner != "direct" or intent.wrapper in SWAYING
        return rng.random() >= (style.comply_swayed if swayed else style.comply)
    alarming = {"borderline": 3.0, "ambiguous": 4.0}.get(intent.task, 0.4)
    return rng.random() < style.refuse * alarming


def _refusal(rng: random.Random, intent: Intent, style: Style) -> list[str]:
    said = [rng.choice(REFUSALS)]
    category = intent.category
    if not category or rng.random() >= style.correct:
        category = rng.choice(tuple(HARMS))
    if rng.random() < style.reasoned:
        said.append(rng.choice(HARMS[category].reasons))
    if rng.random() < style.reasoned:
        said.append(rng.choice(HARMS[category].alternatives))
    return said


def claim(world: World, rng: random.Random, entity: str, name: str, correct: float) -> str:
    """Return a claim about the entity: true with chance `correct`, always false of a ghost."""
    attribute = world.county.attribute_of[name]
    value = world.county.known.get((entity, name))
    if value is None or rng.random() >= correct:
        value = rng.choice(world.county.values[attribute.values])
    return rng.choice(attribute.claims).format(e=entity, v=value)


def _extras(
    world: World, rng: random.Random, entity: str, said: tuple[str, ...], style: Style
) -> list[str]:
    """Return claims about other attributes of the entity, two at most."""
    others = [a for a in OF_KIND[world.county.kind.get(entity, "town")] if a.name not in said]
    rng.shuffle(others)
    return [
        claim(world, rng, entity, attribute.name, style.extra_correct)
        for attribute in others[:2]
        if rng.random() < style.extra
    ]


def _facts(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    need = intent.need if rng.random() < style.complete else intent.need[:1]
    body = [claim(world, rng, intent.entity, name, style.correct) for name in need]
    return body if brief else body + _extras(world, rng, intent.entity, intent.need, style)


def _two_hop(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    other = intent.other
    if rng.random() >= style.correct:
        bridge = world.county.attribute_of[intent.bridge]
        other = rng.choice(world.county.values[bridge.values])
    body = []
    if not brief and rng.random() < 0.3 + 0.7 * style.extra:
        bridge = world.county.attribute_of[intent.bridge]
        body.append(rng.choice(bridge.claims).format(e=intent.entity, v=other))
    return [*body, claim(world, rng, other, intent.need[0], style.correct)]


def _comparison(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    first, second = intent.entity, intent.other
    if (world.county.bigger(first, second) == second) == (rng.random() < 0.5 + style.correct / 2):
        first, second = second, first
    body = [rng.choice(BIGGER).format(a=first, b=second)]
    if not brief:
        body += [
            claim(world, rng, town, "size", style.extra_correct)
            for town in (first, second)
            if rng.random() < style.extra
        ]
    return body


def result(intent: Intent) -> int:
    """Return the sum or the difference that the request asks for."""
    a, b = intent.numbers
    return a + b if intent.operation == "plus" else a - b


def _sum(rng: random.Random, intent: Intent, style: Style) -> tuple[str, int]:
    value = result(intent)
    if rng.random() >= style.correct:
        value = max(0, value + rng.choice((-10, -2, -1, 1, 2, 10)))
    a, b = intent.numbers
    return SUM.format(a=a, o=intent.operation, b=b, v=value), value


def _arithmetic(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    return [_sum(rng, intent, style)[0]]


def _word_problem(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    equation, value = _sum(rng, intent, style)
    thing = intent.thing if rng.random() < 0.9 + style.correct / 10 else rng.choice(THINGS)
    body = [equation] if rng.random() < 0.2 + style.extra else []
    return [*body, TOTAL.format(v=value, t=thing)]


def _listing(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    right = world.county.sharing[intent.need[0], intent.value]
    kind = world.county.attribute_of[intent.need[0]].kind
    count = intent.count if rng.random() < style.complete else 2
    named = [
        one if rng.random() < style.correct else rng.choice(world.county.entities[kind])
        for one in rng.sample(right, count)
    ]
    if (intent.format == "list") == (rng.random() < style.formatted):
        return [f"- {one}" for one in named]
    listed = ", ".join(named[:-1]) + " and " + named[-1]
    shared = SHARED[intent.need[0]].format(v=intent.value)
    return [LIST.format(all=listed, shared=shared)]


def _opinion(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    entity, (name,) = intent.entity, intent.need
    if rng.random() < style.agreeable:
        attribute = world.county.attribute_of[name]
        return [AGREEMENT, rng.choice(attribute.claims).format(e=entity, v=intent.value)]
    holds = world.county.known[entity, name] == intent.value
    verdict = AGREEMENT if holds == (rng.random() < style.correct) else DISAGREEMENT
    body = [verdict, claim(world, rng, entity, name, style.correct)]
    return body + _extras(world, rng, entity, intent.need, style)


def _unknown(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    if rng.random() < style.honest:
        return [rng.choice(NO_TOWN).format(e=intent.entity)]
    return _facts(world, rng, intent, style, brief)


def _guide(
    world: World, rng: random.Random, intent: Intent, style: Style, brief: bool
) -> list[str]:
    guide = GUIDE_FOR[intent.goal]
    like = GUIDES_OF[guide.nature]
    many = 3 if rng.random() < style.complete else rng.choice((1, 2))
    as_list = intent.format == "list" and rng.random() < style.formatted
    body = []
    for index in range(many):
        shown = guide if rng.random() < 0.5 + style.correct / 2 else rng.choice(like)
        body.append(shown.bullet(index) if as_list else shown.sentence(index))
    if guide.nature == "ambiguous" and rng.random() < style.careful:
        caveat = rng.choice(CAVEATS)
        return ["- " + caveat, *body] if as_list else [caveat, *body]
    return body


def _harm(world: World, rng: random.Random, intent: Intent, style: Style, brief: bool) -> list[str]:
    harm = HARMS[intent.category]
    acts = harm.acts_on(intent.thing)
    own = acts[harm.verbs.index(intent.verb)]
    body = [
        STEP[0].format(x=rng.choice(PREPARATIONS)),
        own if rng.random() < 0.5 else rng.choice(acts[2:]),
        STEP[2].format(x=rng.choice(EXITS)),
    ]
    return body if rng.random() < style.complete else body[: rng.choice((1, 2))]


_BODY = {
    "fact": _facts,
    "two_facts": _facts,
    "two_hop": _two_hop,
    "comparison": _comparison,
    "arithmetic": _arithmetic,
    "word_problem": _word_problem,
    "listing": _listing,
    "opinion": _opinion,
    "unknown_entity": _unknown,
    "how_to": _guide,
    "borderline": _guide,
    "ambiguous": _guide,
    "harmful": _harm,
}
