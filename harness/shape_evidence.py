"""The rows of several results folders, and sums over them matched by seed and prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results import CELLS, ITEMS, SCORES, read_csv
from harness.shapes import Shape, Term, Terms
from harness.statistics import Key

if TYPE_CHECKING:
    from harness.statistics import Estimate

REFERENCE = "sft"  # the row that two folders must share before their rows are compared


@dataclass(frozen=True)
class Values:
    """A row's values of one metric under one decoding: a mean a prompt and seed, or a seed.

    `prompts` is how many prompts there were where only the means of seeds are known, else 0.
    """

    values: Mapping[Key, float]
    clusters: Mapping[str, str]
    prompts: int = 0


@dataclass(frozen=True)
class Sum:
    """A weighted sum of rows: None where rows are absent, and where they share no seed and prompt.

    `rows` names those it was read from, `missing` those absent. Where the prompts are fixed, seeds
    alone are random, and what is found is conditional on these prompts.
    """

    found: Estimate | None
    rows: tuple[str, ...]
    missing: tuple[str, ...]
    prompts_fixed: bool


@dataclass(frozen=True)
class Folder:
    """One results folder: by items where it has them, else by the scores of its seeds."""

    path: Path
    base: str = ""

    @cached_property
    def study(self) -> str:
        """The name of the study whose results these are."""
        rows = read_csv(self.path / SCORES)
        return rows[0]["study"] if rows else self.path.name

    @property
    def has_items(self) -> bool:
        """Whether values of single prompts are known."""
        return (self.path / ITEMS).is_file()

    @cached_property
    def chosen(self) -> str:
        """The base whose rows are read. Raises ValueError where several are there, none named."""
        bases = sorted({row["base"] for row in read_csv(self.path / SCORES)})
        if self.base and self.base not in bases:
            raise ValueError(f"{self.path} has no base {self.base!r}; it has {', '.join(bases)}")
        if not self.base and len(bases) > 1:
            raise ValueError(f"{self.path} has several bases; name one of {', '.join(bases)}")
        return self.base or next(iter(bases), "")

    @cached_property
    def diverged(self) -> tuple[str, ...]:
        """The rows that lack a seed because its training diverged, with that seed."""
        cells = read_csv(self.path / CELLS) if (self.path / CELLS).is_file() else []
        return tuple(
            f"{cell['dataset']}/{cell['label']} of seed {cell['seed']}"
            for cell in cells
            if cell["state"] == "diverged" and cell["base"] == self.chosen
        )

    @cached_property
    def series(self) -> dict[tuple[str, str, str], Values]:
        """All series by DATASET/LABEL, SUITE/METRIC and decoding, over whole populations."""
        return self.from_items() if self.has_items else self.from_scores()

    def from_items(self) -> dict[tuple[str, str, str], Values]:
        """Return the series of `items.parquet`."""
        from harness.results import read_items

        found = {}
        for series, measured in read_items(self.path).items():
            if series.base == self.chosen and not series.population:
                key = (f"{series.dataset}/{series.label}", f"{series.suite}/{series.metric}")
                found[(*key, series.decoding)] = Values(measured.values, measured.clusters)
        return found

    def from_scores(self) -> dict[tuple[str, str, str], Values]:
        """Return the series of `scores.csv`: one value a seed, prompts being the same for all."""
        means: dict[tuple[str, str, str], dict[Key, float]] = {}
        prompts: dict[tuple[str, str, str], int] = {}
        for row in read_csv(self.path / SCORES):
            if row["seed"] == "all" or row["population"] or row["base"] != self.chosen:
                continue
            key = (f"{row['dataset']}/{row['label']}", f"{row['suite']}/{row['metric']}")
            means.setdefault((*key, row["decoding"]), {})[int(row["seed"]), ""] = float(
                row["value"]
            )
            prompts[(*key, row["decoding"])] = int(row["n"])
        return {key: Values(values, {"": ""}, prompts[key]) for key, values in means.items()}


class Evidence:
    """Several results folders, the first of them the first to be asked.

    Where results have several bases, one must be named: rows of two are never compared.
    """

    def __init__(self, folders: Iterable[Path], base: str = "") -> None:
        self.folders = [Folder(path, base) for path in folders]

    def source(self, shape: Shape, decoding: str) -> dict[str, int]:
        """Return the folder that each row of a shape is read from, by number.

        One that has all rows is asked alone. Else each row comes from the first folder that has it
        and whose reference has the same values as the first row's: the same base, prompts and
        draws. Rows that none has are left out.
        """
        needed = [(t.row, t.metric, t.decoding or decoding) for t in shape.terms]
        for number, folder in enumerate(self.folders):
            if all(key in folder.series for key in needed):
                return dict.fromkeys((row for row, *_ in needed), number)
        source: dict[str, int] = {}
        first: tuple[int, str] | None = None
        for row in dict.fromkeys(row for row, *_ in needed):
            keys = [key for key in needed if key[0] == row]
            for number, folder in enumerate(self.folders):
                here = (number, f"{row.split('/')[0]}/{REFERENCE}")
                if all(key in folder.series for key in keys) and self.alike(first or here, here):
                    source[row], first = number, first or here
                    break
        return source

    def alike(self, one: tuple[int, str], other: tuple[int, str]) -> bool:
        """Say whether the references of two folders have the same values wherever both have any."""
        if one == other:
            return True
        ours, theirs = (self.of_row(*place) for place in (one, other))
        both = ours.keys() & theirs.keys()
        shared = [
            (ours[key].values[at], theirs[key].values[at])
            for key in both
            for at in ours[key].values.keys() & theirs[key].values.keys()
        ]
        return bool(shared) and all(a == b for a, b in shared)

    def of_row(self, number: int, row: str) -> dict[tuple[str, str], Values]:
        """Return the series of one row of a folder by metric and decoding."""
        series = self.folders[number].series
        return {(metric, how): v for (name, metric, how), v in series.items() if name == row}

    def estimate(self, terms: Terms, source: Mapping[str, int], decoding: str) -> Sum:
        """Return a weighted sum with its interval, the rows it was read from, and those absent."""
        read: list[tuple[Term, Values]] = []
        rows, missing = [], []
        for term in terms:
            how = term.decoding or decoding
            number = source.get(term.row)
            values = None
            if number is not None:
                values = self.folders[number].series.get((term.row, term.metric, how))
            if number is None or values is None:
                missing.append(f"{term.row} ({term.metric.split('/')[0]})")
            else:
                rows.append(f"{self.folders[number].study}:{term.row}")
                read.append((term, values))
        named, absent = tuple(dict.fromkeys(rows)), tuple(dict.fromkeys(missing))
        fixed = any(values.prompts for _, values in read)
        return Sum(None if absent else summed(read), named, absent, fixed)


def summed(read: list[tuple[Term, Values]]) -> Estimate | None:
    """Return the weighted sum of rows over the seeds and prompts that all of them have.

    Where only means of seeds are known, seeds alone are random and the prompts are given: no claim
    about methods, for which both are.
    """
    from harness.statistics import mean, summary

    shared = set.intersection(*(set(values.values) for _, values in read))
    if not shared:
        return None
    total = {
        key: sum(term.weight * values.values[key] for term, values in read)
        for key in sorted(shared)
    }
    prompts = [values.prompts for _, values in read if values.prompts]
    if prompts:
        found = mean(list(total.values()))
        return replace(found, n=min(prompts), clusters=min(prompts), seeds=len(total))
    clusters = {prompt: cluster for _, v in read for prompt, cluster in v.clusters.items()}
    return summary(total, clusters)
