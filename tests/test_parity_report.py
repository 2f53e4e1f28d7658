"""A report says which rows broke parity: badged, or refused where the study says so."""

from __future__ import annotations

import pytest
from fixed_results import ledger, write_results

from harness.report.gates import Gates
from harness.report.headline import headline
from harness.report.parity import parity_table
from harness.report.tables import Block, Matrix
from harness.report.words import answer

HAMLET = Block("hamlet", "hamlet")


def unequal(**changes):
    """Return a ledger whose dpo was made from other base weights."""
    facts = ledger((0,))
    line = next(x for x in facts["control"] if x["item"] == "base weights")
    line["values"]["dpo"]["0"] = "0badc0de0bad"
    return {"control": facts["control"], **changes}


def by_row(table, column):
    place = list(table.columns).index(column)
    return {row[0].text: row[place] for row in table.rows}


def test_a_badge_names_what_a_row_did_not_hold_equal_and_leaves_its_numbers(tmp_path):
    matrix = Matrix(write_results(tmp_path, **unequal(parity="badge")))
    first = headline(matrix, HAMLET)
    badges = by_row(first, "held equal")
    assert badges["dpo"].text == "no: base weights"
    assert badges["dpo"].detail == "base weights: 0badc0de0bad instead of 3f2a9c01d7e4"
    assert {badges[label].text for label in ("sft", "best_of_n")} == {"yes"}
    assert badges["base"].text == "unknown"  # its chat template is not known yet
    assert badges["base"].detail == "not known: chat template"
    assert by_row(first, "minus sft")["dpo"].estimate is not None
    (line,) = parity_table(matrix, HAMLET, "t3_parity").rows
    said = ["dpo", "base weights", "0badc0de0bad", "3f2a9c01d7e4"]
    assert [cell.text for cell in line] == said


def test_a_study_that_refuses_unequal_rows_prints_none_of_their_differences(tmp_path):
    matrix = Matrix(write_results(tmp_path, **unequal(parity="refuse")))
    minus = by_row(headline(matrix, HAMLET), "minus sft")
    assert minus["dpo"].estimate is None
    assert minus["best_of_n"].estimate is not None
    assert not any("dpo" in said for said in answer(matrix, HAMLET))
    (said,) = matrix.gates.sentences
    assert said.startswith("Not compared: dpo on hamlet/hamlet did not hold equal what the")


@pytest.mark.parametrize("parity", ["badge", "refuse"])
def test_equal_rows_are_neither_badged_nor_refused(tmp_path, parity):
    matrix = Matrix(write_results(tmp_path, parity=parity))
    assert parity_table(matrix, HAMLET, "t3_parity") is None
    assert matrix.gates == Gates()


def test_a_row_of_which_nothing_is_known_is_not_called_equal(tmp_path):
    facts = ledger((0,))
    for line in facts["control"]:
        line["values"]["dpo"]["0"] = None
        line["values"].pop("sft")
    matrix = Matrix(write_results(tmp_path / "rows", control=facts["control"]))
    badges = by_row(headline(matrix, HAMLET), "held equal")
    found = {label: badges[label].text for label in ("sft", "dpo", "best_of_n")}
    assert found == {"sft": "unknown", "dpo": "unknown", "best_of_n": "yes"}
    matrix = Matrix(write_results(tmp_path / "none", control=[]))
    assert {c.text for c in by_row(headline(matrix, HAMLET), "held equal").values()} == {"unknown"}
