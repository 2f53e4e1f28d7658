"""What each row answered and how its training went, as files that travel with the results.

`answers.jsonl.gz` holds, prompt by prompt, the first answer of every row under each decoding, of
the first seed: enough to read what the numbers are about. `curves.csv` holds the training curves
of every policy, thinned. Nothing here knows the truth about a prompt.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import Policy, Samples
from harness.plain_text import clean

if TYPE_CHECKING:
    from harness.ledger import Book
    from harness.study import Cell

ANSWERS, CURVES = "answers.jsonl.gz", "curves.csv"
LONGEST = 2_000  # characters of an answer or message that are kept
POINTS = 60  # of a curve that are kept: what a figure can show
CURVE_COLUMNS = (
    "base", "dataset", "label", "seed", "artifact", "stage", "place", "step", "column", "value",
)  # fmt: skip
CURVES_KEPT = (  # what curves of different stages mean alike
    "proxy", "reward", "kl", "length", "eos_rate", "entropy", "clip_fraction",
    "explained_variance", "loss", "rewards/margins", "rewards/accuracies",
    "reward/by_safe", "reward/below_threshold", "reward/safe_mean", "reward/safe_std",
    "reward/helpful_mean", "reward/helpful_std",
)  # fmt: skip


def answers_file(book: Book) -> bytes:
    """Return gzipped JSON lines: one for each base, dataset, decoding and prompt, as drawn."""
    lines: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    first: dict[tuple[str, str, str], int] = {}
    for cell in book.cells:
        if first.setdefault((cell.base, cell.dataset, cell.label), cell.seed) != cell.seed:
            continue
        for decoding, samples in cell.samples.items():
            if samples in book.store:
                add_answers(lines, cell, decoding, book.store.open(samples))
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines.values())
    return gzip.compress(text.encode("utf-8", "replace"), mtime=0)


def add_answers(
    lines: dict[tuple[str, str, str, str], dict[str, Any]],
    cell: Cell,
    decoding: str,
    samples: Samples,
) -> None:
    """Add one row's first answer to every prompt."""
    for row in samples:
        if row["sample"] != 0:
            continue
        key = (cell.base, cell.dataset, decoding, row["prompt_id"])
        if key not in lines:
            lines[key] = {
                "base": cell.base,
                "dataset": cell.dataset,
                "decoding": decoding,
                "prompt_id": row["prompt_id"],
                "tag": row["tag"],
                "messages": [
                    {"role": m["role"], "content": clean(m["content"], longest=LONGEST)}
                    for m in row["messages"]
                ],
                "answers": {},
            }
        lines[key]["answers"][cell.label] = {
            "seed": cell.seed,
            "text": clean(row["completion"], longest=LONGEST),
            "finished": bool(row["finished"]),
        }


def read_answers(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a results folder's answers; none where it has no such file."""
    file = folder / ANSWERS
    if file.is_file():
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def curve_rows(book: Book) -> Iterator[list[object]]:
    """Yield the rows of `curves.csv`: every policy that a cell's own one was trained through.

    `place` numbers a cell's stages from 0, so that rounds of one stage keep their order. What
    all cells of a base share (its own training) is left to the store.
    """
    for cell in book.cells:
        policies = [a for a in book.trained[cell.name] if isinstance(a, Policy)]
        for place, policy in enumerate(policies):
            if policy not in book.store or policy.recipe is None:
                continue
            file = book.store.path(policy.id) / "curves.csv"
            if file.is_file():
                key = [cell.base, cell.dataset, cell.label, cell.seed, policy.id]
                for point in points_of(file):
                    yield [*key, policy.recipe.stage.name, place, *point]


def points_of(file: Path) -> Iterator[tuple[object, ...]]:
    """Yield (step, column, value) of one curve, evenly thinned; first and last points stay."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in thinned(rows):
        for column in CURVES_KEPT:
            if row.get(column, "nan") not in ("", "nan"):
                yield int(float(row["step"])), column, float(row[column])


def thinned(rows: list[dict[str, str]]) -> Iterable[dict[str, str]]:
    """Return at most `POINTS` of the rows."""
    if len(rows) <= POINTS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (POINTS - 1))] for i in range(POINTS)]
