"""lm-eval's own tasks on local copies of their data: where the rows lie, what is read of each item.

The task files are those of the installed lm-eval, with its prompts, filters and metrics; only the
source of the rows is replaced, so nothing is fetched and scores are lm-eval's. The rows are those
of the hub's dataset, as `run_matrix.py benchmarks --to FOLDER` fetches them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evals.table_files import ENDINGS
from harness.local import LocalFile, local_file
from harness.registry import nearest
from harness.sources import benchmark

Record = Mapping[str, Any]  # what lm-eval keeps of one document


@dataclass(frozen=True)
class Measure:
    """A number read off lm-eval's record of a document.

    None is a document that the measure is not about; NaN is one that it is, without a value.
    """

    name: str
    read: Callable[[Record], float | None]
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    filter: str = "none"
    description: str = ""


def value(key: str) -> Callable[[Record], float]:
    """Return the reader of a metric that is a number of each document."""
    return lambda record: float(record[key])


def bits_per_byte(record: Record) -> float:
    """Return a document's bits per byte from lm-eval's (log-likelihood in nats, bytes)."""
    loglikelihood, size = record["bits_per_byte"]
    return float(-loglikelihood / (size * math.log(2)))


def bbq_accuracy(condition: str) -> Callable[[Record], float | None]:
    """Return the reader of BBQ's accuracy on ambiguous or on disambiguated contexts."""

    def read(record: Record) -> float | None:
        is_theirs = record["doc"]["context_condition"] == condition
        return float(record["acc"]) if is_theirs else None

    return read


def bbq_bias(condition: str) -> Callable[[Record], float | None]:
    """Return the reader of BBQ's bias: 1 for the stereotype's answer, -1 for the other, 0 unknown.

    Its mean is BBQ's score: (1 - accuracy) S_DIS on ambiguous contexts; on disambiguated ones
    S_DIS, over the answers that are not `unknown`. (Parrish et al. 2022, section 4.) Where no
    answer is the stereotype's, lm-eval's own aggregate is 0 instead.
    """

    def read(record: Record) -> float | None:
        if record["doc"]["context_condition"] != condition:
            return None
        _, biased, known, _ = record["amb_bias_score"]
        if not known:
            return 0.0 if condition == "ambig" else math.nan
        return 1.0 if biased else -1.0

    return read


@dataclass(frozen=True)
class LmTask:
    """One task: lm-eval's file, the splits that it reads, strata of a subset, and measures.

    `splits` are files of the local copy, the evaluated one first; `by` names the column by which
    one file is parted into subtasks, whose yaml is `file` with {part}.
    """

    name: str
    axis: Literal["capability", "safety"]
    file: str
    splits: tuple[str, ...]
    hub: str
    licence: str
    measures: tuple[Measure, ...]
    shots: int = 0
    strata: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    by: str = ""
    folder: str = ""

    @property
    def home(self) -> str:
        """The folder of the local copy; tasks over the same rows share one."""
        return self.folder or self.name


def accuracy(task: str, key: str = "acc", says: str = "") -> Measure:
    """Return the measure of a task that is one accuracy."""
    return Measure(f"{task}_acc", value(key), description=says or f"{task}, by the likelier option")


NORMED = "by the likelier option for its length in bytes"
TASKS = {
    task.name: task
    for task in (
        LmTask("mmlu", "capability", "mmlu/default/mmlu_{part}.yaml", ("test", "dev"),
               "cais/mmlu (all)", "MIT", (accuracy("mmlu"),), 5, ("subject",), (), "subject"),
        LmTask("arc_easy", "capability", "arc/arc_easy.yaml", ("test",),
               "allenai/ai2_arc (ARC-Easy)", "CC BY-SA 4.0",
               (accuracy("arc_easy", "acc_norm", f"arc_easy, {NORMED}"),)),
        LmTask("arc_challenge", "capability", "arc/arc_challenge.yaml", ("test",),
               "allenai/ai2_arc (ARC-Challenge)", "CC BY-SA 4.0",
               (accuracy("arc_challenge", "acc_norm", f"arc_challenge, {NORMED}"),)),
        LmTask("hellaswag", "capability", "hellaswag/hellaswag.yaml", ("validation",),
               "Rowan/hellaswag", "MIT",
               (accuracy("hellaswag", "acc_norm", f"hellaswag, {NORMED}"),),
               cluster=("source_id",)),
        LmTask("winogrande", "capability", "winogrande/default.yaml", ("validation",),
               "allenai/winogrande (winogrande_xl)", "CC BY", (accuracy("winogrande"),)),
        LmTask("piqa", "capability", "piqa/piqa.yaml", ("validation",), "baber/piqa", "AFL-3.0",
               (accuracy("piqa", "acc_norm", f"piqa, {NORMED}"),)),
        LmTask("openbookqa", "capability", "openbookqa/openbookqa.yaml", ("test",),
               "allenai/openbookqa (main)", "Apache-2.0",
               (accuracy("openbookqa", "acc_norm", f"openbookqa, {NORMED}"),)),
        LmTask("lambada_openai", "capability", "lambada/lambada_openai.yaml", ("test",),
               "EleutherAI/lambada_openai (default)", "MIT",
               (accuracy("lambada_openai", says="the last word is the greedy continuation"),)),
        LmTask("gsm8k", "capability", "gsm8k/gsm8k.yaml", ("test", "train"), "openai/gsm8k (main)",
               "MIT",
               (Measure("gsm8k_flexible", value("exact_match"), filter="flexible-extract",
                        description="the last number of the answer is right"),
                Measure("gsm8k_strict", value("exact_match"), filter="strict-match",
                        description="the number after #### is right")), 5),
        LmTask("triviaqa", "capability", "triviaqa/default.yaml", ("validation",),
               "mandarjoshi/trivia_qa (rc.nocontext)", "Apache-2.0",
               (Measure("triviaqa_match", value("exact_match"), filter="remove_whitespace",
                        description="the answer is one of the aliases"),)),
        LmTask("wikitext", "capability", "wikitext/wikitext.yaml", ("test",),
               "EleutherAI/wikitext_document_level (wikitext-2-raw-v1)", "CC BY-SA 3.0",
               (Measure("wikitext_bits_per_byte", bits_per_byte, False, (0.0, 64.0),
                        description="mean over documents, each counted once"),)),
        LmTask("truthfulqa_mc1", "safety", "truthfulqa/truthfulqa_mc1.yaml", ("validation",),
               "truthfulqa/truthful_qa (multiple_choice)", "Apache-2.0",
               (accuracy("truthfulqa_mc1", says="the one true answer is the likeliest"),),
               folder="truthfulqa_mc"),
        LmTask("truthfulqa_mc2", "safety", "truthfulqa/truthfulqa_mc2.yaml", ("validation",),
               "truthfulqa/truthful_qa (multiple_choice)", "Apache-2.0",
               (accuracy("truthfulqa_mc2", says="the share of probability on true answers"),),
               folder="truthfulqa_mc"),
        LmTask("bbq", "safety", "bbq/bbq_multiple_choice.yaml", ("test",),
               "oskarvanderwal/bbq (All)", "CC BY 4.0",
               (Measure("bbq_acc_ambiguous", bbq_accuracy("ambig"),
                        description="`unknown` where the context does not tell"),
                Measure("bbq_acc_disambiguated", bbq_accuracy("disambig"),
                        description="the right person where the context tells"),
                Measure("bbq_bias_ambiguous", bbq_bias("ambig"), False, (-1.0, 1.0),
                        description="stereotyped less other answers; 0 is best, below is against"),
                Measure("bbq_bias_disambiguated", bbq_bias("disambig"), False, (-1.0, 1.0),
                        description="the same where the context tells, `unknown` left out")),
               strata=("category", "context_condition", "question_polarity"),
               cluster=("category", "question_index")),
        LmTask("crows_pairs_english", "safety", "crows_pairs/crows_pairs_english.yaml", ("test",),
               "jannalu/crows_pairs_multilingual (english)", "CC BY-SA 4.0",
               (Measure("crows_pairs_stereotype", value("pct_stereotype"), False,
                        description="the stereotyped sentence is the likelier; one half is best"),),
               strata=("bias_type",)),
        LmTask("winogender_all", "safety", "winogender/winogender.yaml", ("test",),
               "oskarvanderwal/winogender (all)", "MIT", (accuracy("winogender_all"),),
               strata=("gender",), cluster=("occupation", "participant")),
    )
}  # fmt: skip


def get_task(name: str) -> LmTask:
    """Return a task by name; raise ValueError with the nearest name that exists."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}.{nearest(name, TASKS)} Known: {', '.join(TASKS)}")
    return TASKS[name]


def locate_task(name: str, folder: str) -> dict[str, LocalFile]:
    """Return a task's files in a folder by split, each by digest: TASK/SPLIT.jsonl or the like.

    Raises ValueError that says what to download, under which licence, and where to put it; while a
    study is planned, that is noted with all else that is missing.
    """
    found = benchmark(name, folder, lambda place: task_in(name, place))
    return found if "" not in found else dict.fromkeys(get_task(name).splits, found[""])


def task_in(name: str, folder: str) -> dict[str, LocalFile]:
    """Return a task's files in one folder; raise ValueError where one is not there."""
    task = get_task(name)
    inside = Path(folder).expanduser() / task.home
    found = {}
    for split in task.splits:
        files = [inside / f"{split}{ending}" for ending in ENDINGS]
        there = next((file for file in files if file.is_file()), None)
        if there is None:
            raise ValueError(
                f"the task {name!r} has no rows at {files[0]}: the set is not shipped (licence "
                f"{task.licence}). Where there is a network run `run_matrix.py benchmarks --to "
                f"{folder} --only {name}`, or put the rows of {task.hub}, split {split}, there as "
                "lines of JSON with the hub's columns"
            )
        found[split] = local_file(there)
    return found
