"""Run a study to its report, and end with the exit code that says what happened."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from harness.judge_keys import missing_keys
from harness.local import DIGESTS, REMEMBERED
from harness.planner import Plan, make_plan
from harness.preflight import preflight
from harness.progress import watch
from harness.run import run
from harness.status import CellState, cell_states, counted, reasons
from harness.store import Store
from harness.study import Study
from harness.study_file import InputError
from harness.study_sources import changes, record
from harness.trials import TRIALS

REPORT = ("cells.csv", "scores.csv", "items.parquet", "report.md", "report.html")
MARKER = ".written-from"


def run_study(
    study: Study, store: Store, results: Path, *, workers: int | None, threads: int, retry: bool
) -> int:
    """Make a study and write its results; return the exit code of the command line."""
    plan = make_plan(study, store, code=False)
    for line in changes(study, results / study.name):
        print(line, file=sys.stderr)
    caught = 0
    if plan.to_make:
        caught = make(plan, store, workers=workers, threads=threads, retry=retry)
    states = cell_states(plan.cells, store)
    changed = write_results(study, store, results, states)
    record(study, results / study.name)
    print(f"{study.name}: {counted(states)}")
    for line in reasons(states):
        print(f"  {line}")
    page = results / study.name / "report.html"
    print(f"report: {page}" if changed else f"nothing to do; report: {page}")
    if caught:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 128 + caught
    return 0 if all(state.state == "done" for state in states) else 1


def make(plan: Plan, store: Store, *, workers: int | None, threads: int, retry: bool) -> int:
    """Make what a plan lacks and show how it goes; return the signal that stopped it, or 0.

    Raises InputError, before any work, where the key of a served judge is not at hand, or a file
    that is read is damaged.
    """
    problems = missing_keys(planned.artifact for planned in plan.to_make)
    problems += preflight(plan.study)
    if problems:
        raise InputError("\n".join(problems))
    DIGESTS.keep(store.root / REMEMBERED)
    targets = [target for cell in plan.cells for target in cell.targets]
    with signals() as caught, watch(plan, workers or 1) as view:
        try:
            run(
                targets,
                store,
                workers=workers,
                plugins=plan.study.plugins,
                threads=threads,
                retry=retry,
                on_event=view,
                stop=caught,
            )
        except KeyboardInterrupt:
            caught.number = caught.number or signal.SIGINT
    return caught.number


class Caught(threading.Event):
    """Set by the first SIGINT or SIGTERM; `number` says which."""

    number = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Ask for a consistent stop; a second signal stops at once."""
        if self.is_set():
            raise KeyboardInterrupt
        self.number = number
        self.set()


@contextmanager
def signals() -> Iterator[Caught]:
    """Turn SIGINT and SIGTERM into a request to stop, and put the old handlers back."""
    caught = Caught()
    before = {n: signal.signal(n, caught.handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_results(
    study: Study, store: Store, results: Path, states: Sequence[CellState], *, again: bool = False
) -> bool:
    """Write results and report unless they stand there already; return whether they were written.

    They are a function of what `described` names and of the trials. Their digest is written last,
    so its presence means that the rest is complete; `again` writes them in any case.
    """
    folder = results / study.name
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; results are written into a folder of their own")
    tuning = folder / TRIALS
    trials = {"trials": sha256(tuning.read_bytes()).hexdigest()} if tuning.is_file() else {}
    said = json.dumps({**described(study, states), **trials}, sort_keys=True)
    digest = sha256(said.encode()).hexdigest()
    marker = folder / MARKER
    complete = all((folder / name).is_file() for name in (MARKER, *REPORT))
    if complete and marker.read_text() == digest and not again:
        return False
    from harness.report import write_report
    from harness.results import collect

    marker.unlink(missing_ok=True)
    collect(study, store, folder)
    write_report(folder)
    marker.write_text(digest)
    return True


def described(study: Study, states: Sequence[CellState]) -> dict[str, Any]:
    """Return a study as plain data: what was declared, what each cell is made of, its state."""
    targets = {cell.name: [target.id for target in cell.targets] for cell in study.cells()}
    return {
        # How settings and checkpoints were chosen shows in the ids of what was made.
        "declared": study.declared.model_dump(mode="json", exclude={"tune", "selection", "mirror"}),
        "cells": [[state.cell, state.state, state.reason, targets[state.cell]] for state in states],
    }
