"""What tuning tried on each row and what it spent, read from the trials that it published."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

TRIALS = "trials.csv"  # what `tune` writes into a results folder


@dataclass(frozen=True)
class Tried:
    """One trial of a row over its seeds: what it set, its score, and what it needed anew.

    The score is the mean over seeds, and None unless every seed has one. `stderr` is the mean of
    the seeds' own, which is never too small: they judge the same prompts. `n` is verdicts.
    """

    base: str
    dataset: str
    label: str
    number: int
    settings: Mapping[str, Any]
    sizes: Mapping[str, Any]
    score: float | None
    stderr: float
    n: int
    labels: float
    seconds: float
    is_chosen: bool
    policies: tuple[str, ...]


def read_trials(folder: Path) -> list[Tried]:
    """Return the trials in a results folder, in their order; none where nothing was tuned."""
    if not (folder / TRIALS).is_file():
        return []
    found: dict[tuple[str, str, str, int], list[dict[str, str]]] = {}
    with (folder / TRIALS).open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            key = (row["base"], row["dataset"], row["label"], int(row["trial"]))
            found.setdefault(key, []).append(row)
    return [tried(*key, rows) for key, rows in found.items()]


def tried(base: str, dataset: str, label: str, number: int, rows: list[dict[str, str]]) -> Tried:
    """Return one trial from its rows, a seed each."""
    scored = all(row["score"] for row in rows)
    return Tried(
        base,
        dataset,
        label,
        number,
        settings=json.loads(rows[0]["settings"]),
        sizes=json.loads(rows[0]["sizes"]),
        score=fmean(float(row["score"]) for row in rows) if scored else None,
        stderr=fmean(float(row["stderr"]) for row in rows) if scored else 0.0,
        n=sum(int(row["n"]) for row in rows) if scored else 0,
        labels=sum(float(row["labels"] or 0) for row in rows),
        seconds=sum(float(row["seconds"] or 0) for row in rows),
        is_chosen=rows[0]["chosen"] == "true",
        policies=tuple(row["policy"] for row in rows),
    )


def trials_in(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return trials, labels and seconds that tuning spent, by base/dataset and label.

    Failed trials count, trials of one and the same policy count once, and so does what several of
    a row share: a trial's numbers are of what no earlier one needed.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    policies: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for trial in read_trials(folder):
        block = f"{trial.base}/{trial.dataset}"
        different = policies.setdefault((block, trial.label), set())
        different.add(trial.policies)
        mine = found.setdefault(block, {}).setdefault(trial.label, {"labels": 0.0, "seconds": 0.0})
        mine["trials"] = float(len(different))
        mine["labels"] += trial.labels
        mine["seconds"] += trial.seconds
    return found
