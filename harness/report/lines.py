"""Figures of lines: training as it went, and how panels of lines are drawn."""

from __future__ import annotations

import math
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
BESIDE = {  # what shows whether training was sound, whatever it earned
    "reward": "reward less penalty",
    "length": "length, tokens",
    "eos_rate": "share of answers that end",
    "entropy": "entropy, nats a token",
    "clip_fraction": "share of tokens clipped",
    "explained_variance": "variance values explain",
}
SHARE = "share of the training steps"
Line = list[tuple[float, float]]


def draw_lines(matrix: Matrix, block: Block, folder: Path) -> Iterator[Picture]:
    """Yield the figures of lines that the results folder around `folder` has data for."""
    from harness.report.tuning import tuning_picture

    painter, results = Painter(matrix, block, folder), folder.parent
    drawn = (training(painter, results), soundness(painter, results))
    for picture in (*drawn, tuning_picture(matrix, block, results)):
        if picture is not None:
            yield picture


def curves_of(painter: Painter, results: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the points of a block's training curves in some columns, none where nothing is."""
    if not (results / CURVES).is_file():
        return []
    return [
        row
        for row in read_csv(results / CURVES)
        if (row["base"], row["dataset"]) == tuple(painter.block) and row["column"] in columns
    ]


def training(painter: Painter, results: Path) -> Picture | None:
    """Return P7: proxy reward and KL of each policy that was optimised against a reward."""
    rows = curves_of(painter, results, ("proxy", "kl"))
    lines = last_stage(rows)
    panels = [
        ("KL to the reference, nats", "proxy reward", frontier(lines)),
        (SHARE, "proxy reward", over_steps(lines, "proxy")),
        (SHARE, "KL to the reference, nats", over_steps(lines, "kl")),
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


def soundness(painter: Painter, results: Path) -> Picture | None:
    """Return what else a policy's training against a reward showed, in two columns of panels."""
    found = curves_of(painter, results, ("proxy", *BESIDE))
    optimised = {row["artifact"] for row in found if row["column"] == "proxy"}
    rows = [row for row in found if row["artifact"] in optimised and row["column"] in BESIDE]
    lines = last_stage(rows)
    panels = [(SHARE, name, over_steps(lines, column)) for column, name in BESIDE.items()]
    if not any(found for _, _, found in panels):
        return None
    caption = (
        "What else training against a reward showed, a line a seed, from the policy's own batches: "
        "the reward less the penalty on KL, the answers, and the gradient steps. Sound training "
        "keeps most answers ending and most tokens unclipped, and its values come to explain some "
        "of the variance of the returns."
    )
    data = [[row[name] for name in CURVE_COLUMNS] for row in rows]
    ends = "; ".join(
        f"{label}: {name} ends at {number(line[-1][1])}"
        for _, name, each in panels
        for label, line in each
    )
    alt = f"Training beside its reward. {ends}."
    return plot(painter, "training_soundness", panels, caption, (CURVE_COLUMNS, data), alt, wide=2)


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
    wide: int = 1,
) -> Picture:
    """Write panels of lines, `wide` beside each other; `mark` stands on each of their points."""
    from matplotlib.figure import Figure

    panels = [panel for panel in panels if panel[2]]
    high = math.ceil(len(panels) / wide)
    with style():
        figure = Figure(figsize=(6.2, 2.9 * high / wide + 1.1))
        places: Iterator[Any] = iter(figure.subplots(high, wide, squeeze=False).flat)
        for (x_name, y_name, lines), axes in zip(panels, places, strict=False):
            for label, line in lines:
                xs, ys = zip(*line, strict=True)
                axes.plot(xs, ys, color=painter.colours[label], linewidth=1.3, marker=mark)
            axes.set_xlabel(x_name)
            say = axes.set_ylabel if wide == 1 else axes.set_title  # beside small panels is no room
            say(y_name)
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in places:  # what is left over of the last row
            axes.remove()
        painter.legend(figure, [label for _, _, lines in panels for label, _ in lines])
        return painter.finish(figure, start, caption, data, alt)
