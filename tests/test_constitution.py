"""Constitutions: what a file must hold, how principles are drawn, and where they come from."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from datetime import date

import pytest
import yaml
from scipy.stats import chisquare

from harness.constitution import Constitution, ConstitutionError, PostProcess, Principle
from harness.constitution_file import SHIPPED, constitution, from_plain
from harness.constitution_formats import from_anthropic, from_hugging_face, main
from harness.hamlet import forms
from harness.judge import Letters
from harness.stages.critique import own_pairs, self_revised
from harness.stages.label import relabel
from harness.tiny import tiny_preferences, tiny_shared

NAMES = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
PLAIN = {
    "schema": "constitution/v1",
    "name": "toy",
    "version": "1",
    "license": "CC0-1.0",
    "description": "Toy.",
    "principles": [
        {
            "id": "one",
            "statement": "Be one.",
            "stages": ["critique", "compare"],
            "critique_request": "What is not one?",
            "revision_request": "Make it one.",
            "compare_question": "Which is more one?",
        },
        {
            "id": "two",
            "statement": "Be two.",
            "stages": ["compare"],
            "compare_question": "Which is more two?",
            "weight": 3.0,
        },
    ],
}


def changed(**principle):
    raw = copy.deepcopy(PLAIN)
    raw["principles"][0] |= principle
    return raw


def shown(**changes):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go."}]
    one = {"messages": turns, "principle": "one", "critique": "x", "revision": "y"}
    return {"critique_revision": [{**one, **changes}]}


def test_the_shipped_ones_are_a_real_one_one_for_the_embedded_world_and_a_control():
    assert NAMES == ["general", "hamlet", "null"]
    for name in NAMES:
        assert constitution(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_constitution_survives_the_way_to_yaml_to_json_and_back(name):
    made = constitution(name)
    by_yaml = from_plain(yaml.safe_load(made.to_yaml()), "yaml")
    by_json = from_plain(json.loads(json.dumps(by_yaml.to_plain())), "json")
    assert made == by_yaml == by_json
    assert by_json.to_yaml() == made.to_yaml()


def test_the_labeller_of_the_embedded_world_was_trained_on_every_principle_it_is_asked_by():
    trained = {one.text for one in forms.PRINCIPLES if not one.held_out}
    for one in constitution("hamlet").principles:
        assert {one.critique_request, one.revision_request, one.compare_question} <= trained
    (nothing,) = constitution("null").principles
    assert {nothing.critique_request, nothing.revision_request, nothing.compare_question} == {
        forms.NULL
    }


@pytest.mark.parametrize("name", ["hamlet", "null"])
def test_the_embedded_world_is_asked_in_the_frozen_forms(name):
    assert constitution(name).templates.critique == forms.CRITIQUE
    assert constitution(name).templates.revision == forms.REVISE
    assert constitution(name).exemplars == ()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({**PLAIN, "schema": "v2"}, "begins with `schema: constitution/v1`"),
        ([], "begins with `schema: constitution/v1`"),
        ({**PLAIN, "sampling": "uniform"}, "sampling: there is no such key. Known: name, version"),
        (
            changed(wieght=2.0),
            "principles.one.wieght: there is no such key. Did you mean 'weight'?",
        ),
        (
            {**PLAIN, "version": 1.0},
            "version: Input should be a valid string, not 1.0; write it in",
        ),
        ({**PLAIN, "version": date(2026, 1, 1)}, "write dates and the like in quotes"),
        ({k: v for k, v in PLAIN.items() if k != "license"}, "license: missing; write it"),
        ({**PLAIN, "principles": []}, "principles: there is none; write at least one"),
        (changed(statement=" "), "one: the statement is empty; say what the principle is"),
        ({**PLAIN, "post_process": {"max_chars": 0}}, "post_process.max_chars: 0 leaves no rev"),
        ({**PLAIN, "principles": PLAIN["principles"] * 2}, "two principles have the id 'one'"),
        (changed(id="One!"), "id 'One!': write it in a-z, 0-9 and hyphens"),
        (changed(critique_request=""), "one: its stages name critique, so it needs a critique_re"),
        (changed(compare_question=""), "one: its stages name compare, so it needs a compare_qu"),
        (changed(stages=["judge"]), "principles.one.stages.0: Input should be 'critique'"),
        (changed(weight=-1.0), "one: the weight must be a number of at least 0, not -1.0"),
        (changed(weight=0.0), "the weights of all principles to critique by are 0"),
        (changed(weight="2"), "principles.one.weight: Input should be a valid number, not '2'"),
        ({**PLAIN, "templates": {"critique": "{dialogue}{answer}"}}, "critique has no slot {prin"),
        (
            {**PLAIN, "templates": {"critique": "{principle}{dialogue}{answer}{user}"}},
            "{user} is none of answer, dialogue, principle",
        ),
        ({**PLAIN, "templates": {"critique": "{principle}{dialogue}{answer"}}, "twice"),
        ({**PLAIN, "post_process": {"strip_prefixes": ["(sure"]}}, "strip_prefixes '(sure'"),
        (
            {
                **PLAIN,
                "exemplars": shown(messages=[{"role": "user", "content": "Hi"}], principle="three"),
            },
            "'three', which is not there\nmine.yaml: an exemplar's messages must end",
        ),
        (
            {
                **PLAIN,
                "exemplars": shown(
                    messages=[{"role": "user"}, {"role": "assistant", "content": "Hi"}]
                ),
            },
            "an exemplar's message {'role': 'user'}: give it a role and a content",
        ),
        ({**PLAIN, "exemplars": shown(critic="x")}, "exemplars.critique_revision.0.critic: there"),
        ({**PLAIN, "exemplars": []}, "exemplars: write a list under the key `critique_revision`"),
        ({**PLAIN, "defaults": {"revisions": 4}}, "defaults: how many revisions is a setting"),
        (
            {**changed(weight=-1.0), "exemplars": {"compare": []}, "templates": {"compare": "x"}},
            "mine.yaml: exemplars.compare: the labeller compares in its own form, without examples"
            "; leave it out\nmine.yaml: templates.compare: the labeller compares in its own form; "
            "leave it out\nmine.yaml: one: the weight must be",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(raw, says):
    with pytest.raises(ConstitutionError) as found:
        from_plain(raw, "mine.yaml")
    assert says in str(found.value)
    assert str(found.value).startswith("mine.yaml:")


def test_yaml_that_would_run_code_is_refused(tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ConstitutionError, match="could not determine a constructor"):
        constitution(str(file))


def test_a_key_written_twice_is_refused_with_its_line(tmp_path):
    file = tmp_path / "twice.yaml"
    text = constitution("null").to_yaml()
    file.write_text(text.replace("  statement:", "  statement: Be kind.\n  statement:"))
    with pytest.raises(ConstitutionError, match=r"line \d+: 'statement' stands twice"):
        constitution(str(file))
    file.write_text("a: &a [*a]")  # a tree with a cycle comes to an end too
    with pytest.raises(ConstitutionError, match="begins with"):
        constitution(str(file))


def test_a_file_in_another_encoding_is_refused_with_the_remedy(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes(
        constitution("null").to_yaml().replace("answer", "r\xe9ponse").encode("latin-1")
    )
    with pytest.raises(ConstitutionError, match="save it as UTF-8"):
        constitution(str(file))


@pytest.mark.parametrize(
    ("stage", "plans"),
    [
        ("compare", lambda shared, toy: self_revised(shared, toy, revisions=1, critique=True)),
        ("critique", lambda shared, toy: own_pairs(shared, shared.sft, toy, clamp=0.0)),
    ],
)
def test_a_constitution_without_a_principle_for_its_use_is_refused_while_planning(stage, plans):
    raw = changed(stages=[stage])
    toy = from_plain({**raw, "principles": raw["principles"][:1]}, "mine.yaml")
    other = {"compare": "critique", "critique": "compare"}[stage]
    with pytest.raises(ConstitutionError, match=f"has no principle to {other} by on the axis"):
        plans(tiny_shared(0), toy)


def test_an_unknown_name_or_file_is_said_with_the_nearest_name():
    with pytest.raises(ConstitutionError, match=r"no constitution 'hamlets'.* mean 'hamlet'"):
        constitution("hamlets")
    with pytest.raises(ConstitutionError, match=r"no constitution file mine\.yaml"):
        constitution("mine.yaml")


def test_the_content_of_a_file_and_never_its_path_enters_an_id(tmp_path):
    text = constitution("hamlet").to_yaml()
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for file in files[:2]:
        file.write_text(text)
    files[2].write_text(text.replace("less harmful.", "less cruel."))
    ids = [
        relabel(
            tiny_preferences(),
            judge=Letters("a"),
            source="ai_principle",
            constitution=constitution(str(file)),
            seed=0,
        ).id
        for file in files
    ]
    assert ids[0] == ids[1] != ids[2]


def test_principles_are_drawn_in_proportion_to_their_weights():
    toy = Constitution(
        "toy",
        "1",
        "none",
        "Toy.",
        tuple(
            Principle(f"p{weight}", "Be.", ("compare",), compare_question="?", weight=float(weight))
            for weight in (0, 1, 2, 5)
        ),
    )
    drawn = Counter(toy.draw("compare", "safe", 7, f"pair{n}").id for n in range(10_000))
    assert drawn["p0"] == 0
    found = chisquare([drawn[f"p{w}"] for w in (1, 2, 5)], [1250, 2500, 6250])
    assert found.pvalue > 0.001
    assert toy.draw("compare", "safe", 7, "pair0") == toy.draw("compare", "safe", 7, "pair0")
    with pytest.raises(ConstitutionError, match="has no principle to critique by"):
        toy.draw("critique", "safe", 0)


def test_a_principles_digest_changes_with_every_part_of_it():
    one = constitution("hamlet").principles[0]
    others = [replace(one, weight=9.0), replace(one, statement="Be."), replace(one, tags=())]
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_opening_remarks_are_stripped_and_a_clean_answer_keeps_every_byte():
    clean = constitution("general").post_process.clean
    answer = (
        "  I would rather not. Tell them first:\n they may not know. Sure, here is why: harm.\n"
    )
    for remark in (
        "Sure, here is the revised answer:\n\n",
        "Here's a new version that helps nobody to steal: ",
        "Revised answer: ",
        "Assistant: ",
    ):
        assert clean(remark + answer.lstrip()) == answer.lstrip()
    assert clean(answer) == answer
    assert PostProcess().clean("Sure: yes.") == "Sure: yes."


def anthropic(n):
    sl = {
        f"harmful{k}": {
            "prompt": ["CritiqueRequest text ", f"number {k}"],
            "edit_request": f"Rewrite by {k}.",
        }
        for k in range(n)
    }
    return sl, [f"Which is better by {k}?" for k in range(n)]


def test_a_pair_of_anthropic_shaped_files_gives_sixteen_and_sixteen_principles():
    made = from_anthropic(*anthropic(16))
    uses = Counter(use for one in made.principles for use in one.stages)
    assert uses == {"critique": 16, "compare": 16}
    first = made.principles[0]
    assert (first.critique_request, first.revision_request) == (
        "CritiqueRequest text number 0",
        "Rewrite by 0.",
    )
    assert made.principles[16].compare_question == "Which is better by 0?"
    assert from_plain(made.to_plain(), "again") == made
    with pytest.raises(ConstitutionError, match="edit_request"):
        from_anthropic({"a": {"prompt": ["x"]}}, [])


def test_a_hugging_face_shaped_file_keeps_its_requests_and_its_dialogues():
    turns = ["How?", "So: like this.", "Find fault.", "It hurts.", "Do better.", "I would not: no."]
    raw = {
        "constitutions": [{"critic": "Find fault.", "revision": "Do better."}],
        "system_chat": [
            [
                {"role": role, "content": text}
                for role, text in zip(["user", "assistant"] * 3, turns, strict=True)
            ]
        ],
    }
    made = from_hugging_face(raw)
    (principle,), (exemplar,) = made.principles, made.exemplars
    assert principle.stages == ("critique",)
    assert (principle.critique_request, principle.revision_request) == ("Find fault.", "Do better.")
    assert [turn["content"] for turn in exemplar.messages] == turns[:2]
    assert (exemplar.critique, exemplar.revision) == ("It hurts.", "I would not: no.")
    assert exemplar.principle == principle.id
    raw["system_chat"][0].pop()
    with pytest.raises(ConstitutionError, match="six turns"):
        from_hugging_face(raw)


def test_files_are_imported_from_the_command_line_or_refused_by_name(tmp_path, capsys):
    sl, rl = (tmp_path / name for name in ("sl.json", "rl.json"))
    for file, content in zip((sl, rl), anthropic(2), strict=True):
        file.write_text(json.dumps(content))
    main("anthropic", str(sl), str(rl))
    mine = tmp_path / "mine.yaml"
    mine.write_text(capsys.readouterr().out)
    assert constitution(str(mine)) == from_anthropic(*anthropic(2))
    (tmp_path / "torn.json").write_text("{")
    wrong = {
        ("anthropic", str(sl)): "anthropic SL.json RL.json",
        (): "anthropic SL.json RL.json",
        ("anthropic", str(rl), str(sl)): "the first file maps ids to requests",
        ("anthropic", str(tmp_path / "torn.json"), str(rl)): r"torn\.json: .*name a JSON file",
        ("hugging_face", str(tmp_path / "none.json")): r"none\.json.*name a JSON file",
        ("hugging_face", str(rl)): "this one is a list",
        ("hugging_face", str(sl)): "missing: 'constitutions'",
    }
    for words, said in wrong.items():
        with pytest.raises(SystemExit, match=said):
            main(*words)
