"""Ids follow from recipes alone, and settings are what their annotations say."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.draft import Draft
from harness.stage import STAGES, Artifact, Recipe, coerce, plain, stage


class Number(Artifact):
    """A number, planned in these tests and never made."""


@dataclass(frozen=True)
class File:
    sha256: str
    path: str = field(compare=False)


@dataclass(frozen=True)
class Scale:
    by: Number
    factor: float = 1.0


@stage(makes=Number)
def number(out: Draft, *, value: int) -> None:
    """Plan a number."""


@stage(makes=Number)
def tuned(
    out: Draft,
    of: Number,
    *,
    beta: float = 0.1,
    steps: tuple[int, ...] = (1, 2),
    names: dict[str, float] | None = None,
    label: str = "",
    on: bool = False,
) -> None:
    """Plan a number from another."""


@stage(makes=Number)
def scaled(out: Draft, *, scale: Scale) -> None:
    """Plan a number whose setting holds another."""


@stage(makes=Number)
def imported(out: Draft, *, file: File) -> None:
    """Plan a number read from a file."""


ONE = number(value=1)


def test_equal_words_name_the_same_artifact():
    assert tuned(ONE, beta=0.5) == tuned(of=ONE, beta=0.5, steps=(1, 2))
    assert len({tuned(ONE), tuned(ONE)}) == 1


def test_ids_are_equal_across_processes_and_hash_seeds():
    script = (
        "from pathlib import Path; from harness.registry import import_file\n"
        f"import_file(Path({str(Path(__file__).with_name('toy_stages.py'))!r}))\n"
        "import toy_stages as t\n"
        "a = t.source(number=3)\n"
        "print(t.weigh((a, a), by=t.Weighing(a, 2), names=['x', 'y']).id)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(said) == 1
    assert said.pop().startswith("weigh-")


def test_an_integer_is_a_float_where_a_float_is_asked_for():
    assert tuned(ONE, beta=1).id == tuned(ONE, beta=1.0).id


def test_floats_that_agree_to_twelve_digits_are_one_setting():
    assert tuned(ONE, beta=0.1 + 0.2).id == tuned(ONE, beta=0.3).id
    assert tuned(ONE, beta=0.3).id != tuned(ONE, beta=0.30000001).id


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("beta", "1e-5"),
        ("beta", True),
        ("beta", float("nan")),
        ("beta", float("inf")),
        ("steps", (1, "2")),
        ("steps", (1.5,)),
        ("label", 3),
        ("on", 1),
        ("label", Path("x")),
        ("beta", {1}),
        ("beta", ONE),
    ],
)
def test_a_setting_of_another_type_is_refused_by_name(setting, value):
    with pytest.raises(TypeError, match=setting):
        tuned(ONE, **{setting: value})


def test_a_plain_value_is_no_artifact():
    with pytest.raises(TypeError, match="of"):
        tuned("number-000000000000")


def test_lists_and_dictionaries_are_frozen_and_their_order_of_keys_does_not_matter():
    a = tuned(ONE, steps=[3, 4], names={"x": 1, "y": 2})
    b = tuned(ONE, steps=(3, 4), names={"y": 2.0, "x": 1.0})
    assert a.id == b.id
    assert a.recipe.arguments["steps"] == (3, 4)
    with pytest.raises(TypeError):
        a.recipe.arguments["names"]["x"] = 3.0


@pytest.mark.parametrize(
    "other",
    [
        lambda: tuned(ONE, beta=0.2),
        lambda: tuned(ONE, steps=(2, 1)),
        lambda: tuned(ONE, label="x"),
        lambda: tuned(ONE, on=True),
        lambda: tuned(number(value=2)),
        lambda: tuned(ONE, names={}),
    ],
)
def test_every_setting_and_input_is_part_of_the_id(other):
    assert other().id != tuned(ONE).id


def test_two_models_with_the_same_settings_have_different_keys():
    first, second = number(value=1), number(value=2)
    assert tuned(first, beta=0.5).id != tuned(second, beta=0.5).id
    assert scaled(scale=Scale(first)).id != scaled(scale=Scale(second)).id


def test_a_stage_with_a_raised_version_or_another_owner_makes_another_id():
    known = STAGES[tuned.full_name]
    raised = type(known)(known.body, known.makes, known.version + 1, known.name, known.owner)
    foreign = type(known)(known.body, known.makes, known.version, known.name, "somebody")
    ids = {s(ONE).id for s in (known, raised, foreign)}
    assert len(ids) == 3


def test_where_a_file_lies_is_sent_to_workers_but_is_not_part_of_the_id():
    here, there = imported(file=File("abc", "/a")), imported(file=File("abc", "/b"))
    assert here.id == there.id
    assert here.recipe.to_json()["arguments"]["file"]["path"] == "/a"
    assert imported(file=File("abd", "/a")).id != here.id


def test_inputs_are_found_in_every_container():
    two = number(value=2)
    assert tuned(ONE).inputs == [ONE]
    assert scaled(scale=Scale(two)).inputs == [two]
    assert ONE.inputs == []


def test_the_line_that_asked_is_kept_and_is_not_part_of_the_id():
    first = tuned(ONE)
    second = tuned(ONE)
    file, line = first.recipe.asked_at.rsplit(":", 1)
    assert Path(file) == Path(__file__)
    assert int(second.recipe.asked_at.rsplit(":", 1)[1]) == int(line) + 1
    assert first.id == second.id


def test_the_line_that_asked_is_in_no_library_of_python():
    asking = functools.singledispatch(tuned)  # a function in functools.py calls the stage
    file, line = asking(ONE).recipe.asked_at.rsplit(":", 1)
    assert Path(file) == Path(__file__)
    assert "asking(ONE)" in Path(file).read_text().splitlines()[int(line) - 1]


def test_a_recipe_is_plain_json():
    recipe = scaled(scale=Scale(ONE, 2)).recipe.to_json()
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["arguments"]["scale"]["by"] == {"$artifact": ONE.id, "kind": "Number"}


def test_a_planned_artifact_says_that_it_has_no_folder_yet():
    with pytest.raises(RuntimeError, match="still a plan"):
        ONE.path.exists()


def test_two_stages_of_one_name_are_an_error_that_names_both_places():
    known = STAGES[number.full_name]
    there = {"Draft": Draft, "__name__": __name__}
    exec(compile("def number(out: Draft) -> None: ...", "/plugins/other.py", "exec"), there)
    with pytest.raises(
        ValueError, match=r"two stages are called .*test_stage\.py.*other\.py.*rename one"
    ):
        stage(makes=Number)(there["number"])
    assert STAGES[number.full_name] is known


def test_a_local_function_an_unannotated_setting_and_a_default_seed_are_refused():
    def local(out: Draft) -> None:
        """Stay where no worker finds it."""

    with pytest.raises(TypeError, match="local"):
        stage(makes=Number)(local)

    def bare(out: Draft, *, size) -> None:
        """Leave a setting without a type."""

    def owned(out: Draft, *, seed: int = 0) -> None:
        """Own its randomness."""

    bare.__qualname__, owned.__qualname__ = "bare", "owned"
    with pytest.raises(TypeError, match="annotate parameter 'size'"):
        stage(makes=Number)(bare)
    with pytest.raises(TypeError, match="a seed has no default"):
        stage(makes=Number)(owned)


def test_a_later_setting_must_be_a_parameter_whose_default_is_none():
    def counted(out: Draft, *, size: int | None = None, step: int | None, width: int = 1) -> None:
        """Make something."""

    counted.__qualname__ = "counted"
    for name in ("sise", "step", "width"):
        with pytest.raises(TypeError, match=f"counted: '{name}' in later needs the default None"):
            stage(makes=Number, name="counted", later=("size", name))(counted)


def test_coerce_names_the_place_the_type_and_the_value():
    with pytest.raises(TypeError, match=r"dpo\.beta must be float, not 'x'"):
        coerce("x", float, "dpo.beta")


def test_the_fields_of_a_dataclass_setting_are_coerced_as_settings_are():
    assert scaled(scale=Scale(ONE, 2)).id == scaled(scale=Scale(ONE, 2.0)).id  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"setting 'scale'\.factor must be float, not '2'"):
        scaled(scale=Scale(ONE, "2"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"'scale'\.by must be .* not 1: expected Number"):
        scaled(scale=Scale(1))  # type: ignore[arg-type]


def test_plain_refuses_what_is_no_data():
    with pytest.raises(TypeError, match="plain data or an artifact, not set"):
        plain({"a": {1}})


def test_the_digest_of_a_recipe_does_not_depend_on_the_order_of_its_arguments():
    recipe = tuned(ONE).recipe
    turned = Recipe(recipe.stage, dict(reversed(recipe.arguments.items())), "elsewhere:1")
    assert turned.digest == recipe.digest
