"""Multiple-choice items on skills that no reward mentions: what alignment may cost.

Scored by the likelihood of each option after the context. Chance is one in the number of options.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

from harness.hamlet.county import EVENT, HAPPENINGS, County
from harness.hamlet.requests import World
from harness.hamlet.skills import DRAWN, Exercise, exercise

SKILLS = ("chronicle", *DRAWN)


def probes(world: World, n: int, seed: int) -> list[dict[str, Any]]:
    """Return n distinct items for each skill, as the rows of a `Probes` artifact."""
    return [_row(item) for skill in SKILLS for item in items(world, skill, n, seed)]


def items(world: World, skill: str, n: int, seed: int) -> Iterator[Exercise]:
    """Yield n distinct items of one skill. Raises ValueError when the chronicle has fewer."""
    rng = random.Random(f"probes/{seed}/{skill}")
    if skill == "chronicle":
        yield from chronicle(world.county, rng, n)
        return
    seen: set[str] = set()
    while len(seen) < n:
        item = DRAWN[skill](rng)
        if item.asked and item.text not in seen:
            seen.add(item.text)
            yield item


def chronicle(county: County, rng: random.Random, n: int) -> Iterator[Exercise]:
    """Yield n events of the county with every other happening as a wrong option."""
    if n > len(county.chronicle):
        raise ValueError(
            f"the chronicle has {len(county.chronicle)} events, so at most that many items, not {n}"
        )
    for event in rng.sample(county.chronicle, n):
        context = EVENT[0].format(year=event.year, town=event.town, what="").rstrip(" .")
        wrong = [f" {what}." for what in HAPPENINGS if what != event.what]
        yield exercise(rng, "chronicle", context, f" {event.what}.", wrong)


def _row(item: Exercise) -> dict[str, Any]:
    digest = hashlib.sha256(f"{item.skill}|{item.context}".encode()).hexdigest()
    return {
        "item_id": f"{item.skill}-{digest[:12]}",
        "skill": item.skill,
        "context": item.context,
        "options": list(item.options),
        "answer": item.answer,
        "cluster": item.skill,
    }
