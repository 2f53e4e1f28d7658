from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest
from conftest import SHARED
from tiny import tiny_policy

from harness.artifacts import FLAGS
from harness.models import base_policy
from harness.overlap import HeldOut, grams
from harness.public_data import hh_rlhf, hub, pku_saferlhf, ultrafeedback

SIDES = ("chosen", "rejected")
LONG = {"max_prompt": 400, "max_length": 600}  # tokens of one byte


def said(number, answer, about="help"):
    return f"\n\nHuman: Please {about} me {number}\n\nAssistant: {answer}"


def transcripts(file, numbers, about):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ({side: said(n, side, about) for side in ("chosen", "rejected")} for n in numbers)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(content.encode()))


@pytest.fixture
def hh(tmp_path):
    """Return a folder as the hub has HH-RLHF; ten test prompts are among the train prompts."""
    for part, about in (("helpful-base", "help"), ("harmless-base", "harm")):
        transcripts(tmp_path / part / "train.jsonl.gz", range(40), about)
        transcripts(tmp_path / part / "test.jsonl.gz", range(30, 50), about)
    return tmp_path


def asked(rows):
    return {row["messages"][0]["content"] for row in rows}


def test_hh_rlhf_has_both_axes_and_tests_on_the_prompts_of_its_test_files(make, hh):
    data = hh_rlhf(tiny_policy(seed=0), 0, path=str(hh), **LONG)
    pairs = make(data.preferences(None)).rows()
    for pair in pairs:
        about = {"helpful": "help", "safe": "harm"}[pair["axis"]]
        assert pair["messages"][0]["content"].startswith(f"Please {about} me")
        assert pair["chosen"] == ("chosen" if pair["p1"] else "rejected")
    assert Counter(p["axis"] for p in pairs).keys() == {"helpful", "safe"}
    test, train = make(data.test).rows(), make(data.prompts).rows()
    assert asked(test) == {f"Please {a} me {n}" for a in ("help", "harm") for n in range(30, 50)}
    assert Counter(row["tag"] for row in test) == {"general": 20, "red-team": 20}
    validation = asked(make(data.validation))
    assert asked(train) | validation == {
        f"Please {a} me {n}" for a in ("help", "harm") for n in range(30)
    }
    assert not asked(train) & validation


def test_the_budget_is_the_number_of_comparisons_and_of_demonstrations_learnt_from(make, hh):
    data = hh_rlhf(tiny_policy(seed=0), 0, path=str(hh), budget=17, max_test=5, **LONG)
    assert len(make(data.preferences(None)).rows()) == 17
    assert len(make(data.demonstrations).rows()) == 17
    assert len(make(data.test).rows()) == 5


def test_one_axis_alone_is_taken_by_leaving_the_others_files_out(make, hh):
    data = hh_rlhf(tiny_policy(seed=0), 0, path=str(hh), harmless="", harmless_test="", **LONG)
    assert {pair["axis"] for pair in make(data.preferences(None))} == {"helpful"}


def test_saferlhf_rows_of_several_answerers_stay_in_one_split_by_prompt(make, tmp_path):
    for who in ("Alpaca-7B", "Alpaca2-7B"):
        for name, numbers in (("train", range(60)), ("test", range(60, 70))):
            file = tmp_path / "data" / who / f"{name}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                {
                    "prompt": f"question {n}",
                    "response_0": f"{who} zero",
                    "response_1": f"{who} one",
                    "better_response_id": 0,
                    "safer_response_id": 1,
                }
                for n in numbers
            ]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = pku_saferlhf(tiny_policy(seed=0), 0, path=str(tmp_path), **LONG)
    pairs = make(data.preferences(None)).rows()
    held = asked(make(data.validation))
    assert len(held) == 3
    assert Counter(p["messages"][0]["content"] for p in pairs) == {
        f"question {n}": 2 for n in range(60) if f"question {n}" not in held
    }
    for pair in pairs:
        better = pair["chosen"] if pair["p1"] else pair["rejected"]
        assert better.endswith({"helpful": "zero", "safe": "one"}[pair["axis"]])


def test_saferlhf_flags_stay_at_their_answers_where_they_are_bought(make, tmp_path):
    rows = [
        {
            "prompt": f"question {n}",
            "response_0": "harm",
            "response_1": "care",
            "is_response_0_safe": False,
            "is_response_1_safe": True,
            "better_response_id": n % 2,
            "safer_response_id": 1,
        }
        for n in range(60)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"path": str(tmp_path), "train": "train.jsonl", "tests": "", **LONG}
    bare, bought, dealt = (
        make(pku_saferlhf(tiny_policy(seed=0), 0, **own, **more).preferences(None)).rows()
        for more in ({}, {"flags": True}, {"flags": True, "labels": "permuted"})
    )
    assert [{k: v for k, v in row.items() if k not in FLAGS} for row in bought] == bare
    for row in bought:
        assert [row[flag] for flag in FLAGS] == [row[side] == "care" for side in SIDES]
    assert any(row["chosen_safe"] != (row["chosen"] == "care") for row in dealt)
    known = [sum(row["chosen_safe"] for row in found) for found in (bought, dealt)]
    assert known[0] == known[1], "dealt out anew, the flags are the same ones"


def test_a_copy_without_flags_refuses_to_sell_them(make, tmp_path):
    row = {"prompt": "q", "response": ["a", "b"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    own = {"path": str(tmp_path), "train": "train.jsonl", "tests": "", "axis": "safe"}
    with pytest.raises(ValueError, match="set flags = false"):
        make(pku_saferlhf(tiny_policy(seed=0), 0, **own, flags=True, **LONG).preferences(None))


def test_a_set_of_the_hub_is_read_from_its_cache_at_the_commit(make, tmp_path, monkeypatch):
    from huggingface_hub import constants
    from pyarrow import Table, parquet

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "b" * 40
    folder = tmp_path / "datasets--org--set" / "snapshots" / commit
    folder.mkdir(parents=True)
    rows = [{"q": f"question {n}", "good": "a", "bad": "b"} for n in range(30)]
    parquet.write_table(Table.from_pylist(rows), folder / "train-0.parquet")
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    settings = {"hub": "org/set", "revision": commit, "train": "*.parquet", **columns}
    data = hub(tiny_policy(seed=0), 0, **settings)
    assert asked(make(data.test)) < {f"question {n}" for n in range(30)}
    same = hub(tiny_policy(seed=0), 0, path=str(folder), **settings)
    assert same.test == data.test


def test_a_folder_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hf download Anthropic/hh-rlhf --repo-type"):
        hh_rlhf(tiny_policy(seed=0), 0, path=str(tmp_path / "none"))


def test_thirteen_words_in_a_row_are_found_whatever_their_case_and_punctuation():
    words = [f"word{n}" for n in range(15)]
    held = HeldOut([[{"role": "user", "content": " ".join(words)}]])
    assert len(list(grams(" ".join(words)))) == 3
    assert held.shares_words_with(["Once, " + "; ".join(words[1:14]).upper() + "! more"])
    assert not held.shares_words_with([" ".join(words[:12])])
    assert not held.shares_words_with([" ".join([*words[:12], "other", *words[12:]])])
    assert not held.shares_words_with([" ".join(words[:7]), " ".join(words[7:])])


def real(*parts):
    file = SHARED.joinpath("data", *parts)
    if not file.exists():
        pytest.skip(f"the real rows are not here: {file}")
    return file


@pytest.mark.slow
def test_real_hh_rlhf_has_two_axes_in_one_set(make, tinystories):
    base = base_policy("stories", {"path": str(tinystories), "template": "plain"})
    files = {"helpful": "helpful/test.jsonl.gz", "harmless": "harmless-base/test.jsonl.gz"}
    none = {"helpful_test": "", "harmless_test": ""}
    data = hh_rlhf(base, 0, path=str(real("hh_rlhf")), budget=200, **files, **none)
    axes = Counter(pair["axis"] for pair in make(data.preferences(None)))
    assert sum(axes.values()) == 200
    assert min(axes["helpful"], axes["safe"]) > 50
    assert not asked(make(data.test)) & asked(make(data.prompts))


@pytest.mark.slow
def test_real_saferlhf_rows_are_split_by_prompt(make, tinystories):
    base = base_policy("stories", {"path": str(tinystories), "template": "plain"})
    real("pku_saferlhf")
    data = pku_saferlhf(
        base, 0, path=str(real("pku_saferlhf")), train="*2500.jsonl.gz", tests="", axis="safe"
    )
    pairs = make(data.preferences(None)).rows()
    assert {pair["axis"] for pair in pairs} == {"safe"}
    prompts = [asked(make(part)) for part in (data.prompts, data.validation, data.test)]
    assert len(set.union(*prompts)) == sum(map(len, prompts)) <= 818  # prompts of the file
    assert len(pairs) > len(prompts[0])


@pytest.mark.slow
def test_real_ultrafeedback_ties_are_left_out_and_gaps_are_strengths(make, tinystories):
    base = base_policy("stories", {"path": str(tinystories), "template": "plain"})
    data = ultrafeedback(
        base,
        0,
        path=str(real("ultrafeedback")),
        train="train_clean_first700.jsonl.gz",
        tests="eval_clean.jsonl.gz",
        prompt="prompt",
        chosen_score="metadata.score_chosen",
        rejected_score="metadata.score_rejected",
        max_prompt=4000,
        max_length=8000,
    )
    pairs = make(data.preferences(None)).rows()
    assert {pair["strength"] for pair in pairs} <= {1, 2, 3, 4}
    # 700 rows and 74 ties by the set's README leave 626; 5 % of the prompts are for validation, and
    # tasks written to one template repeat thirteen words of a held-out prompt.
    assert 480 < len(pairs) <= 626
