"""The folder that a stage body writes into, and what the body may tell the harness meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint of an unfinished stage: the step it was taken at, and its folder."""

    step: int
    path: Path


class Draft:
    """An artifact while it is being made.

    `out / "file"` names a file in it; counters, progress, checkpoints and facts of execution go
    through the methods. Device, micro-batch and threads are facts of execution, never part of an id.
    """

    def __init__(self, path: Path, *, device: str = "cpu", micro_batch: int | None = None) -> None:
        self.path = path
        self.device = device
        self.micro_batch = micro_batch
        self.counters: dict[str, float] = {}
        self.facts: dict[str, object] = {}

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def add(self, **counts: float) -> None:
        """Add to the cost ledger: tokens_generated, tokens_trained, tokens_forward, judge_calls, ..."""
        for name, count in counts.items():
            self.counters[name] = self.counters.get(name, 0) + count

    def note(self, **facts: object) -> None:
        """Keep facts of the execution in the manifest, such as the effective decoding."""
        self.facts.update(facts)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items and show progress over them."""
        for done, item in enumerate(items, 1):
            yield item
            self.progress(label, done, total)

    def progress(self, label: str, done: float, total: float | None) -> None:
        """Show progress of a loop that the stage does not own, such as a trainer's."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint: `write` fills a fresh folder, which counts once its digests are kept."""
        raise RuntimeError("checkpoints need a store; run this stage through the harness")

    def resume(self) -> Checkpoint | None:
        """Return the last checkpoint whose digests hold, or None to start from the beginning."""
        return None
