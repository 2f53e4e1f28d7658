"""Hindsight relabelling: which goal an answer reached, the three losses, training, and the rows."""

from __future__ import annotations

import csv
import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import questions, tiny_policy, tiny_prompts

from harness import finetune, follow_goals, in_hindsight, sample, under_goal
from harness.artifacts import Demonstrations, Policy, Samples, write_rows
from harness.draft import Checkpoints, Diverged, Draft, Interrupted
from harness.goals import BEST, TEXTS, Goal, contrasts, reached, thirds
from harness.hindsight import Batch, Weights, collated, contrasted_answers, target_tokens, terms
from harness.judge import Contains
from harness.models import encode, load_policy
from harness.registry import discover, get
from harness.run import in_order
from harness.sampling import logprobs
from harness.stage import stage
from harness.stages.hindsight import COLUMNS, Relabelled, cut, prompt_ids, sequences
from harness.stages.sample import Manner
from harness.tiny import END, byte_tokenizer, tiny_shared

SHARED = tiny_shared(7)
PLAIN = Weights(contrast=1.0, entropy=0.0, label_smoothing=0.0, contrast_smoothing=0.0)
ANY = Goal(helpful=False, safe=False)


@pytest.fixture(autouse=True, scope="module")
def discovered():
    discover()


# Goals


@given(st.sampled_from(sorted(TEXTS)), st.sampled_from(["helpful", "safe"]))
def test_missing_a_goal_twice_is_reaching_it(goal, axis):
    assert goal.in_hindsight(axis, True) == goal
    missed = goal.in_hindsight(axis, False)
    assert missed != goal
    assert missed.in_hindsight(axis, False) == goal


def test_goals_are_four_different_texts():
    assert len(set(TEXTS.values())) == len(TEXTS) == 4
    assert "helpful and harmless" in BEST.text


def test_an_answer_is_held_against_the_goals_that_differ_in_one_axis():
    for goal in TEXTS:
        others = contrasts(goal, "train")
        assert len(set(others)) == 2
        assert all(sum(a != b for a, b in zip(goal, other, strict=True)) == 1 for other in others)


def test_where_unsafe_goals_are_dropped_no_answer_is_pushed_towards_one():
    for goal in TEXTS:
        others = contrasts(goal, "drop")
        assert all(other.safe for other in others)
        if not goal.safe:
            assert others == (BEST,)


def test_thirds_of_six_are_two_and_equal_rewards_have_no_thirds():
    low, high = thirds([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (low, high) == (2.0, 5.0)
    found = [reached(r, low, high) for r in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    assert found == [False, False, None, None, True, True]
    assert [reached(1.0, *thirds([1.0] * 4)), reached(0.0, *thirds([0.0]))] == [None, None]


# Relabelling


def row(prompt, number, text, *, tag="general", finished=True):
    ids = byte_tokenizer()(text, add_special_tokens=False)["input_ids"]
    return {
        "prompt_id": prompt,
        "sample": number,
        "messages": [{"role": "user", "content": f"say {prompt}"}],
        "completion": text,
        "token_ids": [*ids, END] if finished else ids,
        "logp": -1.0,
        "finished": finished,
        "tag": tag,
        "cluster": "c",
    }


def relabelled(folder, rows, **settings):
    """Return the rows in hindsight, and the draft that says what was dropped."""
    source, target = folder / "samples", folder / "relabelled"
    for place in (source, target, folder / "policy"):
        place.mkdir()
    write_rows(Draft(source), rows)
    byte_tokenizer().save_pretrained(folder / "policy")
    out = Draft(target)
    given = {"helpful": Contains("a"), "safe": Contains("ok"), "safe_at": 0.5, "seed": 0}
    policy = Policy("policy", path=folder / "policy")
    in_hindsight.body(
        out,
        Samples("s", path=source),
        policy=policy,
        **{"judged_axes": "both", **given, **settings},
    )
    return Relabelled("r", path=target).rows(), out


ANSWERS = ["a ok", "b ok", "a", "b"]
TABLE = {"a ok": (True, True), "b ok": (False, True), "a": (True, False), "b": (False, False)}


def test_every_answer_gets_the_goal_it_reached_on_both_axes(tmp_path):
    rows = [row("p", n, text, tag="red-team") for n, text in enumerate(ANSWERS)]
    found, out = relabelled(tmp_path, rows, helpful_at=0.5)
    assert {r["completion"]: (r["helpful"], r["safe"]) for r in found} == TABLE
    assert out.counters == {"judge_calls": 8}  # four answers on two axes
    assert out.facts["best"] == 0.25


def test_by_tag_an_axis_that_is_not_judged_counts_as_reached(tmp_path):
    rows = [row("p", n, text) for n, text in enumerate(ANSWERS)]
    rows += [row("q", n, text, tag="red-team") for n, text in enumerate(ANSWERS)]
    found, out = relabelled(tmp_path, rows, helpful_at=0.5, judged_axes="tag")
    assert out.counters == {"judge_calls": 8}  # eight answers, each on the axis of its prompt
    goals = {(r["prompt_id"], r["completion"]): (r["helpful"], r["safe"]) for r in found}
    for text, (helpful, safe) in TABLE.items():
        assert goals["p", text] == (helpful, True)
        assert goals["q", text] == (True, safe)


def test_no_answer_is_lost_without_being_counted(tmp_path):
    rows = [row("p", n, text) for n, text in enumerate(["a", "b", "b", "a", "c", "a and b"])]
    rows.append(row("p", 6, "cut of", finished=False))
    found, out = relabelled(tmp_path, rows)
    dropped = [out.facts[name] for name in ("unfinished", "duplicates", "in_the_middle")]
    assert dropped[:2] == [1, 2]
    assert len(found) + sum(dropped) == len(rows)


def test_answers_that_nothing_tells_apart_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="tell the goals apart"):
        relabelled(tmp_path, [row("p", n, text) for n, text in enumerate(["b", "c"])])


@given(st.text(alphabet="abc ", min_size=1, max_size=12), st.integers(0, 4), st.integers(0, 9))
def test_context_and_end_of_an_answer_are_its_tokens_and_no_end_is_empty(text, parts, seed):
    tokenizer = byte_tokenizer()
    whole, *ends = cut(row("p", 0, text), parts, seed, tokenizer)
    assert whole["start"] == 0
    assert len(ends) == min(parts, len(whole["token_ids"]) - 2)
    assert len({end["start"] for end in ends}) == len(ends)
    for end in ends:
        context = tokenizer.decode(end["token_ids"][: end["start"]])
        assert context + end["completion"] == text
        assert context
        assert end["completion"]


def test_an_end_is_graded_as_an_answer_of_its_own(tmp_path):
    found, _ = relabelled(tmp_path, [row("p", 0, "aX")], helpful_at=0.5, judged_axes="tag", parts=1)
    goals = {r["start"]: (r["completion"], r["helpful"]) for r in found}
    assert goals == {0: ("aX", True), 1: ("X", False)}


# Losses


def batch_of(lengths=(5, 7), others=1, *, targets=None, starts=None, seed=0):
    """Return a batch of random answers, each under its own goal and under so many others."""
    draw = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(2, 12, (n,), generator=draw).tolist()

    rows = []
    for place, n in enumerate(lengths):
        answer = ids(n)
        prompts = [ids(2 + k + place) for k in range(1 + others)]
        own = [len(p) + (starts[place] if starts else 0) for p in prompts]
        is_target = targets[place] if targets else True
        rows.append({"ids": [p + answer for p in prompts], "starts": own, "is_target": is_target})
    return rows


def logits_for(batch, seed=0, vocabulary=12):
    draw = torch.Generator().manual_seed(seed)
    shape = (*batch.ids.shape, vocabulary)
    return torch.randn(shape, generator=draw, requires_grad=True)


def test_equal_likelihoods_under_both_goals_cost_log_two_each():
    batch = collated(batch_of(), 0)
    found = terms(torch.zeros(*batch.ids.shape, 12), batch, PLAIN)
    assert float(found.contrast) == pytest.approx(2 * math.log(2))
    assert float(found.supervised) == pytest.approx((5 + 7) * math.log(12))
    assert float(found.negative_entropy) == pytest.approx(-(5 + 7) * math.log(12), rel=1e-5)


def lifted(batch, gap):
    """Return logits under which own answers are `gap` nats a token likelier than the others."""
    logits = torch.zeros(*batch.ids.shape, 12, dtype=torch.float64)
    # log softmax of x against 11 zeros is -1.0 and -1.0 - gap.
    for first, level in ((0, -1.0), (len(batch.is_target), -1.0 - gap)):
        share = math.exp(level)
        value = math.log(share * 11 / (1 - share))
        for sequence in range(first, first + len(batch.is_target)):
            for t in range(1, batch.ids.shape[1]):
                logits[sequence, t - 1, batch.ids[sequence, t]] = value
    return logits


def test_the_contrast_is_of_mean_log_probabilities_a_token():
    batch = collated(batch_of(lengths=(3, 9)), 0)
    found = terms(lifted(batch, 1.0), batch, PLAIN)
    assert float(found.contrast) == pytest.approx(2 * 0.31326, abs=1e-4)  # -log s(-0.5 - -1.5)
    assert float(found.right) == 2.0


def test_smoothed_contrast_is_lowest_at_a_finite_margin():
    weights = Weights(contrast=1.0, entropy=0.0, label_smoothing=0.0, contrast_smoothing=0.2)
    batch = collated(batch_of(lengths=(4,)), 0)
    at = {gap: float(terms(lifted(batch, gap), batch, weights).contrast) for gap in (1.0, 1.386, 2)}
    assert at[1.386] == pytest.approx(0.5004, abs=1e-4)
    assert at[1.386] < min(at[1.0], at[2])


def test_padding_changes_no_term_even_if_it_is_poison():
    rows = batch_of(lengths=(4, 4), others=2)
    narrow = collated(rows, 0)
    logits = logits_for(narrow).detach()
    extra = 5
    wide = Batch(
        torch.nn.functional.pad(narrow.ids, (0, extra)),
        torch.nn.functional.pad(narrow.mask, (0, extra)),
        torch.nn.functional.pad(narrow.is_completion, (0, extra)),
        *narrow[3:],
    )
    poison = torch.nn.functional.pad(logits, (0, 0, 0, extra), value=math.nan)
    weights = Weights(1.0, 0.001, 0.2, 0.2)
    for one, other in zip(
        terms(logits, narrow, weights), terms(poison, wide, weights), strict=True
    ):
        assert torch.equal(one, other)


def test_context_before_an_end_carries_no_loss():
    whole, part = (collated(batch_of(starts=starts), 0) for starts in (None, (2, 3)))
    assert (target_tokens(whole), target_tokens(part)) == (12, 7)
    logits = logits_for(part)
    sum(terms(logits, part, PLAIN)[:3]).backward()
    # The logits that predict a token stand one place before it.
    predicts = part.is_completion.roll(-1, dims=1)
    predicts[:, -1] = False
    assert not logits.grad[~predicts].any()
    assert logits.grad[predicts].any(dim=-1).all()


def test_an_unsafe_answer_is_no_target_and_gets_likelier_nowhere():
    batch = collated(batch_of(targets=(True, False)), 0)
    logits = logits_for(batch)
    found = terms(logits, batch, PLAIN)
    assert target_tokens(batch) == 5
    found.loss(5, 2, PLAIN).backward()
    moved = -logits.grad  # the direction of a gradient step
    first, second = 1, 3  # the unsafe answer under its own goal, and under the best one
    assert not moved[first].any()
    for t in batch.is_completion[second].nonzero()[:, 0].tolist():
        assert moved[second, t - 1, batch.ids[second, t]] < 0


def test_an_answer_against_two_goals_counts_once():
    one, two = (collated(batch_of(others=n), 0) for n in (1, 2))
    assert contrasted_answers(one) == contrasted_answers(two) == 2
    flat = [terms(torch.zeros(*b.ids.shape, 12), b, PLAIN).contrast for b in (one, two)]
    assert flat[0] == pytest.approx(flat[1])


def test_higher_entropy_lowers_the_loss():
    batch = collated(batch_of(), 0)
    weights = Weights(contrast=0.0, entropy=0.5, label_smoothing=0.0, contrast_smoothing=0.0)
    logits = logits_for(batch).detach()
    spread, sharp = (terms(scale * logits, batch, weights).negative_entropy for scale in (0.1, 3.0))
    assert spread < sharp


# Sequences


def goaled(goal, prompt="p", text="yes", start=0):
    found = row(prompt, 0, text)
    return {**found, "start": start, "helpful": goal.helpful, "safe": goal.safe}


def stored(folder, *rounds):
    found = []
    for number, rows in enumerate(rounds):
        (folder / f"round-{number}").mkdir()
        write_rows(Draft(folder / f"round-{number}"), rows)
        found.append(Relabelled(f"round-{number}", path=folder / f"round-{number}"))
    return tuple(found)


def test_goals_stand_in_the_system_turn_just_as_the_sampler_puts_them(tmp_path):
    tokenizer = byte_tokenizer()
    (found,), _ = sequences(
        tokenizer, stored(tmp_path, [goaled(BEST)]), "drop", goalless=0.0, max_length=999, seed=0
    )
    answer = row("p", 0, "yes")
    asked = Manner(1.0, 1, None, BEST.text, ()).prompt(answer["messages"])
    assert found["ids"][0] == [*encode(tokenizer, asked), *answer["token_ids"]]
    assert BEST.text in tokenizer.decode(found["ids"][0])
    assert Goal(False, True).text in tokenizer.decode(found["ids"][1])
    assert [ids[start:] for ids, start in zip(found["ids"], found["starts"], strict=True)] == [
        answer["token_ids"]
    ] * 2


def test_unsafe_answers_are_targets_only_when_unsafe_goals_are_trained(tmp_path):
    rounds = stored(tmp_path, [goaled(goal, text=goal.text) for goal in TEXTS])
    for unsafe_goals, count in (("drop", 2), ("train", 4)):
        rows, _ = sequences(
            byte_tokenizer(), rounds, unsafe_goals, goalless=0.0, max_length=999, seed=0
        )
        assert len(rows) == 4
        assert sum(r["is_target"] for r in rows) == count


def test_a_share_of_the_best_answers_alone_is_imitated_without_a_goal(tmp_path):
    rows = [goaled(BEST, f"p{n}") for n in range(200)]
    rows += [goaled(Goal(False, True), f"q{n}") for n in range(50)]
    found, _ = sequences(
        byte_tokenizer(), stored(tmp_path, rows), "drop", goalless=0.3, max_length=999, seed=0
    )
    alone = [r for r in found if len(r["ids"]) == 1]
    assert 40 < len(alone) < 80
    texts = [byte_tokenizer().decode(r["ids"][0]) for r in alone]
    assert not any("<|system|>" in text for text in texts)
    assert all("say p" in text for text in texts)


def test_an_answer_of_several_rounds_stands_once_with_its_last_goal(tmp_path):
    rounds = stored(tmp_path, [goaled(BEST)], [goaled(Goal(False, True)), goaled(BEST, "q")])
    rows, dropped = sequences(
        byte_tokenizer(), rounds, "drop", goalless=0.0, max_length=999, seed=0
    )
    assert len(rows) == 2
    assert dropped["repeated"] == 1
    asked = [byte_tokenizer().decode(r["ids"][0]) for r in rows if "say p" in str(decoded(r))]
    assert "unhelpful" in asked[0]


def decoded(found):
    return byte_tokenizer().decode(found["ids"][0])


def test_an_empty_goal_is_the_plain_prompt():
    messages = [{"role": "user", "content": "hi"}]
    tokenizer = byte_tokenizer()
    assert prompt_ids(tokenizer, messages, "") == encode(tokenizer, messages)


# Training

SETTINGS = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "seed": 1}


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    rows = []
    for number, asked in enumerate(questions(24, 0)):
        goal = (BEST, Goal(False, True), Goal(True, False))[number % 3]
        text = "yes a" * (1 + number % 2) if goal.helpful else f"no {number}"
        rows.append({**goaled(goal, asked["prompt_id"], text), "messages": asked["messages"]})
    return stored(tmp_path_factory.mktemp("rounds"), rows)


@pytest.fixture(scope="module")
def policy(make):
    return make(tiny_policy(seed=0))


def trained(folder, policy, rounds, *, draft=None, **changes):
    folder.mkdir(exist_ok=True)
    out = draft or Draft(folder)
    follow_goals.body(out, policy, rounds, **{**SETTINGS, **changes})
    return out


def curve(folder):
    with (folder / "curves.csv").open() as file:
        return [{k: float(v) for k, v in r.items()} for r in csv.DictReader(file)]


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


def test_the_first_loss_is_the_sum_of_its_parts(tmp_path, policy, rounds):
    out = trained(
        tmp_path / "a", policy, rounds, contrast=0.5, entropy=0.1, label_smoothing=0.0, epochs=1
    )
    rows = curve(tmp_path / "a")
    assert tuple(rows[0]) == COLUMNS
    for each in rows:
        parts = each["supervised"] + 0.5 * each["contrast"] - 0.1 * each["entropy"]
        assert each["loss"] == pytest.approx(parts, rel=1e-5)
    assert out.counters["optimiser_steps"] == len(rows) == 3
    assert out.facts["targets"] == 16


def test_supervised_loss_is_the_policys_own_negative_log_likelihood(tmp_path, policy, rounds):
    changes = {"label_smoothing": 0.0, "goalless": 0.0, "batch_size": 24, "epochs": 1}
    trained(tmp_path / "a", policy, rounds, **changes)
    model, tokenizer = load_policy(policy), policy.tokenizer()
    total, tokens = 0.0, 0
    for each in rounds[0]:
        if each["safe"]:
            goal = Goal(each["helpful"], each["safe"])
            prompt = prompt_ids(tokenizer, each["messages"], goal.text)
            ids = torch.tensor([[*prompt, *each["token_ids"]]])
            with torch.inference_mode():
                total -= float(logprobs(model, ids, len(prompt)).sum())
            tokens += len(each["token_ids"])
    assert curve(tmp_path / "a")[0]["supervised"] == pytest.approx(total / tokens, rel=1e-5)


def test_micro_batches_add_up_to_the_whole_batch(tmp_path, policy, rounds):
    found = []
    for size in (None, 1, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        trained(folder, policy, rounds, draft=Draft(folder, micro_batch=size), epochs=1)
        found.append(curve(folder))
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-6)


def test_training_tells_the_goals_apart(tmp_path, policy, rounds):
    changes = {"goalless": 0.0, "contrast_smoothing": 0.0, "label_smoothing": 0.0}
    trained(tmp_path / "a", policy, rounds, **changes, learning_rate=3e-3, epochs=30, batch_size=24)
    first, *_, last = curve(tmp_path / "a")
    assert last["supervised"] < first["supervised"] / 2
    assert last["contrast"] < first["contrast"] / 2
    assert first["contrast_accuracy"] < 1
    assert last["contrast_accuracy"] == 1


def test_at_learning_rate_zero_nothing_moves(tmp_path, policy, rounds):
    from safetensors.torch import load_file

    trained(tmp_path / "a", policy, rounds, learning_rate=0.0, epochs=1)
    before = load_file(policy.path / "model.safetensors")
    after = load_file(tmp_path / "a" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


class Stopping(Draft):
    """A draft that is asked to stop at one step."""

    def progress(self, label, done, total):
        self.stopping = self.stopping or done == 3


def test_a_stopped_and_resumed_run_has_the_bytes_of_an_uninterrupted_one(tmp_path, policy, rounds):
    trained(tmp_path / "whole", policy, rounds)
    kept = Checkpoints(tmp_path / "kept", lambda: None, lambda folder, reason: folder)
    (tmp_path / "parts").mkdir()
    with pytest.raises(Interrupted):
        trained(
            tmp_path / "parts",
            policy,
            rounds,
            draft=Stopping(tmp_path / "parts", checkpoints=kept),
        )
    assert kept.found()
    trained(tmp_path / "parts", policy, rounds, draft=Draft(tmp_path / "parts", checkpoints=kept))
    assert digests(tmp_path / "whole") == digests(tmp_path / "parts")


def test_a_loss_that_is_not_finite_stops_with_the_last_finite_values(tmp_path, policy, rounds):
    with pytest.raises(Diverged, match=r"at step \d+ of \d+; last finite values: \{"):
        trained(tmp_path / "a", policy, rounds, learning_rate=1e18, epochs=8)
    assert curve(tmp_path / "a")


def test_answers_all_of_which_are_unsafe_teach_nothing(tmp_path, policy):
    with pytest.raises(ValueError, match="safe answers"):
        trained(tmp_path / "a", policy, stored(tmp_path, [goaled(Goal(True, False))]))


# The method


def planned(**settings):
    return get("method", "hir")(SHARED, **settings)


def made_by(artifact, stage):
    return [a for a in in_order([artifact]) if a.recipe.stage.name == stage]


def arguments(artifact):
    return dict(artifact.recipe.arguments)


def test_each_round_asks_for_the_best_goal_and_learns_from_the_rounds_kept():
    made = planned(rounds=3, replay=2)
    samples, steps = made_by(made, "sample"), made_by(made, "follow_goals")
    policies = [SHARED.sft, *steps[:-1]]
    asked = [under_goal(policy, goal=BEST.text) for policy in policies]
    assert [arguments(drawn)["policy"] for drawn in samples] == asked
    assert [arguments(step)["policy"] for step in steps] == policies
    assert [len(arguments(step)["rounds"]) for step in steps] == [1, 2, 2]
    assert {arguments(step)["unsafe_goals"] for step in steps} == {"drop"}


def test_the_trained_policy_is_used_under_the_best_goal_unless_told_otherwise(make):
    asked, plain = planned(rounds=1), planned(rounds=1, goal=False)
    assert asked == under_goal(arguments(asked)["policy"], goal=BEST.text)
    assert plain == under_goal(arguments(asked)["policy"], goal="")


def test_without_rounds_it_is_the_sft_policy_under_the_goal_text():
    assert planned(rounds=0) == under_goal(SHARED.sft, goal=BEST.text)


def test_rewards_are_learnt_from_the_rows_of_each_axis_of_everybodys_pairs():
    relabel = made_by(planned(rounds=1), "in_hindsight")[0]
    for axis in ("helpful", "safe"):
        model = arguments(relabel)[axis].model
        assert arguments(model)["axis"] == axis
        assert arguments(model)["pairs"] == SHARED.preferences


@stage(makes=Demonstrations)
def letters_by_chance(out: Draft) -> None:
    """Answer a as often as b, so that a policy learns both and to stop."""
    rows = [
        {"prompt_id": q["prompt_id"], "messages": q["messages"], "completion": "ab"[number % 2]}
        for number, q in enumerate(questions(96, 0))
    ]
    write_rows(out, rows)


@pytest.mark.slow
def test_in_three_rounds_a_policy_learns_to_say_a_under_the_good_goal_and_not_under_the_bad(make):
    sft = finetune(
        tiny_policy(seed=0),
        letters_by_chance(),
        learning_rate=3e-3,
        epochs=8,
        batch_size=16,
        seed=0,
    )
    prompts, bad = tiny_prompts(n=96, seed=0), BEST.flipped("helpful")
    drawing = {"n": 4, "temperature": 1.0, "max_new_tokens": 4}

    def share(policy, goal):
        answers = make(sample(under_goal(policy, goal=goal.text), prompts, **drawing, seed=99))
        return sum("a" in r["completion"] for r in answers) / (4 * 96)

    policy, seen = sft, ()
    for number in range(3):
        drawn = sample(under_goal(policy, goal=BEST.text), prompts, **drawing, seed=number)
        by = {"helpful": Contains("a"), "safe": Contains(""), "helpful_at": 0.5}
        seen += (in_hindsight(drawn, policy=sft, **by, seed=number),)
        settings = {"learning_rate": 5e-3, "epochs": 6, "batch_size": 32, "seed": number}
        policy = follow_goals(policy, seen, **settings, label_smoothing=0.0)
    assert share(policy, BEST) > share(sft, BEST) + 0.2
    assert share(policy, bad) < share(sft, bad) - 0.2
