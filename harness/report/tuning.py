"""What tuning bought: each row as declared and at its best, and what longer tuning would give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.report.costs import amount, duration
from harness.report.figures import Picture
from harness.report.grid import Cell, Table, counted, table
from harness.report.lines import Line, plot
from harness.report.plots import Painter
from harness.report.tables import Block, Matrix
from harness.report.words import number
from harness.trials import TRIALS, Tried, read_trials

COLUMNS = ("label", "trials", "expected_best", "best_so_far", "seconds", "scored_trials")
TITLES = (
    "row", "trials", "without a score", "as declared", "best", "settings of the best",
    "this report", "judgements", "time",
)  # fmt: skip


def tried_in(matrix: Matrix, block: Block, folder: Path) -> dict[str, list[Tried]]:
    """Return the trials of a block's rows, by label in the order of the rows."""
    mine = [t for t in read_trials(folder) if (t.base, t.dataset) == (block.base, block.dataset)]
    rows = {label: [t for t in mine if t.label == label] for label in matrix.labels}
    return {label: trials for label, trials in rows.items() if trials}


def tuning_table(matrix: Matrix, block: Block, folder: Path, name: str) -> Table | None:
    """Return each tuned row as it was declared, its best trial and what the trials cost.

    None where nothing was tuned.
    """
    found = tried_in(matrix, block, folder)
    if not found:
        return None
    run = {row["label"]: row["settings"] for row in matrix.facts["methods"]}
    rows: list[Sequence[Cell | str]] = []
    for label, trials in found.items():
        first = next((t for t in trials if t.number == 0), None)
        best = next((t for t in trials if t.is_chosen), None)
        failed = sum(t.score is None for t in trials)
        rows.append([
            label,
            counted(len(trials), str(len(trials))),
            counted(failed, str(failed)),
            score(first),
            score(best),
            said(best),
            used(best, run[label]),
            counted(sum(t.labels for t in trials), amount(sum(t.labels for t in trials))),
            counted(sum(t.seconds for t in trials), duration(sum(t.seconds for t in trials))),
        ])  # fmt: skip
    note = (
        "Scores are shares of noisy validation judgements won against SFT on the tuning seeds, "
        "+- standard error, n verdicts: never gold, never a test prompt. The best of several is "
        f"also the luckiest, so its score flatters it; what holds is measured above. {sizes(found)}"
        f"All trials stand in {TRIALS}."
    )
    title = "Tuning: rows as declared, and the best of their trials"
    return table(title, TITLES, rows, note, name=name)


def score(trial: Tried | None) -> Cell | str:
    """Return a trial's score with its standard error and verdicts."""
    if trial is None or trial.score is None:
        return "none"
    return Cell(
        f"{number(trial.score)} +- {number(trial.stderr)} (n = {trial.n:,})", order=trial.score
    )


def said(trial: Tried | None) -> str:
    """Return what a trial sets, in the words of a study."""
    if trial is None:
        return "none"
    settings = [f"{key} = {json.dumps(value)}" for key, value in trial.settings.items()]
    return ", ".join(settings) or "as declared"


def used(best: Tried | None, settings: Mapping[str, Any]) -> str:
    """Say whether the row of this report ran with the settings of its best trial."""
    if best is None or not best.settings:
        return "as declared"
    is_tuned = all(settings.get(key) == value for key, value in best.settings.items())
    return "tuned" if is_tuned else "as declared"


def sizes(found: Mapping[str, Sequence[Tried]]) -> str:
    """Return the sizes that trials had in place of the study's, as a sentence; "" for the same."""
    own = {
        f"{k} = {v}": None for trials in found.values() for t in trials for k, v in t.sizes.items()
    }
    return f"Trials ran with {', '.join(own)}. " if own else ""


def tuning_picture(matrix: Matrix, block: Block, folder: Path) -> Picture | None:
    """Return P4: the best validation score by trials and by seconds; None without any score."""
    found = tried_in(matrix, block, folder)
    scores = {x: [t.score for t in trials if t.score is not None] for x, trials in found.items()}
    expected = [(label, expected_best(mine)) for label, mine in scores.items() if mine]
    if not expected:
        return None
    so_far = [(label, best_so_far(found[label])) for label, _ in expected]
    caption = (
        "Above: expected best validation score of k trials (U-statistic over all subsets), so what "
        "longer tuning would buy. Below: the best so far, in the order of the trials, by what they "
        "took until then, failed ones included; the first trial is the row as declared. Equal "
        f"numbers of trials do not serve three knobs and twelve alike. {sizes(found)}".strip()
    )
    panels = [
        ("trials", "expected best validation score", expected),
        ("seconds of tuning", "best validation score so far", [(x, steps(y)) for x, y in so_far]),
    ]
    data = [row for label, line in expected for row in data_rows(label, line, found[label])]
    ends = "; ".join(f"{label}: {number(line[-1][1])} of {len(line)}" for label, line in expected)
    painter = Painter(matrix, block, folder / "figures")
    return plot(painter, "tuning", panels, caption, (COLUMNS, data), f"{ends}.", mark=".")


def expected_best(scores: Sequence[float]) -> Line:
    """Return (k, expected maximum of k of the n scores drawn without replacement), k = 1..n.

    sum_i v_(i) C(i - 1, k - 1) / C(n, k), scores ascending (Tang et al. 2020, arXiv:2004.13705).
    """
    ordered, n = sorted(scores), len(scores)
    return [
        (k, sum(v * math.comb(i, k - 1) for i, v in enumerate(ordered)) / math.comb(n, k))
        for k in range(1, n + 1)
    ]


def best_so_far(trials: Sequence[Tried]) -> Line:
    """Return (seconds spent until a trial ended, best score until then), from the first score on.

    A trial without a score takes its time and raises nothing.
    """
    line: Line = []
    spent, best = 0.0, -math.inf
    for trial in trials:
        spent += trial.seconds
        best = max(best, trial.score if trial.score is not None else -math.inf)
        if best > -math.inf:
            line.append((spent, best))
    return line


def steps(line: Line) -> Line:
    """Return a line that stays level until the score rises."""
    corners = [(x, before) for (_, before), (x, _) in pairwise(line)]
    return [line[0], *(point for pair in zip(corners, line[1:], strict=True) for point in pair)]


def data_rows(label: str, expected: Line, trials: Sequence[Tried]) -> list[list[object]]:
    """Return the figure's data of one row: a line a trial."""
    so_far = best_so_far(trials)
    missing = len(trials) - len(so_far)  # those before the first score
    reached = [(sum(t.seconds for t in trials[: k + 1]), "") for k in range(missing)]
    places = [*reached, *so_far]
    values = [value for _, value in expected] + [""] * (len(trials) - len(expected))
    return [
        [label, k + 1, values[k], best, round(seconds, 1), len(expected)]
        for k, (seconds, best) in enumerate(places)
    ]
