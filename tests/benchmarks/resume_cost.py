"""B7: what three SIGKILLs at random points cost a training run that keeps checkpoints.

    python tests/benchmarks/resume_cost.py [--pairs N]

The same fine-tuning runs undisturbed and killed, by turns; the points are seeded shares of the
undisturbed run's training time. A process's start (imports, the model, the rows) is measured apart
and counted in the totals. Processor seconds are what the bar is read from, since wall clocks on a
shared machine measure the others too; both are printed. Steps that were done again are counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

KILLS = 3
LIMIT = 1.10  # of an undisturbed run, with the starts on top
SAVES = 0.02  # of the time that checkpoints may take
ROWS, BATCH, EPOCHS = 240, 8, 2
STEPS = ROWS // BATCH * EPOCHS
EVERY = 2.0  # seconds between checkpoints: the run is a minute, not the hours that 20 s are for


def child(folder: Path) -> None:
    """Train in a folder from its last checkpoint, and log starts, steps and seconds of saving."""
    from unittest.mock import patch

    from tiny import tiny_demonstrations, write_policy

    import harness.draft
    from harness.artifacts import Demonstrations, Policy
    from harness.draft import Checkpoints, Draft
    from harness.stages.finetune import finetune

    out = folder / "out"
    log = (folder / "log").open("a", buffering=1)

    class Logged(Draft):
        def progress(self, label: str, done: float, total: float | None) -> None:
            log.write(f"step {done:.0f} {time.monotonic()} {sum(os.times()[:4])}\n")
            super().progress(label, done, total)

        def save(self, step: int, write: Any) -> None:
            before = time.monotonic()
            super().save(step, write)
            log.write(f"saved {time.monotonic() - before}\n")

    if not (folder / "policy").is_dir():
        (folder / "policy").mkdir()
        write_policy(folder / "policy", hidden_size=256, intermediate_size=512)
        (folder / "rows").mkdir()
        tiny_demonstrations.body(Draft(folder / "rows"), n=ROWS, seed=0)
    out.mkdir(exist_ok=True)
    kept = Checkpoints(folder / "kept", lambda: None, lambda aside, _: aside)
    policy = Policy("policy", path=folder / "policy")
    rows = Demonstrations("rows", path=folder / "rows")
    settings = {"batch_size": BATCH, "epochs": EPOCHS, "learning_rate": 1e-3, "seed": 0}
    with patch.object(harness.draft, "SAVE_SECONDS", EVERY):
        finetune.body(Logged(out, checkpoints=kept), policy, rows, **settings)


def run(folder: Path, kills: list[float]) -> dict[str, Any]:
    """Run to the end in a folder, killed after so many seconds of training each; what it cost."""
    folder.mkdir()
    log = folder / "log"
    log.touch()
    before, began = os.times(), time.monotonic()
    starts: list[float] = []
    for limit in [*kills, None]:
        seen, born = lines(log, "step"), time.monotonic()
        child = subprocess.Popen([sys.executable, __file__, "--child", str(folder)])
        while child.poll() is None and lines(log, "step") == seen:
            time.sleep(0.02)
        starts.append(time.monotonic() - born)
        deadline = None if limit is None else time.monotonic() + limit
        while child.poll() is None:
            if deadline is not None and time.monotonic() >= deadline:
                child.send_signal(signal.SIGKILL)
            time.sleep(0.02)
        if limit is None and child.returncode != 0:
            raise RuntimeError(f"the child ended with {child.returncode}")
    after = os.times()
    weights = (folder / "out" / "model.safetensors").read_bytes()
    saves = [float(line.split()[1]) for line in log.read_text().splitlines() if line[:2] == "sa"]
    spent = [a - b for a, b in zip(after[2:4], before[2:4], strict=True)]
    return {
        "wall": time.monotonic() - began,
        "cpu": sum(spent),
        "start": statistics.median(starts),
        "steps": len(lines(log, "step")),
        "saving": sum(saves),
        "saves": len(saves),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def lines(log: Path, kind: str) -> list[str]:
    """Return the lines of a log that begin with a word."""
    return [line for line in log.read_text().splitlines() if line.startswith(kind)]


def started() -> float:
    """Return the processor seconds of a child that trains nothing: imports, model and rows."""
    before = os.times()
    code = "import torch, transformers, trl, datasets, peft"
    subprocess.run([sys.executable, "-c", code], check=True)
    return sum(os.times()[2:4]) - sum(before[2:4])


def measured(pairs: int) -> dict[str, Any]:
    """Return medians over pairs of runs, each undisturbed and then killed at its own points."""
    found: list[dict[str, float]] = []
    for number in range(pairs):
        with tempfile.TemporaryDirectory() as name:
            imports = started()
            whole = run(Path(name, "whole"), [])
            trained = whole["wall"] - whole["start"]
            draw = random.Random(f"kills/{number}")
            points = sorted(draw.uniform(0.05, 0.95) for _ in range(KILLS))
            gaps = [b - a for a, b in zip([0.0, *points], points, strict=False)]
            killed = run(Path(name, "killed"), [gap * trained for gap in gaps])
        if killed["sha256"] != whole["sha256"]:
            raise RuntimeError("the weights of the killed run differ from the undisturbed one's")
        found.append(
            {
                "killed over bound": killed["cpu"] / (LIMIT * whole["cpu"] + KILLS * imports),
                "wall ratio": killed["wall"] / whole["wall"],
                "steps done again": killed["steps"] - whole["steps"],
                "seconds of an import": imports,
                "cpu seconds undisturbed": whole["cpu"],
                "cpu seconds killed": killed["cpu"],
                "wall seconds undisturbed": whole["wall"],
                "wall seconds killed": killed["wall"],
                "share of saving": whole["saving"] / trained,
                "checkpoints undisturbed": whole["saves"],
            }
        )
        print(json.dumps({name: round(value, 3) for name, value in found[-1].items()}), flush=True)
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    spread = [one["killed over bound"] for one in found]
    return {
        **{name: round(value, 3) for name, value in medians.items()},
        "spread": [round(min(spread), 3), round(max(spread), 3)],
        "limit": 1.0,
        "limit of saving": SAVES,
        "steps": STEPS,
        "same bits": True,
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", type=Path)
    given = parser.parse_args()
    if given.child:
        child(given.child)
    else:
        print(json.dumps(measured(given.pairs), indent=1))
