"""Fresh judgements on Hamlet: of which prompts, and what they know under each kind of labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness import registry
from harness.artifacts import Samples, write_rows
from harness.draft import Draft
from harness.hamlet.dataset import Gold
from harness.judge import Answer
from harness.run import run
from harness.stages.choose import validate
from harness.stages.contest import contest
from harness.stages.label import relabel
from harness.store import Store
from harness.tiny import TINY_WORLD, tiny_base

REFUSAL = "I cannot help with that."


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a function from labels to annotators, with train and validation prompts, all made."""
    registry.discover()
    store = Store(tmp_path_factory.mktemp("world"))

    def made(labels):
        data = registry.get("dataset", "hamlet")(tiny_base(seed=0), 0, labels=labels, **TINY_WORLD)
        told = data.annotator
        run([data.prompts, data.validation, *told.truths], store, workers=0)
        told = replace(told, truths=tuple(store.open(truth) for truth in told.truths))
        return told, store.open(data.prompts).rows(), store.open(data.validation).rows()

    return made


def drawn(rows, texts, folder):
    """Return the same answers to every prompt, as if a policy had drawn them."""
    name = "samples-" + "-".join(text.strip(". ").split()[0].lower() for text in texts)
    (folder / name).mkdir()
    known = {"token_ids": [1], "logp": 0.0, "finished": True, "cluster": "c"}
    said = [
        {**known, "prompt_id": row["prompt_id"], "messages": row["messages"], "tag": row["tag"],
         "sample": n, "completion": text}
        for row in rows
        for n, text in enumerate(texts)
    ]  # fmt: skip
    write_rows(Draft(folder / name), said)
    return Samples(name, path=folder / name)


def say(rows, text):
    return [Answer(row["prompt_id"], row["messages"], text, True, row["tag"]) for row in rows]


@pytest.mark.parametrize("labels", ["noisy", "permuted", "oracle"])
def test_annotators_judge_the_prompts_that_choose_a_policy(world, labels):
    told, _, validation = world(labels)
    found = told.prefer(say(validation, REFUSAL), say(validation, "Yes."))
    assert len(found) == len(validation)
    assert set(found) <= {0.0, 0.5, 1.0}


def test_fresh_judgements_know_as_little_as_permuted_labels(world):
    told, train, _ = world("permuted")
    found = told.prefer(say(train, REFUSAL), say(train, "Yes."))
    assert found == told.prefer(say(train, "Yes."), say(train, "Nobody knows."))
    assert {0.0, 1.0} == set(found)


def test_noisy_judgements_depend_on_what_the_answers_say(world):
    told, train, _ = world("noisy")
    pairs = (say(train, REFUSAL), say(train, "Yes."))
    assert told.prefer(*pairs) != told.prefer(*reversed(pairs))


def test_fresh_judgements_know_the_truth_where_labels_do(world):
    told, train, _ = world("oracle")
    told = replace(told, other_axis=0.0)
    ours, theirs = say(train, REFUSAL), say(train, "Yes.")
    grades = {
        tag: [Gold(told.truths[0], axis).grade(answers) for answers in (ours, theirs)]
        for tag, axis in (("general", "helpful"), ("red-team", "safe"))
    }
    expected = []
    for place, row in enumerate(train):
        ours_, theirs_ = (side[place] for side in grades[row["tag"]])
        expected.append(0.5 if ours_ == theirs_ else float(ours_ > theirs_))
    assert told.prefer(ours, theirs) == expected
    assert {0.0, 1.0} <= set(expected)


@pytest.mark.parametrize(
    ("labels", "source"), [("noisy", "human"), ("permuted", "permuted"), ("oracle", "oracle")]
)
def test_rows_say_the_axis_that_was_judged_and_what_kind_of_label_it_is(world, labels, source):
    told, train, _ = world(labels)
    told = replace(told, other_axis=1.0)
    pair = (say(train, REFUSAL), say(train, "Yes."))
    expected = ["safe" if row["tag"] == "general" else "helpful" for row in train]
    assert {"safe", "helpful"} == set(expected)
    assert [verdict.axis for verdict in told.verdicts(*pair)] == expected
    assert {verdict.source for verdict in told.verdicts(*pair)} == {source}


@pytest.mark.parametrize("stage", [contest, relabel, validate], ids=lambda stage: stage.name)
def test_what_annotators_chose_stands_in_the_rows_of_whoever_asked(world, stage, make, tmp_path):
    told, train, _ = world("permuted")
    told = replace(told, other_axis=1.0)
    refused, other = (drawn(train, texts, tmp_path) for texts in ((REFUSAL, "Yes."), ("No.", "So")))
    if stage is validate:
        judged = validate(refused, other, judge=told, source="human")
    else:
        judged = stage(refused, judge=told, source="human", seed=0)
    tags = {row["prompt_id"]: row["tag"] for row in refused.rows()}
    rows = make(judged).rows()
    assert {row["source"] for row in rows} == {"permuted"}
    assert {(tags[row["prompt_id"]], row["axis"]) for row in rows} == {
        ("general", "safe"),
        ("red-team", "helpful"),
    }
