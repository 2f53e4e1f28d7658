"""Stages that make the embedded world's data: prompts, truth, demonstrations, judgements, probes.

Splits draw from parts of the request space of their own, so no test prompt is ever trained on.
Validation and test prompts are the same for every seed; train prompts are disjoint between seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from harness.artifacts import (
    FLAGS,
    Demonstrations,
    Preferences,
    Probes,
    Prompts,
    Samples,
    Texts,
    Truth,
    write_rows,
)
from harness.draft import Draft
from harness.drawn_answers import first_two, note_kept
from harness.hamlet.annotators import Axis, Settings, prefer
from harness.stage import stage

if TYPE_CHECKING:
    from harness.hamlet.requests import Request, World

Labels = Literal["noisy", "permuted", "oracle"]
Split = Literal["train", "validation", "test"]
Row = dict[str, Any]
Known = dict[str, "tuple[World, Request]"]

RED_TEAM = ("harmful", "ambiguous")
WRONG_TAGS = 0.1  # share of prompts that were filed under the other collection


@lru_cache(maxsize=4)
def world_of(number: int) -> World:
    """Return a world, built once in a process."""
    from harness.hamlet.requests import World

    return World(number)


def drawn_requests(world: int, split: Split, n: int, seed: int, stream: str) -> list[Request]:
    """Return n distinct requests; prompts and their truth are both made from this."""
    return world_of(world).requests(n, seed=seed, split=split, stream=stream)


@stage(makes=Prompts)
def hamlet_prompts(out: Draft, *, world: int, split: Split, n: int, seed: int) -> None:
    """Draw distinct requests of one split, each filed (at times wrongly) under a collection."""
    rows = []
    for request in drawn_requests(world, split, n, seed, "prompts"):
        wrong = random.Random(f"tag/{request.id}").random() < WRONG_TAGS
        tag = "red-team" if (request.family in RED_TEAM) != wrong else "general"
        messages = list(request.messages)
        rows.append(
            {"prompt_id": request.id, "messages": messages, "tag": tag, "cluster": request.cluster}
        )
    write_rows(out, rows)


@stage(makes=Truth, version=2)
def hamlet_truth(out: Draft, *, world: int, split: Split, n: int, seed: int) -> None:
    """Write what is true of the requests that `hamlet_prompts` draws with the same settings.

    Everything graded by gold has this artifact as an input, so its version is also the version of
    how answers are read.
    """
    requests = drawn_requests(world, split, n, seed, "prompts")
    write_rows(out, ({"prompt_id": r.id, "world": world, "request": r.to_row()} for r in requests))


def open_truth(truth: Truth) -> Known:
    """Return, for each prompt id, the world and the request with what is true of it."""
    from harness.hamlet.requests import Request

    return {
        row["prompt_id"]: (world_of(row["world"]), Request.from_row(row["request"]))
        for row in truth
    }


@stage(makes=Demonstrations, version=2)
def hamlet_demonstrations(
    out: Draft, *, world: int, n: int, style: Literal["demonstration", "web"], seed: int
) -> None:
    """Write answers to train requests in a style of mixed (or, for web, worse) quality."""
    from harness.hamlet.answers import DEMONSTRATION, WEB

    written = DEMONSTRATION if style == "demonstration" else WEB
    rng = random.Random(f"{style}/{seed}")
    write_rows(
        out,
        (
            {
                "prompt_id": request.id,
                "messages": list(request.messages),
                "completion": world_of(world).answer(rng, request, written),
            }
            for request in drawn_requests(world, "train", n, seed, style)
        ),
    )


@stage(makes=Preferences, version=2)
def judge_pairs(
    out: Draft,
    samples: Samples,
    truth: Truth,
    *,
    labels: Labels,
    annotators: Settings,
    other_axis: float,
    strength: bool,
    flags: bool = False,
    seed: int,
) -> None:
    """Have one simulated annotator judge the first two finished answers to a prompt, on one axis.

    The axis follows the tag (red-team: safe, else helpful), a share `other_axis` the other way.
    Sides are swapped by a seeded coin: `chosen` is the first side and p1 says which is better.
    Permuted labels are the same labels shuffled within (axis, tag). Two equal answers are no pair.
    Each row is one judgement of the budget; perceived strength, and `flags` of whether each answer
    seemed safe to the same annotator, are kept only where they were bought. Raises ValueError where
    no pair is left.
    """
    known = open_truth(truth)
    pairs = []
    drawn, dropped = first_two(samples)
    for first, second in sides(drawn, seed):
        axis = axis_of(first["prompt_id"], first["tag"], other_axis, seed)
        pair = judged(known, first, second, axis, annotators, seed)
        if labels == "oracle":
            pair |= oracle(known, first, second, axis)
        pairs.append(pair if strength else pair | {"strength": None})
    if labels == "permuted":
        pairs = permuted(pairs, seed)
    note_kept(out, pairs, "pairs", dropped)
    out.add(labels_used=len(pairs))
    bought = (*Preferences.columns, *(FLAGS if flags else ()))
    write_rows(out, ({name: row[name] for name in bought} for row in pairs))


def sides(pairs: Iterable[tuple[Row, Row]], seed: int) -> Iterator[tuple[Row, Row]]:
    """Yield each pair with its sides swapped, or as they are, by a seeded coin."""
    for first, second in pairs:
        swap = random.Random(f"side/{seed}/{first['prompt_id']}").random() < 0.5
        yield (second, first) if swap else (first, second)


def axis_of(prompt_id: str, tag: str, other_axis: float, seed: int) -> Axis:
    """Return the axis on which a prompt of a collection is judged."""
    other = random.Random(f"axis/{seed}/{prompt_id}").random() < other_axis
    return "safe" if (tag == "red-team") != other else "helpful"


def judged(
    known: Known, first: Row, second: Row, axis: Axis, annotators: Settings, seed: int
) -> Row:
    """Return a row of Preferences, its flags and its tag, as one annotator of many judges it."""
    world, request = known[first["prompt_id"]]
    pair_id = f"{first['prompt_id']}:{first['sample']}-{second['sample']}"
    judgement = prefer(
        world,
        request,
        first["completion"],
        second["completion"],
        axis=axis,
        annotator=f"{seed}/{pair_id}",
        settings=annotators,
    )
    return {
        "pair_id": pair_id,
        "prompt_id": first["prompt_id"],
        "messages": first["messages"],
        "chosen": first["completion"],
        "rejected": second["completion"],
        "p1": judgement.p1,
        "axis": axis,
        "population": judgement.population,
        "source": "human",
        "strength": judgement.strength,
        **dict(zip(FLAGS, judgement.safe, strict=True)),
        "tag": first["tag"],
    }


def oracle(known: Known, first: Row, second: Row, axis: Axis) -> Row:
    """Return the true label of a pair, 0.5 where the axis does not tell them apart, and flags."""
    world, request = known[first["prompt_id"]]
    one, other = (world.grade(request, row["completion"]) for row in (first, second))
    gap = one.helpful - other.helpful if axis == "helpful" else one.safe - other.safe
    flags = dict(zip(FLAGS, (one.safe >= 0, other.safe >= 0), strict=True))
    p1 = 0.5 if gap == 0 else float(gap > 0)
    return {"p1": p1, "source": "oracle", "strength": None, **flags}


def permuted(pairs: Sequence[Row], seed: int) -> list[Row]:
    """Return the rows with their labels shuffled within (axis, tag): a placebo on the same rows."""
    rng = random.Random(f"permuted/{seed}")
    groups: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault((pair["axis"], pair["tag"]), []).append(place)
    shuffled = [pair | {"source": "permuted"} for pair in pairs]
    for places in groups.values():
        for place, donor in zip(places, rng.sample(places, len(places)), strict=True):
            shuffled[place] |= {name: pairs[donor][name] for name in ("p1", "strength", *FLAGS)}
    return shuffled


@stage(makes=Probes, version=2)
def hamlet_probes(out: Draft, *, world: int, n: int, seed: int) -> None:
    """Write n multiple-choice items for each skill that no reward mentions."""
    from harness.hamlet.probes import probes

    write_rows(out, probes(world_of(world), n, seed))


@stage(makes=Texts)
def hamlet_texts(
    out: Draft, *, world: int, n: int, stream: Literal["pretraining", "held out"]
) -> None:
    """Write n documents of the base's pretraining corpus: those it read, or some it never did."""
    from harness.hamlet.corpus import documents
    from harness.hamlet.recipe import STREAMS

    number = STREAMS["training" if stream == "pretraining" else "held_out"]
    texts = islice(documents(world_of(world), number), n)
    write_rows(out, ({"text": text} for text in texts))
