"""Whether the order of rows survives another judge: planted orders are told, noise is not."""

from __future__ import annotations

import json
import random

import pytest
from fixed_results import SUITES, ledger, metric, write_results

from harness.report.gates import Gates
from harness.report.judging import order_table
from harness.report.tables import Block, Matrix
from harness.results import ITEMS, LEDGER

HAMLET = Block("hamlet", "hamlet")
TRUE = {"base": 0.2, "best_of_n": 0.5, "dpo": 0.8}


def judged(folder, levels):
    """Write results in which gold grades by TRUE and a second judge by `levels`."""
    import pyarrow.parquet as pq

    write_results(folder, seeds=(0, 1, 2))
    facts = ledger((0, 1, 2))
    other = {**SUITES[0], "suite": "preference", "metrics": [metric("judged_win_rate", low=0.0)]}
    facts["suites"] = [*SUITES, other]
    (folder / LEDGER).write_text(json.dumps(facts))
    table = pq.read_table(folder / ITEMS)
    rows = []
    for row in table.to_pylist():
        if row["metric"] == "win_rate" and row["label"] in TRUE:
            wobble = 0.02 * (int(row["prompt_id"][1:]) % 5 - 2)
            row["value"] = TRUE[row["label"]] + wobble
            rows.append(row)
            second = {"suite": "preference", "metric": "judged_win_rate", "judge": "Second"}
            noise = random.Random(f"{row['label']}/{row['seed']}/{row['prompt_id']}").gauss(0, 0.05)
            rows.append({**row, **second, "value": min(max(levels[row["label"]] + noise, 0), 1)})
        elif row["metric"] != "win_rate":
            rows.append(row)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), folder / ITEMS)
    matrix = Matrix(folder)
    matrix.gates = Gates()  # what is planted would fail a judge's gate, which is another test's
    return matrix


@pytest.mark.parametrize(
    ("levels", "w", "turned", "certain"),
    [
        ({"base": 0.1, "best_of_n": 0.3, "dpo": 0.6}, "1.000", "0 of 3", "0"),
        # the mirror image: rank sums are equal, and every pair is turned for certain
        ({"base": 0.9, "best_of_n": 0.5, "dpo": 0.1}, "0.000", "3 of 3", "3"),
        # one pair turned: rank sums 2, 5, 5 around 4, so W = 12 * 6 / (4 * 24)
        ({"base": 0.1, "best_of_n": 0.9, "dpo": 0.4}, "0.750", "1 of 3", "1"),
    ],
)
def test_orders_of_two_judges_are_compared(tmp_path, levels, w, turned, certain):
    table = order_table(judged(tmp_path, levels), HAMLET)
    assert [row[0].text for row in table.rows] == ["T=1", "greedy"]
    for row in table.rows:
        assert row[1].text == "win_rate by gold, judged_win_rate by Second"
        assert [cell.text for cell in row[2:]] == ["3", w, turned, certain]


def test_a_pair_that_a_judge_does_not_tell_apart_is_not_turned_beyond_doubt(tmp_path):
    levels = {"base": 0.1, "best_of_n": 0.611, "dpo": 0.599}  # apart by two errors
    table = order_table(judged(tmp_path, levels), HAMLET)
    assert table.rows[0][4].text == "1 of 3"
    assert table.rows[0][5].text == "0"


def test_one_judge_alone_has_no_order_to_compare(tmp_path):
    assert order_table(Matrix(write_results(tmp_path)), HAMLET) is None
