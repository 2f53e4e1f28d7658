"""Bases of a study: a commit in the hub's cache, a folder, a model with code, rows of adapters."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import toy_study
from test_study import GOOD
from tiny import write_policy

from harness.adapters import Lora, setup_of
from harness.bases import base_policy
from harness.sources import hub_place
from harness.study import Study
from harness.study_file import StudyError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = torch.arange(5, 25)[None]

MODELLING = """
import pathlib

from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path({ran!r}).write_text("ran")

class MineConfig(LlamaConfig):
    model_type = "mine"

class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = 2 * out.logits
        return out
"""


@pytest.fixture
def folder(tmp_path):
    write_policy(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def cache(tmp_path, folder, monkeypatch):
    """Return a hub cache as huggingface_hub lays it out, holding one commit of one model."""
    from huggingface_hub import constants

    kept = tmp_path / "hub" / "models--some--tiny"
    snapshot = kept / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (kept / "blobs").mkdir()
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, kept / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_commit_in_the_hubs_cache_is_the_same_base_as_its_files_in_a_folder(make, cache, folder):
    ours = base_policy("x", {"hub": "some/tiny", "revision": COMMIT})
    assert ours == base_policy("x", {"path": str(folder)})
    assert str(cache / "models--some--tiny") in str(ours.recipe.to_json()["arguments"]["folder"])
    with torch.no_grad():
        said = make(ours).load()(input_ids=IDS).logits
    assert said.shape == (1, 20, 261)


def test_huggingface_hub_itself_finds_that_commit_where_we_look(cache):
    from huggingface_hub import snapshot_download

    found = snapshot_download("some/tiny", revision=COMMIT, cache_dir=cache, local_files_only=True)
    assert hub_place("model", "some/tiny", COMMIT).samefile(found)


def test_a_model_that_is_not_there_says_what_to_fetch_and_where_it_is_looked_for(cache):
    with pytest.raises(FileNotFoundError) as refused:
        base_policy("x", {"hub": "some/other", "revision": COMMIT})
    said = str(refused.value)
    assert f"hf download some/other --revision {COMMIT}" in said
    assert str(cache / "models--some--other" / "snapshots" / COMMIT) in said
    assert "--local-dir" in said


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12], COMMIT.upper()])
def test_a_revision_that_can_move_is_refused(revision):
    with pytest.raises(ValueError, match=r"revision = the commit, 40 .*some/tiny/commits/main"):
        base_policy("x", {"hub": "some/tiny", "revision": revision})


@pytest.mark.parametrize("name", ["../etc", "a/b/c", "a b", "/abs", ""])
def test_a_name_that_is_none_on_the_hub_is_refused(name):
    with pytest.raises(ValueError, match="org/name"):
        base_policy("x", {"hub": name, "revision": COMMIT})


def test_two_places_and_a_revision_of_a_folder_are_refused(folder):
    with pytest.raises(ValueError, match="hub and path both"):
        base_policy("x", {"hub": "a/b", "revision": COMMIT, "path": str(folder)})
    with pytest.raises(ValueError, match="revision is a commit"):
        base_policy("x", {"path": str(folder), "revision": COMMIT})


def test_a_pickle_in_the_cache_is_refused_with_the_remedy(cache):
    snapshot = cache / "models--some--tiny" / "snapshots" / COMMIT
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin.*save_pretrained"):
        base_policy("x", {"hub": "some/tiny", "revision": COMMIT})


def test_weights_of_which_a_part_was_fetched_are_refused_by_name(cache):
    snapshot = cache / "models--some--tiny" / "snapshots" / COMMIT
    parts = {"model.norm.weight": "model.safetensors", "lm_head.weight": "model-2.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(FileNotFoundError, match=r"model-2.safetensors of 2 files lack"):
        base_policy("x", {"hub": "some/tiny", "revision": COMMIT})


@pytest.fixture
def with_code(folder, tmp_path):
    """Return a model whose own code doubles its logits, and leaves a mark when it is run."""
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    config |= {"model_type": "mine", "architectures": ["MineForCausalLM"], "auto_map": names}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(MODELLING.format(ran=str(tmp_path / "ran")))
    return folder


def test_code_of_a_model_runs_only_where_the_study_says_so_and_is_recorded(
    with_code, tmp_path, monkeypatch
):
    from transformers import dynamic_module_utils

    from harness.draft import Draft
    from harness.models import load_policy

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    plain = base_policy("x", {"path": str(with_code)})
    (tmp_path / "refused").mkdir()
    with pytest.raises(ValueError, match="remote_code = true under"):
        plain.recipe.stage.body(Draft(tmp_path / "refused"), **plain.recipe.arguments)
    assert not (tmp_path / "ran").exists()
    asked = base_policy("x", {"path": str(with_code), "remote_code": True})
    out = Draft(tmp_path / asked.id)
    out.path.mkdir()
    asked.recipe.stage.body(out, **asked.recipe.arguments)
    assert (tmp_path / "ran").exists()
    assert list(out.facts["remote_code"]) == ["mine.py"]
    write_policy(tmp_path / "usual")
    usual = base_policy("x", {"path": str(tmp_path / "usual")})
    kept = Draft(tmp_path / usual.id)
    kept.path.mkdir()
    usual.recipe.stage.body(kept, **usual.recipe.arguments)
    with torch.no_grad():
        doubled = load_policy(asked.at(out.path))(input_ids=IDS).logits
        once = load_policy(usual.at(kept.path))(input_ids=IDS).logits
    assert torch.allclose(doubled, 2 * once, atol=1e-5)


def test_changing_the_code_of_a_model_changes_what_it_is(with_code):
    first = base_policy("x", {"path": str(with_code), "remote_code": True})
    (with_code / "mine.py").write_text("# other")
    assert base_policy("x", {"path": str(with_code), "remote_code": True}) != first


def test_remote_code_for_a_model_without_any_is_refused(folder):
    with pytest.raises(ValueError, match="holds no code"):
        base_policy("x", {"path": str(folder), "remote_code": True})


def test_a_bases_settings_reach_what_is_trained_from_it(make, folder):
    spec = {"path": str(folder), "attention": "eager", "lora": {"rank": 2, "alpha": 4.0}}
    setup = setup_of(make(base_policy("x", spec)))
    assert setup.lora == Lora(rank=2, alpha=4.0)
    assert setup.attention == "eager"
    assert make(base_policy("x", spec)).load().config._attn_implementation == "eager"


@pytest.fixture
def write(tmp_path):
    def written(text):
        (tmp_path / "study.toml").write_text(text)
        return tmp_path / "study.toml"

    return written


def cells(write, monkeypatch, text):
    toy_study.install(monkeypatch.setattr)
    return {cell.label: cell for cell in Study.load(write(text)).cells() if cell.seed == 0}


def test_a_row_may_train_an_adapter_beside_rows_that_train_all_weights(write, monkeypatch):
    text = GOOD + "[methods.toy_dpo.lora]\nrank = 4\n"
    rows, whole = cells(write, monkeypatch, text), cells(write, monkeypatch, GOOD)
    assert rows["firm"].policy == whole["firm"].policy
    assert rows["toy_dpo"].policy != whole["toy_dpo"].policy
    (start,) = [p for p in rows["toy_dpo"].policy.inputs if p.recipe.stage.name == "adapted"]
    assert start.recipe.arguments["lora"] == Lora(rank=4)
    assert start.inputs == [rows["firm"].shared.sft], "the weights are those of every row"
    assert rows["toy_dpo"].shared.preferences == rows["firm"].shared.preferences


def test_two_rows_that_differ_in_their_adapter_alone_are_two_rows(write, monkeypatch):
    text = GOOD + '[methods.small]\nmethod = "toy_dpo"\nlora = { rank = 2 }\n'
    text += '[methods.large]\nmethod = "toy_dpo"\nlora = { rank = 8 }\n'
    rows = cells(write, monkeypatch, text)
    assert len({cell.policy for cell in rows.values()}) == 5


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("lora = true", "methods.toy_dpo.lora = True: must be a table such as { rank = 16 }"),
        ("lora = { rnk = 4 }", "methods.toy_dpo.lora.rnk: unknown key. Did you mean 'rank'?"),
        ("lora = { rank = 0 }", "methods.toy_dpo.lora.rank = 0: input should be greater"),
    ],
)
def test_a_rows_adapter_is_checked_like_the_rest_of_the_study(write, monkeypatch, table, problem):
    toy_study.install(monkeypatch.setattr)
    with pytest.raises(StudyError) as refused:
        Study.load(write(GOOD.replace("[methods.toy_dpo]", f"[methods.toy_dpo]\n{table}")))
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(problem)


def test_a_bases_adapter_is_checked_too(write, monkeypatch):
    toy_study.install(monkeypatch.setattr)
    with pytest.raises(StudyError, match=r"bases.tiny.lora.alhpa: unknown key. Did you mean 'alp"):
        Study.load(write(GOOD + "[bases.tiny.lora]\nalhpa = 4\n"))
