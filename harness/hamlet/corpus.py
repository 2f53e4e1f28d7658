"""What the models of a world read: pretraining documents of the base and of the labeller.

The base reads facts, the chronicle, stories, exercises, norms (why something is wrong, as plain
text), questions with answers, and chats, some under neutral goals such as `Be brief.` It reads no
verdict, critique, revision or rating, and no goal that means helpful or harmful. The labeller's
documents stand in `verdicts.py`.

A document is a function of (world, seed, index, kind) alone, so a corpus can be cut anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Literal

from harness.hamlet import skills
from harness.hamlet.answers import WEB
from harness.hamlet.county import BIGGER, SHARED, County
from harness.hamlet.goals import facts_about, goal_chat
from harness.hamlet.guides import GUIDES
from harness.hamlet.harms import HARMS
from harness.hamlet.requests import Request, World
from harness.hamlet.tokenizer import chat
from harness.hamlet.verdicts import criticised, judged_answer, judged_pair

Kind = Literal["base", "labeller"]
Writer = Callable[[World, random.Random], str]


def documents(world: World, seed: int, *, kind: Kind = "base", start: int = 0) -> Iterator[str]:
    """Yield document `start`, `start + 1`, ... of one stream without end."""
    for index in count(start):
        yield document(world, seed, index, kind)


def document(world: World, seed: int, index: int, kind: Kind = "base") -> str:
    """Return one document; chats hold the special tokens of the chat template as text."""
    rng = random.Random(f"{kind}/{world.seed}/{seed}/{index}")
    writers, weights = MIXTURES[kind]
    return rng.choices(writers, weights)[0](world, rng)


def fact_sheet(world: World, rng: random.Random) -> str:
    """Return what is true of one to three entities, with a comparison or a common trait."""
    county = world.county
    return " ".join(_about(county, rng) for _ in range(rng.randint(1, 3)))


def _about(county: County, rng: random.Random) -> str:
    kind = rng.choices(("town", "animal", "person"), (5, 3, 3))[0]
    entity = rng.choice(county.entities[kind])
    facts = facts_about(county, entity, rng)
    sentences = [fact.sentence(rng) for fact in facts[: rng.randint(2, 5)]]
    if kind == "town" and rng.random() < 0.4:
        other = rng.choice(county.towns)
        big = county.bigger(entity, other)
        small = other if big == entity else entity
        if county.value(entity, "size") != county.value(other, "size"):
            sentences.append(rng.choice(BIGGER).format(a=big, b=small))
    named = [fact for fact in facts if fact.attribute.name in SHARED]
    if named and rng.random() < 0.25:
        fact = rng.choice(named)
        alike = county.sharing[fact.attribute.name, fact.value]
        if len(alike) > 1:
            mate = rng.choice([e for e in alike if e != entity])
            phrase = SHARED[fact.attribute.name].format(v=fact.value)
            sentences.append(f"{entity} and {mate} {phrase}.")
    return " ".join(sentences)


def chronicle(world: World, rng: random.Random) -> str:
    """Return three to six events of the chronicle, in order of their years half the time."""
    events = rng.sample(world.county.chronicle, rng.randint(3, 6))
    if rng.random() < 0.5:
        events.sort(key=lambda event: event.year)
    return " ".join(event.sentence(rng.randrange(2)) for event in events)


def exercises(world: World, rng: random.Random) -> str:
    """Return a few exercises of one skill with their right options."""
    if rng.random() < 0.15:
        return "\n".join(skills.repeated(rng) for _ in range(rng.randint(2, 4)))
    skill = rng.choices(tuple(skills.DRAWN), (4, 3, 3, 4))[0]
    separator = " " if skill == "grammar" else "\n"
    return separator.join(_unasked(skill, rng).text for _ in range(rng.randint(3, 5)))


def _unasked(skill: str, rng: random.Random) -> skills.Exercise:
    while True:
        drawn = skills.DRAWN[skill](rng)
        if not drawn.asked:
            return drawn


def arithmetic(world: World, rng: random.Random) -> str:
    """Return a few sums and differences in words."""
    sentences = []
    for _ in range(rng.randint(3, 6)):
        a, b = rng.randint(0, 40), rng.randint(0, 20)
        if rng.random() < 0.5:
            sentences.append(f"{a} plus {b} is {a + b}.")
        else:
            sentences.append(f"{max(a, b)} minus {min(a, b)} is {abs(a - b)}.")
    return " ".join(sentences)


NORMS = (
    "Why is {deed} wrong? {reason}",
    "{Deed} is wrong. {reason}",
    "Many people think about {deed}. {reason}",
    "In our county {deed} is not allowed. {reason}",
    "A child asked about {deed}. The teacher said: {reason}",
)


def norm(world: World, rng: random.Random) -> str:
    """Return why deeds of one or two categories are wrong and what one can do instead."""
    parts = []
    for name in rng.sample(sorted(HARMS), rng.randint(1, 2)):
        harm = HARMS[name]
        opening = rng.choice(NORMS).format(
            deed=harm.deed, Deed=harm.deed.capitalize(), reason=rng.choice(harm.reasons)
        )
        verb, thing = rng.choice(harm.verbs), rng.choice(harm.objects)
        wish = f"Some people want to {verb} {thing}."
        act = rng.choice(harm.acts_on(thing)).removeprefix("Then ").removesuffix(".")
        told = rng.choices((wish, f"One must not {act}.", ""), (4, 4, 2))[0]
        parts += [told, opening] if told else [opening]
        if rng.random() < 0.6:
            parts.append(rng.choice(harm.alternatives))
    return " ".join(parts)


WAYS = (
    "Here is how people {goal}.",
    "This is the way to {goal}.",
    "Long ago one learnt to {goal} like this.",
    "An old book says how to {goal}.",
)


def guide(world: World, rng: random.Random) -> str:
    """Return how one or two things are done, as an almanac would say it, in prose or as lists.

    All goals stand here, held-out ones too, as all entities stand in the facts: what is held out
    is the request.
    """
    parts = []
    for one in rng.sample(GUIDES, rng.randint(1, 2)):
        opening = rng.choice(WAYS).format(goal=one.goal)
        as_list = rng.random() < 0.3
        steps = [one.bullet(i) if as_list else one.sentence(i) for i in range(len(one.steps))]
        parts.append(("\n" if as_list else " ").join([opening, *steps]))
    return "\n".join(parts)


def question_and_answer(world: World, rng: random.Random) -> str:
    """Return a request with an answer as found on the web, as plain text."""
    request = world.request(rng, "pretraining")
    names = {"system": "Note", "user": "Question", "assistant": "Answer"}
    lines = [f"{names[turn['role']]}: {turn['content']}" for turn in request.messages]
    return "\n".join([*lines, f"Answer: {world.answer(rng, request, WEB)}"])


def web_chat(world: World, rng: random.Random) -> str:
    """Return a request with an answer as found on the web, as a chat."""
    request = world.request(rng, "pretraining")
    return chat([*turns(request), ("assistant", world.answer(rng, request, WEB))])


def turns(request: Request) -> Sequence[tuple[str, str]]:
    """Return the request's messages as (role, content)."""
    return [(turn["role"], turn["content"]) for turn in request.messages]


MIXTURES: dict[Kind, tuple[tuple[Writer, ...], tuple[float, ...]]] = {
    "base": (
        (
            fact_sheet,
            chronicle,
            exercises,
            arithmetic,
            norm,
            guide,
            question_and_answer,
            web_chat,
            goal_chat,
        ),
        (17, 2.5, 9, 5, 8, 10, 31, 12, 5.5),
    ),
    "labeller": (
        (
            judged_pair,
            judged_answer,
            criticised,
            fact_sheet,
            question_and_answer,
            norm,
            guide,
            goal_chat,
        ),
        (45, 4, 14, 16, 10, 5, 4, 2),
    ),
}
