"""The protocol's readings on planted results whose answer is known by construction."""

from __future__ import annotations

import csv
import math
from copy import copy

import numpy as np
import pytest
from planted_readings import column, dataset, plant
from scipy.stats import t as student

from harness.report.budgets import budget_picture, budget_table
from harness.report.climb import climb_picture, climb_table
from harness.report.factors import factor_table, grid_of
from harness.report.gates import Gates
from harness.report.panel import panel_picture, panel_table
from harness.report.people import people_table
from harness.report.readings import block_readings, study_readings
from harness.report.recovered import recovered_tables, share
from harness.report.tables import Block, Matrix
from harness.report.words import number
from harness.results import Measured

HAMLET = Block("hamlet", "hamlet")
CONTROLS = {
    "placebo": dataset(labels="permuted", budget=4000),
    "hamlet": dataset(labels="noisy", budget=4000),
    "ceiling": dataset(labels="oracle", budget=4000),
}
GRID = {  # helpfulness by label source and optimiser: additive but for ai under ppo
    ("human", "dpo"): 0.40,
    ("human", "ppo"): 0.50,
    ("ai", "dpo"): 0.30,
    ("ai", "ppo"): 0.70,
}


def series(values):
    """Return one seed's values as a series, every prompt its own cluster."""
    found = {(0, f"p{i:03}"): float(value) for i, value in enumerate(values)}
    return Measured(found, {prompt: prompt for _, prompt in found})


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    """Three sets of labels: dpo recovers 60 % of its gap in help; ppo has no gap at all."""
    levels = {}
    for name, dpo in (("placebo", 0.0), ("hamlet", 0.3), ("ceiling", 0.5)):
        levels |= {(name, "sft"): (0.0, 0.0), (name, "dpo"): (dpo, dpo), (name, "ppo"): (0.2, 0.2)}
    return Matrix(plant(tmp_path_factory.mktemp("controls"), levels, datasets=CONTROLS))


def test_the_planted_share_of_the_gap_is_recovered(controls):
    (table,) = recovered_tables(controls)
    cells = [row for row in table.rows if row[1].text == "gold_help at T=1"]
    dpo, ppo = cells
    assert dpo[-1].estimate.value == pytest.approx(0.6, abs=0.05)
    assert dpo[-1].estimate.low < 0.6 < dpo[-1].estimate.high
    assert dpo[-1].estimate.claim == "method"
    assert ppo[-1].text == "no gap to share"
    assert "hamlet" in table.title


def test_the_interval_of_a_share_is_fiellers():
    draw = np.random.default_rng(5)
    placebo = draw.normal(0, 0.3, 60)
    ours, ceiling = placebo + draw.normal(0.3, 0.4, 60), placebo + draw.normal(0.5, 0.4, 60)
    found = share(series(ours), series(placebo), series(ceiling))
    up, gap = ours - placebo, ceiling - placebo
    cov = np.cov(up, gap) / 60
    t = student.ppf(0.975, 59)
    a = gap.mean() ** 2 - t**2 * cov[1, 1]
    b = up.mean() * gap.mean() - t**2 * cov[0, 1]
    c = up.mean() ** 2 - t**2 * cov[0, 0]
    root = math.sqrt(b * b - a * c)
    assert found.value == pytest.approx(up.mean() / gap.mean(), abs=1e-12)
    assert (found.low, found.high) == (
        pytest.approx((b - root) / a, abs=1e-9),
        pytest.approx((b + root) / a, abs=1e-9),
    )


def test_no_share_is_given_where_the_ceiling_is_not_surely_above_the_placebo():
    draw = np.random.default_rng(6)
    one, other, third = (series(draw.normal(0, 1, 40)) for _ in range(3))
    assert share(one, other, third) is None
    assert share(series(range(40)), series(range(10, 50)), series(range(40))) is None


def test_data_sets_that_differ_in_more_than_labels_make_no_placebo(tmp_path):
    levels = {(name, x): (0.1, 0.1) for name in CONTROLS for x in ("sft", "dpo")}
    other = {**CONTROLS, "placebo": dataset(labels="permuted", budget=1000)}
    assert not list(recovered_tables(Matrix(plant(tmp_path, levels, datasets=other))))


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Two sources by two optimisers with a planted interaction of 0.15 a side."""
    names = {place: f"{place[1]}_{place[0]}" for place in GRID}
    levels = {("hamlet", "sft"): (0.0, 0.0)}
    levels |= {("hamlet", names[place]): (level, 0.1) for place, level in GRID.items()}
    settings = {name: {"feedback": source, "beta": 0.1} for (source, _), name in names.items()}
    methods = {name: optimiser for (_, optimiser), name in names.items()}
    folder = tmp_path_factory.mktemp("grid")
    return Matrix(plant(folder, levels, settings={"sft": {}, **settings}, methods=methods))


def test_main_effects_and_interaction_of_the_grid_are_those_planted(crossed):
    table = factor_table(crossed, HAMLET)
    found = {row[1].text: row[2] for row in table.rows}
    by_hand = {
        "ai minus human": (0.30 + 0.70 - 0.40 - 0.50) / 2,
        "dpo minus the mean": (0.40 + 0.30 - 0.50 - 0.70) / 4,
        "ppo minus the mean": (0.50 + 0.70 - 0.40 - 0.30) / 4,
        "ai minus human under dpo, beyond its average": -0.10 - 0.05,
        "ai minus human under ppo, beyond its average": 0.20 - 0.05,
    }
    assert found.keys() == by_hand.keys()
    for name, value in by_hand.items():
        assert found[name].estimate.value == pytest.approx(value, abs=0.03), name
        assert found[name].text.endswith(" *"), name
    safe = [row[3] for row in table.rows]  # no effect was planted on safety
    assert not any(cell.text.endswith("*") for cell in safe)
    assert all(cell.estimate.seeds == 3 for cell in safe)


def test_a_grid_needs_two_sources_and_two_optimisers_with_equal_settings(tmp_path, crossed):
    assert len(grid_of(crossed, HAMLET).rows) == 4
    crossed.facts["whole_settings"]["ppo_ai"]["beta"] = 0.2  # no longer the same optimiser
    assert grid_of(crossed, HAMLET) is None
    crossed.facts["whole_settings"]["ppo_ai"]["beta"] = 0.1


def test_populations_part_where_only_one_of_them_likes_a_caveat(tmp_path):
    plain = [["two_readings", "", 1.0], ["answered", "", 1.0]]
    levels = {("hamlet", "sft"): (0.0, 0.0), ("hamlet", "dpo"): (0.0, 0.0)}
    findings = {"sft": plain, "dpo": [*plain, ["caveat", "", 1.0]]}
    folder = plant(tmp_path, levels, findings=findings, embedded_world=True)
    table = people_table(Matrix(folder), HAMLET, folder, "populations")
    assert column(table, "helpful: careful")["dpo"].estimate.value == pytest.approx(0.8 + 0.2)
    assert column(table, "helpful: open")["dpo"].estimate.value == pytest.approx(0.8 - 0.15)
    assert column(table, "helpful: parted")["dpo"].estimate.value == pytest.approx(-0.35)
    assert column(table, "safe: parted")["dpo"].estimate.value == pytest.approx(0.4 - 0.5)
    assert column(table, "helpful: parted")["sft"].text == ""


def test_populations_are_read_in_the_embedded_world_alone(tmp_path):
    levels = {("hamlet", "sft"): (0.0, 0.0), ("hamlet", "dpo"): (0.0, 0.0)}
    folder = plant(tmp_path, levels, findings={"sft": [["two_readings", "", 1.0]]})
    assert people_table(Matrix(folder), HAMLET, folder, "populations") is None


def test_the_label_budget_curve_joins_data_sets_that_differ_in_budget_alone(tmp_path):
    budgets = {"hamlet": 4000, "tenth": 400, "half": 2000}
    sets = {name: dataset(budget=n, flips=0.05) for name, n in budgets.items()}
    sets["noisier"] = dataset(budget=1000, flips=0.2)
    gain = {"tenth": 0.1, "half": 0.2, "hamlet": 0.3, "noisier": 0.9}
    levels = {(name, "sft"): (0.0, 0.0) for name in sets}
    levels |= {(name, "dpo"): (gain[name], 0.0) for name in sets}
    used = {(name, "dpo"): n for name, n in budgets.items()} | {("noisier", "dpo"): 1000}
    folder = plant(tmp_path, levels, datasets=sets, labels_used=used)
    matrix = Matrix(folder)
    table = budget_table(matrix)
    assert [row[1].text for row in table.rows] == ["tenth", "half", "hamlet"]
    assert [row[2].order for row in table.rows] == [400, 2000, 4000]
    gains = [row[3].estimate.value for row in table.rows]
    assert gains == [pytest.approx(x, abs=0.03) for x in (0.1, 0.2, 0.3)]
    picture = budget_picture(matrix, folder / "figures")
    assert (folder / "figures" / f"{picture.name}.csv").read_text().count("\ndpo,judgements,") == 6


@pytest.fixture(scope="module")
def climbing(tmp_path_factory):
    """Best-of-n along d (2 - 1.2 d) by n, which turns at 0.83; PPO along d (0.4 - 0.1 log d)."""
    levels, kl, settings, methods = {("hamlet", "sft"): (0.0, 0.0)}, {"sft": 0.0}, {"sft": {}}, {}
    for n in (2, 4, 8, 16, 64):
        label, nats = f"bon_{n}", math.log(n) - (n - 1) / n
        d = math.sqrt(nats)
        levels["hamlet", label] = (d * (2 - 1.2 * d), 0.0)
        kl[label], settings[label], methods[label] = nats, {"n": n}, "best_of_n"
    for i, passes in enumerate((0.5, 1.0, 2.0, 4.0)):
        label, d = f"ppo_{i}", 1.0 + i
        levels["hamlet", label] = (d * (0.4 - 0.1 * math.log(d)), 0.0)
        kl[label], settings[label], methods[label] = d * d, {"passes": passes}, "ppo"
    folder = tmp_path_factory.mktemp("climb")
    return plant(folder, levels, kl=kl, settings=settings, methods=methods)


def test_gaos_fits_recover_the_planted_curves_and_claim_the_turn_that_was_passed(climbing):
    table = climb_table(Matrix(climbing), HAMLET)
    at = {name: i for i, name in enumerate(table.columns)}
    found = {
        (row[0].text, row[at["form"]].text): row for row in table.rows if row[1].text == "gold_help"
    }
    bon = found["best_of_n by n", "best-of-n *"]
    assert bon[at["alpha"]].order == pytest.approx(2.0, abs=0.15)
    assert bon[at["beta"]].order == pytest.approx(1.2, abs=0.15)
    assert bon[at["peak at sqrt(KL)"]].order == pytest.approx(2 / 2.4, abs=0.06)
    assert bon[at["turnover"]].text == "turns"
    ppo = found["ppo by passes", "rl *"]
    assert ppo[at["alpha"]].order == pytest.approx(0.4, abs=0.05)
    assert ppo[at["turnover"]].text == "not claimed"  # its peak lies at d = 20, beyond all rows
    other = found["best_of_n by n", "rl"]
    assert other[at["residual"]].order > bon[at["residual"]].order


def test_the_figure_of_climbs_has_every_row_as_data(climbing):
    picture = climb_picture(Matrix(climbing), HAMLET, climbing / "figures")
    data = (climbing / "figures" / f"{picture.name}.csv").read_text()
    assert data.count("\nbest_of_n by n,") == 2 * 5
    assert data.count("\nppo by passes,") == 2 * 4
    assert "<svg" in picture.svg


def test_two_rows_are_no_climb(tmp_path):
    levels = {("hamlet", x): (0.1, 0.1) for x in ("sft", "bon_2", "bon_4")}
    settings = {"sft": {}, "bon_2": {"n": 2}, "bon_4": {"n": 4}}
    methods = {"bon_2": "best_of_n", "bon_4": "best_of_n"}
    folder = plant(
        tmp_path, levels, kl={"bon_2": 0.2, "bon_4": 0.6}, settings=settings, methods=methods
    )
    assert climb_table(Matrix(folder), HAMLET) is None
    assert climb_picture(Matrix(folder), HAMLET, folder / "figures") is None


def test_all_data_sets_together_say_their_seeds_and_leave_out_what_has_a_hole(controls, tmp_path):
    table = panel_table(controls)
    help_rows = [row for row in table.rows if row[1].text == "gold_help"]
    assert [row[0].text for row in help_rows] == ["sft", "dpo", "ppo"]
    assert {row[2].text for row in help_rows} == {"3 × 3"}
    chances = {row[0].text: row[5].order for row in help_rows}
    assert chances["ppo"] == 1.0
    assert 0.6 < chances["dpo"] <= 1.0  # on one set of three it equals SFT
    picture = panel_picture(controls, tmp_path / "figures")
    data = (tmp_path / "figures" / f"{picture.name}.csv").read_text()
    assert data.count("share above") > 100
    one_hole = {("hamlet", "sft"): (0.0, 0.0), ("hamlet", "dpo"): (0.0, 0.0)}
    one_hole |= {("placebo", "sft"): (0.0, 0.0)}
    matrix = Matrix(plant(tmp_path / "hole", one_hole))
    assert {row[0].text for row in panel_table(matrix).rows} == {"sft"}


def lower_is_better(folder):
    """Plant two sets on which harm, the one primary metric, is 0.3 under sft and 0.1 under dpo."""
    levels = {(x, y): (z, 0.0) for x in ("one", "two") for y, z in (("sft", 0.3), ("dpo", 0.1))}
    matrix = Matrix(plant(folder, levels))
    help_metric = matrix.facts["suites"][0]["metrics"][0]
    help_metric |= {"higher_is_better": False, "range": [0.0, 1.0]}
    matrix.facts["co_primary"] = ["gold_help"]
    return matrix


def test_where_lower_is_better_all_data_sets_show_the_metrics_own_values(tmp_path):
    matrix = lower_is_better(tmp_path)
    table = panel_table(matrix)
    middle = {row[0].text: row[3].order for row in table.rows}
    gap = {row[0].text: row[4].order for row in table.rows}
    # prompts shift every row by the same offset, so that only the difference is planted exactly
    assert middle["sft"] - middle["dpo"] == pytest.approx(0.2, abs=0.02)
    assert gap["sft"] - gap["dpo"] == pytest.approx(0.2, abs=0.02)
    assert 0 < middle["dpo"] < middle["sft"]
    assert {row[0].text: row[5].order for row in table.rows}["dpo"] == 1.0  # less is better
    picture = panel_picture(matrix, tmp_path / "figures")
    assert f"sft {number(middle['sft'])} (" in picture.alt
    with (tmp_path / "figures" / f"{picture.name}.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    means = {row["label"]: float(row["value"]) for row in rows if row["what"] == "iqm"}
    assert means == pytest.approx(middle)
    shares = [float(r["value"]) for r in rows if (r["label"], r["what"]) == ("dpo", "share below")]
    assert shares == sorted(shares)  # the higher the value, the more runs lie below it
    spans = [(float(r["low"]), float(r["value"]), float(r["high"])) for r in rows]
    assert all(low - 1e-9 <= value <= high + 1e-9 for low, value, high in spans)


@pytest.mark.parametrize(
    ("gates", "word"),
    [
        (Gates(rows=frozenset({"ppo"})), "mechanics only"),
        (Gates(unequal=frozenset({("hamlet", "ceiling", "ppo")})), "not compared"),
    ],
)
def test_over_all_data_sets_no_comparison_is_printed_that_a_gate_withholds(
    controls, tmp_path, gates, word
):
    matrix = copy(controls)
    matrix.gates = gates
    chances = {row[0].text: row[5] for row in panel_table(matrix).rows}
    assert (chances["ppo"].text, chances["ppo"].order) == (word, None)
    assert chances["dpo"].order is not None
    picture = panel_picture(matrix, tmp_path)
    data = (tmp_path / f"{picture.name}.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in data if "p_improves" in line} == {"dpo"}


def test_a_study_without_the_data_for_a_reading_has_no_such_section(tmp_path):
    levels = {("hamlet", "sft"): (0.0, 0.0), ("hamlet", "dpo"): (0.1, 0.1)}
    folder = plant(tmp_path, levels)
    matrix = Matrix(folder)
    of_block, of_study = block_readings(matrix, HAMLET, folder), study_readings(matrix, folder)
    assert [table.title for table in of_block.tables] == [
        "On the frontier"
    ]  # which any two rows have
    assert not of_study.tables
    assert not of_block.pictures
    assert not of_study.pictures
