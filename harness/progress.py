"""What a reader sees while a study runs: bars in a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from harness.planner import Plan, duration
from harness.run import Blocked, Event, Failed, Finished, Progressed, Started, in_order
from harness.study import Cell

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.progress import Progress, TaskID

EVERY = 10.0  # seconds between two progress lines of one artifact when there is no terminal


class Tally:
    """Counts cells by state and estimates the time left, from events alone."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self.workers = max(workers, 1)
        self.expected = {p.artifact.id: p.seconds for p in plan.to_make}
        self.waiting = {cell.name: needs(cell) & self.expected.keys() for cell in plan.cells}
        self.total = len(self.expected)
        self.made = 0
        self.failed: dict[str, str] = {}
        self.running: dict[str, float] = {}
        self.took: list[float] = []

    def note(self, event: Event) -> None:
        """Take in what happened to one artifact."""
        if isinstance(event, Started):
            self.running[event.id] = time.monotonic()
        elif isinstance(event, Finished | Failed | Blocked):
            self.running.pop(event.id, None)
            self.expected.pop(event.id, None)
        if isinstance(event, Finished):
            self.made += 1
            self.took.append(event.seconds)
            for ids in self.waiting.values():
                ids.discard(event.id)
        elif isinstance(event, Failed):
            self.failed[event.id] = event.state
        elif isinstance(event, Blocked):
            self.failed[event.id] = "blocked"

    def cells(self) -> Counter[str]:
        """Return how many cells are done, failed, blocked, running and pending."""
        return Counter(self.state(ids) for ids in self.waiting.values())

    def state(self, ids: set[str]) -> str:
        """Return the state of a cell that still needs the artifacts `ids`."""
        if not ids:
            return "done"
        failures = {self.failed[id] for id in ids & self.failed.keys()}
        if failures:
            worst = failures - {"blocked"}
            return ("interrupted" if worst == {"interrupted"} else "failed") if worst else "blocked"
        return "running" if ids & self.running.keys() else "pending"

    def seconds_left(self) -> float | None:
        """Return about how long the rest takes, or None before anything is known about it.

        Stages never timed count as the mean of what this run has made so far.
        """
        mean = sum(self.took) / len(self.took) if self.took else None
        left, now = 0.0, time.monotonic()
        for id, seconds in self.expected.items():
            guess = seconds if seconds is not None else mean
            if guess is None:
                return None
            spent = now - self.running[id] if id in self.running else 0.0
            left += max(guess - spent, 0.0)
        return left / self.workers

    def line(self) -> str:
        """Return the state of the matrix in one line."""
        counts = self.cells()
        order = ("done", "running", "pending", "interrupted", "failed", "blocked")
        cells = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
        left = self.seconds_left()
        remaining = f"about {duration(left)} left" if left is not None else "time left unknown"
        return f"cells: {cells} | artifacts: {self.made} of {self.total} | {remaining}"


def needs(cell: Cell) -> set[str]:
    """Return the ids of everything that a cell's targets are made from, themselves included."""
    return {artifact.id for artifact in in_order(cell.targets)}


class Lines:
    """Progress as log lines, for files, pipes and continuous integration."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self.tally = tally
        self.stream = stream
        self.said: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Print what happened; loops and the state of the matrix at most every ten seconds."""
        before = self.tally.cells()
        self.tally.note(event)
        if not isinstance(event, Progressed) or self.is_time(event.id):
            self.say(sentence(event))
        finished = self.tally.cells()["done"] > before["done"]
        if self.is_time("matrix") or finished:
            self.say(self.tally.line())

    def is_time(self, about: str) -> bool:
        """Say whether ten seconds have passed since this was last said, and take note."""
        now = time.monotonic()
        if now - self.said.setdefault(about, now - EVERY * (about != "matrix")) < EVERY:
            return False
        self.said[about] = now
        return True

    def say(self, text: str) -> None:
        """Print one line with the time."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self.stream, flush=True)


def sentence(event: Event) -> str:
    """Return an event as one line of a log."""
    if isinstance(event, Started):
        return f"{event.id} started"
    if isinstance(event, Progressed):
        total = f" of {event.total:g}" if event.total is not None else ""
        rate = f", {event.rate:.3g}/s" if event.rate is not None else ""
        return f"{event.id} {event.label}: {event.done:g}{total}{rate}"
    if isinstance(event, Finished):
        counts = ", ".join(f"{name} {count:,.0f}" for name, count in event.counters.items())
        return f"{event.id} made in {duration(event.seconds)}{f' ({counts})' if counts else ''}"
    if isinstance(event, Failed):
        return f"{event.id} {event.state}: {event.reason} (asked for at {event.asked_at})"
    return f"{event.id} blocked by {event.because}"


class Bars:
    """Progress in a terminal: the matrix in one line, a bar and a rate for every running stage."""

    def __init__(self, tally: Tally, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.tally = tally
        self.bars: Progress = Progress(
            TextColumn("{task.description}", style="bold"),
            TextColumn("{task.fields[label]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        """Move the bars; failures stay on the screen above them."""
        self.tally.note(event)
        if isinstance(event, Started):
            self.tasks[event.id] = self.bars.add_task(event.id, total=None, label="", rate="")
        elif isinstance(event, Progressed) and event.id in self.tasks:
            rate = f"{event.rate:.3g}/s" if event.rate is not None else ""
            self.bars.update(
                self.tasks[event.id],
                completed=event.done,
                total=event.total,
                label=event.label,
                rate=rate,
            )
        elif isinstance(event, Finished | Failed | Blocked):
            task = self.tasks.pop(event.id, None)
            if task is not None:
                self.bars.remove_task(task)
            if not isinstance(event, Finished):
                self.bars.console.print(sentence(event), markup=False, highlight=False)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self.tally.line()), self.bars)


@contextmanager
def watch(plan: Plan, workers: int, stream: TextIO | None = None) -> Iterator[Lines | Bars]:
    """Yield what to tell events to: bars when the output is a terminal, else log lines."""
    stream = stream or sys.stdout
    tally = Tally(plan, workers)
    if not stream.isatty():
        yield Lines(tally, stream)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    bars = Bars(tally, console)
    with Live(bars, console=console, refresh_per_second=8):
        yield bars
