"""How many judgements a policy was trained on, by who made them, and how many safety flags.

A judgement counts where training reads it, once, however many stages read it. Labels that were
replaced before anyone trained on them (people's, of pairs that a model labelled anew) do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.artifacts import FLAGS, Preferences
from harness.pairwise import is_flagged
from harness.selection import is_validation
from harness.stage import Artifact

if TYPE_CHECKING:
    from harness.store import Store

FLAG = "safety_flag"  # whether one answer is safe, bought beside the judgement of a pair
# "labeller": people's judgements that a labeller learnt from, and through it what it labels.
KINDS = ("human", "ai", "ai_principle", "ai_revision", "oracle", "permuted", "labeller", FLAG)
READS_FLAGS = "fit_safe_reward"  # the stage that trains on flags
JUDGEMENT = ("pair_id", "axis", "population", "source")  # rows alike in these are one
Label = tuple[str, ...]


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
            if artifact.recipe is None or artifact.recipe.stage.name != READS_FLAGS:
                continue
            for source in artifact.inputs:
                if isinstance(source, Preferences):
                    rows = [row for row in self.store.open(source) if is_flagged(row)]
                    seen |= {(judgement(row), flag) for row in rows for flag in FLAGS}
        return len(seen)

    def labels(self, artifact: Preferences) -> frozenset[Label]:
        """Return the judgements in one set of pairs."""
        if artifact.id not in self.read:
            rows = self.store.open(artifact)
            self.read[artifact.id] = frozenset(map(judgement, rows))
        return self.read[artifact.id]


def judgement(row: Mapping[str, Any]) -> Label:
    """Return what tells the judgement of a row from others."""
    return tuple(str(row.get(column, "")) for column in JUDGEMENT)


def consumed(trained: Iterable[Artifact]) -> list[Preferences]:
    """Return the sets of pairs that some stage other than a labelling one reads, in order."""
    found: dict[str, Preferences] = {}
    for artifact in trained:
        if isinstance(artifact, Preferences):
            continue
        for source in artifact.inputs:
            if isinstance(source, Preferences) and not is_validation(source):
                found.setdefault(source.id, source)
    return list(found.values())


def lineage(pairs: Preferences) -> list[Preferences]:
    """Return the sets of pairs that one was made from, each after its sources, itself last."""
    line: dict[str, Preferences] = {}
    for source in pairs.inputs:
        if isinstance(source, Preferences):
            line |= {artifact.id: artifact for artifact in lineage(source)}
    return [*line.values(), pairs]


__all__ = ["KINDS", "LabelBudget", "consumed", "lineage"]
