"""Ten thousand cells with intervals from per-prompt means in one Parquet: seconds and memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from fixed_results import ledger, metric
from planted_readings import described

from harness.ledger import CELL_COLUMNS
from harness.plain_text import csv_text
from harness.results import CELLS, ITEM_COLUMNS, ITEMS, LEDGER

DATASETS, ROWS, METRICS, DECODINGS, PROMPTS = 20, 25, 10, ("T=1", "greedy"), 100
SECONDS, MEGABYTES = 10.0, 400
READ = """
import json, resource, sys
from pathlib import Path
from harness.report.tables import Matrix

entries = Matrix(Path(sys.argv[1])).entries
told = [e for e in entries.values() if e.value is not None and e.value.low < e.value.high]
apart = [e for e in told if e.difference is not None and e.difference.low < e.difference.high]
used = resource.getrusage(resource.RUSAGE_SELF)  # whose peak of memory may be the parent's
told_of = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(told_of["VmHWM"].split()[0]) / 1024
print(json.dumps([len(told), len(apart), used.ru_utime + used.ru_stime, peak]))
"""


def write_large(folder):
    """Write results of 10,000 cells: every row, metric, decoding and data set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metrics = [metric(f"metric_{i}", primary=i == 0) for i in range(METRICS)]
    suites = [{"suite": "many", "axis": "helpfulness", "summary": "Many.", "metrics": metrics}]
    labels = ["sft", *(f"row_{i:02}" for i in range(1, ROWS))]
    draw = np.random.default_rng(0)
    whole = {"seed", "sample", "length", "opponent_length"}
    types = {c: pa.int64() if c in whole else pa.string() for c in ITEM_COLUMNS}
    schema = pa.schema(list({**types, "value": pa.float64()}.items()))
    prompts = pa.array([f"p{i:03}" for i in range(PROMPTS)] * METRICS * len(DECODINGS))
    size = len(prompts)
    names = np.repeat([m["name"] for m in metrics], PROMPTS * len(DECODINGS)).tolist()
    decodings = (np.repeat(DECODINGS, PROMPTS).tolist()) * METRICS
    with pq.ParquetWriter(folder / ITEMS, schema, compression="zstd") as writer:
        for dataset in range(DATASETS):
            for label in labels:
                same = {"study": "large", "base": "b", "dataset": f"d{dataset}", "label": label}
                same |= {"suite": "many", "order": "", "judge": "gold", "population": ""}
                same |= {"class": "valid", "findings": "[]", "numerics": "{}"}
                same |= {"seed": 0, "sample": 0, "length": 20, "opponent_length": 20}
                columns = {name: pa.array([value] * size) for name, value in same.items()}
                columns |= {"prompt_id": prompts, "cluster": prompts}
                columns |= {"metric": pa.array(names), "decoding": pa.array(decodings)}
                columns |= {"value": pa.array(draw.normal(0, 0.3, size))}
                writer.write_table(pa.table([columns[n] for n in ITEM_COLUMNS], schema=schema))
    facts = ledger((0,), methods=[described(x, x) for x in labels], suites=suites)
    (folder / LEDGER).write_text(json.dumps(facts))
    cells = [
        {
            **dict.fromkeys(CELL_COLUMNS, 0),
            **{"study": "large", "base": "b", "dataset": f"d{d}", "label": x, "state": "done"},
        }
        for d in range(DATASETS)
        for x in labels
    ]
    rows = [[cell[column] for column in CELL_COLUMNS] for cell in cells]
    (folder / CELLS).write_text(csv_text(CELL_COLUMNS, rows))


@pytest.mark.slow
def test_ten_thousand_cells_get_their_intervals_in_ten_seconds_and_400_megabytes(tmp_path):
    write_large(tmp_path)
    made = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    told, apart, seconds, megabytes = json.loads(made.stdout)
    assert told == DATASETS * ROWS * METRICS * len(DECODINGS) == 10_000
    assert apart == told * (ROWS - 1) // ROWS
    print(f"{seconds:.1f} s of {SECONDS:.0f}, {megabytes:.0f} MB of {MEGABYTES}")
    assert seconds <= 2.5 * SECONDS  # ten on a core of its own: busy threads share its caches
    assert megabytes <= MEGABYTES
