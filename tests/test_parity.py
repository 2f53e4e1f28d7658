"""Parity: a planted inequality of each kind is found in its row, and in that row alone."""

from __future__ import annotations

import json

import pytest
from fixed_results import cells, ledger

from harness import parity
from harness.control import TAUGHT
from harness.ledger import CELL_COLUMNS

ROWS = ("base", "sft", "best_of_n", "dpo")
DECODING = '{"candidates": 1, "temperature": 1.0, "top_p": 1.0}'
EQUAL = {
    "base weights": "aa",
    "tokenizer": "bb",
    "chat template": "cc",
    "SFT start": "dd",
    "demonstrations": "ee",
    "prompts": "ff",
    "preferences": "gg",
    "test prompts": "hh",
    "decoding, T=1": DECODING,
    "labels, human": "4,000",
    "labels, ai": "0",
    "labels, selection": "40",
    "labeller": "Prompted 12",
    "judge": "gold",
    TAUGHT: "no",
    "numerics": '{"device":"cpu"}',
    "seed": "0",
}


def facts(changed=(), *, trials=None, seeds=("0", "1")):
    """Return a ledger in which all is equal but `changed`: (item, label, seed): value."""
    lines = [
        {
            "base": "b",
            "dataset": "d",
            "item": item,
            "values": {
                label: {s: dict(changed).get((item, label, s), value) for s in seeds}
                for label in ROWS
            },
        }
        for item, value in EQUAL.items()
    ]
    methods = [{"label": x, "role": x if x in ("base", "sft") else "method"} for x in ROWS]
    return {"control": lines, "methods": methods, "trials": {"b/d": trials or {}}}


def done(lost=()):
    return [
        {
            "base": "b", "dataset": "d", "label": label, "seed": seed,
            "state": "failed" if (label, seed) in lost else "done",
        }
        for label in ROWS
        for seed in ("0", "1")
    ]  # fmt: skip


def found(*given, **kept):
    return parity.breaches(facts(*given, **kept), done(), "b", "d")


def test_rows_that_hold_everything_equal_break_nothing():
    assert found() == []


@pytest.mark.parametrize("item", [item for item in EQUAL if item not in (TAUGHT, "seed")])
def test_an_unequal_value_of_each_item_is_found_in_its_row_alone(item):
    value = "12" if item.startswith("labels") else "other"
    if item == "labels, ai":  # two rows have some, so that there is a usual number of them
        usual = {(item, x, s): "10" for x in ("sft", "best_of_n") for s in "01"}
        breach, *more = found({**usual, (item, "dpo", "1"): value})
        assert (breach.usual, more) == ("10", [])
    else:
        (breach,) = found({(item, "dpo", "1"): value})
        assert breach.usual == EQUAL[item]
    assert (breach.label, breach.item, breach.own) == ("dpo", item, value)


def test_what_a_row_does_not_use_breaks_nothing_and_neither_does_what_is_unknown():
    unused = {("SFT start", "base", "0"): "not used", ("preferences", "sft", "1"): "not used"}
    unused[("labels, human", "base", "0")] = "0"
    unused[("tokenizer", "dpo", "0")] = None
    assert found(unused) == []
    (breach,) = found({("base weights", "dpo", "0"): "not used"})  # nobody goes without a base
    assert breach.item == "base weights"


def test_a_judge_that_taught_a_row_breaks_parity_even_where_all_rows_have_it():
    everywhere = {(TAUGHT, label, "0"): "yes" for label in ROWS}
    assert [breach.label for breach in found(everywhere)] == list(ROWS)


def test_values_are_compared_within_a_seed_and_may_differ_over_seeds():
    assert found({("SFT start", label, "1"): "d2" for label in ROWS}) == []
    crossed = {("SFT start", label, "1"): "d2" for label in ROWS if label != "dpo"}
    assert [breach.label for breach in found(crossed)] == ["dpo"]


def test_of_a_decoding_only_the_settings_that_differ_are_named():
    other = json.dumps({**json.loads(DECODING), "candidates": 8})
    (breach,) = found({("decoding, T=1", "best_of_n", s): other for s in "01"})
    assert breach.said == "decoding, T=1: candidates 8 instead of candidates 1"


def test_a_row_that_finished_other_seeds_is_found():
    (breach,) = parity.breaches(facts(), done([("dpo", "1")]), "b", "d")
    assert breach.said == "seeds: 0 instead of 0, 1"
    nothing = [(label, s) for label in ROWS for s in "01"]
    assert parity.breaches(facts(), done(nothing), "b", "d") == []


def test_unequal_numbers_of_tuning_trials_are_found_among_methods():
    equal = {"dpo": {"trials": 8}, "best_of_n": {"trials": 8}}
    assert found(trials=equal) == []
    (breach,) = found(trials={"dpo": {"trials": 8}})
    assert breach.said == "tuning trials: 0 instead of 8"
    assert breach.label == "best_of_n"
    assert found(trials={}) == []  # nothing was tuned


def test_rows_with_nothing_to_tune_are_not_held_to_the_trials_of_others():
    known = facts(trials={"dpo": {"trials": 8}})
    for row in known["methods"]:
        row["has_ranges"] = row["label"] == "dpo"
    assert parity.breaches(known, done(), "b", "d") == []
    known["methods"][2]["has_ranges"] = True
    (breach,) = parity.breaches(known, done(), "b", "d")
    assert (breach.label, breach.own) == ("best_of_n", "0")


def test_what_is_not_known_of_a_row_is_named():
    known = facts({("judge", "dpo", "1"): None, ("seed", "sft", "0"): None})
    assert parity.unknown(known, "b", "d", "dpo") == ["judge"]
    assert parity.unknown(known, "b", "d", "sft") == []  # the seed is not compared
    assert len(parity.unknown(known, "b", "d", "elsewhere")) == len(EQUAL) - 1
    assert parity.unknown(known, "b", "elsewhere", "dpo") == ["all that is compared"]


def test_other_blocks_break_nothing_here():
    assert parity.breaches(facts({("judge", "dpo", "0"): "x"}), done(), "b", "elsewhere") == []


def test_the_fixed_results_break_nothing_that_all_methods_must_hold_equal():
    rows = [dict(zip(CELL_COLUMNS, map(str, row), strict=True)) for row in cells((0,))]
    assert parity.breaches(ledger((0,)), rows, "hamlet", "hamlet") == []
