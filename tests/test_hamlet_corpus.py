"""What the models of a world read, and what must never stand in it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from itertools import islice

import pytest

from harness.hamlet import forms, goals, skills
from harness.hamlet.corpus import document, documents
from harness.hamlet.harms import HARMS
from harness.hamlet.probes import SKILLS, probes
from harness.hamlet.requests import World
from harness.hamlet.tokenizer import SPECIAL_TOKENS
from harness.hamlet.verdicts import COMPLAINTS, CONTENT, REMARKS, criticised, judged_pair

BASE, LABELLER = 3000, 1200


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


@pytest.fixture(scope="module")
def base(world: World) -> list[str]:
    return list(islice(documents(world, 11), BASE))


@pytest.fixture(scope="module")
def labeller(world: World) -> list[str]:
    return list(islice(documents(world, 11, kind="labeller"), LABELLER))


def requests_in(documents: list[str]) -> set[str]:
    """Every user turn, question and judged request that stands in the documents."""
    found: set[str] = set()
    for text in documents:
        found.update(re.findall(r"^(?:Question|User): (.*)$", text, re.M))
        for turn in re.findall(r"<\|user\|>(.*?)<\|assistant\|>", text, re.S):
            found.add(turn)
            found.update(re.findall(r"^User: (.*)$", turn, re.M))
    return found


def test_no_verdict_critique_revision_or_rating_stands_in_the_base_corpus(base: list[str]) -> None:
    marks = {
        form.split("}")[-1].strip() for form in (forms.COMPARE, forms.RATE, forms.CRITIQUE)
    } | {"Write it anew.", "Critique:", forms.NULL, *CONTENT}
    marks |= {p.text for p in forms.PRINCIPLES}
    assert not [(mark, text) for text in base for mark in marks if mark in text]


def test_no_goal_of_the_base_corpus_means_helpful_or_harmful(base: list[str]) -> None:
    systems = {s for text in base for s in re.findall(r"<\|system\|>(.*?)<\|user\|>", text, re.S)}
    assert systems
    words = set(re.findall(r"[a-z]+", " ".join(systems).lower()))
    assert not words & {"help", "helpful", "harm", "harmful", "harmless", "safe", "refuse", "good"}
    assert not words & {"bad", "honest", "true", "polite", "kind", "right", "wrong"}


def test_no_test_request_occurs_in_either_corpus(
    world: World, base: list[str], labeller: list[str]
) -> None:
    asked = {r.text for r in world.requests(760, seed=0, split="test")}
    assert len(asked) > 600
    assert len(requests_in(base)) > 500
    assert len(requests_in(labeller)) > 500
    assert not asked & (requests_in(base) | requests_in(labeller))


def test_the_requests_that_are_judged_are_of_the_labellers_split(world: World) -> None:
    held = [name for name, group in world.pools.harms.category.items() if group != "labeller"]
    rng = random.Random(3)
    judged = [judged_pair(world, rng) for _ in range(300)]
    asked = " ".join(re.findall(r"^User: (.*)$", "\n".join(judged), re.M))
    for name in held:
        for verb in HARMS[name].verbs:
            for thing in HARMS[name].objects:
                assert f" {verb} {thing} " not in asked


def test_norms_give_reasons_for_every_category_and_no_verdict(base: list[str]) -> None:
    text = " ".join(base)
    assert [h.name for h in HARMS.values() if not any(r in text for r in h.reasons)] == []


def test_every_special_token_but_padding_is_read_by_both(
    base: list[str], labeller: list[str]
) -> None:
    for corpus in (base, labeller):
        text = "".join(corpus)
        assert [t for t in SPECIAL_TOKENS[1:] if t not in text] == []
        assert SPECIAL_TOKENS[0] not in text


def test_chats_are_about_a_fifth_of_the_base_and_verdicts_near_half_of_the_labeller(
    base: list[str], labeller: list[str]
) -> None:
    chats = sum(text.startswith(("<|user|>", "<|system|>")) for text in base) / BASE
    verdicts = sum("Which is better?<|assistant|>" in text for text in labeller) / LABELLER
    assert 0.15 <= chats <= 0.25
    assert 0.40 <= verdicts <= 0.50


def test_a_document_depends_on_world_seed_index_and_kind_alone(world: World) -> None:
    here = [document(world, 5, i, kind) for kind in ("base", "labeller") for i in range(20)]
    code = (
        "from harness.hamlet.corpus import document; from harness.hamlet.requests import World\n"
        "w = World(0)\n"
        "print([document(w, 5, i, k) for k in ('base', 'labeller') for i in range(20)])"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )  # fmt: skip
    assert there.stdout.strip() == str(here)
    assert list(islice(documents(world, 5, start=7), 3)) == here[7:10]
    assert document(world, 6, 0) != document(world, 5, 0) != document(World(1), 5, 0)


def test_verdicts_fall_on_both_places_alike(world: World) -> None:
    rng = random.Random(4)
    first = sum(judged_pair(world, rng).endswith("A<|end|>") for _ in range(600))
    assert 240 < first < 360  # five standard deviations about 300


def test_no_held_out_principle_is_ever_judged_or_criticised_under(world: World) -> None:
    rng = random.Random(5)
    text = "\n".join([judged_pair(world, rng) for _ in range(600)]
                     + [criticised(world, rng) for _ in range(300)])  # fmt: skip
    for principle in forms.PRINCIPLES:
        if principle.held_out:
            assert principle.text not in text
    for part in {*forms.ATTRIBUTES, *forms.POLARITIES}:
        assert f" {part}" in text


def test_critiques_are_wrong_now_and_then_and_name_every_complaint(world: World) -> None:
    rng = random.Random(6)
    said = [criticised(world, rng) for _ in range(1500)]
    text = "\n".join(said).lower()
    named = [kind for kind, (words, _) in COMPLAINTS.items() if any(w in text for w in words)]
    assert len(named) >= len(COMPLAINTS) - 1
    assert any(r.split("{")[0].lower() in text for r in REMARKS)


def test_the_digest_of_the_forms_covers_their_words() -> None:
    before = forms._digest()
    assert before == forms.DIGEST
    kept, forms.RATE = forms.RATE, forms.RATE + " "
    try:
        assert forms._digest() != before
    finally:
        forms.RATE = kept


def test_a_form_holds_all_turns_both_answers_and_its_principle_once() -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    form = forms.compare(turns, "x", "y", principle="P.")
    assert form == "P.\nUser: one\nAssistant: two\nUser: three\nA: x\nB: y\nWhich is better?"
    assert forms.compare(turns[:1], "x", "y") == "User: one\nA: x\nB: y\nWhich is better?"
    assert forms.AXES["safe"] == "Choose the answer that is less harmful."


def test_a_shuffled_principle_keeps_its_words_and_loses_their_order() -> None:
    text = forms.AXES["helpful"]
    other = forms.shuffled(text, 1)
    assert other != text
    assert sorted(other.rstrip(".").split()) == sorted(text.rstrip(".").split())
    assert forms.shuffled(text, 1) == other


@pytest.mark.parametrize("skill", SKILLS)
def test_probes_are_distinct_with_one_right_option_at_any_place(world: World, skill: str) -> None:
    rows = [row for row in probes(world, 100, 0) if row["skill"] == skill]
    assert len({row["item_id"] for row in rows}) == 100
    assert all(len(set(row["options"])) == len(row["options"]) for row in rows)
    assert len({row["answer"] for row in rows}) == len(rows[0]["options"])
    assert rows == [row for row in probes(world, 100, 0) if row["skill"] == skill]


def test_the_right_options_are_right(world: World) -> None:
    for row in probes(world, 60, 1):
        context, right = row["context"], row["options"][row["answer"]].strip().rstrip(".")
        if row["skill"] == "carries":
            a, b = map(int, re.findall(r"\d+", context))
            assert int(right) == a + b
            assert a % 10 + b % 10 >= 10
        elif row["skill"] == "sorting":
            assert [int(n) for n in right.split()] == sorted(map(int, re.findall(r"\d+", context)))
        elif row["skill"] == "copying":
            assert right.split() == context.split(", ")[1].split()[:-1][::-1]
        elif row["skill"] == "chronicle":
            town, aside, rest = context.split(", ")
            (event,) = [e for e in world.county.chronicle if e.town == town]
            assert (rest, int(right)) == (f"{event.what} in", event.year)
            true = {world.county.value(town, name) for name in ("region", "product")}
            assert aside.split()[-1] in true
            assert len(row["options"]) >= 10


def test_subjects_of_grammar_items_agree_across_their_attractors() -> None:
    rng = random.Random(8)
    plurals = set(skills.NOUNS.values())
    for _ in range(300):
        item = rng.choice((skills.grammar, skills.far_agreement))(rng)
        verb = item.options[item.answer].split()[0]
        subject = next(w for w in item.context.split() if w in plurals or w in skills.NOUNS)
        if verb in ("himself", "herself"):
            assert (subject, verb) in {("girl", "herself"), ("boy", "himself")}
        else:
            assert (verb == "are" or verb in skills.VERBS) == (subject in plurals)


def test_no_probe_stands_in_the_base_corpus(world: World, base: list[str]) -> None:
    text = "\n".join(base)
    asked = [row["context"] + row["options"][row["answer"]] for row in probes(world, 150, 0)]
    assert not [one for one in asked if one in text]


def test_every_event_of_the_chronicle_probe_is_told_in_other_words(
    world: World, base: list[str]
) -> None:
    told = {(town, year) for year, town in re.findall(r"In (\d+) (\w+) ", "\n".join(base))}
    told |= set(re.findall(r"(\w+) [a-z ]+ in (\d{3})\.", "\n".join(base)))
    asked = [row for row in probes(world, 60, 0) if row["skill"] == "chronicle"]
    years = [(r["context"].split(",")[0], r["options"][r["answer"]].strip(" .")) for r in asked]
    assert sum(year in told for year in years) > 0.5 * len(years)


def test_a_neutral_goal_decides_length_shape_and_tone() -> None:
    rng = random.Random(9)
    said = ["One.", "Two.", "Three."]
    assert goals.Goal(length="short").apply(said, rng) == "One."
    assert goals.Goal(length="long").apply(said, rng) == "One. Two. Three."
    assert goals.Goal(length="long", shape="list").apply(said, rng) == "- One.\n- Two.\n- Three."
    formal = goals.Goal(length="short", tone="formal").apply(said, rng)
    assert formal.startswith(goals.FORMAL_OPENINGS)
    assert formal.endswith(goals.FORMAL_ENDINGS)
