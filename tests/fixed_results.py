"""A results folder with fixed numbers, holes where asked for, for tests of the report."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from harness.label_budget import KINDS
from harness.ledger import CELL_COLUMNS
from harness.plain_text import csv_text
from harness.results import CELLS, ITEM_COLUMNS, ITEMS, LEDGER, SCORE_COLUMNS, SCORES, score_rows
from harness.transcripts import ANSWERS, CURVE_COLUMNS, CURVES

LEVELS = {  # label: gold_help, gold_safe at T=1
    "base": (-0.30, 0.05),
    "sft": (0.34, 0.13),
    "best_of_n": (0.45, 0.20),
    "dpo": (0.48, 0.58),
}
PAPERS = {"dpo": "arXiv:2305.18290", "best_of_n": "arXiv:2009.01325"}
PROMPTS = 120


def metric(name, better=True, low=-1.0, high=1.0, primary=False, description="as its name says"):
    return {
        "name": name,
        "higher_is_better": better,
        "range": [low, high],
        "primary": primary,
        "description": description,
    }


SUITES = [
    {
        "suite": "helpfulness",
        "axis": "helpfulness",
        "summary": "True helpfulness.",
        "metrics": [
            metric("gold_help", primary=True, description="true helpfulness"),
            metric("win_rate", low=0.0, description="against SFT, a tie is 1/2"),
            metric("length", better=False, low=0.0, high=64.0, description="tokens of an answer"),
        ],
    },
    {
        "suite": "safety",
        "axis": "safety",
        "summary": "True safety.",
        "metrics": [
            metric("gold_safe", primary=True, description="true safety"),
            metric("harmful_compliance", better=False, low=0.0, description="harmful steps given"),
        ],
    },
    {
        "suite": "capability",
        "axis": "capability",
        "summary": "Probes.",
        "metrics": [metric("probe_accuracy", low=0.0, primary=True, description="four options")],
    },
]


def items(seeds, labels=tuple(LEVELS), decodings=("T=1", "greedy"), study="fixed"):
    """Yield the items of a small matrix whose levels are known."""
    for label in labels:
        for seed in seeds:
            draw = random.Random(f"{label}/{seed}")
            common = {"study": study, "base": "hamlet", "dataset": "hamlet", "label": label}
            common |= {"seed": seed, "order": "", "population": "", "findings": "[]"}
            common |= {"length": 20, "opponent_length": 18, "numerics": "{}"}
            helped, safe = LEVELS[label]
            for decoding in decodings:
                for i in range(PROMPTS):
                    shared = random.Random(f"prompt/{i}").gauss(0, 0.3)
                    for sample in range(1 if decoding == "greedy" else 2):
                        row = {**common, "decoding": decoding, "sample": sample, "judge": "gold"}
                        row |= {"prompt_id": f"p{i:03}", "cluster": f"c{i % 40:02}"}
                        bonus = 0.1 if decoding == "greedy" else 0.0
                        for suite, name, value in (
                            ("helpfulness", "gold_help", helped + bonus + shared),
                            ("helpfulness", "win_rate", draw.choice((0.0, 0.5, 1.0))),
                            ("helpfulness", "length", float(draw.randint(15, 25))),
                            ("safety", "gold_safe", safe + bonus + shared),
                            ("safety", "harmful_compliance", float(draw.random() < 0.5 - safe / 2)),
                        ):
                            noise = draw.gauss(0, 0.1) if name.startswith("gold") else 0.0
                            kind = "tie" if value == 0.5 else "valid"
                            row |= {"suite": suite, "metric": name, "value": value + noise}
                            yield {**row, "class": kind}
            for i in range(40):
                right = draw.random() < (0.7 if label != "base" else 0.25)
                yield {
                    **common, "suite": "capability", "metric": "probe_accuracy",
                    "decoding": "likelihood", "sample": 0, "judge": "lm-eval", "prompt_id": f"q{i}",
                    "cluster": f"q{i}", "value": float(right), "class": "valid",
                    "findings": '[["options","4"]]',
                }  # fmt: skip


def number(label):
    """Return a number of a label's own, whichever labels a folder has."""
    return list(LEVELS).index(label)


def ledger(seeds, labels=tuple(LEVELS), **changes):
    """Return the facts of the fixed study."""
    held = {
        "base weights": lambda label: "3f2a9c01d7e4",
        "preferences": lambda label: (
            "77aa12bc90de" if label in ("dpo", "best_of_n") else "not used"
        ),
        "labels, human": lambda label: "4,000" if label in ("dpo", "best_of_n") else "0",
        "decoding, T=1": lambda label: '{"max_new_tokens": 64, "temperature": 1.0}',
        "chat template": lambda label: None if label == "base" else "0e1f2a3b4c5d",
    }
    return {
        "study": "fixed",
        "note": "",
        "seeds": list(seeds),
        "share_sft": False,
        "same_judge": False,
        "margin": 2.0,
        "co_primary": [],
        "samples": 2,
        "decodings": ["T=1", "greedy"],
        "embedded_world": True,
        "methods": [
            {
                "label": label,
                "method": label,
                "role": label if label in ("base", "sft") else "method",
                "paper": PAPERS.get(label),
                "summary": f"What {label} does.",
                "settings": {"beta": 0.1} if label == "dpo" else {},
            }
            for label in labels
        ],
        "suites": SUITES,
        "scores": {
            f"hamlet/hamlet/{x}/{seed}/{suite['suite']}": f"grade-{number(x):06}{seed:06}"
            for x in labels
            for seed in seeds
            for suite in SUITES
        },
        "control": [
            {
                "base": "hamlet",
                "dataset": "hamlet",
                "item": item,
                "values": {x: {str(s): value(x) for s in seeds} for x in labels},
            }
            for item, value in held.items()
        ],
        "provenance": {
            "policies": [
                {
                    "cell": f"hamlet/hamlet/{x}/{s}",
                    "id": f"make-{number(x):06}{s:06}",
                    "payload": "ab12cd",
                }
                for x in labels
                for s in seeds
            ],
            "stages": {"alignment-matrix:finetune": {"version": 1, "code": ["aa11"], "made": 4}},
            "wheels": {"torch": ["2.13.0"]},
            "numerics": ['{"device":"cpu","dtype":"float32"}'],
        },
        "examples": [],
        **changes,
    }


def cells(seeds, labels=tuple(LEVELS), states=None):
    """Return the rows of cells.csv; `states` gives some (label, seed) another state and reason."""
    rows = []
    for label in labels:
        for seed in seeds:
            state, reason = (states or {}).get((label, seed), ("done", ""))
            key = ["fixed", "hamlet", "hamlet", label, label, seed, state, reason, "stage-0"]
            rows.append([*key, 12.5, 30.0, 95.0, 8.0, 10000, 250000, 0, 120, 0, *labels_of(label)])
    return rows


def write_answers(folder, texts, labels=tuple(LEVELS), decodings=("T=1", "greedy")):
    """Write answers to as many prompts as there are texts; every row says the same."""
    lines = [
        {
            "base": "hamlet",
            "dataset": "hamlet",
            "decoding": decoding,
            "prompt_id": f"p{i:03}",
            "tag": "red-team" if i % 3 == 0 else "general",
            "messages": [{"role": "user", "content": f"Question {i}? {text}"}],
            "answers": {
                x: {"seed": 0, "text": f"{x}: {text}", "finished": i % 5 > 0} for x in labels
            },
        }
        for decoding in decodings
        for i, text in enumerate(texts)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / ANSWERS).write_bytes(gzip.compress(data.encode(), mtime=0))


def write_curves(folder, labels=("dpo",), seeds=(0,), ends=(("proxy", 2.0), ("kl", 3.0))):
    """Write curves of optimisation with known ends, as proxy 2 and KL 3, ten steps."""
    rows = [
        ("hamlet", "hamlet", x, seed, "optimise-0", "optimise", 3, step, column, last * step / 10)
        for x in labels
        for seed in seeds
        for step in range(1, 11)
        for column, last in ends
    ]
    (folder / CURVES).write_text(csv_text(CURVE_COLUMNS, rows))


def labels_of(label):
    """Return labels in all, tokens and memory of evaluation, and labels by kind."""
    human = 4000 if label in ("dpo", "best_of_n") else 0
    return [human, 51000, 2**29, human, *[0] * (len(KINDS) - 1)]


def write_results(
    folder: Path, seeds=(0,), labels=tuple(LEVELS), states=None, left_out=(), **changes
):
    """Write a results folder; `left_out` names (label, seed) without any item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    kept = [r for r in items(seeds, labels) if (r["label"], r["seed"]) not in set(left_out)]
    numbers = {"seed", "sample", "length", "opponent_length"}
    types = {c: pa.int64() if c in numbers else pa.string() for c in ITEM_COLUMNS}
    schema = pa.schema(list({**types, "value": pa.float64()}.items()))
    pq.write_table(pa.Table.from_pylist(kept, schema=schema), folder / ITEMS)
    (folder / LEDGER).write_text(json.dumps(ledger(seeds, labels, **changes)))
    (folder / CELLS).write_text(csv_text(CELL_COLUMNS, cells(seeds, labels, states)))
    (folder / SCORES).write_text(csv_text(SCORE_COLUMNS, score_rows(folder)))
    return folder
