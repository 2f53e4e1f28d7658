"""One run over a graph of artifacts: claim what is ready, start it, settle what has ended."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from harness import disk
from harness.claims import Claim, Claims, Superseded
from harness.outcomes import Blocked, Event, Failed, Finished, Outcome, Progressed, Started, State
from harness.stage import Artifact
from harness.store import Store
from harness.worker import Job
from harness.workers import Workers

POLL: Final = 0.25  # seconds between looks at the stop flag and at what other runs hold
GRACE: Final = 10.0  # seconds that stages have to save a checkpoint once asked to stop
MENDS: Final = 2  # times one run makes an input again that keeps changing under its readers

OnEvent = Callable[[Event], None]


class Stop(Protocol):
    """Whether the run was asked to stop: a threading.Event, set by a signal handler."""

    def is_set(self) -> bool:
        """Say whether to stop claiming work and wind down."""


class Scheduler:
    """One run over a graph: what is ready is claimed and started, what ends is settled."""

    def __init__(
        self,
        order: Sequence[Artifact],
        outcomes: dict[str, Outcome],
        store: Store,
        claims: Claims,
        workers: Workers,
        execution: dict[str, Any],
        devices: Sequence[str],
        tell: OnEvent,
        stop: Stop | None,
    ) -> None:
        self.order = order
        self.artifacts = {artifact.id: artifact for artifact in order}
        self.outcomes = outcomes
        self.store = store
        self.claims = claims
        self.workers = workers
        self.execution = execution
        self.devices = devices
        self.tell = tell
        self.stop = stop
        self.running: dict[str, Claim] = {}
        self.mended: dict[str, int] = {}
        self.failures = {artifact.id: store.failure(artifact.id) for artifact in order}
        self.stopping_since: float | None = None
        self.started = 0

    @property
    def waiting(self) -> list[Artifact]:
        """What is neither settled nor running, inputs first."""
        return [a for a in self.order if a.id not in self.outcomes and a.id not in self.running]

    def walk(self) -> None:
        """Work until everything is settled, or until asked to stop."""
        while True:
            if self.stop is not None and self.stop.is_set():
                self.wind_down()
            else:
                self.start_what_is_ready()
            if not self.running and (self.stopping_since is not None or not self.waiting):
                break
            for job, message in self.workers.wait(POLL):
                self.hear(job, message)
        for artifact in self.waiting:
            self.outcomes[artifact.id] = Outcome("pending")

    def wind_down(self) -> None:
        """Ask the running stages to stop; end those that take too long."""
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self.workers.stop(signal.SIGTERM)
        elif time.monotonic() - self.stopping_since > GRACE:
            self.workers.stop(signal.SIGKILL)

    def close(self) -> None:
        """End what still runs, mark it, give back every claim."""
        self.workers.close()
        for id in list(self.running):
            self.settle(id, {"end": "interrupted", "reason": "stopped at once"})
        self.claims.close()

    def start_what_is_ready(self) -> None:
        """Start as many artifacts as there are free workers; settle those that are blocked."""
        for artifact in self.waiting:
            known = {needed.id: self.outcomes.get(needed.id) for needed in artifact.inputs}
            lost = [id for id, outcome in known.items() if outcome and not outcome.made]
            if lost:
                self.outcomes[artifact.id] = blocked(artifact, lost[0], self.outcomes)
                announce(artifact, self.outcomes[artifact.id], self.tell)
            elif self.workers.free and all(known.values()):
                try:
                    self.start(artifact)
                except OSError as error:
                    cause = "disk" if error.errno in disk.DISK_ERRORS else "error"
                    self.fail(artifact.id, {"end": "failed", "cause": cause, "reason": str(error)})

    def start(self, artifact: Artifact) -> None:
        """Start one artifact, unless it is there, or another run holds it or has just failed it."""
        if artifact in self.store:
            self.outcomes[artifact.id] = cached(artifact.id, self.store)
            return
        refused = refusal(artifact)
        if refused:
            self.fail(artifact.id, {"end": "failed", "cause": "config", "reason": refused})
            return
        claim = self.claims.take(artifact.id)
        if claim is None:
            return
        self.running[artifact.id] = claim
        record = self.store.failure(artifact.id)
        if artifact in self.store:
            self.settle(artifact.id, {"end": "done"})
        elif record and record != self.failures[artifact.id] and record["state"] != "interrupted":
            self.settle(artifact.id, {**record, "end": record["state"]}, keep=False)
        else:
            gpu = self.devices[self.started % len(self.devices)] if self.devices else None
            device = "cpu" if gpu is None else "cuda"
            job = Job.of(artifact, claim, self.store, gpu=gpu, device=device, **self.execution)
            self.started += 1
            self.workers.start(job, self.store.log(artifact.id))

    def hear(self, job: Job, message: dict[str, Any]) -> None:
        """Take in one message of a worker."""
        if "progress" in message:
            self.tell(Progressed(job.id, *message["progress"]))
        elif "began" in message:
            self.tell(Started(job.id))
        else:
            self.settle(job.id, message)

    def settle(self, id: str, end: dict[str, Any], *, keep: bool = True) -> None:
        """Decide what became of an artifact that has ended, then give its claim back."""
        claim = self.running.pop(id)
        artifact = self.artifacts[id]
        try:
            if artifact in self.store:
                made = cached(id, self.store)
                self.outcomes[id] = Outcome("done", seconds=made.seconds, counters=made.counters)
                self.tell(Finished(id, made.seconds, made.counters))
            elif end["end"] == "superseded" or self.was_misled(artifact, end):
                return
            else:
                self.fail(id, end, keep=keep and self.still_ours(claim))
        finally:
            with contextlib.suppress(OSError):
                self.store.abandon(claim)
                self.claims.release(claim)

    def still_ours(self, claim: Claim) -> bool:
        """Say whether a claim still holds; who lost it has nothing to report."""
        try:
            claim.guard()
        except (Superseded, OSError):
            return False
        return True

    def was_misled(self, artifact: Artifact, end: dict[str, Any]) -> bool:
        """Say whether a stage failed for want of a whole input, and have that made again."""
        if end["end"] == "stale":
            return self.mend(end["input"])
        lost = [needed.id for needed in artifact.inputs if needed not in self.store]
        return end["end"] == "failed" and bool(lost) and min([self.mend(id) for id in lost])

    def mend(self, id: str) -> bool:
        """Have a stale input made again; say no when that has not helped before."""
        self.mended[id] = self.mended.get(id, 0) + 1
        if self.mended[id] > MENDS:
            return False
        claim = self.claims.take(id)
        if claim is not None:
            problems = self.store.problems(id)
            if problems and self.store.path(id).exists():
                self.store.quarantine(self.store.path(id), "; ".join(problems))
            self.claims.release(claim)
        self.outcomes.pop(id, None)
        return True

    def fail(self, id: str, end: dict[str, Any], *, keep: bool = True) -> None:
        """Settle an artifact as not made, keep the reason and tell."""
        recipe = self.artifacts[id].recipe
        state: State = "failed" if end["end"] == "stale" else end["end"]
        record = {
            "state": state,
            "cause": end.get("cause", "disk" if end["end"] == "stale" else ""),
            "reason": end["reason"],
            "traceback": end.get("traceback", ""),
            "asked_at": recipe.asked_at if recipe else "",
            "run": self.claims.run,
        }
        if keep:
            with contextlib.suppress(OSError):  # on a full disk the reason is told, not kept
                self.store.fail(id, record)
        self.outcomes[id] = Outcome.of_failure(record)
        self.tell(Failed(id, state, record["reason"], record["traceback"], record["asked_at"]))


def cached(id: str, store: Store) -> Outcome:
    """Return the outcome of an artifact that is there: what it had cost."""
    manifest = store.manifest(id) or {"seconds": 0.0, "counters": {}}
    return Outcome("cached", seconds=manifest["seconds"], counters=manifest["counters"])


def blocked(artifact: Artifact, because: str, outcomes: dict[str, Outcome]) -> Outcome:
    """Return the outcome of an artifact whose input could not be made, with the root's reason."""
    root = outcomes[because].because or because
    asked_at = artifact.recipe.asked_at if artifact.recipe else ""
    return Outcome("blocked", f"{root}: {outcomes[root].state}", asked_at=asked_at, because=root)


def announce(artifact: Artifact, outcome: Outcome, tell: OnEvent) -> None:
    """Tell of an outcome that this run did not work for, unless it is there and fine."""
    if outcome.state == "blocked":
        tell(Blocked(artifact.id, outcome.because))
    elif not outcome.made:
        at = outcome.asked_at
        tell(Failed(artifact.id, outcome.state, outcome.reason, outcome.traceback, at))


def refusal(artifact: Artifact) -> str:
    """Return why no worker could make an artifact, empty if one can."""
    if artifact.recipe is None:
        return f"{artifact.id} is not in the store, and no recipe says how to make it"
    if artifact.recipe.stage.body.__module__ == "__main__":
        name = artifact.recipe.stage.name
        return f"stage {name!r} is defined in __main__, where no worker finds it; use a module"
    return ""
