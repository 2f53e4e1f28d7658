"""What a judge says of rows that people have labelled: which of two is better, or good or bad."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.artifacts import Rows, write_rows
from harness.conversations import digest, opening, prompt_id
from harness.draft import Draft
from harness.judge import Answer, Judge, Verdict
from harness.local import LocalFile
from harness.row_files import rows_of
from harness.row_formats import Axis, Columns, Liked, Pair, judgements, said
from harness.stage import stage
from harness.stages.label import judged

TAGS: dict[str, str] = {"helpful": "general", "safe": "red-team"}
AT_ONCE = 64  # answers graded between two signs of progress


class GaugedPairs(Rows):
    """Pairs with people's choice and a judge's; `people` is 1 where they prefer the first."""

    columns = ("prompt_id", "cluster", "people", "p1", "p_as_first", "p_as_second", "lengths")


class GaugedAnswers(Rows):
    """Answers with people's label and a judge's grade, null where it gave none."""

    columns = ("prompt_id", "cluster", "good", "grade")


@stage(makes=GaugedPairs)
def gauge_pairs(
    out: Draft, *, judge: Judge, file: LocalFile, form: Columns, axis: Axis, n: int, seed: int
) -> None:
    """Ask a judge about n of the pairs that people chose from, drawn by the seed; all if fewer.

    Which of the two is shown as ours is a seeded coin's choice, so that a judge who likes a place
    gains nothing by it. Lengths are in words. Raises ValueError where no row is a pair.
    """
    found = list(judgements(file.checked(), form, axis))
    known = {row_digest(pair): pair for pair in found if isinstance(pair, Pair)}
    if not known:
        raise ValueError(f"{file.path}: no row is a pair; name its columns by --column")
    draw = random.Random(f"gauge/{seed}")
    keys = draw.sample(sorted(known), min(n, len(known)))
    sides = {key: draw.random() < 0.5 for key in keys}
    verdicts: dict[str, Verdict] = {}
    for asked in ("helpful", "safe"):
        here = [key for key in keys if known[key].axis == asked]
        pairs = [shown(known[key], sides[key]) for key in here]
        verdicts |= dict(zip(here, judged(out, judge.on(asked), pairs), strict=True))
    lost = Counter(one for one in found if isinstance(one, str))
    out.note(left_out=dict(lost), pairs=len(known))
    out.add(judge_calls=len(keys))
    write_rows(out, (pair_row(known[key], sides[key], verdicts[key]) for key in keys))


def row_digest(pair: Pair) -> str:
    """Return what tells one pair from others, whatever its place in the file."""
    return str(digest([pair.prompt_id, pair.chosen, pair.rejected, pair.axis]))


def shown(pair: Pair, first: bool) -> tuple[Answer, Answer]:
    """Return the two answers of a pair, the better one first or second."""
    texts = (pair.chosen, pair.rejected) if first else (pair.rejected, pair.chosen)
    asked = [dict(message) for message in pair.messages]
    ours, theirs = (Answer(pair.prompt_id, asked, t, tag=TAGS[pair.axis]) for t in texts)
    return ours, theirs


def pair_row(pair: Pair, first: bool, verdict: Verdict) -> dict[str, Any]:
    """Return a pair's row; a probability outside [0, 1] is no verdict."""
    ours, theirs = shown(pair, first)
    is_valid = 0 <= verdict.p1 <= 1
    return {
        "prompt_id": row_digest(pair),
        "cluster": pair.cluster,
        "people": float(first),
        "p1": verdict.p1 if is_valid else None,
        "p_as_first": verdict.p1_as_first if is_valid else None,
        "p_as_second": verdict.p1_as_second if is_valid else None,
        "lengths": [len(ours.completion.split()), len(theirs.completion.split())],
    }


@stage(makes=GaugedAnswers)
def gauge_answers(
    out: Draft, *, judge: Judge, file: LocalFile, form: Columns, axis: Axis, n: int, seed: int
) -> None:
    """Have a judge grade n of the answers that people called good or bad, drawn by the seed."""
    known = {
        str(digest([prompt_id(one.messages), one.completion])): one
        for one in thumbs(file, form, axis)
    }
    draw = random.Random(f"gauge/{seed}")
    keys = draw.sample(sorted(known), min(n, len(known)))
    rows = []
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        asked = [
            Answer(k, [dict(m) for m in known[k].messages], known[k].completion, tag=TAGS[axis])
            for k in part
        ]
        grades = judge.on(axis).grade(asked)
        rows += [
            {
                "prompt_id": key,
                "cluster": opening(known[key].messages),
                "good": known[key].up,
                "grade": grade if math.isfinite(grade) else None,
            }
            for key, grade in zip(part, grades, strict=True)
        ]
        out.progress("grade", len(rows), len(keys))
    out.note(answers=len(known))
    out.add(judge_calls=len(rows))
    write_rows(out, rows)


def thumbs(file: LocalFile, form: Columns, axis: Axis) -> Iterator[Liked]:
    """Yield the labelled answers of a file; ValueError with the place of a row that is none."""
    path = file.checked()
    for place, row in rows_of(path):
        try:
            found = said(row, form, axis)
        except ValueError as error:
            raise ValueError(f"{path}, {place}: {error}") from None
        if isinstance(found, Liked):
            yield found
