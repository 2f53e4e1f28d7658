"""P7: gold along sqrt(KL) with Gao's fits and peaks, and by proxy, row by row of one dial.

A climb is one method pushed harder: rows that differ in one number alone (best-of-n's n, passes, a
kept checkpoint, the price of KL). Best-of-n, which trains nothing, is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from harness.overoptimisation import Fit, Form, fit
from harness.report.contrasts import alike_but, first_measures, gains_along, method_of, row_settings
from harness.report.curves import Curve, Panel, draw_curves
from harness.report.figures import Picture, arrow
from harness.report.grid import Cell, Table, counted, table
from harness.report.headline import named
from harness.report.lines import last_stage
from harness.report.plots import mean_of
from harness.report.tables import Block, Matrix, Measure, Metric
from harness.report.words import number
from harness.results import read_csv
from harness.statistics import Estimate
from harness.study_file import AT_CHECKPOINT
from harness.transcripts import CURVES

FEWEST = 3  # points of a fit with two coefficients
FORMS: tuple[Form, Form] = ("best-of-n", "rl")
WRITTEN = {"best-of-n": "d (α − β d)", "rl": "d (α − β log d)"}
COLUMNS = (
    "climb", "gold", "form", "points", "left out near SFT", "alpha", "beta", "beta, 95 %",
    "residual", "peak at sqrt(KL)", "peak, 95 %", "turnover",
)  # fmt: skip


@dataclass(frozen=True)
class Climb:
    """Rows of one method that differ in one number, by rising KL to SFT."""

    name: str
    form: Form
    rows: Sequence[tuple[str, float]]  # label, KL in nats


def climbs(matrix: Matrix, block: Block, decoding: str) -> list[Climb]:
    """Return every set of three rows or more that differ in one number and whose KL is known."""
    settings, methods = with_ends(row_settings(matrix)), method_of(matrix)
    dials = dict.fromkeys(key for found in settings.values() for key in found)
    found = []
    for dial in dials:
        for group in alike_but(settings, dial, methods):
            kinds = {type(settings[label][dial]) for label in group}
            if not kinds <= {int, float}:
                continue
            known = [(x, mean_of(matrix, block, x, "kl_to_sft", decoding)) for x in group]
            rows = sorted(((x, kl) for x, kl in known if kl is not None), key=lambda row: row[1])
            if len(rows) >= FEWEST:
                method = methods[group[0]]
                form: Form = "best-of-n" if method == "best_of_n" else "rl"
                found.append(Climb(f"{method} by {dial}", form, rows))
    return found


def with_ends(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return settings in which a run's end comes after the policies that it keeps on the way."""
    return {
        label: {AT_CHECKPOINT: found["checkpoints"] + 1, **found}
        if isinstance(found.get("checkpoints"), int)
        else found
        for label, found in settings.items()
    }


def gains(
    matrix: Matrix, block: Block, climb: Climb, measure: Measure
) -> list[tuple[float, Estimate]]:
    """Return (sqrt(KL), gold over SFT's) of each row of a climb that has both."""
    places = [(math.sqrt(max(kl, 0.0)), block, label) for label, kl in climb.rows]
    return gains_along(matrix, measure, places)


def fits(matrix: Matrix, points: Sequence[tuple[float, Estimate]], metric: Metric) -> list[Fit]:
    """Return both forms fitted to the points, as gains; none where they are too few to fit."""
    sure = [(d, e) for d, e in points if math.isfinite(e.stderr) and e.stderr > 0]
    kl, reward, error = (
        [d * d for d, _ in sure],
        [metric.gain(e.value) for _, e in sure],
        [e.stderr for _, e in sure],
    )
    made = []
    for form in FORMS:
        try:
            made.append(fit(kl, reward, error, form))
        except ValueError:  # too few points, or all at one distance: the table says so
            continue
    return made


def climb_table(matrix: Matrix, block: Block) -> Table | None:
    """Return both of Gao's forms for every climb and gold, with peaks; None without a climb."""
    decoding = next(iter(matrix.decodings), "")
    rows: list[list[Cell | str]] = []
    for climb in climbs(matrix, block, decoding):
        for metric, measure in first_measures(matrix, [block]):
            points = gains(matrix, block, climb, measure)
            made = fits(matrix, points, metric)
            rows += [fit_cells(climb, metric.name, len(points), one) for one in made]
            if not made:
                rows.append([climb.name, metric.name, "no fit", str(len(points)), *[""] * 8])
    if not rows:
        return None
    forms = "; ".join(f"{form}: {WRITTEN[form]}" for form in FORMS)
    note = (
        f"R(d) = gain over SFT at d = sqrt(KL to SFT in nats), at {decoding}; {forms} (Gao et al. "
        "2022), by least squares weighted by each point's error, without intercept. A climb is "
        "rows that differ in one number alone; its own form is marked by *, the other is its "
        "check. A turnover is claimed only where beta's interval excludes 0 and the peak lies "
        "inside the distances observed. KL is no fair ruler between methods."
    )
    return table(
        "Over-optimisation: fits along sqrt(KL)", COLUMNS, rows, note, name=named("p7_fits", block)
    )


def fit_cells(climb: Climb, metric: str, points: int, found: Fit) -> list[Cell | str]:
    """Return one fit in words and numbers."""
    peak, span = found.peak, found.peak_interval
    return [
        climb.name,
        metric,
        found.form + (" *" if found.form == climb.form else ""),
        counted(points - found.near, str(points - found.near)),
        str(found.near),
        value(found.alpha),
        value(found.beta),
        f"{number(found.beta_low)} to {number(found.beta_high)}",
        value(found.residual),
        Cell("none") if peak is None else value(peak[0]),
        "no end" if span is None else f"{distance(span[0])} to {distance(span[1])}",
        "turns" if found.turns else "not claimed",
    ]


def value(found: float) -> Cell:
    """Return a cell of a plain number."""
    return Cell(distance(found), order=found)


def distance(found: float) -> str:
    """Return a number that may be far too large to be read digit by digit."""
    return number(found) if abs(found) < 1000 else f"{found:.1e}"


def climb_picture(matrix: Matrix, block: Block, folder: Path) -> Picture | None:
    """Return P7: gold along sqrt(KL) with each climb's own fit, and gold by proxy."""
    decoding = next(iter(matrix.decodings), "")
    known = climbs(matrix, block, decoding)
    proxies = proxy_at_end(block, folder.parent)
    panels = []
    for metric, measure in first_measures(matrix, [block]):
        gained = f"{metric.name} minus {matrix.reference}{arrow(metric, '↑')}"
        curves = [gold_curve(matrix, block, climb, metric, measure) for climb in known]
        panels.append(Panel("sqrt(KL to SFT), nats^½", gained, curves))
        curves = [proxy_curve(matrix, block, climb, measure, proxies) for climb in known]
        panels.append(Panel("proxy reward at the end of training", gained, curves))
    caption = (
        f"Pushed harder, row by row, at {decoding}: gain over SFT against divergence, with the fit "
        "of Gao et al. 2022 in each method's own form where one can be made, and against the proxy "
        "that was trained on, where training kept it. Bars are 95 % intervals."
    )
    several = len(matrix.blocks) > 1
    name = f"{block.base}-{block.dataset}-over_optimisation" if several else "over_optimisation"
    return draw_curves(matrix, folder, name, panels, caption)


def gold_curve(
    matrix: Matrix, block: Block, climb: Climb, metric: Metric, measure: Measure
) -> Curve:
    """Return a climb's gold by distance with its own form fitted through it."""
    points = gains(matrix, block, climb, measure)
    own = next((f for f in fits(matrix, points, metric) if f.form == climb.form), None)
    fitted = []
    if own is not None:
        fitted = [
            (float(d), metric.gain(own.reward(float(d))))
            for d in np.linspace(own.first, own.last, 60)
        ]
    return Curve(climb.name, climb.rows[0][0], points, fitted)


def proxy_curve(
    matrix: Matrix,
    block: Block,
    climb: Climb,
    measure: Measure,
    proxies: dict[str, float],
) -> Curve:
    """Return a climb's gold by the proxy that its rows ended training at."""
    places = sorted((proxies[label], block, label) for label, _ in climb.rows if label in proxies)
    return Curve(climb.name, climb.rows[0][0], gains_along(matrix, measure, places))


def proxy_at_end(block: Block, results: Path) -> dict[str, float]:
    """Return each row's last proxy reward in training, the mean over its seeds."""
    if not (results / CURVES).is_file():
        return {}
    rows = [
        row
        for row in read_csv(results / CURVES)
        if (row["base"], row["dataset"]) == tuple(block) and row["column"] == "proxy"
    ]
    ends: dict[str, list[float]] = {}
    for (label, _), columns in last_stage(rows).items():
        proxy = columns["proxy"]
        ends.setdefault(label, []).append(proxy[max(proxy)])
    return {label: fmean(found) for label, found in ends.items()}
