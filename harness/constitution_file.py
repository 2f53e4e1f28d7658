"""Constitutions read from the YAML files that users edit, with everything that is wrong in one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from harness.constitution import (
    SCHEMA,
    SHOWN,
    Constitution,
    ConstitutionError,
    Exemplar,
    PostProcess,
    Principle,
    Provenance,
    Templates,
    Use,
)
from harness.local import local_file
from harness.sources import place

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
# What the keys of a file hold, by the key above them.
TABLES: Mapping[str, type[Any]] = {
    "principles": Principle,
    "provenance": Provenance,
    "exemplars": Exemplar,
    "templates": Templates,
    "post_process": PostProcess,
}


# Keys that a constitution could have and nothing here would read, with where that is said instead.
ELSEWHERE: Mapping[str, str] = {
    "defaults": "how many revisions is a setting of `cai`, seeds are the study's; say it there",
    "exemplars.compare": "the labeller compares in its own form, without examples; leave it out",
    "templates.compare": "the labeller compares in its own form; leave it out",
}


def from_plain(raw: Any, source: str) -> Constitution:
    """Return the constitution in plain data; raise ConstitutionError with all that is wrong."""
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(raw, Mapping) or raw.get("schema") != SCHEMA:
        raise ConstitutionError(f"{source}: a constitution begins with `schema: {SCHEMA}`")
    body, found = readable({key: value for key, value in raw.items() if key != "schema"})
    try:
        text = json.dumps(body)
    except TypeError as error:
        remedy = "write dates and the like in quotes"
        raise ConstitutionError(f"{source}: a value is no text and no number; {remedy}") from error
    try:
        made: Constitution = TypeAdapter(Constitution).validate_json(text, strict=True)
    except ValidationError as error:
        errors = error.errors()
        found += [explained(e["loc"], e["type"], e["msg"], e["input"], body) for e in errors]
        raise ConstitutionError(*(f"{source}: {one}" for one in found)) from None
    found += problems(made)
    if found:
        raise ConstitutionError(*(f"{source}: {one}" for one in found))
    return made


def readable(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what a file says in the shape of a Constitution, and what nothing here would read."""
    found = []
    for key, remedy in ELSEWHERE.items():
        above, _, below = key.rpartition(".")
        table = body.get(above) if above else body
        if isinstance(table, Mapping) and below in table:
            found.append(f"{key}: {remedy}")
            rest = {name: value for name, value in table.items() if name != below}
            body = {**body, above: rest} if above else rest
    shown = body.get("exemplars", {})
    if isinstance(shown, Mapping) and shown.keys() <= {SHOWN}:
        body = {**body, "exemplars": shown.get(SHOWN, [])}
    elif "exemplars" in body:
        found.append(f"exemplars: write a list under the key `{SHOWN}`, and no other")
        body = {**body, "exemplars": []}
    return body, found


def explained(
    loc: Sequence[str | int], kind: str, message: str, value: object, body: Mapping[str, Any]
) -> str:
    """Return what pydantic finds wrong at a place, with the principle's id and the remedy."""
    path = [str(part) for part in loc]
    if len(path) > 2 and path[0] == "principles":
        one = body["principles"][int(path[1])]
        path[1] = str(one.get("id", path[1])) if isinstance(one, Mapping) else path[1]
    if path[:1] == ["exemplars"]:
        path.insert(1, SHOWN)
    where = ".".join(path)
    if kind == "unexpected_keyword_argument":
        above = [part for part in loc[:-1] if isinstance(part, str)]
        known = [f.name for f in fields(TABLES[above[-1]] if above else Constitution)]
        close = get_close_matches(path[-1], known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{where}: there is no such key.{hint} Known: {', '.join(known)}"
    if kind == "missing":
        return f"{where}: missing; write it"
    quotes = kind == "string_type" and not isinstance(value, Mapping | list)
    remedy = "; write it in quotes" if quotes else ""
    return f"{where}: {message}, not {value!r:.60}{remedy}"


def problems(made: Constitution) -> list[str]:
    """Return everything that keeps a constitution from being used."""
    found = [] if made.principles else ["principles: there is none; write at least one"]
    ids = [one.id for one in made.principles]
    found += [f"two principles have the id {i!r}" for i in sorted(set(ids)) if ids.count(i) > 1]
    for one in made.principles:
        if not ID.fullmatch(one.id):
            found.append(f"id {one.id!r}: write it in a-z, 0-9 and hyphens")
        if not one.statement.strip():
            found.append(f"{one.id}: the statement is empty; say what the principle is")
        if not 0 <= one.weight < float("inf"):
            found.append(f"{one.id}: the weight must be a number of at least 0, not {one.weight}")
        found += [
            f"{one.id}: its stages name {use}, so it needs a {text}"
            for use in one.stages
            for text in NEEDED[use]
            if not getattr(one, text)
        ]
    for use in sorted({use for one in made.principles for use in one.stages}):
        if sum(one.weight for one in made.principles if use in one.stages) == 0:
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
    found += [
        f"an exemplar's message {dict(turn)!r:.60}: give it a role and a content"
        for one in made.exemplars
        for turn in one.messages
        if not {"role", "content"} <= turn.keys()
    ]
    for name, slots in SLOTS.items():
        found += slot_problems(name, getattr(made.templates, name), slots)
    most = made.post_process.max_chars
    if most is not None and most < 1:
        found.append(
            f"post_process.max_chars: {most} leaves no revision; write at least 1, or null"
        )
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
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConstitutionError(f"{file}: not UTF-8 ({error}); save it as UTF-8") from None
    return parsed(text, str(file))


@lru_cache(maxsize=32)
def parsed(text: str, source: str) -> Constitution:
    """Return the constitution in a text of YAML (JSON is YAML too), read by the safe loader.

    A key written twice in one table is an error: YAML would keep the last and say nothing.
    """
    import yaml

    try:
        twice = repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConstitutionError(f"{source}: {error}") from None
    if twice:
        raise ConstitutionError(*(f"{source}: {one}" for one in twice))
    return from_plain(raw, source)


def repeated_keys(root: Any) -> list[str]:
    """Return the keys that stand twice in one table of a YAML tree, with their lines."""
    found, waiting, met = [], [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or isinstance(node.value, str) or id(node) in met:
            continue
        met.add(id(node))  # a node that aliases repeat is read once
        pairs = [part for part in node.value if isinstance(part, tuple)]
        keys = [key.value for key, _ in pairs]
        for number, (key, _) in enumerate(pairs):
            if key.value in keys[:number]:
                line = key.start_mark.line + 1
                found.append(f"line {line}: {key.value!r} stands twice in one table; drop one")
        waiting += [part[1] if isinstance(part, tuple) else part for part in node.value]
    return found
