"""A few test prompts with every row's answer beside each other, for people to read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.artifacts import Samples
from harness.plain_text import clean

PROMPTS = 4
LONGEST = 600  # characters of an answer that are shown


def side_by_side(drawn: Mapping[str, Samples]) -> Iterator[dict[str, Any]]:
    """Yield prompts, chosen by the hash of their id, with the first answer of every row to them.

    Chosen by hash, so nobody picked them, and the same prompts return in every report.
    """
    answers = {label: first_answers(samples) for label, samples in drawn.items()}
    common = set.intersection(*(set(found) for found in answers.values())) if answers else set()
    by_hash = sorted(common, key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    for prompt_id in by_hash[:PROMPTS]:
        rows = {label: found[prompt_id] for label, found in answers.items()}
        asked = next(iter(rows.values()))["messages"]
        yield {
            "prompt_id": prompt_id,
            "messages": [{"role": m["role"], "content": readable(m["content"])} for m in asked],
            "answers": {label: readable(row["completion"]) for label, row in rows.items()},
        }


def readable(text: str) -> str:
    """Return text cleaned, cut to a length, and without runs of empty lines."""
    return re.sub(r"\n\s*\n\s*", "\n\n", clean(text, longest=LONGEST))


def first_answers(samples: Samples) -> dict[str, dict[str, Any]]:
    """Return the first answer to each prompt."""
    return {row["prompt_id"]: row for row in samples if row["sample"] == 0}
