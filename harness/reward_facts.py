"""How well the reward models behind each row predict labels held out from them: facts of a report.

Read from the `calibration.json` of every fitted reward model; nothing is measured here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.artifacts import Preferences, Rankings, RewardModel
from harness.stage import find_artifacts

if TYPE_CHECKING:
    from harness.ledger import Book
    from harness.stage import Artifact

CALIBRATION = "calibration.json"


def reward_models(book: Book) -> list[dict[str, Any]]:
    """Return each reward model that is made: its rows, seed, what it reads, and its calibration.

    `place` numbers the reward models of a cell from 0, so that the seeds of one model are known.
    """
    found: dict[str, dict[str, Any]] = {}
    for cell in book.cells:
        models = [a for a in book.trained[cell.name] if isinstance(a, RewardModel)]
        for place, model in enumerate(models):
            file = book.store.path(model.id) / CALIBRATION
            if model not in book.store or not file.is_file():  # a plugin's may have none
                continue
            known: dict[str, Any] = {
                "artifact": model.id,
                "base": cell.base,
                "dataset": cell.dataset,
            }
            known |= {"seed": cell.seed, "place": place, "reads": axes_of(model), "rows": []}
            known["calibration"] = json.loads(file.read_text(encoding="utf-8"))
            rows = found.setdefault(model.id, known)["rows"]
            if cell.label not in rows:
                rows.append(cell.label)
    return list(found.values())


def axes_of(model: Artifact) -> list[str]:
    """Return the axes that the rows behind a reward model were kept by, none where it read all."""
    axes: dict[str, None] = {}
    waiting = [model]
    while waiting:
        recipe = waiting.pop(0).recipe
        given = recipe.arguments if recipe else {}
        if axis := given.get("axis"):
            axes[axis] = None
            continue
        waiting += [a for a in find_artifacts(given) if isinstance(a, Preferences | Rankings)]
    return list(axes)
