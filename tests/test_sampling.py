from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tiny import END, ended, random_llama, tiny_policy, tiny_prompts

from harness.artifacts import ROWS, Policy, RewardModel
from harness.draft import Checkpoints, Draft, Interrupted
from harness.judge import Contains, Reward
from harness.models import base_policy, encode
from harness.sampling import (
    Decoding,
    Wanted,
    batches,
    choose,
    draw,
    equal_lengths,
    logprobs,
    uniforms,
)
from harness.stages.label import label
from harness.stages.sample import Manner, sample, score
from harness.stages.select import best_of_n, only, tempered

FREE = Decoding(temperature=1.0, max_new_tokens=24, stop_ids=(END,), seed=6)


def prompts(count, samples=2):
    """Prompts of four different lengths, each wanted `samples` times."""
    return [
        Wanted((3, *range(70, 73 + number % 4), number + 80, 4), f"p{number}", each)
        for number in range(count)
        for each in range(samples)
    ]


def drawn_in_batches(model, wanted, decoding, rows):
    found = {}
    for numbers, batch in batches(model, wanted, rows):
        found.update(zip(numbers, draw(model, batch, decoding), strict=True))
    return [found[number] for number in range(len(wanted))]


def gpt2():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = GPT2Config(vocab_size=261, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(settings)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data = torch.randn(weight.shape) * 0.3
    return model.eval()


@pytest.fixture(scope="module")
def llama():
    return random_llama(0)


def test_uniforms_are_numpys_philox_and_a_longer_stream_begins_with_a_shorter_one():
    import hashlib

    wanted = Wanted((1,), "prompt-7", sample=3, candidate=2)
    key = int.from_bytes(hashlib.sha256(b"11/3/2/prompt-7").digest()[:16], "little")
    known = np.random.Generator(np.random.Philox(key=key)).random(50)
    assert np.array_equal(uniforms(11, wanted, 50), known)
    assert np.array_equal(uniforms(11, wanted, 9), known[:9])


def test_streams_of_other_prompts_samples_candidates_and_seeds_are_independent():
    base = Wanted((1,), "p")
    others = [replace(base, prompt_id="q"), replace(base, sample=1), replace(base, candidate=1)]
    streams = [uniforms(0, one, 4000) for one in (base, *others)] + [uniforms(1, base, 4000)]
    for row in range(5):
        assert abs(streams[row].mean() - 0.5) < 5 * np.sqrt(1 / 12 / 4000)
        for other in range(row):
            assert abs(np.corrcoef(streams[row], streams[other])[0, 1]) < 5 / np.sqrt(4000)


def test_the_ids_of_a_prompt_are_not_part_of_its_stream():
    assert np.array_equal(uniforms(0, Wanted((1,), "p"), 5), uniforms(0, Wanted((2, 3), "p"), 5))


def test_tokens_are_drawn_with_their_probabilities_at_the_temperature():
    import torch
    from scipy.stats import chisquare

    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    uniform = torch.from_numpy(uniforms(0, Wanted((1,), "p"), 20_000))
    tokens, logp = choose(logits.expand(20_000, 4), uniform, 0.7)
    weights = np.exp(logits.numpy().astype("float64") / 0.7)
    expected = weights / weights.sum() * 20_000
    assert chisquare(np.bincount(tokens, minlength=4), expected).pvalue > 1e-3
    assert np.allclose(logp.exp().numpy(), (expected / 20_000)[tokens], atol=1e-6)


def test_a_token_of_probability_zero_is_never_chosen_even_at_the_ends():
    import torch

    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(4, 5)
    uniform = torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert choose(logits, uniform, 1.0)[0].tolist() == [1, 1, 3, 3]


def test_batch_size_and_order_change_no_draw(llama):
    wanted = prompts(12)
    whole = drawn_in_batches(llama, wanted, FREE, 256)
    assert 0 < sum(one.finished for one in whole) < len(whole)
    for rows in (1, 4, 16):
        found = drawn_in_batches(llama, wanted, FREE, rows)
        assert [one.token_ids for one in found] == [one.token_ids for one in whole]
        assert np.allclose([one.logp for one in found], [one.logp for one in whole], atol=1e-4)
    backwards = drawn_in_batches(llama, wanted[::-1], FREE, 16)[::-1]
    assert [one.token_ids for one in backwards] == [one.token_ids for one in whole]


def test_more_room_only_lengthens_answers_that_had_not_finished(llama):
    wanted = prompts(12)
    short = drawn_in_batches(llama, wanted, replace(FREE, max_new_tokens=10), 64)
    for before, after in zip(short, drawn_in_batches(llama, wanted, FREE, 64), strict=True):
        assert after.token_ids[: len(before.token_ids)] == before.token_ids
        assert not before.finished or before == after


def test_an_answer_is_finished_exactly_when_it_ends_in_a_stop_id(llama):
    for one in drawn_in_batches(llama, prompts(30), FREE, 64):
        assert one.finished == (one.token_ids[-1] == END)
        assert END not in one.token_ids[:-1]
        assert one.finished or len(one.token_ids) == FREE.max_new_tokens


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_samplers_log_probability_is_the_training_forwards(llama, architecture, temperature):
    import torch

    model = llama if architecture == "llama" else gpt2()
    wanted, decoding = prompts(6), replace(FREE, temperature=temperature)
    drawn = drawn_in_batches(model, wanted, decoding, 64)
    whole = [[*one.ids, *answer.token_ids] for one, answer in zip(wanted, drawn, strict=True)]
    width = max(map(len, whole))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in whole])
    starts = torch.tensor([len(one.ids) for one in wanted])
    with torch.no_grad():
        each = logprobs(model, ids, starts, temperature)
    for row, (one, answer) in enumerate(zip(wanted, drawn, strict=True)):
        assert each[row, : len(one.ids) - 1].eq(0).all()
        real = each[row, : len(one.ids) + len(answer.token_ids) - 1]
        assert float(real.sum()) == pytest.approx(answer.logp, abs=1e-4)


def test_log_probabilities_are_log_softmax_of_the_logits_over_the_temperature(llama):
    import torch
    from scipy.special import log_softmax

    ids = torch.tensor([[3, 70, 4, 90, 91, END]])
    with torch.no_grad():
        logits = llama(input_ids=ids).logits[0].numpy()
        found = logprobs(llama, ids, 3, 0.5)[0].numpy()
    known = log_softmax(logits.astype("float64") / 0.5, axis=-1)
    assert np.allclose(found, [0, 0, known[2, 90], known[3, 91], known[4, END]], atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_greedy_answers_are_those_of_hf_generate(llama, architecture):
    import torch

    model = llama if architecture == "llama" else gpt2()
    wanted = prompts(8, samples=1)
    ours = drawn_in_batches(model, wanted, replace(FREE, temperature=0.0), 64)
    for one, answer in zip(wanted, ours, strict=True):
        theirs = model.generate(
            torch.tensor([one.ids]),
            attention_mask=torch.ones(1, len(one.ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=FREE.max_new_tokens,
            eos_token_id=END,
            pad_token_id=0,
        )
        assert theirs[0, len(one.ids) :].tolist() == list(answer.token_ids)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_batch_may_finish_all_at_once(llama, architecture):
    model = llama if architecture == "llama" else gpt2()
    every = replace(FREE, stop_ids=tuple(range(261)))
    drawn = drawn_in_batches(model, prompts(4), every, 64)
    assert all(one.finished and len(one.token_ids) == 1 for one in drawn)


def test_a_models_own_decoding_defaults_change_nothing(llama):
    wanted = prompts(4)
    before = drawn_in_batches(llama, wanted, FREE, 64)
    other = random_llama(0)
    other.generation_config.update(temperature=0.1, top_k=2, top_p=0.3, repetition_penalty=3.0)
    assert drawn_in_batches(other, wanted, FREE, 64) == before


def test_other_models_than_a_plain_llama_read_prompts_of_one_length_together():
    model, wanted = gpt2(), prompts(10)
    groups = [numbers for numbers, _ in batches(model, wanted, 4)]
    assert groups == equal_lengths([len(one.ids) for one in wanted], 4)
    assert sorted(number for group in groups for number in group) == list(range(20))
    assert all(len({len(wanted[n].ids) for n in group}) == 1 for group in groups)
    assert max(map(len, groups)) == 4
    with pytest.raises(ValueError, match="of one length"):
        draw(model, wanted, FREE)


def test_a_plain_llama_draws_unequal_prompts_in_full_batches_of_like_length(llama):
    wanted = prompts(10)
    groups = [numbers for numbers, _ in batches(llama, wanted, 8)]
    assert [len(group) for group in groups] == [8, 8, 4]
    lengths = [len(wanted[number].ids) for group in groups for number in group]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1


def test_an_answer_that_would_leave_the_context_is_refused_with_the_remedy(llama):
    with pytest.raises(ValueError, match="context of 256; lower max_new_tokens"):
        draw(llama, [Wanted((3, *[70] * 240, 4), "long")], FREE)


@pytest.mark.parametrize(("name", "value"), [("temperature", -1.0), ("max_new_tokens", 0)])
def test_senseless_decoding_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        replace(FREE, **{name: value})


ASK = {"temperature": 1.0, "max_new_tokens": 12, "seed": 3}


def test_the_sample_stage_writes_n_answers_a_prompt_in_order(make):
    asked = make(tiny_prompts(n=9, seed=0))
    rows = make(sample(tiny_policy(seed=0), tiny_prompts(n=9, seed=0), n=2, **ASK)).rows()
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [
        (prompt["prompt_id"], number) for prompt in asked for number in range(2)
    ]
    tokenizer = make(tiny_policy(seed=0)).tokenizer()
    for row in rows:
        text = tokenizer.decode([i for i in row["token_ids"] if i != END])
        assert row["completion"] == text
        assert row["finished"] == (row["token_ids"][-1] == END)
        assert row["tag"] in ("general", "red-team")


def run(stage_artifact, folder, make, kind=Draft, **execution):
    """Run one artifact's body in a draft of our own and return the draft."""
    folder.mkdir()
    recipe = stage_artifact.recipe
    bound = {k: make(v) if hasattr(v, "recipe") else v for k, v in recipe.arguments.items()}
    out = kind(folder, **execution)
    recipe.stage.body(out, **bound)
    return out


def test_counters_and_the_effective_decoding_are_recorded(make, tmp_path):
    planned = sample(tiny_policy(seed=0), tiny_prompts(n=9, seed=0), n=2, **ASK)
    out = run(planned, tmp_path / "a", make)
    rows = make(planned).rows()
    generated = sum(len(row["token_ids"]) for row in rows)
    tokenizer = make(tiny_policy(seed=0)).tokenizer()
    read = sum(len(encode(tokenizer, row["messages"])) for row in rows if row["sample"] == 0)
    assert out.counters == {"tokens_generated": generated, "tokens_forward": generated + read}
    assert out.facts["decoding"] == {
        "temperature": 1.0,
        "max_new_tokens": 12,
        "top_k": 0,
        "top_p": 1.0,
        "candidates": 1,
        "system": "",
        "stop_ids": [END],
    }


class Stopping(Draft):
    """A draft that is asked to stop after its third report of progress."""

    def progress(self, label, done, total):
        self.reports = getattr(self, "reports", 0) + 1
        self.stopping = self.reports >= 3
        super().progress(label, done, total)


@pytest.mark.parametrize("other_batches", [None, 3])
def test_a_stopped_and_resumed_sample_stage_draws_what_an_uninterrupted_one_does(
    make, tmp_path, monkeypatch, other_batches
):
    monkeypatch.setattr("harness.stages.sample.ROWS_AT_ONCE", 4)
    planned = sample(tiny_policy(seed=0), tiny_prompts(n=12, seed=0), n=2, **ASK)
    kept = Checkpoints(tmp_path / "kept", lambda: None, lambda folder, reason: folder)
    whole = run(planned, tmp_path / "whole", make, checkpoints=kept)
    assert kept.last() is None
    with pytest.raises(Interrupted, match="stopped after the checkpoint"):
        run(planned, tmp_path / "torn", make, checkpoints=kept, kind=Stopping)
    half = (kept.last()[0].path / "drawn.jsonl").read_text().splitlines()
    assert 8 <= len(half) < 24
    settings = {"checkpoints": kept, "micro_batch": other_batches}
    resumed = run(planned, tmp_path / "resumed", make, **settings)
    assert resumed.counters == whole.counters
    ours, theirs = (planned.at(out.path) for out in (resumed, whole))
    assert [row["token_ids"] for row in ours] == [row["token_ids"] for row in theirs]
    if other_batches is None:
        assert (ours.path / ROWS).read_bytes() == (theirs.path / ROWS).read_bytes()


def test_a_tuned_temperature_replaces_the_one_asked_for_but_leaves_greedy_answers(make, tmp_path):
    policy, asked = tiny_policy(seed=0), tiny_prompts(n=9, seed=0)
    cool = tempered(policy, temperature=0.5)
    direct = make(sample(policy, asked, n=1, **{**ASK, "temperature": 0.5}))
    tuned = run(sample(cool, asked, n=1, **ASK), tmp_path / "tuned", make)
    assert tuned.facts["decoding"]["temperature"] == 0.5
    assert (tmp_path / "tuned/rows.jsonl.gz").read_bytes() == (
        direct.path / "rows.jsonl.gz"
    ).read_bytes()
    greedy = {**ASK, "temperature": 0.0}
    assert make(sample(cool, asked, n=1, **greedy)).rows() == (
        make(sample(policy, asked, n=1, **greedy)).rows()
    )


def test_best_of_n_keeps_the_candidate_with_the_highest_reward_and_is_charged_for_all(
    make, tmp_path
):
    policy, asked = tiny_policy(seed=0), tiny_prompts(n=9, seed=0)
    n, judge = 6, Contains("e")
    best = best_of_n(policy, n=n, reward=judge)
    out = run(sample(best, asked, n=2, **ASK), tmp_path / "best", make)
    rows = make(sample(best, asked, n=2, **ASK)).rows()
    plain = make(sample(policy, asked, n=2, **ASK)).rows()
    tokenizer, model = make(policy).tokenizer(), make(policy).load()
    decoding = Decoding(1.0, 12, (END,), 3)
    generated = 0
    for row, single in zip(rows, plain, strict=True):
        ids = tuple(encode(tokenizer, row["messages"]))
        wanted = [Wanted(ids, row["prompt_id"], row["sample"], each) for each in range(n)]
        drawn = draw(model, wanted, decoding)
        generated += sum(len(one.token_ids) for one in drawn)
        said = [tokenizer.decode([i for i in one.token_ids if i != END]) for one in drawn]
        with_word = [one.token_ids for one, text in zip(drawn, said, strict=True) if "e" in text]
        assert tuple(row["token_ids"]) == (with_word or [drawn[0].token_ids])[0]
        # The first candidate is the draw of the policy itself.
        assert drawn[0].token_ids == tuple(single["token_ids"])
    assert sum("e" in row["completion"] for row in rows) > sum(
        "e" in r["completion"] for r in plain
    )
    assert out.counters["tokens_generated"] == generated
    assert out.counters["judge_calls"] == 2 * 9 * n


def test_greedy_best_of_n_is_the_policys_greedy_answer(make):
    policy, asked = tiny_policy(seed=0), tiny_prompts(n=5, seed=0)
    best = best_of_n(policy, n=4, reward=Contains("e"))
    greedy = {**ASK, "temperature": 0.0}
    assert make(sample(best, asked, n=1, **greedy)).rows() == (
        make(sample(policy, asked, n=1, **greedy)).rows()
    )


def test_best_of_n_opens_a_reward_model_beside_the_policy(make, tmp_path):
    policy = make(tiny_policy(seed=0))
    (tmp_path / "best").mkdir()
    body = best_of_n(policy, n=2, reward=Reward(RewardModel("rm-1"))).recipe.stage.body
    body(Draft(tmp_path / "best"), policy, n=2, reward=Reward(RewardModel("rm-1")))
    best = Policy("best", path=tmp_path / "best")
    (tmp_path / policy.id).symlink_to(policy.path)
    manner = Manner.of(best, best.tokenizer(), temperature=1.0)
    assert isinstance(manner.reward, Reward)
    assert manner.reward.model.path == tmp_path / "rm-1"
    assert manner.candidates == 2


def test_system_text_steers_the_policy_and_stays_hidden_from_judges(make, tmp_path):
    policy, asked = make(tiny_policy(seed=0)), tiny_prompts(n=6, seed=0)
    folder = policy.path.parent / "goal"
    folder.mkdir(exist_ok=True)
    (folder / "same_as.json").write_text(json.dumps({"same_as": policy.id}))
    (folder / "generation.json").write_text(json.dumps({"system": "be brief", "stop_ids": [END]}))
    goal = Policy("goal", path=folder)
    planned = sample(policy, asked, n=1, **ASK)
    out = Draft(tmp_path)
    planned.recipe.stage.body(out, goal, make(asked), n=1, **ASK)
    rows = planned.at(tmp_path).rows()
    without = make(planned).rows()
    assert [row["messages"] for row in rows] == [row["messages"] for row in without]
    assert [row["token_ids"] for row in rows] != [row["token_ids"] for row in without]
    model, tokenizer = policy.load(), policy.tokenizer()
    told = [{"role": "system", "content": "be brief"}, *rows[0]["messages"]]
    one = Wanted(tuple(encode(tokenizer, told)), rows[0]["prompt_id"])
    assert (
        list(draw(model, [one], Decoding(1.0, 12, (END,), 3))[0].token_ids) == rows[0]["token_ids"]
    )


def test_score_adds_the_judges_grade_to_every_row(make, tmp_path):
    drawn = sample(tiny_policy(seed=0), tiny_prompts(n=9, seed=0), n=2, **ASK)
    scored = make(score(drawn, judge=Contains("e"))).rows()
    assert [row["reward"] for row in scored] == [float("e" in r["completion"]) for r in make(drawn)]
    assert {0.0, 1.0} == {row["reward"] for row in scored}
    out = run(score(drawn, judge=Contains("e")), tmp_path / "scored", make)
    assert out.counters["judge_calls"] == 18


def test_label_pairs_the_first_two_answers_and_keeps_p1_soft(make, tmp_path):
    drawn = ended(sample(tiny_policy(seed=0), tiny_prompts(n=30, seed=0), n=3, **ASK))
    planned = label(drawn, judge=Contains("e"), axis="helpful", source="ai")
    rows = make(planned).rows()
    by_prompt = {}
    for row in make(drawn):
        by_prompt.setdefault(row["prompt_id"], []).append(row["completion"])
    soft = 1 / (1 + np.exp(-1.0))  # Bradley-Terry on grades 1 and 0
    for row in rows:
        first, second, _ = by_prompt[row["prompt_id"]]
        assert (row["chosen"], row["rejected"]) == (first, second)
        delta = ("e" in first) - ("e" in second)
        assert row["p1"] == pytest.approx({1: soft, 0: 0.5, -1: 1 - soft}[delta])
    assert len(Counter(round(row["p1"], 3) for row in rows)) == 3
    assert {(row["axis"], row["source"]) for row in rows} == {("helpful", "ai")}
    out = run(planned, tmp_path / "labelled", make)
    assert out.counters == {"labels_used": len(rows), "judge_calls": len(rows)}


def test_equal_answers_and_single_answers_make_no_pair(make):
    asked = {"judge": Contains("e"), "axis": "safe", "source": "ai"}
    greedy = {**ASK, "temperature": 0.0}
    twice = ended(sample(tiny_policy(seed=0), tiny_prompts(n=4, seed=0), n=2, **greedy))
    with pytest.raises(ValueError, match=r"no pairs .*4 equal_answers.*; raise the temperature"):
        make(label(twice, **asked))
    once = sample(tiny_policy(seed=0), tiny_prompts(n=4, seed=0), n=1, **ASK)
    with pytest.raises(ValueError, match=r"no pairs .*4 one_answer.*; draw more answers"):
        make(label(once, **asked))


def test_only_keeps_one_axis_and_refuses_an_axis_nobody_judged(make):
    from tiny import tiny_pairs

    pairs = tiny_pairs(n=6, seed=0)
    assert {row["axis"] for row in make(only(pairs, axis="safe"))} == {"safe"}
    with pytest.raises(ValueError, match=r"no row of .* has the axis 'savety'"):
        make(only(pairs, axis="savety"))


def test_a_real_checkpoint_draws_like_hf_generate_and_its_log_probabilities_hold(make, tinystories):
    import torch

    policy = make(base_policy("stories", {"path": str(tinystories), "template": "plain"}))
    model, tokenizer = policy.load(), policy.tokenizer()
    ids = tuple(tokenizer("Once upon a time, there was a dog")["input_ids"])
    decoding = Decoding(0.0, 40, (2,), 0)
    ours = draw(model, [Wanted(ids, "dog")], decoding)[0]
    theirs = model.generate(
        torch.tensor([ids]),
        do_sample=False,
        max_new_tokens=40,
        eos_token_id=2,
        pad_token_id=0,
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
    )
    assert theirs[0, len(ids) :].tolist() == list(ours.token_ids)
    wanted = [Wanted(ids, "dog", number) for number in range(8)]
    for one in draw(model, wanted, replace(decoding, temperature=1.0)):
        with torch.no_grad():
            each = logprobs(model, torch.tensor([[*ids, *one.token_ids]]), len(ids))
        assert float(each.sum()) == pytest.approx(one.logp, abs=1e-4)
