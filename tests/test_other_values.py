"""Other values of a setting, which checks try: some of them every setting of ours accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from known_bytes import KnownBytes

from harness.annotations import Examples
from harness.artifacts import Texts
from harness.checks import checks_for
from harness.conformance import reaches_ids_by_every_setting
from harness.differences import difference, other_values
from harness.draft import Draft
from harness.registry import Setting
from harness.stage import stage

OURS = sorted(file.stem for file in (Path(__file__).parents[1] / "methods").glob("[a-z]*.py"))


def test_both_values_are_tried_where_none_stands_for_one_of_them():
    assert list(other_values(Setting("x", bool | None, None), None)) == [True, False]


def test_a_setting_that_no_type_tells_values_of_is_tried_with_its_examples():
    setting = Setting("x", Annotated[str, Examples("null", "general")], "hamlet")
    assert list(other_values(setting, "hamlet")) == ["null", "general"]


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_our_methods_reaches_an_id(name):
    (check,) = checks_for(name)[:1]
    reaches_ids_by_every_setting(check.evidence)


@stage(makes=Texts)
def part_way(out: Draft, earlier: tuple[Texts, ...], *, number: int) -> None:
    """Stand for one step of a method that a setting may end early."""


def test_a_plan_that_ends_earlier_differs_where_its_product_does():
    first = part_way((), number=0)
    last = part_way((first,), number=1)
    assert difference(KnownBytes({first.id: "a", last.id: "b"}), (last,), (first,)) == ""
    same = KnownBytes({first.id: "a", last.id: "a"})
    assert "same bytes" in difference(same, (last,), (first,))
    assert "no id changes" in difference(same, (last,), (last,))
