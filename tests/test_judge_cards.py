"""Judge cards of a results folder, and what its ledger says of judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy_study

from harness.judge_cards import judge_cards
from harness.judge_keys import missing_keys
from harness.ledger import Book
from harness.rating_folder import RATINGS
from harness.report.judging import judge_table, judge_warnings
from harness.results import ITEM_COLUMNS, ITEMS, LEDGER, TEXTS, WHOLE
from harness.store import Store
from harness.study import Study


def item(metric, judge, value, prompt, *, label="dpo", kind="valid", findings=(), **changes):
    return {
        "study": "s", "base": "b", "dataset": "d", "label": label, "seed": 0, "suite": "any",
        "metric": metric, "decoding": "T=1", "prompt_id": f"p{prompt}", "cluster": "", "sample": 0,
        "order": "", "judge": judge, "population": "", "value": value, "class": kind, "length": 7,
        "opponent_length": 5, "findings": json.dumps(list(findings)), "numerics": "", **changes,
    }  # fmt: skip


def write_items(file, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(WHOLE, pa.int64())
    types["value"] = pa.float64()
    schema = pa.schema([(name, types[name]) for name in ITEM_COLUMNS])
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


@pytest.fixture
def results(tmp_path):
    """Return a function that writes a folder of results in which a judge is right 3 times of 4."""

    def write(*, truth=True, people=False, own=()):
        rows = [item("length", "", 7.0, n) for n in range(4)]
        for n in range(4):
            p = 0.9 if n else 0.2
            said = [["p", str(p)], ["p_as_first", str(p)], ["p_as_second", str(p)]]
            rows.append(item("judged_win_rate", "Endpoint", float(p > 0.5), n, findings=said))
            rows += [item("win_rate", "gold", 1.0, n)] if truth else []
        write_items(tmp_path / ITEMS, rows)
        ledger = {"judges": {"Endpoint": {"judge": "Endpoint abc", "own_rows": list(own)}}}
        (tmp_path / LEDGER).write_text(json.dumps(ledger))
        if people:
            votes = [[1.0, 1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.5, 0.0]]
            name = "helpful_win_rate_against_sft"
            rated = [item(name, "people", v, n) for n, given in enumerate(votes) for v in given]
            rated.append(item("safe_win_rate_against_sft", "people", 1.0, 3))
            write_items(tmp_path / RATINGS / ITEMS, rated)
        return tmp_path

    return write


def test_a_card_sets_a_judge_beside_the_truth(results):
    (card,) = judge_cards(results())
    assert (card.judge, card.reference, card.pairs) == ("Endpoint", "gold", 4)
    assert card.agreement.value == 0.75
    assert card.swap_consistency.value == 1.0
    assert card.self_preference is None


def test_people_are_a_reference_by_their_majority_and_their_ties_are_none(results):
    cards = {card.reference: card for card in judge_cards(results(people=True))}
    assert set(cards) == {"gold", "people"}
    # They prefer the row's answer to p0, the opponent's to p1 and p3, and are split on p2.
    assert cards["people"].agreement.n == 3
    assert cards["people"].agreement.value == 0.0


def test_without_a_reference_a_card_says_what_the_verdicts_alone_show(results):
    (card,) = judge_cards(results(truth=False))
    assert (card.reference, card.agreement, card.gate) == ("nobody", None, "unknown")


def test_rows_of_the_judges_own_model_are_those_that_the_ledger_names(results, tmp_path):
    folder = results(own=["dpo"])
    assert judge_cards(folder)[0].self_preference is None, "no other rows to compare with"
    rows = [item("win_rate", "gold", 0.0, n, label=x) for n in range(4) for x in ("dpo", "ppo")]
    for n in range(4):
        rows.append(item("judged_win_rate", "Endpoint", 1.0, n, findings=[["p", "0.9"]]))
        rows.append(item("judged_win_rate", "Endpoint", 0.0, n, label="ppo"))
    write_items(folder / ITEMS, rows)
    assert judge_cards(folder)[0].self_preference.value == 1.0


def test_a_study_without_verdicts_has_no_card(tmp_path):
    write_items(tmp_path / ITEMS, [item("win_rate", "gold", 1.0, 0)])
    (tmp_path / LEDGER).write_text("{}")
    assert judge_cards(tmp_path) == []


def test_the_table_has_a_column_a_card_and_leaves_out_what_is_unknown(results):
    found = judge_table(judge_cards(results(people=True)))
    assert list(found.columns) == ["", "Endpoint, beside gold", "Endpoint, beside people"]
    said = {row[0].text: [cell.text for cell in row[1:]] for row in found.rows}
    assert said["pairs"] == ["4", "4"]
    assert said["agreement with the reference"][0].startswith("0.750")
    assert said["self-preference"] == ["", ""]
    assert said["gate"] == ["unknown", "unknown"]
    cell = next(row[1] for row in found.rows if row[0].text == "agreement with the reference")
    assert (cell.estimate.n, cell.order) == (4, 0.75)


def test_a_failed_gate_is_a_sentence_and_no_judge_is_no_table(results, tmp_path):
    assert judge_warnings(judge_cards(results())) == []
    rows = []
    for n in range(4):
        said = [["p", "0.5"], ["p_as_first", "0.9"], ["p_as_second", "0.1"]]
        rows.append(item("judged_win_rate", "Endpoint", 0.5, n, kind="tie", findings=said))
    write_items(tmp_path / ITEMS, rows)
    (said,) = judge_warnings(judge_cards(tmp_path))
    assert said.startswith(
        "Mechanics only: the judge Endpoint fails its gate (most of its verdicts"
    )
    write_items(tmp_path / ITEMS, [item("length", "", 7.0, 0)])
    assert judge_table(judge_cards(tmp_path)) is None
    assert judge_warnings(judge_cards(tmp_path)) == []


STUDY = f"""
schema = 1
name = "toy"
seeds = [0]
plugins = ['{Path(__file__).with_name("toy_study.py")}']
[bases.tiny]
[datasets.toy]
[methods.toy_sft]
[judge]
plugin = "endpoint"
url = "http://host/v1"
model = "m"
api_key_env = "JUDGE_KEY"
[evaluation]
suites = ["preference"]
"""


def test_the_ledger_names_the_judge_and_what_served_judges_cost(tmp_path, monkeypatch):
    toy_study.install(monkeypatch.setattr)
    monkeypatch.setenv("JUDGE_KEY", "sk-SENTINEL-0123456789")
    (tmp_path / "study.toml").write_text(STUDY)
    study = Study.load(tmp_path / "study.toml")
    book = Book(study, Store(tmp_path / "store"))
    said = book.to_json()
    assert said["judges"]["Endpoint"]["own_rows"] == []
    assert said["judges"]["Endpoint"]["judge"].startswith("Endpoint ")
    assert said["endpoint"] == {}
    (scores,) = study.cells()[0].scores.values()
    counters = {"endpoint_calls": 3, "endpoint_tokens_read": 40, "seconds": 1}
    manifest = {"counters": counters, "recipe": {"stage": "s", "version": 1}, "payload": "0" * 64}
    monkeypatch.setitem(book.manifests, scores.id, manifest)
    counts = {"calls": 3, "tokens_read": 40, "tokens_written": 0, "invalid": 0, "floored": 0}
    assert book.endpoint() == {scores.id: counts}
    assert "SENTINEL" not in json.dumps(said)


def test_a_run_without_the_judges_key_is_refused_before_any_work(tmp_path, monkeypatch):
    from harness.launch import run_study
    from harness.study_file import InputError

    toy_study.install(monkeypatch.setattr)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    (tmp_path / "study.toml").write_text(STUDY)
    study = Study.load(tmp_path / "study.toml")
    results, store = tmp_path / "results", Store(tmp_path / "store")
    with pytest.raises(InputError, match="JUDGE_KEY is not set; export the key in it"):
        run_study(study, store, results, workers=0, threads=1, retry=False)
    assert not store.root.exists()
    assert not results.exists()
    made = {target for cell in study.cells() for target in cell.targets}
    monkeypatch.setenv("JUDGE_KEY", "sk-SENTINEL-0123456789")
    assert missing_keys(made) == []
