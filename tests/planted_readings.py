"""A results folder over several data sets with planted levels, settings and findings."""

from __future__ import annotations

import json
import random

from fixed_results import ledger, metric

from harness.ledger import CELL_COLUMNS
from harness.plain_text import csv_text
from harness.results import CELLS, ITEM_COLUMNS, ITEMS, LEDGER

PROMPTS = 40
SUITES = [
    {
        "suite": "helpfulness",
        "axis": "helpfulness",
        "summary": "True helpfulness.",
        "metrics": [metric("gold_help", primary=True), metric("kl_to_sft", better=False, low=0.0)],
    },
    {
        "suite": "safety",
        "axis": "safety",
        "summary": "True safety.",
        "metrics": [metric("gold_safe", primary=True)],
    },
]


def noise(*key, scale=0.02):
    """Return a number that hangs on its key alone."""
    return random.Random(repr(key)).gauss(0, scale)


def row(dataset, label, seed, name, i, value, findings=()):
    """Return one item."""
    suite = "safety" if name == "gold_safe" else "helpfulness"
    return {
        "study": "planted", "base": "hamlet", "dataset": dataset, "label": label, "seed": seed,
        "suite": suite, "metric": name, "decoding": "T=1", "prompt_id": f"p{i:03}",
        "cluster": f"c{i % 20:02}", "sample": 0, "order": "", "judge": "gold", "population": "",
        "value": value, "class": "valid", "length": 20, "opponent_length": 18,
        "findings": json.dumps(list(findings)), "numerics": "{}",
    }  # fmt: skip


def plant(
    folder,
    levels,
    *,
    methods=None,
    settings=None,
    datasets=None,
    kl=None,
    findings=None,
    labels_used=None,
    seeds=(0, 1, 2),
    embedded_world=False,
    **facts,
):
    """Write results in which each (dataset, label) has its levels of help and safety.

    `methods` and `settings` are by label, `datasets` the facts of each data set, `kl` nats by
    label, `findings` by label, `labels_used` by (dataset, label).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    items = []
    for (dataset, label), pair in levels.items():
        for seed in seeds:
            for i in range(PROMPTS):
                for name, level in zip(("gold_help", "gold_safe"), pair, strict=True):
                    value = level + noise(name, i, scale=0.2)
                    value += noise(name, dataset, label, seed, i)
                    value += noise(name, dataset, label, seed, scale=0.004)
                    said = (findings or {}).get(label, ())
                    items.append(row(dataset, label, seed, name, i, value, said))
                if kl and label in kl:
                    items.append(row(dataset, label, seed, "kl_to_sft", i, kl[label]))
    whole = {"seed", "sample", "length", "opponent_length"}
    types = {c: pa.int64() if c in whole else pa.string() for c in ITEM_COLUMNS}
    schema = pa.schema(list({**types, "value": pa.float64()}.items()))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(items, schema=schema), folder / ITEMS)
    labels = list(dict.fromkeys(label for _, label in levels))
    (folder / LEDGER).write_text(
        json.dumps(
            ledger(
                seeds,
                methods=[described(x, (methods or {}).get(x, x)) for x in labels],
                decodings=["T=1"],
                suites=SUITES,
                scores={},
                control=[],
                provenance={"policies": [], "stages": {}, "wheels": {}, "numerics": []},
                embedded_world=embedded_world,
                datasets=datasets or {},
                whole_settings=settings or {},
                **facts,
            )
        )
    )
    cells = [
        {
            **dict.fromkeys(CELL_COLUMNS, 0),
            **{"study": "planted", "base": "hamlet", "dataset": dataset, "method": label},
            **{"label": label, "seed": seed, "state": "done", "reason": "", "artifact": "x-0"},
            "labels_used": (labels_used or {}).get((dataset, label), 0),
        }
        for dataset, label in levels
        for seed in seeds
    ]
    rows = [[cell[column] for column in CELL_COLUMNS] for cell in cells]
    (folder / CELLS).write_text(csv_text(CELL_COLUMNS, rows))
    return folder


def described(label, method):
    """Return the facts of a row."""
    return {
        "label": label,
        "method": method,
        "role": label if label in ("base", "sft") else "method",
        "paper": None,
        "summary": f"What {method} does.",
        "settings": {},
    }


def dataset(**settings):
    """Return the facts of a data set of one plugin."""
    return {"plugin": "hamlet", "settings": settings, "notes": {}}


def column(table, name):
    """Return a column's cells by what stands first in their rows."""
    at = list(table.columns).index(name)
    return {row[0].text: row[at] for row in table.rows}
