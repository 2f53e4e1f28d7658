"""B7: what three SIGKILLs at random points cost a training run that keeps checkpoints.

    python tests/benchmarks/resume_cost.py [--pairs N] [--rows N]

The same fine-tuning runs undisturbed and killed, by turns; the points are seeded shares of the
undisturbed run's training time. Every start is a fresh fork of a process that has imported torch
and its relatives, as in a run of the harness, and opens the model and the rows again; it is
measured apart and counted in the totals. Processor seconds are what the bar is read from, since
clocks on a shared machine measure the others too; both are printed. Steps that were done again are
counted, and the time that passed between the last checkpoint and the kill.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

KILLS = 3
LIMIT = 1.10  # of an undisturbed run, with the starts on top
SAVES = 0.02  # of the time that checkpoints may take
ROWS, BATCH, EPOCHS = 1200, 8, 2
EVERY = 2.0  # seconds between checkpoints: the run is half a minute, not the hours of 20 s


@dataclass(frozen=True)
class Life:
    """One process: its processor seconds, those before its first step, and its steps by time."""

    cpu: float
    start: float
    wall_start: float
    steps: tuple[tuple[int, float], ...]
    saves: tuple[tuple[int, float, float], ...]  # step, seconds by the clock, of the processor

    @property
    def first(self) -> int:
        """The first step that this process did."""
        return self.steps[0][0]


def train(folder: Path) -> None:
    """Train in a folder from its last checkpoint, and log steps and what saving took."""
    from unittest.mock import patch

    import harness.draft
    from harness.artifacts import Demonstrations, Policy
    from harness.draft import Checkpoints, Draft
    from harness.stages.finetune import finetune

    log = (folder / "log").open("a", buffering=1)

    class Logged(Draft):
        def progress(self, label: str, done: float, total: float | None) -> None:
            log.write(f"step {done:.0f} {time.monotonic()} {time.process_time()}\n")
            super().progress(label, done, total)

        def save(self, step: int, write: Any) -> None:
            before, spent = time.monotonic(), time.process_time()
            super().save(step, write)
            took, cost = time.monotonic() - before, time.process_time() - spent
            log.write(f"saved {step} {took} {cost}\n")

    (folder / "out").mkdir(exist_ok=True)
    kept = Checkpoints(folder / "kept", lambda: None, lambda aside, _: aside)
    policy = Policy("policy", path=folder.parent / "policy")
    rows = Demonstrations("rows", path=folder.parent / "rows")
    settings = {"batch_size": BATCH, "epochs": EPOCHS, "learning_rate": 1e-3, "seed": 0}
    with patch.object(harness.draft, "SAVE_SECONDS", EVERY):
        finetune.body(Logged(folder / "out", checkpoints=kept), policy, rows, **settings)


def live(folder: Path, limit: float | None) -> Life:
    """Fork a process that trains in a folder; kill it after so many seconds of training."""
    (folder / "log").write_text("")
    born = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with (folder / "said").open("a") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                train(folder)
            code = 0
        finally:
            os._exit(code)
    began: float | None = None
    while True:
        done, status, spent = os.wait4(child, os.WNOHANG)
        if done:
            break
        if began is None and (steps := lines(folder, "step")):
            began = float(steps[0][1])
        if limit is not None and began is not None and time.monotonic() - began >= limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    if status not in (0, signal.SIGKILL):
        raise RuntimeError(f"the child ended with {status}: {(folder / 'said').read_text()[-500:]}")
    steps = lines(folder, "step")
    return Life(
        cpu=spent.ru_utime + spent.ru_stime,
        start=float(steps[0][2]),
        wall_start=float(steps[0][1]) - born,
        steps=tuple((int(step), float(at)) for step, at, _ in steps),
        saves=tuple((int(s), float(took), float(cost)) for s, took, cost in lines(folder, "saved")),
    )


def lines(folder: Path, kind: str) -> list[list[str]]:
    """Return the words of the whole lines of a log that begin with a word."""
    whole = (folder / "log").read_text().rpartition("\n")[0].splitlines()
    return [line.split()[1:] for line in whole if line.startswith(f"{kind} ")]


def run(folder: Path, kills: Sequence[float]) -> tuple[list[Life], float, str]:
    """Train to the end with kills after so many seconds each; its lives, its clock, its digest."""
    folder.mkdir()
    began = time.monotonic()
    lives = [live(folder, limit) for limit in [*kills, None]]
    weights = (folder / "out" / "model.safetensors").read_bytes()
    return lives, time.monotonic() - began, hashlib.sha256(weights).hexdigest()


def again(lives: Sequence[Life]) -> list[tuple[int, float]]:
    """Return for each kill the steps that were done again, and the seconds they had taken."""
    found = []
    for killed, after in itertools.pairwise(lives):
        lost = [at for step, at in killed.steps if step >= after.first]
        kept = [at for step, at in killed.steps if step < after.first]
        since = kept[-1] if kept else killed.steps[0][1]
        found.append((len(lost), lost[-1] - since if lost else 0.0))
    return found


def pair(folder: Path, number: int) -> dict[str, float]:
    """Return what a run and the same run killed at its own seeded points took."""
    whole, clock, digest = run(folder / f"whole-{number}", [])
    steps = whole[0].steps
    trained = steps[-1][1] - steps[0][1]
    draw = random.Random(f"kills/{number}")
    points = sorted(draw.uniform(0.05, 0.95) for _ in range(KILLS))
    gaps = [b - a for a, b in zip([0.0, *points], points, strict=False)]
    lives, killed_clock, killed_digest = run(
        folder / f"killed-{number}", [gap * trained for gap in gaps]
    )
    if killed_digest != digest:
        raise RuntimeError("the weights of the killed run differ from the undisturbed one's")
    cpu, start = whole[0].cpu, statistics.median(life.start for life in lives)
    total, redone = sum(life.cpu for life in lives), again(lives)
    return {
        "killed over bound": total / (LIMIT * cpu + KILLS * start),
        "killed over undisturbed": total / cpu,
        "clock ratio": killed_clock / clock,
        "cpu seconds undisturbed": cpu,
        "cpu seconds of a start": start,
        "cpu seconds killed": total,
        "steps": len(steps),
        "steps done again": sum(count for count, _ in redone),
        "most steps after a kill": max(count for count, _ in redone),
        "most seconds after a kill": max(seconds for _, seconds in redone),
        "checkpoints": len(whole[0].saves),
        "share of saving, cpu": sum(cost for _, _, cost in whole[0].saves) / cpu,
        "share of saving, clock": sum(took for _, took, _ in whole[0].saves) / trained,
    }


def measured(pairs: int, rows: int) -> dict[str, Any]:
    """Return medians and spread over pairs of runs, each undisturbed and then killed."""
    import datasets
    import peft
    import torch
    import trl
    from tiny import tiny_demonstrations, write_policy

    from harness.draft import Draft

    imported = [module.__name__ for module in (datasets, peft, torch, trl)]
    torch.set_num_threads(1)
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy").mkdir()
        write_policy(folder / "policy", hidden_size=256, intermediate_size=512)
        (folder / "rows").mkdir()
        tiny_demonstrations.body(Draft(folder / "rows"), n=rows, seed=0)
        for number in range(pairs):
            found.append(pair(folder, number))
            rounded = {name: round(value, 3) for name, value in found[-1].items()}
            print(json.dumps(rounded), flush=True)
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    spread = [one["killed over bound"] for one in found]
    return {
        "pairs": pairs,
        "medians": {name: round(value, 3) for name, value in middle.items()},
        "spread of killed over bound": [round(min(spread), 3), round(max(spread), 3)],
        "limit of killed over bound": 1.0,
        "limit of saving": SAVES,
        "seconds between checkpoints": EVERY,
        "same bits": True,
        "imported before forking": imported,
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    print(json.dumps(measured(given.pairs, given.rows), indent=1))
