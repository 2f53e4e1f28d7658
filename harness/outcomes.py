"""What became of each artifact of a run, and what a run tells meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal[
    "done", "cached", "failed", "oom", "diverged", "timeout", "interrupted", "blocked", "pending"
]
MADE = ("done", "cached")


@dataclass(frozen=True)
class Outcome:
    """What became of one artifact: made now (done), there already (cached), or why not.

    `cause` tells failures apart: error, contract, disk or config. `because` is the id of what
    failed where something else is only blocked.
    """

    state: State
    reason: str = ""
    cause: str = ""
    seconds: float = 0.0
    counters: Mapping[str, float] = field(default_factory=dict)
    asked_at: str = ""
    traceback: str = ""
    because: str = ""

    @property
    def made(self) -> bool:
        """Say whether the artifact is there."""
        return self.state in MADE

    @classmethod
    def of_failure(cls, record: Mapping[str, Any]) -> Outcome:
        """Return the outcome that a failure record of the store tells of."""
        known = {key: record[key] for key in ("state", "reason", "cause", "asked_at", "traceback")}
        return cls(**known, seconds=record.get("seconds", 0.0))

    def is_final(self) -> bool:
        """Say whether trying again would only repeat it: a divergence, or a broken contract."""
        return self.state == "diverged" or (self.state == "failed" and self.cause == "contract")


@dataclass(frozen=True)
class Started:
    """A worker has begun the body of a stage."""

    id: str


@dataclass(frozen=True)
class Progressed:
    """A loop of a stage has moved; `rate` is in items a second, None while unknown."""

    id: str
    label: str
    done: float
    total: float | None
    rate: float | None


@dataclass(frozen=True)
class Finished:
    """An artifact is committed."""

    id: str
    seconds: float
    counters: Mapping[str, float]


@dataclass(frozen=True)
class Failed:
    """An artifact could not be made; `asked_at` is the line of the method that asked for it."""

    id: str
    state: State
    reason: str
    traceback: str
    asked_at: str


@dataclass(frozen=True)
class Blocked:
    """An artifact waits in vain: `because` is what failed among all that it needs."""

    id: str
    because: str


Event = Started | Progressed | Finished | Failed | Blocked
