"""Results of a study of toy stages: whole, partial, damaged, and the same bytes every time."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import toy_study
from fixed_results import write_results
from tiny import tiny_policy

from harness import plain_text
from harness.artifacts import Policy, Preferences, Prompts, Rankings, RewardModel, write_rows
from harness.draft import Draft
from harness.judge import ByTag, Prompted, Reward
from harness.label_budget import LabelBudget
from harness.ledger import Book
from harness.report import write_report
from harness.results import (
    CELLS,
    ITEM_COLUMNS,
    ITEMS,
    LEDGER,
    SCORE_COLUMNS,
    SCORES,
    collect,
    read_csv,
    read_items,
    read_ledger,
    replacing,
)
from harness.run import in_order, run
from harness.stage import Artifact
from harness.stages.contest import winners
from harness.stages.optimise import COLUMNS as OPTIMISED
from harness.stages.optimise import optimise
from harness.store import Store
from harness.study import Study
from harness.study_file import InputError
from harness.transcripts import ANSWERS, CURVES, points_of, read_answers

STUDY = f"""
schema = 1
name = "toy"
seeds = [0, 1]
plugins = ['{toy_study.__file__}']
[bases.tiny]
[datasets.toy]
[methods.toy_sft]
[methods.toy_dpo]
[methods.firm]
method = "toy_dpo"
beta = 0.5
[evaluation]
suites = ["toy_help"]
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    toy_study.install(monkeypatch.setattr)


@pytest.fixture
def load(tmp_path):
    def load(text=STUDY):
        file = tmp_path / "toy.toml"
        file.write_text(text)
        return Study.load(file)

    return load


def targets(study):
    return [target for cell in study.cells() for target in cell.targets]


def produced(study, store):
    run(targets(study), store, workers=0)
    return store


@pytest.fixture
def done(load, tmp_path):
    study = load()
    return study, produced(study, Store(tmp_path / "store"))


def by_label(folder):
    return {(row["label"], row["seed"]): row for row in read_csv(folder / CELLS)}


def test_files_have_exactly_the_agreed_columns(done, tmp_path):
    collect(*done, tmp_path / "out")
    assert tuple(pq.read_schema(tmp_path / "out" / ITEMS).names) == ITEM_COLUMNS
    with (tmp_path / "out" / SCORES).open(newline="") as lines:
        assert tuple(next(csv.reader(lines))) == SCORE_COLUMNS
    assert ",".join(SCORE_COLUMNS) == (
        "study,base,dataset,method,label,seed,suite,axis,metric,higher_is_better,decoding,judge,"
        "population,claim,value,stderr,n,n_seeds,artifact"
    )
    assert ",".join(ITEM_COLUMNS) == (
        "study,base,dataset,label,seed,suite,metric,decoding,prompt_id,cluster,sample,order,judge,"
        "population,value,class,length,opponent_length,findings,numerics"
    )


def test_scores_are_the_means_of_the_items_each_seed_and_all_seeds(done, tmp_path):
    study, store = done
    collect(study, store, tmp_path / "out")
    rows = read_csv(tmp_path / "out" / SCORES)
    found = {(row["label"], row["seed"]): row for row in rows}
    cell = next(c for c in study.cells() if (c.label, c.seed) == ("toy_dpo", 1))
    values = [row["value"] for row in store.open(cell.scores["toy_help"])]
    row = found["toy_dpo", "1"]
    assert float(row["value"]) == pytest.approx(sum(values) / len(values))
    assert (row["n"], row["n_seeds"], row["claim"], row["axis"]) == (
        "4", "1", "checkpoint", "helpfulness",
    )  # fmt: skip
    assert row["artifact"] == cell.scores["toy_help"].id
    assert row["higher_is_better"] == "true"
    together = found["toy_dpo", "all"]
    assert (together["n_seeds"], together["claim"]) == ("2", "checkpoint")  # two seeds are no claim
    assert len(rows) == 3 * 3


def test_equal_inputs_make_equal_bytes_also_from_another_store(done, load, tmp_path):
    study, store = done
    collect(study, store, tmp_path / "one")
    collect(study, store, tmp_path / "two")
    other = produced(load(), Store(tmp_path / "elsewhere"))
    collect(study, other, tmp_path / "three")
    for name in (ITEMS, SCORES, LEDGER, CELLS, ANSWERS, CURVES):
        same = (tmp_path / "one" / name).read_bytes()
        assert same == (tmp_path / "two" / name).read_bytes()
        if name != CELLS:
            assert same == (tmp_path / "three" / name).read_bytes()


def test_a_partial_matrix_gives_each_cell_one_state_and_scores_what_is_there(load, tmp_path):
    study = load(STUDY + '[methods.bad]\nmethod = "toy_dpo"\nfault = "raise"\n')
    store = produced(study, Store(tmp_path / "store"))
    collect(study, store, tmp_path / "out")
    cells = by_label(tmp_path / "out")
    assert len(cells) == len(study.cells()) == 8
    assert {key: row["state"] for key, row in cells.items() if row["state"] != "done"} == {
        ("bad", "0"): "failed",
        ("bad", "1"): "failed",
    }
    assert "the toy trainer broke" in cells["bad", "0"]["reason"]
    labels = {row["label"] for row in read_csv(tmp_path / "out" / SCORES)}
    assert labels == {"toy_sft", "toy_dpo", "firm"}


def test_nothing_made_yet_is_a_matrix_of_pending_cells(load, tmp_path):
    study = load()
    collect(study, Store(tmp_path / "empty"), tmp_path / "out")
    assert {row["state"] for row in read_csv(tmp_path / "out" / CELLS)} == {"pending"}
    assert read_csv(tmp_path / "out" / SCORES) == []
    assert not (tmp_path / "empty").exists()


def test_scores_that_fail_their_digest_are_stale_and_never_read(done, tmp_path):
    study, store = done
    cell = next(c for c in study.cells() if (c.label, c.seed) == ("firm", 0))
    file = store.path(cell.scores["toy_help"].id) / "rows.jsonl.gz"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(whole))
    collect(study, store, tmp_path / "out")
    row = by_label(tmp_path / "out")["firm", "0"]
    assert row["state"] == "stale"
    assert cell.scores["toy_help"].id in row["reason"]
    seeds = {s.label: m.seeds for s, m in read_items(tmp_path / "out").items()}
    assert seeds == {"toy_sft": [0, 1], "toy_dpo": [0, 1], "firm": [1]}


def test_shares_of_shared_stages_add_up_to_what_was_made_once(done, tmp_path):
    study, store = done
    collect(study, store, tmp_path / "out")
    rows = read_csv(tmp_path / "out" / CELLS)
    once = {a.id for cell in study.cells() for a in in_order([cell.policy])}
    total = sum(store.manifest(id)["seconds"] for id in once)
    shared = sum(float(row["seconds_with_share"]) for row in rows)
    assert shared == pytest.approx(total, abs=0.05 * len(rows))  # each is rounded to 0.1 s


def test_counters_are_those_of_the_method_alone_and_evaluation_stands_apart(done, tmp_path):
    study, store = done
    collect(study, store, tmp_path / "out")
    row = by_label(tmp_path / "out")["toy_dpo", "0"]
    assert row["tokens_trained"] == "100"  # the SFT it starts from
    assert row["tokens_generated"] == "0"
    assert row["evaluation_tokens_generated"] == "14"  # two decodings at 7
    assert row["judge_calls"] == "0"  # the judge's calls belong to evaluation


def test_ledger_knows_roles_labels_and_what_differs(done, tmp_path):
    collect(*done, tmp_path / "out")
    ledger = json.loads((tmp_path / "out" / LEDGER).read_text())
    assert {row["label"]: row["role"] for row in ledger["methods"]} == {
        "toy_sft": "sft",
        "toy_dpo": "method",
        "firm": "method",
    }
    lines = {line["item"]: line["values"] for line in ledger["control"]}
    assert lines["labels, human"]["toy_dpo"] == {"0": "4", "1": "4"}
    assert lines["labels, human"]["toy_sft"] == {"0": "0", "1": "0"}
    assert lines["base weights"]["toy_sft"] == lines["base weights"]["firm"]
    assert lines["SFT start"]["toy_sft"] == lines["SFT start"]["toy_dpo"]
    assert lines["SFT start"]["toy_dpo"]["0"] != lines["SFT start"]["toy_dpo"]["1"]
    assert lines["tokenizer"]["toy_dpo"]["0"] is None  # toys have none, so it is unknown


def test_examples_show_the_same_prompts_for_every_row(done, tmp_path):
    collect(*done, tmp_path / "out")
    examples = json.loads((tmp_path / "out" / LEDGER).read_text())["examples"]
    assert len(examples) == 4
    assert all(set(e["answers"]) == {"toy_sft", "toy_dpo", "firm"} for e in examples)


def test_answers_and_curves_travel_with_the_results(done, tmp_path):
    study, store = done
    collect(study, store, tmp_path / "out")
    lines = list(read_answers(tmp_path / "out"))
    cell = next(c for c in study.cells() if (c.label, c.seed) == ("firm", 0))
    for decoding, samples in cell.samples.items():
        drawn = {r["prompt_id"]: r for r in store.open(samples) if r["sample"] == 0}
        kept = [line for line in lines if line["decoding"] == decoding]
        assert {line["prompt_id"] for line in kept} == set(drawn)
        for line in kept:
            assert set(line["answers"]) == {"toy_sft", "toy_dpo", "firm"}
            assert line["answers"]["firm"]["text"] == drawn[line["prompt_id"]]["completion"]
            assert line["answers"]["firm"]["seed"] == 0
    assert "truth" not in json.dumps(lines)


def test_curves_are_thinned_and_keep_their_ends(tmp_path):
    file = tmp_path / "curves.csv"
    file.write_text("step,kl,other\n" + "".join(f"{i},{i / 10},7\n" for i in range(1, 1001)))
    points = list(points_of(file))
    assert (len(points), points[0], points[-1]) == (60, (1, "kl", 0.1), (1000, "kl", 100.0))


def test_all_that_optimisation_measures_of_itself_is_kept(tmp_path):
    names = ["proxy", "reward", "kl", "length", "eos_rate", "entropy"]
    names += ["clip_fraction", "explained_variance"]
    assert {*names} <= {*OPTIMISED}, "the stage writes them"
    file = tmp_path / "curves.csv"
    file.write_text(",".join(OPTIMISED) + "\n" + ",".join(["1"] * len(OPTIMISED)) + "\n")
    assert sorted(column for _, column, _ in points_of(file)) == sorted(names)


def pairs_of(*labels):
    return [{"pair_id": p, "axis": a, "population": None, "source": s} for p, a, s in labels]


def test_labels_count_where_training_reads_them_once_and_by_who_made_them(tmp_path):
    """Four people's labels: relabelled ones are the model's, and no human label is used."""
    store = FakeStore(
        {
            "human": pairs_of(*((f"p{i}", "helpful", "human") for i in range(4))),
            "ai": pairs_of(*((f"p{i}", "helpful", "ai") for i in range(4))),
            "half": pairs_of(*((f"p{i}", "helpful", "human") for i in range(2))),
            "both": pairs_of(("p0", "helpful", "human"), ("p3", "helpful", "ai")),
        }
    )
    human = fake(Preferences, "human")
    ai, half = fake(Preferences, "ai", human), fake(Preferences, "half", human)
    both = fake(Preferences, "both", human, ai)
    count = LabelBudget(store).count
    assert count([human, ai, fake(RewardModel, "r", ai)]) == {"ai": 4}
    assert count([human, half, fake(RewardModel, "r", half)]) == {"human": 2}
    twice = [human, half, fake(RewardModel, "r", half), fake(Policy, "p", human)]
    assert count(twice) == {"human": 4}
    assert count([both, fake(Policy, "p", both)]) == {"human": 1, "ai": 1}
    assert count([human]) == {}
    missing = fake(Preferences, "missing")
    assert count([missing, fake(Policy, "p", missing)]) is None


def test_a_contest_is_paid_whole_also_the_matches_that_no_pair_was_made_of():
    """Three answers meet three times; two pairs are far enough apart, and one is replayed."""
    first = [(f"m{i}", "helpful", "human") for i in range(3)]
    later = [(f"n{i}", "helpful", "human") for i in range(3)]
    store = FakeStore(
        {
            "first": pairs_of(*first),
            "pairs": pairs_of(*first[:2]),
            "later": pairs_of(*later),
            "again": pairs_of(later[0]),
            "both": pairs_of(later[0], first[1]),
        }
    )
    kept = winners(fake(Preferences, "first"), margin=0.5).at("pairs")
    again = winners(fake(Preferences, "later"), margin=0.5)
    store |= {kept.id: store["pairs"], again.id: store["again"]}
    both = fake(Preferences, "both", again, kept)
    contests = [*kept.inputs, *again.inputs]
    closure = [*contests, kept, again, both, fake(Policy, "p", both)]
    assert LabelBudget(store).count(closure) == {"human": 6}


def test_a_ranking_counts_as_the_comparisons_that_it_implies():
    """Four answers imply six, three imply three; two rankings of one prompt are on two axes."""
    row = {"prompt_id": "q", "population": None, "source": "ai"}
    four = {**row, "axis": "helpful", "responses": list("abcd"), "ranks": [1, 2, 2, 4]}
    three = {**row, "axis": "safe", "responses": list("abc"), "ranks": [1, 2, 3]}
    ranked = fake(Rankings, "ranked")
    count = LabelBudget(FakeStore({"ranked": [four, three]})).count
    assert count([ranked, fake(RewardModel, "r", ranked)]) == {"ai": 9}
    assert count([ranked, *(fake(RewardModel, name, ranked) for name in "rs")]) == {"ai": 9}


def test_grades_of_single_answers_by_the_labeller_are_labels_and_a_reward_models_are_not():
    labeller = Prompted(tiny_policy(seed=1))
    prompts, model = fake(Prompts, "prompts"), fake(RewardModel, "model")
    asked = ByTag(general=labeller.on("helpful"), red_team=labeller.on("safe"))
    how = {"value": None, "max_new_tokens": 4, "passes": 1.0, "seed": 0}
    rated = optimise(tiny_policy(seed=0), prompts, reward=asked, **how)
    learnt = optimise(tiny_policy(seed=0), prompts, reward=Reward(model), **how)
    book = object.__new__(Book)
    book.budget = LabelBudget(FakeStore())
    book.trained = {"rated": [rated], "learnt": [learnt]}
    book.manifests = {made.id: {"counters": {"judge_calls": 7}} for made in (rated, learnt)}
    cell = SimpleNamespace(name="rated", shared=SimpleNamespace(labeller=labeller))
    assert book.labels(cell) == {"ai_rating": 7}
    assert book.labels(SimpleNamespace(name="learnt", shared=cell.shared)) == {}
    assert book.labels(SimpleNamespace(name="rated", shared=SimpleNamespace(labeller=None))) == {}
    book.manifests = {}
    assert book.labels(cell) is None, "not known before it is made"


class FakeStore(dict):
    """Preferences by id; an artifact is made if it is there."""

    def __contains__(self, artifact):
        return dict.__contains__(self, artifact.id)

    def open(self, artifact):
        return self[artifact.id]


def fake(kind, id, *inputs):
    made = type(kind.__name__, (kind,), {"inputs": list(inputs)})(id)
    Artifact.kinds[kind.__name__] = kind
    return made


def test_items_outside_the_contract_are_refused(done, tmp_path, monkeypatch):
    study, store = done
    rows = store.open(study.cells()[0].scores["toy_help"]).rows()
    folder = tmp_path / "bad"
    folder.mkdir()
    write_rows(Draft(folder), [{**rows[0], "class": "fine"}])
    monkeypatch.setattr(Book, "opened", lambda book, scores: scores.at(folder))
    with pytest.raises(ValueError, match="class 'fine'"):
        collect(study, store, tmp_path / "out")
    assert not (tmp_path / "out" / ITEMS).exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("old")

    def broken():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.csv"]


def test_collecting_imports_no_torch(tmp_path):
    code = (
        "import sys; import harness.results, harness.report; "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=cmd()", "'=cmd()"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("+1", "'+1"),
        (-0.5, "-0.5"),
        (float("nan"), ""),
        (None, ""),
        (True, "true"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("a\u202eb\x00c", "abc"),
    ],
)
def test_csv_cells_hold_no_formula_and_no_escape(value, written):
    assert plain_text.cell(value) == written


def test_long_text_is_cut_and_says_so():
    assert plain_text.clean("x" * 5_000_000, longest=10) == "xxxxxxxxxx [cut: 5,000,000 characters]"
    assert plain_text.clean("\ud800ok") == "ok"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ("{}", "of another version: it lacks study, methods"),
    ],
)
def test_a_ledger_of_another_version_is_an_error_with_its_remedy(tmp_path, text, said):
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        read_ledger(tmp_path)
    assert "`report` of its study writes it anew" in str(raised.value)


def test_a_ledger_whose_served_judges_are_a_total_is_refused_before_any_table(tmp_path):
    folder = write_results(tmp_path)
    facts = json.loads((folder / LEDGER).read_text())
    totals = {"endpoint": {"calls": 3, "answer_tokens": 9}}
    (folder / LEDGER).write_text(json.dumps({**facts, **totals}))
    with pytest.raises(InputError, match="lacks endpoint by artifact"):
        write_report(folder)
    assert not (folder / "report.html").exists()
