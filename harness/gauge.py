"""How far a study's judge agrees with people, on rows that people have labelled, as a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.judge_keys import missing_keys
from harness.local import local_file
from harness.planner import columns
from harness.row_formats import Axis, Columns
from harness.run import in_order, run
from harness.sources import searching
from harness.study import Planning, Study
from harness.study_file import InputError
from harness.study_writer import columns_of

if TYPE_CHECKING:
    from harness.judge import Judge
    from harness.judge_card import JudgeCard
    from harness.statistics import Estimate
    from harness.store import Store

Role = Literal["judge", "labeller"]
Row = Mapping[str, Any]


def gauged(
    study: Study, store: Store, data: Path, *, role: Role, axis: Axis, n: int,
    named: Sequence[str], workers: int | None,
) -> str:  # fmt: skip
    """Return a study's judge beside people, as text; what it says is kept in the store.

    `named` are columns as key=column. A file with thumbs is read answer by answer, any other pair
    by pair. Raises InputError with the remedy for what cannot be read, asked or made.
    """
    from harness.stages.gauge import gauge_answers, gauge_pairs

    if not data.is_file():
        raise InputError(f"{data}: no such file; name one of rows that people have labelled")
    judge = judge_of(study, role)
    try:
        form = Columns(**columns_of(data, named))
        file = local_file(data)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None
    ask = gauge_answers if form.thumb else gauge_pairs
    made = ask(judge=judge, file=file, form=form, axis=axis, n=n, seed=0)
    if problems := missing_keys(in_order([made])):
        raise InputError("\n".join(problems))
    outcomes = run([made], store, workers=workers, plugins=study.plugins)
    failed = [(id, one.reason) for id, one in outcomes.items() if one.state not in GOOD]
    causes = [f"{id}: {why}" for id, why in failed if "blocked" not in outcomes[id].state]
    if failed:
        raise InputError("\n".join(causes or [f"{id} was not made" for id, _ in failed]))
    rows, asked = store.open(made).rows(), f"{type(judge).__name__} ({role})"
    if form.thumb:
        return columns([("judge", asked), ("people", data.name), *answer_lines(rows)])
    found = card(rows, asked)
    return "\n".join(
        [
            columns([("judge", asked), ("people", data.name), *pair_lines(found)]),
            *(f"gate: {problem}" for problem in found.problems),
        ]
    )


GOOD = ("done", "cached")


def judge_of(study: Study, role: Role) -> Judge:
    """Return the judge or labeller of a study's first base, dataset and seed."""
    planning = Planning(study)
    with searching(study.search):
        base, dataset = next(iter(study.declared.bases)), next(iter(study.declared.datasets))
        block = planning.blocks(base, dataset)[0]
    found = block.judge if role == "judge" else block.shared.labeller
    if found is None:
        raise InputError(f"the study names no {role}; write a [{role}] table with its plugin")
    return found


def pair_lines(found: JudgeCard) -> list[tuple[str, str]]:
    """Return the lines of a judge's card that are known."""
    from harness.report.judging import lines

    return [(head, cell.text) for head, cell in lines(found) if cell.text]


def card(rows: Sequence[Row], judge: str) -> JudgeCard:
    """Return the card of the verdicts in rows of `gauge_pairs`, beside people's choices."""
    from harness.judge_card import Judged, judge_card

    verdicts, people = [], {}
    for row in rows:
        pair = ("", "", "", 0, "", str(row["prompt_id"]), 0)
        ours, theirs = row["lengths"]
        shown = (row["p1"], row["p_as_first"], row["p_as_second"])
        verdicts.append(Judged(pair, str(row["cluster"]), *shown, (ours, theirs)))
        people[pair] = float(row["people"])
    return judge_card(judge, verdicts, people, named="people")


def answer_lines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return how a judge's grades, good from 1/2 on, agree with people's labels.

    Raises InputError for grades that are no probabilities: where they turn good nobody can say.
    """
    from harness.report.words import with_interval
    from harness.statistics import rate

    graded = [row for row in rows if row["grade"] is not None]
    if any(not 0 <= row["grade"] <= 1 for row in graded):
        raise InputError(
            "the judge's grades are no probabilities in [0, 1], so none of them means good; give "
            "pairs of answers in place of single ones"
        )

    def of(chosen: Sequence[Row], values: Sequence[bool]) -> Estimate | None:
        clusters = [str(row["cluster"]) for row in chosen]
        return rate([float(value) for value in values], clusters) if chosen else None

    bad = [row for row in graded if not row["good"]]
    flagged = [row for row in graded if row["grade"] < 0.5]
    good = [row for row in graded if row["good"]]
    shares = {
        "agreement": of(graded, [(row["grade"] >= 0.5) == row["good"] for row in graded]),
        "of what people call bad, found": of(bad, [row["grade"] < 0.5 for row in bad]),
        "of what it calls bad, bad to people": of(flagged, [not row["good"] for row in flagged]),
        "of what people call good, called bad": of(good, [row["grade"] < 0.5 for row in good]),
        "invalid": of(rows, [row["grade"] is None for row in rows]),
    }
    counted = [("answers", f"{len(rows):,}"), ("bad to people", f"{len(bad):,}")]
    told = [(head, with_interval(found)) for head, found in shares.items() if found is not None]
    return [*counted, *told]
