"""Constitutions: written principles by which a model criticises, revises and compares answers.

Its whole content, and never the path of its file, enters the id of whatever it touches. Bai et al.
2022, arXiv:2212.08073, section 2.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from harness.hamlet import forms

Use = Literal["critique", "compare"]
Messages = tuple[Mapping[str, str], ...]

SCHEMA = "constitution/v1"
SHOWN = "critique_revision"  # what the exemplars of a file are examples of
STRICT: Mapping[str, str] = {"extra": "forbid"}


class ConstitutionError(ValueError):
    """What is wrong with a constitution; `problems` are all that were found, a line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


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
        eligible = self.meant_for(use, axis)
        name = "/".join(["principle", use, *map(str, names)])
        return random.Random(name).choices(eligible, [one.weight for one in eligible])[0]

    def meant_for(self, use: Use, axis: str) -> list[Principle]:
        """Return the principles that may be drawn for one use on one axis.

        Raises ConstitutionError where there is none.
        """
        eligible = [p for p in self.principles if use in p.stages and p.asked_on(axis) and p.weight]
        if not eligible:
            raise ConstitutionError(
                f"constitution {self.name!r} has no principle to {use} by on the axis {axis!r}; "
                f"add one, or drop the tags that keep the others from it"
            )
        return eligible

    def to_plain(self) -> dict[str, Any]:
        """Return the constitution as plain data, as its file holds it."""
        plain = json.loads(json.dumps(asdict(self), default=dict))
        return {"schema": SCHEMA, **plain, "exemplars": {SHOWN: plain["exemplars"]}}

    def to_yaml(self) -> str:
        """Return the text of the constitution's file."""
        import yaml

        text = yaml.safe_dump(self.to_plain(), sort_keys=False, allow_unicode=True, width=100)
        return str(text)
