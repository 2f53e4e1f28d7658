"""Rows of text as the token ids that trainers read; what does not fit is dropped and counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def encoded(tokenizer: Any, row: Mapping[str, Any], completion: str) -> tuple[list[int], list[int]]:
    """Return the prompt's ids and the completion's, which end in exactly one EOS."""
    from harness.models import encode

    prompt = encode(tokenizer, row["messages"])
    whole = encode(tokenizer, row["messages"], completion)
    return prompt, whole[len(prompt) :]


def encoded_pairs(
    tokenizer: Any, pairs: Iterable[Mapping[str, Any]], max_length: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return token ids of each pair, the likelier answer as chosen, and dropped rows by reason.

    A row has prompt_ids, chosen_ids, rejected_ids, p1 in [0.5, 1], strength and prompt_id, and the
    flags chosen_safe and rejected_safe where the pair has them.
    """
    rows = []
    dropped = {"longer_than_max_length": 0, "equal_answers": 0}
    for pair in pairs:
        answers, p1 = (pair["chosen"], pair["rejected"]), float(pair["p1"])
        flags = [pair.get(f"{side}_safe") for side in ("chosen", "rejected")]
        if p1 < 0.5:
            answers, flags, p1 = answers[::-1], flags[::-1], 1 - p1
        prompt, chosen = encoded(tokenizer, pair, answers[0])
        _, rejected = encoded(tokenizer, pair, answers[1])
        if chosen == rejected:
            dropped["equal_answers"] += 1
            continue
        if len(prompt) + max(len(chosen), len(rejected)) > max_length:
            dropped["longer_than_max_length"] += 1
            continue
        ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        kept = {"strength": pair["strength"], "prompt_id": pair["prompt_id"]}
        if None not in flags:
            kept |= {"chosen_safe": flags[0], "rejected_safe": flags[1]}
        rows.append({**ids, "p1": p1, **kept})
    return rows, dropped


def longer_side(row: Mapping[str, Any]) -> int:
    """Return the tokens of a pair's longer sequence: both are padded to the batch's longest."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def pair_tokens(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return how many tokens the two sequences of all pairs have together."""
    sides = ("prompt_ids", "prompt_ids", "chosen_ids", "rejected_ids")
    return sum(len(row[side]) for row in rows for side in sides)


REMEDIES = {
    "unfinished": "raise max_new_tokens, or have sft teach the policy to end its answers",
    "longer_than_max_length": "raise max_length",
    "equal_answers": "raise the temperature, so that answers differ",
    "duplicates": "raise the temperature, so that answers differ",
    "in_the_middle": "draw more answers a prompt",
    "one_answer": "draw more answers a prompt",
    "repeated_answers": "raise the temperature, so that answers differ",
    "unchanged": "give the revisions a higher temperature, or another constitution",
    "no_verdict": "name another judge or labeller",
    "unsafe": "look at what the reward model for safety says of the answers",
}


def require_rows(rows: Sequence[Any], what: str, dropped: Mapping[str, int]) -> None:
    """Raise ValueError saying why nothing is left to train on, and what may help.

    The one rule for all methods: a row that has nothing to learn from fails by name. It never
    stands in a table as the policy that it started from.
    """
    if rows:
        return
    lost = {reason: count for reason, count in dropped.items() if count}
    counts = ", ".join(f"{count} {reason}" for reason, count in lost.items())
    worst = max(lost, key=lost.__getitem__, default="")
    remedy = REMEDIES.get(worst, "look at the rows of the input")
    raise ValueError(f"no {what} to train on ({counts or 'the input is empty'}); {remedy}")
