"""The parity rule: which rows did not hold equal what a comparison must hold equal, and how.

Everything is read from a results folder's ledger, so from manifests and not from what was asked. A
value is compared seed by seed with the one that most rows have. Feedback cannot be equal over all
methods: it is priced, so what a row does not use at all breaks nothing, and what it uses in another
amount is named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.control import NOT_USED, TAUGHT

ALL = (
    "base weights", "tokenizer", "chat template", "test prompts", "labeller", "judge", "numerics",
)  # fmt: skip
WHERE_USED = ("SFT start", "demonstrations", "prompts", "preferences")
STARTS = ("decoding, ",)
AMOUNTS = ("labels, ",)
UNUSED = (NOT_USED, "0")
T = TypeVar("T", bound=Hashable)
Values = Mapping[str, Mapping[str, str | None]]  # label, seed: value


@dataclass(frozen=True)
class Breach:
    """One item that a row did not hold equal: its own value and what most rows have."""

    label: str
    item: str
    own: str
    usual: str

    @property
    def said(self) -> str:
        """The breach in a few words."""
        return f"{self.item}: {self.own} instead of {self.usual}"


def breaches(
    facts: Mapping[str, Any],
    cells: Sequence[Mapping[str, str]],
    base: str,
    dataset: str,
) -> list[Breach]:
    """Return what the rows of one block did not hold equal, in the order of the ledger.

    facts: `ledger.json`; cells: the rows of `cells.csv`. A value that is not known yet breaks
    nothing here: the control ledger calls it unknown.
    """
    found: list[Breach] = []
    for line in facts["control"]:
        if (line["base"], line["dataset"]) == (base, dataset):
            found += unequal(line["item"], line["values"])
    found += seeds_lost([c for c in cells if (c["base"], c["dataset"]) == (base, dataset)])
    trials = facts.get("trials", {}).get(f"{base}/{dataset}", {})
    # A row without any range has nothing to tune. Results that do not say are compared as before.
    tuned = [
        row["label"]
        for row in facts["methods"]
        if row["role"] == "method" and row.get("has_ranges", True)
    ]
    found += trials_unequal({x: int(trials[x]["trials"]) for x in tuned if x in trials}, tuned)
    return found


def unknown(facts: Mapping[str, Any], base: str, dataset: str, label: str) -> list[str]:
    """Return the compared items of a block that are not known of one row, under some seed at least.

    All of them for a row that the control ledger does not hold at all; so for a block without one.
    """
    lines = [one for one in facts["control"] if (one["base"], one["dataset"]) == (base, dataset)]
    compared = [line for line in lines if is_compared(line["item"])]
    if not compared:
        return ["all that is compared"]
    held = [(line["item"], line["values"].get(label, {})) for line in compared]
    return [item for item, by_seed in held if not by_seed or None in by_seed.values()]


def is_compared(item: str) -> bool:
    """Say whether rows must hold an item of the control ledger equal, if only where they use it."""
    return item in (TAUGHT, *ALL, *WHERE_USED) or item.startswith((*STARTS, *AMOUNTS))


def unequal(item: str, values: Values) -> Iterator[Breach]:
    """Yield the rows whose value of one item is not the usual one, each once."""
    if item == TAUGHT:
        for label, by_seed in values.items():
            if "yes" in by_seed.values():
                yield Breach(label, item, "yes", "no")
        return
    if not is_compared(item):
        return
    optional = item in WHERE_USED or item.startswith(AMOUNTS)
    seeds = dict.fromkeys(seed for by_seed in values.values() for seed in by_seed)
    seen: set[str] = set()
    for seed in seeds:
        known = {
            label: value
            for label, by_seed in values.items()
            if (value := by_seed.get(seed)) is not None and not (optional and value in UNUSED)
        }
        usual = most_common(known.values())
        for label, value in known.items():
            if value != usual and label not in seen:
                seen.add(label)
                yield Breach(label, item, *apart(value, usual or ""))


def seeds_lost(cells: Sequence[Mapping[str, str]]) -> Iterator[Breach]:
    """Yield the rows that finished other seeds than most rows did."""
    done: dict[str, list[str]] = {cell["label"]: [] for cell in cells}
    for cell in cells:
        if cell["state"] == "done":
            done[cell["label"]].append(cell["seed"])
    sets = {label: ", ".join(sorted(seeds, key=int)) for label, seeds in done.items() if seeds}
    usual = most_common(sets.values())
    for label, seeds in sets.items():
        if seeds != usual:
            yield Breach(label, "seeds", seeds, usual or "")


def trials_unequal(counts: Mapping[str, int], methods: Sequence[str]) -> Iterator[Breach]:
    """Yield the methods that were tuned with another number of trials than most tuned ones."""
    usual = most_common(counts.values())
    for label in methods if usual is not None else ():
        if counts.get(label, 0) != usual:
            yield Breach(label, "tuning trials", str(counts.get(label, 0)), str(usual))


def most_common(values: Iterable[T]) -> T | None:
    """Return the value that occurs most often, the first of several; None of none."""
    counted = Counter(values)
    return max(counted, key=lambda value: counted[value]) if counted else None


def apart(own: str, usual: str) -> tuple[str, str]:
    """Return two values as a reader sees them: of settings kept as JSON, those that differ."""
    if not (own.startswith("{") and usual.startswith("{")):
        return own, usual
    mine, theirs = json.loads(own), json.loads(usual)
    names = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    said = [", ".join(f"{n} {known.get(n)!r}" for n in names) for known in (mine, theirs)]
    return said[0], said[1]
