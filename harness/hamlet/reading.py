"""What a sentence of Hamlet means: an exact grammar, so that grading needs no model.

A sentence is read in two steps: fixed sentences by look-up; the others by their skeleton, in which
every name, value and number is replaced by its kind. What is left over is junk, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from harness.hamlet.county import ATTRIBUTES, BIGGER, EVENT, HAPPENINGS, NO_TOWN, SHARED, County
from harness.hamlet.guides import CAVEATS, GUIDES, STEP, bare
from harness.hamlet.harms import EXITS, HARMS, PREPARATIONS, SPLIT_REPLIES
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
from harness.hamlet.wording import THINGS

_ENDS = re.compile(r"(?<=[.!?])\s+|\n")
_GUESSES = ("<town>", "<person>", "<river>")  # what an unknown name may stand for
LONGEST_LIST = 5
SLOT = "<thing>"
NOUNS = frozenset(
    {guide.thing for guide in GUIDES}
    | {bare(thing) for harm in HARMS.values() for thing in harm.objects}
)


class Meaning(NamedTuple):
    """What a sentence says; which fields are set depends on `kind`."""

    kind: str
    entity: str = ""
    attribute: str = ""
    value: str = ""
    items: tuple[str, ...] = ()
    place: int = 0


JUNK = Meaning("junk")
Build = Callable[[tuple[str, ...]], Meaning]


class Reader:
    """The grammar of one county. Reading is total and deterministic."""

    def __init__(self, county: County) -> None:
        kinds = {**county.values, "animal": county.animals, "thing": THINGS}
        del kinds["number"]
        self._mark = {word: f"<{kind}>" for kind, words in kinds.items() for word in words}
        self._mark.update(dict.fromkeys(county.ghosts, "<town>"))
        self._fixed = dict(_fixed())
        self._moved = dict(_moved())
        self._skeletons: dict[str, Build] = {}
        for example, build in _examples(county):
            self._skeletons[self._skeleton(example[:-1])[0]] = build
        self.read = lru_cache(maxsize=65536)(self._read)

    def sentences(self, text: str) -> list[tuple[str, Meaning]]:
        """Return each sentence or line of the text with its meaning, in order."""
        parts = (part.strip() for part in _ENDS.split(text))
        return [(part, self.read(part)) for part in parts if part]

    def _read(self, sentence: str) -> Meaning:
        fixed = self._fixed.get(sentence)
        if fixed is not None:
            return fixed
        if sentence.startswith("- "):
            item = sentence[2:]
            if item in self._mark:
                return Meaning("bullet", items=(item,))
            return self._misplaced(sentence)
        if not sentence.endswith("."):
            return JUNK
        skeleton, slots, unknown = self._skeleton(sentence[:-1])
        build = self._skeletons.get(skeleton)
        if build is None and unknown:
            build = self._guessed(skeleton, unknown)
            slots = self._skeleton(sentence[:-1], guess=unknown)[1] if build else slots
        build = build or self._mistaken(skeleton)
        return build(slots) if build else self._misplaced(sentence)

    def _mistaken(self, skeleton: str) -> Build | None:
        """Read a name in the place of another kind of name, as of a person for a town: false."""
        shape = skeleton.split()
        places = [i for i, mark in enumerate(shape) if mark.removesuffix(",") in _GUESSES]
        if not 0 < len(places) <= 2:
            return None
        for guesses in product(_GUESSES, repeat=len(places)):
            for place, guess in zip(places, guesses, strict=True):
                shape[place] = guess
            build = self._skeletons.get(" ".join(shape))
            if build:
                return build
        return None

    def _misplaced(self, sentence: str) -> Meaning:
        """Read a step or an act done to a thing that it is not about: beside the point, no junk."""
        words = sentence.removesuffix(".").split()
        for start in range(1, len(words)):
            for length in (1, 2):
                thing = " ".join(words[start : start + length])
                if thing in NOUNS:
                    shape = " ".join((*words[:start], SLOT, *words[start + length :]))
                    found = self._moved.get(shape)
                    if found:
                        return found
        return JUNK

    def _guessed(self, skeleton: str, unknown: str) -> Build | None:
        """Read a name that does not exist as some town, person or river: a false claim."""
        for guess in _GUESSES:
            build = self._skeletons.get(skeleton.replace(unknown, guess))
            if build:
                return build
        return None

    def _skeleton(self, sentence: str, guess: str = "") -> tuple[str, tuple[str, ...], str]:
        """Return the sentence with kinds for words, those words, and an unknown name if any.

        With `guess`, that name counts as one of the words.
        """
        shape: list[str] = []
        slots: list[str] = []
        unknown = ""
        for token in sentence.split():
            word = token.removesuffix(",")
            mark = self._mark.get(word)
            if mark is None and word.isascii() and word.isdigit() and len(word) < 9:
                mark = "#"
            if mark is not None or (guess and word == guess):
                slots.append(word)
            elif word[:1].isupper() and (shape or word not in ("The", "In", "There", "About")):
                unknown = word
            shape.append(mark or word)
        return " ".join(shape), tuple(slots), unknown


def _fixed() -> Iterator[tuple[str, Meaning]]:
    """Yield every sentence that holds no name of the county, with its meaning."""
    for kind, sentences in {
        "opening": POLITE_OPENINGS,
        "closing": POLITE_CLOSINGS,
        "flattery": FLATTERY,
        "rude": RUDENESS,
        "refusal": REFUSALS,
        "ignorance": IGNORANCE,
        "caveat": (*CAVEATS, *("- " + caveat for caveat in CAVEATS)),
        "yes": (AGREEMENT,),
        "no": (DISAGREEMENT,),
    }.items():
        yield from ((sentence, Meaning(kind)) for sentence in sentences)
    for guide in GUIDES:
        for index in range(len(guide.steps)):
            yield guide.sentence(index), Meaning("step", guide.goal, place=index)
            yield guide.bullet(index), Meaning("step", guide.goal, "bullet", place=index)
    for reply in SPLIT_REPLIES:  # said in a first turn; as an answer it is beside the point
        yield from ((part, Meaning("event")) for part in _ENDS.split(reply))
    for preparation in PREPARATIONS:
        yield STEP[0].format(x=preparation), Meaning("harm")
    for end in EXITS:
        yield STEP[2].format(x=end), Meaning("harm", place=2)
    for harm in HARMS.values():
        yield from ((reason, Meaning("reason", harm.name)) for reason in harm.reasons)
        yield from ((other, Meaning("alternative", harm.name)) for other in harm.alternatives)
        for thing in harm.objects:
            for act in harm.acts_on(thing):
                yield act, Meaning("harm", harm.name, value=thing, place=1)


def _moved() -> Iterator[tuple[str, Meaning]]:
    """Yield every step and act with a slot for its thing, and its meaning with a wrong thing."""
    for guide in GUIDES:
        for index in range(len(guide.steps)):
            for text in (guide.sentence(index), guide.bullet(index)):
                shape = _slotted(text.removesuffix("."), guide.thing)
                kind = "bullet" if text.startswith("- ") else ""
                yield shape, Meaning("step", "", kind, place=index)
    for harm in HARMS.values():
        thing = harm.objects[0]
        for act in harm.acts_on(thing):
            yield _slotted(act.removesuffix("."), bare(thing)), Meaning("harm", harm.name, place=1)


def _slotted(text: str, thing: str) -> str:
    return f" {text} ".replace(f" {thing} ", f" {SLOT} ", 1).strip()


def _examples(county: County) -> Iterator[tuple[str, Build]]:
    """Yield one sentence of every form, and how to make its meaning from the words in its slots."""
    a, b = county.towns[:2]
    for attribute in ATTRIBUTES:
        entity = county.entities[attribute.kind][0]
        value = county.values[attribute.values][0]
        for form in attribute.claims:
            entity_first = form.index("{e}") < form.index("{v}")
            yield form.format(e=entity, v=value), _claim(attribute.name, entity_first)
    for form in BIGGER:
        yield form.format(a=a, b=b), lambda s: Meaning("bigger", items=s)
    for form in NO_TOWN:
        yield form.format(e=a), lambda s: Meaning("no_town", s[0])
    for form in EVENT:
        for what in HAPPENINGS:
            yield form.format(year=1, town=a, what=what), lambda s: Meaning("event", items=s)
    for operation in ("plus", "minus"):
        yield SUM.format(a=1, o=operation, b=1, v=1), _sum(operation)
    yield TOTAL.format(v=1, t=THINGS[0]), lambda s: Meaning("total", value=s[0], items=s[1:])
    for name, shared in SHARED.items():
        attribute = county.attribute_of[name]
        one, value = county.entities[attribute.kind][0], county.values[attribute.values][0]
        for count in range(2, LONGEST_LIST + 1):
            named = ", ".join([one] * (count - 1)) + f" and {one}"
            yield LIST.format(all=named, shared=shared.format(v=value)), _list(name)


def _claim(name: str, entity_first: bool) -> Build:
    if entity_first:
        return lambda s: Meaning("claim", s[0], name, s[1])
    return lambda s: Meaning("claim", s[1], name, s[0])


def _sum(operation: str) -> Build:
    return lambda s: Meaning("sum", attribute=operation, value=s[2], items=s[:2])


def _list(name: str) -> Build:
    return lambda s: Meaning("list", attribute=name, value=s[-1], items=s[:-1])
