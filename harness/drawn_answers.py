"""Drawn answers that may be compared: by prompt, each once, and only those that finished.

An answer that ran into max_new_tokens has no end of its own. Training reads every answer with an
end, so a preference for such a one would teach a policy to stop in mid-sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.draft import Draft
from harness.tokens import require_rows

Row = dict[str, Any]


def by_prompt(samples: Iterable[Row]) -> list[list[Row]]:
    """Return the answers to each prompt, in the order met."""
    groups: dict[str, list[Row]] = {}
    for row in samples:
        groups.setdefault(row["prompt_id"], []).append(row)
    return list(groups.values())


def finished(answers: Iterable[Row]) -> list[Row]:
    """Return the answers that came to an end of their own."""
    return [row for row in answers if row["finished"]]


def first_two(samples: Iterable[Row]) -> tuple[list[tuple[Row, Row]], dict[str, int]]:
    """Return the first two finished answers to each prompt, and how many prompts have no pair.

    By reason: they got one answer, fewer than two that finished, or two that say the same. As draws
    the two are exchangeable, so no side is favoured.
    """
    pairs = []
    dropped = {"unfinished": 0, "one_answer": 0, "equal_answers": 0}
    for drawn in by_prompt(samples):
        whole = finished(drawn)
        if len(whole) < 2:
            dropped["one_answer" if len(drawn) < 2 else "unfinished"] += 1
        elif whole[0]["completion"] == whole[1]["completion"]:
            dropped["equal_answers"] += 1
        else:
            pairs.append((whole[0], whole[1]))
    return pairs, dropped


def different(samples: Iterable[Row]) -> tuple[list[list[Row]], dict[str, int]]:
    """Return each prompt's different finished answers, where it has two, and what was left out.

    `unfinished` and `repeated_answers` count answers, `one_answer` the prompts that keep fewer than
    two.
    """
    kept, dropped = [], {"unfinished": 0, "one_answer": 0, "repeated_answers": 0}
    for drawn in by_prompt(samples):
        whole = finished(drawn)
        once: dict[str, Row] = {}
        for row in whole:
            once.setdefault(row["completion"], row)
        dropped["unfinished"] += len(drawn) - len(whole)
        dropped["repeated_answers"] += len(whole) - len(once)
        if len(once) < 2:
            dropped["one_answer"] += 1
        else:
            kept.append(list(once.values()))
    return kept, dropped


def note_kept(out: Draft, kept: Sequence[Row], what: str, dropped: Mapping[str, int]) -> None:
    """Note how many "pairs" or "rankings" were made, and what was left out by reason.

    Raises ValueError with the remedy where none was made.
    """
    require_rows(kept, what, dropped)
    out.note(**{what: len(kept)}, dropped=dict(dropped))
