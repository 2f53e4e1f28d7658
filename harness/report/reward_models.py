"""How well each row's reward models predict labels that were held out from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.report.grid import Cell, Table, counted, table
from harness.report.tables import Matrix
from harness.report.words import number
from harness.statistics import wilson

NOTE = (
    "On pairs of prompts that no pair of the fit is of, labels as noisy as those that were learnt. "
    "Accuracy is of all seeds' labels together, with Wilson's 95 % interval as if pairs were "
    "independent; ties count one half. NLL in nats (0.693 for one that knows nothing), expected "
    "calibration error and temperature are means over seeds, with the lowest and highest of them; "
    "scores divided by that temperature would have the lowest NLL, so one above 1 is too sure. "
    "Accuracy where the better answer is the longer one, or the shorter, shows a liking for length."
)
COLUMNS = (
    "rows", "reads", "seeds", "accuracy", "NLL", "calibration error (ECE)", "temperature",
    "better is longer", "better is shorter", "by strength",
)  # fmt: skip
LENGTHS, STRENGTHS = "by_length_of_the_better", "by_strength"
SIDES = ("longer", "shorter")
Found = Sequence[Mapping[str, Any]]


def reward_table(matrix: Matrix) -> Table | None:
    """Return the calibration of the reward models behind each row; None without any."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for model in matrix.facts.get("reward_models", []):
        if model["calibration"]["n"]:
            block = (model["base"], model["dataset"]) if len(matrix.blocks) > 1 else ()
            key = (*block, tuple(model["rows"]), model["place"], tuple(model["reads"]))
            groups.setdefault(key, []).append(model)
    rows = [row(group, list(key[:-3])) for key, group in groups.items()]
    return table("Reward models", COLUMNS, rows, NOTE, name="t9_reward_models") if rows else None


def row(group: Found, block: Sequence[str]) -> list[Cell | str]:
    """Return one line: a reward model, its seeds together."""
    said = [model["calibration"] for model in group]
    reads = ", ".join(group[0]["reads"]) or "all"
    lengths, strengths = ([one.get(name, {}) for one in said] for name in (LENGTHS, STRENGTHS))
    by_length = [accuracy([one.get(side) for one in lengths]) for side in SIDES]
    known = sorted({name for one in strengths for name in one} - {"None"})  # None: not bought
    shown = {name: accuracy([one.get(name) for one in strengths]).text for name in known}
    return [
        " ".join([*block, ", ".join(group[0]["rows"])]),
        reads,
        counted(len(group), str(len(group))),
        accuracy(said),
        *(over_seeds([one[name] for one in said]) for name in ("nll", "ece", "temperature")),
        *by_length,
        "; ".join(f"{strength}: {text}" for strength, text in shown.items()),
    ]


def accuracy(groups: Sequence[Mapping[str, float] | None]) -> Cell:
    """Return the accuracy over the labels of all groups, with its interval and their number."""
    known = [group for group in groups if group and group["n"]]
    n = round(sum(group["n"] for group in known))
    if not n:
        return Cell("")
    value = sum(group["accuracy"] * group["n"] for group in known) / n
    low, high = wilson(value * n, n)
    return Cell(f"{value:.1%} of {n} ({low:.1%} to {high:.1%})", order=value)


def over_seeds(values: Sequence[float]) -> Cell:
    """Return the mean over seeds, with the lowest and the highest where there are several."""
    mean = fmean(values)
    several = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return Cell(f"{number(mean)}{several}", order=mean)
