from __future__ import annotations

import json

import pytest
from tiny import write_policy
from typer.testing import CliRunner

from harness.run import in_order
from harness.study import Study
from harness.study_commands import app
from harness.study_file import InputError
from harness.study_writer import write_study

SAID = {"role": "assistant", "content": "So."}
ASKED = {"role": "user", "content": "Why?"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "mine"
    folder.mkdir()
    write_policy(folder)
    return folder


def rows_in(folder, rows, name="mine.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


PAIRS = [{"prompt": f"Why {n}?", "chosen": "a", "rejected": "b"} for n in range(30)]


@pytest.mark.parametrize(
    "rows",
    [
        PAIRS,
        [{"chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "No."}]}],
        [{"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [2, 1, 3]}],
        [{"prompt": "Why?", "responses": ["a", "b"]}],
        [{"prompt": "Why?", "completion": c, "label": c == "a"} for c in "ab"],
        [{"messages": [ASKED, {**SAID, "content": c}], "label": c == "a"} for c in "ab"],
    ],
)
def test_a_written_study_is_valid_for_every_form_of_rows(tmp_path, model, rows):
    said = write_study("mine", model, rows_in(tmp_path, rows), tmp_path)
    count = len(rows) if "label" not in rows[0] else 1
    assert f"{count} pairs of mine.jsonl" in said
    cells = Study.load(tmp_path / "mine.toml").cells()
    assert [cell.label for cell in cells] == ["base", "sft", "dpo", "best_of_n", "ppo"]


def test_a_written_study_reads_its_rows_with_the_columns_it_names(make, tmp_path, model):
    rows = [{"prompt": f"Why {n}?", "responses": ["a", "b"], "ranks": [2, 1]} for n in range(40)]
    write_study("mine", model, rows_in(tmp_path, rows), tmp_path)
    (cell,) = [c for c in Study.load(tmp_path / "mine.toml").cells() if c.label == "sft"]
    tables = [a for a in in_order(cell.targets) if a.recipe.stage.name == "read_pairs"]
    assert {(row["chosen"], row["rejected"]) for row in make(tables[0])} == {("b", "a")}


def test_the_command_says_what_it_wrote_and_what_was_left_out(tmp_path, model):
    torn = {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: y\n\nAssistant: b"}
    fine = {side: f"\n\nHuman: x\n\nAssistant: {side}" for side in ("chosen", "rejected")}
    file = rows_in(tmp_path, [fine, torn])
    arguments = ["mine", "--model", str(model), "--data", str(file), "--in", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "1 pairs of mine.jsonl" in done.output
    assert "left out: 1 rows, conversations differ before the answer" in done.output
    assert 'prompt = ""' in (tmp_path / "mine.toml").read_text()


OWN = [{"question": f"Why {n}?", "good": "a", "bad": "b"} for n in range(30)]
NAMED = ("prompt=question", "chosen=good", "rejected=bad")


def test_columns_of_ones_own_are_named_and_stand_in_the_study(make, tmp_path, model):
    file = rows_in(tmp_path, OWN)
    with pytest.raises(InputError, match=r"bad, good, question.*--column prompt=asked"):
        write_study("mine", model, file, tmp_path)
    write_study("mine", model, file, tmp_path, NAMED)
    (cell,) = [c for c in Study.load(tmp_path / "mine.toml").cells() if c.label == "sft"]
    tables = [a for a in in_order(cell.targets) if a.recipe.stage.name == "read_pairs"]
    assert {(row["chosen"], row["rejected"]) for row in make(tables[0])} == {("a", "b")}


@pytest.mark.parametrize("named", ["better=good", "chosen", "axis=good"])
def test_what_names_no_column_is_refused_with_the_keys_there_are(tmp_path, model, named):
    with pytest.raises(InputError, match="write KEY=COLUMN, with KEY one of prompt, chosen"):
        write_study("mine", model, rows_in(tmp_path, OWN), tmp_path, (named,))


def test_a_column_that_the_rows_do_not_have_is_refused(tmp_path, model):
    named = ("prompt=question", "chosen=better", "rejected=bad")
    with pytest.raises(InputError, match="no column 'better'; it has bad, good, question"):
        write_study("mine", model, rows_in(tmp_path, OWN), tmp_path, named)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "x", "yes": "a"}], "has the columns question, yes, which are none of"),
        ([], "has the columns none"),
        ([PAIRS[0], {"prompt": "x"}], r"line 2: no column 'chosen'"),
        ([{**PAIRS[0], "prompt": [{"role": "bot", "content": "x"}]}], "line 1: role 'bot'"),
        (
            [{"prompt": "Why?", "completion": "a", "label": True}],
            "holds no pair .*thumb_without_an_opposite",
        ),
    ],
)
def test_rows_that_no_study_could_read_are_named_and_nothing_is_written(
    tmp_path, model, rows, message
):
    with pytest.raises(InputError, match=message):
        write_study("mine", model, rows_in(tmp_path, rows), tmp_path)
    assert not (tmp_path / "mine.toml").exists()


def test_names_models_and_files_that_will_not_do_are_refused(tmp_path, model):
    file = rows_in(tmp_path, PAIRS)
    with pytest.raises(InputError, match="is no name for a study"):
        write_study("../mine", model, file, tmp_path)
    with pytest.raises(InputError, match=r"no config\.json"):
        write_study("mine", tmp_path, file, tmp_path)
    write_study("mine", model, file, tmp_path)
    with pytest.raises(InputError, match="exists; it is left as it is"):
        write_study("mine", model, file, tmp_path)
