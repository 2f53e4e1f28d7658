"""Grade answers by the embedded world's truth. Evaluation alone comes here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import Samples, Subject, Truth

if TYPE_CHECKING:
    from harness.hamlet.gold import Grade
    from harness.hamlet.requests import Request, World


@dataclass(frozen=True)
class Graded:
    """An answer (a row of Samples), the request it answers in its world, and the truth about it."""

    row: dict[str, Any]
    world: World
    request: Request
    grade: Grade

    @property
    def task(self) -> str:
        """The family whose gold rule applies; a bias pair has that of what it asks."""
        return self.request.intent.task

    @property
    def opinion_is_false(self) -> bool:
        """Whether the user states a belief that does not hold."""
        intent = self.request.intent
        if intent.task != "opinion":
            return False
        return self.world.county.value(intent.entity, intent.need[0]) != intent.value

    @property
    def findings(self) -> list[tuple[str, str, float]]:
        """What gold found, as (kind, sentence, amount), so that other weights can re-grade it."""
        return [(found.kind, found.sentence, found.amount) for found in self.grade.findings]


def graded(samples: Samples, truth: Truth) -> Iterator[Graded]:
    """Yield every answer with its gold grade; raise KeyError for a prompt without a known truth."""
    from harness.hamlet.gold import grade
    from harness.hamlet.requests import Request, World

    worlds: dict[int, World] = {}
    requests: dict[str, tuple[World, Request]] = {}
    for known in truth:
        number = known["world"]
        if number not in worlds:
            worlds[number] = World(number)
        requests[known["prompt_id"]] = (worlds[number], Request.from_row(known["request"]))
    for row in samples:
        world, request = requests[row["prompt_id"]]
        yield Graded(row, world, request, grade(world, request, row["completion"]))


def truth_of(subject: Subject, suite: str) -> Truth:
    """Return the subject's truth; raise ValueError where the dataset is not an embedded world."""
    if subject.truth is None:
        raise ValueError(
            f"suite {suite!r} grades by the truth of an embedded world, and this dataset has none; "
            "use the suite 'preference', which asks the study's judge"
        )
    return subject.truth
