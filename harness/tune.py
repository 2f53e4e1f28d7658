"""Tune: the same number of trials for every row, and the settings that did best in validation.

A trial is an ordinary cell of a study whose rows are the trials: it is kept in the store, resumed
and shared like any other. Its score is the share of noisy judgements that its answers to validation
prompts win against the SFT policy's. Gold and test prompts are out of reach.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.launch import make
from harness.plain_text import csv_text
from harness.planner import make_plan
from harness.results import write
from harness.run import in_order
from harness.statistics import Estimate, summary
from harness.status import CellState, cell_states, counted
from harness.store import Store
from harness.study import Study
from harness.study_file import InputError
from harness.trials import TRIALS
from harness.tune_trials import Trial, Trials, only, trials_of
from harness.tuned import Chosen, digest_of, tuned_file, tuned_text

COLUMNS = (
    "base", "dataset", "label", "trial", "settings", "sizes", "seed", "state", "reason", "score",
    "stderr", "n", "labels", "seconds", "cpu_seconds", "chosen", "policy",
)  # fmt: skip
PENDING = ("pending", "running", "interrupted")


def tune(
    study: Study,
    store: Store,
    results: Path,
    *,
    trials: int | None,
    workers: int | None,
    threads: int,
    retry: bool,
) -> int:
    """Run the trials and write what came of them; return the exit code of the command line."""
    every = trials_of(study, trials)
    wanted = only(every, study.only)
    plan = make_plan(wanted, store, code=False)
    caught = make(plan, store, workers=workers, threads=threads, retry=retry) if plan.to_make else 0
    outcome = Outcome(every, store)
    folder = results / study.name
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; results are written into a folder of their own")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / TRIALS, csv_text(COLUMNS, outcome.rows()))
    states = cell_states(wanted.cells(), store)
    print(f"{study.name}: tuning, {counted(states)}")
    for state in states:
        if state.reason:
            print(f"  {state.cell}: {state.reason}")
    for label in wanted.labels:
        made = len({trial.number for trial in wanted.trials(label)})
        if made < wanted.asked:
            print(f"  {label}: {made} trials, not {wanted.asked}: its ranges hold no others")
    print(f"trials: {folder / TRIALS}")
    if caught:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 128 + caught
    if outcome.chosen:
        file = tuned_file(study, results)
        write(file, tuned_text(study, outcome.chosen))
        print(f"tuned: {file}; `run {study.file} --tuned` reads it")
    return 0 if all(state.state == "done" for state in states) else 1


class Outcome:
    """What the trials made so far say: scores, costs, and the best of each settled row."""

    def __init__(self, trials: Trials, store: Store) -> None:
        self.trials = trials
        self.store = store
        self.manifests = store.manifests()
        states = cell_states(trials.cells(), store)
        self.states: dict[str, CellState] = {state.cell: state for state in states}
        self.values = {
            t.name: self.shares(t) for label in trials.labels for t in trials.trials(label)
        }
        self.chosen = [c for label in trials.labels if (c := self.best(label)) is not None]

    def shares(self, trial: Trial) -> dict[str, float]:
        """Return the mean probability that a trial's answer won, by prompt; empty if not made."""
        if self.states[trial.name].state != "done":
            return {}
        found: dict[str, list[float]] = {}
        for row in self.store.open(trial.judgements):
            prompt = f"{trial.base}/{trial.dataset}/{row['prompt_id']}"
            found.setdefault(prompt, []).append(float(row["p1"]))
        return {prompt: fmean(chances) for prompt, chances in found.items()}

    def estimate(self, trials: list[Trial]) -> Estimate | None:
        """Return the score of trials that differ in seed alone; None unless each has verdicts."""
        if not all(self.values[trial.name] for trial in trials):
            return None
        values = {
            (trial.seed, prompt): value
            for trial in trials
            for prompt, value in self.values[trial.name].items()
        }
        return summary(values, {prompt: prompt for _, prompt in values})

    def best(self, label: str) -> Chosen | None:
        """Return a row's best trial, the first of equal ones; None until every trial is settled."""
        trials = self.trials.trials(label)
        if any(is_pending(self.states[trial.name]) for trial in trials):
            return None
        numbers: dict[int, list[Trial]] = {}
        for trial in trials:
            numbers.setdefault(trial.number, []).append(trial)
        scored = {n: found for n, group in numbers.items() if (found := self.estimate(group))}
        if not scored:
            return None
        number = max(scored, key=lambda n: (scored[n].value, -n))
        return Chosen(
            label=label,
            trial=number,
            trials=len(numbers),
            score=scored[number].value,
            stderr=scored[number].stderr,
            policies=tuple(trial.policy.id for trial in numbers[number]),
            settings=numbers[number][0].chosen,
            digest=digest_of(trial.judgements.id for trial in trials),
        )

    def rows(self) -> list[list[object]]:
        """Return the rows of `trials.csv`: each trial with each seed, failed ones included.

        A trial that is still to be made is none yet.
        """
        best = {(chosen.label, chosen.trial) for chosen in self.chosen}
        counted: dict[tuple[str, str, str], set[str]] = {}
        tuning = self.trials.declared.tune
        sizes = tuning.datasets if tuning else {}
        rows = []
        for trial in (t for label in self.trials.labels for t in self.trials.trials(label)):
            state, found = self.states[trial.name], self.estimate([trial])
            if is_pending(state):
                continue
            before = counted.setdefault((trial.base, trial.dataset, trial.row), set())
            rows.append([
                trial.base, trial.dataset, trial.row, trial.number,
                as_json(trial.chosen), as_json(sizes.get(trial.dataset, {})), trial.seed,
                state.state, state.reason,
                *((found.value, found.stderr, found.n) if found else ("", "", "")),
                *self.costs(trial, before), (trial.row, trial.number) in best, trial.policy.id,
            ])  # fmt: skip
        return rows

    def costs(self, trial: Trial, before: set[str]) -> list[object]:
        """Return labels bought for validation, and the time of all that a trial needs after SFT.

        What an earlier trial of the row needed too, by the ids in `before`, is in that trial's
        numbers alone, so that a row's trials add up to what it spent; this trial's are added there.
        """
        start = {a.id for a in in_order([trial.shared.sft, trial.shared.preferences])}
        later = [a for a in in_order(trial.targets) if a.id not in start | before]
        before |= {a.id for a in later}
        made = {a.id: self.manifests[a.id] for a in later if a.id in self.manifests}
        bought = made.get(trial.judgements.id)
        labels = int(bought["counters"].get("labels_used", 0)) if bought else 0
        return [
            labels,
            *(round(sum(m[key] for m in made.values()), 1) for key in ("seconds", "cpu_seconds")),
        ]


def as_json(settings: Mapping[str, Any]) -> str:
    """Return settings as a cell of the trial table."""
    return json.dumps(dict(settings), sort_keys=True)


def is_pending(state: CellState) -> bool:
    """Say whether a trial may still be made by running again: not done, and nothing failed."""
    waits = state.state == "blocked" and state.reason.endswith(": interrupted")
    return waits or state.state in PENDING
