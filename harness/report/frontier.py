"""P1: what each row gained over SFT by how far it went from it, with best-of-n as the reference."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.best_of_n_curves import kl_bound
from harness.overoptimisation import limit_curve
from harness.report.climb import Climb, climbs
from harness.report.figures import Picture
from harness.report.plots import Painter, Trail, gains, mean_of, panels_of
from harness.report.tables import Block, Matrix, Measure, Metric
from harness.report.words import number
from harness.results import ITEMS
from harness.statistics import Estimate, difference

LADDER = {"helpfulness": "best_help", "safety": "best_safe"}  # by axis, of `overoptimisation`
PLACE = re.compile(r"best of (\d+)")  # a decoding of that suite
ROOM = 1.15  # of the farthest row that learnt something


def frontier(matrix: Matrix, block: Block, folder: Path) -> Picture | None:
    """Write P1 into `folder`; None where no row's divergence from SFT is known."""
    painter = Painter(matrix, block, folder)

    def kl(label: str, decoding: str) -> float | None:
        return mean_of(matrix, block, label, "kl_to_sft", decoding)

    found = panels_of(gains(painter, kl), "KL to SFT on the test prompts, nats", by_factors=False)
    if not found:
        return None
    decoding = next(iter(matrix.decodings), "")
    known, idle = climbs(matrix, block, decoding), matrix.untrained(block)
    far = {dot.label: dot.x for panel in found for dot in panel.dots}
    end = ROOM * max((x for label, x in far.items() if label not in idle), default=math.inf)
    panels, has_reference, has_limit = [], False, False
    for panel, (metric, measure) in zip(found, measures(matrix, block), strict=True):
        reference = best_of_n(matrix, block, metric)
        has_reference |= bool(reference)
        most = limit(matrix, block, metric, folder.parent)
        has_limit |= bool(most)
        trails = [*along(matrix, block, known, measure), *reference]
        panels.append(replace(panel, trails=trails, limit=most, end=end))
    beyond = ", ".join(f"{label} at {number(x)}" for label, x in far.items() if x > end)
    caption = "Gain over SFT against divergence from it. "
    if known:
        caption += "Lines join rows of one method that differ in one setting. "
    if has_reference:
        caption += (
            "Dashed: best of n of SFT's answers by a learnt reward, at the bound on its KL, with "
            "its 95 % band. "
        )
    if has_limit:
        caption += (
            "Dotted: the most that any policy can gain at a KL to SFT, by tilting SFT's own "
            "samples, as far as their number says. "
        )
    if beyond:
        caption += f"Beyond the frame: {beyond}. "
    caption += (
        "KL is no fair ruler across methods (Gao et al. 2022), so no row is read off at equal KL."
    )
    return painter.against("gain_by_kl", panels, caption)


def measures(matrix: Matrix, block: Block) -> list[tuple[Metric, Measure]]:
    """Return the primary metrics whose gains can be drawn by divergence, in the panels' order."""
    pairs: dict[str, tuple[Metric, Measure]] = {}
    for metric in matrix.co_primary():
        for measure in matrix.measures(block, metric):
            for label in matrix.labels:
                entry = matrix.entries[block, label, measure]
                if entry.difference is not None and (
                    mean_of(matrix, block, label, "kl_to_sft", measure.decoding) is not None
                ):
                    pairs.setdefault(metric.name, (metric, measure))
    return list(pairs.values())


def along(matrix: Matrix, block: Block, known: Sequence[Climb], measure: Measure) -> list[Trail]:
    """Return a line through the rows of each climb, from SFT on, by rising divergence."""
    trails = []
    for climb in known:
        points = [
            (kl, found)
            for label, kl in climb.rows
            if (found := matrix.entries[block, label, measure].difference) is not None
        ]
        trails.append(Trail(climb.name, climb.rows[0][0], points))
    return trails


def best_of_n(matrix: Matrix, block: Block, metric: Metric) -> list[Trail]:
    """Return best-of-n's gain over one draw at its bound on KL, from the first row that has it.

    Nothing where the suite that measures it was not asked for. (Gao et al. 2022, arXiv:2210.10760,
    section 3)
    """
    ladder = [m for m in matrix.metrics.values() if m.name == LADDER.get(metric.axis)]
    steps = {
        int(match[1]): measure
        for one in ladder
        for measure in matrix.measures(block, one)
        if (match := PLACE.fullmatch(measure.decoding))
    }
    for label in matrix.labels:
        series = {n: matrix.measured(block, label, steps[n]) for n in sorted(steps)}
        first = series.get(1)
        if first is None:
            continue
        points: list[tuple[float, Estimate]] = [
            (kl_bound(n), difference(one.values, first.values, first.clusters))
            for n, one in series.items()
            if one is not None and n > 1
        ]
        return [Trail("best of n", None, points)]
    return []


def limit(matrix: Matrix, block: Block, metric: Metric, folder: Path) -> list[tuple[float, float]]:
    """Return the most that a policy can gain in a metric at a KL to SFT, from SFT's own samples.

    (KL in nats, gain), as far as so few samples can say; nothing where a prompt has but one, or
    where they do not differ. See `limit_curve`.
    """
    rewards = drawn(matrix, block, metric, folder)
    if not any(len(set(of_prompt)) > 1 for of_prompt in rewards):
        return []
    sign = 1.0 if metric.higher_is_better else -1.0
    found = limit_curve(sign * np.array(rewards))
    return list(zip(found.kl.tolist(), (sign * found.reward).tolist(), strict=True))


def drawn(matrix: Matrix, block: Block, metric: Metric, folder: Path) -> list[list[float]]:
    """Return the grades of SFT's samples at temperature 1, one list for each seed and prompt."""
    import pyarrow.parquet as pq

    named = {"base": block.base, "dataset": block.dataset, "label": matrix.reference or ""}
    named |= {"suite": metric.suite, "metric": metric.name, "decoding": "T=1", "population": ""}
    wanted = [(name, "=", value) for name, value in named.items()]
    columns = ["seed", "prompt_id", "judge", "value"]
    groups: dict[tuple[int, str, str], list[float]] = {}
    for row in pq.read_table(folder / ITEMS, columns=columns, filters=wanted).to_pylist():
        if row["value"] is not None:
            key = (row["seed"], row["prompt_id"], row["judge"])
            groups.setdefault(key, []).append(row["value"])
    most = max(map(len, groups.values()), default=0)
    return [found for found in groups.values() if len(found) == most]
