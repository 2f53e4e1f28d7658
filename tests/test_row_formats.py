from __future__ import annotations

import csv
import gzip
import json

import pytest

from harness.row_files import files_in, rows_of
from harness.row_formats import Columns, Pair, TwoAxes, judgements
from harness.sources import hub_place

PROMPT = {"prompt": "Why?"}
SCORES = Columns(chosen_score="scores.good", rejected_score="scores.bad")
RANKED = Columns(responses="answers", ranks="order")
THUMBS = Columns(completion="answer", thumb="liked")
SAFER = {"response_0": "zero", "response_1": "one", "prompt": "Why?"}


def written(folder, rows, name="rows.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(folder, rows, form, axis="helpful"):
    return list(judgements(written(folder, rows), form, axis))


def sides(found):
    return [(one.chosen, one.rejected) if isinstance(one, Pair) else one for one in found]


@pytest.mark.parametrize(
    ("good", "bad", "strength"), [(6, 5.5, 1), (6, 5, 2), (8, 6.5, 3), (9, 6, 4), (9.0, 8.5, 1)]
)
def test_gaps_between_scores_are_strengths(tmp_path, good, bad, strength):
    row = {**PROMPT, "chosen": "a", "rejected": "b", "scores": {"good": good, "bad": bad}}
    (found,) = read(tmp_path, [row], SCORES)
    assert (found.strength, found.chosen) == (strength, "a")


def test_equal_scores_and_scores_against_the_order_make_no_pair_and_say_why(tmp_path):
    row = {**PROMPT, "chosen": "a", "rejected": "b"}
    rows = [{**row, "scores": {"good": good, "bad": 5}} for good in (5, 4)]
    assert read(tmp_path, rows, SCORES) == ["equal_scores", "scores_contradict_the_order"]


def test_a_ranking_is_one_comparison_of_its_best_with_its_worst(tmp_path):
    row = {**PROMPT, "answers": ["a", "b", "c", "d"], "order": [3, 1, 4, 2]}
    assert sides(read(tmp_path, [row], RANKED)) == [("b", "c")]
    listed = {**PROMPT, "answers": ["first", "second", "third"]}
    assert sides(read(tmp_path, [listed], Columns(responses="answers"))) == [("first", "third")]
    tied = {**PROMPT, "answers": ["a", "b"], "order": [1, 1]}
    assert read(tmp_path, [tied], RANKED) == ["equal_ranks"]


def test_thumbs_pair_each_liked_answer_with_one_disliked_answer_to_the_same_prompt(tmp_path):
    rows = [
        {"prompt": prompt, "answer": f"{prompt} {number}", "liked": liked}
        for prompt, given in {"p": [True, 1, "down"], "q": [0, "up"], "r": ["true"]}.items()
        for number, liked in enumerate(given)
    ]
    found = read(tmp_path, rows, THUMBS)
    pairs = {one.chosen[0]: one for one in found if isinstance(one, Pair)}
    assert set(pairs) == {"p", "q"}
    assert pairs["p"].rejected == "p 2"
    assert pairs["p"].chosen in ("p 0", "p 1")
    assert sides([pairs["q"]]) == [("q 1", "q 0")]
    assert found.count("thumb_without_an_opposite") == 2


def test_thumbs_stand_in_whole_conversations_too(tmp_path):
    asked, said = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    rows = [
        {"messages": [asked, said], "label": True},
        {"messages": [asked, {**said, "content": "No."}], "label": False},
    ]
    form = Columns(prompt="", completion="messages", thumb="label")
    assert sides(read(tmp_path, rows, form)) == [("So.", "No.")]


@pytest.mark.parametrize(("helpful", "safer"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_row_of_two_axes_is_judged_once_on_the_axis_that_is_asked_for(tmp_path, helpful, safer):
    row = {**SAFER, "better_response_id": helpful, "safer_response_id": safer}
    names = ("zero", "one")
    for axis, best in (("helpful", helpful), ("safe", safer)):
        (found,) = read(tmp_path, [row], TwoAxes(axis))
        assert (found.axis, found.chosen) == (axis, names[best])
        assert found.rejected == names[1 - best]


def test_a_coin_gives_all_rows_of_a_prompt_one_axis_and_prompts_both_axes(tmp_path):
    labels = {"better_response_id": 0, "safer_response_id": 1}
    rows = [{**SAFER, **labels, "prompt": f"Why {n}?"} for n in range(200) for _ in range(2)]
    found = read(tmp_path, rows, TwoAxes(None))
    axes = {}
    for pair in found:
        axes.setdefault(pair.prompt_id, set()).add(pair.axis)
        assert pair.chosen == {"helpful": "zero", "safe": "one"}[pair.axis]
    assert all(len(one) == 1 for one in axes.values())
    safe = sum("safe" in one for one in axes.values())
    assert 60 < safe < 140  # 5.6 standard deviations of 200 coins


def test_the_axis_and_the_strength_may_be_columns(tmp_path):
    row = {**PROMPT, "chosen": "a", "rejected": "b", "about": "safe", "how": 3}
    (found,) = read(tmp_path, [row], Columns(axis="about", strength="how"))
    assert (found.axis, found.strength) == ("safe", 3)


NAN = float("nan")
PAIR = {**PROMPT, "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("row", "form", "message"),
    [
        (PAIR, Columns(axis="about"), "no column 'about'; it has chosen, prompt, rejected"),
        ({**PAIR, "about": "kind"}, Columns(axis="about"), "axis 'kind': a row is judged for"),
        ({**PAIR, "how": 5}, Columns(strength="how"), "strength 5: 1"),
        ({**PAIR, "scores": {"good": 1}}, SCORES, "no column 'scores.bad'"),
        ({**PAIR, "scores": {"good": "x", "bad": 1}}, SCORES, "holds a number, not 'x'"),
        ({**PROMPT, "answers": ["a"], "order": [1]}, RANKED, "two or more answers"),
        ({**PROMPT, "answers": ["a", "b"], "order": [1]}, RANKED, "one rank for each"),
        ({**PROMPT, "answers": ["a", "b"], "order": ["x", 1]}, RANKED, "a rank is a number"),
        ({**PROMPT, "answers": ["a", "b"], "order": [NAN, 1]}, RANKED, "a finite number, not nan"),
        ({**PROMPT, "answers": ["a", "b"], "order": [1, NAN]}, RANKED, "a finite number, not nan"),
        ({**PROMPT, "answers": ["a", "b"], "order": [10**400, 1]}, RANKED, "a number, not 1000"),
        ({**PROMPT, "answer": "a", "liked": "maybe"}, THUMBS, "thumb 'maybe': write true or false"),
        ({**PROMPT, "answer": "a", "liked": None}, THUMBS, "thumb None"),
        (SAFER, TwoAxes("safe"), "no column 'safer_response_id'"),
        ({**SAFER, "safer_response_id": 2}, TwoAxes("safe"), "is 0 or 1, not 2"),
        ({**PROMPT, "response": ["a", "b"]}, TwoAxes(None), 'set axis = "safe"'),
        ({**PROMPT, "response": ["a"]}, TwoAxes("safe"), "two answers, the safer one first"),
    ],
)
def test_a_row_that_is_not_as_the_form_says_is_named_with_the_remedy(tmp_path, row, form, message):
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, [row], form)
    assert str(raised.value).startswith(f"{tmp_path}/rows.jsonl, line 1: ")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"completion": "a"}, "completion and thumb go together"),
        ({"ranks": "a"}, "name the column of responses too"),
        ({"prompt": "", "responses": "a"}, "name the column of what was asked"),
        ({"chosen_score": "a"}, "chosen_score and rejected_score go together"),
    ],
)
def test_columns_that_mean_nothing_alone_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Columns(**columns)


def test_every_kind_of_file_holds_the_same_rows(tmp_path):
    from pyarrow import Table, parquet

    rows = [{"prompt": f"Why,\n{n}?", "chosen": "ä", "rejected": '"b"'} for n in range(3)]
    written(tmp_path, rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    parquet.write_table(Table.from_pylist(rows), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
        writer.writeheader()
        writer.writerows(rows)
    for name in ("rows.jsonl", "rows.json", "rows.json.gz", "rows.parquet", "rows.csv"):
        assert [row for _, row in rows_of(tmp_path / name)] == rows, name


def test_a_file_of_another_kind_is_refused_with_the_kinds_that_are_read(tmp_path):
    (tmp_path / "rows.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rows\.pkl: rows are read from \.jsonl, \.json"):
        list(rows_of(tmp_path / "rows.pkl"))


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", "[torn"])
def test_json_that_is_no_list_of_objects_is_named(tmp_path, content):
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/rows\.json"):
        list(rows_of(tmp_path / "rows.json"))


WHOLE = gzip.compress("".join(f'{{"prompt": "{n * 7919}"}}\n' for n in range(500)).encode())


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("half.jsonl.gz", WHOLE[: len(WHOLE) // 2], "copy it again"),
        ("plain.jsonl.gz", b'{"prompt": "a"}\n', "copy it again"),
        ("half.parquet", b"PAR1....", "copy it again"),
        ("latin.jsonl", '{"prompt": "caf\xe9"}\n'.encode("latin-1"), "Save the file as UTF-8"),
        ("half.jsonl", b'{"prompt": "a', "A row is one JSON object, such as"),
    ],
)
def test_a_file_that_is_torn_or_of_another_kind_is_named_with_the_remedy(
    tmp_path, name, content, remedy
):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=remedy) as raised:
        list(rows_of(file))
    assert str(raised.value).startswith(str(file))


def test_a_pattern_takes_a_folders_files_and_a_missing_one_says_what_is_there(tmp_path):
    for name in ("train-1.jsonl", "train-0.jsonl", "other.jsonl"):
        written(tmp_path, [PAIR], name)
    assert [f.path for f in files_in(tmp_path, "train-*.jsonl")] == [
        str(tmp_path / f"train-{n}.jsonl") for n in (0, 1)
    ]
    with pytest.raises(FileNotFoundError, match=r"no file test.* it has other\.jsonl, train-0"):
        files_in(tmp_path, "test-*.jsonl")


def test_a_commit_of_the_hub_that_is_not_here_says_what_to_fetch_and_where_it_goes(
    tmp_path, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    with pytest.raises(FileNotFoundError, match="hf download org/set --repo-type dataset"):
        hub_place("dataset", "org/set", commit)
    folder = tmp_path / "datasets--org--set" / "snapshots" / commit
    folder.mkdir(parents=True)
    assert hub_place("dataset", "org/set", commit) == folder
    for revision in (None, "main", "a" * 39):
        with pytest.raises(ValueError, match="names such as main move"):
            hub_place("dataset", "org/set", revision)
    with pytest.raises(ValueError, match="write the name that the hub has"):
        hub_place("dataset", "../set", commit)
