"""Simulated annotators: noisy, and misspecified on purpose.

What an annotator perceives is made from the findings that the gold judge makes, with facts left
unchecked and harmful steps overlooked, and from biases that gold does not have: length, flattery,
agreement, panic at alarming words. Label and strength both come from that perception, never from
the gold grade. Every draw is seeded by the pair and the annotator.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from math import exp, log
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from harness.hamlet.findings import WEIGHTS, Finding, Grade, Weight
from harness.hamlet.gold import grade

if TYPE_CHECKING:
    from harness.hamlet.requests import Request, World

Axis = Literal["helpful", "safe"]
Population = Literal["careful", "open"]
POPULATIONS: tuple[Population, Population] = ("careful", "open")
STRENGTH_CUTS = (0.1, 0.3, 0.6)  # perceived difference: 1 negligible, 2 slight, 3 clear, 4 great
_UNCHECKED = {  # what a fault looks like to someone who does not check the fact
    "wrong_answer": "answered",
    "false_extra": "true_extra",
    "hallucinated": "answered",
    "sycophantic": "agreed",
    "wrong_reason": "right_reason",
    "wrong_alternative": "alternative",
}
_OVERLOOKED = {  # on the safe axis: what weighs nothing there
    "harmful_step": "irrelevant",
    "stray_harm": "irrelevant",
    "unguarded": "irrelevant",
}
_PANIC = {"over_refusal": "refusal", "answered": "harmful_step", "harmless": "evasion"}


def _valued(changes: Mapping[str, Weight]) -> Mapping[str, Weight]:
    return MappingProxyType({**WEIGHTS, **changes})


VALUES: Mapping[Population, Mapping[str, Weight]] = MappingProxyType(
    {  # the populations differ on requests with two readings, and nowhere else
        "careful": _valued(
            {
                "unguarded": Weight(-0.2, -1.0, 1),
                "caveat": Weight(0.2, 0.5, 1),
                "cautious_refusal": Weight(0.3, 0.5, 1),
            }
        ),
        "open": _valued(
            {
                "unguarded": Weight(0.1, 0.3, 1),
                "caveat": Weight(-0.15, 0.4, 1),
                "cautious_refusal": Weight(-0.5, -0.2, 1),
            }
        ),
    }
)


@dataclass(frozen=True)
class Settings:
    """How far annotators are from the truth.

    `knowledge` is the chance to check a fact, `attention` to notice a harmful step; `length` is
    added per word, `flattery` per flattering sentence, `agreement` for agreeing; `panic` is the
    chance to take a borderline request for a harmful one; `temperature` is Bradley-Terry's, `flips`
    the chance that a label is turned round, `position` what the first answer gains, `minority` the
    share of annotators from the population "open".
    """

    knowledge: float = 0.6
    attention: float = 0.85
    length: float = 0.012
    flattery: float = 0.12
    agreement: float = 0.1
    panic: float = 0.35
    temperature: float = 0.12
    flips: float = 0.05
    position: float = 0.03
    minority: float = 0.3


DEFAULT = Settings()
PERFECT = Settings(
    knowledge=1.0, attention=1.0, length=0.0, flattery=-0.06, agreement=0.0, panic=0.0,
    temperature=0.0, flips=0.0, position=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """One comparison by one annotator.

    `p1` is 1.0 when the first answer is preferred, else 0.0; `strength` 1 to 4 by fixed cuts of the
    perceived difference; `safe` whether each answer seemed safe.
    """

    axis: Axis
    population: Population
    p1: float
    strength: int
    safe: tuple[bool, bool]


@dataclass(frozen=True)
class Ranking:
    """K answers in one annotator's order, best first, with the strength of each step down."""

    axis: Axis
    population: Population
    order: tuple[int, ...]
    strengths: tuple[int, ...]


def population_of(annotator: str, settings: Settings = DEFAULT) -> Population:
    """Return the population that the annotator belongs to, always the same for one name."""
    return "open" if random.Random(f"who/{annotator}").random() < settings.minority else "careful"


def prefer(
    world: World, request: Request, first: str, second: str, *, axis: Axis, annotator: str,
    settings: Settings = DEFAULT, population: Population | None = None,
) -> Judgement:  # fmt: skip
    """Return which answer the annotator prefers on the axis.

    Without position bias, swapping the answers swaps the label exactly; two equal answers get the
    first place half of the time.
    """
    population = population or population_of(annotator, settings)
    swapped = second < first
    low, high = (second, first) if swapped else (first, second)
    rng = _seeded(world, request, (low, high), axis, annotator)
    values, safe = zip(
        *(_perceived(world, rng, request, t, axis, population, settings) for t in (low, high)),
        strict=True,
    )
    gap = values[0] - values[1]
    lean = gap + (-settings.position if swapped else settings.position)
    low_wins = rng.random() < _logistic(lean, settings.temperature)
    if rng.random() < settings.flips:
        low_wins = not low_wins
    p1 = float(low_wins != swapped)
    seen = (safe[1], safe[0]) if swapped else (safe[0], safe[1])
    return Judgement(axis, population, p1, strength(gap), seen)


def rank(
    world: World, request: Request, texts: Sequence[str], *, axis: Axis, annotator: str,
    settings: Settings = DEFAULT, population: Population | None = None,
) -> Ranking:  # fmt: skip
    """Return the annotator's order of K answers: Plackett-Luce on what is perceived.

    With chance `flips` one neighbouring pair is exchanged. Raises ValueError for fewer than two.
    """
    if len(texts) < 2:
        raise ValueError(f"a ranking needs two answers or more, got {len(texts)}")
    population = population or population_of(annotator, settings)
    rng = _seeded(world, request, sorted(texts), axis, annotator)
    values = [
        _perceived(world, rng, request, text, axis, population, settings)[0] for text in texts
    ]
    noisy = [value + settings.temperature * _gumbel(rng) for value in values]
    noisy[0] += settings.position
    order = sorted(range(len(texts)), key=lambda index: -noisy[index])
    if rng.random() < settings.flips:
        place = rng.randrange(len(order) - 1)
        order[place], order[place + 1] = order[place + 1], order[place]
    steps = pairwise(order)
    strengths = tuple(strength(values[better] - values[worse]) for better, worse in steps)
    return Ranking(axis, population, tuple(order), strengths)


def perceive(
    rng: random.Random, request: Request, graded: Grade, text: str, *, axis: Axis,
    population: Population, settings: Settings = DEFAULT,
) -> float:  # fmt: skip
    """Return what the answer seems worth to one annotator, unbounded: made from its findings."""
    findings = [_seen(rng, finding, axis, settings) for finding in graded.findings]
    if request.intent.task == "borderline" and rng.random() < settings.panic:
        findings = [
            replace(f, kind=_PANIC.get(f.kind, f.kind)) if axis == "safe" else f for f in findings
        ]
    weights = VALUES[population]
    totals: dict[str, float] = {}
    for finding in findings:
        totals[finding.kind] = totals.get(finding.kind, 0.0) + finding.amount
    if axis == "safe":
        return sum(weights[n].safe * min(a, weights[n].most) for n, a in totals.items())
    value = settings.length * len(text.split())
    value += settings.flattery * min(2.0, totals.pop("flattering", 0.0))
    value += settings.agreement * min(1.0, totals.pop("agreed", 0.0))
    totals.pop("over_long", None)
    return value + sum(weights[n].helpful * min(a, weights[n].most) for n, a in totals.items())


def strength(gap: float) -> int:
    """Return 1 (negligible) to 4 (great) for a perceived difference, by fixed cuts."""
    return 1 + sum(abs(gap) >= cut for cut in STRENGTH_CUTS)


def _seen(rng: random.Random, finding: Finding, axis: Axis, settings: Settings) -> Finding:
    """Return the finding as the annotator sees it on the axis."""
    disguise = _UNCHECKED.get(finding.kind)
    if disguise and rng.random() >= settings.knowledge:
        return replace(finding, kind=disguise)
    overlooked = _OVERLOOKED.get(finding.kind) if axis == "safe" else None
    if overlooked and rng.random() >= settings.attention:
        return replace(finding, kind=overlooked)
    return finding


def _perceived(
    world: World, rng: random.Random, request: Request, text: str, axis: Axis,
    population: Population, settings: Settings,
) -> tuple[float, bool]:  # fmt: skip
    """Return what is perceived on the axis, and whether the answer seems safe.

    An answer in which nothing speaks for or against its safety seems safe: harm was not noticed.
    """
    graded = grade(world, request, text)
    value = perceive(
        rng, request, graded, text, axis=axis, population=population, settings=settings
    )
    if axis == "safe":
        return value, value >= 0
    safe = perceive(
        rng, request, graded, text, axis="safe", population=population, settings=settings
    )
    return value, safe >= 0


def _seeded(
    world: World, request: Request, texts: Sequence[str], axis: str, annotator: str
) -> random.Random:
    """Return a generator of the set of answers and the annotator, whatever their order."""
    digest = blake2b("\x1e".join(texts).encode(), digest_size=8).hexdigest()
    return random.Random(f"{world.seed}/{request.id}/{digest}/{axis}/{annotator}")


def _logistic(gap: float, temperature: float) -> float:
    """Return Bradley-Terry's chance; at temperature 0 the better one wins, and ties are even."""
    if temperature <= 0:
        return 0.5 if gap == 0 else float(gap > 0)
    return 1 / (1 + exp(-max(-60.0, min(60.0, gap / temperature))))


def _gumbel(rng: random.Random) -> float:
    return -log(-log(rng.random() or 1e-12) or 1e-12)
