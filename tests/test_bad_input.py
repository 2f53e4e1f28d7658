"""What a torn model folder, or a template that says nothing, gets: one error, one remedy."""

from __future__ import annotations

import json

import pytest
from tiny import write_policy

from harness.bases import base_policy


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
