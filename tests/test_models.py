from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from tiny import END, PAD, byte_tokenizer, random_llama, tiny_policy, write_policy

from harness.artifacts import Policy, RewardModel
from harness.judge import Answer
from harness.local import Digests, LocalFile, file_digest, local_file, local_folder, weights_digest
from harness.models import (
    base_policy,
    encode,
    load_policy,
    load_tokenizer,
    local_model,
    rewards,
)

ASKED = [{"role": "user", "content": "hi"}]


def policy_at(folder) -> Policy:
    return Policy(folder.name, path=folder)


def plan(folder, template=None, dtype=None) -> Policy:
    return local_model(folder=local_folder(folder, Digests()), template=template, dtype=dtype)


@pytest.fixture
def copy(tiny_policy_folder, tmp_path):
    return shutil.copytree(tiny_policy_folder, tmp_path / "model")


def test_a_local_model_keeps_every_weight_and_answers_like_its_source(make, copy):
    import torch

    made = make(plan(copy))
    ours, theirs = made.load(), policy_at(copy).load()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    assert made.generation() == {"stop_ids": [END]}
    assert not [f for f in made.path.iterdir() if f.suffix in (".bin", ".pt", ".pkl")]


def test_weights_kept_in_bfloat16_are_half_the_size_and_load_as_float32(make, copy):
    import torch

    whole, half = make(plan(copy)), make(plan(copy, dtype="bfloat16"))
    sizes = [(p.path / "model.safetensors").stat().st_size for p in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert {w.dtype for w in half.load().parameters()} == {torch.float32}


def test_two_models_under_one_name_and_two_templates_have_different_ids(copy):
    first = plan(copy)
    assert plan(copy) == first
    write_policy(copy, seed=1)
    assert plan(copy) != first
    assert plan(copy, template="{{ messages }}") != plan(copy)


def test_moving_a_folder_changes_no_id_but_changing_a_byte_does(copy, tmp_path):
    first = plan(copy)
    moved = copy.rename(tmp_path / "elsewhere")
    assert plan(moved) == first
    (moved / "README.md").write_text("notes are no input")
    assert plan(moved) == first
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-4}))
    assert plan(moved) != first


def test_a_folder_that_changed_after_planning_is_refused_with_both_digests(make, copy):
    planned = plan(copy, dtype="float16")
    write_policy(copy, seed=1)
    with pytest.raises(ValueError, match="has changed since the study was planned: sha256"):
        make(planned)


def test_kept_digests_spare_planning_the_hash_and_reading_never(tmp_path):
    file, cache = tmp_path / "data.jsonl", tmp_path / "cache" / "digests.json"
    file.write_text("one")
    known = Digests()
    before = known.of(file)
    known.keep(cache)
    stat = file.stat()
    with file.open("r+") as same:  # same inode, size and time, other bytes: only hashing can tell
        same.write("two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = Digests()
    again.recall(cache)
    planned = local_file(file, again)
    assert planned.sha256 == before != file_digest(file)
    with pytest.raises(ValueError, match="has changed since the study was planned"):
        planned.checked()


def test_digests_that_a_file_has_already_are_not_written_again(tmp_path):
    file, cache = tmp_path / "data.jsonl", tmp_path / "digests.json"
    file.write_text("one")
    known = Digests()
    known.of(file)
    known.keep(cache)
    written = cache.stat()
    again = Digests()
    again.recall(cache)
    again.of(file)
    again.keep(cache)
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_torn_digest_cache_costs_a_hash_and_nothing_else(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text("one")
    (tmp_path / "digests.json").write_text('{"half')
    known = Digests()
    known.recall(tmp_path / "digests.json")
    assert known.of(file) == file_digest(file)


def test_a_local_files_path_is_not_part_of_what_it_is(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    assert local_file(tmp_path / "a", Digests()) == local_file(tmp_path / "b", Digests())
    assert LocalFile("0" * 64, "a") != LocalFile("1" * 64, "a")


def test_weights_in_a_pickle_alone_are_refused_with_the_remedy(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin.*save_pretrained"):
        local_folder(copy, Digests())


def test_weights_of_another_shape_are_an_error_naming_the_tensors(make, copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(ValueError, match=r"do not fit its config.json: .*mlp"):
        make(plan(copy))


def test_weights_that_the_architecture_does_not_know_are_an_error_naming_them(make, copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    save_file(
        {**weights, "backdoor": weights["model.norm.weight"].clone()}, copy / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"do not fit its config.json: .*unexpected: backdoor"):
        make(plan(copy))


def test_code_in_a_model_folder_never_runs(make, copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError):
        make(plan(copy))
    assert not (tmp_path / "ran").exists()


def test_a_missing_template_is_an_error_that_shows_how_to_give_one(make, copy):
    byte_tokenizer(template=None).save_pretrained(copy)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r'under \[bases.\*\]: template = "plain"'):
        make(plan(copy))
    made = make(base_policy("mine", {"path": str(copy), "template": "plain"}))
    assert made.tokenizer().decode(encode(made.tokenizer(), ASKED)) == "User: hi\n\nAssistant:"


@pytest.mark.parametrize("pad", [None, "<|end|>"])
def test_a_padding_token_distinct_from_eos_is_found_without_growing_the_embedding(make, copy, pad):
    byte_tokenizer(pad=pad).save_pretrained(copy)
    made = make(plan(copy))
    assert made.tokenizer().pad_token_id == PAD
    assert made.load().get_input_embeddings().weight.shape[0] == 261


def test_the_embedding_grows_by_a_mean_row_where_no_token_is_free_for_padding(make, tmp_path):
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<e>": 0, "a": 1, "b": 2}, unk_token="<e>")),
        eos_token="<e>",
        unk_token="<e>",
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "three")
    source = random_llama(0, vocab_size=3, eos_token_id=0, pad_token_id=None)
    source.save_pretrained(tmp_path / "three")
    made = make(plan(tmp_path / "three"))
    rows = made.load().get_input_embeddings().weight
    assert made.tokenizer().pad_token_id == 3
    assert torch.allclose(rows[3], source.get_input_embeddings().weight.mean(0))


def test_an_unknown_embedded_name_says_what_to_write():
    with pytest.raises(ValueError, match=r'path = "..." under \[bases.mine\]'):
        base_policy("mine", {})


def test_encoding_appends_exactly_one_eos_and_keeps_the_prompt_as_a_prefix():
    tokenizer = byte_tokenizer()
    prompt = encode(tokenizer, ASKED)
    whole = encode(tokenizer, ASKED, "yo")
    assert tokenizer.decode(whole) == "<|user|>hi<|assistant|>yo<|end|>"
    assert whole[: len(prompt)] == prompt
    assert encode(tokenizer, ASKED, "yo", finished=False) == whole[:-1]


def test_an_answer_that_spells_a_special_token_has_no_second_eos():
    tokenizer = byte_tokenizer()
    whole = encode(tokenizer, ASKED, "a<|end|>b")
    assert whole.count(END) == 1
    assert tokenizer.decode(whole[:-1]).endswith("a<|end|>b")


def test_a_pointer_loads_what_it_points_at(make, tmp_path):
    import torch

    policy = make(tiny_policy(seed=0))
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    (policy.path.parent / "pointer").symlink_to(pointer)
    (pointer / "same_as.json").write_text(json.dumps({"same_as": policy.id}))
    found = Policy("pointer", path=policy.path.parent / "pointer")
    ours, theirs = found.load(), policy.load()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert load_tokenizer(found).get_vocab() == policy.tokenizer().get_vocab()


def write_adapter(folder, parent, seed):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(load_policy(parent), settings)
    adapted.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    known = {"parent": parent.id, "weights": weights_digest(parent.path)}
    (folder / "parent.json").write_text(json.dumps(known))
    return Policy(folder.name, path=folder), adapted.eval()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
def test_a_chain_of_adapters_is_merged_in_float32_and_equals_the_unmerged_model(tmp_path):
    import torch

    base = tmp_path / "base"
    write_policy(base)
    first, _ = write_adapter(tmp_path / "first", policy_at(base), 1)
    second, unmerged = write_adapter(tmp_path / "second", first, 2)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        merged = load_policy(second)(input_ids=ids).logits
        assert torch.allclose(merged, unmerged(input_ids=ids).logits, atol=1e-4)
        assert not torch.allclose(merged, load_policy(first)(input_ids=ids).logits, atol=1e-1)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
def test_an_adapter_on_a_parent_that_changed_is_refused(tmp_path):
    base = tmp_path / "base"
    write_policy(base)
    adapter, _ = write_adapter(tmp_path / "adapter", policy_at(base), 1)
    write_policy(base, seed=9)
    with pytest.raises(ValueError, match="adapter is an adapter on base, whose weights have"):
        load_policy(adapter)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    write_policy(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.save_pretrained(folder)
    (folder / "norm.json").write_text(json.dumps({"gain": 2.0, "bias": -1.0}))
    return RewardModel("reward", path=folder)


def test_a_reward_is_the_normalised_score_at_eos_whatever_the_padding(reward_model):
    import torch

    answers = [Answer("p", ASKED, "x" * n) for n in (1, 40, 7, 0, 90, 3)]
    model, tokenizer = reward_model.load(), reward_model.tokenizer()
    for answer, found in zip(answers, rewards(reward_model, answers), strict=True):
        ids = encode(tokenizer, answer.messages, answer.completion)
        assert ids[-1] == tokenizer.eos_token_id
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        raw = float(model.score(hidden).detach())
        assert found == pytest.approx(2.0 * raw - 1.0, abs=1e-4)


def test_an_answer_that_was_cut_off_is_rewarded_where_reward_models_learnt_to_read(reward_model):
    cut, whole = (Answer("p", ASKED, "It ends in", finished=end) for end in (False, True))
    assert rewards(reward_model, [cut]) == rewards(reward_model, [whole])


def test_planning_with_models_imports_no_torch():
    code = "import sys, harness.models, harness.stages.sample; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_real_checkpoint_becomes_a_policy_that_speaks(make, tinystories):
    made = make(base_policy("stories", {"path": str(tinystories), "template": "plain"}))
    tokenizer = made.tokenizer()
    assert tokenizer.pad_token == "<unk>" != tokenizer.eos_token
    assert made.generation() == {"stop_ids": [2]}
    assert sum(weight.numel() for weight in made.load().parameters()) == 656_000
