"""Shapes read off planted results: what holds, fails, is open or absent is known in advance."""

from __future__ import annotations

import csv
import random
import statistics
import tomllib

import pytest
from typer.testing import CliRunner

from harness.commands import main
from harness.declared_facts import whole
from harness.plain_text import csv_text
from harness.positive_controls import CONTROLS, of_n, step
from harness.predictions import PREDICTIONS
from harness.registry import PLUGINS, discover
from harness.report.contrasts import alike_but
from harness.results import CELLS, ITEM_COLUMNS, ITEMS, SCORE_COLUMNS, SCORES
from harness.shape_commands import page
from harness.shape_evidence import Evidence
from harness.shapes import Off, Part, Shape, Term, adjudge, difference, less, overall
from harness.study import Study
from harness.study_file import SHIPPED, Overrides

HELP, SAFE = "helpfulness/gold_help", "safety/gold_safe"
SEEDS, PROMPTS = (0, 1, 2), 40


def planted(folder, means, *, study="planted", seeds=SEEDS, items=True, noise=0.05, draws=1):
    """Write a results folder: {(row, metric, decoding): mean}, prompts' difficulty being shared.

    `draws` names the draws of SFT, which are the study's own unless two folders share them.
    """
    folder.mkdir(parents=True)
    rows = []
    for (row, metric, decoding), mean in means.items():
        (dataset, label), (suite, name) = row.split("/"), metric.split("/")
        own = random.Random(f"{draws if label == 'sft' else study}/{row}/{metric}/{decoding}")
        for seed in seeds:
            luck = random.Random(f"seed {seed}/{metric}").gauss(0, 0.02)
            for i in range(PROMPTS):
                hard = random.Random(f"{i}/{metric}").gauss(0, 0.3)
                hard += random.Random(f"{i}/{row}/{metric}/{decoding}").gauss(0, noise)
                found = {
                    **dict.fromkeys(ITEM_COLUMNS, ""), "study": study, "base": "hamlet",
                    "dataset": dataset, "label": label, "seed": seed, "suite": suite,
                    "metric": name, "decoding": decoding, "prompt_id": f"p{i}",
                    "cluster": f"c{i // 2}", "sample": 0, "class": "valid",
                    "value": mean + luck + hard + own.gauss(0, noise),
                    "length": 5, "opponent_length": None,
                }  # fmt: skip
                rows.append(found)
    write_scores(folder, rows)
    if items:
        write_items(folder, rows)
    return folder


def write_items(folder, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = {"seed", "sample", "length", "opponent_length"}
    types = {c: pa.int64() if c in whole else pa.string() for c in ITEM_COLUMNS}
    schema = pa.schema(list({**types, "value": pa.float64()}.items()))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / ITEMS)


def write_scores(folder, rows):
    kept = {}
    for row in rows:
        key = tuple(row[c] for c in ("dataset", "label", "seed", "suite", "metric", "decoding"))
        kept.setdefault(key, []).append(row)
    lines = []
    for group in kept.values():
        line = {**dict.fromkeys(SCORE_COLUMNS, ""), **group[0], "n": len(group)}
        line["value"] = statistics.fmean(row["value"] for row in group)
        lines.append([line[c] for c in SCORE_COLUMNS])
    (folder / SCORES).write_text(csv_text(SCORE_COLUMNS, lines))


def at(row, mean, metric=HELP, decoding="T=1"):
    return {(row, metric, decoding): mean}


def verdict(shape, *folders, margin=0.02):
    return adjudge(shape, Evidence(folders), "T=1", margin)


ABOVE = Shape(
    "X", "prediction", "a above b", "", (Part("a above b", difference(HELP, "d/a", "d/b")),)
)


@pytest.mark.parametrize("items", [True, False])
def test_a_planted_lead_holds_and_its_opposite_is_refuted(tmp_path, items):
    one = planted(tmp_path / "1", at("d/a", 0.6) | at("d/b", 0.2), items=items)
    other = planted(tmp_path / "2", at("d/a", 0.2) | at("d/b", 0.6), items=items)
    assert verdict(ABOVE, one).verdict == "holds"
    assert verdict(ABOVE, other).verdict == "does not hold"


def test_a_difference_that_noise_hides_is_undecided(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.3) | at("d/b", 0.3), noise=0.5)
    assert verdict(ABOVE, folder).verdict == "undecided"


def test_an_absent_row_is_not_run_whatever_the_others_say(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.9))
    found = verdict(ABOVE, folder)
    assert found.verdict == "not run"
    assert found.readings[0].missing == ("d/b (helpfulness)",)
    assert found.readings[0].found is None


def test_one_seed_without_items_decides_nothing(tmp_path):
    means = at("d/a", 0.9) | at("d/b", 0.1)
    assert verdict(ABOVE, planted(tmp_path / "1", means, seeds=(0,), items=False)).verdict == (
        "undecided"
    )
    by_items = verdict(ABOVE, planted(tmp_path / "2", means, seeds=(0,)))
    assert by_items.verdict == "holds"
    assert by_items.readings[0].found.claim == "checkpoint"


def test_the_estimate_is_the_weighted_sum_of_planted_means_on_prompts_that_all_rows_have(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.5) | at("d/b", 0.2) | at("d/c", 0.1), noise=0)
    terms = (Term("d/a", HELP, 2.0), Term("d/b", HELP, -1.0), Term("d/c", HELP, -1.0))
    shape = Shape("X", "prediction", "", "", (Part("", terms),))
    found = verdict(shape, folder).readings[0].found
    assert found.value == pytest.approx(2 * 0.5 - 0.2 - 0.1)
    assert (found.n, found.clusters, found.seeds) == (PROMPTS, PROMPTS // 2, 3)


def test_scores_alone_give_the_t_interval_over_seeds(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.5) | at("d/b", 0.2), items=False)
    with (folder / SCORES).open() as lines:
        rows = {(r["label"], r["seed"]): float(r["value"]) for r in csv.DictReader(lines)}
    gaps = [rows["a", str(s)] - rows["b", str(s)] for s in SEEDS]
    found = verdict(ABOVE, folder).readings[0].found
    half = 4.302653 * statistics.stdev(gaps) / 3**0.5  # t of 2 degrees of freedom, 97.5 %
    assert (found.low, found.high) == pytest.approx(
        (statistics.fmean(gaps) - half, statistics.fmean(gaps) + half), abs=1e-6
    )
    assert (found.n, found.seeds) == (PROMPTS, 3)


def test_scores_alone_make_no_claim_about_methods(tmp_path):
    means = at("hamlet/rlaif", 0.6) | at("hamlet/rlaif_direct", 0.9) | at("hamlet/sft", 0.2)
    items = planted(tmp_path / "1", means, study="whole")
    scores = planted(tmp_path / "2", means, study="short", items=False)
    k6b = next(shape for shape in PREDICTIONS if shape.id == "K6b")
    found = verdict(k6b, scores)
    assert found.verdict == "holds"
    assert all(one.prompts_fixed and one.found.claim != "method" for one in found.readings)
    assert not any(one.prompts_fixed for one in verdict(k6b, items).readings)

    text = page(Evidence([scores]), 2, {})
    lines = [x for x in text.splitlines() if "short:hamlet/rlaif" in x]
    assert len(lines) == 2
    assert all("3 seeds, prompts fixed" in x for x in lines)
    assert "paired by seed and prompt" not in flat(text)
    assert "every verdict is conditional on these prompts" in flat(text)
    whole = page(Evidence([items]), 2, {})
    assert "Differences are paired by seed and prompt." in flat(whole)
    assert "prompts fixed" not in whole
    assert "no claim about methods" in flat(page(Evidence([items, scores]), 2, {}))


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("gap", "wanted", "expected"),
    [
        (0.0, "near", "holds"),
        (0.3, "near", "does not hold"),
        (-0.3, "near", "does not hold"),
        (-0.3, "at most", "holds"),
        (0.3, "at most", "does not hold"),
    ],
)
def test_each_kind_of_claim_is_judged_by_the_planted_gap(tmp_path, gap, wanted, expected):
    folder = planted(tmp_path / "1", at("d/a", 0.3 + gap) | at("d/b", 0.3), noise=0.02)
    shape = Shape("X", "prediction", "", "", (Part("", difference(HELP, "d/a", "d/b"), wanted),))
    assert verdict(shape, folder).verdict == expected


@pytest.mark.parametrize(
    ("bar", "is_premise", "expected"),
    [(0.0, False, "holds"), (0.6, False, "does not hold"), (0.6, True, "undecided")],
)
def test_a_mean_below_its_bar_refutes_a_claim_but_not_where_it_is_a_premise(
    tmp_path, bar, is_premise, expected
):
    folder = planted(tmp_path / "1", at("d/a", 0.3), noise=0.02)
    part = Part("", (Term("d/a", HELP),), bar=bar, is_premise=is_premise)
    assert verdict(Shape("X", "prediction", "", "", (part,)), folder).verdict == expected


def test_a_conjunction_is_refuted_by_one_part_and_held_by_all(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.8) | at("d/b", 0.4) | at("d/c", 0.1))
    order = [difference(HELP, *pair) for pair in (("d/a", "d/b"), ("d/b", "d/c"), ("d/c", "d/a"))]
    parts = tuple(Part("", terms) for terms in order)
    assert verdict(Shape("X", "prediction", "", "", parts[:2]), folder).verdict == "holds"
    assert verdict(Shape("X", "prediction", "", "", parts), folder).verdict == "does not hold"


@pytest.mark.parametrize(
    ("off", "noise", "expected"),
    [
        (0.2, 0.05, "holds"),
        (0.5, 0.05, "does not hold"),
        (0.1, 0.05, "reversed"),
        (0.2, 2.0, "undecided"),
    ],
)
def test_an_effect_vanishes_only_where_it_is_no_longer_seen_and_surely_smaller(
    tmp_path, off, noise, expected
):
    means = at("d/on", 0.6) | at("d/off", off) | at("d/sft", 0.2)
    folder = planted(tmp_path / "1", means, noise=noise)
    on, left = difference(HELP, "d/on", "d/sft"), difference(HELP, "d/off", "d/sft")
    shape = Shape("X", "control", "", "", (Part("", on),), (Off("", on, left),))
    assert verdict(shape, folder).vanishes == expected


def test_no_dial_vanishes_though_its_own_interval_excludes_zero(tmp_path):
    """Each of two dials is judged by its plain interval, however many there are."""
    on, off = difference(HELP, "d/on", "d/sft"), difference(HELP, "d/off", "d/sft")
    shape = Shape("X", "control", "", "", (Part("", on),), (Off("", on, off), Off("", on, off)))
    means = at("d/on", 0.6) | at("d/sft", 0.2)
    said = set()
    for place in range(30):
        level = {("d/off", HELP, "T=1"): 0.185 + place * 0.001}
        folder = planted(tmp_path / str(place), means | level, noise=0.01, seeds=(0,))
        found = verdict(shape, folder)
        left = found.off[0].found
        expected = "does not hold" if left.low > 0 else "reversed" if left.high < 0 else "holds"
        assert (found.off[0].verdict, found.vanishes) == (expected, expected)
        said.add(expected)
    assert said == {"does not hold", "reversed", "holds"}


def test_a_reversed_dial_leaves_open_what_another_leaves_open():
    assert overall(["reversed", "holds"]) == "reversed"
    assert overall(["reversed", "undecided"]) == "undecided"
    assert overall(["reversed", "does not hold"]) == "does not hold"


def test_terms_on_both_sides_cancel():
    lead = less(difference(HELP, "d/a", "d/sft"), difference(HELP, "d/b", "d/sft"))
    assert lead == (Term("d/a", HELP), Term("d/b", HELP, -1.0))


def test_rows_of_two_folders_are_compared_only_where_their_sft_has_the_same_values(tmp_path):
    one = planted(tmp_path / "1", at("d/a", 0.8) | at("d/sft", 0.1), study="one")
    same = planted(tmp_path / "2", at("d/b", 0.2) | at("d/sft", 0.1), study="two")
    other = planted(tmp_path / "3", at("d/b", 0.2) | at("d/sft", 0.1), study="three", draws=2)
    assert verdict(ABOVE, one, same).verdict == "holds"
    assert verdict(ABOVE, one, same).readings[0].rows == ("one:d/a", "two:d/b")
    assert verdict(ABOVE, one, other).verdict == "not run"
    assert verdict(ABOVE, one, other, same).readings[0].rows == ("one:d/a", "two:d/b")


def test_a_folder_with_all_rows_is_read_alone(tmp_path):
    part = planted(tmp_path / "1", at("d/a", 0.1) | at("d/sft", 0.1), study="one")
    whole = planted(tmp_path / "2", at("d/a", 0.9) | at("d/b", 0.2) | at("d/sft", 0.1), study="two")
    found = verdict(ABOVE, part, whole)
    assert (found.verdict, found.readings[0].rows) == ("holds", ("two:d/a", "two:d/b"))


def test_several_bases_ask_for_one(tmp_path):
    folder = planted(tmp_path / "1", at("d/a", 0.9) | at("d/b", 0.1))
    lines = (folder / SCORES).read_text().splitlines()
    more = [line.replace(",hamlet,d,", ",other,d,") for line in lines[1:]]
    (folder / SCORES).write_text("\n".join([*lines, *more]) + "\n")
    with pytest.raises(ValueError, match="several bases; name one of hamlet, other"):
        verdict(ABOVE, folder)
    assert adjudge(ABOVE, Evidence([folder], "hamlet"), "T=1", 0.02).verdict == "holds"
    with pytest.raises(ValueError, match="no base 'x'"):
        adjudge(ABOVE, Evidence([folder], "x"), "T=1", 0.02)


def control(name):
    return next(shape for shape in CONTROLS if shape.id == name)


def ladder(row, metric, values):
    """Return planted means of best-of-n by n."""
    return {(row, metric, f"best of {n}"): value for n, value in values.items()}


PROXY, MEDIAN = "overoptimisation/best_proxy", "overoptimisation/median_proxy"
BEST_HELP = "overoptimisation/best_help"
RISING = {1: 0.0, 4: 0.5, 16: 1.0, 64: 1.4}
TURNING = {1: 0.2, 8: 0.5, 16: 0.5, 64: 0.3}


def best_of_n(turn_off):
    few, plenty, true = (f"{row}/best_of_n" for row in ("hamlet", "plenty", "plenty_true"))
    return (
        ladder(plenty, PROXY, RISING)
        | ladder(plenty, BEST_HELP, TURNING)
        | ladder(true, BEST_HELP, {16: 0.6, 64: 0.6 - turn_off})
        | ladder(few, PROXY, RISING)
        | ladder(few, MEDIAN, {16: 0.01, 64: 0.0})
    )


def test_best_of_n_that_turns_holds_and_its_turn_vanishes_with_true_labels(tmp_path):
    found = verdict(control("C1"), planted(tmp_path / "1", best_of_n(turn_off=-0.1)))
    assert (found.verdict, found.vanishes) == ("holds", "reversed")
    level = verdict(control("C1"), planted(tmp_path / "3", best_of_n(turn_off=0.0)))
    assert (level.verdict, level.vanishes) == ("holds", "holds")
    kept = verdict(control("C1"), planted(tmp_path / "2", best_of_n(turn_off=0.2)))
    assert (kept.verdict, kept.vanishes) == ("holds", "does not hold")


def test_the_dial_of_best_of_n_is_who_labels_alone():
    tables = tomllib.loads((SHIPPED / "hamlet_plenty.toml").read_text())["datasets"]
    assert tables["plenty_true"] == {**tables["plenty"], "labels": "oracle"}
    rows = {term.row for term in control("C1").terms}
    assert rows == {f"{dataset}/best_of_n" for dataset in tables}


def test_best_of_n_that_rises_to_the_end_does_not_turn(tmp_path):
    rising = ladder("plenty/best_of_n", BEST_HELP, {1: 0.2, 8: 0.3, 16: 0.4, 64: 0.7})
    folder = planted(tmp_path / "1", best_of_n(turn_off=-0.1) | rising)
    assert verdict(control("C1"), folder).verdict == "does not hold"


def test_the_median_stays_only_where_it_does(tmp_path):
    assert verdict(control("C7"), planted(tmp_path / "1", best_of_n(0))).verdict == "holds"
    moved = best_of_n(0) | ladder("hamlet/best_of_n", MEDIAN, {16: 0.0, 64: 0.5})
    assert verdict(control("C7"), planted(tmp_path / "2", moved)).verdict == "does not hold"


def test_permuted_labels_that_gain_as_much_do_not_vanish(tmp_path):
    means = {}
    for dataset, gain in (("hamlet", 0.3), ("placebo", 0.0)):
        for label in ("dpo", "ppo", "sft"):
            level = 0.2 if label == "sft" else 0.2 + gain
            for metric in (HELP, SAFE):
                means |= at(f"{dataset}/{label}", level, metric)
    honest = verdict(control("C6"), planted(tmp_path / "1", means))
    assert (honest.verdict, honest.vanishes) == ("holds", "holds")
    leaking = means | at("placebo/dpo", 0.5, HELP) | at("placebo/dpo", 0.5, SAFE)
    assert verdict(control("C6"), planted(tmp_path / "2", leaking)).vanishes == "does not hold"


def test_every_control_holds_on_results_planted_for_it_and_none_on_its_mirror_image(tmp_path):
    """The mean of each term is its weight: every sum is then positive; mirrored, negative."""
    for shape in CONTROLS:
        for part in shape.parts:
            for sign, expected in ((1, "holds"), (-1, "does not hold")):
                means = {
                    (t.row, t.metric, t.decoding or "T=1"): sign * t.weight for t in part.terms
                }
                folder = planted(tmp_path / f"{shape.id}{sign}{shape.parts.index(part)}", means)
                alone = Shape(shape.id, shape.kind, "", "", (part,))
                assert verdict(alone, folder).verdict == expected, part.says


def settings_of(study):
    """Return the settings of a shipped study's rows with all defaults, and their methods."""
    tables = Study.load(study).declared.methods
    kinds = {label: table.get("method", label) for label, table in tables.items()}
    every = {label: whole("method", kinds[label], t, "method") for label, t in tables.items()}
    return every, kinds


def policies(study, label, *changed):
    cells = Study.load(study, Overrides((label,), (0,), changed)).cells()
    return {cell.policy.id for cell in cells if cell.label == label}


def test_every_row_that_a_shape_reads_is_in_a_shipped_study_with_its_metric():
    discover()
    measured = set()
    for file in SHIPPED.glob("*.toml"):
        raw = tomllib.loads(file.read_text())
        rows = {f"{d}/{m}" for d in raw["datasets"] for m in raw["methods"]}
        for suite in raw["evaluation"]["suites"]:
            names = [metric.name for metric in PLUGINS["suite", suite].metrics]
            measured |= {(row, f"{suite}/{name}") for row in rows for name in names}
    for shape in (*CONTROLS, *PREDICTIONS):
        assert {key(term) for term in shape.terms} <= measured, shape.id


def test_the_dial_of_ppo_without_penalty_is_the_penalty_alone():
    settings, kinds = settings_of("hamlet_dials")
    (dial,) = control("C2").off
    on, off = ({t.row.split("/")[1] for t in terms} - {"sft"} for terms in (dial.on, dial.off))
    (alike,) = alike_but(settings, "kl", kinds)
    assert on == {"ppo_free"}
    assert on | off <= set(alike)
    assert settings["ppo_free"]["kl"] == 0 < settings[off.pop()]["kl"]


def test_the_proxy_of_ppo_is_read_beside_draws_at_one_temperature():
    best = control("C2").parts[0].terms
    assert [term.decoding for term in best] == ["T=1", "best of 1"]


def test_a_labeller_without_noise_gives_the_same_rows_so_nothing_is_compared():
    """The control needs no dial: what it would compare has one id."""
    noisy = ("hamlet_labeller", "dpo_ai_noisy")
    assert policies(*noisy, "labeller.flips=0.0") == policies("hamlet_dials", "dpo_ai")
    assert policies(*noisy).isdisjoint(policies("hamlet_dials", "dpo_ai"))
    people = policies(*noisy, 'methods.dpo_ai_noisy.feedback="human"')
    assert people == policies("hamlet_dials", "dpo")
    assert control("C5").identity
    assert not control("C5").off


def test_the_shipped_passes_of_ppo_are_a_ladder_whose_distance_is_measured():
    settings, kinds = settings_of("hamlet_dials")
    assert ["ppo", "ppo_half", "ppo_long"] in alike_but(settings, "passes", kinds)
    assert "diagnostics" in Study.load("hamlet_dials").declared.evaluation.suites


@pytest.mark.parametrize(
    ("distance", "longer", "expected"),
    [(4.0, 0.7, "holds"), (4.0, 0.2, "does not hold"), (2.0, 0.7, "undecided")],
)
def test_rl_peaks_later_only_where_it_still_rises_beyond_where_best_of_n_has_turned(
    tmp_path, distance, longer, expected
):
    """Best of 64 lies log 64 - 63/64 = 3.17 nats from SFT at most."""
    means = ladder("hamlet/ppo", BEST_HELP, TURNING) | at("hamlet/ppo", 0.5)
    means |= at("hamlet/ppo", distance, "diagnostics/kl_to_sft") | at("hamlet/ppo_long", longer)
    k2a = next(shape for shape in PREDICTIONS if shape.id == "K2a")
    assert verdict(k2a, planted(tmp_path / "1", means)).verdict == expected


def test_the_page_names_the_cells_that_diverged(tmp_path):
    folder = planted(tmp_path / "1", best_of_n(0))
    assert "diverged" not in page(Evidence([folder]), 2, {})
    cells = [("hamlet", "d", "ppo", 3, "diverged"), ("hamlet", "d", "ppo", 4, "done")]
    columns = ("base", "dataset", "label", "seed", "state")
    (folder / CELLS).write_text(csv_text(columns, cells))
    assert "diverged, so left out: d/ppo of seed 3\n" in page(Evidence([folder]), 2, {})


def test_the_page_names_what_was_amended_and_what_has_no_dial(tmp_path):
    text = page(Evidence([planted(tmp_path / "1", best_of_n(0))]), 2, {})
    assert "except what a shape says was amended later (C1, C2, C7)" in flat(text)
    assert "Amended: the median was first to stay from n = 4 on" in text
    (line,) = [x for x in text.splitlines() if x.startswith("| C5 |")]
    assert line.split(" | ")[-2] == "same artifacts"
    kept = [x for x in text.splitlines() if x.startswith("| from n = 16 to 64 the median")]
    assert [x.split(" | ")[1] for x in kept] == ["best of 64, best of 16"]


def test_ids_are_unique_and_each_shape_is_read_or_says_why_not():
    shapes = (*CONTROLS, *PREDICTIONS)
    assert len({shape.id for shape in shapes}) == len(shapes)
    assert all(bool(shape.parts) != bool(shape.untestable) for shape in shapes)
    assert all(shape.kind == "control" for shape in CONTROLS)
    assert all(len(row.split("/")) == 2 for shape in shapes for row, *_ in map(key, shape.terms))


def key(term):
    return term.row, term.metric


def test_best_of_n_steps_subtract_the_lower_from_the_higher():
    assert step(PROXY, 4, 16) == (
        of_n(PROXY, 16),
        Term("hamlet/best_of_n", PROXY, -1.0, "best of 4"),
    )


def test_the_page_says_what_was_read_and_guesses_nothing(tmp_path):
    means = at("hamlet/rlaif", 0.6) | at("hamlet/rlaif_direct", 0.9) | at("hamlet/sft", 0.2)
    folder = planted(tmp_path / "1", means)
    text = page(Evidence([folder]), 2, {"K6b": "It is planted."})
    (line,) = [x for x in text.splitlines() if x.startswith("| K6b |")]
    assert line.split(" | ")[-3:] == ["holds", "no dial", "not run |"]
    assert "Most likely reason: It is planted." in text
    assert "study `planted` (items, seeds and prompts random)" in text
    assert "n = 40 in 20 clusters, 3 seeds" in text
    (absent,) = [x for x in text.splitlines() if x.startswith("| C4 |")]
    assert "not run" in absent
    assert "Absent: crossed/dpo_safe (safety), crossed/sft (safety), crossed/dpo (safety)." in text


def test_the_command_writes_the_page_beside_the_results(tmp_path):
    folder = planted(tmp_path / "1", at("hamlet/rlaif", 0.6) | at("hamlet/sft", 0.2))
    done = CliRunner().invoke(main, ["shapes", str(folder)])
    assert (done.exit_code, done.output.strip()) == (0, str(folder / "shapes.md"))
    again = (folder / "shapes.md").read_bytes()
    CliRunner().invoke(main, ["shapes", str(folder)])
    assert (folder / "shapes.md").read_bytes() == again


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ('K99 = "x"', "K99: write a shape's id"),
        ("K6b = 1", "K6b: write"),
        ("K6b =", "read as TOML"),
    ],
)
def test_bad_reasons_and_folders_end_with_two_and_one_sentence(tmp_path, reasons, said):
    folder = planted(tmp_path / "1", at("hamlet/rlaif", 0.6))
    (tmp_path / "r.toml").write_text(reasons)
    runner = CliRunner()
    done = runner.invoke(main, ["shapes", str(folder), "--reasons", str(tmp_path / "r.toml")])
    assert done.exit_code == 2
    assert said in done.output
    assert runner.invoke(main, ["shapes", str(tmp_path)]).exit_code == 2
