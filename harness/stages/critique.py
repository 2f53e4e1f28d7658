"""Have a model criticise answers by a principle and write them anew (Bai et al. 2022, section 3).

One call of `criticise` and one of `revise` is one step; each step draws its own principle for each
answer, and a revision is criticised like any answer. What training reads are prompts and answers:
critiques and principles stay in the rows of these artifacts and go no further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from harness.annotations import Count, NotNegative
from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Prompts,
    Rows,
    Samples,
    write_rows,
)
from harness.constitution import Constitution, PostProcess, Principle
from harness.critic import critique_messages, revision_messages, written
from harness.draft import Draft
from harness.drawn_answers import note_kept
from harness.shared import Shared, derived_seed
from harness.stage import stage
from harness.stages.label import relabel
from harness.stages.sample import sample
from harness.tokens import require_rows

Row = dict[str, Any]
KEPT = ("prompt_id", "sample", "messages", "completion", "finished", "tag", "cluster")
FIRST = ("original", "original_finished")  # the answer that everything started from, and its end


class Critiques(Rows):
    """Answers with what a model finds wrong with them, and by which principle it was asked."""

    columns: ClassVar[tuple[str, ...]] = (
        *KEPT,
        *FIRST,
        "step",
        "principle",
        "principle_digest",
        "critique",
    )


class Revisions(Rows):
    """Answers written anew; `original` is the first answer and `previous` the one criticised."""

    columns: ClassVar[tuple[str, ...]] = (*Critiques.columns, "previous")


@stage(makes=Prompts)
def collection(out: Draft, prompts: Prompts, *, tag: str) -> None:
    """Keep the prompts of one collection (general, red-team); ValueError when there are none."""
    rows = [row for row in prompts if row["tag"] == tag]
    if not rows:
        raise ValueError(f"no prompt of {prompts.id} has the tag {tag!r}")
    write_rows(out, rows)


@stage(makes=Critiques, version=2)
def criticise(
    out: Draft,
    answers: Samples | Revisions,
    *,
    critic: Policy,
    constitution: Constitution,
    axis: str,
    temperature: NotNegative = 1.0,
    max_new_tokens: Count,
    seed: int,
) -> None:
    """Have the critic say what is wrong with each answer, by a principle drawn for it.

    Answers whose form leaves no room for a critique in the critic's context are left out and
    counted. Defaults: Bai et al. 2022, arXiv:2212.08073, section 3.2.
    """
    rows = list(drawn_principles(answers.rows(), constitution, axis, seed))
    asked = [critique_messages(constitution, row, principle) for row, principle in rows]
    decoding = (temperature, max_new_tokens, derived_seed(seed, "critique"))
    said, dropped = written(out, critic, [row for row, _ in rows], asked, *decoding)
    write_rows(
        out,
        (
            {
                **{name: row[name] for name in KEPT},
                **first_of(row),
                "step": row.get("step", 0),
                "principle": principle.id,
                "principle_digest": principle.digest,
                "critique": text.strip(),
            }
            for number, (row, principle) in enumerate(rows)
            if number in said
            for text, _ in [said[number]]
        ),
    )
    out.note(critiques=len(said), **dropped)


@stage(makes=Revisions, version=2)
def revise(
    out: Draft,
    answers: Critiques | Samples | Revisions,
    *,
    critic: Policy,
    constitution: Constitution,
    axis: str,
    temperature: NotNegative = 1.0,
    max_new_tokens: Count,
    seed: int,
) -> None:
    """Have the critic write each answer anew, in the light of its critique where it has one.

    Without critiques the principle is drawn here, the same one that `criticise` draws by this seed.
    Opening remarks are stripped as the constitution says; revisions that say nothing, are longer
    than it allows, or have no room in the critic's context are left out and counted. Defaults: Bai
    et al. 2022, arXiv:2212.08073, sections 3.2 and 3.5.
    """
    rows = list(drawn_principles(answers.rows(), constitution, axis, seed))
    asked = [revision_messages(constitution, row, principle) for row, principle in rows]
    decoding = (temperature, max_new_tokens, derived_seed(seed, "revision"))
    said, dropped = written(out, critic, [row for row, _ in rows], asked, *decoding)
    kept, refused = accepted(rows, said, constitution.post_process)
    write_rows(out, kept)
    same = sum(row["completion"] == row["previous"] for row in kept)
    out.note(revisions=len(kept), equal_to_previous=same, **refused, **dropped)


def accepted(
    rows: Sequence[tuple[Row, Principle]],
    said: Mapping[int, tuple[str, bool]],
    process: PostProcess,
) -> tuple[list[Row], dict[str, int]]:
    """Return the rows of Revisions, cleaned, and how many were refused and why."""
    kept: list[Row] = []
    refused = {"empty": 0, "longer_than_max_chars": 0, "unchanged": 0}
    for number, (raw, finished) in sorted(said.items()):
        row, principle = rows[number]
        text = process.clean(raw)
        if not text.strip():
            refused["empty"] += 1
        elif process.max_chars is not None and len(text) > process.max_chars:
            refused["longer_than_max_chars"] += 1
        elif process.drop_if_unchanged and text == row["completion"]:
            refused["unchanged"] += 1
        else:
            kept.append(revised(row, principle, text, finished))
    return kept, refused


def revised(row: Row, principle: Principle, text: str, finished: bool) -> Row:
    """Return a row of Revisions."""
    return {
        **{name: row[name] for name in KEPT},
        "completion": text,
        "finished": finished,
        **first_of(row),
        "step": row.get("step", 0) + 1,
        "principle": principle.id,
        "principle_digest": principle.digest,
        "critique": row.get("critique"),
        "previous": row["completion"],
    }


def first_of(row: Row) -> Row:
    """Return the first answer of a chain of revisions, and whether it finished."""
    if "original" in row:
        return {name: row[name] for name in FIRST}
    return {"original": row["completion"], "original_finished": row["finished"]}


def drawn_principles(
    rows: Sequence[Row], constitution: Constitution, axis: str, seed: int
) -> Iterator[tuple[Row, Principle]]:
    """Yield each answer with the principle drawn for it, or with the one it was criticised by.

    A revision is a new answer: its critique, and the principle of that, are the previous one's.
    """
    for row in rows:
        if "critique" in row and "previous" not in row:
            yield row, constitution.principle(row["principle"])
            continue
        bare = {name: value for name, value in row.items() if name != "critique"}
        names = (seed, row["prompt_id"], row["sample"])
        yield bare, constitution.draw("critique", axis, *names)


@stage(makes=Demonstrations)
def pool(out: Draft, answers: tuple[Revisions | Samples, ...]) -> None:
    """Put answers from several places together to imitate: prompts and answers, nothing else.

    Answers that did not finish are left out, since they have no end. One answer that several of
    them give to a prompt stands there once. Raises ValueError where none is left.
    """
    rows: dict[tuple[str, str], Row] = {}
    read = unfinished = 0
    for source in answers:
        for row in source:
            read += 1
            if not row["finished"]:
                unfinished += 1
                continue
            kept = {name: row[name] for name in Demonstrations.columns}
            rows.setdefault((row["prompt_id"], row["completion"]), kept)
    require_rows(list(rows.values()), "answers", {"unfinished": unfinished})
    write_rows(out, rows.values())
    out.note(read=read, unfinished=unfinished, repeated=read - unfinished - len(rows))


@stage(makes=Preferences, version=2)
def revision_pairs(out: Draft, revisions: Revisions, *, axis: str, source: str) -> None:
    """Prefer each revision to the first answer to its prompt, without asking any judge.

    Unchanged revisions make no pair, and neither does one that did not finish or revises an answer
    that did not. Raises ValueError where no pair is left.
    """
    rows: list[Row] = []
    dropped = {"unchanged": 0, "unfinished": 0}
    for row in revisions:
        if row["completion"] == row["original"]:
            dropped["unchanged"] += 1
        elif not (row["finished"] and row["original_finished"]):
            dropped["unfinished"] += 1
        else:
            rows.append(
                {
                    "pair_id": f"{row['prompt_id']}:{row['sample']}-revised",
                    "prompt_id": row["prompt_id"],
                    "messages": row["messages"],
                    "chosen": row["completion"],
                    "rejected": row["original"],
                    "p1": 1.0,
                    "axis": axis,
                    "population": None,
                    "source": source,
                    "strength": None,
                    "tag": row["tag"],
                    "principle": row["principle"],
                    "principle_digest": row["principle_digest"],
                }
            )
    note_kept(out, rows, "pairs", dropped)
    write_rows(out, rows)


def self_revised(
    shared: Shared,
    constitution: Constitution,
    *,
    revisions: int,
    critique: bool,
    temperature: float = 1.0,
) -> tuple[Revisions, ...]:
    """Return the revisions of each step of the SFT policy's answers to red-team prompts.

    Each step starts from the one before; without `critique` the answers are revised at once.
    Raises ValueError where the dataset brings no model that could write critiques, and where no
    principle is meant for them.
    """
    if revisions < 0:
        raise ValueError(f"revisions must not be negative, but is {revisions}")
    if revisions:
        constitution.meant_for("critique", "safe")
    if shared.assistant is None:
        raise ValueError(
            "critiques and revisions are written by the dataset's assistant, and this dataset "
            "brings none"
        )
    answers: Samples | Revisions = first_answers(shared, "red-team")
    steps: list[Revisions] = []
    for number in range(revisions):
        asked: dict[str, Any] = {
            "critic": shared.assistant,
            "constitution": constitution,
            "axis": "safe",
            "temperature": temperature,
            "max_new_tokens": shared.max_new_tokens,
            "seed": shared.seed_for("revisions", number),
        }
        said = criticise(answers, **asked) if critique else answers
        answers = revise(said, **asked)
        steps.append(answers)
    return tuple(steps)


def first_answers(shared: Shared, tag: str | None = None, *, n: int = 1) -> Samples:
    """Return n answers of the SFT policy to each prompt, or each of one collection, at T = 1."""
    return sample(
        shared.sft,
        shared.prompts if tag is None else collection(shared.prompts, tag=tag),
        n=n,
        temperature=1.0,
        max_new_tokens=shared.max_new_tokens,
        seed=shared.seed_for("first answers"),
    )


def own_pairs(
    shared: Shared, policy: Policy, constitution: Constitution, *, clamp: float
) -> Preferences:
    """Return pairs of a policy's answers to red-team prompts, labelled by drawn principles.

    Raises ValueError where the study names no labeller, or one that reads no principles, and where
    no principle is meant to compare by.
    """
    constitution.meant_for("compare", "safe")
    return relabel(
        sample(
            policy,
            collection(shared.prompts, tag="red-team"),
            n=2,
            temperature=1.0,
            max_new_tokens=shared.max_new_tokens,
            seed=shared.seed_for("own pairs"),
        ),
        judge=shared.asked("Constitutional AI"),
        source="ai_principle",
        constitution=constitution,
        clamp=clamp,
        seed=shared.seed_for("relabel"),
    )
