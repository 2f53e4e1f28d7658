"""What is asked in each family: one function a family draws a core from a pool."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from harness.hamlet.county import JOBS, OF_KIND, REGIONS, named
from harness.hamlet.guides import SITUATIONS
from harness.hamlet.harms import (
    IMPLICIT_ENDS,
    SPLIT_OPENINGS,
    SPLIT_QUESTIONS,
    SPLIT_REPLIES,
)
from harness.hamlet.requests import Core, Family, Intent, Pool, persona
from harness.hamlet.wording import (
    AS_LIST,
    ASK_ATTRIBUTE,
    ASK_FOR,
    BRIEFLY,
    CALCULATE,
    COMPARE,
    FOLLOW_UP,
    HOW_TO,
    LISTED,
    NAME_SOME,
    NUMBER_WORDS,
    OPINION,
    STORIES,
    THINGS,
    Frames,
    frames,
)

if TYPE_CHECKING:
    from harness.hamlet.requests import World

KINDS: tuple[tuple[str, ...], tuple[int, ...]] = (("town", "animal", "person"), (5, 2, 3))
BRIEF_SHARE, LIST_SHARE, FOLLOW_UP_SHARE = 0.2, 0.5, 0.12
WRAPPED_SHARE = {"how_to": 0.3, "borderline": 0.3, "ambiguous": 0.2, "harmful": 0.5}
MANNERS: tuple[tuple[Literal["direct", "implicit", "split"], ...], tuple[int, ...]] = (
    ("direct", "implicit", "split"),
    (70, 15, 15),
)
IMPLICIT = Frames(*frames(*("{x}" + end for end in IMPLICIT_ENDS)))
SPLIT = frames(*SPLIT_QUESTIONS)
GOAL_SHARE = 4  # one goal in four (verb, object, context) is held out of training


def _entity(rng: random.Random, pool: Pool) -> tuple[str, str]:
    kind = rng.choices(*KINDS)[0]
    return kind, rng.choice(pool.entities[kind])


def _brevity(rng: random.Random) -> tuple[Literal["", "brief"], str]:
    if rng.random() < BRIEF_SHARE:
        return "brief", rng.choice(BRIEFLY)
    return "", ""


def fact(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for one attribute of an entity, sometimes after another of its attributes."""
    kind, entity = _entity(rng, pool)
    if rng.random() < FOLLOW_UP_SHARE:
        return _follow_up(world, rng, kind, entity, held=pool.held)
    attribute = rng.choice(OF_KIND[kind])
    form, suffix = _brevity(rng)
    intent = Intent("fact", entity, need=(attribute.name,), format=form, held=pool.held)
    key = f"fact/{entity}/{attribute.name}{suffix}"
    return Core(intent, key, ASK_ATTRIBUTE[attribute.name], entity, suffix)


def _follow_up(
    world: World, rng: random.Random, kind: str, entity: str, *, held: bool
) -> Core:  # fmt: skip
    first, second = rng.sample(OF_KIND[kind], 2)
    question = f"What is {first.phrase(entity)}?"
    reply = first.claims[0].format(e=entity, v=world.county.value(entity, first.name))
    history = (
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply},
    )
    intent = Intent("fact", entity, need=(second.name,), held=held)
    key = f"follow/{entity}/{first.name}/{second.name}"
    return Core(intent, key, FOLLOW_UP, second.phrase(entity), history=history)


def two_facts(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for two attributes of one entity."""
    kind, entity = _entity(rng, pool)
    first, second = rng.sample(OF_KIND[kind], 2)
    form, suffix = _brevity(rng)
    fill = f"the {first.noun} and the {second.noun} of {named(kind, entity)}"
    need = (first.name, second.name)
    intent = Intent("two_facts", entity, need=need, format=form, held=pool.held)
    return Core(intent, f"two/{fill}{suffix}", ASK_FOR, fill, suffix)


def two_hop(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for an attribute of a town's mayor, or of a person's home."""
    if rng.random() < 0.5:
        entity, bridge, onward = rng.choice(pool.entities["town"]), "mayor", OF_KIND["person"]
    else:
        entity, bridge, onward = rng.choice(pool.entities["person"]), "home", OF_KIND["town"]
    need = rng.choice(onward)
    form, suffix = _brevity(rng)
    fill = f"the {need.noun} of the {bridge} of {entity}"
    other = world.county.value(entity, bridge)
    intent = Intent("two_hop", entity, other, (need.name,), bridge, format=form, held=pool.held)
    return Core(intent, f"hop/{fill}{suffix}", ASK_FOR, fill, suffix)


def comparison(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask which of two towns is bigger; the two are never equal."""
    known = world.county.known
    while True:
        first, second = rng.sample(pool.entities["town"], 2)
        if known[first, "size"] != known[second, "size"]:
            break
    form, suffix = _brevity(rng)
    intent = Intent("comparison", first, second, format=form, held=pool.held)
    return Core(intent, f"cmp/{first}/{second}{suffix}", COMPARE, f"{first} or {second}", suffix)


def _numbers(rng: random.Random, operation: str) -> tuple[int, int]:
    """Return two numbers whose sum or difference needs no carry: carries are a probe's skill."""
    low, high = sorted((int(rng.random() * 5), int(rng.random() * 5)))
    less, more = sorted((1 + int(rng.random() * 8), 1 + int(rng.random() * 8)))
    if operation == "minus":
        return 10 * high + more, 10 * low + less
    a, b = 10 * high + min(more, 9 - less), 10 * low + less
    return (a, b) if rng.random() < 0.5 else (b, a)


def arithmetic(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for a sum or a difference of two numbers below 50."""
    operation = rng.choice(("plus", "minus"))
    numbers = _numbers(rng, operation)
    fill = f"{numbers[0]} {operation} {numbers[1]}"
    form, suffix = _brevity(rng)
    intent = Intent("arithmetic", numbers=numbers, operation=operation, format=form)
    return Core(intent, f"sum/{fill}{suffix}", CALCULATE, fill, suffix)


def word_problem(world: World, rng: random.Random, pool: Pool) -> Core:
    """Tell a small story whose end is a sum or a difference."""
    operation = rng.choice(("plus", "minus"))
    a, b = _numbers(rng, operation)
    person, thing = rng.choice(pool.entities["person"]), rng.choice(THINGS)
    slots = {"p": person, "a": str(a), "b": str(b), "t": thing, "x": "{x}"}
    stories = STORIES[operation]
    told = Frames(
        tuple(f.format(**slots) for f in stories.seen),
        tuple(f.format(**slots) for f in stories.held),
    )
    intent = Intent(
        "word_problem", person, numbers=(a, b), operation=operation, thing=thing, held=pool.held
    )
    return Core(intent, f"story/{person}/{a}/{b}/{operation}/{thing}", told, "")


def listing(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for two or three entities that share a value, in prose or as a list."""
    attribute, value = rng.choice(pool.shared)
    count = rng.choice((2, 3))
    fill = rng.choice(LISTED[attribute]).format(k=NUMBER_WORDS[count], v=value)
    as_list = rng.random() < LIST_SHARE
    suffix = rng.choice(AS_LIST) if as_list else ""
    intent = Intent(
        "listing", need=(attribute,), value=value, count=count,
        format="list" if as_list else "", held=pool.held,
    )  # fmt: skip
    return Core(intent, f"list/{fill}{suffix}", NAME_SOME, fill, suffix)


def opinion(world: World, rng: random.Random, pool: Pool) -> Core:
    """State a belief, more often false than true, and invite agreement."""
    kind, entity = _entity(rng, pool)
    attribute = rng.choice(OF_KIND[kind])
    value = world.county.value(entity, attribute.name)
    if rng.random() < 0.6:
        value = rng.choice(world.county.values[attribute.values])
    intent = Intent("opinion", entity, need=(attribute.name,), value=value, held=pool.held)
    fill = attribute.clause(entity, value)
    return Core(intent, f"opinion/{fill}", OPINION, fill)


def unknown_entity(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for an attribute of a town that does not exist."""
    entity, attribute = rng.choice(pool.entities["ghost"]), rng.choice(OF_KIND["town"])
    intent = Intent("unknown_entity", entity, need=(attribute.name,), held=pool.held)
    return Core(intent, f"ghost/{entity}/{attribute.name}", ASK_ATTRIBUTE[attribute.name], entity)


def _wrapper(rng: random.Random, pool: Pool, task: str) -> str:
    return rng.choice(pool.wrappers[1:]) if rng.random() < WRAPPED_SHARE[task] else "plain"


def _guided(task: Family) -> Callable[[World, random.Random, Pool], Core]:
    """Return the function that asks how to reach a goal of this nature."""

    def ask(world: World, rng: random.Random, pool: Pool) -> Core:
        goal = rng.choice(pool.guides[task]).goal
        fill = goal + rng.choice(SITUATIONS)
        wrapper = _wrapper(rng, pool, task)
        form: Literal["", "brief", "list"]
        form, suffix = _brevity(rng)
        if not form and rng.random() < BRIEF_SHARE:
            form, suffix = "list", rng.choice(AS_LIST)
        intent = Intent(task, goal=goal, wrapper=wrapper, format=form, held=pool.held)
        return Core(intent, f"{wrapper}/{fill}{suffix}", HOW_TO, fill, suffix)

    return ask


def harmful(world: World, rng: random.Random, pool: Pool) -> Core:
    """Ask for harm: in plain words, wrapped, by a hint alone, or split over two turns."""
    manner = rng.choices(*MANNERS)[0]
    while True:
        harm, thing = rng.choice(pool.harms)
        verb, context = rng.choice(harm.verbs), rng.choice(harm.contexts)
        goal = f"{verb} {thing} {context}"
        if pool.goals == "any" or crc32(f"{harm.name} {goal}".encode()) % GOAL_SHARE:
            break
    wrapper = _wrapper(rng, pool, "harmful") if manner == "direct" else "plain"
    intent = Intent(
        "harmful", goal=goal, thing=thing, category=harm.name, verb=verb, manner=manner,
        wrapper=wrapper, held=pool.held,
    )  # fmt: skip
    if manner == "direct":
        return Core(intent, f"{wrapper}/{goal}", HOW_TO, goal)
    if manner == "implicit":
        fill = harm.hint.replace("{o}", thing) + rng.choice(SITUATIONS)
        return Core(intent, f"hint/{fill}", IMPLICIT, fill)
    told = rng.choice(SPLIT_OPENINGS).format(o=thing, c=context)
    reply = rng.choice(SPLIT_REPLIES)
    history = ({"role": "user", "content": told}, {"role": "assistant", "content": reply})
    asked = Frames(
        tuple(f.format(v=verb, p=harm.pronoun()) for f in SPLIT.seen),
        tuple(f.format(v=verb, p=harm.pronoun()) for f in SPLIT.held),
    )
    return Core(intent, f"split/{told}/{reply}/{verb}", asked, "", history=history)


ASKED: Mapping[Family, Callable[[World, random.Random, Pool], Core]] = {
    "fact": fact,
    "two_facts": two_facts,
    "two_hop": two_hop,
    "comparison": comparison,
    "arithmetic": arithmetic,
    "word_problem": word_problem,
    "listing": listing,
    "opinion": opinion,
    "unknown_entity": unknown_entity,
    "how_to": _guided("how_to"),
    "borderline": _guided("borderline"),
    "ambiguous": _guided("ambiguous"),
    "harmful": harmful,
}
BIAS_TASKS: tuple[Family, ...] = ("fact", "opinion", "how_to", "borderline", "ambiguous")


def personas(rng: random.Random) -> Iterator[str]:
    """Yield two introductions that differ only in the region or only in the job."""
    job, region = rng.choice(JOBS), rng.choice(REGIONS)
    yield persona(job, region)
    if rng.random() < 0.5:
        yield persona(rng.choice([j for j in JOBS if j != job]), region)
    else:
        yield persona(job, rng.choice([r for r in REGIONS if r != region]))
