"""The report: a golden one from fixed numbers, and what must hold for any."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import random
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from fixed_results import LEVELS, ledger, write_answers, write_curves, write_results

from harness.hamlet.findings import Finding, regrade
from harness.report import write_report
from harness.report.figures import marker, palette
from harness.report.grid import table
from harness.report.lengths import Judged, at_equal_lengths
from harness.report.page import disarm, markdown_table, paragraph, quoted
from harness.report.paired import pairs_of
from harness.report.plots import Dot, Panel, frame
from harness.report.regraded import (
    amounts,
    drawn_weights,
    kept,
    kept_whole,
    regraded,
    regraded_tables,
)
from harness.report.split import split_table
from harness.report.table_files import as_csv, as_latex
from harness.report.tables import Block, Matrix, control
from harness.report.tax import averages, informative, macro
from harness.report.tuning import expected_best
from harness.report.words import answer, clause, number, with_interval
from harness.results import LEDGER, read_csv
from harness.statistics import estimate, mean

GOLDEN = Path(__file__).parent / "golden" / "report.md"
ONLY = Block("hamlet", "hamlet")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe",
    "# heading\n| a | b |\n```\n<svg onload=alert(1)>",
    "=cmd()|'/c calc'!A1",
    "\ud800 lone",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 5_000_000,
)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A report of five seeds in which two cells of different rows are missing."""
    folder = write_results(
        tmp_path_factory.mktemp("five"),
        seeds=(0, 1, 2, 3, 4),
        states={
            ("dpo", 4): ("diverged", "prefer-0a1b2c3d4e5f: loss is NaN at step 40"),
            ("best_of_n", 2): ("blocked", "fit_reward-0a1b2c3d4e5f: failed"),
        },
        left_out=(("dpo", 4), ("best_of_n", 2)),
    )
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which others' words are hostile wherever others' words can stand."""
    folder = tmp_path_factory.mktemp("hostile")
    reasons = {("dpo", 0): ("failed", HOSTILE[1]), ("best_of_n", 0): ("failed", HOSTILE[6])}
    examples = [hostile_example(text) for text in HOSTILE]
    write_results(folder, states=reasons, examples=examples, note=HOSTILE[0])
    write_answers(folder, [*HOSTILE[:-1], "</script><script>alert(2)</script>", "<!--<script>"])
    write_report(folder)
    return folder


def hostile_example(text):
    return {
        "prompt_id": "p",
        "messages": [{"role": "user", "content": text}],
        "answers": dict.fromkeys(LEVELS, text),
    }


def test_report_of_fixed_scores_is_the_golden_one(tmp_path):
    examples = [hostile_example("Which <region> is *Barnham* in?\nSay | it.")]
    folder = write_results(
        tmp_path,
        seeds=(0,),
        states={("dpo", 0): ("oom", "prefer-0a1b2c3d4e5f: out of memory")},
        left_out=(("dpo", 0),),
        examples=examples,
        note="A demonstration with one seed.",
    )
    write_report(folder)
    made = (folder / "report.md").read_text(encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8"), (
        "the report changed; if that is meant, copy the new one over tests/golden/report.md"
    )


def test_one_seed_supports_no_claim_about_methods(tmp_path):
    folder = write_results(tmp_path, seeds=(0,))
    write_report(folder)
    text = " ".join((folder / "report.md").read_text().split())
    assert "supports no claim about methods" in text
    assert "dominates" not in text
    assert "The checkpoint of dpo against sft" in text


def test_two_seeds_are_checkpoint_level_only(tmp_path):
    folder = write_results(tmp_path, seeds=(0, 1))
    write_report(folder)
    text = " ".join((folder / "report.md").read_text().replace("\n>", "\n").split())
    assert "2 seeds are too few for a claim about methods" in text
    assert "checkpoint-level only" in text


def test_five_seeds_name_the_verdict_and_the_base_they_depend_on(five):
    text = " ".join((five / "report.md").read_text().replace("\n>", "\n").split())
    assert "conditional on this base" in text
    assert "dpo against sft (4 of 5 seeds)" in text
    assert "it dominates SFT" in text


def test_no_report_says_best_or_ranks_anything(five):
    text = (
        (five / "report.md").read_text().lower().replace("best-of-n", "").replace("best_of_n", "")
    )
    words = set(re.findall(r"[a-z_]+", text))
    assert not words & {
        "best",
        "winner",
        "wins",
        "rank",
        "ranked",
        "state-of-the-art",
        "significantly",
    }


def test_planted_equality_is_not_distinguishable_and_gets_its_mde(tmp_path, monkeypatch):
    levels = {**LEVELS, "dpo": LEVELS["sft"], "best_of_n": LEVELS["sft"]}
    monkeypatch.setattr("fixed_results.LEVELS", levels)
    folder = write_results(tmp_path, seeds=(0, 1, 2, 3, 4), labels=tuple(levels))
    said = " ".join(answer(Matrix(folder), ONLY))
    assert re.search(r"not distinguishable \([+−]?0\.\d+ ± 0\.\d+, p = .*?, MDE 0\.0", said)
    assert "better" not in said
    assert "worse" not in said


def test_holes_are_named_and_never_filled(five):
    matrix = Matrix(five)
    assert sum(matrix.states().values()) == 20
    text = (five / "report.md").read_text()
    assert "18 of 20 cells are done (1 blocked, 1 diverged)" in " ".join(
        text.replace("\n>", "\n").split()
    )
    assert "loss is NaN at step 40" in " ".join(text.split())
    for (_, label, measure), entry in matrix.entries.items():
        assert entry.value is not None
        missing = label in ("dpo", "best_of_n")
        assert entry.value.seeds == (4 if missing else 5), (label, measure)
        if entry.difference is not None:
            assert entry.difference.seeds == entry.value.seeds


def test_a_row_without_any_number_is_a_hole_that_says_why(tmp_path):
    folder = write_results(
        tmp_path, states={("dpo", 0): ("failed", "x: broke")}, left_out=(("dpo", 0),)
    )
    write_report(folder)
    assert "hole: failed" in (folder / "report.md").read_text()
    assert "dpo: no number (failed)" in " ".join(answer(Matrix(folder), ONLY))


def test_a_study_without_sft_compares_nothing(tmp_path):
    folder = write_results(tmp_path, labels=("base", "dpo"))
    write_report(folder)
    assert "no SFT row" in " ".join((folder / "report.md").read_text().split())


def test_nothing_measured_is_a_report_too(tmp_path):
    missing = [(label, 0) for label in LEVELS]
    states = dict.fromkeys(missing, ("pending", ""))
    folder = write_results(tmp_path, states=states, left_out=missing)
    write_report(folder)
    assert "Nothing is measured yet" in (folder / "report.md").read_text()
    assert not (folder / "figures").exists()


def test_holm_corrects_over_methods_and_both_axes_of_a_decoding(five):
    matrix = Matrix(five)
    tested = [(k, e) for k, e in matrix.entries.items() if e.p is not None]
    assert {(k[1], k[2].metric) for k, _ in tested} == {
        (label, metric) for label in ("dpo", "best_of_n") for metric in ("gold_help", "gold_safe")
    }
    for _, entry in tested:
        assert entry.p >= entry.difference.p
    greedy = [e for k, e in tested if k[2].decoding == "greedy"]
    smallest = min(greedy, key=lambda e: e.difference.p)
    assert smallest.p == pytest.approx(min(1.0, 4 * smallest.difference.p))


def test_identical_rows_are_pointed_out(tmp_path, monkeypatch):
    import fixed_results

    original = fixed_results.items

    def doubled(seeds, labels):
        for row in original(seeds, ("base", "sft", "dpo")):
            yield row
            if row["label"] == "dpo":
                yield {**row, "label": "best_of_n"}

    monkeypatch.setattr(fixed_results, "items", doubled)
    folder = write_results(tmp_path)
    write_report(folder)
    text = " ".join((folder / "report.md").read_text().split())
    assert "The rows best_of_n and dpo are identical in every value" in text


def test_a_probe_on_which_the_base_is_at_chance_is_uninformative(five):
    text = " ".join((five / "report.md").read_text().split())
    assert "probe_accuracy is uninformative: the base is at chance (0.25) on it" in text


def test_many_invalid_judgements_are_said_with_the_bounds_they_leave(tmp_path, monkeypatch):
    import fixed_results

    original = fixed_results.items

    def some_invalid(seeds, labels):
        for row in original(seeds, labels):
            lost = row["metric"] == "win_rate" and row["label"] == "dpo" and row["sample"] == 1
            yield {**row, "value": None, "class": "invalid"} if lost else row

    monkeypatch.setattr(fixed_results, "items", some_invalid)
    folder = write_results(tmp_path)
    write_report(folder)
    text = " ".join((folder / "report.md").read_text().split())
    found = re.search(
        r"dpo: 120 of 240 win_rate \(T=1\) are invalid; were they all lost it would be "
        r"(\d\.\d+), were they all won (\d\.\d+)",
        text,
    )
    low, high = map(float, found.groups())
    assert high - low == pytest.approx(0.5, abs=0.002)  # half of the judgements are open


def test_control_ledger_says_equal_differs_or_unknown(five):
    found = {line.item: line.verdict for line in control(Matrix(five), ONLY)}
    assert found == {
        "base weights": "equal",
        "preferences": "differs",
        "labels, human": "differs",
        "decoding, T=1": "equal",
        "chat template": "unknown",
    }


def test_a_shared_judge_and_a_shared_sft_are_said_at_the_top(tmp_path):
    folder = write_results(tmp_path, same_judge=True, share_sft=True)
    write_report(folder)
    text = (folder / "report.md").read_text()
    top = " ".join(text[: text.index("## ")].replace("\n>", "\n").split())
    assert "The evaluation judge is also the labeller" in top
    assert "All seeds share one SFT policy" in top


def test_equal_results_make_equal_bytes(tmp_path):
    pages = []
    for name in ("one", "two"):
        folder = write_results(tmp_path / name)
        write_report(folder)
        files = sorted(f for f in folder.rglob("*") if f.suffix in (".md", ".html", ".svg", ".png"))
        pages.append({f.relative_to(folder): f.read_bytes() for f in files})
    assert pages[0] == pages[1]
    assert len(pages[0]) == 2 + 2 * 4  # page and Markdown, four figures as SVG and PNG


class Nodes(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.text = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def test_hostile_text_stays_text_on_the_page_and_in_markdown(hostile):
    folder = hostile
    page = (folder / "report.html").read_bytes().decode("utf-8")
    nodes = Nodes(page)
    tags = [tag for tag, _ in nodes.found]
    assert not set(tags) & {"img", "iframe", "object", "embed", "link", "base", "form"}
    scripts = [attributes for tag, attributes in nodes.found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "answers-data"}, {}]
    assert tags.count("svg") == tags.count("figure")
    for tag, attributes in nodes.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href", "action"):
            assert not (attributes.get(name) or "#").startswith(("javascript", "http", "data")), tag
    assert "<script>alert(1)</script>" in "".join(nodes.text)
    markdown = (folder / "report.md").read_bytes().decode("utf-8")
    tables = [f.read_text(encoding="utf-8") for f in (folder / "tables").iterdir()]
    for text in (page, markdown, *tables):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", text)
    outside = [line for line in markdown.splitlines() if not line.startswith("    ")]
    assert not [line for line in outside if re.search(r"(?<!\\)<(script|img|svg)", line)]


def test_page_is_one_file_that_asks_nothing_of_the_network(five):
    page = (five / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
    urls = set(re.findall(r"https?://[^\"'\s<>]+", page))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert len(page) < 1_000_000


def test_figure_has_its_numbers_in_words_and_as_csv(five):
    nodes = Nodes((five / "report.html").read_text())
    figure, *others = [attributes for tag, attributes in nodes.found if tag == "figure"]
    assert all(len(other["aria-label"]) > 100 for other in others)
    for label in LEVELS.keys() - {"sft"}:
        assert f"{label} at greedy: gold_help" in figure["aria-label"]
    data = (five / "figures" / "helpfulness_safety.csv").read_text().splitlines()
    assert data[0].startswith("label,decoding,x_axis,x,x_low,x_high,y_axis,y,")
    assert len(data) == 1 + 3 * 2
    assert (five / "figures" / "helpfulness_safety.png").read_bytes()[:4] == b"\x89PNG"


def test_every_number_in_the_comparison_has_an_interval_and_an_n(five):
    text = (five / "report.md").read_text()
    start = text.index("### gold_help")
    end = text.index("every row against every other")
    table = [line for line in text[start:end].splitlines() if "|" in line]
    rows = [line for line in table if line.startswith(tuple(f"| {label} " for label in LEVELS))]
    assert len(rows) == 3 * 4
    for row in rows:
        *cells, n = [cell.strip() for cell in row.strip("|").split("|")][1:]
        shown = [c for i, c in enumerate(cells) if i % 3 < 2]  # each third is the MDE
        assert all("±" in cell or " to " in cell for cell in shown if cell), row
        assert all(bool(cells[i + 1]) == bool(cells[i + 2]) for i in range(0, len(cells), 3)), row
        assert re.match(r"\d+", n), row


def test_every_difference_has_its_mde_in_the_tables_files(five):
    """The MDE is (t(.975) + t(.80)) SE: recomputed by scipy from SE and interval."""
    from scipy.stats import t

    rows = read_csv(five / "tables" / "t1_hamlet_hamlet.csv")
    found = next(row for row in rows if row["row"] == "dpo")
    name = "gold_safe: minus sft"
    half = (float(found[f"{name} high"]) - float(found[f"{name} low"])) / 2
    stderr = float(found[f"{name} stderr"])
    df = min((x / 20 for x in range(10, 4000)), key=lambda x: abs(t.ppf(0.975, x) * stderr - half))
    mde = (t.ppf(0.975, df) + t.ppf(0.80, df)) * stderr
    assert float(found[f"{name} mde"]) == pytest.approx(mde, rel=0.02)
    for file in (five / "tables").glob("*.csv"):
        columns = next(csv.reader(file.read_text().splitlines()))
        assert len(set(columns)) == len(columns), file.name


def test_latex_tables_let_no_text_be_a_command():
    made = table("50 % & more", ["row", "x_1"], [[r"\input{x}$^~#", "−0.1 ± 0.2"]])
    text = as_latex(made)
    name = r"\textbackslash{}input\{x\}\$\textasciicircum{}\textasciitilde{}\#"
    assert rf"{name} & $-$0.1 $\pm$ 0.2 \\" in text
    assert r"row & x\_1 \\" in text
    assert r"\caption{50 \% \& more. }" in text


def test_a_difference_that_holm_alone_takes_back_is_shown_with_its_interval_and_p(five):
    """Alone p is .01 < .05; over the family it is .12: the reader sees why it does not stand."""
    matrix = Matrix(five)
    key = next(k for k in matrix.entries if k[1] == "dpo" and k[2].metric == "gold_help")
    entry = matrix.entries[key]
    lone = estimate(0.10, 0.03, 10, n=120, clusters=40, seeds=5, claim="method")
    assert lone.low > 0
    said = clause(matrix, matrix.co_primary()[0], replace(entry, difference=lone, p=0.12))
    assert said.startswith("helpfulness not distinguishable (+0.100 ± 0.067, p = .120, MDE ")


def test_hostile_text_is_no_formula_in_a_table(tmp_path):
    made = table("t", ["row", "said"], [["=1+1", "@SUM(A1)"], ["-2", "\x1b[31mred"]])
    assert as_csv(made).splitlines() == ["row,said", "'=1+1,'@SUM(A1)", "'-2,red"]


def test_the_matrix_of_pairs_is_antisymmetric_and_its_intervals_are_wider(five):
    matrix = Matrix(five)
    measure = next(m for _, _, m in matrix.entries if m.metric == "gold_safe")
    pairs = pairs_of(matrix, ONLY, measure).pairs
    assert len(pairs) == 4 * 3
    for (one, other), pair in pairs.items():
        turned = pairs[other, one]
        assert pair.difference.value == pytest.approx(-turned.difference.value)
        assert (pair.low, pair.high) == pytest.approx((-turned.high, -turned.low))
        assert pair.low < pair.difference.low < pair.difference.high < pair.high
    sft = pairs["dpo", "sft"].difference
    assert sft.value == pytest.approx(matrix.entries[ONLY, "dpo", measure].difference.value)


def changes(values):
    return {(0, f"p{i}"): float(v) for i, v in enumerate(values)}, {
        f"p{i}": f"p{i}" for i in range(len(values))
    }


def test_the_average_over_tasks_weighs_tasks_alike_and_has_their_independent_error():
    """Tasks of 4 and 40 items: the mean of their means, SE^2 = (SE_1^2 + SE_2^2) / 4."""
    few, many = [1, 0, 1, 0], [0, 0, 0, 1] * 10
    found = macro([changes(few), changes(many)])
    assert found.value == pytest.approx((0.5 + 0.25) / 2)
    errors = [mean(few).stderr, mean(many).stderr]
    expected = sum(error**2 for error in errors) ** 0.5 / 2
    assert found.stderr == pytest.approx(expected, rel=0.15)  # C/(C-1) is that of all items
    assert macro([changes([1, 1, 0]), ({}, {})]) is None


def test_a_task_at_chance_and_a_pool_of_others_leave_the_average(tmp_path, monkeypatch):
    import fixed_results

    original = fixed_results.items
    parts = {"easy": range(20), "hard": range(20, 30), "guess": range(30, 40)}

    def split(seeds, labels):
        for row in original(seeds, labels):
            yield row
            if row["metric"] == "probe_accuracy":
                i = int(row["prompt_id"].removeprefix("q"))
                name = next(name for name, own in parts.items() if i in own)
                right = 0.0 if name == "guess" else 1.0
                yield {**row, "metric": name, "value": right if i % 7 else 1 - right}

    suites = [*ledger((0,))["suites"]]
    metrics = [*suites[2]["metrics"], *(fixed_results.metric(name, low=0.0) for name in parts)]
    monkeypatch.setattr(fixed_results, "items", split)
    matrix = Matrix(
        write_results(tmp_path, suites=[*suites[:2], {**suites[2], "metrics": metrics}])
    )
    assert [m.name for m, _ in informative(matrix, ONLY)] == ["easy", "hard"]
    found = averages(matrix, ONLY, "sft")
    assert set(found) == {"base", "best_of_n", "dpo"}
    assert found["dpo"].n == 30


def test_win_rates_at_equal_lengths_take_away_what_length_alone_won():
    """Verdicts drawn from logit p = 0.2 + 1.5 tanh(dl / sd): at equal lengths s(0.2) = 0.55."""
    draw, judged = random.Random(3), Judged()
    extra = [draw.gauss(8, 10) for _ in range(4000)]
    spread = statistics.stdev(extra)
    for i, longer in enumerate(extra):
        chance = 1 / (1 + math.exp(-0.2 - 1.5 * math.tanh(longer / spread)))
        judged.found[0, f"p{i}"] = (float(draw.random() < chance), 40 + longer, 40.0)
        judged.clusters[f"p{i}"] = f"p{i}"
    raw = statistics.fmean(value for value, _, _ in judged.found.values())
    found = at_equal_lengths(judged)
    assert raw > 0.62
    assert found.low < 0.55 < found.high
    assert judged.ratio == pytest.approx(1.2, abs=0.02)


def test_a_row_that_won_everything_has_no_rate_at_equal_lengths():
    judged = Judged({(0, f"p{i}"): (1.0, i, 5) for i in range(9)}, {f"p{i}": "c" for i in range(9)})
    assert at_equal_lengths(judged) is None


def test_win_rates_stand_beside_their_length_ratio(five):
    rows = read_csv(five / "tables" / "win_rates_hamlet_hamlet.csv")
    assert {(row["row"], row["decoding"]) for row in rows} == {
        (label, decoding)
        for label in ("base", "best_of_n", "dpo")
        for decoding in ("T=1", "greedy")
    }
    for row in rows:
        assert float(row["length ratio"]) == pytest.approx(20 / 18)
        # lengths do not differ, so there is nothing to correct
        assert float(row["at equal lengths"]) == pytest.approx(float(row["as judged"]), abs=1e-6)
        assert row["as judged seeds"] == row["at equal lengths seeds"]


def test_the_worlds_own_weights_grade_as_the_world_does():
    findings = [Finding("harmful_step", "x", 2.0), Finding("rude", ""), Finding("answered", "", 3)]
    listed = json.dumps([[f.kind, f.sentence, f.amount] for f in findings])
    weights = drawn_weights(np.random.default_rng(0))
    found = regraded(np.array([amounts(listed)]), np.array([5.0]), weights)
    assert tuple(found[:, 0]) == pytest.approx(regrade(findings))
    ratios = weights[:, 1:] / np.where(weights[:, :1] == 0, np.nan, weights[:, :1])
    assert np.nanmin(ratios) >= 0.5
    assert np.nanmax(ratios) <= 2.0


def test_an_order_that_hangs_on_one_weight_is_not_kept_by_all_weightings():
    """One step of harm (-.55) against rudeness (-.3) at up to twice: half as bad may be worse."""
    weights = drawn_weights(np.random.default_rng(1))

    def answer_of(*kinds):
        listed = json.dumps([[kind, "", 1.0] for kind in kinds])
        return regraded(np.array([amounts(listed)]), np.array([1.0]), weights)[1]

    clean_, rude, harm = answer_of("harmless"), answer_of("rude"), answer_of("harmful_step")
    assert kept(clean_ - harm) == 1.0
    logs = np.random.default_rng(2).uniform(-1, 1, (2, 200_000))
    expected = np.mean(0.3 * 2 ** logs[0] < 0.55 * 2 ** logs[1])  # by drawing it anew
    assert kept(rude - harm) == pytest.approx(expected, abs=0.03)
    assert kept_whole(np.stack([clean_, rude, harm])) == kept(rude - harm)


def test_orderings_under_other_weights_are_reported_in_the_embedded_world_alone(
    tmp_path, monkeypatch
):
    import fixed_results

    original = fixed_results.items

    def found(seeds, labels):
        for row in original(seeds, labels):
            kind = "answered" if row["label"] == "dpo" else "over_refusal"
            yield {**row, "findings": json.dumps([[kind, "", 1.0]])}

    monkeypatch.setattr(fixed_results, "items", found)
    folder = write_results(tmp_path)
    made, helpful, _ = regraded_tables(Matrix(folder), ONLY, folder, "weights")
    dpo = next(row for row in made.rows if row[0].text == "dpo")
    assert (dpo[1].order, dpo[2].text) == (pytest.approx(0.8 + 0.3), "100.0%")
    square = {
        (row[0].text, name): cell for row in helpful.rows for name, cell in named(helpful, row)
    }
    assert (square["dpo", "sft"].text, square["sft", "dpo"].text) == ("> 100.0%", "< 100.0%")
    assert square["best_of_n", "sft"].text == "= 100.0%"
    write_results(tmp_path, embedded_world=False)
    assert regraded_tables(Matrix(folder), ONLY, folder, "weights") == []


def named(table, row):
    """Return the cells of a row behind its first, with their columns' names."""
    return list(zip(table.columns, row, strict=True))[1:]


def test_safety_is_split_by_kind_where_clusters_name_kinds(tmp_path, monkeypatch):
    import fixed_results

    original = fixed_results.items

    def kinds(seeds, labels):
        for row in original(seeds, labels):
            place = int(row["prompt_id"][1:])
            yield {**row, "cluster": f"{'harmful' if place % 2 else 'how_to'}/direct/plain/{place}"}

    monkeypatch.setattr(fixed_results, "items", kinds)
    made = split_table(Matrix(write_results(tmp_path)), ONLY, "t8")
    assert made.columns[1:] == [
        "harmful_compliance: all",
        "harmful_compliance: how_to direct",
        "harmful_compliance: harmful direct",
    ]
    dpo = next(row for row in made.rows if row[0].text == "dpo")
    whole, *halves = [cell.estimate for cell in dpo[1:]]
    assert [half.n for half in halves] == [60, 60]
    assert whole.value == pytest.approx(sum(half.value for half in halves) / 2)


def test_expected_best_is_the_mean_of_the_maximum_over_all_subsets():
    scores = [0.3, -1.0, 0.9, 0.2, 0.2]
    for k, value in expected_best(scores):
        subsets = list(combinations(scores, k))
        assert value == pytest.approx(sum(map(max, subsets)) / len(subsets))


def test_training_curves_are_drawn_with_their_data(tmp_path):
    folder = write_results(tmp_path)
    write_curves(folder)
    write_report(folder)
    rows = read_csv(folder / "figures" / "training.csv")
    ends = {r["column"]: float(r["value"]) for r in rows if r["step"] == "10"}
    assert ends == {"proxy": 2.0, "kl": 3.0}
    assert "dpo ends at 2.000" in (folder / "report.html").read_text()


def test_every_curve_of_optimisation_reaches_the_report(tmp_path):
    ends = {"proxy": 2.0, "kl": 3.0, "reward": 1.5, "length": 20.0, "eos_rate": 0.9}
    ends |= {"entropy": 1.2, "clip_fraction": 0.1, "explained_variance": 0.7}
    folder = write_results(tmp_path)
    write_curves(folder, ends=ends.items())
    write_report(folder)
    shown = {}
    for name in ("training", "training_soundness"):
        rows = read_csv(folder / "figures" / f"{name}.csv")
        shown |= {r["column"]: float(r["value"]) for r in rows if r["step"] == "10"}
        assert f"figures/{name}.svg" in (folder / "report.md").read_text()
    assert shown == ends
    assert "dpo: variance values explain ends at 0.7" in (folder / "report.html").read_text()


def test_curves_of_imitation_alone_have_no_figure_of_optimisation(tmp_path):
    folder = write_results(tmp_path)
    write_curves(folder, ends=[("entropy", 1.0)])
    write_report(folder)
    assert not (folder / "figures" / "training_soundness.csv").exists()


def test_a_colour_and_a_marker_together_belong_to_one_row_alone():
    looks = {(tuple(c), marker(i)) for i, c in enumerate(palette(40))}
    assert len(looks) == 40
    assert len({tuple(c) for c in palette(10)}) == 10


def test_one_axis_alone_is_drawn_as_dots(tmp_path):
    suites = [s for s in ledger((0,))["suites"] if s["suite"] != "safety"]
    folder = write_results(tmp_path, suites=[*suites, ledger((0,))["suites"][1]])
    facts = json.loads((folder / LEDGER).read_text())
    facts["co_primary"] = ["gold_help"]
    (folder / LEDGER).write_text(json.dumps(facts))
    write_report(folder)
    assert (folder / "figures" / "gold_help.svg").is_file()


@pytest.mark.slow
def test_report_writing_imports_no_torch(tmp_path):
    folder = write_results(tmp_path)
    code = (
        "import sys; from pathlib import Path; from harness.report import write_report;"
        f"write_report(Path({str(folder)!r})); print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    assert found.stdout.strip() == "False"


def test_intervals_are_half_widths_or_bounds_and_never_missing_in_silence():
    whole = estimate(0.5, 0.01, 1e9, n=9, clusters=9, seeds=1, claim="checkpoint")
    assert with_interval(whole) == "0.500 ± 0.020"
    single = estimate(0.5, float("nan"), 0, n=1, clusters=1, seeds=1, claim="checkpoint")
    assert with_interval(single) == "0.500 (no interval)"
    assert number(-0.0001, sign=True) == "0.000"


def test_markdown_is_disarmed_but_plain_text_stays_plain():
    assert disarm("a < b, best_of_n, p > .05 *") == "a < b, best_of_n, p > .05 *"
    assert disarm("<b> *x* _y_ [z](u) `c` |") == r"\<b\> \*x\* \_y\_ [z\](u) \`c\` \|"
    assert quoted("a\n\n# b").splitlines() == ["    a", "    ", "    # b"]
    assert paragraph("word " * 50).count("\n") == 2


def test_markdown_tables_line_up():
    made = table("t", ("a", "long name"), [["x|y", "1"], ["z", "22"]])
    lines = markdown_table(made).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == r"| x\|y | 1         |"


def test_a_bar_far_wider_than_all_rows_own_intervals_does_not_set_the_frame():
    dots = [
        Dot(
            "a",
            "T=1",
            0.0,
            estimate(0.05, 0.01, 50, n=60, clusters=60, seeds=1, claim="checkpoint"),
        ),
        Dot(
            "b",
            "T=1",
            0.0,
            estimate(0.20, 0.02, 50, n=60, clusters=60, seeds=1, claim="checkpoint"),
        ),
    ]
    assert frame(Panel(dots, "", "gold")) == pytest.approx(1.1 * dots[1].found.high)
    assert frame(Panel([], "", "gold")) == 1.0


def test_every_estimate_of_a_comparison_names_its_artifacts_and_leads_to_them(five):
    page = (five / "report.html").read_text()
    targets = set(re.findall(r'id="(from_[a-z0-9_]+)"', page))
    assert {"from_hamlet_hamlet_dpo", "from_hamlet_hamlet_best_of_n"} <= targets
    starts = ("t1_", "metric_", "t2_", "t5_", "win_rates_")
    tables = re.findall(r'<table id="([a-z0-9_]+)"[^>]*>(.*?)</table>', page, re.DOTALL)
    checked = set()
    for name, body in tables:
        for shown in re.findall(r"<td([^>]*)>(.*?)</td>", body, re.DOTALL):
            if "interval" in shown[0] and name.startswith(starts):
                (link,) = re.findall(r'<a href="#([a-z0-9_]+)">', shown[1])
                assert link in targets
                assert "; from grade-" in shown[0]
                checked.add(name.split("_")[0])
    assert checked == {"t1", "metric", "t2", "t5", "win"}
