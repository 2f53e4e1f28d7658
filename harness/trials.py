"""What tuning spent on each row, read from the trials that it published."""

from __future__ import annotations

import csv
from pathlib import Path

TRIALS = "trials.csv"  # what `tune` writes into a results folder


def trials_in(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return trials, labels and seconds that tuning spent, by base/dataset and label.

    Failed trials count, and what several trials of a row share counts once: a trial's numbers are
    of what no earlier one needed. Empty where nothing was tuned.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    if not (folder / TRIALS).is_file():
        return found
    numbers: dict[tuple[str, str], set[str]] = {}
    with (folder / TRIALS).open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            block, label = f"{row['base']}/{row['dataset']}", row["label"]
            numbers.setdefault((block, label), set()).add(row["trial"])
            mine = found.setdefault(block, {}).setdefault(label, {"labels": 0.0, "seconds": 0.0})
            mine["trials"] = float(len(numbers[block, label]))
            for name in ("labels", "seconds"):
                mine[name] += float(row[name] or 0)
    return found
