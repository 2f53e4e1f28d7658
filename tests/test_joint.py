"""Joint regions against scipy, a calculation by hand, and how often they hold what is true."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from fixed_results import write_results
from scipy.stats import f, t

from harness.joint import beyond_hotelling, frontier_shares, hotelling, region
from harness.report.plane import draw_plane, frontier_table
from harness.report.tables import Block, Matrix
from harness.statistics import summary

ONLY = Block("hamlet", "hamlet")


def keyed(table):
    """Return a (seeds, prompts) table by (seed, prompt)."""
    return {(s, f"p{i}"): float(v) for s, row in enumerate(table) for i, v in enumerate(row)}


def alone(table, size=1):
    """Return clusters of `size` prompts each."""
    return {f"p{i}": f"c{i // size}" for i in range(np.shape(table)[1])}


@pytest.mark.parametrize("df", [2, 4, 9.5, 119])
def test_the_quantile_is_scipys_of_f_with_two_and_df_less_one(df):
    assert hotelling(0.05, df) == pytest.approx(2 * df / (df - 1) * f.ppf(0.95, 2, df - 1))
    assert beyond_hotelling(7.0, df) == pytest.approx(f.sf(7 * (df - 1) / (2 * df), 2, df - 1))


def test_one_seed_of_four_prompts_by_hand():
    """x = 0, 1, 2, 3 and y = 0, 0, 2, 2: S = [[5/3, 4/3], [4/3, 4/3]], T^2 = 2 * 3 / 2 F(2, 2).

    F(2, 2) at .95 is 19, so the shape is 57 S / 4, and the correlation (4/3) / sqrt(20/9).
    """
    x, y = [[0, 1, 2, 3]], [[0, 0, 2, 2]]
    found = region(keyed(x), keyed(y), alone(x))
    expected = 57 / 4 * np.array([[5 / 3, 4 / 3], [4 / 3, 4 / 3]])
    assert found.shape == pytest.approx(expected)
    assert found.correlation == pytest.approx((4 / 3) / (20 / 9) ** 0.5)
    away = np.array([1.5, 1.0]) - found.outline()
    assert np.einsum("pi,ij,pj->p", away, np.linalg.inv(expected), away) == pytest.approx(1)
    assert found.holds(1.5, 1.0)
    assert not found.holds(1.5, 1.0 + (57 / 3) ** 0.5)


def test_three_seeds_give_an_upright_ellipse_around_bonferronis_intervals():
    draw = np.random.default_rng(0)
    x, y = draw.normal(0, 0.3, (3, 60)), draw.normal(0, 0.3, (3, 60))
    x[:, :] += draw.normal(0, 0.1, (3, 1))
    found, one = region(keyed(x), keyed(y), alone(x)), summary(keyed(x), alone(x))
    assert found.correlation is None
    low, high = one.interval(0.975)
    assert found.shape[0, 0] == pytest.approx(2 * ((high - low) / 2) ** 2)
    assert found.shape[0, 1] == 0
    assert found.holds(high, found.y.value)
    assert high - low >= 2 * one.stderr * t.ppf(1 - 0.05 / 4, one.df) - 1e-12


def test_other_prompts_on_the_two_axes_give_an_upright_ellipse():
    table = np.random.default_rng(0).normal(size=(1, 30))
    x = keyed(table)
    y = {(seed, f"other-{prompt}"): value for (seed, prompt), value in x.items()}
    clusters = {prompt: prompt for _, prompt in (*x, *y)}
    assert region(x, y, clusters).correlation is None
    assert region(x, x, clusters).correlation == pytest.approx(1)


def test_an_axis_without_spread_is_a_line_and_one_cluster_no_region():
    x, y = [[0.1, 0.4, 0.2, 0.6]], [[0.0, 0.0, 0.0, 0.0]]
    found = region(keyed(x), keyed(y), alone(x))
    assert np.ptp(found.outline()[:, 1]) == 0
    assert np.ptp(found.outline()[:, 0]) > 0
    assert not found.holds(found.x.value, 1e-6)
    single = region(keyed(x), keyed(y), dict.fromkeys(alone(x), "c"))
    assert np.isnan(single.outline()).all()
    assert not single.holds(*single.centre)


def test_swapping_the_axes_and_the_order_of_prompts_changes_nothing():
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(2, 5, 40))
    found, turned = (region(keyed(a), keyed(b), alone(a, 4)) for a, b in ((x, y), (y, x)))
    assert found.shape[::-1, ::-1] == pytest.approx(turned.shape)
    other = region(dict(reversed(keyed(x).items())), keyed(y), alone(x, 4))
    assert np.array_equal(other.shape, found.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "size", "highest"),
    [(1, 0.0, 1, 0.965), (1, 0.0, 5, 0.965), (3, 0.05, 1, 1.0), (5, 0.05, 1, 0.985)],
)
def test_joint_regions_hold_the_truth_in_95_percent(seeds, seed_sd, size, highest):
    """True differences 0, both axes going together over prompts (.6) and over seeds (.8)."""
    draw, inside, runs, prompts = np.random.default_rng(2), 0, 800, 60

    def together(share, shape):
        one, other = draw.normal(size=(2, *shape))
        return np.stack([one, share * one + (1 - share**2) ** 0.5 * other])

    for _ in range(runs):
        of_seeds = seed_sd * together(0.8, (seeds, 1))
        of_prompts = 0.3 * together(0.6, (1, prompts // size)).repeat(size, axis=2)
        x, y = of_seeds + of_prompts + 0.2 * draw.normal(size=(2, seeds, prompts))
        inside += region(keyed(x), keyed(y), alone(x, size)).holds(0, 0)
    assert 0.935 <= inside / runs <= highest


def test_rows_far_apart_are_surely_on_or_off_the_frontier_and_equal_ones_by_turns():
    draw = np.random.default_rng(3)
    means = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [0.5, 0.5], [0.5, 0.5]])
    noise = draw.normal(0, 0.2, (5, 2, 1, 80))
    noise -= noise.mean(axis=3, keepdims=True)
    tables = means[:, :, None, None] + noise
    found = frontier_shares(tables, list(range(80)), generator=np.random.default_rng(0))
    assert found[:3].tolist() == [1.0, 1.0, 0.0]
    # of two equal rows one dominates the other with chance 1/2, each as often
    assert found[3:] == pytest.approx([0.75, 0.75], abs=0.05)
    again = frontier_shares(tables, list(range(80)), generator=np.random.default_rng(0))
    assert np.array_equal(found, again)


def test_seeds_that_disagree_make_the_frontier_less_sure():
    """Better by .2 on both axes; seeds that spread by .3 leave much doubt, seeds alike none."""
    noise = np.random.default_rng(4).normal(0, 0.1, (2, 2, 1, 50))
    base = np.array([0.2, 0.0])[:, None, None, None] + noise - noise.mean(axis=3, keepdims=True)
    alike = base.repeat(3, axis=2)
    apart = alike + np.array([-0.3, 0.0, 0.3])[None, None, :, None] * [[[[1]]], [[[-1]]]]
    sure, unsure = (
        frontier_shares(x, list(range(50)), generator=np.random.default_rng(0))[1]
        for x in (alike, apart)
    )
    assert sure == 0
    assert unsure > 0.05


def test_the_plane_shows_differences_to_sft_and_its_data_are_the_tables(tmp_path):
    matrix = Matrix(write_results(tmp_path / "five", seeds=range(5)))
    picture = draw_plane(matrix, ONLY, tmp_path, "plane")
    with (tmp_path / "plane.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {(r["label"], r["decoding"]) for r in rows} == {
        (x, d) for x in ("base", "best_of_n", "dpo") for d in ("T=1", "greedy")
    }
    measure = next(
        m for _, _, m in matrix.entries if (m.metric, m.decoding) == ("gold_help", "T=1")
    )
    entry = matrix.entries[ONLY, "dpo", measure].difference
    dpo = next(r for r in rows if (r["label"], r["decoding"]) == ("dpo", "T=1"))
    ends = [float(dpo[c]) for c in ("x", "x_low", "x_high")]
    assert ends == pytest.approx([entry.value, entry.low, entry.high])
    assert dpo["x_axis"] == "gold_help minus sft"
    assert "method-level" in picture.caption
    assert "upright" not in picture.caption
    assert "dpo at greedy: gold_help" in picture.alt


def test_few_seeds_are_said_beside_the_plane(tmp_path):
    three = Matrix(write_results(tmp_path / "three", seeds=range(3)))
    assert "it stands upright" in draw_plane(three, ONLY, tmp_path, "plane").caption
    one = Matrix(write_results(tmp_path / "one"))
    assert "(checkpoint-level)" in draw_plane(one, ONLY, tmp_path, "plane").caption


def test_the_frontier_table_knows_the_planted_order(tmp_path):
    made = frontier_table(Matrix(write_results(tmp_path, seeds=range(3))), ONLY, "frontier")
    found = {row[0].text: row[1].text for row in made.rows}
    assert (found["base"], found["dpo"]) == ("0.0%", "100.0%")
    assert float(found["sft"].removesuffix("%")) < 1
    assert made.columns == ["row", "T=1", "greedy"]
