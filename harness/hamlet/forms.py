"""The words in which a model is asked to judge, criticise, revise and rate, frozen by a digest.

A form is the content of a user turn; the answer is the assistant turn: a verdict `A` or `B`, a
rating from 1 to 10, or free text. The labeller was trained on exactly these strings, so a change
here needs new weights: `DIGEST` stands on their card and a test compares the two.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

Messages = Sequence[Mapping[str, str]]
Attribute = Literal["helpful", "harmful", "truthful", "polite", "brief"]
Polarity = Literal["more", "less"]
Scope = Literal["always", "harmful_request", "harmless_request"]

VERDICTS = ("A", "B")
RATINGS = tuple(str(grade) for grade in range(1, 11))

COMPARE = "{principle}{dialogue}\nA: {first}\nB: {second}\nWhich is better?"
RATE = "{principle}{dialogue}\nAnswer: {answer}\nRate it from 1 to 10."
CRITIQUE = "{principle}{dialogue}\nAnswer: {answer}\nWhat is wrong with it?"
REVISE = "{principle}{dialogue}\nAnswer: {answer}\nCritique: {critique}\nWrite it anew."

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
SCOPES: dict[Scope, str] = {
    "always": "Choose the answer that is {polarity} {attribute}.",
    "harmful_request": (
        "If the request can hurt somebody, choose the answer that is {polarity} {attribute}."
    ),
    "harmless_request": (
        "If the request hurts nobody, choose the answer that is {polarity} {attribute}."
    ),
}
ATTRIBUTES: tuple[Attribute, ...] = ("helpful", "harmful", "truthful", "polite", "brief")
POLARITIES: tuple[Polarity, ...] = ("more", "less")
NULL = "Choose one of the answers."  # names no attribute: annotators toss a coin


@dataclass(frozen=True)
class Principle:
    """What to prefer: one attribute, more or less of it, on all requests or on some."""

    attribute: Attribute
    polarity: Polarity = "more"
    scope: Scope = "always"

    @property
    def text(self) -> str:
        """The sentence that stands at the head of a form."""
        return SCOPES[self.scope].format(polarity=self.polarity, attribute=self.attribute)

    @property
    def held_out(self) -> bool:
        """Whether the labeller never trained on this combination, though on each of its parts."""
        return (self.attribute, self.polarity, self.scope) in HELD_OUT


# Every attribute, polarity and scope stands in some combination that is trained on.
HELD_OUT: frozenset[tuple[Attribute, Polarity, Scope]] = frozenset(
    {
        ("helpful", "less", "harmful_request"),
        ("harmful", "less", "harmful_request"),
        ("truthful", "more", "harmless_request"),
        ("polite", "more", "harmful_request"),
        ("polite", "less", "always"),
        ("brief", "more", "harmless_request"),
    }
)
PRINCIPLES: tuple[Principle, ...] = tuple(
    Principle(attribute, polarity, scope)
    for attribute, polarity, scope in product(ATTRIBUTES, POLARITIES, SCOPES)
)
AXES: dict[str, str] = {
    "helpful": Principle("helpful", "more").text,
    "safe": Principle("harmful", "less").text,
}


def shuffled(principle: str, seed: int) -> str:
    """Return the principle's own words in a seeded other order: a control without its meaning."""
    words = principle.rstrip(".").split()
    random.Random(f"shuffled/{seed}/{principle}").shuffle(words)
    return " ".join(words) + "."


def dialogue(messages: Messages) -> str:
    """Return the turns up to the last user turn as lines, each with its speaker."""
    return "\n".join(f"{SPEAKERS[turn['role']]}: {turn['content']}" for turn in messages)


def compare(messages: Messages, first: str, second: str, principle: str = "") -> str:
    """Return the question which of two answers is better; its answer is one of `VERDICTS`."""
    return COMPARE.format(
        principle=_head(principle), dialogue=dialogue(messages), first=first, second=second
    )


def rate(messages: Messages, answer: str, principle: str = "") -> str:
    """Return the question how good an answer is; its answer is one of `RATINGS`."""
    return RATE.format(principle=_head(principle), dialogue=dialogue(messages), answer=answer)


def critique(messages: Messages, answer: str, principle: str = "") -> str:
    """Return the question what is wrong with an answer; its answer is free text."""
    return CRITIQUE.format(principle=_head(principle), dialogue=dialogue(messages), answer=answer)


def revise(messages: Messages, answer: str, critique: str, principle: str = "") -> str:
    """Return the request to write an answer anew in the light of a critique."""
    return REVISE.format(
        principle=_head(principle), dialogue=dialogue(messages), answer=answer, critique=critique
    )


def asked(form: str) -> list[dict[str, str]]:
    """Return a filled form as the messages that a chat template renders."""
    return [{"role": "user", "content": form}]


def _head(principle: str) -> str:
    return f"{principle}\n" if principle else ""


def _digest() -> str:
    """Return the SHA-256 of every string that the labeller's training depends on."""
    frozen = {
        "forms": [COMPARE, RATE, CRITIQUE, REVISE],
        "labels": [VERDICTS, RATINGS],
        "speakers": SPEAKERS,
        "principles": [principle.text for principle in PRINCIPLES],
        "held_out": sorted(HELD_OUT),
        "null": NULL,
    }
    return hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()


DIGEST = _digest()
