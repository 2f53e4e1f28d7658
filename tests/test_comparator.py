"""Verdicts of a language model: orders, reasons first, label mass, ratings as a reward."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import comparator
from harness.artifacts import Policy
from harness.comparator import EXPLAIN, compare, verdict
from harness.hamlet import forms
from harness.judge import Answer, ByTag, Contains, Judge, Prompted, Rescaled
from harness.sampling import Drawn
from harness.tiny import END, byte_tokenizer

NOBODY = Policy("nobody", path="nowhere")


def answers(*texts, tag="general"):
    asked = [{"role": "user", "content": "Why?"}]
    return [Answer(f"p{n}", asked, text, tag=tag) for n, text in enumerate(texts)]


@pytest.fixture
def says(monkeypatch):
    """Return a function that has the model answer each form by a rule: form -> (P(A), P(B))."""

    def use(rule, reason="Because."):
        read, tokenizer = [], byte_tokenizer()

        def probabilities(policy, asked, labels):
            read.extend(asked)
            return np.array([rule(form) for form in asked], float)

        def draw(model, wanted, decoding):
            assert decoding.temperature == 0
            read.extend(tokenizer.decode(one.ids) for one in wanted)
            ids = tuple(tokenizer(reason, add_special_tokens=False)["input_ids"])
            return [Drawn((*ids, END), -1.0, True) for _ in wanted]

        monkeypatch.setattr(comparator, "label_probabilities", probabilities)
        monkeypatch.setattr(comparator, "draw", draw)
        monkeypatch.setattr(comparator, "opened", lambda *_: (SimpleNamespace(), tokenizer))
        monkeypatch.setattr(Policy, "generation", lambda self: {"stop_ids": [END]})
        return read

    return use


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2))
def test_the_swapped_pair_gets_exactly_one_minus_the_verdict(firsts):
    forward, backward = firsts
    found = np.array([[forward, 1 - forward], [backward, 1 - backward]])
    assert verdict(found, ()).p1 == 1 - verdict(found[::-1], ()).p1


def test_a_model_that_always_says_the_first_is_undecided_and_never_consistent(says):
    says(lambda form: (0.99, 0.01))
    found = compare(NOBODY, answers("a", "b"), answers("c", "d"))
    assert [one.p1 for one in found] == [0.5, 0.5]
    assert [one.consistent for one in found] == [False, False]


def better(form):
    return (1.0, 0.0) if "\nA: good" in form else (0.0, 1.0)


def test_a_model_that_knows_the_better_answer_gets_it_right_in_both_orders(says):
    says(better)
    found = compare(NOBODY, answers("good", "bad"), answers("bad", "good"))
    assert [(one.p1, one.consistent) for one in found] == [(1.0, True), (0.0, True)]


def test_one_order_shows_each_pair_once_and_keeps_its_bias(says):
    read = says(lambda form: (0.75, 0.25))
    found = compare(NOBODY, answers("a", "b"), answers("c", "d"), both_orders=False)
    assert [one.p1 for one in found] == [0.75, 0.75]
    assert [one.consistent for one in found] == [None, None]
    assert len(read) == 2


def test_a_pair_whose_labels_have_too_little_mass_in_either_order_gets_no_verdict(says):
    says(lambda form: (0.2, 0.1) if "\nA: odd" in form else (0.6, 0.4))
    found = compare(NOBODY, answers("odd", "a", "b"), answers("c", "odd", "d"))
    assert [one.valid for one in found] == [False, False, True]
    assert math.isnan(found[0].p1)
    assert [one.label_mass for one in found] == pytest.approx([0.3, 0.3, 1.0])
    assert [math.isnan(p) for p in Prompted(NOBODY).prefer(answers("odd"), answers("c"))] == [True]


def test_reasons_come_first_and_stand_before_the_usual_ending(says):
    read = says(better, reason="The first is kind.")
    asked = Prompted(NOBODY, "Be kind.", rationale_tokens=8)
    (found,) = asked.verdicts(answers("good"), answers("bad"))
    body = "Be kind.\nUser: Why?\nA: good\nB: bad\n"
    assert read[0] == f"<|user|>{body}{EXPLAIN}<|assistant|>"
    assert read[2] == f"{body}Reasons: The first is kind.\nWhich is better?"
    assert found.rationales == ("The first is kind.",) * 2
    assert found.p1 == 1.0


@pytest.mark.parametrize(
    ("mass", "reward"),
    [([0.1] * 10, 0.0), ([0.0] * 9 + [1.0], 1.0), ([1.0] + [0.0] * 9, -1.0)],
    ids=["uniform", "all on 10", "all on 1"],
)
def test_ratings_become_rewards_from_minus_one_to_one(monkeypatch, mass, reward):
    def probabilities(policy, asked, labels):
        assert labels == forms.RATINGS
        return np.array([mass] * len(asked))

    monkeypatch.setattr(comparator, "label_probabilities", probabilities)
    assert Rescaled(Prompted(NOBODY)).grade(answers("x")) == pytest.approx([reward], abs=1e-12)


def test_answers_of_each_collection_are_graded_by_their_own_judge():
    judge: Judge = ByTag(general=Contains("help"), red_team=Rescaled(Contains("no"), 0.0, 1.0))
    mixed = [*answers("help", "no"), *answers("help", "no", tag="red-team")]
    assert judge.grade(mixed) == [1.0, 0.0, -1.0, 1.0]
    assert judge.grade(answers("help")) == [1.0]


def test_a_rescaled_judge_is_asked_by_axis_and_principle_like_the_judge_itself():
    asked = Prompted(NOBODY)
    assert Rescaled(asked).on("safe") == Rescaled(asked.on("safe")) != Rescaled(asked)
    assert Rescaled(asked, 0.0, 1.0).under("Be kind.") == Rescaled(
        asked.under("Be kind."), 0.0, 1.0
    )
    with pytest.raises(ValueError, match="reads no principles"):
        Rescaled(Contains("no")).under("Be kind.")
