"""A study is refused with every problem at once, or becomes cells that share what they can."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import toy_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.study import Study
from harness.study_file import Overrides, StudyError
from harness.study_problems import check

TOY = Path(__file__).with_name("toy_study.py")
GOOD = f"""
schema = 1
name = "toy"
seeds = [0, 1]
plugins = ['{TOY}']
[bases.tiny]
[datasets.toy]
[methods.toy_sft]
[methods.toy_dpo]
[methods.firm]
method = "toy_dpo"
beta = 1
[evaluation]
suites = ["toy_help"]
"""


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    toy_study.install(monkeypatch.setattr)


@pytest.fixture
def write(tmp_path):
    def write(text, name="study.toml"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


def problems(file, **overrides):
    with pytest.raises(StudyError) as caught:
        Study.load(file, Overrides(**overrides))
    return caught.value.problems


def only_problem(file, **overrides):
    found = problems(file, **overrides)
    assert len(found) == 1, found
    return found[0]


def test_a_study_has_one_cell_per_base_dataset_method_and_seed(write):
    cells = Study.load(write(GOOD)).cells()
    assert [cell.name for cell in cells] == [
        f"tiny/toy/{label}/{seed}" for label in ("toy_sft", "toy_dpo", "firm") for seed in (0, 1)
    ]
    assert cells[4].method == "toy_dpo"
    assert set(cells[0].samples) == {"T=1", "greedy"}
    assert set(cells[0].scores) == {"toy_help"}


def test_methods_of_one_seed_share_everything_before_the_method(write):
    sft, _, dpo, _, firm, _ = Study.load(write(GOOD)).cells()
    assert sft.shared == dpo.shared == firm.shared
    assert sft.policy == dpo.shared.sft
    assert len({sft.policy, dpo.policy, firm.policy}) == 3


def test_seeds_are_independent_repetitions_from_sft_on(write):
    first, second = Study.load(write(GOOD)).cells()[:2]
    assert first.shared.base == second.shared.base
    assert first.shared.sft != second.shared.sft
    assert first.data.test == second.data.test


def test_share_sft_gives_every_seed_the_sft_of_the_first_even_when_only_another_runs(write):
    file = write(GOOD.replace("seeds =", "share_sft = true\nseeds ="))
    first, second = Study.load(file).cells()[:2]
    assert first.shared.sft == second.shared.sft
    alone = Study.load(file, Overrides(seeds=(1,))).cells()[0]
    assert alone.shared.sft == first.shared.sft
    assert first.shared.demonstrations != second.shared.demonstrations


def test_the_draws_of_all_methods_are_paired_by_one_seed_and_several_at_temperature_one(write):
    cells = Study.load(write(GOOD)).cells()
    draws = [cell.samples["T=1"].recipe.arguments for cell in cells if cell.seed == 0]
    assert len({draw["seed"] for draw in draws}) == 1
    assert {draw["n"] for draw in draws} == {3}
    assert {cell.samples["greedy"].recipe.arguments["n"] for cell in cells} == {1}


def test_sft_settings_reach_the_sft_stage(write):
    cells = Study.load(write(f"{GOOD}[sft]\nlearning_rate = 5e-4\n")).cells()
    assert cells[0].shared.sft.recipe.arguments["learning_rate"] == 5e-4


def test_overrides_choose_labels_seeds_and_settings(write):
    changed = Overrides(("toy_dpo",), (7,), ("methods.toy_dpo.beta=0.5", "evaluation.samples=2"))
    (cell,) = Study.load(write(GOOD), changed).cells()
    assert (cell.label, cell.seed) == ("toy_dpo", 7)
    assert cell.policy.recipe.arguments["beta"] == 0.5
    assert cell.samples["T=1"].recipe.arguments["n"] == 2


def test_an_override_of_bare_words_is_text(write):
    cell = Study.load(write(GOOD), Overrides(settings=("methods.toy_dpo.fault=raise",))).cells()[2]
    assert cell.policy.recipe.arguments["fault"] == "raise"


def test_an_integer_setting_of_a_float_is_the_same_cell(write):
    one = Study.load(write(GOOD)).cells()
    same = Study.load(write(GOOD.replace("beta = 1", "beta = 1.0"))).cells()
    assert [cell.policy for cell in one] == [cell.policy for cell in same]


def test_a_judge_and_a_labeller_are_built_from_their_plugins(write):
    judges = "[labeller]\nplugin = 'toy_word'\nword = 'kind'\n[judge]\nplugin = 'toy_longest'\n"
    cell = Study.load(write(GOOD + judges)).cells()[0]
    assert cell.shared.labeller.word == "kind"


ALL_WRONG = f"""
schema = 1
name = "toy"
sedes = [1]
seeds = [0, 0]
plugins = ['{TOY}', 'nowhere.py']
[bases.tiny]
path = "no/such/folder"
dtpe = "float32"
[datasets.toy]
size = "1e-5"
[datasets.tyo]
[methods.toy_dpo]
beta = "1e-5"
[methods.toy_dpp]
[methods.firm]
method = "toy_dpo"
bta = 1
[methods.true]
method = "toy_dpo"
beta = true
[labeller]
plugin = "toy_word"
word = "good"
[judge]
plugin = "toy_word"
[sft]
learning_rte = 1
[evaluation]
suites = ["toy_help", "toy_hlp"]
samples = 0
max_new_tokens = -5
margin = nan
co_primary = ["gian"]
[evaluation.settings.toy_help]
strict = 1
"""


def test_every_problem_is_found_at_once_with_path_value_and_nearest_name(write):
    found = problems(write(ALL_WRONG))
    for expected in (
        "sedes: unknown key. Did you mean 'seeds'?",
        "seeds: 0 stands there twice",
        "plugins: no plugin file .*nowhere.py",
        "bases.tiny.path = 'no/such/folder': no such file or folder",
        "bases.tiny.dtpe: unknown key. Did you mean 'dtype'?",
        "datasets.toy.size must be int, not '1e-5'",
        "datasets.tyo: no dataset 'tyo'. Did you mean 'toy'?",
        "methods.toy_dpo.beta must be float, not '1e-5'",
        "methods.toy_dpp: no method 'toy_dpp'. Did you mean 'toy_dpo'?",
        "methods.firm.bta: method 'toy_dpo' has no such setting. Did you mean 'beta'?",
        "methods.true.beta must be float, not True",
        "judge: equal to the labeller",
        "sft.learning_rte: the stage 'finetune' has no such setting. Did you mean 'learning_rate'?",
        "evaluation.suites: no suite 'toy_hlp'. Did you mean 'toy_help'?",
        "evaluation.samples = 0: input should be greater than or equal to 1",
        "evaluation.max_new_tokens = -5: input should be greater than or equal to 1",
        "evaluation.margin = nan: must be a finite number",
        "evaluation.co_primary: no suite or metric 'gian'. Did you mean 'gain'?",
        "evaluation.settings.toy_help.strict must be bool, not 1",
    ):
        pattern = expected if ".*" in expected else re.escape(expected)
        assert any(re.match(pattern, problem) for problem in found), (expected, found)


def test_the_error_is_one_readable_list(write):
    with pytest.raises(StudyError) as caught:
        Study.load(write(GOOD.replace("beta = 1", "bta = 1\nkl = -1")))
    lines = str(caught.value).split("\n")
    assert lines[0] == "2 problems in the study:"
    assert all(line.startswith("  methods.firm.") for line in lines[1:])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = 2", "schema = 2"),
        ("schema = 1", "", "schema: missing"),
        ('name = "toy"', "", "name: missing"),
        ("seeds = [0, 1]", "seeds = []", "seeds = []"),
        ("seeds = [0, 1]", "seeds = [-1]", "seeds.0 = -1"),
        ("seeds = [0, 1]", "seeds = [0.5]", "seeds.0 = 0.5"),
        ("seeds = [0, 1]", "seeds = 1", "seeds = 1"),
        ("[bases.tiny]", "bases = {}", "bases = {}"),
        ("[datasets.toy]", "[datasets]", "datasets = {}"),
        ('["toy_help"]', "[]", "evaluation.suites = []"),
        ('["toy_help"]', '["toy_help", "toy_help"]', 'evaluation.suites: "toy_help" stands'),
        ("beta = 1", "beta = nan", "methods.firm.beta = nan: must be a finite number"),
        ("beta = 1", "beta = 0.1", "methods.firm: the same cells as methods.toy_dpo"),
        ('method = "toy_dpo"', "method = 3", "methods.firm.method = 3: must name a method"),
        ("schema = 1", "schema = 1\nschema = 1", "Cannot overwrite"),
        (
            "schema = 1",
            'schema = 1\nconstitution = "generl"',
            "constitution: no constitution 'generl'. Did you mean 'general'?",
        ),
    ],
)
def test_a_single_fault_is_named(write, old, new, says):
    assert old in GOOD
    found = problems(write(GOOD.replace(old, new)))
    assert any(says in problem for problem in found), found


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/passwd",
        "a\0b",
        "con",
        "x" * 300,
        "dpо",
        "%2e%2e",
        "a#b",
        "",
        ".",
        "Dpo",
        "-x",
    ],
)  # the sixth has a Cyrillic o
def test_names_that_are_no_names_are_refused(write, name):
    quoted = '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'
    found = problems(write(GOOD.replace("methods.firm", f"methods.{quoted}")))
    assert len(found) == 1
    assert "must be at most 40 of a-z" in found[0] or "device name" in found[0]
    assert found[0].isascii()
    assert len(found[0]) < 200
    named = problems(write(GOOD.replace('name = "toy"', f"name = {quoted}")))
    assert named[0].startswith("name: ")


@pytest.mark.parametrize("name", ["../../x", "a\0b", "x" * 300, "tyo.toml", "demmo"])
def test_a_study_that_is_not_there_is_one_problem(name):
    assert only_problem(name).startswith("STUDY: no")


def test_a_misspelt_shipped_study_is_answered_with_the_nearest_one():
    assert "Did you mean 'hamlet'?" in only_problem("hamlte")


def test_a_file_that_is_no_toml_is_one_problem(write, tmp_path):
    assert "line 1" in only_problem(write("schema = = 1"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "utf-8" in only_problem(tmp_path / "binary.toml")


def test_equal_judges_are_allowed_where_the_study_says_so(write):
    judges = "[labeller]\nplugin = 'toy_word'\n[judge]\nplugin = 'toy_word'\nword = 'good'\n"
    assert "equal to the labeller" in only_problem(write(GOOD + judges))
    allowed = GOOD.replace("schema = 1", "schema = 1\nsame_judge = true") + judges
    assert len(Study.load(write(allowed)).cells()) == 6


def test_only_unknown_labels_and_malformed_settings_are_problems(write):
    file = write(GOOD)
    assert "--only 'toy_dop'" in only_problem(file, only=("toy_dop",))
    assert "--set 'beta'" in only_problem(file, settings=("beta",))
    assert "--set" in only_problem(file, settings=("methods.toy_dpo.fault=[1",))
    assert "toy_dpo.bta" in only_problem(file, settings=("methods.toy_dpo.bta=0.2",))


def test_a_dataset_that_refuses_its_settings_is_a_problem_before_any_work(write):
    found = only_problem(write(GOOD.replace("[datasets.toy]", "[datasets.toy]\nsize = 0")))
    assert found == "datasets.toy: size must be at least 1"


def test_a_method_that_refuses_is_a_problem_and_one_that_breaks_costs_its_own_cells(write):
    refuses = GOOD.replace("[methods.toy_sft]", "[methods.toy_broken]\nrefuse = true")
    assert only_problem(write(refuses)) == "methods.toy_broken: refuse must be false"
    cells = Study.load(write(refuses.replace("true", "false"))).cells()
    assert len(cells) == 6
    broken = cells[0].policy.recipe
    assert broken.stage.name == "unplanned_policy"
    assert "ZeroDivisionError: the toy method broke" in broken.arguments["reason"]
    assert cells[2].policy.recipe.stage.name == "toy_prefer"


def test_a_plugin_may_be_an_installed_module(write, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "installed_plugin.py").write_text(
        "from harness import Policy, Shared, method\n"
        "@method(paper=None)\n"
        "def installed(shared: Shared) -> Policy:\n"
        "    return shared.base\n"
    )
    text = GOOD.replace("plugins = [", "plugins = ['installed_plugin', ")
    cells = Study.load(write(text.replace("[methods.toy_sft]", "[methods.installed]"))).cells()
    assert cells[0].policy == cells[0].shared.base
    missing = GOOD.replace("plugins = [", "plugins = ['no_such_plugin', ")
    assert "No module named 'no_such_plugin'" in only_problem(write(missing))


def test_a_plugin_file_that_breaks_costs_only_the_cells_that_need_it(write, tmp_path):
    (tmp_path / "breaking_plugin.py").write_text("raise RuntimeError('no such luck')\n")
    text = GOOD.replace("plugins = [", "plugins = ['breaking_plugin.py', ")
    cells = Study.load(write(text.replace("[methods.toy_sft]", "[methods.theirs]"))).cells()
    assert [cell.policy.recipe.stage.name for cell in cells] == ["unplanned_policy"] * 2 + [
        "toy_prefer"
    ] * 4
    assert "no such luck" in cells[0].policy.recipe.arguments["reason"]


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_content_of_a_file_makes_the_checks_raise(data):
    """Whatever stands in the tables, the answer is a list of problems."""
    raw = tomllib.loads(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        table = raw
        while True:
            key = data.draw(st.sampled_from([*table, "new"]))
            if not isinstance(table.get(key), dict) or data.draw(st.booleans()):
                break
            table = table[key]
        table[key] = data.draw(ANYTHING)
    for problem in check(raw, Path(), Overrides()):
        assert isinstance(problem, str)


def test_loading_a_study_writes_nothing(write, tmp_path, monkeypatch):
    file = write(GOOD)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    Study.load(file)
    assert sorted(tmp_path.rglob("*")) == before
