"""What each row was made from and evaluated with, item by item, as manifests say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from harness.artifacts import Policy, Preferences, Samples
from harness.judge import Judge
from harness.judge_conflicts import of_training
from harness.label_budget import KINDS
from harness.selection import is_validation
from harness.stage import plain

if TYPE_CHECKING:
    from harness.ledger import Book
    from harness.study import Cell

NOT_USED = "not used"
TAUGHT = "taught by its judge"  # a row that learnt from the model that grades it
DIGEST = 12  # characters of a digest that a reader sees


class Control:
    """The control ledger of a study: its lines, read from a book of manifests."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the control ledger: an item, and each label's value for each seed."""
        blocks = dict.fromkeys((cell.base, cell.dataset) for cell in self.book.cells)
        for base, dataset in blocks:
            inside = [c for c in self.book.cells if (c.base, c.dataset) == (base, dataset)]
            values: dict[str, dict[str, dict[str, str | None]]] = {}
            for cell in inside:
                for item, value in self.held(cell).items():
                    values.setdefault(item, {}).setdefault(cell.label, {})[str(cell.seed)] = value
            for item, labels in values.items():
                yield {"base": base, "dataset": dataset, "item": item, "values": labels}

    def held(self, cell: Cell) -> dict[str, str | None]:
        """Return what one cell was made from and evaluated with; None where it is not known yet."""
        book, start, data = self.book, cell.shared, cell.data
        trained = book.trained[cell.name]
        ids = {a.id for a in trained}
        used = [a for a in trained if isinstance(a, Preferences) and not is_validation(a)]
        sources = [a for a in used if not any(isinstance(b, Preferences) for b in a.inputs)]
        shared = {
            "SFT start": start.sft,
            "demonstrations": start.demonstrations,
            "prompts": start.prompts,
        }
        held: dict[str, str | None] = {
            "base weights": book.payload(start.base),
            "tokenizer": self.file(cell.policy, "tokenizer.json"),
            "chat template": self.template(cell.policy),
        }
        held |= {k: book.payload(a) if a.id in ids else NOT_USED for k, a in shared.items()}
        held |= {
            "preferences": self.joined(sources),
            "test prompts": book.payload(data.test),
        }
        held |= {f"decoding, {name}": self.decoding(s) for name, s in cell.samples.items()}
        labels = book.labels(cell)
        held |= {f"labels, {k}": None if labels is None else f"{labels[k]:,}" for k in KINDS}
        if book.study.declared.selection.rule == "validation":
            spent = book.spent_on_selection(cell)
            held["labels, selection"] = None if spent is None else f"{spent:,}"
        held["labeller"] = judge_name(start.labeller)
        held["judge"] = self.judge_of(cell)
        held[TAUGHT] = "yes" if taught(cell) else "no"
        made = cell.policy.id in book.manifests
        held["numerics"] = book.numerics(cell.policy) if made else None
        held["seed"] = str(cell.seed)
        return held

    def joined(self, artifacts: list[Preferences]) -> str | None:
        """Return the digests of several artifacts as one value."""
        digests = [self.book.payload(a) for a in artifacts]
        if None in digests:
            return None
        return " + ".join(sorted(d for d in digests if d)) or NOT_USED

    def decoding(self, samples: Samples) -> str | None:
        """Return the effective decoding that a policy was sampled with, as its stage noted it.

        What a policy itself declares (best-of-n, a temperature of its own) is part of it.
        """
        manifest = self.book.manifests.get(samples.id)
        noted = manifest.get("facts", {}).get("decoding") if manifest else None
        return None if noted is None else json.dumps(noted, sort_keys=True)

    def file(self, policy: Policy, name: str) -> str | None:
        """Return the short digest of a policy's file; a pointer has its parent's."""
        current: Policy | None = policy
        while current is not None:
            manifest = self.book.manifests.get(current.id)
            if manifest is None:
                return None
            if name in manifest["files"]:
                return str(manifest["files"][name]["sha256"])[:DIGEST]
            current = next((a for a in current.inputs if isinstance(a, Policy)), None)
        return None

    def template(self, policy: Policy) -> str | None:
        """Return the short digest of the chat template, wherever the tokenizer keeps it."""
        return self.file(policy, "chat_template.jinja") or self.file(
            policy, "tokenizer_config.json"
        )

    def judge_of(self, cell: Cell) -> str:
        """Return who judged: the judges that the cell's scores name in their recipes."""
        names = {judge_name(judge) for judge in judges_in(cell)}
        if cell.data.truth is not None:
            names.add("gold")
        return " + ".join(sorted(names)) or "none"


def taught(cell: Cell) -> bool:
    """Say whether a judge of a cell's answers labelled or rewarded what its policy learnt from."""
    return any(of_training(cell.label, cell.policy, judge, False) for judge in judges_in(cell))


def judges_in(cell: Cell) -> list[Judge]:
    """Return the judges that a cell's scores name in their recipes."""
    recipes = [scores.recipe for scores in cell.scores.values() if scores.recipe is not None]
    asked = [recipe.arguments.get("judge") for recipe in recipes]
    return [judge for judge in asked if isinstance(judge, Judge)]


def judge_name(judge: object) -> str:
    """Return a judge as a ledger names it: its type and a digest of its fields."""
    if not is_dataclass(judge) or isinstance(judge, type):
        return "none"
    fields = json.dumps(plain(judge), sort_keys=True)
    return f"{type(judge).__name__} {hashlib.sha256(fields.encode()).hexdigest()[:6]}"
