"""Contests among a prompt's answers: who beats whom, how often, and the pairs that follow."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, Literal

from harness.annotations import Share
from harness.artifacts import Preferences, Samples, write_rows
from harness.draft import Draft
from harness.drawn_answers import different, note_kept
from harness.judge import Answer, Judge
from harness.stage import stage
from harness.stages.label import judged, labelled

Row = dict[str, Any]
Targets = Literal["hard", "soft"]


@stage(makes=Preferences, version=2)
def contest(out: Draft, samples: Samples, *, judge: Judge, source: str, seed: int) -> None:
    """Have a judge compare every two of a prompt's answers once: C(K, 2) judgements of K answers.

    One row is one judgement, sides by a seeded coin. Red-team prompts are judged for safety, the
    others for helpfulness, by their (at times wrong) tag, unless the judge chooses axes itself.
    Answers that say the same are one, those that did not finish do not compete, and a pair without
    a verdict has no row. Raises ValueError where no pair is left.
    """
    groups, dropped = different(samples)
    matches = [match for group in groups for match in drawn_sides(group, seed)]
    rows = []
    for axis, is_safe in (("helpful", False), ("safe", True)):
        here = [(a, b) for a, b in matches if (a["tag"] == "red-team") == is_safe]
        verdicts = judged(out, judge.on(axis), [(Answer.of(a), Answer.of(b)) for a, b in here])
        rows += [
            labelled(a, b, verdict, axis, source)
            for (a, b), verdict in zip(here, verdicts, strict=True)
            if verdict.valid
        ]
    note_kept(out, rows, "pairs", {**dropped, "no_verdict": len(matches) - len(rows)})
    write_rows(out, rows)
    out.add(labels_used=len(rows), judge_calls=len(matches))


def drawn_sides(group: Sequence[Row], seed: int) -> list[tuple[Row, Row]]:
    """Return every two of a prompt's answers, each pair in an order drawn by the seed."""
    coin = random.Random(f"contest/{seed}/{group[0]['prompt_id']}")
    return [(a, b) if coin.random() < 0.5 else (b, a) for a, b in combinations(group, 2)]


@stage(makes=Preferences)
def winners(
    out: Draft, contests: Preferences, *, margin: Share = 0.5, targets: Targets = "hard"
) -> None:
    """Pair the answers whose win rates lie at least `margin` apart, the better one as chosen.

    An answer's win rate is the mean probability that it beats each other answer to its prompt.
    "hard" labels say the better one wins for certain (Algorithm 2 of Rosset et al. 2024,
    arXiv:2404.03715); "soft" ones s(difference of the win rates), in [1/2, 0.731], (Algorithm 1).
    Raises ValueError where no two answers are that far apart.
    """
    prompts: dict[str, list[Row]] = {}
    for row in contests:
        prompts.setdefault(row["prompt_id"], []).append(row)
    rows = []
    for matches in prompts.values():
        rates = win_rates(matches)
        for match in matches:
            gap = rates[match["chosen"]] - rates[match["rejected"]]
            if abs(gap) >= margin and (gap or targets == "soft"):
                rows.append({**match, **the_better_first(match, gap, targets)})
    if not rows:
        raise ValueError(
            f"no two answers in {contests.id} differ by {margin} in win rate; lower the margin"
        )
    write_rows(out, rows)
    out.note(pairs=len(rows), judgements=sum(map(len, prompts.values())))


def win_rates(matches: Iterable[Row]) -> dict[str, float]:
    """Return the mean of p over the matches of each answer to one prompt; a tie counts a half.

    Where all K answers met each other the rates add up to K / 2.
    """
    won: dict[str, list[float]] = {}
    for match in matches:
        won.setdefault(match["chosen"], []).append(match["p1"])
        won.setdefault(match["rejected"], []).append(1 - match["p1"])
    return {answer: math.fsum(wins) / len(wins) for answer, wins in won.items()}


def the_better_first(match: Row, gap: float, targets: Targets) -> Row:
    """Return the columns of a pair whose answers' win rates differ by `gap`."""
    sides = ("chosen", "rejected") if gap >= 0 else ("rejected", "chosen")
    p1 = 1.0 if targets == "hard" else 1 / (1 + math.exp(-abs(gap)))
    return {"chosen": match[sides[0]], "rejected": match[sides[1]], "p1": p1}


@stage(makes=Preferences)
def with_replay(
    out: Draft,
    pairs: Preferences,
    earlier: tuple[Preferences, ...],
    *,
    shares: tuple[Share, ...],
    seed: int,
) -> None:
    """Add to the pairs of this round a share of those of each earlier round, the latest first.

    No more than so large a share is drawn, by seed; rounds beyond the shares given are left out.
    (Rosset et al. 2024, arXiv:2404.03715)
    """
    rows, replayed = pairs.rows(), []
    for age, (older, share) in enumerate(zip(earlier, shares, strict=False), 1):
        known = older.rows()
        drawn = random.Random(f"replay/{seed}/{age}")
        numbers = sorted(drawn.sample(range(len(known)), int(share * len(known))))
        replayed.append(len(numbers))
        rows += [known[number] for number in numbers]
    write_rows(out, rows)
    out.note(pairs=len(rows), replayed=replayed)
