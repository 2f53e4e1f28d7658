"""Several bases in one study: what is planted over bases and seeds is what the tables say."""

from __future__ import annotations

import fixed_results
import numpy as np
import pytest
from fixed_results import write_results
from scipy.stats import t

from harness.report.over_bases import bases_tables, over_bases
from harness.report.readings import study_readings
from harness.report.tables import Matrix
from harness.report.words import lead

PROMPTS = [f"p{i}" for i in range(8)]
CLUSTERS = {prompt: prompt for prompt in PROMPTS}


def planted(of_bases, of_seeds, of_prompts=None):
    """Return differences that are the sum of a base's part, a seed's and a prompt's."""
    prompts = of_prompts if of_prompts is not None else [0.0] * len(PROMPTS)
    return {
        f"b{place}": {
            (seed, prompt): base + one + more
            for seed, one in enumerate(of_seeds)
            for prompt, more in zip(PROMPTS, prompts, strict=True)
        }
        for place, base in enumerate(of_bases)
    }


def test_three_bases_without_other_noise_are_three_numbers_with_students_t():
    found = over_bases(planted([0.1, 0.2, 0.6], [0.0, 0.0, 0.0]), CLUSTERS)
    assert {base: e.value for base, e in found.each.items()} == pytest.approx(
        {"b0": 0.1, "b1": 0.2, "b2": 0.6}
    )
    sd = np.std([0.1, 0.2, 0.6], ddof=1)
    half = t.ppf(0.975, 2) * sd / 3**0.5
    assert found.centre == pytest.approx(0.3)
    assert (found.whole.low, found.whole.high) == pytest.approx((0.3 - half, 0.3 + half))
    assert found.spread.bases == pytest.approx(sd)
    assert found.spread.seeds == pytest.approx(0)


def test_what_seeds_and_prompts_spread_is_not_said_of_bases():
    """Bases .1 and .5: s^2 = .08. Seeds -.3, 0, .3: s^2 = .09, of which 1/3 is in a base's mean."""
    prompts = [-0.4, 0.4] * 4
    found = over_bases(planted([0.1, 0.5], [-0.3, 0.0, 0.3], prompts), CLUSTERS)
    assert found.spread.bases == pytest.approx((0.08 - 0.03) ** 0.5)
    assert found.spread.seeds == pytest.approx(0.3)
    assert found.spread.prompts == pytest.approx(np.std(prompts, ddof=1))
    assert found.whole is None  # two bases show no spread to rely on


def test_one_seed_cannot_tell_bases_from_seeds():
    found = over_bases(planted([0.1, 0.2, 0.6], [0.0]), CLUSTERS)
    assert (found.spread.bases, found.spread.seeds, found.spread.prompts) == (None, None, None)
    assert found.whole.value == pytest.approx(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
def test_intervals_over_bases_hold_the_truth_in_95_percent(count):
    draw, inside, runs = np.random.default_rng(0), 0, 1_000
    prompts = [f"p{i}" for i in range(60)]
    for _ in range(runs):
        of_prompts = draw.normal(0, 0.3, 60)
        found = {}
        for base in range(count):
            of_seeds = draw.normal(0, 0.05) + draw.normal(0, 0.05, (3, 1))
            table = of_seeds + of_prompts + draw.normal(0, 0.3, (3, 60))
            found[f"b{base}"] = {
                (seed, prompt): float(table[seed, i])
                for seed in range(3)
                for i, prompt in enumerate(prompts)
            }
        whole = over_bases(found, {prompt: prompt for prompt in prompts}).whole
        inside += whole.low <= 0 <= whole.high
    assert inside / runs >= 0.935


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study of three bases: on each, dpo is safer by .1 more than on the one before."""
    items, cells = fixed_results.items, fixed_results.cells
    bases = ("hamlet", "second", "third")

    def every_item(seeds, labels):
        for place, base in enumerate(bases):
            for row in items(seeds, labels):
                more = 0.1 * place * (row["label"] == "dpo" and row["metric"] == "gold_safe")
                yield {**row, "base": base, "value": row["value"] + more}

    def every_cell(seeds, labels, states):
        return [[r[0], base, *r[2:]] for base in bases for r in cells(seeds, labels, states)]

    monkeypatch.setattr(fixed_results, "items", every_item)
    monkeypatch.setattr(fixed_results, "cells", every_cell)
    return write_results(tmp_path, seeds=(0, 1, 2))


def test_a_study_of_several_bases_shows_each_of_them_and_their_spread(folder):
    matrix = Matrix(folder)
    found = {made.title: made for made in bases_tables(matrix)}
    made = found["gold_safe at T=1: over 3 bases, dataset hamlet"]
    assert made.columns[1:5] == ["on hamlet", "on second", "on third", "over bases"]
    dpo = next(row for row in made.rows if row[0].text == "dpo")
    each = [cell.order for cell in dpo[1:4]]
    assert np.diff(each) == pytest.approx([0.1, 0.1])
    assert dpo[4].order == pytest.approx(each[1])
    assert dpo[6].order == pytest.approx(0.1, abs=0.005)
    assert "3 bases" in dpo[4].detail
    assert "sft" not in {row[0].text for row in made.rows}
    assert "see the tables over bases" in next(lead(matrix))
    assert made in study_readings(matrix, folder).tables


def test_one_base_has_no_table_over_bases(tmp_path):
    matrix = Matrix(write_results(tmp_path, seeds=(0, 1, 2)))
    assert list(bases_tables(matrix)) == []
    assert "conditional on this base" in next(lead(matrix))
