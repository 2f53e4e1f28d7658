"""Figures show what tables say: divergence with its reference, trajectories, rates by length."""

from __future__ import annotations

import json
import math

import pytest
from fixed_results import SUITES, ledger, metric, write_results

from harness.report.answers import better
from harness.report.climb import climbs
from harness.report.frontier import best_of_n, drawn, frontier, limit
from harness.report.lengths import dumbbell, rates_of
from harness.report.plane import draw_plane
from harness.report.plots import Painter, forest
from harness.report.tables import Block, Matrix
from harness.results import ITEMS, LEDGER, read_csv

HAMLET = Block("hamlet", "hamlet")
DIALS = ("dpo", "dpo_firm", "dpo_firmer")  # rows of one method that differ in beta
FAR = {"dpo": 0.5, "dpo_firm": 1.5, "dpo_firmer": 3.0, "best_of_n": 0.3, "base": 1.0, "sft": 0.0}
GAIN = {1: 0.1, 2: 0.3, 4: 0.4}  # gold of the best of n


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three rows along one dial, KL for every row, and a ladder of best-of-n."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = tmp_path_factory.mktemp("figures")
    levels = {"base": (-0.3, 0.0), "sft": (0.3, 0.1), "best_of_n": (0.4, 0.2)}
    levels |= {"dpo": (0.4, 0.5), "dpo_firm": (0.5, 0.4), "dpo_firmer": (0.2, 0.6)}
    labels = tuple(levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fixed_results.LEVELS", levels)
        write_results(made, seeds=(0, 1, 2), labels=labels)
        facts = ledger((0, 1, 2), labels=labels)
    for row in facts["methods"]:
        row["method"] = "dpo" if row["label"] in DIALS else row["method"]
    facts["whole_settings"] = {x: {"beta": 0.1 * i} for i, x in enumerate(DIALS, 1)}
    extra = [metric("kl_to_sft", better=False, low=0.0, high=1000.0, primary=True)]
    ladder = [metric("best_help"), metric("best_safe", primary=True)]
    facts["suites"] = [
        *SUITES,
        {"suite": "diagnostics", "axis": "diagnostics", "summary": "D.", "metrics": extra},
        {"suite": "overoptimisation", "axis": "diagnostics", "summary": "O.", "metrics": ladder},
    ]
    (made / LEDGER).write_text(json.dumps(facts))
    table = pq.read_table(made / ITEMS)
    old = [r for r in table.to_pylist() if (r["metric"], r["decoding"]) == ("gold_help", "T=1")]
    rows = [
        {**r, "suite": "diagnostics", "metric": "kl_to_sft", "value": FAR[r["label"]], "judge": ""}
        for r in old
    ]
    for n, gain in GAIN.items():
        rows += [
            {
                **r, "suite": "overoptimisation", "metric": name, "decoding": f"best of {n}",
                "value": gain + 0.01 * (int(r["prompt_id"][1:]) % 7) * (n > 1),
            }
            for r in old
            for name in ("best_help", "best_safe")
            if r["label"] == "best_of_n" and r["sample"] == 0
        ]  # fmt: skip
    pq.write_table(
        pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]), made / ITEMS
    )
    return made


@pytest.fixture(scope="module")
def matrix(folder):
    return Matrix(folder)


def test_best_of_n_gains_over_one_draw_at_its_bound_on_kl(matrix):
    (metric,) = [m for m in matrix.co_primary() if m.name == "gold_help"]
    (trail,) = best_of_n(matrix, HAMLET, metric)
    assert trail.label is None
    # log n - (n - 1) / n by hand; the mean of 0, 0.01, ..., 0.06 over p000 to p119 is 0.0297
    assert [x for x, _ in trail.points] == pytest.approx([0.1931472, 0.6362944], abs=1e-7)
    gains = [found.value for _, found in trail.points]
    drift = sum(0.01 * (i % 7) for i in range(120)) / 120
    assert gains == pytest.approx([0.2 + drift, 0.3 + drift])


def test_the_frontier_names_its_reference_and_the_rows_that_one_dial_joins(matrix, folder):
    picture = frontier(matrix, HAMLET, folder / "figures")
    assert "Dotted: the most that any policy can gain" in picture.caption
    assert "Dashed: best of n" in picture.caption
    assert "Lines join rows of one method" in picture.caption
    rows = read_csv(folder / "figures" / "gain_by_kl.csv")
    assert {r["label"]: float(r["x"]) for r in rows} == {
        x: kl for x, kl in FAR.items() if x != "sft"
    }


def test_the_limit_is_read_from_sfts_own_samples_of_each_seed_and_prompt(matrix, folder):
    """Two samples a prompt go to (log 2) / 4 nats; a gain in a metric to be lowered is a fall."""
    by_name = {m.name: m for m in matrix.metrics.values()}
    rewards = drawn(matrix, HAMLET, by_name["gold_help"], folder)
    assert len(rewards) == 3 * 120
    assert {len(found) for found in rewards} == {2}
    level = sum(map(sum, rewards)) / (2 * len(rewards))
    (sft,) = [
        e.value.value
        for (_, label, measure), e in matrix.entries.items()
        if (label, measure.metric, measure.decoding) == ("sft", "gold_help", "T=1")
    ]
    assert level == pytest.approx(sft)
    points = limit(matrix, HAMLET, by_name["gold_help"], folder)
    assert points[0] == (0.0, 0.0)
    assert 0 < points[-1][0] <= math.log(2) / 4
    assert points[-1][1] > 0
    assert limit(matrix, HAMLET, by_name["length"], folder)[-1][1] < 0
    assert limit(matrix, HAMLET, by_name["probe_accuracy"], folder) == []  # nothing was drawn


def test_a_row_that_learnt_nothing_never_sets_the_frame_of_the_frontier(folder):
    matrix = Matrix(folder)
    for cell in matrix.cells:
        if cell["label"] == "dpo_firmer":
            cell |= {"labels_used": "0", "tokens_trained": "250000"}
        elif cell["label"] not in ("base", "sft"):
            cell |= {"labels_used": "4000"}
    said = frontier(matrix, HAMLET, folder / "figures").caption
    assert "Beyond the frame: dpo_firmer at 3.000." in said
    assert "dpo_firm at" not in said


def test_the_plane_draws_a_path_from_sft_through_the_rows_of_one_dial(
    matrix, tmp_path, monkeypatch
):
    paths = []
    plot = "matplotlib.axes.Axes.plot"
    from matplotlib.axes import Axes

    drawn = Axes.plot

    def watched(self, *args, **kwargs):
        if kwargs.get("zorder") == 3:
            paths.append(list(zip(*args, strict=True)))
        return drawn(self, *args, **kwargs)

    monkeypatch.setattr(plot, watched)
    picture = draw_plane(matrix, HAMLET, tmp_path, "plane")
    assert (
        "Lines join rows of one method that differ in one setting, from SFT on" in picture.caption
    )
    assert len(paths) == len(matrix.decodings)
    for path in paths:  # SFT, then by rising divergence: dpo, dpo_firm, dpo_firmer
        assert path[0] == (0.0, 0.0)
        xs = [x for x, _ in path[1:]]
        assert xs == pytest.approx([0.1, 0.2, -0.1], abs=0.05)


def test_the_forest_keeps_each_rows_own_interval_inside_the_simultaneous_one(matrix, tmp_path):
    forest(Painter(matrix, HAMLET, tmp_path))
    rows = read_csv(tmp_path / "differences.csv")
    own = {
        (e.label, e.measure.decoding, e.measure.metric): e.difference
        for e in matrix.entries.values()
    }
    assert rows
    for row in rows:
        alone = own[row["label"], row["decoding"], row["y_axis"].split()[0]]
        assert float(row["low"]) < alone.low < alone.high < float(row["high"])


def test_win_rates_are_drawn_as_judged_and_at_equal_lengths_with_their_ratio(matrix, folder):
    found = rates_of(matrix, HAMLET, folder)
    picture = dumbbell(matrix, HAMLET, found, folder / "figures")
    assert picture.name == "win_rates"
    rows = read_csv(folder / "figures" / "win_rates.csv")
    assert len(rows) == len(found) == 2 * (len(matrix.labels) - 1)
    for row in rows:
        assert float(row["length_ratio"]) == pytest.approx(20 / 18)
        assert float(row["at_equal_lengths"]) == pytest.approx(float(row["as_judged"]), abs=1e-6)
    assert "×1.11" in picture.svg


def test_a_diagnostic_is_neither_better_nor_worse_beside_an_answer(matrix):
    assert [better(matrix, name) for name in ("kl_to_sft", "gold_help by gold", "length")] == [
        0, 1, -1,
    ]  # fmt: skip


def test_policies_kept_on_the_way_and_the_end_make_one_path(folder):
    matrix = Matrix(folder)
    kept = {"beta": 0.1, "checkpoints": 2}
    matrix.facts["whole_settings"] = {
        "dpo": {**kept, "at_checkpoint": 1},
        "dpo_firm": {**kept, "at_checkpoint": 2},
        "dpo_firmer": kept,
    }
    (path,) = climbs(matrix, HAMLET, "T=1")
    assert path.name == "dpo by at_checkpoint"
    assert [label for label, _ in path.rows] == list(DIALS)


@pytest.mark.parametrize("height", [3.3, 7.0])
def test_a_legend_stands_below_the_axes_and_their_names(matrix, tmp_path, height):
    from matplotlib.figure import Figure

    painter = Painter(matrix, HAMLET, tmp_path)
    figure = Figure(figsize=(6.2, height))
    axes = figure.subplots()
    axes.set_xlabel("length of answers over SFT's")
    painter.legend(figure, matrix.labels)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0
