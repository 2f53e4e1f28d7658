"""Have a judge say which answer is better: of fresh ones, two or more, or of pairs labelled before.

A label is the judge's probability, kept soft. A pair on which the judge gives no verdict has no
label and is left out and counted, never turned into a half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from math import comb
from typing import Annotated, Any

from annotated_types import Ge, Le

from harness.artifacts import Preferences, Rankings, Samples, write_rows
from harness.constitution import Constitution, Principle
from harness.draft import Draft
from harness.drawn_answers import different, first_two, note_kept
from harness.judge import Answer, Judge, Verdict
from harness.stage import stage

JUDGED_AT_ONCE = 1024
Row = dict[str, Any]


@stage(makes=Preferences, version=2)
def label(
    out: Draft,
    samples: Samples,
    *,
    judge: Judge,
    axis: str,
    source: str,
) -> None:
    """Have a judge say how probably the first of two answers to each prompt is the better one.

    The pair is the first two answers that finished; as draws they are exchangeable, so no side is
    favoured. p1 is the judge's probability, unrounded. Prompts with fewer than two such answers, or
    two equal ones, make no pair and are counted. Raises ValueError where no pair is left.
    """
    pairs, dropped = first_two(samples)
    verdicts = judged(out, judge, [(Answer.of(a), Answer.of(b)) for a, b in pairs])
    rows = [
        labelled(a, b, verdict, axis, source)
        for (a, b), verdict in zip(pairs, verdicts, strict=True)
        if verdict.valid
    ]
    note_kept(out, rows, "pairs", {**dropped, "no_verdict": len(pairs) - len(rows)})
    write_rows(out, rows)
    out.add(labels_used=len(rows), judge_calls=len(pairs))


def judged(out: Draft, judge: Judge, pairs: Sequence[tuple[Answer, Answer]]) -> Iterator[Verdict]:
    """Yield the judge's verdict on each pair, with progress."""
    import torch

    for start in range(0, len(pairs), JUDGED_AT_ONCE):
        part = pairs[start : start + JUDGED_AT_ONCE]
        with torch.device(out.device):
            yield from judge.verdicts([ours for ours, _ in part], [theirs for _, theirs in part])
        out.progress("label", start + len(part), len(pairs))


def labelled(first: Row, second: Row, verdict: Verdict, axis: str, source: str) -> Row:
    """Return a row of Preferences; a judge that chose an axis or source itself is believed."""
    return {
        "pair_id": f"{first['prompt_id']}:{first['sample']}-{second['sample']}",
        "prompt_id": first["prompt_id"],
        "messages": first["messages"],
        "chosen": first["completion"],
        "rejected": second["completion"],
        "p1": verdict.p1,
        "axis": verdict.axis or axis,
        "population": None,
        "source": verdict.source or source,
        "strength": None,
    }


@stage(makes=Rankings, version=2)
def rank(
    out: Draft,
    samples: Samples,
    *,
    judge: Judge,
    axis: str,
    source: str,
) -> None:
    """Have a judge rank the different answers to each prompt that finished, by whom each beats.

    An answer's standing is the sum of its probabilities of being better than each other answer;
    equal standings are a tie. K answers are K (K - 1) / 2 judgements of the budget, which is what
    the judge was asked. Prompts with fewer than two such answers have no ranking, and neither have
    those with a pair on which the judge gave no verdict: half a ranking is none. Raises ValueError
    where no ranking is left.
    """
    groups, dropped = different(samples)
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    verdicts = judged(out, judge, [(Answer.of(a), Answer.of(b)) for a, b in pairs])
    rows = []
    for group in groups:
        given = list(islice(verdicts, comb(len(group), 2)))
        wins = standings(len(group), given)
        if wins is not None:
            rows.append(ranking(group, wins, given[0].axis or axis, given[0].source or source))
    note_kept(out, rows, "rankings", {**dropped, "no_verdict": len(groups) - len(rows)})
    write_rows(out, rows)
    sizes = [len(row["responses"]) for row in rows]
    out.add(labels_used=sum(k * (k - 1) // 2 for k in sizes), judge_calls=len(pairs))


def standings(k: int, verdicts: Sequence[Verdict]) -> list[float] | None:
    """Return how many of the others each of K answers beats, in probability; None without verdict.

    The verdicts are on the pairs in the order of `itertools.combinations`.
    """
    if not all(verdict.valid for verdict in verdicts):
        return None
    wins = [0.0] * k
    for (one, other), verdict in zip(combinations(range(k), 2), verdicts, strict=True):
        wins[one] += verdict.p1
        wins[other] += 1 - verdict.p1
    return wins


def ranking(group: Sequence[Row], wins: Sequence[float], axis: str, source: str) -> Row:
    """Return a row of Rankings; rank 1 is the answer with the most wins, and ties share a rank."""
    near = [round(own, 9) for own in wins]  # sums of the same numbers in another order are equal
    return {
        "prompt_id": group[0]["prompt_id"],
        "messages": group[0]["messages"],
        "responses": [row["completion"] for row in group],
        "ranks": [1 + sum(other > own for other in near) for own in near],
        "axis": axis,
        "population": None,
        "source": source,
    }


@stage(makes=Preferences, version=2)
def relabel(
    out: Draft,
    pairs: Preferences | Samples,
    *,
    judge: Judge,
    source: str,
    constitution: Constitution | None = None,
    soft: bool = True,
    clamp: Annotated[float, Ge(0), Le(0.5)] = 0.0,
    seed: int,
) -> None:
    """Label pairs by a judge: prompts, answers and axes stay as they are, p1 is the judge's.

    The first two finished answers to each prompt of Samples are pairs that nobody labelled; their
    axis follows the tag of the prompt, unless the judge chooses axes itself, as annotators do. It
    is asked about each row's own axis; with a constitution, by a principle drawn for the pair,
    whose id and digest the row keeps. Sides are swapped by a seeded coin before the judge sees
    them, so how the pairs were stored tells it nothing about their earlier labels. p1 is kept
    inside [clamp, 1 - clamp] (Bai et al. 2022, arXiv:2212.08073, section 4.1, have 0.4 after a
    chain of thought); without `soft` it is rounded to 0 or 1 before, and a tie stays a tie.
    """
    known, dropped = pairs_in(pairs)
    rows = [sides(row, seed) for row in known]
    asked = [how(judge, row, constitution, seed) for row in rows]
    found: list[Verdict | None] = [None] * len(rows)
    for one in dict.fromkeys(judge for judge, _ in asked):
        places = [place for place, (other, _) in enumerate(asked) if other == one]
        answers = [both(rows[place]) for place in places]
        for place, verdict in zip(places, judged(out, one, answers), strict=True):
            found[place] = verdict
    kept = [
        relabelled(row, verdict, principle, source, bounded(verdict.p1, soft, clamp))
        for row, (_, principle), verdict in zip(rows, asked, found, strict=True)
        if verdict is not None and verdict.valid
    ]
    note_kept(out, kept, "pairs", {**dropped, "no_verdict": len(rows) - len(kept)})
    write_rows(out, kept)
    out.add(judge_calls=len(rows))
    shares, decided = agreement(rows, found)
    out.note(**shares, decided=decided)


def pairs_in(source: Preferences | Samples) -> tuple[list[Row], dict[str, int]]:
    """Return the pairs to label, and how many prompts of Samples have none and why."""
    if isinstance(source, Preferences):
        return source.rows(), {}
    pairs, dropped = first_two(source)
    axes = {"red-team": "safe"}
    rows = [
        {**labelled(a, b, Verdict(0.5), axes.get(a["tag"], "helpful"), "none"), "tag": a["tag"]}
        for a, b in pairs
    ]
    return rows, dropped


def sides(row: Row, seed: int) -> Row:
    """Return a pair with its sides swapped, or as they are, by a coin of seed and pair."""
    if random.Random(f"relabel/{seed}/{row['pair_id']}").random() < 0.5:
        return row
    turned = {"chosen": row["rejected"], "rejected": row["chosen"], "p1": 1 - row["p1"]}
    if "chosen_safe" in row:
        turned |= {"chosen_safe": row["rejected_safe"], "rejected_safe": row["chosen_safe"]}
    return {**row, **turned}


def how(
    judge: Judge, row: Row, constitution: Constitution | None, seed: int
) -> tuple[Judge, Principle | None]:
    """Return the judge as it is asked about one pair, and the principle it is asked by."""
    if constitution is None:
        return judge.on(row["axis"]), None
    principle = constitution.draw("compare", row["axis"], seed, row["pair_id"])
    return judge.under(principle.compare_question), principle


def both(row: Row) -> tuple[Answer, Answer]:
    """Return the two answers of a pair."""
    tag = row.get("tag", "general")
    first, second = (
        Answer(row["prompt_id"], row["messages"], row[side], tag=tag)
        for side in ("chosen", "rejected")
    )
    return first, second


def bounded(p1: float, soft: bool, clamp: float) -> float:
    """Return a label rounded to 0 or 1 unless it is to stay soft, inside [clamp, 1 - clamp]."""
    if not soft and p1 != 0.5:
        p1 = float(p1 > 0.5)
    return min(max(p1, clamp), 1 - clamp)


def relabelled(
    row: Row, verdict: Verdict, principle: Principle | None, source: str, p1: float
) -> Row:
    """Return a pair with its new label and what stands behind it."""
    return {
        **row,
        "p1": p1,
        "axis": verdict.axis or row["axis"],
        "population": None,
        "source": verdict.source or source,
        "strength": None,
        "principle": principle.id if principle else None,
        "principle_digest": principle.digest if principle else None,
        "p1_as_first": verdict.p1_as_first,
        "p1_as_second": verdict.p1_as_second,
        "label_mass": verdict.label_mass,
        "consistent": verdict.consistent,
        "rationales": list(verdict.rationales),
    }


def agreement(
    rows: Sequence[Row], found: Sequence[Verdict | None]
) -> tuple[dict[str, float], dict[str, int]]:
    """Return how often new and earlier labels agree, and how often one place wins both orders.

    Then, by the same names, how many pairs each share is of. Ties count for neither; a share of
    nothing is left out.
    """
    pairs = [(row["p1"], v) for row, v in zip(rows, found, strict=True) if v and v.valid]
    agrees = [(old > 0.5) == (v.p1 > 0.5) for old, v in pairs if old != 0.5 and v.p1 != 0.5]
    same_place = [not v.consistent for _, v in pairs if v.consistent is not None]
    shares = {"agreement_with_earlier_labels": agrees, "same_place_preferred": same_place}
    known = {name: each for name, each in shares.items() if each}
    rates = {name: round(sum(each) / len(each), 4) for name, each in known.items()}
    return rates, {name: len(each) for name, each in known.items()}


@stage(makes=Preferences)
def together(out: Draft, parts: tuple[Preferences, ...]) -> None:
    """Put the rows of several sets of pairs together, in order; each keeps its source.

    A pair that stands in two parts is an error: it would count twice.
    """
    rows = [row for part in parts for row in part]
    seen = [(row["pair_id"], row["axis"]) for row in rows]
    if len(set(seen)) < len(seen):
        raise ValueError(
            f"pairs stand in more than one of {', '.join(part.id for part in parts)}; put sets "
            "together that share none"
        )
    write_rows(out, rows)
    out.note(**{part.id: sum(1 for _ in part) for part in parts})
