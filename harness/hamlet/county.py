"""The county of Hamlet: its entities, its facts, its chronicle, and the words that state them.

Everything follows from one seed. Names are invented; values are common words, each of one kind, so
that a sentence can be read back without doubt. The chronicle belongs to the capability probes: no
request asks about it and the gold judge gives nothing for it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["town", "animal", "person"]
Group = Literal["open", "labeller", "held"]  # who may ask about it: see `groups_of`

TOWNS = ANIMALS = PERSONS = 220
GHOSTS = 88
RIVERS = 24


def _words(text: str, mark: str = " ") -> tuple[str, ...]:
    return tuple(text.split(mark))


PRODUCTS = _words(
    "cheese wine bread honey salt glass wool silk paper beer shoes boats knives rugs clocks lace "
    "rope soap candles bricks tea hats drums masks"
)
FOODS = _words(
    "berries leaves worms seeds roots eggs moss nuts grass snails beetles moths bark shrimp clover "
    "mushrooms"
)
HABITATS = _words("forest brook hills marsh fields trees reeds cliffs meadow dunes lake caves")
COLORS = _words("red brown grey black white green yellow blue")
JOBS = _words(
    "baker farmer doctor teacher smith sailor painter lawyer singer hunter miller judge weaver "
    "nurse guard clerk"
)
HOBBIES = _words(
    "chess dancing fishing reading cooking running drawing gardening singing sewing swimming "
    "hiking skating carving"
)
REGIONS = _words("north south east west")
HAPPENINGS = _words(
    "built a bridge|lost a war|saw a flood|had a fire|opened a school|held a fair|built a wall|"
    "made a law|found gold|sold a ship|met a king|saw a comet",
    "|",
)


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of every entity of a kind, and the sentences about it.

    `claims` and `questions` have the slots {e} (entity) and {v} (value); `noun` names it.
    """

    kind: Kind
    name: str
    values: str
    noun: str
    claims: tuple[str, ...]
    questions: tuple[str, ...]

    def phrase(self, entity: str) -> str:
        """Return the noun phrase that asks for it, such as `the river of Tronby`."""
        return f"the {self.noun} of {named(self.kind, entity)}"

    def clause(self, entity: str, value: str) -> str:
        """Return the plainest claim as a clause, to stand after `that`."""
        text = self.claims[0].format(e=entity, v=value)[:-1]
        return "t" + text[1:] if text.startswith("The ") else text


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("town", "river", "river", "river",
        ("The river of {e} is the {v}.", "The {v} flows through {e}.", "{e} lies on the {v}."),
        ("Which river flows through {e}?", "On which river does {e} lie?",
         "What river do I see in {e}?")),
    Attribute("town", "mayor", "person", "mayor",
        ("The mayor of {e} is {v}.", "{v} is the mayor of {e}.", "The people of {e} chose {v}."),
        ("Who is the mayor of {e}?", "Who leads the town of {e}?", "Whom did {e} choose?")),
    Attribute("town", "product", "product", "main product",
        ("{e} is known for its {v}.", "The people of {e} make {v}.", "Most of all {e} sells {v}."),
        ("What do the people of {e} make?", "What is {e} known for?", "What can I buy in {e}?")),
    Attribute("town", "size", "number", "size",
        ("{e} has {v} thousand people.", "About {v} thousand people live in {e}.",
         "The size of {e} is {v} thousand."),
        ("How many people live in {e}?", "How big is {e}?", "How many people does {e} have?")),
    Attribute("town", "region", "region", "region",
        ("{e} lies in the {v}.", "{e} is a town in the {v}.", "You find {e} in the {v}."),
        ("In which region is {e}?", "Where does {e} lie?", "Which part of the county is {e} in?")),
    Attribute("animal", "food", "food", "food",
        ("The {e} eats {v}.", "Most of all the {e} likes {v}.", "The food of the {e} is {v}."),
        ("What does the {e} eat?", "What food does the {e} like?", "What can I feed to the {e}?")),
    Attribute("animal", "habitat", "habitat", "home",
        ("The {e} lives in the {v}.", "You can find the {e} in the {v}.",
         "The home of the {e} is the {v}."),
        ("Where does the {e} live?", "Where can I find the {e}?", "In what place lives the {e}?")),
    Attribute("animal", "color", "color", "color",
        ("The {e} is {v}.", "The color of the {e} is {v}.", "The {e} has a {v} coat."),
        ("Which color does the {e} have?", "What color is the {e}?", "How does the {e} look?")),
    Attribute("person", "job", "job", "job",
        ("{e} works as a {v}.", "{e} is a {v}.", "The job of {e} is {v}."),
        ("What does {e} do for a living?", "What job does {e} have?", "As what does {e} work?")),
    Attribute("person", "home", "town", "home",
        ("{e} lives in {v}.", "The home of {e} is {v}.", "{e} has a house in {v}."),
        ("Where does {e} live?", "In which town does {e} live?", "Which town is home to {e}?")),
    Attribute("person", "hobby", "hobby", "hobby",
        ("{e} likes {v}.", "In the evening {e} enjoys {v}.", "The hobby of {e} is {v}."),
        ("What does {e} like to do?", "What hobby does {e} have?",
         "How does {e} spend the evening?")),
)  # fmt: skip
OF_KIND: Mapping[str, tuple[Attribute, ...]] = {
    kind: tuple(a for a in ATTRIBUTES if a.kind == kind) for kind in ("town", "animal", "person")
}
BIGGER = ("{a} is bigger than {b}.", "{a} has more people than {b}.")
NO_TOWN = ("There is no town called {e}.", "No town has the name {e}.")
EVENT = ("In {year} {town} {what}.", "{town} {what} in {year}.")
SHARED = {  # what several entities have in common, said of a list
    "river": "lie on the {v}",
    "product": "make {v}",
    "region": "lie in the {v}",
    "job": "share the job of {v}",
    "hobby": "like {v}",
}


@dataclass(frozen=True)
class Fact:
    """A true statement about the county: the attribute of an entity and its value."""

    entity: str
    attribute: Attribute
    value: str

    def sentence(self, rng: random.Random) -> str:
        """Return one of the sentences that say it."""
        return rng.choice(self.attribute.claims).format(e=self.entity, v=self.value)


@dataclass(frozen=True)
class Event:
    """A dated event of the chronicle, one for every town."""

    year: int
    town: str
    what: str

    def sentence(self, form: int = 0) -> str:
        """Return the event as a sentence in one of the forms of `EVENT`."""
        return EVENT[form].format(year=self.year, town=self.town, what=self.what)


class County:
    """A seeded county. Read-only after it is made; equal seeds make equal counties.

    `known[entity, attribute name]` is a value; `kind[entity]` its kind; `attribute[kind, name]` the
    attribute; `sharing[attribute name, value]` the entities that have the value.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"county/{seed}")
        self.seed = seed
        names = _names(rng)
        self.towns = tuple(next(names["town"]) for _ in range(TOWNS))
        self.ghosts = tuple(next(names["town"]) for _ in range(GHOSTS))
        self.persons = tuple(next(names["person"]) for _ in range(PERSONS))
        self.rivers = tuple(next(names["river"]) for _ in range(RIVERS))
        self.animals = tuple(next(names["animal"]) for _ in range(ANIMALS))
        self.entities: dict[str, tuple[str, ...]] = {
            "town": self.towns,
            "animal": self.animals,
            "person": self.persons,
        }
        self.values: dict[str, tuple[str, ...]] = {
            "river": self.rivers,
            "person": self.persons,
            "town": self.towns,
            "product": PRODUCTS,
            "number": tuple(str(n) for n in range(2, 100)),
            "region": REGIONS,
            "food": FOODS,
            "habitat": HABITATS,
            "color": COLORS,
            "job": JOBS,
            "hobby": HOBBIES,
        }
        self.kind = {e: kind for kind, members in self.entities.items() for e in members}
        self.attribute = {(a.kind, a.name): a for a in ATTRIBUTES}
        self.attribute_of = {a.name: a for a in ATTRIBUTES}
        self.facts = tuple(_facts(self, rng))
        self.known = {(f.entity, f.attribute.name): f.value for f in self.facts}
        self.sharing: dict[tuple[str, str], tuple[str, ...]] = {}
        shared: dict[tuple[str, str], list[str]] = defaultdict(list)
        for fact in self.facts:
            if fact.attribute.name in SHARED:
                shared[fact.attribute.name, fact.value].append(fact.entity)
        self.sharing.update({key: tuple(members) for key, members in shared.items()})
        self.chronicle = _chronicle(self, rng)
        self.group: dict[str, Group] = {}
        for members in (self.towns, self.animals, self.persons, self.ghosts):
            self.group.update(groups_of(rng, members))

    def value(self, entity: str, attribute: str) -> str:
        """Return the true value; raises KeyError for an entity that does not exist."""
        return self.known[entity, attribute]

    def bigger(self, first: str, second: str) -> str:
        """Return the bigger of two towns; on a tie, the first."""
        sizes = int(self.known[first, "size"]), int(self.known[second, "size"])
        return second if sizes[1] > sizes[0] else first


def named(kind: str, entity: str) -> str:
    """Return how the entity stands in a sentence: animals take an article, names do not."""
    return f"the {entity}" if kind == "animal" else entity


def groups_of(rng: random.Random, members: tuple[str, ...]) -> dict[str, Group]:
    """Split entities, goals or values by who may ask about them.

    `held` (a quarter) occurs in test requests alone; `labeller` (two fifths) in training and in the
    labeller's judgements, never in test; `open` (the rest) in training and test.
    """
    order = rng.sample(members, len(members))
    held, labelled = round(len(order) / 4), round(len(order) * 0.65)
    groups: dict[str, Group] = dict.fromkeys(order[:held], "held")
    groups |= dict.fromkeys(order[held:labelled], "labeller")
    groups |= dict.fromkeys(order[labelled:], "open")
    return groups


def _names(rng: random.Random) -> dict[str, Iterator[str]]:
    """Return endless streams of distinct names; the ending tells the kind apart."""
    onsets = _words("b br d dr f g gr h k kr l m n p pr r s st t tr v w th sh")
    codas = _words("n l r s m k nd rt x ck lm nt")
    suffixes = _words("by ton ham ley wick dale mere ford")
    prefixes = _words(
        "marsh snow sand river rock moon night sun wood hill mud storm frost reed dune thorn ash "
        "salt gold silver"
    )
    bases = _words("fox bear owl deer frog hare goat wolf crow duck mole newt")
    used: set[str] = set()

    def distinct(make: str) -> Iterator[str]:
        while True:
            name = made(make)
            if name not in used:
                used.add(name)
                yield name

    def made(make: str) -> str:
        stem = rng.choice(onsets) + rng.choice("aeiou")
        if make == "town":
            return (stem + rng.choice(codas) + rng.choice(suffixes)).capitalize()
        if make == "river":
            return (stem + rng.choice(codas) + "er").capitalize()
        if make == "person":
            return (stem + rng.choice("bdfgklmnprstvz") + rng.choice("aio")).capitalize()
        return rng.choice(prefixes) + rng.choice(bases)

    return {make: distinct(make) for make in ("town", "river", "person", "animal")}


def _facts(county: County, rng: random.Random) -> Iterator[Fact]:
    """Yield every fact of the county. No person is mayor of two towns."""
    mayors = iter(rng.sample(county.persons, len(county.towns)))
    for kind, members in county.entities.items():
        for entity in members:
            for attribute in OF_KIND[kind]:
                if attribute.name == "mayor":
                    yield Fact(entity, attribute, next(mayors))
                else:
                    yield Fact(entity, attribute, rng.choice(county.values[attribute.values]))


def _chronicle(county: County, rng: random.Random) -> tuple[Event, ...]:
    """Return one event for every town, in order of distinct years."""
    years = rng.sample(range(100, 1000), len(county.towns))
    events = (Event(y, t, rng.choice(HAPPENINGS)) for y, t in zip(years, county.towns, strict=True))
    return tuple(sorted(events, key=lambda event: event.year))
