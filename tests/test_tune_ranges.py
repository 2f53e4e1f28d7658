"""Ranges: what tuning may try, read from annotations and drawn the same way every time."""

from __future__ import annotations

import math
import tomllib
from typing import Annotated, Any

import pytest

from harness.ranges import Choice, LogRange, Range, declared_ranges, drawn_settings, overridden
from harness.registry import Plugin, discover, get
from harness.study import Study
from harness.study_file import SHIPPED
from harness.tune_trials import trials_of


def toy(
    shared: Any,
    beta: Annotated[float, LogRange(0.01, 1.0)] = 0.1,
    epochs: Annotated[int, Range(1, 3)] = 1,
    loss: Annotated[str, Choice("sigmoid", "ipo")] = "sigmoid",
    batch_size: int = 8,
) -> None:
    """Do nothing."""


PLUGIN = Plugin("method", "toy", toy)


def draws(count: int, seed: int = 0, label: str = "toy") -> list[dict[str, Any]]:
    ranges = declared_ranges(PLUGIN)
    trials = range(1, count + 1)
    return [drawn_settings(PLUGIN, label, ranges, trial=n, seed=seed) for n in trials]


def test_ranges_are_read_from_the_annotations_in_their_order():
    assert list(declared_ranges(PLUGIN).items()) == [
        ("beta", LogRange(0.01, 1.0)),
        ("epochs", Range(1, 3)),
        ("loss", Choice("sigmoid", "ipo")),
    ]


def test_trial_zero_is_the_row_as_it_stands():
    assert drawn_settings(PLUGIN, "toy", declared_ranges(PLUGIN), trial=0, seed=0) == {}


def test_a_log_range_draws_each_decade_equally_often():
    betas = [drawn["beta"] for drawn in draws(400)]
    assert all(0.01 <= beta <= 1.0 for beta in betas)
    assert sum(beta < 0.1 for beta in betas) / 400 == pytest.approx(0.5, abs=0.1)  # 4 sigma


def test_a_range_of_whole_numbers_draws_both_ends_and_nothing_else():
    epochs = [drawn["epochs"] for drawn in draws(400)]
    assert all(type(n) is int for n in epochs)
    for value in (1, 2, 3):
        assert epochs.count(value) / 400 == pytest.approx(1 / 3, abs=0.095)  # 4 sigma
    assert set(epochs) == {1, 2, 3}


def test_a_log_range_of_whole_numbers_stays_within_its_ends():
    powers = LogRange(1, 8)
    assert [powers.at(u, whole=True) for u in (0.0, 1 - 1e-16)] == [1, 8]


def test_a_log_range_of_whole_numbers_gives_each_its_share_of_the_logarithm():
    count = 10_000
    drawn = [LogRange(1, 3).at((n + 0.5) / count, whole=True) for n in range(count)]
    for value in (1, 2, 3):  # the value k stands for [k, k + 1), of log 4 in all
        share = math.log((value + 1) / value) / math.log(4)
        assert drawn.count(value) / count == pytest.approx(share, abs=1e-3)


def test_draws_depend_on_seed_row_trial_and_setting_alone():
    assert draws(5) == draws(9)[:5]
    few = overridden(PLUGIN, {})
    alone = {"beta": few["beta"]}
    assert drawn_settings(PLUGIN, "toy", alone, trial=2, seed=0)["beta"] == draws(2)[1]["beta"]
    assert draws(5) != draws(5, seed=1)
    assert draws(5) != draws(5, label="toy_firm")
    assert len({drawn["beta"] for drawn in draws(50)}) == 50


def test_what_is_drawn_passes_the_checks_of_the_settings():
    from harness.stage import coerce

    for drawn in draws(20):
        for name, value in drawn.items():
            assert coerce(value, PLUGIN.settings[name].annotation, name) == value


def test_a_study_may_replace_or_add_a_range():
    tables = {"beta": {"range": [0.2, 0.3]}, "batch_size": {"choice": [8, 16]}}
    assert overridden(PLUGIN, tables) == {
        "beta": Range(0.2, 0.3),
        "epochs": Range(1, 3),
        "loss": Choice("sigmoid", "ipo"),
        "batch_size": Choice(8, 16),
    }


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"betta": {"range": [0, 1]}}, "Did you mean 'beta'"),
        ({"beta": {"between": [0, 1]}}, "log_range"),
        ({"beta": {"range": [0.1]}}, "no such range"),
        ({"beta": {"range": ["a", "b"]}}, "no such range"),
        ({"beta": {"range": [1.0, 0.5]}}, "below the high end"),
        ({"beta": {"log_range": [0.0, 0.5]}}, "above 0"),
        ({"beta": {"range": [0.0, float("inf")]}}, "finite"),
        ({"epochs": {"range": [1.2, 1.9]}}, "fewer than two whole numbers"),
        ({"epochs": {"choice": [1, 2.5]}}, "epochs must be"),
        ({"beta": {"choice": [0.1, True]}}, "beta must be"),
        ({"loss": {"range": [0, 1]}}, "loss must be"),
        ({"beta": {"choice": [0.1, 0.1]}}, "two different values"),
        ({"beta": {"choice": [0.1, None]}}, "cannot write None"),
    ],
)
def test_what_is_no_range_of_a_setting_is_refused(tables, said):
    with pytest.raises(ValueError, match=said):
        overridden(PLUGIN, tables)


def test_two_ranges_on_one_setting_are_refused():
    def twice(shared: Any, beta: Annotated[float, Range(0, 1), Range(1, 2)] = 0.1) -> None:
        """Do nothing."""

    with pytest.raises(ValueError, match="two ranges"):
        declared_ranges(Plugin("method", "twice", twice))


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_ranges_of_shipped_studies_hold_the_value_that_their_row_has(file):
    declared = tomllib.loads(file.read_text())
    discover(())
    for label, ranges in declared.get("tune", {}).get("ranges", {}).items():
        row = declared["methods"][label]
        settings = get("method", row.get("method", label)).settings
        for name, tried in ranges.items():
            own = row.get(name, settings[name].default)
            (values,) = tried.values()
            assert own in values or values[0] < own < values[-1], f"{label}.{name}"


def test_hamlet_tunes_its_trained_rows_with_as_many_trials_each():
    study = Study.load("hamlet")
    trials = trials_of(study)
    counts = {label: len(trials.trials(label)) for label in trials.labels}
    assert set(counts.values()) == {8}
    still = {"base", "sft", "best_of_n", "cai_sl", "goal", "always_refuse", "always_comply"}
    still |= {"longest_of_n", "verbatim"}
    assert counts.keys() == study.declared.methods.keys() - still
