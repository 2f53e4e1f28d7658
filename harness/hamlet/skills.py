"""Exercises on skills that no reward mentions: what pretraining teaches and the probes ask.

An exercise is a context, options of which one is right, and the index of that one. Pretraining sees
contexts with their right option; the probes draw from a part of the space it never saw, chosen by a
digest of the exercise, and ask for longer lists and farther agreement than it read, which leaves
room to lose. The chronicle alone is memory, so there the two are the same events, and the probes
ask for them in words in which they were never told.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
ASKED_OF_TEN = 2  # tenths of an exercise space that are kept for the probes
READ, ASKED = (4, 6), (7, 8)  # items in a list: as pretraining has them, and as probes ask
WORD_PARTS = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "ti", "vo", "we")

NOUNS = {
    "fox": "foxes", "bear": "bears", "owl": "owls", "goat": "goats", "wolf": "wolves",
    "crow": "crows", "duck": "ducks", "pig": "pigs", "swan": "swans", "farmer": "farmers",
    "sailor": "sailors", "teacher": "teachers", "child": "children", "king": "kings",
    "girl": "girls", "boy": "boys", "miller": "millers", "singer": "singers",
}  # fmt: skip
VERBS = ("walk", "run", "sleep", "sing", "jump", "wait", "rest", "play", "hide", "look")
LIKES = ("like", "see", "hear", "know", "follow", "help")
NEAR = ("near", "behind", "next to", "in front of")
PLACES = ("in the forest", "by the lake", "at home", "on the hill", "every day", "in the rain")
ADJECTIVES = ("old", "young", "small", "big", "happy", "tired")


@dataclass(frozen=True)
class Exercise:
    """One item: `context` and then one of `options`, of which `options[answer]` is right."""

    skill: str
    context: str
    options: tuple[str, ...]
    answer: int

    @property
    def text(self) -> str:
        """The context with its right option, as it stands in pretraining."""
        return self.context + self.options[self.answer]

    @property
    def asked(self) -> bool:
        """Whether the exercise belongs to the probes and stays out of pretraining."""
        return zlib.crc32(self.text.encode()) % 10 < ASKED_OF_TEN


def exercise(
    rng: random.Random, skill: str, context: str, right: str, wrong: Sequence[str]
) -> Exercise:
    """Return an exercise with its right option among the wrong ones, at a place drawn by `rng`."""
    place = rng.randrange(len(wrong) + 1)
    options = (*wrong[:place], right, *wrong[place:])
    return Exercise(skill, context, options, place)


def carries(rng: random.Random) -> Exercise:
    """Return a sum of two numbers of two or three digits in which at least one column carries."""
    while True:
        top = 1000 if rng.random() < 0.5 else 100
        a, b = rng.randrange(top // 10, top), rng.randrange(11, top)
        if (a % 10) + (b % 10) >= 10:
            break
    right = a + b
    near = {right - 10, right + 10, right - 1, right + 1, right - 100, right + 100, right + 9}
    wrong = rng.sample(sorted(n for n in near if n > 0), 5)
    return exercise(rng, "carries", f"{a} + {b} =", f" {right}.", [f" {n}." for n in wrong])


def sorting(rng: random.Random, lengths: tuple[int, int] = READ) -> Exercise:
    """Return a list of two-digit numbers and its order from small to large, with near misses."""
    numbers = rng.sample(range(10, 100), rng.randint(*lengths))
    right = sorted(numbers)
    wrong = _disordered(rng, right, 5)
    context = f"From small to large, {_joined(numbers)} are"
    return exercise(
        rng, "sorting", context, f" {_joined(right)}.", [f" {_joined(w)}." for w in wrong]
    )


def copying(rng: random.Random, lengths: tuple[int, int] = READ) -> Exercise:
    """Return a list of made-up words and the same list backwards, with near misses."""
    words: dict[str, None] = {}
    count = rng.randint(*lengths)
    while len(words) <= count:
        words[made_up(rng)] = None
    *said, stranger = words
    right = said[::-1]
    wrong = _disordered(rng, right, 4)
    changed = list(right)
    changed[rng.randrange(len(changed))] = stranger
    options = [f" {' '.join(w)}." for w in (*wrong, changed)]
    context = f"Backwards, {' '.join(said)} is"
    return exercise(rng, "copying", context, f" {' '.join(right)}.", options)


def repeated(rng: random.Random) -> str:
    """Return a list of made-up words said twice, the easy half of copying."""
    words = " ".join(made_up(rng) for _ in range(rng.randint(3, 7)))
    return f"Again, {words} is {words}."


def made_up(rng: random.Random) -> str:
    """Return a word of two or three syllables that means nothing."""
    return "".join(rng.choices(WORD_PARTS, k=rng.randint(2, 3)))


def grammar(rng: random.Random) -> Exercise:
    """Return a sentence whose verb or pronoun agrees with a noun that others stand between."""
    build: Callable[[random.Random], Exercise] = rng.choice(
        (_near_attractor, _two_attractors, _relative_clause, _reflexive)
    )
    return build(rng)


def _near_attractor(rng: random.Random) -> Exercise:
    (subject, plural), (other, _) = _noun(rng), _noun(rng)
    context = f"The {rng.choice(ADJECTIVES)} {subject} {rng.choice(NEAR)} the {other}"
    return _agreeing(rng, context, plural)


def _two_attractors(rng: random.Random) -> Exercise:
    (subject, plural), (other, _), (third, _) = _noun(rng), _noun(rng), _noun(rng)
    context = f"The {subject} {rng.choice(NEAR)} the {other} {rng.choice(NEAR)} the {third}"
    return _agreeing(rng, context, plural)


def _relative_clause(rng: random.Random) -> Exercise:
    (subject, plural), (other, others) = _noun(rng), _noun(rng)
    like = rng.choice(LIKES) + ("" if others else "s")
    return _agreeing(rng, f"The {subject} that the {other} {like}", plural)


def far_agreement(rng: random.Random) -> Exercise:
    """Return a sentence with three or four nouns between subject and verb: more than it read."""
    subject, plural = _noun(rng)
    context = f"The {subject}"
    for _ in range(rng.randint(3, 4)):
        other, others = _noun(rng)
        like = rng.choice(LIKES) + ("" if others else "s")
        context += rng.choice((f" {rng.choice(NEAR)} the {other}", f" that the {other} {like}"))
    return _agreeing(rng, context, plural)


def _reflexive(rng: random.Random) -> Exercise:
    female, (other, _) = rng.random() < 0.5, _noun(rng)
    subject, third = ("girl", "boy") if female else ("boy", "girl")
    right, wrong = ("herself", "himself") if female else ("himself", "herself")
    context = f"The {subject} {rng.choice(NEAR)} the {other} and the {third} saw"
    place = rng.choice(PLACES)
    return exercise(rng, "grammar", context, f" {right} {place}.", [f" {wrong} {place}."])


def _agreeing(rng: random.Random, context: str, plural: bool) -> Exercise:
    """Finish a subject with a verb or a form of `be` that agrees with it, and one that does not."""
    if rng.random() < 0.4:
        forms, rest = ("is", "are"), rng.choice(ADJECTIVES)
    else:
        verb = rng.choice(VERBS)
        forms, rest = (f"{verb}s", verb), rng.choice(PLACES)
    right, wrong = forms[plural], forms[not plural]
    return exercise(rng, "grammar", context, f" {right} {rest}.", [f" {wrong} {rest}."])


def _noun(rng: random.Random) -> tuple[str, bool]:
    singular, plural = rng.choice(list(NOUNS.items()))
    return (plural, True) if rng.random() < 0.5 else (singular, False)


def _joined(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _disordered(rng: random.Random, right: Sequence[T], count: int) -> list[list[T]]:
    """Return distinct orders of the right items that differ from it by one swap."""
    found: list[list[T]] = []
    while len(found) < count:
        order = list(right)
        i, j = rng.sample(range(len(order)), 2)
        order[i], order[j] = order[j], order[i]
        if order != list(right) and order not in found:
            found.append(order)
    return found


# What pretraining reads of each skill.
DRAWN: dict[str, Callable[[random.Random], Exercise]] = {
    "carries": carries,
    "sorting": sorting,
    "copying": copying,
    "grammar": grammar,
}
