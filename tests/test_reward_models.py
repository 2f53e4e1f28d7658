"""What the report says of reward models: whose they are, what they read, how well they predict."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fixed_results import write_results
from tiny import tiny_pairs, tiny_policy

from harness.artifacts import RewardModel
from harness.merge import JOINED
from harness.report import write_report
from harness.report.reward_models import reward_table
from harness.report.tables import Matrix
from harness.results import read_csv
from harness.reward_facts import axes_of, reward_models
from harness.stages.label import together
from harness.stages.mix import mix
from harness.stages.reward import fit_reward
from harness.stages.select import only

PAIRS = tiny_pairs(n=20, seed=0)


def fitted(pairs=PAIRS, **settings):
    return fit_reward(tiny_policy(seed=0), pairs, **{"seed": 0, **settings})


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        (fitted(), []),
        (fitted(axis="safe"), ["safe"]),
        (fitted(only(PAIRS, axis="helpful")), ["helpful"]),
        (
            fitted(
                mix(only(PAIRS, axis="safe"), only(PAIRS, axis="helpful"), share=0.1, seed=0),
            ),
            ["safe", "helpful"],
        ),
        (fitted(only(together((PAIRS, tiny_pairs(n=9, seed=1))), axis="safe")), ["safe"]),
    ],
)
def test_what_a_reward_model_read_is_told_by_its_recipe(model, axes):
    assert axes_of(model) == axes


class Shelf:
    """A store of folders, some of which are made."""

    def __init__(self, folder, *made):
        self.folder, self.made = folder, {model.id for model in made}

    def __contains__(self, model):
        return model.id in self.made

    def path(self, name):
        return self.folder / name


def test_every_made_reward_model_is_told_once_with_all_its_rows(tmp_path):
    one, other, missing = fitted(), fitted(axis="safe"), fitted(seed=1)
    for model in (one, other):
        (tmp_path / model.id).mkdir()
        (tmp_path / model.id / "calibration.json").write_text(json.dumps({"n": 7, "nll": 0.5}))
    plugins = fitted(seed=2)  # a stage of somebody else's, which keeps no calibration
    (tmp_path / plugins.id).mkdir()
    trained = {"a": [one], "b": [tiny_policy(seed=0), one, other], "c": [missing, plugins]}
    cells = [
        SimpleNamespace(name=name, label=name, base="x", dataset="y", seed=3) for name in trained
    ]
    book = SimpleNamespace(cells=cells, trained=trained, store=Shelf(tmp_path, one, other, plugins))
    found = reward_models(book)
    assert [(m["artifact"], m["rows"], m["reads"], m["place"]) for m in found] == [
        (one.id, ["a", "b"], [], 0),
        (other.id, ["b"], ["safe"], 1),
    ]
    assert all(m["seed"] == 3 and m["calibration"] == {"n": 7, "nll": 0.5} for m in found)
    assert isinstance(one, RewardModel)


def calibrated(seed, n, accuracy, nll):
    groups = {"1": {"accuracy": 0.5, "n": 4}, "None": {"accuracy": 0.1, "n": 9}}
    sides = {"longer": {"accuracy": 0.8, "n": 10}, "equal": {"accuracy": 0.5, "n": 2}}
    said = {"n": n, "accuracy": accuracy, "nll": nll, "ece": 0.1, "temperature": 2.0}
    said |= {"by_strength": groups, "by_length_of_the_better": sides}
    known = {"artifact": f"fit-{seed}", "base": "hamlet", "dataset": "hamlet", "seed": seed}
    return {**known, "place": 0, "reads": ["safe"], "rows": ["best_of_n"], "calibration": said}


def test_the_report_shows_calibration_over_seeds_with_its_interval(tmp_path):
    models = [calibrated(0, 40, 0.75, 0.5), calibrated(1, 60, 0.5, 0.7)]
    nothing = {**calibrated(2, 0, 0.0, 0.0), "calibration": {"n": 0}}  # nothing was held out
    step = {**calibrated(0, 10, 1.0, 0.2), "rows": ["dpo"], "reads": []}
    for name in ("by_strength", "by_length_of_the_better"):  # a model of steps has none
        step["calibration"].pop(name)
    folder = write_results(tmp_path, reward_models=[*models, nothing, step])
    found = reward_table(Matrix(folder))
    shown = [cell.text for cell in found.rows[0]]
    # 60 of 100: Wilson's interval is 0.502 to 0.691 (Newcombe 1998 gives the formula)
    assert shown[:4] == ["best_of_n", "safe", "2", "60.0% of 100 (50.2% to 69.1%)"]
    assert shown[4:7] == [
        "0.600 (0.500 to 0.700)",
        "0.100 (0.100 to 0.100)",
        "2.000 (2.000 to 2.000)",
    ]
    assert shown[7].startswith("80.0% of 20")
    assert shown[8] == "", "no pair whose better answer is the shorter one"
    assert shown[9].startswith("1: 50.0% of 8"), "strengths that were not bought are none"
    assert [cell.text for cell in found.rows[1]][:4] == [
        "dpo",
        "all",
        "1",
        "100.0% of 10 (72.2% to 100.0%)",
    ]
    write_report(folder)
    assert "## Reward models" in (folder / "report.md").read_text()
    assert "t9_reward_models" in {f.stem for f in (folder / "tables").iterdir()}
    assert read_csv(folder / "tables" / "t9_reward_models.csv")[0]["rows"] == "best_of_n"


def test_a_study_without_reward_models_says_nothing_of_them(tmp_path):
    folder = write_results(tmp_path)
    write_report(folder)
    assert "Reward models" not in (folder / "report.md").read_text()


def test_merging_tells_each_reward_model_once_with_the_rows_of_all_machines():
    one, other = ({"artifact": name, "calibration": {"n": 1}} for name in ("fit-1", "fit-2"))
    sources = [[{**one, "rows": ["a"]}], [{**one, "rows": ["b"]}, {**other, "rows": ["b"]}]]
    assert JOINED["reward_models"](sources) == [
        {**one, "rows": ["a", "b"]},
        {**other, "rows": ["b"]},
    ]
