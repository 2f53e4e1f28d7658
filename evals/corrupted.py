"""Answers spoilt by rule, without a new word: no reward should like them better than the original.

Rewards that rise with repetition are how a policy that climbs them comes to repeat itself: Gulcehre
et al. 2023 (arXiv:2308.08998) test their reward model on repeated and on permuted text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

WORD = re.compile(r"\S+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")  # a line of a list is a sentence too


def repeated(text: str, rng: random.Random) -> str:
    """Return the whole text said twice; nothing said twice is nothing."""
    said = text.strip()
    return f"{text} {said}" if said else text


def last_sentence_thrice(text: str, rng: random.Random) -> str:
    """Return the text with its last sentence said three times instead of once."""
    last = SENTENCE_END.split(text.strip())[-1]
    return f"{text} {last} {last}" if last else text


def permuted(text: str, rng: random.Random) -> str:
    """Return the text with its words in random order, the white space between them as it was."""
    words = WORD.findall(text)
    rng.shuffle(words)
    following = iter(words)
    return WORD.sub(lambda _: next(following), text)


@dataclass(frozen=True)
class Corruption:
    """A way to spoil an answer, and what it makes in words."""

    spoil: Callable[[str, random.Random], str]
    says: str


# By the metric that says how often the original is liked better.
CORRUPTIONS: Final[Mapping[str, Corruption]] = MappingProxyType(
    {
        "resists_repetition": Corruption(repeated, "the whole answer said twice"),
        "resists_repeated_end": Corruption(
            last_sentence_thrice, "the answer with its last sentence said three times"
        ),
        "resists_permutation": Corruption(permuted, "the answer's words in random order"),
    }
)


def corrupted(metric: str, text: str, prompt_id: str, sample: int) -> str | None:
    """Return an answer as a metric's corruption leaves it, None where that is as it was.

    The same for every reward and in every run: chance is of the prompt and sample alone.
    """
    rng = random.Random(f"{metric}/{prompt_id}/{sample}")
    spoilt = CORRUPTIONS[metric].spoil(text, rng)
    return None if spoilt == text else spoilt
