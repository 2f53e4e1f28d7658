"""Mechanics only: where a labeller or judge fails its gate, no difference is printed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from planted_readings import column, dataset, plant

from harness.artifacts import Policy
from harness.declared_facts import paired
from harness.judge import Letters
from harness.report.gates import NOT_COMPARED, WITHHELD, Gates
from harness.report.headline import headline
from harness.report.page import build
from harness.report.rows_read import digest_table, paired_table, read_table
from harness.report.tables import Block, Matrix
from harness.report.words import answer, lead
from harness.results import LEDGER
from harness.stages.label import relabel
from harness.stages.prefer import prefer
from harness.stages.sample import sample
from harness.tiny import tiny_prompts

HAMLET = Block("hamlet", "hamlet")
ASK = {"n": 2, "temperature": 1.0, "max_new_tokens": 4}
LEVELS = {("hamlet", x): (level, level) for x, level in (("sft", 0), ("dpo", 0.2), ("rlaif", 0.9))}


def labelled(rows=("rlaif",), pairs=300, decided=None, **shares):
    """Return how a labeller did, as the ledger has it; all pairs are decided unless said."""
    counts = {name: (decided or {}).get(name, pairs) for name in shares}
    known = {"artifact": "relabel-1", "pairs": pairs, "rows": list(rows), "decided": counts}
    return {**known, **shares}


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
    assert [cell.text for cell in row] == [
        "rlaif", "300", "48.0% of 300", "20.0% of 300", "failed",
    ]  # fmt: skip


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


def test_a_share_weighs_by_the_pairs_that_it_is_of_and_not_by_all_that_were_kept(tmp_path):
    name = "agreement_with_earlier_labels"
    first = labelled(pairs=1000, decided={name: 210}, **{name: 0.4})
    assert "on 40.0% of 210 pairs" in gates(tmp_path / "one", first).sentences[0]
    other = labelled(pairs=300, decided={name: 300}, **{name: 0.6})
    # (0.4 * 210 + 0.6 * 300) / 510 = 0.518; by pairs kept it would be 0.446 and fail
    assert gates(tmp_path / "both", first, other) == Gates()
    tied = labelled(pairs=1000, decided={name: 190}, **{name: 0.4})  # too few decided it
    assert gates(tmp_path / "tied", tied) == Gates()


def test_where_a_share_was_not_counted_its_size_is_called_a_bound(tmp_path):
    old = labelled(agreement_with_earlier_labels=0.4)
    old.pop("decided")
    assert "on 40.0% of at most 300 pairs" in gates(tmp_path, old).sentences[0]


def unequal_on(dataset):
    """Return a control ledger in which dpo had other base weights on one data set."""
    rows = ("sft", "dpo", "rlaif")
    return [
        {
            "base": "hamlet",
            "dataset": name,
            "item": "base weights",
            "values": {
                x: dict.fromkeys("012", "bb" if (x, name) == ("dpo", dataset) else "aa")
                for x in rows
            },
        }
        for name in ("hamlet", "scarce")
    ]


def test_a_refusal_of_parity_is_of_its_block_alone_and_has_a_word_of_its_own(tmp_path):
    both = LEVELS | {("scarce", label): pair for (_, label), pair in LEVELS.items()}
    folder = plant(tmp_path, both, labelling=[])
    facts = json.loads((folder / LEDGER).read_text())
    facts |= {"control": unequal_on("scarce"), "parity": "refuse"}
    (folder / LEDGER).write_text(json.dumps(facts))
    matrix = Matrix(folder)
    other = column(headline(matrix, Block("hamlet", "scarce")), "minus sft")
    assert other["dpo"].text == NOT_COMPARED
    assert other["rlaif"].estimate is not None
    assert column(headline(matrix, HAMLET), "minus sft")["dpo"].estimate is not None
    (said,) = matrix.gates.sentences
    assert said.startswith("Not compared: dpo on hamlet/scarce did not hold equal")


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


def test_answers_that_made_no_pair_are_shown_by_row_and_stage(tmp_path):
    lost = {"unfinished": 1200, "equal_answers": 3, "no_verdict": 0}
    made = {"stage": "judge_pairs", "sets": 5, "kept": 4000, "dropped": lost}
    all_rows = [{**made, "rows": ["ppo", "dpo", "rest", "cai"]}]
    own = [{**made, "rows": ["dno"], "stage": "contest", "dropped": {"unfinished": 0}}]
    facts = {"hamlet": {**dataset(), "notes": {}, "paired": all_rows + own}}
    report = build(Matrix(plant(tmp_path, LEVELS, datasets=facts)), tmp_path)
    assert [[cell.text for cell in row] for row in report.pairs_made.rows] == [
        ["hamlet", "4 rows", "judge_pairs", "5", "4,000", "unfinished 1,200, equal_answers 3"],
        ["hamlet", "dno", "contest", "5", "4,000", "none"],
    ]
    report.write(tmp_path)
    for page in ("report.md", "report.html"):
        assert "unfinished 1,200, equal_answers 3" in (tmp_path / page).read_text()
    assert paired_table(Matrix(plant(tmp_path / "none", LEVELS))) is None


def test_what_drawn_answers_came_to_is_summed_over_seeds_and_rounds():
    base = Policy("base-0")
    drawn = [sample(base, tiny_prompts(split="train"), **ASK, seed=seed) for seed in (0, 1)]
    pairs = [relabel(one, judge=Letters("a"), source="ai", seed=0) for one in drawn]
    cells = [
        SimpleNamespace(label=label, policy=prefer(base, one, seed=0))
        for one in pairs
        for label in ("ppo", "dpo")
    ]
    manifests = {
        one.id: {"facts": {"pairs": 10 + n, "dropped": {"unfinished": n, "no_verdict": 2}}}
        for n, one in enumerate(pairs)
    }
    assert paired(cells, manifests) == [
        {
            "rows": ["ppo", "dpo"],
            "stage": "relabel",
            "sets": 2,
            "kept": 21,
            "dropped": {"unfinished": 1, "no_verdict": 4},
        }
    ]
    assert paired(cells, {}) == []


def test_ratings_are_linked_where_there_are_any(tmp_path):
    folder = plant(tmp_path, LEVELS)
    assert build(Matrix(folder), folder).ratings == ""
    (folder / "ratings").mkdir()
    (folder / "ratings" / "report.md").write_text("# What people preferred\n")
    build(Matrix(folder), folder).write(folder)
    assert 'href="ratings/report.md"' in (folder / "report.html").read_text()
    assert "(ratings/report.md)" in (folder / "report.md").read_text()
