"""The READMEs say what the code does; `python tests/test_documents.py` brings them up to date."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import documents
from harness.documents import keys_of, notes_of, numbered, ours, table, type_name
from harness.glossary import GLOSSARY
from harness.registry import Plugin, discover

ROOT = Path(__file__).parents[1]
KINDS = ("method", "dataset", "judge", "suite")
NOT_YET = ("check", "run", "status", "gauge")  # minutes of work, or rows of the reader's own
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
    owners = [(owner, p) for p in ours(kind) for owner in (p.name, p.name.split("_")[0])]
    used = {name for owner, p in owners for s in p.settings for name in (s, f"{owner}.{s}")}
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


def parts(*languages: str) -> list[tuple[str, str, str]]:
    """Return (language, name, text) of the fenced blocks of all READMEs, in their order."""
    folders = ("methods", "evals", "harness")  # a study stands after the plugins that it uses
    found = [FENCE.findall(readme(folder).read_text(encoding="utf-8")) for folder in folders]
    return [part for blocks in found for part in blocks if part[0] in languages]


def shown() -> list[list[str]]:
    """Return the words of every command that a console block shows, in their order."""
    lines = [line for _, _, text in parts("console") for line in text.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ run-matrix ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return an empty folder with the files that the READMEs show, as a reader would copy them."""
    place = tmp_path_factory.mktemp("reader")
    for _, name, text in parts("python", "toml"):
        if name:
            (place / name).write_text(text, encoding="utf-8")
    return place


def in_folder(folder: Path, words: list[str]) -> str:
    """Return what a command prints in a folder; it must succeed."""
    command = [sys.executable, str(ROOT / "run_matrix.py"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_each_kind_of_plugin_is_shown_whole_in_one_file(folder):
    assert {file.name for file in folder.iterdir()} == {
        "raft.py", "target_length.py", "sums.py", "terse.py", "mine.toml",
    }  # fmt: skip
    for file in folder.glob("*.py"):
        modules = re.findall(r"^from (harness\S*|methods\S*|evals\S*)", file.read_text(), re.M)
        assert set(modules) == {"harness"}, file.name


def test_every_toml_block_is_toml():
    import tomllib

    for _, _, text in parts("toml"):
        assert tomllib.loads(text)


@pytest.mark.parametrize("folder", ["", "methods", "evals", "harness", "results"])
def test_tables_of_a_study_that_a_readme_shows_say_nothing_unknown(folder, tmp_path):
    import tomllib

    from harness.study_file import Overrides
    from harness.study_problems import check

    discover()
    wrong = re.compile(
        r"unknown key|no such setting|no suite|no method|no dataset|no judge|must be"
    )
    blocks = FENCE.findall(readme(folder).read_text(encoding="utf-8"))
    for language, name, text in blocks:
        if language == "toml" and name != "mine.toml":  # that one needs its plugins, and is run
            problems = check(tomllib.loads(text), tmp_path, Overrides())
            assert [problem for problem in problems if wrong.search(problem)] == [], text


def test_links_to_headings_lead_to_headings():
    for folder in ("", "methods", "evals", "harness", "results"):
        text = readme(folder).read_text(encoding="utf-8")
        for link, place in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
            if link.startswith("https://"):
                continue
            target = (readme(folder).parent / link).resolve() if link else readme(folder)
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings]
            assert place in slugs, f"{folder}/README.md: {link}#{place}"


def test_every_console_line_parses():
    from typer.main import get_command

    from harness.commands import main

    group = get_command(main)
    assert len(shown()) > 10
    for name, *words in shown():
        group.commands[name].make_context(name, list(words))  # raises on an unknown option


def test_every_command_teaches_by_examples_that_parse():
    from typer.main import get_command

    from harness.command_examples import EXAMPLES, example_of
    from harness.commands import main

    group = get_command(main)
    assert set(EXAMPLES) == set(group.commands)
    for name, lines in EXAMPLES.items():
        assert f"run_matrix.py {lines[0][0]}" in example_of(name)
        for line, _ in lines:
            command, *words = shlex.split(line)
            assert command == name
            group.commands[name].make_context(name, words)  # raises on an unknown option


def test_the_help_of_a_command_ends_with_its_examples():
    from typer.testing import CliRunner

    from harness.commands import main

    said = CliRunner().invoke(main, ["why", "--help"])
    assert said.exit_code == 0
    assert said.output.rstrip().endswith(
        "Examples:\n    run_matrix.py why demo:dpo/0\n"
        "        never made, failed, or made by another recipe"
    )


@pytest.mark.slow
def test_what_the_readmes_show_runs_from_an_empty_folder(folder):
    quick = [words for words in shown() if words[0] not in NOT_YET]
    said = {" ".join(words): in_folder(folder, words) for words in quick}
    assert "raft " in said["list methods --plugin raft.py"]
    assert "target_length " in said["list suites --plugin target_length.py"]
    assert "2 cells = 1 base x 1 dataset x 2 methods x 1 seed" in said["plan mine.toml"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raft", "target_length", "sums", "terse"])
def test_what_the_readmes_show_conforms(folder, name):
    assert ["check", f"{name}.py"] in shown()
    assert "FAILED" not in in_folder(folder, ["check", f"{name}.py"])


@pytest.mark.slow
def test_the_study_of_ones_own_parts_runs_to_its_report(folder):
    assert ["run", "mine.toml"] in shown()
    in_folder(folder, ["run", "mine.toml", "--workers", "1"])
    assert "2 done" in in_folder(folder, ["status", "mine.toml"])
    scores = (folder / "results" / "mine" / "scores.csv").read_text()
    assert "mine,hamlet,sums,raft,raft,0,target_length,diagnostics,off_target" in scores
    assert ",judged_win_rate,true,greedy,Terse," in scores


if __name__ == "__main__":
    discover()
    for (folder, name), make in MADE.items():
        file = readme(folder)
        file.write_text(replaced(name, file.read_text(encoding="utf-8"), make()), encoding="utf-8")
