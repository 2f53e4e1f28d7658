"""The judge card: what was planted in verdicts is what it says."""

from __future__ import annotations

import json
import random

import pytest

from harness.judge_card import Judged, judge_card, truth_in, verdicts_in


def pair(label, prompt, seed=0):
    return ("base", "data", label, seed, "T=1", f"p{prompt}", 0)


def verdict(prompt, p, *, label="dpo", first=None, second=None, lengths=(10, 10)):
    return Judged(pair(label, prompt), f"p{prompt}", p, first, second, lengths)


def truths(values, label="dpo"):
    return {pair(label, prompt): value for prompt, value in enumerate(values)}


def test_agreement_and_kappa_leave_ties_of_either_side_out():
    # The golden table [[20, 5], [10, 15]] of agreement statistics: kappa 0.4, agreement 0.7.
    said = [0.9] * 25 + [0.1] * 25 + [0.5] * 4 + [0.9] * 3
    true = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15 + [1.0] * 4 + [0.5] * 3
    card = judge_card("j", [verdict(n, p) for n, p in enumerate(said)], truths(true))
    assert card.agreement.value == pytest.approx(0.7)
    assert card.agreement.n == 50
    assert card.kappa == pytest.approx(0.4)
    assert card.calibration == pytest.approx(0.9 - 0.7)  # as sure as .9, right .7 of the time
    assert card.ties.value == pytest.approx(4 / 57)
    assert card.pairs == 57


def test_invalid_verdicts_are_counted_and_enter_nothing_else():
    card = judge_card(
        "j", [verdict(n, 0.9 if n else None) for n in range(10)], truths([0.0, *[1.0] * 9])
    )
    assert card.invalid.value == pytest.approx(0.1)
    assert card.agreement.value == 1.0
    assert card.agreement.n == 9
    assert card.problems == ["10.0% of its verdicts are invalid"]


def test_consistency_and_the_favoured_place_are_read_from_both_orders():
    rows = [
        verdict(0, 0.8, first=0.9, second=0.7),
        verdict(1, 0.2, first=0.3, second=0.1),
        verdict(2, 0.6, first=0.9, second=0.3),  # the first place wins both times
        verdict(3, 0.4, first=0.6, second=0.2),
        verdict(4, 0.5, first=0.2, second=0.8),  # the second place does
        verdict(5, 0.9),  # one order alone says nothing
    ]
    card = judge_card("j", rows, {})
    assert card.swap_consistency.value == pytest.approx(2 / 5)
    assert card.first_place.value == pytest.approx(2 / 3)
    assert card.first_place.n == 3
    assert card.problems == ["most of its verdicts turn with the order of the answers"]


def planted(n, phi, seed, theta=0.0):
    """Return verdicts whose p is s(theta + phi tanh(dl / std)) exactly."""
    import numpy as np

    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 80, size=(n, 2))
    gaps = lengths[:, 0] - lengths[:, 1]
    p = 1 / (1 + np.exp(-(theta + phi * np.tanh(gaps / gaps.std(ddof=1)))))
    return [
        verdict(k, float(p[k]), lengths=(int(lengths[k, 0]), int(lengths[k, 1]))) for k in range(n)
    ]


@pytest.mark.parametrize("phi", [0.0, 0.8, -1.5])
def test_the_length_coefficient_that_was_planted_is_found(phi):
    found = judge_card("j", planted(400, phi, seed=1, theta=0.3), {}).length_coefficient
    assert found.value == pytest.approx(phi, abs=1e-6)
    assert found.n == 400


def test_hard_verdicts_give_the_length_coefficient_within_its_interval():
    rng = random.Random(0)
    rows = planted(2000, 1.0, seed=2)
    hard = [
        Judged(o.pair, o.cluster, float(rng.random() < o.p), None, None, o.lengths) for o in rows
    ]
    found = judge_card("j", hard, {}).length_coefficient
    assert found.low < 1.0 < found.high
    assert found.high - found.low < 0.5


def test_a_judge_that_goes_by_length_alone_has_a_finite_coefficient_and_fails_its_gate():
    rng = random.Random(3)
    rows, true = [], []
    for n in range(300):
        ours, theirs = rng.randint(5, 60), rng.randint(61, 99)
        ours, theirs = (ours, theirs) if rng.random() < 0.5 else (theirs, ours)
        rows.append(verdict(n, float(ours > theirs), lengths=(ours, theirs)))
        true.append(float((ours > theirs) == (rng.random() < 0.62)))
    card = judge_card("j", rows, truths(true))
    assert card.prefers_longer.value == 1.0
    assert card.length_coefficient.value > 3
    assert card.agreement.value == card.reference_prefers_longer.value
    assert card.gate == "failed"
    assert "going by length alone" in card.problems[0]


def test_equal_lengths_say_nothing_about_length():
    card = judge_card("j", [verdict(n, 0.9) for n in range(10)], {})
    assert card.length_coefficient is None
    assert card.prefers_longer is None
    assert card.agreement is None
    assert card.gate == "unknown"


def test_a_good_judge_passes_with_enough_pairs_and_is_unknown_with_few():
    def good(n):
        rows = planted(n, 0.1, seed=5)
        rng = random.Random(5)
        true = [float(rng.random() < 0.5) for _ in rows]
        said = [
            Judged(o.pair, o.cluster, 0.9 if t == (k % 10 > 0) else 0.1, 0.9, 0.8, o.lengths)
            for k, (o, t) in enumerate(zip(rows, true, strict=True))
        ]
        return judge_card("j", said, truths(true))

    assert good(250).gate == "passed"
    assert good(250).agreement.value == pytest.approx(0.9)
    assert good(150).gate == "unknown"


def test_self_preference_is_the_gain_over_the_reference_beyond_that_of_other_rows():
    rows, true = [], {}
    for n in range(40):
        for label in ("mine", "other"):
            true[pair(label, n)] = 1.0 if n % 2 else 0.0
            # The judge gives everyone a tenth more than is true, its own row another fifth.
            lifted = n % 10 in ((0, 2, 4) if label == "mine" else (0,))
            rows.append(verdict(n, 0.9 if n % 2 or lifted else 0.1, label=label))
    card = judge_card("j", rows, true, own=("mine",))
    assert card.self_preference.value == pytest.approx(0.2)
    assert card.self_preference.low > 0
    assert judge_card("j", rows, true).self_preference is None
    assert judge_card("j", rows, {}, own=("mine",)).self_preference is None


def test_intervals_follow_the_families_of_prompts():
    rows = [Judged(pair("dpo", n), f"c{n // 10}", 0.9, 0.9, 0.9, (9, 9)) for n in range(100)]
    card = judge_card("j", rows, truths([float(n // 10 % 2) for n in range(100)]))
    assert card.agreement.clusters == 10
    assert card.agreement.n == 100


def test_a_judge_without_verdicts_or_with_two_on_one_pair_is_an_error():
    with pytest.raises(ValueError, match="no verdicts"):
        judge_card("j", [], {})
    with pytest.raises(ValueError, match="two verdicts on one pair"):
        judge_card("j", [verdict(0, 0.9), verdict(0, 0.1)], {})


def item(metric, judge, value, kind="valid", findings=(), **changes):
    return {
        "base": "base", "dataset": "data", "label": "dpo", "seed": 0, "decoding": "T=1",
        "prompt_id": "p0", "sample": 0, "cluster": "", "metric": metric, "judge": judge,
        "value": value, "class": kind, "length": 7, "opponent_length": 5,
        "findings": json.dumps(list(findings)), **changes,
    }  # fmt: skip


def test_rows_of_the_results_are_read_as_verdicts_and_truth():
    told = [["p", "0.7"], ["p_as_first", "0.8"], ["p_as_second", "0.6"]]
    items = [
        item("judged_win_rate", "Endpoint", 1.0, findings=told),
        item("judged_win_rate", "Endpoint", None, "invalid", [["p", "nan"]], prompt_id="p1"),
        item("win_rate", "gold", 1.0),
        item("win_rate", "gold", 0.5, prompt_id="p1"),
        item("length", "", 7.0),
    ]
    found = verdicts_in(items)
    assert list(found) == ["Endpoint"]
    valid, invalid = found["Endpoint"]
    assert valid == verdict(0, 0.7, first=0.8, second=0.6, lengths=(7, 5))
    assert invalid.p is None
    assert truth_in(items) == {pair("dpo", 0): 1.0, pair("dpo", 1): 0.5}
    card = judge_card("Endpoint", found["Endpoint"], truth_in(items))
    assert (card.agreement.value, card.agreement.n, card.invalid.value) == (1.0, 1, 0.5)


def test_the_preference_suite_keeps_what_the_card_reads():
    from evals.helpfulness import judged
    from harness.judge import Verdict

    answer = {"prompt_id": "p0", "sample": 0, "cluster": "c", "token_ids": [1] * 7,
              "completion": "yes", "finished": True}  # fmt: skip
    other = {**answer, "token_ids": [1] * 5}
    row = next(judged("T=1", answer, other, Verdict(0.7, 0.8, 0.6, 0.99), "Endpoint"))
    where = {"base": "base", "dataset": "data", "label": "dpo", "seed": 0}
    (found,) = verdicts_in([{**row, **where}])["Endpoint"]
    assert (found.p, found.p_as_first, found.p_as_second) == (0.7, 0.8, 0.6)
    assert found.lengths == (7, 5)
    row = next(judged("T=1", answer, other, Verdict(float("nan")), "Endpoint"))
    (found,) = verdicts_in([{**row, **where}])["Endpoint"]
    assert found.p is None
