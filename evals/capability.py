"""Capability: what alignment may cost. Skills that no reward mentions, and held-out text.

lm-eval itself grades, in this process and offline, on tasks of our own folder. Its cache is never
used: its key has no weights in it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import Sheet
from harness import (
    Draft,
    Metric,
    Policy,
    Probes,
    Scores,
    Subject,
    Texts,
    stage,
    suite,
    write_rows,
)

if TYPE_CHECKING:
    from harness.task_file import Task

TASKS = Path(__file__).parent / "tasks"
LIKELIHOOD = "likelihood"  # nothing is sampled, so there is no decoding
SKILLS = ("chronicle", "sorting", "copying", "carries", "grammar")
SHEET = Sheet(
    "capability",
    "capability",
    (
        Metric(
            "probe_accuracy",
            True,
            (0.0, 1.0),
            primary=True,
            description="multiple-choice items of all skills, by the likelier option",
        ),
        *(Metric(f"probe_{skill}", True, (0.0, 1.0), description="one skill") for skill in SKILLS),
        Metric(
            "bits_per_byte",
            False,
            (0.0, 64.0),
            description="mean over held-out documents of pretraining's kind",
        ),
    ),
)


@suite(axis="capability", metrics=SHEET.metrics)
def capability(subject: Subject, *, batch_size: int = 64) -> Scores:
    """Skills that no reward mentions as an lm-eval task, and bits per byte of held-out text."""
    if subject.probes is None and subject.heldout is None:
        raise ValueError(
            "suite 'capability' needs a dataset with probes or held-out text; this one has neither"
        )
    return measure_capability(
        subject.policy, probes=subject.probes, heldout=subject.heldout, batch_size=batch_size
    )


@stage(makes=Scores)
def measure_capability(
    out: Draft, policy: Policy, *, probes: Probes | None, heldout: Texts | None, batch_size: int
) -> None:
    """Have lm-eval grade every item, and keep what it found of each."""
    from harness.task_file import read_task

    tasks: dict[str, tuple[Task, list[dict[str, Any]]]] = {}
    if probes is not None:
        tasks["probes"] = (read_task(TASKS / "probes.yaml"), probes.rows())
    if heldout is not None:
        texts = [{"text": row["text"]} for row in heldout]
        tasks["heldout_text"] = (read_task(TASKS / "heldout_text.yaml"), texts)
    graded = evaluate(out, policy, tasks, batch_size)
    rows: list[dict[str, Any]] = []
    if "probes" in tasks:
        rows += probe_rows(tasks["probes"][1], graded["probes"])
    if "heldout_text" in tasks:
        rows += text_rows(tasks["heldout_text"][1], graded["heldout_text"])
    write_rows(out, rows)


def evaluate(
    out: Draft,
    policy: Policy,
    tasks: Mapping[str, tuple[Task, Sequence[Mapping[str, Any]]]],
    batch_size: int,
) -> dict[str, list[dict[str, Any]]]:
    """Return lm-eval's own record of each document, in the order of the rows given."""
    from lm_eval.evaluator import evaluate as run_lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.task_file import render

    model, tokenizer = policy.load(out.device), policy.tokenizer()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (task, rows) in tasks.items():
            write_task(folder, name, task, render(task, rows))
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        lm = HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            device=out.device,
            max_length=model.config.max_position_embeddings,
        )
        found = run_lm_eval(
            lm=lm,
            task_dict=manager.load(list(tasks)),
            bootstrap_iters=0,
            log_samples=True,
        )
    samples = {name: sorted(found["samples"][name], key=lambda s: s["doc_id"]) for name in tasks}
    for name, (_, rows) in tasks.items():
        if len(samples[name]) != len(rows):
            raise RuntimeError(
                f"lm-eval graded {len(samples[name])} of {len(rows)} items of {name}"
            )
        out.add(items_graded=len(rows))
    return samples


def write_task(folder: Path, name: str, task: Task, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write rendered documents, and the task over their columns, where lm-eval will look.

    The data file carries its digest in its name and the cache lies beside it: `datasets` goes by
    names and times, and would serve stale rows otherwise.
    """
    data = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    digest = hashlib.sha256(data.encode()).hexdigest()[:16]
    file = folder / f"{name}-{digest}.jsonl"
    file.write_text(data, encoding="utf-8")
    config = {
        **task.settings,
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
        "doc_to_text": "text" if task.output_type == "multiple_choice" else "",
        "doc_to_target": "target",
    }
    if task.output_type == "multiple_choice":
        config["doc_to_choice"] = "choices"
    (folder / f"{name}.yaml").write_text(json.dumps(config), encoding="utf-8")


def probe_rows(
    probes: Sequence[Mapping[str, Any]], graded: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield whether each item was answered right, under all skills and under its own."""
    for probe, sample in zip(probes, graded, strict=True):
        row = {
            "prompt_id": probe["item_id"],
            "cluster": cluster_of(probe),
            "sample": 0,
            "token_ids": (),
        }
        findings = [["options", str(len(probe["options"]))]]
        names = ["probe_accuracy"]
        if probe["skill"] in SKILLS:
            names.append(f"probe_{probe['skill']}")
        for name in names:
            yield SHEET.item(
                name, LIKELIHOOD, row, sample["acc"], judge="lm-eval", findings=findings
            )


def cluster_of(probe: Mapping[str, Any]) -> str:
    """Return what an item is drawn with: a passage or template, where it has one.

    A skill is no such thing: skills are chosen, and within one the items are drawn one by one.
    """
    alone = probe["cluster"] == probe["skill"]
    return str(probe["item_id"] if alone else probe["cluster"])


def text_rows(
    texts: Sequence[Mapping[str, Any]], graded: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the bits per byte of each document, from lm-eval's (log-likelihood, bytes)."""
    from math import log

    for text, sample in zip(texts, graded, strict=True):
        loglikelihood, size = sample["bits_per_byte"]
        digest = hashlib.sha256(text["text"].encode()).hexdigest()[:16]
        row = {"prompt_id": digest, "cluster": digest, "sample": 0, "token_ids": ()}
        yield SHEET.item(
            "bits_per_byte", LIKELIHOOD, row, -loglikelihood / (size * log(2)), judge="lm-eval"
        )
