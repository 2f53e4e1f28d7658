"""Make artifacts: each one once, inputs first, and no failure takes down its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.closure import third_party
from harness.forkserver import PRELOAD
from harness.outcomes import Blocked, Event, Failed, Finished, Outcome, Progressed, Started
from harness.scheduler import OnEvent, Scheduler, Stop, announce, blocked, cached, refusal
from harness.stage import Artifact
from harness.store import Store
from harness.workers import Forked, Here, Workers, cores, gpus


def in_order(targets: Iterable[Artifact]) -> list[Artifact]:
    """Return the targets and all they need, each once, inputs before what uses them."""
    ordered: dict[str, Artifact] = {}
    waiting = [(target, False) for target in reversed(list(targets))]
    while waiting:
        artifact, inputs_are_in = waiting.pop()
        if artifact.id in ordered:
            continue
        if inputs_are_in:
            ordered[artifact.id] = artifact
            continue
        waiting.append((artifact, True))
        waiting += [(needed, False) for needed in reversed(artifact.inputs)]
    return list(ordered.values())


def run(
    targets: Iterable[Artifact],
    store: Store,
    *,
    workers: int | None = None,
    plugins: Sequence[Path] = (),
    threads: int = 1,
    retry: bool = False,
    on_event: OnEvent | None = None,
    stop: Stop | None = None,
) -> dict[str, Outcome]:
    """Make the targets and all they need; return what became of each, by id, inputs first.

    `workers` processes work at once (default: one a GPU, else one a core; 0 runs stages in this
    process, for a debugger), each with `threads` threads. Failures of earlier runs are tried again,
    except divergences and broken contracts, which wait for `retry` or a new version.

    When `stop` is set, nothing new is claimed, running stages save a checkpoint and are marked
    interrupted, and the outcomes are returned. A KeyboardInterrupt ends them at once, marks them
    the same, and is raised again. With nothing to do, nothing is written.
    """
    order = in_order(targets)
    outcomes = survey(order, store, retry=retry)
    todo = [artifact for artifact in order if artifact.id not in outcomes]
    tell = on_event or (lambda event: None)
    for artifact in order:
        if artifact.id in outcomes:
            announce(artifact, outcomes[artifact.id], tell)
    if not todo and store.has_leftovers():
        tidy(store)
    if not todo or (stop is not None and stop.is_set()):
        return {a.id: outcomes.get(a.id, Outcome("pending")) for a in order}
    claims = store.claims()
    devices = gpus()
    count = workers if workers is not None else len(devices) or cores()
    hands: Workers = Here()
    if count:
        hands = Forked(count, threads, preloads(todo), store.root / "logs" / "workers.log")
    execution = {"plugins": tuple(str(Path(p).resolve()) for p in plugins), "threads": threads}
    scheduler = Scheduler(order, outcomes, store, claims, hands, execution, devices, tell, stop)
    try:
        claims.sweep()
        store.sweep()
        scheduler.walk()
    finally:
        scheduler.close()
    return {artifact.id: scheduler.outcomes[artifact.id] for artifact in order}


def tidy(store: Store) -> None:
    """Sweep what runs that died after their last commit left behind."""
    claims = store.claims()
    try:
        claims.sweep()
        store.sweep()
    finally:
        claims.close()


def survey(order: Sequence[Artifact], store: Store, *, retry: bool) -> dict[str, Outcome]:
    """Return the outcomes known before any work: cached, final failures, and what these block."""
    outcomes: dict[str, Outcome] = {}
    for artifact in order:
        known = [outcomes.get(needed.id) for needed in artifact.inputs]
        lost = [n.id for n, o in zip(artifact.inputs, known, strict=True) if o and not o.made]
        if artifact in store:
            if all(outcome is not None for outcome in known) and not lost:
                outcomes[artifact.id] = cached(artifact.id, store)
            continue
        record = store.failure(artifact.id)
        remembered = Outcome.of_failure(record) if record else None
        if remembered and remembered.is_final() and not retry:
            outcomes[artifact.id] = remembered
        elif lost:
            outcomes[artifact.id] = blocked(artifact, lost[0], outcomes)
    return outcomes


def preloads(todo: Sequence[Artifact]) -> set[str]:
    """Return the heavy packages that the stages to run will import."""
    needed: set[str] = set()
    for artifact in todo:
        if artifact.recipe is not None and not refusal(artifact):
            needed |= third_party(artifact.recipe.stage)
        if {type(used).__name__ for used in artifact.inputs} & {"Policy", "RewardModel"}:
            needed |= {"torch", "transformers"}
    return needed & PRELOAD.keys()


__all__ = [
    "Blocked",
    "Event",
    "Failed",
    "Finished",
    "Outcome",
    "Progressed",
    "Started",
    "in_order",
    "run",
]
