"""The READMEs say what the code does; `python tests/test_documents.py` brings them up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import documents
from harness.documents import keys_of, notes_of, numbered, ours, table, type_name
from harness.glossary import GLOSSARY
from harness.registry import Plugin, discover

ROOT = Path(__file__).parents[1]
KINDS = ("method", "dataset", "judge", "suite")
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def benchmarks() -> str:
    """Return the table of public benchmarks: what each measures, its licence, where it is."""
    from evals.benchmark_copies import listed

    titles = ("set or task", "axis", "licence", "sizes that take it", "where to get it")
    return table(
        titles,
        [(f"`{one.name}`", one.axis, one.licence, one.sizes, one.source) for one in listed("")],
    )


def metrics() -> str:
    """Return the table of metrics of all suites, the primary ones marked."""
    rows = [
        (
            f"`{plugin.name}`",
            f"`{metric.name}`" + (" (primary)" if metric.primary else ""),
            plugin.axis,
            "higher" if metric.higher_is_better else "lower",
            metric.description,
        )
        for plugin in ours("suite")
        if not plugin.name.startswith("benchmark_")
        for metric in plugin.metrics
    ]
    return table(("suite", "metric", "axis", "better", "what it is"), rows)


def modules() -> str:
    return documents.modules_text(ROOT / "harness")


# Which part of which README is made from the code, and how.
MADE = {
    ("methods", "methods"): documents.methods_text,
    ("harness", "study"): documents.study_text,
    ("harness", "sft"): documents.sft_text,
    ("harness", "datasets"): lambda: documents.plugins_text("dataset"),
    ("harness", "judges"): lambda: documents.plugins_text("judge"),
    ("harness", "modules"): modules,
    ("evals", "suites"): lambda: documents.plugins_text("suite"),
    ("evals", "metrics"): metrics,
    ("evals", "benchmarks"): benchmarks,
}


def readme(folder: str) -> Path:
    return ROOT / folder / "README.md"


def between(name: str, text: str) -> str:
    """Return what stands between a pair of markers."""
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found, f"the README has lost its markers of {name!r}"
    return found[1].strip()


def replaced(name: str, text: str, content: str) -> str:
    """Return a README with other content between a pair of markers."""
    pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- /{name} -->)"
    assert re.search(pattern, text, re.DOTALL), f"no markers of {name!r}"
    return re.sub(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)


@pytest.mark.parametrize(("folder", "name"), MADE)
def test_a_generated_part_is_what_the_code_says(folder, name):
    discover()
    said = between(name, readme(folder).read_text(encoding="utf-8"))
    assert said == MADE[folder, name](), "run `python tests/test_documents.py`"


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_ours_has_a_meaning(kind):
    discover()
    lacking = [f"{p.name}.{key.name}" for p in ours(kind) for key in keys_of(p) if not key.meaning]
    assert lacking == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_meaning_is_of_a_setting_that_is_gone(kind):
    discover()
    used = {name for p in ours(kind) for s in p.settings for name in (s, f"{p.name}.{s}")}
    assert set(GLOSSARY[kind]) - used == set()


def test_every_key_of_a_study_has_a_meaning():
    rows = [row for _, _, rows in documents.tables_of(documents.StudyFile, "top") for row in rows]
    assert len(rows) > 40
    assert [row[0] for row in rows if not row[-1]] == []


def test_types_read_as_a_writer_of_toml_thinks_of_them():
    from typing import Annotated, Literal

    from harness.ranges import Range

    assert type_name(Annotated[float | None, Range(0, 1)]) == "number"
    assert type_name(Literal["sl", "rl"]) == '`"sl"`, `"rl"`'
    assert type_name(tuple[float, ...]) == "list of numbers"
    assert type_name(bool) == "true or false"


def commented(
    shared,
    first: int = 1,  # beside
    # above, over
    # two lines
    second: int = 2,
    third: float = 0.5,
    *,
    fourth: str = "#",  # a mark in the default is no comment
):
    """Do nothing."""


def test_a_note_is_the_comment_beside_a_setting_or_above_it():
    notes = notes_of(Plugin("method", "commented", commented))
    assert notes == {
        "shared": "",
        "first": "beside",
        "second": "above, over two lines",
        "third": "",
        "fourth": "a mark in the default is no comment",
    }


def test_points_are_told_from_other_numbers_by_their_order():
    said = "1. One of 7. They differ. 2. As in\nsection 5. 3. Three."
    assert numbered(said) == ["One of 7. They differ.", "As in section 5.", "Three."]


def test_a_table_leaves_out_columns_that_nobody_fills_and_escapes_bars():
    assert table(("a", "b", "c"), [("1", "", "x|y"), ("2", "", "z")]) == (
        "| a | c |\n| --- | --- |\n| 1 | x\\|y |\n| 2 | z |"
    )
    assert table(("a",), []) == ""


if __name__ == "__main__":
    discover()
    for (folder, name), make in MADE.items():
        file = readme(folder)
        file.write_text(replaced(name, file.read_text(encoding="utf-8"), make()), encoding="utf-8")
