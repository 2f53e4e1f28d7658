"""What gets one error with its remedy: torn models, templates of nothing, nothing to learn."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny import write_policy

from harness.artifacts import Samples, write_rows
from harness.bases import base_policy
from harness.constitution_file import SHIPPED
from harness.draft import Draft
from harness.stages.critique import pool
from harness.study import Study
from harness.study_file import Overrides, StudyError
from harness.tokens import require_rows


@pytest.fixture
def folder(tmp_path):
    write_policy(tmp_path / "model")
    return tmp_path / "model"


def torn_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def torn_config(folder):
    (folder / "config.json").write_text('{"model_type": ')


def no_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()


@pytest.mark.parametrize(
    ("tear", "what"),
    [(torn_weights, "model"), (torn_config, "model|tokenizer"), (no_tokenizer, "tokenizer")],
)
def test_a_torn_model_folder_is_named_with_what_to_copy_again(make, folder, tear, what):
    tear(folder)
    with pytest.raises(
        ValueError, match=rf"the ({what}) in {folder} cannot be read \(.*\)\. Copy all files"
    ) as raised:
        make(base_policy("mine", {"path": str(folder)}))
    assert "\n" not in str(raised.value)


def test_a_torn_tokenizer_configuration_is_named_while_a_study_is_planned(folder):
    (folder / "tokenizer_config.json").write_text('{"eos_token": ')
    with pytest.raises(
        ValueError, match=r"tokenizer_config\.json cannot be read .* Copy all files"
    ):
        base_policy("mine", {"path": str(folder)})


def test_a_missing_template_is_found_while_a_study_is_planned(folder):
    assert base_policy("mine", {"path": str(folder)})
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r'no chat template. Give one .* template = "plain"'):
        base_policy("mine", {"path": str(folder)})
    assert base_policy("mine", {"path": str(folder), "template": "plain"})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    own = {**config, "chat_template": "{{ messages[0]['content'] }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    assert base_policy("mine", {"path": str(folder)})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("plian", "shows nothing of what the user says, but 'plian'"),
        ("{{ messages", "is broken: "),
        ("{{ raise_exception('no') }}", "is broken: no"),
        ("{{ nothing.here }}", "is broken: 'nothing' is undefined"),
    ],
)
def test_a_template_that_asks_every_prompt_alike_or_none_is_refused(
    make, folder, template, message
):
    with pytest.raises(ValueError, match=message) as raised:
        make(base_policy("mine", {"path": str(folder), "template": template}))
    assert 'template = "plain"' in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_model_that_answers_nothing_of_a_language_is_refused_by_its_tensors(make, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "bert", "architectures": ["BertModel"]})
    )
    with pytest.raises(ValueError, match=r"do not fit its config\.json: .*missing: bert"):
        make(base_policy("mine", {"path": str(folder)}))


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (
            {"unfinished": 9, "longer_than_max_length": 1},
            r"\(9 unfinished.*raise max_new_tokens",
        ),
        ({"unfinished": 0, "longer_than_max_length": 4}, r"\(4 longer_than.*\); raise max_length$"),
        ({"unsafe": 2}, r"\(2 unsafe\); look at what the reward model for safety says"),
        ({"equal_answers": 3}, "raise the temperature"),
        ({}, r"\(the input is empty\); look at the rows of the input"),
    ],
)
def test_nothing_to_learn_from_is_an_error_that_helps_with_what_was_lost_most(dropped, message):
    with pytest.raises(ValueError, match=message):
        require_rows([], "answers", dropped)
    require_rows(["a row"], "answers", dropped)


def test_answers_that_were_all_cut_off_are_never_an_empty_set_to_imitate(tmp_path):
    row = {"prompt_id": "p", "sample": 0, "messages": [], "completion": "and so", "finished": False}
    (tmp_path / "cut").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(Draft(tmp_path / "cut"), [row, {**row, "sample": 1}])
    cut = Samples("cut", path=tmp_path / "cut")
    with pytest.raises(ValueError, match=r"no answers to train on \(2 unfinished\); raise"):
        pool.body(Draft(tmp_path / "out"), (cut,))


STUDY = """
schema = 1
name = "mine"
seeds = [0]

[bases.mine]
path = "model"

[datasets.mine]
plugin = "jsonl"
path = "pairs.jsonl"

[methods.sft]

[judge]
plugin = "contains"
word = "please"

[evaluation]
suites = ["preference"]
samples = 1
max_new_tokens = 8
"""


@pytest.fixture
def mine(tmp_path, folder):
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "mine.toml").write_text(STUDY)
    assert len(Study.load(tmp_path / "mine.toml").cells()) == 1
    return tmp_path / "mine.toml"


def problems(study, *settings):
    with pytest.raises(StudyError) as raised:
        Study.load(study, overrides=Overrides(settings=settings)).cells()
    return raised.value.problems


@pytest.mark.parametrize(
    ("setting", "key", "remedy"),
    [
        ("bases.mine.path=none", "bases.mine.path = 'none'", "no such file or folder beside /"),
        ("datasets.mine.path=none.jsonl", "datasets.mine.path = 'none.jsonl'", "beside /"),
        ("datasets.mine.colums=x", "datasets.mine.colums", "has no such setting"),
        ("datasets.mine.labels=oracle", "datasets.mine.labels", "'noisy' or 'permuted'"),
        ("datasets.mine.axis=harmless", "datasets.mine.axis", "'helpful' or 'safe'"),
        ("datasets.mine.test=0.0", "datasets.mine", "shares of the prompts that leave some"),
        ("datasets.mine.budget=0", "datasets.mine", "from 1 on, not 0"),
    ],
)
def test_a_study_that_cannot_run_is_refused_by_key_value_and_remedy(mine, setting, key, remedy):
    (problem,) = problems(mine, setting)
    assert problem.startswith(key)
    assert remedy in problem


def test_paths_that_are_missing_and_settings_that_plugins_refuse_are_said_at_once(mine):
    wrong = ("bases.mine.path=none", "datasets.mine.path=none.jsonl", "datasets.mine.budget=0")
    assert [problem.split(" = ")[0].split(": ")[0] for problem in problems(mine, *wrong)] == [
        "datasets.mine.path",
        "bases.mine.path",
        "datasets.mine",
    ]


def test_an_assistant_and_a_constitution_lie_beside_the_study_wherever_one_works(
    mine, folder, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    for place, named in ((tmp_path, "null"), (elsewhere, "general")):
        place.mkdir(exist_ok=True)
        shutil.copyfile(SHIPPED / f"{named}.yaml", place / "own.yaml")
    (elsewhere / "model").mkdir()
    own = ("datasets.mine.assistant=model", 'methods.cai={stage="sl", constitution="own.yaml"}')
    shipped = (own[0], 'methods.cai={stage="sl", constitution="null"}')

    def ids(settings):
        cells = Study.load(mine, overrides=Overrides(settings=settings)).cells()
        return [target.id for cell in cells for target in cell.targets]

    monkeypatch.chdir(tmp_path)
    here = ids(own)
    monkeypatch.chdir(elsewhere)
    assert ids(own) == here == ids(shipped)


def test_an_assistant_that_is_not_beside_the_study_is_named_with_the_remedy(mine):
    (problem,) = problems(mine, "datasets.mine.assistant=none")
    assert problem.startswith("datasets.mine.assistant = 'none': no such file or folder beside /")
    assert "--set datasets.mine.assistant=PLACE" in problem


def test_a_fitted_judge_without_rows_of_its_own_says_what_to_give_the_dataset(mine):
    mine.write_text(STUDY.replace('plugin = "contains"\nword = "please"', 'plugin = "fitted"'))
    problem, *_ = problems(mine)
    assert problem.startswith("judge: ")
    assert 'give the dataset reserved = 0.5 and assistant = "base"' in problem


def test_a_pickle_checkpoint_is_refused_by_folder_file_and_remedy(mine, folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (problem,) = problems(mine)
    assert problem.startswith(f"bases.mine: {folder} has its weights in pytorch_model.bin")
    assert "writes safetensors" in problem
