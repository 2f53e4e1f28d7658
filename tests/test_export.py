"""An exported policy loads with transformers alone, and its card says how it was made."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from harness.commands import main
from harness.run import run
from harness.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    outcomes = run([tiny.tiny_policy(seed=3)], store, workers=0, plugins=[Path(tiny.__file__)])
    assert {outcome.state for outcome in outcomes.values()} == {"done"}, outcomes
    return store


def test_the_folder_holds_the_same_weights_for_transformers_and_a_card(store, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = store.open(tiny.tiny_policy(seed=3))
    words = ["export", policy.id, str(tmp_path / "out"), "--store", str(store.root)]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ours = policy.load().state_dict()
    theirs = loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = [{"role": "user", "content": "Hello"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False) == (
        policy.tokenizer().apply_chat_template(asked, tokenize=False)
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert policy.id in card
    assert "seed = 3" in card
    assert not list((tmp_path / "out").rglob("*.bin"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_exists_is_left_alone(store, tmp_path):
    words = ["export", tiny.tiny_policy(seed=3).id, str(tmp_path), "--store", str(store.root)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "exists" in done.output
    assert list(tmp_path.iterdir()) == []
