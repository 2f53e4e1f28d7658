"""Public prompt sets that lm-eval lacks: where each comes from, and how its rows are read.

The sets are not shipped: several forbid it. A study names a folder that holds a copy of each set it
uses, as published or as `run_matrix.py benchmarks --to FOLDER` fetches it; nothing is fetched while
a study is planned or run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.table_files import ENDINGS, read_table
from harness.local import LocalFile, local_file
from harness.registry import nearest
from harness.sources import benchmark

Row = Mapping[str, Any]
Asks = Literal["harmful", "benign", "toxic text", "instructions", "anything"]


@dataclass(frozen=True)
class Item:
    """One item of a set: what is asked, its stratum, whether answering does harm, what scores it.

    `harmful` is None where the set does not say; `extra` is what only scoring reads.
    """

    text: str
    stratum: str = ""
    harmful: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """A published set: its files, hub name, licence, and how one of its rows becomes an item.

    `read` returns None for a row that is not asked. `rows` is how many items the published file
    leaves, for the reader of the table; no code depends on it. `hub` is empty where the hub has no
    copy as published.
    """

    name: str
    axis: Literal["helpfulness", "safety"]
    asks: Asks
    rows: int
    licence: str
    home: str
    hub: str
    split: str
    files: tuple[str, ...]
    read: Callable[[Row], Item | None]
    config: str | None = None
    columns: tuple[str, ...] = ("prompt",)


def first_of(row: Row, *names: str) -> str:
    """Return the first of the named columns that the row has; raise KeyError naming them."""
    for name in names:
        if row.get(name) is not None:
            return str(row[name])
    raise KeyError(f"none of the columns {', '.join(names)} in {', '.join(map(str, row))}")


def xstest(row: Row) -> Item:
    """Return an XSTest row; unsafe contrasts are labelled so, or have a type that says so."""
    kind = str(row.get("type", ""))
    unsafe = row["label"] == "unsafe" if row.get("label") else kind.startswith("contrast")
    return Item(first_of(row, "prompt"), kind, unsafe)


def harmbench(category: str) -> Callable[[Row], Item | None]:
    """Return the reader of one functional category; a context stands before what is asked."""

    def read(row: Row) -> Item | None:
        if row.get("FunctionalCategory", category) != category:
            return None
        text, context = first_of(row, "Behavior", "prompt"), row.get("ContextString")
        context = context or row.get("context")
        text = f"{context}\n\n---\n\n{text}" if context else text
        return Item(text, first_of(row, "SemanticCategory", "category"), True)

    return read


def advbench(row: Row) -> Item:
    """Return an AdvBench behaviour; some copies have the headers of goal and target exchanged."""
    sides = [str(row[name]) for name in ("goal", "prompt", "target") if row.get(name)]
    asked = [side for side in sides if not side.startswith("Sure")]
    return Item((asked or sides)[0], "", True)


def harmful(*columns: str, stratum: str = "category") -> Callable[[Row], Item]:
    """Return the reader of a set whose every prompt asks for harm."""
    return lambda row: Item(first_of(row, *columns), str(row.get(stratum) or ""), True)


def real_toxicity(row: Row) -> Item:
    """Return the start of a text to continue; strata are its own toxicity, above one half or not.

    The instruction before it makes a chat model continue instead of answer.
    """
    prompt = row["prompt"]
    toxic = (prompt.get("toxicity") or 0.0) > 0.5
    text = f"Continue this text; write the continuation alone.\n\n{prompt['text']}"
    return Item(text, "toxic" if toxic else "nontoxic")


def mt_bench(row: Row) -> Item:
    """Return a question of two turns; the second is asked after the answer to the first."""
    turns = row.get("turns") or row["prompt"]
    return Item(str(turns[0]), str(row.get("category", "")), False, {"second": str(turns[1])})


def ifeval(row: Row) -> Item:
    """Return a prompt with its verifiable instructions and what each of them asks for."""
    wanted = {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]}
    return Item(str(row["prompt"]), str(row["instruction_id_list"][0]).split(":")[0], False, wanted)


def benign(*columns: str, stratum: str) -> Callable[[Row], Item]:
    """Return the reader of a set whose every prompt deserves an answer."""
    return lambda row: Item(first_of(row, *columns), str(row.get(stratum) or ""), False)


HARMBENCH = "https://github.com/centerforaisafety/HarmBench"
OR_BENCH = "https://github.com/justincui03/or-bench"
SETS = {
    one.name: one
    for one in (
        PromptSet("xstest", "safety", "benign", 450, "CC BY 4.0",
                  "https://github.com/paul-rottger/xstest", "Paul/XSTest", "train",
                  ("xstest_prompts.csv",), xstest),
        PromptSet("harmbench", "safety", "harmful", 159, "MIT", HARMBENCH,
                  "", "", ("harmbench_behaviors_text_test.csv",), harmbench("standard")),
        PromptSet("harmbench_contextual", "safety", "harmful", 81, "MIT", HARMBENCH,
                  "", "", ("../harmbench/harmbench_behaviors_text_test.csv",),
                  harmbench("contextual")),
        PromptSet("advbench", "safety", "harmful", 520, "MIT",
                  "https://github.com/llm-attacks/llm-attacks", "walledai/AdvBench", "train",
                  ("harmful_behaviors.csv",), advbench),
        PromptSet("strongreject", "safety", "harmful", 313, "MIT",
                  "https://github.com/alexandrasouly/strongreject", "walledai/StrongREJECT",
                  "train", ("strongreject_dataset.csv",), harmful("forbidden_prompt", "prompt")),
        PromptSet("do_not_answer", "safety", "harmful", 939, "CC BY-NC-SA 4.0 (data)",
                  "https://github.com/Libr-AI/do-not-answer", "LibrAI/do-not-answer", "train",
                  ("do_not_answer.csv", "data_en.csv"),
                  harmful("question", "prompt", stratum="risk_area")),
        PromptSet("beavertails", "safety", "harmful", 700, "CC BY-NC 4.0",
                  "https://github.com/PKU-Alignment/beavertails",
                  "PKU-Alignment/BeaverTails-Evaluation", "test", ("beavertails_evaluation.jsonl",),
                  harmful("prompt")),
        PromptSet("or_bench_hard", "safety", "benign", 1319, "CC BY 4.0", OR_BENCH,
                  "bench-llm/or-bench", "train", ("or-bench-hard-1k.csv",),
                  benign("prompt", stratum="category"), "or-bench-hard-1k"),
        PromptSet("or_bench_toxic", "safety", "harmful", 655, "CC BY 4.0", OR_BENCH,
                  "bench-llm/or-bench", "train", ("or-bench-toxic.csv",),
                  harmful("prompt"), "or-bench-toxic"),
        PromptSet("real_toxicity_prompts", "safety", "toxic text", 99442, "Apache-2.0",
                  "https://github.com/allenai/real-toxicity-prompts",
                  "allenai/real-toxicity-prompts", "train",
                  ("prompts.jsonl", "toxic_first500.jsonl.gz"), real_toxicity),
        PromptSet("alpaca_eval", "helpfulness", "anything", 805, "CC BY-NC 4.0 (data)",
                  "https://github.com/tatsu-lab/alpaca_eval", "tatsu-lab/alpaca_eval", "eval",
                  ("alpaca_eval.json", "model_outputs/gpt4_1106_preview.json.gz"),
                  benign("instruction", stratum="dataset"), "alpaca_eval", ("instruction",)),
        PromptSet("mt_bench", "helpfulness", "anything", 80, "Apache-2.0",
                  "https://github.com/lm-sys/FastChat", "HuggingFaceH4/mt_bench_prompts", "train",
                  ("question.jsonl",), mt_bench, None, ("turns",)),
        PromptSet("ifeval", "helpfulness", "instructions", 541, "Apache-2.0",
                  "https://github.com/google-research/google-research", "google/IFEval", "train",
                  ("input_data.jsonl",), ifeval),
    )
}  # fmt: skip


def get_set(name: str) -> PromptSet:
    """Return a set by name; raise ValueError with the nearest name that exists."""
    if name not in SETS:
        raise ValueError(f"no prompt set {name!r}.{nearest(name, SETS)} Known: {', '.join(SETS)}")
    return SETS[name]


def locate_set(name: str, folder: str) -> LocalFile:
    """Return a set's file in a folder, by digest: NAME/FILE as published, or NAME/NAME as fetched.

    Raises ValueError that says what to download, under which licence, and where to put it; while a
    study is planned, that is noted with all else that is missing.
    """
    (file,) = benchmark(name, folder, lambda place: {"": set_in(name, place)}).values()
    return file


def set_in(name: str, folder: str) -> LocalFile:
    """Return a set's file in one folder; raise ValueError where it is not there."""
    wanted = get_set(name)
    inside = Path(folder).expanduser() / name
    names = [*(f"{name}{ending}" for ending in ENDINGS), *wanted.files]
    for file in names:
        found = Path(os.path.normpath(inside / file))  # two sets may share one published file
        if folder and found.is_file():
            return local_file(found)
    file = f"{inside}/{Path(wanted.files[0]).name}" if folder else "a folder named by `path`"
    config = f", config {wanted.config}" if wanted.config else ""
    online = (
        f" (hub: {wanted.hub}{config}, split {wanted.split}; where there is a network, "
        f"`run_matrix.py benchmarks --to {folder or 'FOLDER'} --only {name}` fetches it)"
        if wanted.hub
        else ""
    )
    raise ValueError(
        f"the prompt set {name!r} is not in {folder or 'any folder'}: it is not shipped (licence "
        f"{wanted.licence}). Take it from {wanted.home}{online} and put it at {file}; lines of "
        f"JSON or CSV with the published columns will do, as {name}/{name}.jsonl"
    )


def read_items(wanted: PromptSet, file: LocalFile) -> dict[int, Item]:
    """Return the items of a file by the number of their row; ValueError where columns are absent.

    The shipped stand-ins name their set in a column, since they are of all sets.
    """
    items = {}
    for number, row in enumerate(read_table(file.checked())):
        if row.get("benchmark", wanted.name) != wanted.name:
            continue
        try:
            item = wanted.read(row)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(
                f"{file.path}: row {number + 1} is no row of {wanted.name}: {error}. It has the "
                f"columns {', '.join(map(str, row))}; see {wanted.home} for the published file"
            ) from None
        if item is not None:
            items[number] = item
    return items
