"""The kinds of artifact that stages hand to each other, and how to open them.

Rows are stored as gzipped JSON lines with no timestamp in them, so equal rows are equal bytes.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.draft import Draft
from harness.stage import Artifact

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS = "rows.jsonl.gz"
FLAGS = ("chosen_safe", "rejected_safe")  # columns of Preferences whose safety flags were bought


class Rows(Artifact):
    """Rows of data, one JSON object a line; `columns` is what every row must have."""

    columns: ClassVar[tuple[str, ...]] = ()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with gzip.open(self.path / ROWS, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows in the order written."""
        return list(self)

    def dataset(self, *columns: str) -> Dataset:
        """Return the named columns alone: a trainer never sees a column it did not ask for."""
        from datasets import Dataset

        return Dataset.from_list([{name: row[name] for name in columns} for row in self])


def write_rows(out: Draft, rows: Iterable[Mapping[str, Any]], name: str = ROWS) -> int:
    """Write rows into a draft and return how many; equal rows make equal bytes."""
    count, text = 0, io.StringIO()
    for row in rows:
        text.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        count += 1
    with (out / name).open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.write(text.getvalue().encode("utf-8", "replace"))
    return count


class Prompts(Rows):
    """What is asked: messages up to and including the last user turn; tag is the collection's."""

    columns = ("prompt_id", "messages", "tag", "cluster")


class Demonstrations(Rows):
    """Prompts with the answer to imitate."""

    columns = ("prompt_id", "messages", "completion")


class Preferences(Rows):
    """Pairs of answers; p1 in [0, 1] is the probability that `chosen` is the better one."""

    columns = (
        "pair_id",
        "prompt_id",
        "messages",
        "chosen",
        "rejected",
        "p1",
        "axis",
        "population",
        "source",
        "strength",
    )


class Rankings(Rows):
    """K answers to one prompt with ranks, smaller is better, ties allowed."""

    columns = ("prompt_id", "messages", "responses", "ranks", "axis", "population", "source")


class Samples(Rows):
    """Answers drawn from a policy. `logp` is the summed log-probability of `token_ids`, in nats."""

    columns: ClassVar[tuple[str, ...]] = (
        "prompt_id",
        "sample",
        "messages",
        "completion",
        "token_ids",
        "logp",
        "finished",
        "tag",
        "cluster",
    )


class ScoredSamples(Samples):
    """Samples with the grade that one judge gave each of them."""

    columns: ClassVar[tuple[str, ...]] = (*Samples.columns, "reward")


class Texts(Rows):
    """Plain text, for pretraining losses."""

    columns = ("text",)


class Probes(Rows):
    """Multiple-choice items: a context, options and the index of the right one."""

    columns = ("item_id", "skill", "context", "options", "answer", "cluster")


class Truth(Rows):
    """What is true of each prompt of an embedded world. Only the gold judge opens it."""

    columns = ("prompt_id",)


class Scores(Rows):
    """One row per graded item, as the statistics read it."""

    columns = (
        "suite",
        "axis",
        "metric",
        "higher_is_better",
        "decoding",
        "prompt_id",
        "cluster",
        "sample",
        "order",
        "judge",
        "population",
        "value",
        "class",
        "length",
        "opponent_length",
        "findings",
    )


class Policy(Artifact):
    """A causal language model with its tokenizer, template and the way it is to be sampled.

    The folder holds weights, or `parent.json` with an adapter, or `same_as.json` naming another
    policy; `generation.json` says temperature, best-of-n and reward, system or goal text.
    """

    def load(self, device: str = "cpu") -> PreTrainedModel:
        """Return a fresh float32 copy of the weights on `device`, adapters merged, in eval mode."""
        from harness.models import load_policy

        return load_policy(self, device)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer, with a chat template and a pad token that differs from EOS."""
        from harness.models import load_tokenizer

        return load_tokenizer(self)

    def generation(self) -> dict[str, Any]:
        """Return the policy's own `generation.json`, empty where it has none."""
        file = self.path / "generation.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}


class RewardModel(Artifact):
    """A model that gives a prompt and an answer one number, normalised and calibrated."""

    def load(self, device: str = "cpu") -> PreTrainedModel:
        """Return the sequence classifier with one label, in eval mode, on `device`."""
        from harness.models import load_reward

        return load_reward(self, device)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer the reward model was trained with."""
        from harness.models import load_tokenizer

        return load_tokenizer(self)


def sibling(artifact: Artifact, id: str) -> Path:
    """Return the folder of another artifact of the same store, such as an adapter's parent."""
    return artifact.path.parent / id
