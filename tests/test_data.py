from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest
from conftest import SHARED
from tiny import byte_tokenizer, tiny_policy

from harness import registry
from harness.artifacts import Preferences
from harness.data import Source, jsonl, read_pairs
from harness.draft import Draft
from harness.judges import fitted
from harness.label_budget import LabelBudget
from harness.local import local_file
from harness.models import base_policy, encode
from harness.row_formats import Columns, Pair, judgements, said
from harness.run import in_order
from harness.splits import Shares
from harness.stages.label import relabel
from harness.stages.prefer import prefer
from harness.stages.reward import fit_reward, fit_safe_reward

COLUMNS = Columns()
WHOLE = Columns(prompt="")
HH = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why?\n\nAssistant: {}"


def rows(n, **changes):
    return [
        {"prompt": f"question {i}?", "chosen": f"yes {i}", "rejected": f"no {i}", **changes}
        for i in range(n)
    ]


def written(folder, lines, name="pairs.jsonl"):
    content = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    file = folder / name
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(content.encode(), mtime=0))
    else:
        file.write_text(content)
    return file


def plan(file, seed=0, **settings):
    return jsonl(tiny_policy(seed=0), seed, path=str(file), **settings)


def pair_of(row, columns):
    found = said(row, columns, "helpful")
    assert isinstance(found, Pair)
    return found


def noted(make, file, tmp_path, *, columns=COLUMNS, held_out=None, **shares):
    """Read a file, and one that is held out, and return what the stage noted of them."""
    settings = {"validation": 0.1, "test": 0.2, "max_prompt": 100, "max_length": 150}
    out = Draft(tmp_path / "out")
    out.path.mkdir()
    sources = [Source(local_file(file), columns, "helpful")]
    if held_out:
        sources.append(Source(local_file(held_out), columns, "helpful", held_out=True))
    base = make(tiny_policy(seed=0))
    read_pairs.body(out, base, sources=tuple(sources), shares=Shares(**{**settings, **shares}))
    return out.facts


def test_the_parts_of_a_file_hold_its_rows_and_no_prompt_is_in_two_splits(make, tmp_path):
    data = plan(written(tmp_path, rows(40)), validation=0.1, test=0.2)
    splits = {
        name: {row["messages"][0]["content"] for row in make(getattr(data, name))}
        for name in ("prompts", "validation", "test")
    }
    assert {name: len(found) for name, found in splits.items()} == {
        "prompts": 28,
        "validation": 4,
        "test": 8,
    }
    assert set.union(*splits.values()) == {f"question {i}?" for i in range(40)}
    pairs = make(data.preferences(tiny_policy(seed=5))).rows()
    assert {pair["messages"][0]["content"] for pair in pairs} == splits["prompts"]
    for pair in pairs:
        number = pair["messages"][0]["content"][9:-1]
        better = pair["chosen"] if pair["p1"] == 1.0 else pair["rejected"]
        assert better == f"yes {number}"
        assert pair["p1"] in (0.0, 1.0)
    shown = {(d["messages"][0]["content"], d["completion"]) for d in make(data.demonstrations)}
    assert shown == {
        (f"question {i}?", f"yes {i}") for i in range(40) if f"question {i}?" in splits["prompts"]
    }


def test_both_sides_win_about_equally_often_so_that_permuting_labels_changes_them(make, tmp_path):
    file = written(tmp_path, rows(300))
    given = make(plan(file).preferences(None)).rows()
    dealt = make(plan(file, labels="permuted").preferences(None)).rows()
    sides = Counter(pair["p1"] for pair in given)
    assert abs(sides[0.0] - sides[1.0]) < 5 * len(given) ** 0.5
    assert Counter(pair["p1"] for pair in dealt) == sides
    changed = sum(a["p1"] != b["p1"] for a, b in zip(given, dealt, strict=True))
    assert changed > len(given) / 3
    same = ("pair_id", "messages", "chosen", "rejected")
    assert [[p[k] for k in same] for p in given] == [[p[k] for k in same] for p in dealt]
    assert {pair["source"] for pair in dealt} == {"permuted"}


def test_flags_of_safety_are_read_from_the_columns_that_are_named(make, tmp_path):
    lines = rows(40, fine=True, bad=False)
    lines[3] |= {"fine": None, "bad": None}
    named = {"chosen_safe": "fine", "rejected_safe": "bad"}
    pairs = make(plan(written(tmp_path, lines), **named).preferences(None)).rows()
    without = [row for row in pairs if "chosen_safe" not in row]
    assert len(without) <= 1
    for row in pairs:
        if row not in without:
            sides = {row["chosen_safe"]: row["chosen"], row["rejected_safe"]: row["rejected"]}
            assert sides[True].startswith("yes")
            assert sides[False].startswith("no")
    for wrong in ("yes", 0.5, None):
        with pytest.raises(ValueError, match="true or false, for both answers"):
            said({**lines[0], "bad": wrong}, Columns(**named), "helpful")
    with pytest.raises(ValueError, match="go together"):
        Columns(chosen_safe="fine")
    with pytest.raises(ValueError, match="name no other answers"):
        Columns(responses="all", **named)


def test_a_safety_flag_that_training_reads_is_paid_beside_the_judgement(make, tmp_path):
    file = written(tmp_path, rows(30, fine=True, bad=False))
    people = plan(file, chosen_safe="fine", rejected_safe="bad").preferences(None)
    policy = tiny_policy(seed=0)
    models = [fit(policy, people, seed=0) for fit in (fit_reward, fit_safe_reward)]
    closures = [in_order([people, policy]) for _ in models]
    store = Opened({people.id: make(people)})
    count = len(store[people.id].rows())
    found = [LabelBudget(store).count([*c, m]) for c, m in zip(closures, models, strict=True)]
    assert found == [{"human": count}, {"human": count, "safety_flag": 2 * count}]
    assert LabelBudget(store).count([people, *models, models[1]]) == found[1], "bought once"


def test_fixed_data_is_the_same_for_every_seed_and_the_placebo_is_not(tmp_path):
    file = written(tmp_path, rows(20))
    first, second = plan(file, seed=0), plan(file, seed=1)
    assert first.preferences(None) == second.preferences(None)
    assert first.test == second.test
    placebo = [plan(file, seed=seed, labels="permuted").preferences(None) for seed in (0, 1)]
    assert placebo[0] != placebo[1]


def test_the_order_of_lines_changes_no_split(make, tmp_path):
    forward = plan(written(tmp_path, rows(30), "a.jsonl"))
    backward = plan(written(tmp_path, rows(30)[::-1], "b.jsonl"))
    assert make(forward.test).rows() == make(backward.test).rows()
    assert make(forward.preferences(None)).rows() == make(backward.preferences(None)).rows()


def test_a_changed_file_is_other_data_and_a_moved_one_is_not(tmp_path):
    file = written(tmp_path, rows(20))
    before = plan(file).test
    assert plan(file.rename(tmp_path / "moved.jsonl")).test == before
    assert plan(written(tmp_path, rows(21))).test != before


def test_later_turns_of_one_conversation_stay_in_its_split(make, tmp_path):
    lines = []
    for i in range(60):
        start = f"\n\nHuman: start {i}\n\nAssistant: "
        lines.append({"chosen": f"{start}a", "rejected": f"{start}b"})
        more = f"{start}a\n\nHuman: go on\n\nAssistant: "
        lines.append({"chosen": f"{more}c", "rejected": f"{more}d"})
    data = plan(written(tmp_path, lines), prompt="")
    openings = [
        {row["messages"][0]["content"] for row in make(part)}
        for part in (data.prompts, data.validation, data.test)
    ]
    assert sum(map(len, openings)) == len(set.union(*openings)) == 60
    assert len(make(data.test).rows()) == 2 * len(openings[2])


def test_max_rows_takes_a_part_that_does_not_depend_on_the_files_order(make, tmp_path):
    few = plan(written(tmp_path, rows(50), "a.jsonl"), max_rows=20)
    again = plan(written(tmp_path, rows(50)[::-1], "b.jsonl"), max_rows=20)
    parts = [few.prompts, few.validation, few.test]
    asked = [row["messages"][0]["content"] for part in parts for row in make(part)]
    assert len(asked) == 20
    assert asked != [f"question {i}?" for i in range(20)]
    assert [row["prompt_id"] for row in make(few.prompts)] == [
        row["prompt_id"] for row in make(again.prompts)
    ]


def test_what_is_left_out_is_counted_by_reason(make, tmp_path):
    good = rows(20)
    bad = [
        good[0],
        good[1],
        {"prompt": "same?", "chosen": "x", "rejected": "x"},
        {"prompt": "empty?", "chosen": "", "rejected": "x"},
        {"prompt": "q" * 101, "chosen": "x", "rejected": "y"},
        {"prompt": "long?", "chosen": "x", "rejected": "y" * 150},
        {"prompt": "stop <|end|> now", "chosen": "x", "rejected": "y"},
    ]
    facts = noted(make, written(tmp_path, [*good, *bad]), tmp_path)
    assert facts["dropped"] == {
        "duplicate": 2,
        "equal_answers": 1,
        "empty_turn": 1,
        "longer_than_max_prompt": 1,
        "longer_than_max_length": 1,
        "prompt_spells_a_special_token": 1,
    }
    assert facts["rows"] == {"train": 14, "validation": 2, "test": 4}


def test_conversations_that_differ_before_the_answer_make_no_pair_and_are_counted(make, tmp_path):
    lines = [{"chosen": HH.format(f"a{i}").replace("Hi", f"Hi {i}")} for i in range(20)]
    for line in lines:
        line["rejected"] = line["chosen"] + "!"
    lines[3]["rejected"] = lines[4]["rejected"]
    lines[5]["chosen"] += "\n\nAssistant: and once more"
    facts = noted(make, written(tmp_path, lines), tmp_path, columns=WHOLE)
    assert facts["dropped"] == {"conversations_differ_before_the_answer": 2}


def test_no_kept_row_is_longer_than_the_limits(make, tmp_path):
    lines = [
        {"prompt": "q" * (3 * i + 1), "chosen": "a" * (5 * i + 1), "rejected": "b"}
        for i in range(40)
    ]
    data = plan(written(tmp_path, lines), max_prompt=60, max_length=120)
    tokenizer = byte_tokenizer()
    kept = make(data.preferences(None)).rows()
    assert kept
    for pair in kept:
        assert len(encode(tokenizer, pair["messages"])) <= 60
        for side in ("chosen", "rejected"):
            assert len(encode(tokenizer, pair["messages"], pair[side])) <= 120


def test_a_transcript_becomes_turns_and_an_answer():
    pair = pair_of({"chosen": HH.format("Because."), "rejected": HH.format("No.")}, WHOLE)
    assert [dict(turn) for turn in pair.messages] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Why?"},
    ]
    assert (pair.chosen, pair.rejected) == ("Because.", "No.")


def test_messages_with_the_prompt_inside_or_apart_mean_the_same():
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    said = {side: {"role": "assistant", "content": side} for side in ("chosen", "rejected")}
    inside = {side: [*asked, turn] for side, turn in said.items()}
    apart = {"prompt": asked, **{side: [turn] for side, turn in said.items()}}
    plain = {"prompt": asked, "chosen": "chosen", "rejected": "rejected"}
    assert pair_of(inside, WHOLE) == pair_of(apart, COLUMNS) == pair_of(plain, COLUMNS)


USER = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "So."}


@pytest.mark.parametrize(
    ("line", "columns", "message"),
    [
        ("[1, 2]", COLUMNS, "line 2: not a JSON object such as"),
        ("{torn", COLUMNS, "line 2: "),
        ({"chosen": "a", "rejected": "b"}, COLUMNS, r"no column 'prompt'; it has chosen, rejected"),
        ({"prompt": "a", "rejected": "b"}, COLUMNS, "no column 'chosen'.*Name the columns"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, COLUMNS, "messages are a list such as"),
        (
            {"prompt": "a", "chosen": None, "rejected": "b"},
            COLUMNS,
            "column 'chosen' is null; give",
        ),
        (
            {"prompt": [{"role": "human", "content": "x"}], "chosen": "a", "rejected": "b"},
            COLUMNS,
            "role 'human': a role is one of system, user, assistant",
        ),
        (
            {"prompt": [USER, SAID], "chosen": "a", "rejected": "b"},
            COLUMNS,
            "ends with a turn of the assistant",
        ),
        (
            {"prompt": [USER, USER], "chosen": "a", "rejected": "b"},
            COLUMNS,
            "turns alternate from user to user; this prompt has user, user",
        ),
        (
            {"prompt": "x", "chosen": [USER, SAID], "rejected": "b"},
            COLUMNS,
            r'leave the prompt out \(prompt = ""\)',
        ),
        ({"chosen": "So.", "rejected": "No."}, WHOLE, r'begins with "\\n\\nHuman:"'),
        ({"chosen": [USER], "rejected": [USER]}, WHOLE, "ends with the assistant's answer"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_the_remedy(tmp_path, line, columns, message):
    good = {"prompt": "x", "chosen": "a", "rejected": "b"}
    if columns is WHOLE:
        good = {"chosen": HH.format("a"), "rejected": HH.format("b")}
    file = written(tmp_path, [good, line])
    with pytest.raises(ValueError, match=message) as raised:
        list(judgements(file, columns, "helpful"))
    assert str(raised.value).startswith(f"{file}, line 2: ")


def test_text_that_no_file_can_hold_is_made_holdable():
    pair = pair_of({"prompt": "a\ud800b", "chosen": "c\udfff", "rejected": "d"}, COLUMNS)
    assert pair.messages[0]["content"] == "a?b"
    assert pair.chosen == "c?"


def test_a_split_without_rows_is_an_error_that_says_what_was_left_out(make, tmp_path):
    lines = [{"prompt": "q" * 150, "chosen": "a", "rejected": "b"}, *rows(3)]
    with pytest.raises(
        ValueError, match=r"3 usable rows leave none for validation .*max_prompt': 1"
    ):
        noted(make, written(tmp_path, lines), tmp_path)


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.1), (0.1, 0.0), (0.6, 0.5)])
def test_shares_that_leave_a_split_without_prompts_are_refused_when_planning(
    tmp_path, validation, test
):
    with pytest.raises(ValueError, match="leave some for training"):
        plan(written(tmp_path, rows(9)), validation=validation, test=test)


def test_a_missing_file_is_named_in_full_when_planning(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no file {tmp_path}/none.jsonl"):
        plan(tmp_path / "none.jsonl")


def test_a_gzipped_file_holds_the_same_rows(make, tmp_path):
    plain, packed = (written(tmp_path, rows(20), f"p.jsonl{end}") for end in ("", ".gz"))
    assert make(plan(plain).test).rows() == make(plan(packed).test).rows()


def test_planning_reads_no_rows_and_imports_no_torch(tmp_path):
    import subprocess
    import sys

    file = written(tmp_path, ["not even JSON"])
    code = (
        "import sys; from harness import registry; registry.discover; import harness.data;"
        "from harness.models import local_model, LocalFolder;"
        "base = local_model(folder=LocalFolder('0' * 64, 'x'), template=None, dtype=None);"
        f"registry.get('dataset', 'jsonl')(base, 0, path={str(file)!r});"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert registry.get("dataset", "jsonl").settings["max_rows"].default is None


@pytest.mark.parametrize(("part", "axis"), [("harmless-base", "safe"), ("helpful", "helpful")])
def test_real_hh_rlhf_pairs_become_conversations(make, tinystories, part, axis):
    file = SHARED / "data" / "hh_rlhf" / part / "test.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"the real pairs are not here: {file}")
    base = base_policy("stories", {"path": str(tinystories), "template": "plain"})
    data = jsonl(base, 0, path=str(file), prompt="", axis=axis, max_rows=300)
    pairs = make(data.preferences(None)).rows()
    assert 200 < len(pairs) < 270
    for pair in pairs:
        assert [turn["role"] for turn in pair["messages"]] == [
            ("user", "assistant")[n % 2] for n in range(len(pair["messages"]))
        ]
        text = [*(turn["content"] for turn in pair["messages"]), pair["chosen"], pair["rejected"]]
        assert not any("\n\nHuman:" in each or each != each.strip() for each in text)
    assert any(len(pair["messages"]) >= 3 for pair in pairs)
    tag = {"safe": "red-team", "helpful": "general"}[axis]
    assert {row["tag"] for row in make(data.test)} == {tag}


def test_train_rows_that_repeat_thirteen_words_of_a_held_out_prompt_are_left_out(make, tmp_path):
    shared = "one two three four five six seven eight nine ten eleven twelve thirteen"
    tests = written(tmp_path, [{"prompt": shared, "chosen": "a", "rejected": "b"}], "test.jsonl")
    given = [{"prompt": f"{n}: {shared}", "chosen": "a", "rejected": "b"} for n in range(2)]
    same = {"prompt": shared.upper() + "?", "chosen": "c", "rejected": "d"}
    file = written(tmp_path, [*rows(60), *given, same])
    facts = noted(make, file, tmp_path, held_out=tests, validation=0.02)
    assert facts["dropped"] == {
        "opens_like_a_held_out_prompt": 1,
        "repeats_words_of_a_held_out_prompt": 2,
    }
    assert facts["rows"] == {"train": 59, "validation": 1, "test": 1}


def test_an_overlap_above_its_limit_is_an_error_that_says_how_much(make, tmp_path):
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    given = [{"prompt": f"{n} {text}", "chosen": "a", "rejected": "b"} for n in range(20)]
    with pytest.raises(ValueError, match=r"14 of 14 train rows .* max_overlap = 0\.2"):
        noted(make, written(tmp_path, given), tmp_path)


def test_reserved_rows_are_kept_from_every_method_and_are_apart_by_conversation(make, tmp_path):
    data = plan(written(tmp_path, rows(60)), reserved=0.5)
    kept = {row["messages"][0]["content"] for row in make(data.reserved)}
    assert len(kept) == 30
    for part in (data.prompts, data.validation, data.test, data.demonstrations):
        assert not kept & {row["messages"][0]["content"] for row in make(part)}
    assert plan(written(tmp_path, rows(60))).reserved is None


def test_labels_that_teach_a_labeller_are_counted_as_such_where_its_verdicts_are_trained_on(
    make, tmp_path
):
    """30 pairs are reserved and the others are the methods': RLAIF's rows have their labels."""
    data = plan(written(tmp_path, rows(60)), reserved=0.5, assistant="base")
    people = data.preferences(None)
    judge = fitted(data, learning_rate=1e-3)
    ai = relabel(people, judge=judge, source="ai", seed=0)
    policies = [prefer(tiny_policy(seed=0), pairs, seed=0) for pairs in (people, ai)]
    closures = [[a for a in in_order([policy]) if a != policy] for policy in policies]
    opened = {a.id: make(a) for trained in closures for a in trained if isinstance(a, Preferences)}
    count = len(opened[people.id].rows())
    store = Opened(opened)
    found = [LabelBudget(store).count([*c, p]) for c, p in zip(closures, policies, strict=True)]
    assert found == [{"human": count}, {"ai": count, "labeller": 30}]
    assert 0 < count < 30


class Opened(dict):
    """Artifacts by id, as a store has them."""

    def __contains__(self, artifact):
        return dict.__contains__(self, artifact.id)

    def open(self, artifact):
        return self[artifact.id]


def test_digests_of_the_rows_used_follow_the_rows_and_not_their_order(make, tmp_path):
    notes = []
    for name, lines in (("a", rows(30)), ("b", rows(30)[::-1]), ("c", rows(31))):
        (tmp_path / name).mkdir()
        notes.append(noted(make, written(tmp_path / name, lines), tmp_path / name)["digests"])
    assert notes[0] == notes[1] != notes[2]
    assert set(notes[0]) == {"train", "validation", "test"}


def test_a_pinned_digest_that_differs_is_an_error_with_both(tmp_path):
    file = written(tmp_path, rows(20))
    pinned = local_file(file).sha256
    assert plan(file, sha256=pinned).test == plan(file).test
    with pytest.raises(ValueError, match=f"{pinned[:12]}, planned with {'0' * 12}"):
        plan(file, sha256="0" * 64)
