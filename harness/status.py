"""The state of every cell, read from the store: manifests, failures and claims."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from harness.claims import live_claims
from harness.planner import columns
from harness.run import in_order
from harness.stage import Artifact
from harness.store import Store
from harness.study import Cell, Study


@dataclass(frozen=True)
class CellState:
    """A cell's state of the closed set, the reason for it, and how much of it is made."""

    cell: str
    state: str
    reason: str
    made: int
    artifacts: int


def cell_states(cells: Iterable[Cell], store: Store) -> list[CellState]:
    """Return the state of each cell; the counts of the states sum to the number of cells."""
    known: dict[str, tuple[str, str]] = {}
    claimed = live_claims(store.root / ".claims")
    states = []
    for cell in cells:
        closure = in_order(cell.targets)
        for artifact in closure:
            if artifact.id not in known:
                known[artifact.id] = artifact_state(artifact, store, claimed, known)
        state, reason = joined(cell, [(a.id, *known[a.id]) for a in closure])
        made = sum(known[artifact.id][0] == "done" for artifact in closure)
        states.append(CellState(cell.name, state, reason, made, len(closure)))
    return states


def artifact_state(
    artifact: Artifact, store: Store, claimed: set[str], known: dict[str, tuple[str, str]]
) -> tuple[str, str]:
    """Return an artifact's state and reason; `known` holds those of its inputs."""
    if artifact in store:
        return "done", ""
    if artifact.id in claimed:
        return "running", ""
    failure = store.failure(artifact.id)
    if failure is not None:
        return failure["state"], failure["reason"]
    for source in artifact.inputs:
        state, reason = known[source.id]
        if state == "blocked":
            return "blocked", reason
        if state not in ("done", "running", "pending"):
            why = "" if state == "interrupted" or not reason else f": {reason}"
            return "blocked", f"{source.id}: {state}{why}"
    return "pending", ""


def joined(cell: Cell, closure: list[tuple[str, str, str]]) -> tuple[str, str]:
    """Return a cell's state from those of everything it needs, (id, state, reason) each.

    A target that failed gives its state to the cell; what failed further up blocks the cell.
    """
    targets = {target.id for target in cell.targets}
    waiting = [part for part in closure if part[1] != "done"]
    if not waiting:
        return "done", ""
    own = [part for part in waiting if part[0] in targets]
    for id, state, reason in own:
        if state not in ("running", "pending", "blocked"):
            return state, f"{id}: {reason}"
    for _, state, reason in own:
        if state == "blocked":
            return state, reason
    running = any(state == "running" for _, state, _ in waiting)
    return ("running" if running else "pending"), ""


def status_text(study: Study, store: Store) -> str:
    """Return the cells as a table, counts by state below it."""
    states = cell_states(study.cells(), store)
    rows = [("cell", "state", "artifacts")]
    rows += [(s.cell, s.state, f"{s.made} of {s.artifacts}") for s in states]
    return "\n".join([columns(rows), *reasons(states), counted(states)])


def reasons(states: Iterable[CellState]) -> list[str]:
    """Return each reason once, after the first of the cells that it holds up and their number."""
    held: dict[str, list[str]] = {}
    for state in states:
        if state.reason:
            held.setdefault(state.reason, []).append(state.cell)
    others = {reason: len(cells) - 1 for reason, cells in held.items()}
    return [
        f"{cells[0]}{f' and {others[reason]} more' if others[reason] else ''}: {reason}"
        for reason, cells in held.items()
    ]


def status_json(study: Study, store: Store) -> str:
    """Return the same for programs."""
    states = cell_states(study.cells(), store)
    counts = dict(sorted(Counter(state.state for state in states).items()))
    whole = {"study": study.name, "counts": counts, "cells": [asdict(s) for s in states]}
    return json.dumps(whole, indent=2)


def counted(states: Sequence[CellState]) -> str:
    """Return how many cells have which state, as one line."""
    counts = Counter(state.state for state in states)
    total = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{len(states)} cells: {total}"
