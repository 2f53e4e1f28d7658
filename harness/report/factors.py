"""The factor grid: who labels, crossed with how one optimises, as main effects and interaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.contrasts import Weighted, contrast, method_of, primary_measures, row_settings
from harness.report.grid import Cell, Table, measured, table
from harness.report.headline import named
from harness.report.tables import Block, Matrix, Measure
from harness.statistics import ALPHA, Estimate, holm

SOURCES = ("human", "ai", "ai_principle")  # the first is what the others are compared with
FEEDBACK = "feedback"


@dataclass(frozen=True)
class Grid:
    """A full crossing: sources of labels, optimisers, and the row in each place."""

    sources: Sequence[str]
    optimisers: Sequence[str]
    rows: Mapping[tuple[str, str], str]


def grid_of(matrix: Matrix, block: Block) -> Grid | None:
    """Return the largest full crossing of label source and optimiser among a block's rows.

    An optimiser is a method with all its settings but the source. None without two of each.
    """
    methods = method_of(matrix)
    places: dict[str, dict[str, str]] = {}
    for label, settings in row_settings(matrix).items():
        if not matrix.gates.withheld(block, label) and settings.get(FEEDBACK) in SOURCES:
            rest = {name: value for name, value in settings.items() if name != FEEDBACK}
            key = json.dumps([methods[label], rest], sort_keys=True)
            places.setdefault(key, {}).setdefault(settings[FEEDBACK], label)
    best: Grid | None = None
    for sources in (SOURCES, ("human", "ai"), ("human", "ai_principle"), ("ai", "ai_principle")):
        full = [found for found in places.values() if all(s in found for s in sources)]
        size = 0 if best is None else len(best.rows)
        if len(full) > 1 and len(full) * len(sources) > size:
            names = unique([methods[found[sources[0]]] for found in full], full, sources[0])
            rows = {(s, n): f[s] for n, f in zip(names, full, strict=True) for s in sources}
            best = Grid(sources, names, rows)
    return best


def unique(names: Sequence[str], rows: Sequence[Mapping[str, str]], source: str) -> list[str]:
    """Return methods' names, by their rows' labels where one method is there twice."""
    return [
        name if names.count(name) == 1 else row[source]
        for name, row in zip(names, rows, strict=True)
    ]


def effects(grid: Grid) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield family, name and weights of each contrast, weights by row.

    Sources against the first, averaged over optimisers; optimisers against the mean of all,
    averaged over sources; and how far a source's effect under one optimiser is from its average.
    """
    first, *others = grid.sources
    many, several = len(grid.optimisers), len(grid.sources)
    for source in others:
        weights = {grid.rows[source, o]: 1 / many for o in grid.optimisers}
        weights |= {grid.rows[first, o]: -1 / many for o in grid.optimisers}
        yield "label source", f"{source} minus {first}", weights
    for mine in grid.optimisers:
        weights = {
            grid.rows[source, o]: ((o == mine) - 1 / many) / several
            for source in grid.sources
            for o in grid.optimisers
        }
        yield "optimiser", f"{mine} minus the mean", weights
    for source in others:
        for mine in grid.optimisers:
            weights = {
                grid.rows[s, o]: sign * ((o == mine) - 1 / many)
                for s, sign in ((source, 1), (first, -1))
                for o in grid.optimisers
            }
            yield "interaction", f"{source} minus {first} under {mine}, beyond its average", weights


def factor_table(matrix: Matrix, block: Block) -> Table | None:
    """Return main effects and interaction of the grid on the primary metrics; None without one."""
    grid = grid_of(matrix, block)
    measures = primary_measures(matrix, [block])
    if grid is None or not measures:
        return None
    lines = list(effects(grid))
    columns = [column(matrix, block, lines, measure) for measure in measures]
    rows: list[list[Cell | str]] = [
        [family, name, *(cells[i] for cells in columns)]
        for i, (family, name, _) in enumerate(lines)
    ]
    if not any(cell.estimate for row in columns for cell in row):
        return None
    where = ", ".join(f"{grid.rows[place]} ({place[0]}, {place[1]})" for place in grid.rows)
    note = (
        f"A full crossing of {len(grid.sources)} label sources and {len(grid.optimisers)} "
        f"optimisers: {where}. Source effects are averaged over optimisers, optimiser effects over "
        "sources; an interaction is how far a source's effect under one optimiser is from its "
        "average. All are paired by (seed, prompt) with 95 % intervals; * marks those with Holm p "
        f"at most {ALPHA:.2f} within their kind, metric and decoding. Exploratory."
    )
    heads = ["effect of", "contrast", *(f"{m.metric} at {m.decoding}" for m in measures)]
    return table("Who labels, and how one optimises", heads, rows, note, name=named("grid", block))


def column(
    matrix: Matrix,
    block: Block,
    lines: Sequence[tuple[str, str, Mapping[str, float]]],
    measure: Measure,
) -> list[Cell]:
    """Return one metric's contrasts, Holm-adjusted within each kind; a hole where a row has one."""
    found: list[Estimate | None] = []
    for _, _, weights in lines:
        parts: Weighted = [(w, matrix.measured(block, x, measure)) for x, w in weights.items()]
        found.append(contrast(parts))
    marked: dict[int, bool] = {}
    for kind in {family for family, _, _ in lines}:
        mine = {
            i: estimate.p
            for i, estimate in enumerate(found)
            if estimate is not None and lines[i][0] == kind
        }
        adjusted = holm(list(mine.values()))
        marked |= {i: p <= ALPHA for i, p in zip(mine, adjusted, strict=True)}
    return [
        Cell("hole") if one is None else measured(one, sign=True, mark=" *" if marked[i] else "")
        for i, one in enumerate(found)
    ]
