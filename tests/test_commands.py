"""Every command does what its help says, ends with the documented code, and writes no more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_commands
import toy_study
from typer.testing import CliRunner

import harness.report
import harness.results
from harness.commands import main
from harness.store import Store
from harness.study import Study

ROOT = Path(__file__).parents[1]
REAL = (harness.results.collect, harness.report.write_report)
STUDY = f"""
schema = 1
name = "toy"
seeds = [0]
plugins = ['{toy_study.__file__}']
[bases.tiny]
[datasets.toy]
[methods.toy_sft]
[methods.toy_dpo]
[evaluation]
suites = ["toy_help"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder with one study, over toy stages and a toy report."""
    toy_study.install(monkeypatch.setattr)
    monkeypatch.setattr("harness.results.collect", toy_commands.collect)
    monkeypatch.setattr("harness.report.write_report", toy_commands.write_report)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(STUDY)
    return tmp_path


def call(*words, code=0):
    done = CliRunner().invoke(main, list(words), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
    }


def test_run_makes_everything_and_ends_with_zero(folder):
    said = call("run", "toy.toml", "--workers", "0")
    assert "toy: 2 cells: 2 done" in said
    assert (folder / "results/toy/report.html").is_file()
    assert len(Store(folder / "results/store").manifests()) == 12


@pytest.mark.slow
def test_a_run_ends_in_the_real_report_of_its_cells(folder, monkeypatch):
    monkeypatch.setattr("harness.results.collect", REAL[0])
    monkeypatch.setattr("harness.report.write_report", REAL[1])
    call("run", "toy.toml", "--workers", "0", "--set", "methods.toy_dpo.fault=raise", code=1)
    cells = (folder / "results/toy/cells.csv").read_text()
    assert re.search(r"^toy,tiny,toy,toy_sft,toy_sft,0,done,", cells, re.MULTILINE)
    assert re.search(r"^toy,tiny,toy,toy_dpo,toy_dpo,0,failed,", cells, re.MULTILINE)
    assert "gain" in (folder / "results/toy/scores.csv").read_text()
    assert "supports no claim" in (folder / "results/toy/report.md").read_text()


def test_a_study_without_a_command_is_run(folder):
    assert "2 done" in call("toy.toml", "--workers", "0")
    assert "2 done" in call("--workers", "0", "toy.toml")


def test_a_second_run_writes_nothing_and_says_so(folder):
    call("run", "toy.toml", "--workers", "0")
    before = snapshot(folder)
    assert "nothing to do" in call("run", "toy.toml")
    assert snapshot(folder) == before


def test_the_report_is_written_again_when_a_file_of_it_is_gone_or_the_study_changed(folder):
    call("run", "toy.toml", "--workers", "0")
    (folder / "results/toy/report.html").unlink()
    assert "nothing to do" not in call("run", "toy.toml")
    (folder / "toy.toml").write_text(STUDY.replace("[evaluation]", "[evaluation]\nmargin = 3.0"))
    assert "nothing to do" not in call("run", "toy.toml")


def test_results_are_not_written_through_a_planted_link(folder):
    (folder / "elsewhere").mkdir()
    (folder / "results").mkdir()
    (folder / "results" / "toy").symlink_to(folder / "elsewhere")
    assert "is a link" in call("run", "toy.toml", "--workers", "0", code=2)
    assert list((folder / "elsewhere").iterdir()) == []


def test_a_failing_method_costs_its_own_cells_and_ends_with_one(folder):
    words = ["run", "toy.toml", "--workers", "0", "--set", "methods.toy_dpo.fault=raise"]
    said = call(*words, code=1)
    assert "1 done, 1 failed" in said
    assert "the toy trainer broke" in said
    assert (folder / "results/toy/report.html").is_file()


def test_a_method_that_breaks_while_planning_costs_its_own_cells(folder):
    (folder / "toy.toml").write_text(STUDY.replace("toy_dpo", "toy_broken"))
    said = call("run", "toy.toml", "--workers", "0", code=1)
    assert "1 done, 1 failed" in said
    assert "ZeroDivisionError: the toy method broke" in said


@pytest.mark.parametrize("command", ["run", "plan", "status", "report", "gc"])
def test_bad_input_ends_with_two_lists_all_problems_and_writes_nothing(folder, command):
    (folder / "toy.toml").write_text(STUDY.replace("seeds", "sedes"))
    before = snapshot(folder)
    said = call(command, "toy.toml", code=2)
    assert "2 problems in the study" in said
    assert "Did you mean 'seeds'?" in said
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    "words",
    [
        ("run", "nowhere.toml"),
        ("plan", "toy.toml", "--only", "dpo"),
        ("plan", "toy.toml", "--seeds", "one"),
        ("plan", "toy.toml", "--set", "beta"),
        ("run", "toy.toml", "--workers", "-1"),
        ("run", "toy.toml", "--wrokers", "1"),
        ("show", "nothing-like-it"),
        ("why", "toy.toml:toy_dop/0"),
        ("logs", "toy.toml:toy_dpo/0"),
        ("export", "toy.toml:toy_dpo/0", "out"),
        ("list", "metods"),
        ("gc",),
        ("new-method", "import"),
        ("new-method", "../mine"),
        ("new-method", "json"),
        ("plna", "toy.toml"),
    ],
)
def test_whatever_is_misspelt_ends_with_two_and_writes_nothing(folder, words):
    before = snapshot(folder)
    call(*words, code=2)
    assert snapshot(folder) == before


def test_overrides_reach_the_plan():
    said = call("plan", "toy.toml", "--only", "toy_dpo", "--seeds", "3,4", "--all")
    assert "2 cells = 1 base x 1 dataset x 1 method x 2 seeds" in said
    said = call("plan", "toy.toml", "--all", "--set", "methods.toy_dpo.beta=0.25")
    assert "beta = 0.25" in said


def test_a_plan_says_that_one_seed_supports_no_claim():
    assert "one seed: supports no claim about methods" in call("plan", "toy.toml")


def test_status_counts_cells_for_people_and_programs(folder):
    assert "2 cells: 2 pending" in call("status", "toy.toml")
    call("run", "toy.toml", "--workers", "0", "--only", "toy_sft")
    said = json.loads(call("status", "toy.toml", "--json"))
    assert said["counts"] == {"done": 1, "pending": 1}


def test_report_is_written_over_holes_and_ends_with_zero(folder):
    call("run", "toy.toml", "--workers", "0", "--only", "toy_sft")
    assert "report.html" in call("report", "toy.toml")
    assert (folder / "results/toy/report.html").is_file()


def test_show_why_and_logs_answer_for_a_cell_and_for_a_short_id(folder):
    call("run", "toy.toml", "--workers", "0")
    id = Study.load("toy.toml").cells()[1].policy.id
    assert "beta = 0.1" in call("show", "toy.toml:toy_dpo/0")
    assert "beta = 0.1" in call("show", id[:-2])
    assert f"{id} is cached" in call("why", "toy.toml:toy_dpo")
    assert "needed by" in call("show", id, "--study", "toy.toml")


def test_a_study_that_is_looked_in_answers_to_the_name_in_its_file(folder):
    (folder / "toy.toml").rename(folder / "file.toml")
    id = Study.load("file.toml").cells()[1].policy.id
    assert f"{id}: not made" in call("show", "toy:toy_dpo/0", "--study", "file.toml")
    assert f"{id} is new" in call("why", "file.toml:toy_dpo/0", "--study", "file.toml")
    assert "no such shipped study" in call("why", "toy:toy_dpo/0", code=2)
    (folder / "other.toml").write_text(STUDY)
    both = ("--study", "file.toml", "--study", "other.toml")
    assert "the name of file.toml, other.toml" in call("why", "toy:toy_dpo/0", *both, code=2)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "toy.toml:toy_dpo/0"),
        ("why", "toy.toml:toy_dpo/0"),
        ("logs", "toy.toml:toy_dpo/0"),
        ("export", "toy.toml:toy_dpo/0", "out"),
        ("rate", "toy.toml"),
        ("power", "toy.toml"),
    ],
)
def test_every_command_about_a_study_reads_from_the_mirror_that_it_is_given(folder, words):
    assert "nowhere is no mirror" in call(*words, "--mirror", "nowhere", code=2)


def test_verify_names_the_artifact_whose_bytes_changed(folder):
    call("run", "toy.toml", "--workers", "0")
    assert "every artifact" in call("verify")
    id = Study.load("toy.toml").cells()[1].policy.id
    file = folder / "results/store" / id / "policy.txt"
    file.chmod(0o644)
    text = file.read_bytes()
    file.write_bytes(bytes([text[0] ^ 1]) + text[1:])
    assert id in call("verify", code=1)


def test_gc_lists_by_default_and_deletes_when_told(folder):
    call("run", "toy.toml", "--workers", "0")
    call("run", "toy.toml", "--workers", "0", "--set", "methods.toy_dpo.beta=0.5")
    store = Store(folder / "results/store")
    many = len(store.manifests())
    assert "--delete acts" in call("gc", "toy.toml")
    assert len(store.manifests()) == many
    call("gc", "toy.toml", "--delete")
    assert len(Store(folder / "results/store").manifests()) == many - 4
    assert "nothing to do" in call("run", "toy.toml").replace("report:", "nothing to do")
    assert "Nothing to do" in call("plan", "toy.toml")


def test_list_shows_plugins_with_their_settings_and_owners():
    said = call("list", "methods", "--plugin", toy_study.__file__)
    assert re.search(r"toy_dpo +arXiv:0000.00000 +Prefer, in a toy's way", said)
    assert "beta = 0.1" in said
    assert "toy_help" in call("list", "suites", "--plugin", toy_study.__file__)


def test_a_new_method_is_a_working_plugin_with_a_test_and_overwrites_nothing(folder):
    said = call("new-method", "my_method", "--in", "plugins")
    assert "run_matrix.py check" in said
    study = STUDY.replace("[methods.toy_dpo]", "[methods.my_method]\nbeta = 0.3")
    (folder / "toy.toml").write_text(study)
    words = ["toy.toml", "--plugin", "plugins/my_method.py", "--all"]
    assert re.search(r"prefer-[0-9a-f]{12}  new", call("plan", *words))
    compile((folder / "plugins/test_my_method.py").read_text(), "test_my_method.py", "exec")
    before = snapshot(folder)
    assert "exists" in call("new-method", "my_method", "--in", "plugins", code=2)
    assert snapshot(folder) == before


def test_help_teaches_with_examples_and_exit_codes():
    said = call("--help")
    for expected in ("Examples", "run_matrix.py demo", "--set methods.dpo.beta=0.2", "130"):
        assert expected in said
    for command in ("run", "plan", "tune", "status", "report", "verify", "show", "why", "logs",
                    "list", "check", "new-method", "export", "gc"):  # fmt: skip
        assert re.search(rf"^ *{command} ", said, re.MULTILINE), command
        assert len(call(command, "--help").split()) > 10


def start(folder, *words, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "toy_commands.py"), *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(process, seconds=90):
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def wait_until_it_trains(folder, process):
    store = Store(folder / "results/store")
    id = Study.load("toy.toml").cells()[1].policy.id
    deadline = time.monotonic() + 90
    while not any(id[: len("toy_prefer-")] in name for name in live(store)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)


def live(store):
    from harness.claims import live_claims

    return live_claims(store.root / ".claims")


@pytest.mark.slow
@pytest.mark.parametrize("made", [1, 5, 9])
def test_a_run_killed_at_any_moment_and_run_again_has_the_bytes_of_one_that_was_not(folder, made):
    whole = ["run", "toy.toml", "--workers", "0", "--store", "whole", "--results", "one"]
    assert finish(start(folder, *whole))[0] == 0
    words = [
        "run",
        "toy.toml",
        "--workers",
        "0",
        "--store",
        "killed",
        "--results",
        "killed-results",
    ]
    process = start(folder, *words)
    while len(Store(folder / "killed").manifests()) < made and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=60)
    assert finish(start(folder, *words))[0] == 0
    payloads = [
        {id: manifest["payload"] for id, manifest in Store(folder / name).manifests().items()}
        for name in ("whole", "killed")
    ]
    assert payloads[0] == payloads[1]
    assert len(payloads[0]) == 12
    assert Store(folder / "killed").verify() == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_consistently_with_its_code_and_a_rerun_finishes(folder, number, code):
    waits = ["run", "toy.toml", "--workers", "2", "--set", "methods.toy_dpo.fault=wait"]
    process = start(folder, *waits)
    wait_until_it_trains(folder, process)
    process.send_signal(number)
    ended, said = finish(process)
    assert ended == code, said
    assert "run the same command again" in said
    store = Store(folder / "results/store")
    assert store.verify() == []
    assert live(store) == set()
    assert finish(start(folder, "run", "toy.toml"))[0] == 0


@pytest.mark.slow
def test_a_second_signal_stops_at_once_and_leaves_a_sound_store(folder):
    waits = ["run", "toy.toml", "--workers", "2", "--set", "methods.toy_dpo.fault=wait"]
    process = start(folder, *waits)
    wait_until_it_trains(folder, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    ended, said = finish(process, 30)
    assert ended == 130, said
    assert Store(folder / "results/store").verify() == []


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_own_cells(folder):
    ended, said = finish(start(folder, "run", "toy.toml", "--set", "methods.toy_dpo.fault=kill"))
    assert ended == 1, said
    assert "1 done, 1 failed" in said


REST = """
import sys, time
import toy_study
toy_study.install()
from harness.commands import main
try:
    main(["run", "toy.toml"])
except SystemExit as end:
    assert end.code in (0, None), end.code
print(time.process_time(), file=sys.stderr)  # CPU seconds: others may use the machine
heavy = {"torch", "transformers", "trl", "datasets", "pandas", "pyarrow", "rich.progress"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


def test_a_rerun_with_nothing_to_do_takes_under_a_second_without_torch_and_writes_nothing(folder):
    call("run", "toy.toml", "--workers", "0")
    before = snapshot(folder)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", REST],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert float(done.stderr.split()[-1]) < 2  # one on a core of its own, see test_plan.py
    assert snapshot(folder) == before


def test_without_a_terminal_progress_is_plain_lines(folder):
    said = call("run", "toy.toml", "--workers", "0")
    assert re.search(r"^\d\d:\d\d:\d\d toy_prefer-[0-9a-f]{12} made in 0.\d s", said, re.MULTILINE)
    assert "\x1b" not in said
    assert re.search(r"cells: 2 done \| artifacts: 12 of 12", said)
