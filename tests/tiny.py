"""Tiny policies, prompts and pairs as stages, for tests that run stages on a CPU in seconds.

The language model is a random Llama over bytes: every text round-trips through its tokenizer.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from harness.artifacts import (
    Demonstrations,
    Policy,
    Preferences,
    Prompts,
    Samples,
    write_rows,
)
from harness.draft import Draft
from harness.stage import stage
from harness.tiny import END, PAD, SPECIAL, TEMPLATE, random_llama
from harness.tiny import byte_tokenizer as plain_tokenizer


def byte_tokenizer(*, template=TEMPLATE, pad=SPECIAL[PAD]):
    """Return the tokenizer over bytes with another template, or with another token as padding."""
    tokenizer = plain_tokenizer()
    tokenizer.chat_template = template
    tokenizer.pad_token = pad
    return tokenizer


def write_policy(folder: Path, seed: int = 0, **changes) -> None:
    """Write a tiny policy's folder: weights, tokenizer, generation.json."""
    from harness.models import quietly

    quietly(random_llama(seed, **changes).save_pretrained, folder)
    byte_tokenizer().save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps({"stop_ids": [END]}) + "\n")


def questions(n: int, seed: int) -> list[dict]:
    """Return n distinct prompts of different lengths, a quarter of them tagged red-team."""
    rng = random.Random(f"questions/{seed}")
    words = ["cat", "river", "town", "seven", "a", "wood", "yes"]
    return [
        {
            "prompt_id": f"q{seed}-{number}",
            "messages": [
                {
                    "role": "user",
                    "content": f"{number} " + " ".join(rng.choices(words, k=rng.randint(1, 4))),
                }
            ],
            "tag": "red-team" if number % 4 == 0 else "general",
            "cluster": f"c{number % 3}",
        }
        for number in range(n)
    ]


@stage(makes=Policy)
def tiny_policy(out: Draft, *, seed: int) -> None:
    """Make a random Llama of 2 layers over bytes."""
    write_policy(out.path, seed)


@stage(makes=Prompts)
def tiny_prompts(out: Draft, *, n: int, seed: int) -> None:
    """Write n short prompts."""
    write_rows(out, questions(n, seed))


@stage(makes=Demonstrations)
def tiny_demonstrations(out: Draft, *, n: int, seed: int) -> None:
    """Write n prompts, each answered by its own words backwards."""
    write_rows(
        out,
        (
            {
                "prompt_id": row["prompt_id"],
                "messages": row["messages"],
                "completion": " ".join(reversed(row["messages"][0]["content"].split())),
            }
            for row in questions(n, seed)
        ),
    )


@stage(makes=Preferences)
def tiny_pairs(out: Draft, *, n: int, seed: int) -> None:
    """Write n pairs of which the answer that says please is preferred, on both axes by turns."""
    write_rows(
        out,
        (
            {
                "pair_id": f"{row['prompt_id']}:0-1",
                "prompt_id": row["prompt_id"],
                "messages": row["messages"],
                "chosen": f"please, {number} it is",
                "rejected": f"{number} no",
                "p1": 1.0,
                "axis": ("helpful", "safe")[number % 2],
                "population": None,
                "source": "human",
                "strength": 1 + number % 4,
            }
            for number, row in enumerate(questions(n, seed))
        ),
    )


@stage(makes=Samples)
def ended(out: Draft, samples: Samples) -> None:
    """Write answers as if each had come to its own end, as a random model's hardly ever do."""
    write_rows(out, ({**row, "finished": True} for row in samples))
