"""Preference data from a local file: JSON lines of prompt, chosen and rejected.

The file is read once into a table, with every row checked, filtered and put into a split; the parts
that a study needs are taken from the table. Splits are by what the conversation opens with, so no
prompt, and no later turn of one, is in two of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from harness.artifacts import Demonstrations, Policy, Preferences, Prompts, Rows, write_rows
from harness.conversations import Columns, Pair, digest, parsed
from harness.draft import Draft
from harness.local import LocalFile, local_file
from harness.registry import dataset
from harness.shared import Data
from harness.stage import stage

Axis = Literal["helpful", "safe"]
Split = Literal["train", "validation", "test"]
Labels = Literal["noisy", "permuted"]
TAGS: dict[Axis, str] = {"helpful": "general", "safe": "red-team"}


class Pairs(Rows):
    """All usable rows of a file: a prompt, the better and the worse answer, and the row's split."""

    columns = ("prompt_id", "cluster", "messages", "chosen", "rejected", "split")


@dataclass(frozen=True)
class Shares:
    """Which part of the conversations is held out, and how long rows may be, in tokens."""

    validation: float
    test: float
    max_prompt: int
    max_length: int
    max_rows: int | None

    def __post_init__(self) -> None:
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                "validation and test are shares of the prompts that leave some for training, not "
                f"{self.validation} and {self.test}"
            )


@dataset
def jsonl(
    base: Policy,
    seed: int,
    *,
    path: str,
    prompt: str | None = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    axis: Axis = "helpful",
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
) -> Data:
    """Pairs from a local .jsonl or .jsonl.gz file; the chosen answers are the demonstrations.

    A prompt is text or messages. Leave it out (prompt = "") where chosen and rejected hold the
    whole conversation, as messages or as a transcript of Human and Assistant, as in HH-RLHF.
    """
    table = read_pairs(
        base,
        file=local_file(path),
        columns=Columns(prompt or None, chosen, rejected),
        shares=Shares(validation, test, max_prompt, max_length, max_rows),
    )
    pairs = judged_pairs(table, axis=axis, labels=labels, seed=seed if labels == "permuted" else 0)
    return Data(
        demonstrations=chosen_answers(table),
        preferences=lambda _: pairs,
        prompts=prompts_of(table, split="train", tag=TAGS[axis]),
        validation=prompts_of(table, split="validation", tag=TAGS[axis]),
        test=prompts_of(table, split="test", tag=TAGS[axis]),
    )


@stage(makes=Pairs)
def read_pairs(
    out: Draft, base: Policy, *, file: LocalFile, columns: Columns, shares: Shares
) -> None:
    """Read a file into a table of usable rows with their splits; note what was left out and why.

    Lengths are counted with the base's tokenizer, once for all methods. Raises ValueError for a
    line that is no pair, naming line and remedy, and when a split would be empty.
    """
    lines = list(out.track(parsed(file.checked(), columns), "rows"))
    read = in_order_of_digest(pair for pair in lines if pair is not None)
    usable = Usable(base.tokenizer(), shares)
    usable.dropped["conversations_differ_before_the_answer"] = len(lines) - len(read)
    pairs = list(islice(filter(usable.keeps, read), shares.max_rows))
    dropped = {reason: count for reason, count in usable.dropped.items() if count}
    splits = split_by_cluster(pairs, shares)
    counts = Counter(splits[pair.cluster] for pair in pairs)
    missing = [name for name in ("train", "validation", "test") if not counts[name]]
    if missing:
        raise ValueError(
            f"{file.path}: {len(pairs)} usable rows leave none for {' and '.join(missing)} (left "
            f"out: {dropped or 'none'}). Give more rows, raise max_length or "
            "max_prompt, or change validation and test"
        )
    out.note(lines=len(lines), rows=dict(counts), dropped=dropped)
    write_rows(
        out,
        (
            {
                "prompt_id": pair.prompt_id,
                "cluster": pair.cluster,
                "messages": list(pair.messages),
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "split": splits[pair.cluster],
            }
            for pair in pairs
        ),
    )


class Usable:
    """Says which pairs are kept, and counts the others by reason."""

    def __init__(self, tokenizer: Any, shares: Shares) -> None:
        self.tokenizer, self.shares = tokenizer, shares
        self.special = [token for token in tokenizer.all_special_tokens if token]
        self.seen: set[tuple[str, str, str]] = set()
        self.dropped: Counter[str] = Counter()

    def keeps(self, pair: Pair) -> bool:
        """Say whether a pair is used."""
        reason = self.reason(pair)
        if reason:
            self.dropped[reason] += 1
        return not reason

    def reason(self, pair: Pair) -> str:
        """Return why a pair is left out, or nothing."""
        from harness.models import encode, encode_answer

        if not (pair.chosen and pair.rejected and all(t["content"] for t in pair.messages)):
            return "empty_turn"
        if pair.chosen == pair.rejected:
            return "equal_answers"
        key = (pair.prompt_id, pair.chosen, pair.rejected)
        if key in self.seen:
            return "duplicate"
        self.seen.add(key)
        asked = "".join(turn["content"] for turn in pair.messages)
        if any(token in asked for token in self.special):
            return "prompt_spells_a_special_token"
        prompt = len(encode(self.tokenizer, pair.messages))
        if prompt > self.shares.max_prompt:
            return "longer_than_max_prompt"
        for answer in (pair.chosen, pair.rejected):
            if prompt + len(encode_answer(self.tokenizer, answer)) > self.shares.max_length:
                return "longer_than_max_length"
        return ""


def in_order_of_digest(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs in an order that has nothing to do with the file's, whole conversations first.

    Cutting it short therefore takes a random part, and the same one whatever the file's order.
    """
    return sorted(pairs, key=lambda p: (digest([p.cluster]), p.prompt_id, p.chosen, p.rejected))


def split_by_cluster(pairs: Iterable[Pair], shares: Shares) -> Mapping[str, Split]:
    """Return the split of each cluster, exact shares of the clusters in an order by digest."""
    clusters = sorted({pair.cluster for pair in pairs}, key=lambda c: digest(["split", c]))
    tests = round(len(clusters) * shares.test)
    held = tests + round(len(clusters) * shares.validation)
    return {
        cluster: "test" if place < tests else "validation" if place < held else "train"
        for place, cluster in enumerate(clusters)
    }


@stage(makes=Preferences)
def judged_pairs(out: Draft, table: Pairs, *, axis: Axis, labels: Labels, seed: int) -> None:
    """Write the train rows as pairs whose sides a coin has swapped, p1 saying which is better.

    Permuted labels are the same labels dealt out anew: a placebo on the same rows.
    """
    rows = []
    for row in table:
        if row["split"] != "train":
            continue
        pair_id = digest([row["prompt_id"], row["chosen"], row["rejected"]])
        swapped = random.Random(f"side/{pair_id}").random() < 0.5
        sides = (row["rejected"], row["chosen"]) if swapped else (row["chosen"], row["rejected"])
        rows.append(
            {
                "pair_id": pair_id,
                "prompt_id": row["prompt_id"],
                "messages": row["messages"],
                "chosen": sides[0],
                "rejected": sides[1],
                "p1": float(not swapped),
                "axis": axis,
                "population": None,
                "source": "human" if labels == "noisy" else labels,
                "strength": None,
            }
        )
    if labels == "permuted":
        dealt = random.Random(f"permuted/{seed}").sample([row["p1"] for row in rows], len(rows))
        rows = [{**row, "p1": p1} for row, p1 in zip(rows, dealt, strict=True)]
    out.add(labels_used=write_rows(out, rows))


@stage(makes=Prompts)
def prompts_of(out: Draft, table: Pairs, *, split: Split, tag: str) -> None:
    """Write the distinct prompts of one split."""
    distinct = {row["prompt_id"]: row for row in table if row["split"] == split}
    write_rows(
        out,
        (
            {"prompt_id": id, "messages": row["messages"], "tag": tag, "cluster": row["cluster"]}
            for id, row in distinct.items()
        ),
    )


@stage(makes=Demonstrations)
def chosen_answers(out: Draft, table: Pairs) -> None:
    """Write the distinct chosen answers of the train split as answers to imitate."""
    distinct = {(row["prompt_id"], row["chosen"]): row for row in table if row["split"] == "train"}
    write_rows(
        out,
        (
            {"prompt_id": id, "messages": row["messages"], "completion": completion}
            for (id, completion), row in distinct.items()
        ),
    )
