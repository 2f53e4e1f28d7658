"""Preference data from local files: what every dataset of real rows is made of, and `jsonl`.

The files are read once into a table, with every row checked, filtered and put into a split; the
parts that a study needs are taken from the table.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.artifacts import FLAGS, Demonstrations, Policy, Preferences, Prompts, Rows, write_rows
from harness.bases import base_policy
from harness.conversations import digest
from harness.draft import Draft
from harness.local import LocalFile, check_digest
from harness.registry import dataset
from harness.row_files import files_in
from harness.row_formats import Axis, Columns, Pair, TwoAxes, judgements
from harness.shared import Data
from harness.sources import current, is_absent, missing_path, place
from harness.splits import RESERVED, SPLITS, TRAIN, Shares, Split, usable
from harness.stage import stage

Labels = Literal["noisy", "permuted"]
Row = dict[str, Any]
TAGS: dict[Axis, str] = {"helpful": "general", "safe": "red-team"}


class Pairs(Rows):
    """All usable rows: a prompt, the better and the worse answer, on which axis, and the split."""

    columns = (
        "prompt_id",
        "cluster",
        "messages",
        "chosen",
        "rejected",
        "axis",
        "strength",
        "split",
    )


@dataclass(frozen=True)
class Source:
    """A file, how its rows are read, their axis, and whether all of it is held out for testing."""

    file: LocalFile
    form: Columns | TwoAxes
    axis: Axis
    held_out: bool = False


@dataset
def jsonl(
    base: Policy,
    seed: int,
    *,
    path: str,
    files: str = "*.jsonl*",
    sha256: str = "",
    prompt: str | None = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    responses: str = "",
    ranks: str = "",
    completion: str = "",
    thumb: str = "",
    axis: Axis = "helpful",
    axis_column: str = "",
    strength: str = "",
    chosen_safe: str = "",
    rejected_safe: str = "",
    labels: Labels = "noisy",
    validation: float = 0.05,
    test: float = 0.1,
    max_prompt: int = 256,
    max_length: int = 448,
    max_rows: int | None = None,
    budget: int | None = None,
    max_overlap: float = 0.2,
    reserved: float = 0.0,
    assistant: str = "",
) -> Data:
    """Pairs, rankings or thumbs from a file (JSON lines, JSON, CSV, Parquet) or a folder of them.

    A prompt is text or messages; leave it out (prompt = "") where answers hold the conversation,
    as messages or as a transcript of Human and Assistant. Name `responses` (and `ranks`) for
    rankings, `completion` and `thumb` for thumbs, `chosen_safe` and `rejected_safe` for flags.
    `sha256` pins one file; `files` is a folder's pattern. Better answers are the demonstrations.
    `reserved` prompts teach the judge `fitted`; `assistant`: "base", a folder or "org/name@commit".
    """
    found = files_in(path, files)
    if sha256 and not is_absent(path):
        if len(found) > 1:
            raise ValueError("sha256 pins one file, and path is a folder with several")
        check_digest(path, sha256, found[0].sha256)
    named = (prompt or "", chosen, rejected, responses, ranks, completion, thumb, axis_column)
    columns = Columns(*named, strength, chosen_safe, rejected_safe)
    shares = Shares(
        validation, test, max_prompt, max_length, max_rows, budget, max_overlap, None, reserved
    )
    sources = [Source(file, columns, axis) for file in found]
    return offered(base, seed, sources, shares, labels, assistant)


def offered(
    base: Policy,
    seed: int,
    sources: Iterable[Source],
    shares: Shares,
    labels: Labels,
    assistant: str = "",
) -> Data:
    """Return what a dataset of fixed rows offers; its pairs are the same for every SFT policy."""
    table = read_pairs(base, sources=tuple(sources), shares=shares)
    pairs = judged_pairs(
        table, split=TRAIN, labels=labels, seed=seed if labels == "permuted" else 0
    )
    kept = judged_pairs(table, split=RESERVED, labels="noisy", seed=0)
    return Data(
        demonstrations=chosen_answers(table),
        preferences=lambda _: pairs,
        prompts=prompts_of(table, split="train"),
        validation=prompts_of(table, split="validation"),
        test=prompts_of(table, split="test"),
        assistant=assistant_of(assistant, base),
        reserved=kept if shares.reserved else None,
    )


def assistant_of(given: str, base: Policy) -> Policy | None:
    """Return who criticises and compares: the study's base, a folder's beside it, or the hub's."""
    if given in ("", "base"):
        return base if given else None
    name, at, commit = given.rpartition("@")
    if at:
        return base_policy("assistant", {"hub": name, "revision": commit})
    search = current()
    missing_path(f"{search.asker}.assistant", given, search.beside)
    return base_policy("assistant", {"path": str(place(Path(), given))})


@stage(makes=Pairs, version=3)
def read_pairs(out: Draft, base: Policy, *, sources: tuple[Source, ...], shares: Shares) -> None:
    """Read files into a table of usable rows with their splits; note what was left out and why.

    Lengths are counted with the base's tokenizer, once for all methods. The note has the rows of
    each split and their digests. Raises ValueError for a row that cannot be read, naming row and
    remedy, and when a split would be empty.
    """

    def read(*, held_out: bool) -> list[Pair | str]:
        chosen = [source for source in sources if source.held_out == held_out]
        return [
            found
            for source in chosen
            for found in out.track(
                judgements(source.file.checked(), source.form, source.axis), "rows"
            )
        ]

    given, tests = read(held_out=False), read(held_out=True)
    kept = usable(given, tests, base.tokenizer(), shares)
    missing = [name for name in SPLITS if name not in kept.counts]
    if missing:
        names = ", ".join(dict.fromkeys(source.file.path for source in sources))
        raise ValueError(
            f"{names}: {len(kept.rows)} usable rows leave none for {' and '.join(missing)} (left "
            f"out: {dict(kept.dropped) or 'none'}). Give more rows, raise max_length or "
            "max_prompt, or change validation and test"
        )
    out.note(
        read=len(given) + len(tests),
        rows=kept.counts,
        dropped=dict(kept.dropped),
        digests=kept.digests,
    )
    write_rows(out, (row_of(pair, split) for pair, split in kept.rows))


def row_of(pair: Pair, split: Split) -> Mapping[str, Any]:
    """Return the table's row of a pair."""
    return {
        "prompt_id": pair.prompt_id,
        "cluster": pair.cluster,
        "messages": list(pair.messages),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "axis": pair.axis,
        "strength": pair.strength,
        "split": split,
        **(dict(zip(FLAGS, pair.safe, strict=True)) if pair.safe else {}),
    }


@stage(makes=Preferences, version=4)
def judged_pairs(out: Draft, table: Pairs, *, split: Split, labels: Labels, seed: int) -> None:
    """Write a split's rows as pairs whose sides a coin has swapped, p1 saying which is better.

    Permuted labels are the same labels dealt out anew within each axis: a placebo on the same rows.
    Reserved rows say that they taught a labeller, so that no method's own budget is charged them.
    """
    source = "human" if labels == "noisy" else labels
    rows = []
    for row in table:
        if row["split"] != split:
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
                "axis": row["axis"],
                "population": None,
                "source": "labeller" if split == RESERVED else source,
                "strength": row["strength"],
                **flags_by_side(row, swapped),
            }
        )
    if labels == "permuted":
        rows = permuted(rows, seed)
    out.add(labels_used=write_rows(out, rows))


def flags_by_side(row: Mapping[str, Any], swapped: bool) -> Row:
    """Return the flags of safety of a row whose sides were swapped, or not; nothing without any."""
    if FLAGS[0] not in row:
        return {}
    flags = [row[name] for name in FLAGS]
    return dict(zip(FLAGS, reversed(flags) if swapped else flags, strict=True))


def permuted(rows: list[Row], seed: int) -> list[Row]:
    """Return rows whose labels, flags of safety included, are dealt out anew within each axis."""
    dealt = {}
    for axis in TAGS:
        labels = [
            {name: row[name] for name in ("p1", *FLAGS) if name in row}
            for row in rows
            if row["axis"] == axis
        ]
        dealt[axis] = iter(random.Random(f"permuted/{axis}/{seed}").sample(labels, len(labels)))
    bare = [{name: row[name] for name in row if name not in FLAGS} for row in rows]
    return [{**row, **next(dealt[row["axis"]])} for row in bare]


@stage(makes=Prompts, version=2)
def prompts_of(out: Draft, table: Pairs, *, split: Split) -> None:
    """Write the distinct prompts of one split, tagged by the axis that they are judged on."""
    distinct = {row["prompt_id"]: row for row in table if row["split"] == split}
    write_rows(
        out,
        (
            {
                "prompt_id": id,
                "messages": row["messages"],
                "tag": TAGS[row["axis"]],
                "cluster": row["cluster"],
            }
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
