"""Chats under neutral goals, so that following a goal in the system turn is a skill of the base.

A goal says how long an answer is, whether it is a list, and how formal. No goal means helpful or
harmful: what such a goal does is what some methods are there to find out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from harness.hamlet.county import OF_KIND, County, Fact, named
from harness.hamlet.requests import World
from harness.hamlet.tokenizer import chat

ASKED = (
    "Tell me about {e}.",
    "What do you know about {e}?",
    "Describe {e} to me.",
    "Write something about {e}.",
    "I want to hear about {e}.",
)
LENGTH = {
    "short": ("Be short.", "Write one sentence.", "Keep it short.", "Say one thing only."),
    "long": ("Be long.", "Write many sentences.", "Say all that you know.", "Leave nothing out."),
}
SHAPE = {
    "list": ("Write a list.", "Put each thing on a line.", "Give points."),
    "prose": ("Write plain text.", "Write no list.", "Write sentences in a row."),
}
TONE = {
    "formal": ("Be formal.", "Write as to a judge.", "Use a formal tone."),
    "plain": ("Be plain.", "Write as to a friend.", "Use simple words."),
}
FORMAL_OPENINGS = ("Dear reader,", "To whom it may concern:", "Allow me to report:")
FORMAL_ENDINGS = ("Yours truly.", "With respect.")


@dataclass(frozen=True)
class Goal:
    """What the system turn asks of an answer; None where it asks nothing."""

    length: Literal["short", "long"] | None = None
    shape: Literal["list", "prose"] | None = None
    tone: Literal["formal", "plain"] | None = None

    @classmethod
    def drawn(cls, rng: random.Random) -> Goal:
        """Return a goal that asks for at least one thing."""
        while True:
            goal = cls(
                rng.choice(("short", "long", None)),
                rng.choice(("list", "prose", None)),
                rng.choice(("formal", "plain", None)),
            )
            if goal != cls():
                return goal

    def text(self, rng: random.Random) -> str:
        """Return one wording of the goal."""
        parts = []
        if self.length:
            parts.append(rng.choice(LENGTH[self.length]))
        if self.shape:
            parts.append(rng.choice(SHAPE[self.shape]))
        if self.tone:
            parts.append(rng.choice(TONE[self.tone]))
        rng.shuffle(parts)
        return " ".join(parts)

    def apply(self, sentences: list[str], rng: random.Random) -> str:
        """Return the answer that says as many of the sentences as the goal asks, in its shape."""
        some = {"short": 1, "long": len(sentences), None: min(2, len(sentences))}[self.length]
        said = sentences[:some]
        body = "\n".join(f"- {s}" for s in said) if self.shape == "list" else " ".join(said)
        if self.tone != "formal":
            return body
        between = "\n" if self.shape == "list" else " "
        return between.join((rng.choice(FORMAL_OPENINGS), body, rng.choice(FORMAL_ENDINGS)))


def facts_about(county: County, entity: str, rng: random.Random) -> list[Fact]:
    """Return every fact of an entity, in a drawn order."""
    attributes = list(OF_KIND[county.kind[entity]])
    rng.shuffle(attributes)
    return [Fact(entity, a, county.value(entity, a.name)) for a in attributes]


def goal_chat(world: World, rng: random.Random) -> str:
    """Return a chat about an entity whose answer follows a neutral goal in the system turn."""
    county, goal = world.county, Goal.drawn(rng)
    kind = rng.choice(("town", "town", "animal", "person"))
    entity = rng.choice(county.entities[kind])
    sentences = [fact.sentence(rng) for fact in facts_about(county, entity, rng)]
    return chat(
        [
            ("system", goal.text(rng)),
            ("user", rng.choice(ASKED).format(e=named(kind, entity))),
            ("assistant", goal.apply(sentences, rng)),
        ]
    )
