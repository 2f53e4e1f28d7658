"""The folder that a stage body writes into, and what the body may tell the harness meanwhile."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from harness import disk

T = TypeVar("T")
Show = Callable[[str, float, float | None, float | None], None]  # label, done, total, rate

MANIFEST: Final = "manifest.json"
KEPT: Final = 2  # checkpoints: the newest, and the one before in case the newest turns out torn
STEP: Final = re.compile(r"step-(\d+)")
SHOWN_EVERY: Final = 0.2  # seconds between two reports of one loop
SAVE_SECONDS = 20.0  # between checkpoints; a shorter job has nothing worth keeping
SAVE_SHARE = 0.02  # of the time since the last checkpoint that writing one may cost


class Diverged(Exception):  # noqa: N818  (a result of a stage, as much as an error)
    """Raised by a stage whose loss, reward or gradient is not finite, or whose guard tripped.

    The message says the step and the last finite values. A rerun does not try it again.
    """


class ContractBroken(Exception):  # noqa: N818
    """Raised where a stage breaks its contract; a rerun does not try it again."""


class Interrupted(BaseException):
    """Raised inside a stage that was asked to stop, after its checkpoint is durable."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint of an unfinished stage: the step it was taken at, and its folder."""

    step: int
    path: Path


@dataclass(frozen=True)
class Checkpoints:
    """Where a draft keeps its checkpoints, and who may still write there.

    `guard` raises when another run has taken the artifact over; `quarantine` puts a broken
    checkpoint aside with the reason.
    """

    folder: Path
    guard: Callable[[], None]
    quarantine: Callable[[Path, str], Path]

    def save(self, step: int, write: Callable[[Path], None], spent: dict[str, Any]) -> None:
        """Fill a fresh folder, digest it, and give it its name last; keep the newest two."""
        disk.make_folder(self.folder)
        fresh = self.folder / f".step-{step}.{os.getpid()}"
        disk.remove_tree(fresh)
        disk.make_folder(fresh)
        write(fresh)
        record = {"step": step, "files": disk.inventory(fresh, sync=True), "spent": spent}
        disk.write_new(fresh / MANIFEST, disk.sealed(record))
        disk.sync_folder(fresh)
        self.guard()
        final = self.folder / f"step-{step}"
        disk.remove_tree(final)
        disk.rename(fresh, final)
        disk.sync_folder(self.folder)
        for _, old in self.found()[KEPT:]:
            disk.remove_tree(old)

    def found(self) -> list[tuple[int, Path]]:
        """Return step and folder of every checkpoint, newest first, verified or not."""
        if not self.folder.is_dir():
            return []
        named = [(STEP.fullmatch(entry.name), entry) for entry in self.folder.iterdir()]
        return sorted(((int(m[1]), entry) for m, entry in named if m), reverse=True)

    def last(self) -> tuple[Checkpoint, dict[str, Any]] | None:
        """Return the newest checkpoint whose digests hold, and what had been spent by then."""
        found = self.found()
        for step, folder in found:
            record = disk.unsealed(folder / MANIFEST)
            if record is None or record["step"] != step:
                problems = [f"its {MANIFEST} is missing, torn or altered"]
            else:
                problems = disk.differences(folder, record["files"], beside=MANIFEST)
            if record is not None and not problems:
                return Checkpoint(step, folder), record["spent"]
            reason = f"checkpoint step-{step}: {'; '.join(problems)}"
            put_aside = self.quarantine(folder, reason)
            print(f"{reason}. Put aside in {put_aside}", flush=True)
        if found:
            print("no checkpoint is left whole: the stage starts from the beginning", flush=True)
        return None


class Draft:
    """An artifact while it is being made.

    `out / "file"` names a file in it; counters, progress, checkpoints and facts of execution go
    through the methods. Device and micro-batch are facts of execution, never part of an id.
    `stopping` turns true when the run was asked to stop: a stage with checkpoints saves one soon.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        micro_batch: int | None = None,
        checkpoints: Checkpoints | None = None,
        show: Show | None = None,
    ) -> None:
        self.path = path
        self.device = device
        self.micro_batch = micro_batch
        self.counters: dict[str, float] = {}
        self.facts: dict[str, object] = {}
        self.stopping = False
        self.earlier: dict[str, float] = {"seconds": 0.0, "cpu_seconds": 0.0}
        self._checkpoints = checkpoints
        self._resumable = False
        self._saved_at = time.monotonic()
        self._save_cost = 0.0
        self._show = show
        self._began = time.monotonic()
        self._cpu_before = sum(os.times()[:4])
        self._loop: tuple[str, float, float, float] = ("", 0.0, 0.0, 0.0)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def add(self, **counts: float) -> None:
        """Add to the cost ledger, such as tokens_generated, tokens_trained or judge_calls."""
        for name, count in counts.items():
            self.counters[name] = self.counters.get(name, 0) + count

    def note(self, **facts: object) -> None:
        """Keep facts of the execution in the manifest, such as the effective decoding."""
        self.facts.update(facts)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items and show progress over them."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        for done, item in enumerate(items, 1):
            yield item
            self.progress(label, done, total)

    def progress(self, label: str, done: float, total: float | None) -> None:
        """Show progress of a loop that the stage does not own, such as a trainer's.

        Raises Interrupted when the run is stopping and the stage has no checkpoint to wait for.
        """
        if self.stopping and not self._resumable:
            raise Interrupted("stopped; this stage keeps no checkpoints and starts again")
        now = time.monotonic()
        name, began, first, shown = self._loop
        if name != label or done < first:
            began, first, shown = now, done, 0.0
        over = total is not None and done >= total
        if self._show and (now - shown >= SHOWN_EVERY or over):
            rate = (done - first) / (now - began) if now > began and done > first else None
            self._show(label, done, total, rate)
            shown = now
        self._loop = (label, began, first, shown)

    def save_is_due(self) -> bool:
        """Say whether a loop that can be resumed should save: now and then, or as the run stops.

        Never where nothing keeps checkpoints, nor so often that writing them costs much.
        """
        waited = time.monotonic() - self._saved_at
        due = waited >= max(SAVE_SECONDS, self._save_cost / SAVE_SHARE)
        return self._resumable and (due or self.stopping)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint: `write` fills a fresh folder, which counts once its digests are kept.

        Counters and facts are kept with it. Raises Interrupted, after the checkpoint is durable,
        when the run is stopping.
        """
        if self._checkpoints is None:
            raise RuntimeError("checkpoints need a store; run this stage through the harness")
        self._resumable = True
        spent = {"counters": self.counters, "facts": self.facts, **self.spent()}
        started = time.monotonic()
        self._checkpoints.save(step, write, spent)
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - started
        if self.stopping:
            raise Interrupted(f"stopped after the checkpoint of step {step}")

    def resume(self) -> Checkpoint | None:
        """Return the last checkpoint whose digests hold, or None to start from the beginning.

        Counters and facts are set back to what they were at that checkpoint.
        """
        self._resumable = self._checkpoints is not None
        self._saved_at = time.monotonic()
        found = self._checkpoints.last() if self._checkpoints else None
        if found is None:
            return None
        checkpoint, spent = found
        self.counters = dict(spent["counters"])
        self.facts = dict(spent["facts"])
        self.earlier = {key: float(spent[key]) for key in self.earlier}
        print(f"resumed from the checkpoint of step {checkpoint.step}", flush=True)
        return checkpoint

    def spent(self) -> dict[str, float]:
        """Return wall and processor seconds so far, those before the last checkpoint included."""
        own = {
            "seconds": time.monotonic() - self._began,
            "cpu_seconds": sum(os.times()[:4]) - self._cpu_before,
        }
        return {key: round(self.earlier[key] + value, 3) for key, value in own.items()}
