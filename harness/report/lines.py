"""Figures of lines: training as it went, and how panels of lines are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.figures import Picture, style
from harness.report.plots import Painter
from harness.report.tables import Block, Matrix
from harness.report.words import number
from harness.results import read_csv
from harness.transcripts import CURVES

CURVE_COLUMNS = ("label", "seed", "stage", "place", "step", "column", "value")
Line = list[tuple[float, float]]


def draw_lines(matrix: Matrix, block: Block, folder: Path) -> Iterator[Picture]:
    """Yield the figures of lines that the results folder around `folder` has data for."""
    from harness.report.tuning import tuning_picture

    painter, results = Painter(matrix, block, folder), folder.parent
    for picture in (training(painter, results), tuning_picture(matrix, block, results)):
        if picture is not None:
            yield picture


def training(painter: Painter, results: Path) -> Picture | None:
    """Return P7: proxy reward and KL of each policy that was optimised against a reward."""
    if not (results / CURVES).is_file():
        return None
    rows = [
        row
        for row in read_csv(results / CURVES)
        if (row["base"], row["dataset"]) == tuple(painter.block)
        and row["column"] in ("proxy", "kl")
    ]
    lines = last_stage(rows)
    panels = [
        ("KL to the reference, nats", "proxy reward", frontier(lines)),
        ("share of the training steps", "proxy reward", over_steps(lines, "proxy")),
        ("share of the training steps", "KL to the reference, nats", over_steps(lines, "kl")),
    ]
    if not any(found for _, _, found in panels):
        return None
    caption = (
        "Training against a reward: a line a seed, from the policy's own batches. The proxy is "
        "the reward that was trained on, on a scale of its own in each row, and no measure of "
        "quality."
    )
    data = [[row[name] for name in CURVE_COLUMNS] for row in rows]
    ends = "; ".join(f"{label} ends at {number(line[-1][1])}" for label, line in panels[1][2])
    alt = f"Proxy reward over training: {ends}."
    return plot(painter, "training", panels, caption, (CURVE_COLUMNS, data), alt)


def last_stage(
    rows: Sequence[Mapping[str, str]],
) -> dict[tuple[str, str], dict[str, dict[float, float]]]:
    """Return the curves of each (label, seed)'s last stage that has any, by column and step."""
    last: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row["label"], row["seed"])
        last[key] = max(last.get(key, 0), int(row["place"]))
    found: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
    for row in rows:
        key = (row["label"], row["seed"])
        if int(row["place"]) == last[key]:
            curve = found.setdefault(key, {}).setdefault(row["column"], {})
            curve[float(row["step"])] = float(row["value"])
    return found


def frontier(
    lines: Mapping[tuple[str, str], Mapping[str, Mapping[float, float]]],
) -> list[tuple[str, Line]]:
    """Return proxy reward by KL, step after step."""
    found = []
    for (label, _), columns in lines.items():
        kl, proxy = columns.get("kl", {}), columns.get("proxy", {})
        line = [(kl[step], proxy[step]) for step in sorted(kl) if step in proxy]
        if line:
            found.append((label, line))
    return found


def over_steps(
    lines: Mapping[tuple[str, str], Mapping[str, Mapping[float, float]]], column: str
) -> list[tuple[str, Line]]:
    """Return one column by the share of its steps, since rows train for different numbers."""
    found = []
    for (label, _), columns in lines.items():
        steps = sorted(columns.get(column, {}))
        if steps:
            found.append((label, [(step / steps[-1], columns[column][step]) for step in steps]))
    return found


def plot(
    painter: Painter,
    start: str,
    panels: Sequence[tuple[str, str, list[tuple[str, Line]]]],
    caption: str,
    data: tuple[Sequence[str], Sequence[Sequence[object]]],
    alt: str,
    mark: str = "",
) -> Picture:
    """Write panels of lines, a colour a row; `mark` stands on each of their points."""
    from matplotlib.figure import Figure

    panels = [panel for panel in panels if panel[2]]
    with style():
        figure = Figure(figsize=(6.2, 2.9 * len(panels) + 1.1))
        rows: Any = figure.subplots(len(panels), squeeze=False)[:, 0]
        for axes, (x_name, y_name, lines) in zip(rows, panels, strict=True):
            for label, line in lines:
                xs, ys = zip(*line, strict=True)
                axes.plot(xs, ys, color=painter.colours[label], linewidth=1.3, marker=mark)
            axes.set_xlabel(x_name)
            axes.set_ylabel(y_name)
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        painter.legend(figure, [label for _, _, lines in panels for label, _ in lines])
        return painter.finish(figure, start, caption, data, alt)
