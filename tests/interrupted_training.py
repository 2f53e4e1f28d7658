"""A child process that trains and kills itself: `python interrupted_training.py STAGE FOLDER STEP`.

STEP 0 never kills. A checkpoint is kept after every step. STAGE with `_lora` after it trains an
adapter that has dropout of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

from tiny import questions, write_policy

import harness.draft
import harness.training
from harness.adapters import Lora, Setup
from harness.artifacts import Demonstrations, Policy, Preferences, write_rows
from harness.draft import Checkpoints, Draft
from harness.stages.finetune import finetune
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward, fit_safe_reward
from harness.stages.steps import StepLabels, fit_step_reward

STAGES = {
    "finetune": (finetune, {"epochs": 2, "batch_size": 5}),
    "fit_reward": (fit_reward, {"epochs": 2, "batch_size": 5}),
    "fit_safe_reward": (fit_safe_reward, {"epochs": 2, "batch_size": 5}),
    "fit_step_reward": (fit_step_reward, {"epochs": 2, "batch_size": 5}),
    "prefer": (prefer, {"epochs": 2, "batch_size": 5, "beta": 0.5}),
}


class Fatal(Draft):
    """A draft whose process dies as soon as a step has been shown, before its checkpoint."""

    def __init__(self, folder: Path, dies_at: int) -> None:
        checkpoints = Checkpoints(folder / "checkpoints", lambda: None, self.put_aside)
        (folder / "out").mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "out", checkpoints=checkpoints)
        self.dies_at = dies_at

    def put_aside(self, folder: Path, reason: str) -> Path:
        return folder.rename(folder.with_name(f"broken-{folder.name}"))

    def progress(self, label: str, done: float, total: float | None) -> None:
        if done == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


KINDS = {"finetune": Demonstrations, "fit_step_reward": StepLabels}  # the others read Preferences


def data_for(name: str, folder: Path) -> Demonstrations | Preferences | StepLabels:
    """Write and return 24 rows of what the stage takes; some labels are soft."""
    rows = []
    for number, row in enumerate(questions(24, 0)):
        answers = {"chosen": f"please, {number}", "rejected": f"{number} no", "completion": "yes"}
        label = {"p1": 0.7 if number % 3 else 1.0, "axis": "helpful", "strength": None}
        flags = {"chosen_safe": True, "rejected_safe": number % 2 == 0, "labels": [number % 2 == 0]}
        rows.append({**row, **answers, **label, **flags, "pair_id": str(number)})
    folder.mkdir(parents=True)
    write_rows(Draft(folder), rows)
    return KINDS.get(name, Preferences)("rows", path=folder)


def train(name: str, folder: Path, dies_at: int, seconds: float = 0.0) -> Draft:
    """Run the stage in `folder`, where an earlier run may have left checkpoints.

    `seconds` lie between two checkpoints at least.
    """
    inputs = Path(tempfile.mkdtemp(dir=folder))
    (inputs / "policy").mkdir()
    # Dropout, which training switches off, makes the result depend on the generator's state too.
    write_policy(inputs / "policy", attention_dropout=0.1)
    if name.endswith("_lora"):
        setup = Setup(Lora(rank=4, dropout=0.1))
        (inputs / "policy" / "setup.json").write_text(json.dumps(asdict(setup)))
    name = name.removesuffix("_lora")
    out = Fatal(folder, dies_at)
    stage, settings = STAGES[name]
    policy = Policy("policy", path=inputs / "policy")
    data = data_for(name, inputs / "rows")
    pace = {"SAVE_SECONDS": seconds, "SAVE_SHARE": float("inf")}
    with (
        patch.multiple(harness.draft, **pace),
        patch.object(harness.training, "without_dropout", lambda model: model),
    ):
        stage.body(out, policy, data, learning_rate=1e-3, seed=1, **settings)
    return out


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
