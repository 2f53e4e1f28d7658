"""Critique and revision: what the critic is shown, and what training gets to see of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tiny import byte_tokenizer, questions

from harness import critic
from harness.artifacts import Demonstrations, Policy, Preferences, Prompts, Samples, write_rows
from harness.constitution import Constitution, Exemplar, PostProcess, Principle
from harness.constitution_file import constitution
from harness.draft import Draft
from harness.sampling import Drawn
from harness.stage import stage
from harness.stages.critique import (
    Revisions,
    collection,
    criticise,
    pool,
    revise,
    revision_pairs,
    self_revised,
)
from harness.tiny import END, tiny_base, tiny_shared

N = 12
ASK = {"axis": "safe", "max_new_tokens": 40, "seed": 5}


def principle(id, *, stages=("critique",), weight=1.0):
    return Principle(
        id,
        f"Statement of {id}.",
        stages,
        critique_request=f"Find what is {id}.",
        revision_request=f"Mend what is {id}.",
        compare_question=f"Choose less {id}.",
        weight=weight,
    )


def asks(*principles, **parts):
    return Constitution("toy", "1", "none", "Toy.", principles, **parts)


TOY = asks(principle("rude"), principle("unsafe"), principle("long", stages=("compare",)))


@stage(makes=Samples)
def toy_answers(out: Draft, *, n: int, unfinished: int) -> None:
    """Write one answer to each of n prompts, the first few of them unfinished."""
    rows = [
        {
            **row,
            "sample": 0,
            "completion": f"answer to {number}",
            "token_ids": [5, END],
            "logp": -1.0,
            "finished": number >= unfinished,
        }
        for number, row in enumerate(questions(n, 0))
    ]
    write_rows(out, rows)


@pytest.fixture
def critic_says(monkeypatch):
    """Return a function that has the critic answer by a rule; it returns the prompts it read."""

    def use(say):
        read = []

        def stub(out, policy, wanted, decoding):
            tokenizer = byte_tokenizer()
            drawn = []
            for one in wanted:
                prompt = tokenizer.decode(one.ids)
                read.append(prompt)
                ids = tokenizer(say(prompt), add_special_tokens=False)["input_ids"]
                drawn.append(Drawn((*ids, END), -1.0, True))
            return drawn

        monkeypatch.setattr(critic, "draw_all", stub)
        return read

    return use


def first_line(prompt):
    return prompt.rsplit("Answer: ", 1)[1].split("\n")[0]


def by_form(prompt):
    if prompt.endswith("Write it anew.<|assistant|>"):
        return first_line(prompt) + " but kind"
    return "It is UNKIND."


def steps(count, *, seed, criticised=True, toy=TOY, answers=None):
    """Plan steps of critique and revision; made things are kept, so tests have own seeds."""
    answers = answers or toy_answers(n=N, unfinished=0)
    found = []
    for step in range(count):
        ask = {**ASK, "seed": seed + step, "critic": tiny_base(seed=1), "constitution": toy}
        answers = revise(criticise(answers, **ask) if criticised else answers, **ask)
        found.append(answers)
    return found


def test_every_answer_is_revised_once_a_step_starting_from_the_step_before(make, critic_says):
    read = critic_says(by_form)
    found = [make(step).rows() for step in steps(3, seed=10)]
    assert sum(len(rows) for rows in found) == N * 3
    assert len(read) == N * 3 * 2
    for number, rows in enumerate(found, 1):
        assert {row["step"] for row in rows} == {number}
        for place, row in enumerate(rows):
            assert row["completion"] == f"answer to {place}" + " but kind" * number
            assert row["original"] == f"answer to {place}"
            assert row["critique"] == "It is UNKIND."


def test_a_form_shows_dialogue_answer_critique_and_the_request_of_its_principle(make, critic_says):
    read = critic_says(by_form)
    (step,) = steps(1, seed=20)
    row = make(step).rows()[0]
    asked = row["messages"][0]["content"]
    assert read[0] == (
        f"<|user|>Find what is {row['principle']}.\nUser: {asked}\nAnswer: answer to 0\n"
        "What is wrong with it?<|assistant|>"
    )
    assert read[N] == (
        f"<|user|>Mend what is {row['principle']}.\nUser: {asked}\nAnswer: answer to 0\n"
        "Critique: It is UNKIND.\nWrite it anew.<|assistant|>"
    )


def test_principles_are_those_meant_for_critiques_drawn_anew_each_step_by_the_seed(
    make, critic_says
):
    critic_says(by_form)
    found = [[row["principle"] for row in make(step)] for step in steps(4, seed=30)]
    again = [[row["principle"] for row in make(step)] for step in steps(4, seed=7)]
    assert {name for names in found for name in names} == {"rude", "unsafe"}
    assert len({tuple(names) for names in found}) == 4
    assert found != again
    row = make(steps(1, seed=30)[0]).rows()[0]
    assert row["principle_digest"] == TOY.principle(row["principle"]).digest


def test_without_critiques_no_prompt_holds_one_and_the_principles_are_the_same(make, critic_says):
    read = critic_says(by_form)
    with_them = [row["principle"] for step in steps(2, seed=40) for row in make(step)]
    read.clear()
    without = steps(2, seed=40, criticised=False)
    assert [row["principle"] for step in without for row in make(step)] == with_them
    assert len(read) == N * 2
    assert not any("ritique" in prompt or "UNKIND" in prompt for prompt in read)
    assert not any("Find what" in prompt for prompt in read)
    assert {row["critique"] for row in make(without[1])} == {None}


def test_demonstrations_hold_prompts_and_answers_and_nothing_of_how_they_came_about(
    make, critic_says
):
    critic_says(by_form)
    shown = Exemplar(
        ({"role": "user", "content": "EXAMPLE?"}, {"role": "assistant", "content": "EXAMPLE!"}),
        "rude",
        "EXAMPLE critique",
        "EXAMPLE revision",
    )
    revised = steps(3, seed=50, toy=asks(principle("rude"), exemplars=(shown,)))
    made = make(pool((*revised, toy_answers(n=N, unfinished=0))))
    assert isinstance(made, Demonstrations)
    rows = made.rows()
    assert len(rows) == N * 4
    assert {tuple(row) for row in rows} == {("prompt_id", "messages", "completion")}
    text = str(rows)
    for word in ("UNKIND", "Find", "Mend", "Statement", "rude", "EXAMPLE", "anew"):
        assert word not in text


def test_no_revisions_leave_helpful_answers_alone_to_imitate(make):
    rows = make(pool((toy_answers(n=N, unfinished=3),))).rows()
    assert [row["completion"] for row in rows] == [f"answer to {n}" for n in range(3, N)]


def test_answers_given_twice_are_imitated_once(make, critic_says):
    critic_says(first_line)
    unchanged = steps(2, seed=70, criticised=False)
    assert len(make(pool((*unchanged, toy_answers(n=N, unfinished=0)))).rows()) == N


def test_examples_are_earlier_turns_in_the_same_forms(make, critic_says):
    read = critic_says(by_form)
    shown = Exemplar(
        ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}),
        "unsafe",
        "It says nothing.",
        "It rains.",
    )
    make(steps(1, seed=80, toy=asks(principle("unsafe"), exemplars=(shown,)))[0])
    assert read[0].startswith(
        "<|user|>Find what is unsafe.\nUser: Why?\nAnswer: Because.\nWhat is wrong with it?"
        "<|assistant|>It says nothing.<|end|><|user|>Find what is unsafe.\nUser: "
    )
    assert read[N].startswith(
        "<|user|>Mend what is unsafe.\nUser: Why?\nAnswer: Because.\nCritique: It says nothing.\n"
        "Write it anew.<|assistant|>It rains.<|end|><|user|>Mend"
    )


def test_what_a_constitution_strips_refuses_and_drops_is_counted(make, critic_says, tmp_path):
    said = iter(["Sure: x", "Sure:", "too long " * 9, "answer to 3"] + ["fine"] * (N - 4))
    critic_says(lambda prompt: next(said))
    process = PostProcess((r"Sure:\s*",), max_chars=20, drop_if_unchanged=True)
    toy = replace(TOY, post_process=process)
    planned = steps(1, seed=90, criticised=False, toy=toy)[0]
    out = Draft(tmp_path)
    arguments = dict(planned.recipe.arguments)
    planned.recipe.stage.body(
        out,
        **{**arguments, "answers": make(arguments["answers"]), "critic": make(tiny_base(seed=1))},
    )
    facts = {"empty": 1, "longer_than_max_chars": 1, "unchanged": 1, "no_room": 0}
    assert out.facts == {**facts, "revisions": N - 3, "equal_to_previous": 0}


def test_a_form_without_room_in_the_critics_context_is_left_out_and_counted(
    make, critic_says, tmp_path
):
    read = critic_says(by_form)
    answers, asked = (
        make(toy_answers(n=N, unfinished=0)),
        {**ASK, "critic": make(tiny_base(seed=1))},
    )
    asked = {**asked, "constitution": TOY, "temperature": 1.0}
    criticise.body(Draft(tmp_path), answers, **asked)
    tokens = sorted(len(byte_tokenizer()(prompt)["input_ids"]) for prompt in read)
    out = Draft(tmp_path)  # the tiny model reads 1,024 tokens: leave room for the shorter forms
    criticise.body(out, answers, **{**asked, "max_new_tokens": 1024 - tokens[3]})
    fit = sum(count <= tokens[3] for count in tokens)
    assert out.facts == {"critiques": fit, "no_room": N - fit}
    assert 4 <= fit < N
    with pytest.raises(ValueError, match=f"none of {N} forms leaves 1020 tokens"):
        criticise.body(Draft(tmp_path), answers, **{**asked, "max_new_tokens": 1020})


def test_revision_pairs_prefer_the_last_revision_to_the_first_answer(make, critic_says):
    critic_says(lambda p: by_form(p) if "Answer: answer to 1" in p else first_line(p))
    pairs = make(revision_pairs(steps(2, seed=110)[1], axis="safe", source="ai_revision"))
    assert isinstance(pairs, Preferences)
    rows = pairs.rows()
    assert [row["rejected"] for row in rows] == ["answer to 1", "answer to 10", "answer to 11"]
    assert all(row["chosen"] == f"{row['rejected']} but kind but kind" for row in rows)
    assert {(row["p1"], row["axis"], row["source"]) for row in rows} == {
        (1.0, "safe", "ai_revision")
    }


@pytest.mark.parametrize(("revision_ends", "answer_ends"), [(True, False), (False, True)])
def test_a_revision_and_an_answer_make_a_pair_only_where_both_finished(
    make, tmp_path, revision_ends, answer_ends
):
    revised = make(steps(1, seed=110)[0]).rows()
    whole = {"completion": "a kinder answer", "finished": True, "original_finished": True}
    rows = [{**row, **whole} for row in revised]
    rows[0] |= {"finished": revision_ends, "original_finished": answer_ends}
    (tmp_path / "rows").mkdir()
    write_rows(Draft(tmp_path / "rows"), rows)
    out = Draft(tmp_path)
    told = Revisions("told", path=tmp_path / "rows")
    revision_pairs.body(out, told, axis="safe", source="ai_revision")
    assert out.facts["dropped"] == {"unchanged": 0, "unfinished": 1}
    assert len(Preferences("made", path=tmp_path).rows()) == len(rows) - 1


def test_a_revision_of_a_revision_remembers_whether_the_first_answer_finished(make):
    answers = toy_answers(n=N, unfinished=3)
    last = make(steps(2, seed=110, answers=answers)[1]).rows()
    ended = {row["prompt_id"]: row["finished"] for row in make(answers)}
    assert {row["prompt_id"]: row["original_finished"] for row in last} == {
        row["prompt_id"]: ended[row["prompt_id"]] for row in last
    }


def test_a_collection_is_the_prompts_of_one_tag(make):
    prompts = tiny_shared(0).prompts
    red = make(collection(prompts, tag="red-team"))
    assert isinstance(red, Prompts)
    assert Counter(row["tag"] for row in make(prompts)) == {
        "red-team": len(red.rows()),
        "general": 3 * len(red.rows()),
    }
    with pytest.raises(ValueError, match="has the tag 'red'"):
        make(collection(prompts, tag="red"))


def test_critiques_and_revisions_are_the_assistants_and_start_from_the_sft_policy():
    shared = tiny_shared(0)
    two = self_revised(shared, constitution("hamlet"), revisions=2, critique=True)
    assert len(two) == 2
    for step in two:
        assert step.recipe.arguments["critic"] == shared.assistant
    first = two[0].recipe.arguments["answers"].recipe.arguments["answers"]
    assert first.recipe.arguments["policy"] == shared.sft
    assert two[1].recipe.arguments["answers"].recipe.arguments["answers"] == two[0]
    assert self_revised(shared, constitution("hamlet"), revisions=0, critique=True) == ()
    with pytest.raises(ValueError, match="brings none"):
        self_revised(replace(shared, assistant=None), TOY, revisions=1, critique=True)


def test_a_real_critic_draws_the_same_whatever_else_is_asked_beside_it(make):
    policy: Policy = tiny_base(seed=1)
    ask = {**ASK, "critic": policy, "constitution": TOY, "max_new_tokens": 6}
    many = make(criticise(toy_answers(n=8, unfinished=0), **ask)).rows()
    few = make(criticise(toy_answers(n=3, unfinished=0), **ask)).rows()
    assert many[:3] == few
    other = make(criticise(toy_answers(n=3, unfinished=0), **{**ask, "seed": 6})).rows()
    assert [row["critique"] for row in other] != [row["critique"] for row in few]
    revised = make(revise(toy_answers(n=3, unfinished=0), **ask)).rows()
    assert [row["completion"] for row in revised] != [row["critique"] for row in few]
