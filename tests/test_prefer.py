"""Direct preference optimisation: the loss, its reference, its labels, and what it learns."""

from __future__ import annotations

import csv
import hashlib
import math

import pytest
import torch
from tiny import tiny_pairs, tiny_policy, write_policy

import harness.stages.prefer as stage_file
from harness.artifacts import Policy, Preferences, write_rows
from harness.draft import Draft
from harness.models import load_policy, load_tokenizer
from harness.sampling import logprobs
from harness.stages.prefer import PLAIN, Answers, Variant, loss_config, prefer
from harness.tokens import encoded_pairs
from harness.training import Job, Recipe, planned_batches

RECIPE = Recipe(1e-3, 1, 8, "linear", 0.0, 0.0, seed=0)


@pytest.fixture(scope="module")
def reference(make):
    return make(tiny_policy(seed=0))


def pairs(n=8, **changes):
    said = ["yes", "no, never", "it is seven", "a"]
    return [
        {
            "prompt_id": f"p{i}",
            "messages": [{"role": "user", "content": "say " + "x" * i}],
            "chosen": said[i % 4] + "!" * i,
            "rejected": said[(i + 1) % 4],
            "p1": 1.0,
            "strength": None,
            **changes,
        }
        for i in range(n)
    ]


def trainer(reference, folder, rows, *, micro_batch=None, variant=PLAIN, **config):
    """Return a trainer and its rows as it sees them, the reference's log-probabilities included."""
    folder.mkdir(exist_ok=True)
    tokenizer = load_tokenizer(reference)
    encoded, _ = encoded_pairs(tokenizer, rows, 1024)
    out = Draft(folder, micro_batch=micro_batch)
    job = Job(out, planned_batches([1] * len(encoded), RECIPE), "prefer")
    config = {"beta": 0.1, "loss_type": ["sigmoid"], **config}
    made = stage_file.trainer_for(reference, tokenizer, encoded, RECIPE, job, config, variant)
    return made, [made.train_dataset[i] for i in range(len(encoded))]


def step(made, rows):
    return made.training_step(made.model, made.micro_batches(rows))


def sums(model, rows, side):
    """Return the log-probability of each answer, one sequence at a time: no padding anywhere."""
    with torch.no_grad():
        return torch.stack(
            [
                logprobs(
                    model, torch.tensor([r["prompt_ids"] + r[side]]), len(r["prompt_ids"])
                ).sum()
                for r in rows
            ]
        )


def margins(model, reference, rows):
    """Return h of each pair by definition."""
    ours = sums(model, rows, "chosen_ids") - sums(model, rows, "rejected_ids")
    theirs = sums(reference, rows, "chosen_ids") - sums(reference, rows, "rejected_ids")
    return ours - theirs


def moved(model, seed=0):
    """Move the weights, so that the policy is no longer its reference."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=draw)


@pytest.mark.parametrize(
    ("config", "golden"),
    [
        ({"loss_type": ["sigmoid"]}, math.log(2)),
        ({"loss_type": ["robust"], "label_smoothing": 0.1}, math.log(2)),
        ({"loss_type": ["sigmoid_norm"]}, math.log(2)),
        ({"loss_type": ["hinge"]}, 1.0),
        ({"loss_type": ["ipo"]}, 25.0),
    ],
)
def test_a_policy_that_is_its_reference_starts_at_the_known_loss(
    reference, tmp_path, config, golden
):
    made, rows = trainer(reference, tmp_path, pairs(), **config)
    assert step(made, rows).item() == pytest.approx(golden, rel=1e-5)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm", "simpo", "ipo", "ipo_sum"])
def test_the_curve_shows_how_far_ahead_the_loss_sees_the_better_answers(reference, tmp_path, loss):
    config = {"loss_type": ["sigmoid" if loss in ("simpo", "ipo_sum") else loss]}
    made, rows = trainer(reference, tmp_path, pairs(), variant=Variant(loss), **config)
    moved(made.model)
    start = load_policy(reference)
    side = {}
    for name in ("chosen_ids", "rejected_ids"):
        side[name] = sums(made.model, rows, name)
        if loss != "simpo":
            side[name] = side[name] - sums(start, rows, name)
        if loss in ("sigmoid_norm", "simpo", "ipo"):
            side[name] = side[name] / torch.tensor([len(row[name]) for row in rows])
    lead = side["chosen_ids"] - side["rejected_ids"]
    step(made, rows)
    shown = made._metrics["train"]
    assert shown["rewards/margins"][-1] == pytest.approx(0.1 * lead.mean().item(), rel=1e-3)
    assert shown["rewards/accuracies"][-1] == (lead > 0).float().mean().item()


def test_at_the_start_every_pair_is_a_tie_to_the_bit_and_counts_one_half(make, tmp_path):
    data, out = make(tiny_pairs(n=20, seed=0)), Draft(tmp_path)
    prefer.body(out, make(tiny_policy(seed=0)), data, batch_size=6, learning_rate=0.0, seed=0)
    with (tmp_path / "curves.csv").open() as file:
        for row in csv.DictReader(file):
            assert float(row["rewards/accuracies"]) == 0.5
            assert float(row["rewards/margins"]) == 0.0
            assert float(row["loss"]) == pytest.approx(math.log(2), abs=1e-7)


def test_dropout_in_attention_is_off_so_that_the_policy_starts_as_its_reference(tmp_path):
    (tmp_path / "wet").mkdir()
    write_policy(tmp_path / "wet", attention_dropout=0.5)
    made, rows = trainer(Policy("wet", path=tmp_path / "wet"), tmp_path / "out", pairs())
    assert step(made, rows).item() == pytest.approx(math.log(2), abs=1e-7)


def test_the_loss_is_the_papers_on_log_probabilities_of_the_answers_alone(reference, tmp_path):
    made, rows = trainer(reference, tmp_path, pairs(), beta=0.5)
    moved(made.model)
    h = margins(load_policy(reference), load_policy(reference), rows)
    assert not h.any()
    h = margins(made.model, load_policy(reference), rows)
    assert h.abs().min() > 1e-3
    expected = torch.nn.functional.softplus(-0.5 * h).mean().item()
    assert step(made, rows).item() == pytest.approx(expected, rel=1e-4)


def test_soft_labels_enter_the_loss_as_probabilities(reference, tmp_path):
    given = [dict(row, p1=0.5 + i / 20) for i, row in enumerate(pairs())]
    made, rows = trainer(reference, tmp_path, given, beta=0.5)
    moved(made.model)
    h = margins(made.model, load_policy(reference), rows)
    p1 = torch.tensor([row["p1"] for row in given])
    softplus = torch.nn.functional.softplus
    expected = (p1 * softplus(-0.5 * h) + (1 - p1) * softplus(0.5 * h)).mean().item()
    assert step(made, rows).item() == pytest.approx(expected, rel=1e-4)


def test_a_nearly_hard_label_has_the_gradient_of_trls_hard_one(reference, tmp_path):
    gradients = []
    for number, p1 in enumerate((1.0, 1 - 1e-7)):  # the second takes our loss, the first TRL's
        made, rows = trainer(reference, tmp_path / str(number), pairs(p1=p1))
        moved(made.model)
        step(made, rows)
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    for hard, soft in zip(*gradients, strict=True):
        torch.testing.assert_close(hard, soft, atol=1e-5, rtol=1e-4)


def test_an_undecided_label_moves_nothing_from_the_reference(reference, tmp_path):
    made, rows = trainer(reference, tmp_path, pairs(p1=0.5))
    step(made, rows)
    assert not any(weight.grad.any() for weight in made.model.parameters())


@pytest.mark.parametrize(
    ("beta", "config", "golden"),
    [
        (0.1, {"loss_type": ["sigmoid"]}, 0.620957),
        (0.1, {"loss_type": ["robust"], "label_smoothing": 0.1}, 0.602207),
        (0.1, {"loss_type": ["hinge"]}, 0.85),
        (0.5, {"loss_type": ["sigmoid"]}, 0.386871),
        (0.5, {"loss_type": ["robust"], "label_smoothing": 0.1}, 0.293121),
        (0.5, {"loss_type": ["hinge"]}, 0.25),
    ],
)
def test_losses_at_h_of_one_and_a_half_have_their_golden_values(
    reference, tmp_path, beta, config, golden
):
    made, rows = trainer(reference, tmp_path, pairs(), beta=beta, **config)
    for row in rows:
        row["ref_chosen_logps"] -= 1.5
    assert step(made, rows).item() == pytest.approx(golden, abs=1e-4)


def test_label_smoothing_under_sigmoid_is_cdpo(reference, tmp_path):
    given = pairs()
    config = loss_config(given, "sigmoid", 0.1)
    made, rows = trainer(reference, tmp_path, given, **config)
    for row in rows:
        row["ref_chosen_logps"] -= 1.5
    assert step(made, rows).item() == pytest.approx(0.635957, abs=1e-4)


@pytest.mark.parametrize("loss", ["hinge", "ipo", "ipo_sum"])
def test_smoothing_that_a_loss_would_ignore_is_refused(loss):
    with pytest.raises(ValueError, match="no effect"):
        prefer(tiny_policy(seed=0), tiny_pairs(n=2, seed=0), loss=loss, label_smoothing=0.1, seed=0)


def test_soft_labels_are_refused_where_the_loss_cannot_take_them():
    with pytest.raises(ValueError, match="hard labels only"):
        loss_config(pairs(p1=0.9), "hinge", 0.0)


ANSWERS = Answers(
    chosen=torch.tensor([-6.0]),
    rejected=torch.tensor([-4.0]),
    ref_chosen=torch.tensor([-9.0]),
    ref_rejected=torch.tensor([-5.5]),
    tokens=(torch.tensor([3.0]), torch.tensor([1.0])),
)  # log-ratios 3 and 1.5: h is 1.5, and -0.5 a token


def log1p_exp(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("variant", "beta", "by_hand"),
    [
        (Variant(), 0.1, 0.620957),
        (Variant("ipo_sum"), 0.1, 12.25),
        (Variant("ipo_sum"), 0.5, 0.25),
        (Variant("sigmoid_norm"), 2.0, log1p_exp(1.0)),
        (Variant("robust", flips=0.1), 0.5, 0.293121),
        (Variant("simpo"), 2.0, log1p_exp(-4.0)),
        (Variant("simpo", margin=0.5), 2.0, log1p_exp(-3.5)),
        (Variant(length_penalty=0.05), 0.1, log1p_exp(-0.15 + 0.1)),
        (Variant(margin=0.3), 0.1, log1p_exp(-0.15 + 0.3)),
    ],
    ids=str,
)
def test_each_variant_has_the_value_worked_out_by_hand(variant, beta, by_hand):
    found = variant.of(beta, ANSWERS, torch.tensor([1.0]))
    assert found.item() == pytest.approx(by_hand, abs=1e-6)


def test_a_soft_label_under_the_robust_loss_is_the_mean_of_both_labels_losses(reference, tmp_path):
    config = {"loss_type": ["robust"], "label_smoothing": 0.1}
    given = pairs(p1=0.9)
    assert loss_config(given, "robust", 0.1) == config
    robust = Variant("robust", flips=0.1)
    made, rows = trainer(reference, tmp_path, given, beta=0.5, variant=robust, **config)
    for row in rows:
        row["ref_chosen_logps"] -= 1.5
    log_odds = {sign: log1p_exp(-sign * 0.75) for sign in (1, -1)}  # beta h is 0.75
    one, other = ((0.9 * log_odds[s] - 0.1 * log_odds[-s]) / 0.8 for s in (1, -1))
    assert one == pytest.approx(0.293121, abs=1e-6)
    assert step(made, rows).item() == pytest.approx(0.9 * one + 0.1 * other, abs=1e-4)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_ours_and_trls_are_one_loss_where_both_exist(reference, tmp_path, loss):
    found = []
    for name, margin in (("trl", 0.0), ("ours", 1e-9)):
        variant = Variant(loss, margin=margin)
        assert variant.is_trls == (name == "trl")
        made, rows = trainer(
            reference, tmp_path / name, pairs(), beta=0.5, variant=variant, loss_type=[loss]
        )
        moved(made.model)
        found.append(step(made, rows).item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_nll_term_is_the_better_answers_loss_a_token(reference, tmp_path):
    found = []
    for nll in (0.0, 0.2):
        made, rows = trainer(reference, tmp_path / str(nll), pairs(), variant=Variant(nll=nll))
        moved(made.model)
        found.append(step(made, rows).item())
    tokens = torch.tensor([float(len(row["chosen_ids"])) for row in rows])
    nll = (-sums(made.model, rows, "chosen_ids") / tokens).mean().item()
    assert found[1] - found[0] == pytest.approx(0.2 * nll, rel=1e-4)


def test_simpo_does_not_look_at_the_reference(reference, tmp_path):
    made, rows = trainer(reference, tmp_path, pairs(), beta=2.0, variant=Variant("simpo"))
    moved(made.model)
    before = step(made, rows).item()
    for row in rows:
        row["ref_chosen_logps"] -= 1.5
    assert step(made, rows).item() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "ipo", "margin": 0.1},
        {"loss": "hinge", "length_penalty": 0.1},
    ],
)
def test_a_term_that_a_loss_would_ignore_is_refused(changes):
    with pytest.raises(ValueError, match="no effect"):
        prefer(tiny_policy(seed=0), tiny_pairs(n=2, seed=0), **changes, seed=0)


def test_eight_micro_batches_of_one_have_the_gradient_of_one_batch_of_eight(reference, tmp_path):
    gradients = []
    given = [dict(row, p1=0.6 if i % 2 else 1.0) for i, row in enumerate(pairs())]
    variant = Variant(nll=0.3, length_penalty=0.01)
    for micro_batch in (None, 1, 3):
        settings = {"micro_batch": micro_batch, "variant": variant}
        made, rows = trainer(reference, tmp_path / str(micro_batch), given, **settings)
        moved(made.model)
        step(made, rows)
        gradients.append([weight.grad.clone() for weight in made.model.parameters()])
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_reference_is_the_policy_given_and_never_one_from_the_configs_path(
    make, tmp_path, monkeypatch
):
    (tmp_path / "other").mkdir()
    write_policy(tmp_path / "other", seed=9)
    given = make(tiny_policy(seed=0))
    known = Policy.load

    def misleading(self, device="cpu"):
        model = known(self, device)
        model.config._name_or_path = str(tmp_path / "other")
        return model

    monkeypatch.setattr(Policy, "load", misleading)
    made, rows = trainer(given, tmp_path / "out", pairs())
    for side in ("chosen", "rejected"):
        found = [row[f"ref_{side}_logps"] for row in rows]
        expected = sums(load_policy(given), rows, f"{side}_ids").tolist()
        assert found == pytest.approx(expected, rel=1e-5)
    assert made.ref_model is None


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_training_leaves_the_reference_as_it_was_and_is_the_same_again(make, tmp_path):
    reference, data = make(tiny_policy(seed=0)), make(tiny_pairs(n=16, seed=0))
    before, made = digests(reference.path), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        out = Draft(tmp_path / name)
        prefer.body(out, reference, data, batch_size=4, learning_rate=1e-3, seed=0)
        made.append(digests(out.path))
    assert digests(reference.path) == before
    assert made[0] == made[1]
    assert made[0]["model.safetensors"] != before["model.safetensors"]
    assert set(made[0]) == {*before, "curves.csv"}


def test_pairs_of_equal_answers_are_left_out_and_tokens_are_counted(make, tmp_path):
    rows = pairs(5)
    rows[2]["rejected"] = rows[2]["chosen"]
    for name in ("rows", "out"):
        (tmp_path / name).mkdir()
    write_rows(Draft(tmp_path / "rows"), rows)
    out = Draft(tmp_path / "out")
    data = Preferences("rows", path=tmp_path / "rows")
    prefer.body(out, make(tiny_policy(seed=0)), data, epochs=2, batch_size=2, seed=0)
    assert out.facts == {"pairs": 4, "longer_than_max_length": 0, "equal_answers": 1}
    # Over bytes: <|user|>, the prompt, <|assistant|>, the answer, <|end|>.
    texts = [row for number, row in enumerate(rows) if number != 2]
    tokens = sum(
        len(row["messages"][0]["content"]) + len(row[side]) + 3
        for row in texts
        for side in ("chosen", "rejected")
    )
    assert out.counters == {
        "tokens_trained": 2 * tokens,
        "tokens_forward": tokens,
        "labels_used": 4,
        "optimiser_steps": 4,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("smoothing", "limit"), [(0.0, None), (0.1, 2.197225)])
def test_one_pair_is_learnt_and_cdpo_stops_at_the_flip_rate(make, tmp_path, smoothing, limit):
    for name in ("rows", "out"):
        (tmp_path / name).mkdir()
    write_rows(Draft(tmp_path / "rows"), pairs(1))
    out = Draft(tmp_path / "out")
    data = Preferences("rows", path=tmp_path / "rows")
    settings = {"label_smoothing": smoothing, "learning_rate": 1e-3, "epochs": 120}
    prefer.body(out, make(tiny_policy(seed=0)), data, schedule="constant", **settings, seed=0)
    with (out.path / "curves.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["rewards/accuracies"]) == 1.0
    margin = float(last["rewards/margins"])  # beta times h
    assert margin > 1 if limit is None else margin == pytest.approx(limit, abs=0.05)
