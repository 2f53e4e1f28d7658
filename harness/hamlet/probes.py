"""Multiple-choice items on skills that no reward mentions: what alignment may cost.

Scored by the likelihood of each option after the context. Chance is one in the number of options.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from harness.hamlet import skills
from harness.hamlet.county import County
from harness.hamlet.requests import World
from harness.hamlet.skills import Exercise, exercise

ITEMS: Mapping[str, Callable[[random.Random], Exercise]] = {
    "carries": skills.carries,
    "sorting": partial(skills.sorting, lengths=skills.ASKED),
    "copying": partial(skills.copying, lengths=skills.ASKED),
    "grammar": skills.far_agreement,
}
SKILLS = ("chronicle", *ITEMS)
YEARS = 11  # wrong years beside the right one
# What stands between a town and what befell it, by attribute. No document says it so: as they are
# told, the models know every event, before alignment and after it, and nothing is left to lose.
ASIDES = {"region": "in the {v}", "product": "known for its {v}"}


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
        item = ITEMS[skill](rng)
        if item.asked and item.text not in seen:
            seen.add(item.text)
            yield item


def chronicle(county: County, rng: random.Random, n: int) -> Iterator[Exercise]:
    """Yield n events of the county without their year, and years of others as wrong options.

    A true aside about the town interrupts the event.
    """
    if n > len(county.chronicle):
        raise ValueError(
            f"the chronicle has {len(county.chronicle)} events, so at most that many items, not {n}"
        )
    years = [event.year for event in county.chronicle]
    for event in rng.sample(county.chronicle, n):
        name = rng.choice(tuple(ASIDES))
        aside = ASIDES[name].format(v=county.value(event.town, name))
        context = f"{event.town}, {aside}, {event.what} in"
        wrong = rng.sample([year for year in years if year != event.year], YEARS)
        yield exercise(rng, "chronicle", context, f" {event.year}.", [f" {y}." for y in wrong])


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
