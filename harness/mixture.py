"""One set of preferences from several sources: split, filtered and budgeted as if it were one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import registry
from harness.artifacts import Policy
from harness.data import Labels, Source, offered
from harness.registry import dataset
from harness.shared import Data
from harness.sources import current, missing_path, place
from harness.splits import Shares

Parts = Mapping[str, Mapping[str, str | bool | int | float | None]]

# What is decided once for the whole mixture, so that no prompt is in two splits of two parts.
WHOLE = (
    "labels", "validation", "test", "max_prompt", "max_length", "max_rows", "max_test", "budget",
    "max_overlap", "reserved", "assistant",
)  # fmt: skip


@dataset
def mixture(
    base: Policy,
    seed: int,
    *,
    parts: Parts,
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    max_test: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """Rows of several sets as one: each table in `parts` names a plugin, and how its rows are read.

    Prompts are split over all parts together, equal rows count once, and the budget is of the
    whole. Where a part has files that are held out, those are the test prompts.
    """
    if len(parts) < 2:
        raise ValueError("a mixture has two parts at least: write [datasets.LABEL.parts.NAME] each")
    sources = [
        source
        for label, table in sorted(parts.items())
        for source in sources_of(base, seed, label, dict(table))
    ]
    lengths = (max_prompt, max_length, max_rows)
    shares = Shares(validation, test, *lengths, budget, max_overlap, max_test, reserved)
    return offered(base, seed, sources, shares, labels, assistant)


def sources_of(base: Policy, seed: int, label: str, table: dict[str, Any]) -> Iterator[Source]:
    """Yield the files of one part as its plugin reads them; ValueError for what makes no part."""
    key = f"{current().asker}.parts.{label}"
    name = table.pop("plugin", label)
    plugin = registry.get("dataset", str(name))
    if whole := [setting for setting in table if setting in WHOLE]:
        raise ValueError(f"{key}.{whole[0]}: say it of the mixture, which it is decided for as one")
    if isinstance(written := table.get("path"), str):
        missing_path(f"{key}.path", written, current().beside)
        table["path"] = str(place(Path(), written))
    made: Data = plugin(base, seed, **table)
    found = made.prompts.recipe
    read = found.arguments.get("table") if found else None
    if read is None or read.recipe is None or "sources" not in read.recipe.arguments:
        raise ValueError(f"{key}: dataset {name!r} reads no fixed rows, so they cannot be mixed")
    yield from read.recipe.arguments["sources"]
