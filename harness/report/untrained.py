"""Rows that learnt nothing beyond SFT: there for scale, and outside the methods' family of tests.

What a row was given decides, as its cells count it, never what it scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

Cells = Sequence[Mapping[str, str]]


def untrained(cells: Cells, tested: Sequence[str], reference: str) -> list[str]:
    """Return the tested labels without a judgement bought or a token trained on more than SFT's.

    Means over the seeds that are done. None of them where no row learnt anything by these counts:
    results older than the counts.
    """
    spent = {label: spending(cells, label) for label in (*tested, reference)}
    of_sft = spent[reference] or (0.0, 0.0)
    idle = [label for label in tested if spent[label] == (0.0, of_sft[1])]
    return idle if len(idle) < len(tested) else []


def spending(cells: Cells, label: str) -> tuple[float, float] | None:
    """Return a label's judgements and trained tokens, means over seeds; None where none is done."""
    done = [cell for cell in cells if (cell["label"], cell["state"]) == (label, "done")]
    if not done:
        return None
    labels, tokens = (
        fmean(float(cell.get(column) or 0) for cell in done)
        for column in ("labels_used", "tokens_trained")
    )
    return labels, tokens
