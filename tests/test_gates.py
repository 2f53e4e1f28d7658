"""Mechanics only: where a labeller or judge fails its gate, no difference is printed."""

from __future__ import annotations

from pathlib import Path

from planted_readings import column, dataset, plant

from harness.report.gates import WITHHELD, Gates
from harness.report.headline import headline
from harness.report.page import build
from harness.report.rows_read import digest_table, read_table
from harness.report.tables import Block, Matrix
from harness.report.words import answer, lead

HAMLET = Block("hamlet", "hamlet")
LEVELS = {("hamlet", x): (level, level) for x, level in (("sft", 0), ("dpo", 0.2), ("rlaif", 0.9))}


def labelled(rows=("rlaif",), pairs=300, **shares):
    """Return how a labeller did, as the ledger has it."""
    return {"artifact": "relabel-1", "pairs": pairs, "rows": list(rows), **shares}


def gates(folder: Path, *labelling):
    """Return the gates of a planted folder."""
    return Matrix(plant(folder, LEVELS, labelling=list(labelling))).gates


def test_a_labeller_at_chance_takes_its_rows_differences_away(tmp_path):
    wrong = labelled(agreement_with_earlier_labels=0.48, same_place_preferred=0.2)
    folder = plant(tmp_path, LEVELS, labelling=[wrong])
    matrix = Matrix(folder)
    minus = column(headline(matrix, HAMLET), "minus sft")
    assert minus["rlaif"].text == WITHHELD
    assert minus["dpo"].estimate is not None
    assert not any("rlaif" in said for said in answer(matrix, HAMLET))
    report = build(matrix, folder)
    assert "Mechanics only: rlaif learnt from a labeller" in report.lead[0]
    assert "48.0%" in report.lead[0]
    (row,) = report.labellers.rows
    assert [cell.text for cell in row] == ["rlaif", "300", "48.0%", "20.0%", "failed"]


def test_a_labeller_passes_where_it_beats_chance_and_keeps_its_verdicts(tmp_path):
    good = labelled(agreement_with_earlier_labels=0.7, same_place_preferred=0.3)
    assert gates(tmp_path, good) == Gates()


def test_an_order_bound_labeller_fails(tmp_path):
    found = gates(tmp_path, labelled(same_place_preferred=0.6))
    assert found.rows == {"rlaif"}
    assert "turn with the order" in found.sentences[0]


def test_seeds_are_pooled_by_their_pairs_and_few_pairs_decide_nothing(tmp_path):
    few = labelled(pairs=150, agreement_with_earlier_labels=0.3)
    assert gates(tmp_path / "few", few) == Gates()
    more = labelled(pairs=900, agreement_with_earlier_labels=0.7)
    assert gates(tmp_path / "both", few, more) == Gates()
    assert gates(tmp_path / "twice", few, few).rows == {"rlaif"}


def test_grades_of_a_judge_that_fails_are_not_printed(tmp_path):
    matrix = Matrix(plant(tmp_path, LEVELS))
    matrix.gates = Gates(judges=frozenset({"gold"}))
    found = column(headline(matrix, HAMLET), "gold_help")
    assert {cell.text for cell in found.values()} == {WITHHELD}
    assert not any("better" in said for said in answer(matrix, HAMLET))


def test_claims_are_conditional_on_the_base_and_say_so_for_several_too(tmp_path):
    matrix = Matrix(plant(tmp_path, LEVELS))
    assert "conditional on this base" in next(lead(matrix))
    matrix.cells += [{**cell, "base": "other"} for cell in matrix.cells]
    matrix.__dict__.pop("blocks", None)
    assert "conditional on the one base of each comparison" in next(lead(matrix))


def test_rows_left_out_and_digests_are_shown_by_data_set(tmp_path):
    noted = {
        "read": 1200,
        "rows": {"train": 900, "test": 100},
        "dropped": {"too_long": 150, "overlap": 50, "empty": 0},
        "digests": {"train": "aa11", "test": "bb22"},
    }
    facts = {"hamlet": {**dataset(), "notes": {"read_pairs-1": noted}}}
    matrix = Matrix(plant(tmp_path, LEVELS, datasets=facts))
    table = read_table(matrix)
    assert [cell.text for cell in table.rows[0]] == [
        "hamlet", "1,200", "train 900, test 100", "200", "too_long 150, overlap 50", "read_pairs-1",
    ]  # fmt: skip
    assert [row[2].text for row in digest_table(matrix).rows] == ["aa11", "bb22"]
    assert read_table(Matrix(plant(tmp_path / "none", LEVELS))) is None


def test_ratings_are_linked_where_there_are_any(tmp_path):
    folder = plant(tmp_path, LEVELS)
    assert build(Matrix(folder), folder).ratings == ""
    (folder / "ratings").mkdir()
    (folder / "ratings" / "report.md").write_text("# What people preferred\n")
    build(Matrix(folder), folder).write(folder)
    assert 'href="ratings/report.md"' in (folder / "report.html").read_text()
    assert "(ratings/report.md)" in (folder / "report.md").read_text()
