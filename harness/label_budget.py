"""How many judgements a policy was trained on, by who made them, and how many safety flags.

A judgement counts where training reads it, once, however many stages read it, and where it decides
which pairs training reads: a contest is paid whole, also the matches that no pair was made of. A
ranking of K answers counts as the K (K - 1) / 2 comparisons that it implies. Labels that were
replaced before anyone trained on them (people's, of pairs that a model labelled anew) do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from harness.artifacts import FLAGS, Preferences, Rankings
from harness.pairwise import is_flagged
from harness.selection import is_validation
from harness.stage import Artifact

if TYPE_CHECKING:
    from harness.store import Store

FLAG = "safety_flag"  # whether one answer is safe, bought beside the judgement of a pair
RATING = "ai_rating"  # the labeller's grade of one answer, which a policy was optimised against
# "labeller": people's judgements that a labeller learnt from, and through it what it labels.
KINDS = (
    "human", "ai", "ai_principle", "ai_revision", RATING, "oracle", "permuted", "labeller", FLAG,
)  # fmt: skip
READS_FLAGS = "fit_safe_reward"  # the stage that trains on flags
CHOOSES_BY_LABELS = "winners"  # the stage that makes pairs of what all matches of a contest say
JUDGEMENT = ("pair_id", "axis", "population", "source")  # rows alike in these are one
Label = tuple[str, ...]
Judged = Preferences | Rankings


class LabelBudget:
    """Counts the judgements behind the policies of one study; each artifact is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[str, frozenset[Label]] = {}

    def count(self, trained: Sequence[Artifact]) -> Counter[str] | None:
        """Return the judgements by source that a policy's stages read; None while one is not made.

        `trained` is the policy's closure. A row keeps its pair, axis and source through stages that
        choose or mix rows, so it is known again in the earliest set that has it. A safety flag that
        a stage trains on counts as one more.
        """
        lines = [lineage(artifact) for artifact in consumed(trained)]
        if any(artifact not in self.store for line in lines for artifact in line):
            return None
        found: set[tuple[str, Label]] = set()
        for line in lines:
            for label in self.labels(line[-1]):
                found.add((next(a.id for a in line if label in self.labels(a)), label))
        return Counter(label[-1] for _, label in found) + Counter({FLAG: self.flags(trained)})

    def flags(self, trained: Sequence[Artifact]) -> int:
        """Return how many answers' safety flags some stage trained on, each once."""
        seen = set()
        for artifact in trained:
            if stage_of(artifact) != READS_FLAGS:
                continue
            for source in artifact.inputs:
                if isinstance(source, Preferences):
                    rows = [row for row in self.store.open(source) if is_flagged(row)]
                    seen |= {(judgement(row), flag) for row in rows for flag in FLAGS}
        return len(seen)

    def labels(self, artifact: Judged) -> frozenset[Label]:
        """Return the judgements in one set of pairs, or those that rankings imply."""
        if artifact.id not in self.read:
            rows = self.store.open(artifact)
            found = map(implied, rows) if isinstance(artifact, Rankings) else [map(judgement, rows)]
            self.read[artifact.id] = frozenset(label for labels in found for label in labels)
        return self.read[artifact.id]


def judgement(row: Mapping[str, Any]) -> Label:
    """Return what tells the judgement of a row from others."""
    return tuple(str(row.get(column, "")) for column in JUDGEMENT)


def implied(ranking: Mapping[str, Any]) -> list[Label]:
    """Return the comparisons of K answers that one ranking implies, K (K - 1) / 2 of them."""
    made = (ranking["axis"], str(ranking["population"]), ranking["source"])
    prompt = ranking["prompt_id"]
    return [(f"{prompt}/{a}/{b}", *made) for a, b in combinations(ranking["responses"], 2)]


def consumed(trained: Iterable[Artifact]) -> list[Judged]:
    """Return the judged sets whose labels some stage reads, in order.

    Stages that label pairs, mix them or choose among them by other columns read no labels.
    """
    found: dict[str, Judged] = {}
    for artifact in trained:
        if isinstance(artifact, Preferences) and stage_of(artifact) != CHOOSES_BY_LABELS:
            continue
        for source in artifact.inputs:
            if isinstance(source, Preferences | Rankings) and not is_validation(source):
                found.setdefault(source.id, source)
    return list(found.values())


def stage_of(artifact: Artifact) -> str | None:
    """Return the name of the stage that makes an artifact."""
    return artifact.recipe.stage.name if artifact.recipe else None


def lineage(pairs: Judged) -> list[Judged]:
    """Return the sets of pairs that one was made from, each after its sources, itself last."""
    line: dict[str, Judged] = {}
    for source in pairs.inputs:
        if isinstance(source, Preferences):
            line |= {artifact.id: artifact for artifact in lineage(source)}
    return [*line.values(), pairs]


__all__ = ["KINDS", "RATING", "LabelBudget", "consumed", "lineage"]
