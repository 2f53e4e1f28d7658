"""Constitutions: written principles by which a model criticises, revises and compares answers.

A constitution is a YAML file that a user edits. Read once while planning, its whole content (and
never its path) enters the id of whatever it touches. Bai et al. 2022, arXiv:2212.08073, section 2.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar, Literal

from harness.hamlet import forms
from harness.local import local_file
from harness.sources import place

Use = Literal["critique", "compare"]
Messages = tuple[Mapping[str, str], ...]

SCHEMA = "constitution/v1"
SHIPPED = Path(__file__).parents[1] / "methods" / "constitutions"
ID = re.compile(r"[a-z0-9][a-z0-9-]*")
NEEDED: Mapping[Use, tuple[str, ...]] = {
    "critique": ("critique_request", "revision_request"),
    "compare": ("compare_question",),
}
SLOTS: Mapping[str, frozenset[str]] = {
    "critique": frozenset({"principle", "dialogue", "answer"}),
    "revision": frozenset({"principle", "dialogue", "answer", "critique"}),
}
STRICT: Mapping[str, str] = {"extra": "forbid"}


class ConstitutionError(ValueError):
    """What is wrong with a constitution, every problem at once."""


@dataclass(frozen=True)
class Provenance:
    """Where a principle comes from; `consensus` is the share of a public that agreed."""

    source: str = "in-house"
    url: str | None = None
    consensus: float | None = None

    __pydantic_config__: ClassVar[Any] = STRICT


@dataclass(frozen=True)
class Principle:
    """One principle: `statement` is its normative text, the others are how a model is asked.

    A principle whose tags name axes (helpful, safe) is asked on these alone.
    """

    id: str
    statement: str
    stages: tuple[Use, ...]
    critique_request: str = ""
    revision_request: str = ""
    compare_question: str = ""
    weight: float = 1.0
    polarity: Literal["avoid", "promote"] = "promote"
    tags: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    __pydantic_config__: ClassVar[Any] = STRICT

    @property
    def digest(self) -> str:
        """The digest of everything the principle says, as kept with each label and critique."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def asked_on(self, axis: str) -> bool:
        """Whether the principle is asked on an axis."""
        axes = set(self.tags) & forms.AXES.keys()
        return not axes or axis in axes


@dataclass(frozen=True)
class Exemplar:
    """One worked example: messages that end in the answer criticised, its critique, its revision.

    Without examples, large models lose their point of view and criticise when they are to revise.
    """

    messages: Messages
    principle: str
    critique: str
    revision: str

    __pydantic_config__: ClassVar[Any] = STRICT


@dataclass(frozen=True)
class Templates:
    """How a critique and a revision are asked for; {principle} takes the request and a line end."""

    critique: str = forms.CRITIQUE
    revision: str = forms.REVISE

    __pydantic_config__: ClassVar[Any] = STRICT


@dataclass(frozen=True)
class PostProcess:
    """What is done to a revision: opening remarks are stripped, long or unchanged ones left out.

    Each pattern is removed once where it matches the beginning; an answer that none matches keeps
    every byte. Longer revisions than `max_chars` are never cut, since a cut answer has no end.
    """

    strip_prefixes: tuple[str, ...] = ()
    max_chars: int | None = None
    drop_if_unchanged: bool = False

    __pydantic_config__: ClassVar[Any] = STRICT

    def clean(self, text: str) -> str:
        """Return a revision without what a model says about it before giving it."""
        for pattern in self.strip_prefixes:
            found = re.match(pattern, text)
            text = text[found.end() :] if found else text
        return text


@dataclass(frozen=True)
class Constitution:
    """Principles, examples, and the words in which a model is asked."""

    name: str
    version: str
    license: str
    description: str
    principles: tuple[Principle, ...]
    language: str = "en"
    exemplars: tuple[Exemplar, ...] = ()
    templates: Templates = field(default_factory=Templates)
    post_process: PostProcess = field(default_factory=PostProcess)

    __pydantic_config__: ClassVar[Any] = STRICT

    def principle(self, id: str) -> Principle:
        """Return the principle of an id."""
        return next(one for one in self.principles if one.id == id)

    def draw(self, use: Use, axis: str, *names: str | int) -> Principle:
        """Return the principle that a seed and names draw, by weight, for one use on one axis.

        Raises ConstitutionError where none is meant for it.
        """
        eligible = [p for p in self.principles if use in p.stages and p.asked_on(axis) and p.weight]
        if not eligible:
            raise ConstitutionError(
                f"constitution {self.name!r} has no principle to {use} by on the axis {axis!r}; "
                f"add one, or drop the tags that keep the others from it"
            )
        name = "/".join(["principle", use, *map(str, names)])
        return random.Random(name).choices(eligible, [one.weight for one in eligible])[0]

    def to_plain(self) -> dict[str, Any]:
        """Return the constitution as plain data, as its file holds it."""
        return {"schema": SCHEMA, **json.loads(json.dumps(asdict(self), default=dict))}

    def to_yaml(self) -> str:
        """Return the text of the constitution's file."""
        import yaml

        text = yaml.safe_dump(self.to_plain(), sort_keys=False, allow_unicode=True, width=100)
        return str(text)


def from_plain(raw: Any, source: str) -> Constitution:
    """Return the constitution in plain data; raise ConstitutionError with all that is wrong."""
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(raw, Mapping) or raw.get("schema") != SCHEMA:
        raise ConstitutionError(f"{source}: a constitution begins with `schema: {SCHEMA}`")
    body = {key: value for key, value in raw.items() if key != "schema"}
    try:
        made: Constitution = TypeAdapter(Constitution).validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConstitutionError("\n".join([f"{source}:", *found])) from None
    wrong = problems(made)
    if wrong:
        raise ConstitutionError("\n".join([f"{source}:", *wrong]))
    return made


def problems(made: Constitution) -> list[str]:
    """Return everything that keeps a constitution from being used."""
    found = []
    ids = [one.id for one in made.principles]
    found += [f"two principles have the id {i!r}" for i in sorted(set(ids)) if ids.count(i) > 1]
    for one in made.principles:
        if not ID.fullmatch(one.id):
            found.append(f"id {one.id!r}: write it in a-z, 0-9 and hyphens")
        if not 0 <= one.weight < float("inf"):
            found.append(f"{one.id}: the weight must be a number of at least 0, not {one.weight}")
        found += [
            f"{one.id}: its stages name {use}, so it needs a {text}"
            for use in one.stages
            for text in NEEDED[use]
            if not getattr(one, text)
        ]
    for use in sorted({use for one in made.principles for use in one.stages}):
        if not sum(one.weight for one in made.principles if use in one.stages) > 0:
            found.append(f"the weights of all principles to {use} by are 0")
    found += [
        f"an exemplar names the principle {one.principle!r}, which is not there"
        for one in made.exemplars
        if one.principle not in ids
    ]
    found += [
        "an exemplar's messages must end in the assistant's answer"
        for one in made.exemplars
        if not one.messages or one.messages[-1].get("role") != "assistant"
    ]
    for name, slots in SLOTS.items():
        found += slot_problems(name, getattr(made.templates, name), slots)
    return found + pattern_problems(made.post_process.strip_prefixes)


def slot_problems(name: str, template: str, slots: frozenset[str]) -> list[str]:
    """Return what is wrong with the slots of a template: unknown, missing, or an open brace."""
    try:
        used = {slot for _, slot, _, _ in Formatter().parse(template) if slot is not None}
    except ValueError as error:
        return [f"template {name}: {error}; write a brace that is no slot twice"]
    unknown, missing = sorted(used - slots), sorted(slots - used)
    return [f"template {name} has no slot {{{slot}}}" for slot in missing] + [
        f"template {name}: {{{slot}}} is none of {', '.join(sorted(slots))}" for slot in unknown
    ]


def pattern_problems(patterns: tuple[str, ...]) -> list[str]:
    """Return the patterns that are no regular expression."""
    found = []
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            found.append(f"strip_prefixes {pattern!r}: {error}")
    return found


def constitution(name: str) -> Constitution:
    """Return a constitution by the name of a shipped one, or by the path of a YAML or JSON file.

    Raises ConstitutionError for an unknown name and for a file that is not valid.
    """
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        file = place(Path(), name)  # beside the study that names it, whatever folder one works in
        if not file.is_file():
            raise ConstitutionError(f"no constitution file {file}")
        local_file(file)  # its text stands in ids in its place, and a mirror is to hold it
    else:
        file = SHIPPED / f"{name}.yaml"
        known = sorted(one.stem for one in SHIPPED.glob("*.yaml"))
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConstitutionError(
                f"no constitution {name!r}.{hint} Known: {', '.join(known)}; or give the path of a "
                ".yaml file"
            )
    return parsed(file.read_text(encoding="utf-8"), str(file))


@lru_cache(maxsize=32)
def parsed(text: str, source: str) -> Constitution:
    """Return the constitution in a text of YAML (JSON is YAML too), read by the safe loader."""
    import yaml

    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConstitutionError(f"{source}: {error}") from None
    return from_plain(raw, source)
