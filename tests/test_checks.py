"""The conformance suite: it finds each broken promise, and our own plugins keep all of them."""

from __future__ import annotations

import json

import faulty_methods
import pytest
from known_bytes import KnownBytes

from harness.artifacts import Texts
from harness.checks import CLAIMS, checks_for
from harness.differences import difference, other_values
from harness.draft import Draft
from harness.evidence import CheckFailed
from harness.registry import Setting, UnknownNameError
from harness.stage import stage
from harness.tiny import TINY_WORLD


def check_named(name, plugin):
    (found,) = [check for check in checks_for(plugin) if check.name == name]
    return found


# Which check refuses which method, and what the refusal says; the first need nothing to be made.
FAULTS = [
    ("paperless", "is_documented", "write arXiv:NNNN.NNNNN"),
    ("speechless", "is_documented", "has no docstring"),
    ("untyped", "has_typed_plain_settings", "give setting 'strength' a type"),
    ("mistyped", "has_typed_plain_settings", "write the default 1 as 1.0"),
    ("hashed", "has_the_same_id_in_a_fresh_process", "something other than the settings"),
    ("importing", "plans_without_torch_or_writing", "planning imports pandas"),
    ("writing", "plans_without_torch_or_writing", "left-behind.txt"),
    ("foreign", "descends_from_the_shared_base", "start from shared.sft or shared.base"),
    ("peeking", "never_touches_held_out_prompts", "test prompts"),
]
FAULTS_OF_WHAT_IS_MADE = [
    ("deaf", "is_changed_by_every_setting", "strength: no id changes"),
    ("vain", "is_changed_by_every_setting", "has the same bytes as without it"),
    ("seedless", "draws_by_the_seed", "no id changes"),
    ("undecided", "remakes_the_same_bytes", "said.json"),
]


def assert_refused(name, check, said):
    with pytest.raises(CheckFailed, match=said):
        check_named(check, getattr(faulty_methods, name))()


@pytest.mark.parametrize(("name", "check", "said"), FAULTS)
def test_a_broken_promise_is_found_by_planning(name, check, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(name, check, said)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check", "said"), FAULTS_OF_WHAT_IS_MADE)
def test_a_broken_promise_is_found_by_making(name, check, said):
    assert_refused(name, check, said)


def conforms(checks):
    """Return what is wrong, each check run once: one plugin's evidence is gathered in one place."""
    wrong = []
    for check in checks:
        try:
            check()
        except CheckFailed as error:
            wrong.append(f"{check}: {error}")
    return wrong


@pytest.mark.slow
def test_a_method_that_keeps_all_promises_passes_every_check():
    checks = checks_for(faulty_methods.sound)
    assert conforms(checks) == []
    assert [check.name for check in checks] == [claim.__name__ for claim in CLAIMS["method"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "sft", "best_of_n", "dpo"])
def test_our_methods_conform(name):
    assert conforms(checks_for(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["helpfulness", "safety", "capability", "preference", "diagnostics", "overoptimisation"],
)
def test_our_suites_conform(name):
    assert conforms(checks_for(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hamlet", "hamlet_foreign", "hamlet_scarce"])
def test_our_embedded_datasets_conform(name):
    assert conforms(checks_for(name, settings=TINY_WORLD)) == []


@pytest.mark.slow
def test_our_dataset_of_local_files_conforms(tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Say {n}.", "chosen": f"yes, {n}", "rejected": "no"} for n in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pins = "files chooses among several files and sha256 pins one: with one file, ids are the same"
    exceptions = {"reaches_ids_by_every_setting": pins}
    checks = checks_for("jsonl", settings={"path": str(file)}, exceptions=exceptions)
    assert conforms(checks) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "values"),
    [
        ("contains", {"word": "a"}, {"word": "e"}),
        ("labeller", {}, {}),
        ("gold", {}, {"axis": "safe"}),
    ],
)
def test_our_judges_conform(name, settings, values):
    assert conforms(checks_for(name, settings=settings, values=values)) == []


def test_an_exception_needs_a_written_reason():
    with pytest.raises(ValueError, match="write the reason"):
        checks_for(faulty_methods.paperless, exceptions={"is_documented": " "})


def test_an_exception_names_a_check_that_exists():
    with pytest.raises(ValueError, match="Did you mean 'is_documented'"):
        checks_for(faulty_methods.paperless, exceptions={"is_documentd": "a method of ours"})


def test_an_excused_check_need_not_hold():
    reason = {"is_documented": "an unpublished method of a test"}
    check_excused = checks_for(faulty_methods.paperless, exceptions=reason)[0]
    check_excused()


def test_an_exception_that_is_not_needed_is_refused():
    checks = checks_for(faulty_methods.sound, exceptions={"is_documented": "it was so once"})
    with pytest.raises(CheckFailed, match="is not needed; drop it"):
        checks[0]()


def test_every_check_has_an_id_and_says_its_claim():
    checks = checks_for(faulty_methods.sound)
    assert [str(check) for check in checks[:2]] == [
        "sound-is_documented",
        "sound-has_typed_plain_settings",
    ]
    assert all(check.says.endswith(".") for check in checks)


def test_a_name_that_no_plugin_has_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'best_of_n'\?"):
        checks_for("best_of_m")


def test_a_module_stands_for_the_plugins_in_it():
    named = {check.evidence.plugin.name for check in checks_for("faulty_methods")}
    assert {"sound", "paperless", "undecided"} <= named


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, 1),
        (int, 64),
        (float, 0.0),
        (float, 0.5),
        (bool, True),
        (str, ""),
        (float | None, None),
    ],
)
def test_other_values_of_a_setting_are_of_its_type_and_differ(annotation, default):
    values = list(other_values(Setting("x", annotation, default), default))
    assert values
    assert default not in values
    assert all(isinstance(value, annotation) for value in values)


@stage(makes=Texts)
def replayed(out: Draft, earlier: tuple[Texts, ...], *, number: int, share: float) -> None:
    """Stand for a round that replays a share of what earlier rounds have."""


def rounds(share):
    first = replayed((), number=0, share=share)
    return first, replayed((first,), number=1, share=share)


def test_a_setting_that_has_nothing_to_do_in_the_first_round_is_looked_for_in_the_next():
    (first, last), (other_first, other_last) = rounds(0.5), rounds(1.0)
    alike = {first.id: "a", other_first.id: "a", last.id: "b"}
    differs = KnownBytes({**alike, other_last.id: "c"})
    assert difference(differs, (last,), (other_last,)) == ""
    idle = KnownBytes({**alike, other_last.id: "b"})
    assert "same bytes" in difference(idle, (last,), (other_last,))
