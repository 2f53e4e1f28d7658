"""Air gap: a mirror filled from a hub on loopback, and a study that runs from it offline."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fake_hub
import pytest
from tiny import write_policy
from typer.testing import CliRunner

from evals.prompt_sets import SETS
from harness.commands import main
from harness.local import DIGESTS
from harness.mirror import Mirror
from harness.preflight import preflight
from harness.prepare import Preparing, ids_of, opened
from harness.row_files import rows_of
from harness.sources import Search, Wanted, fits, hub_place, searching
from harness.study import Study
from harness.study_file import InputError, Overrides, StudyError
from harness.study_sources import changes, inputs_of, lock_file, record, used

FIRST, SECOND, ROWS = "a" * 40, "c" * 40, "b" * 40
STUDY = f"""
schema = 1
name = "carried"
seeds = [0]

[bases.x]
hub = "org/tiny"
revision = "main"

[datasets.hub]
hub = "org/rows"
revision = "{ROWS}"
train = "data/train-*.jsonl"

[methods.sft]

[judge]
plugin = "contains"
word = "zero"

[evaluation]
suites = ["preference", "benchmark_safety"]
temperatures = [0.0]
max_new_tokens = 4

[evaluation.settings.benchmark_safety]
size = "small"
path = "copies"
max_new_tokens = 4
"""
SMOKE = Path(__file__).parents[1] / "evals" / "data" / "smoke.jsonl"


def rows(n: int, start: int = 0) -> bytes:
    """Return preference rows as lines of JSON."""
    lines = [
        {"prompt": f"question {k} of many", "chosen": "zero words", "rejected": "one"}
        for k in range(start, start + n)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def hub(tiny_policy_folder, monkeypatch):
    """Return a hub with a model, a dataset of two parts, and things that nobody asks for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with fake_hub.serving() as served:
        template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        served.add_folder("models", "org/tiny", FIRST, tiny_policy_folder)
        served.repositories["models/org/tiny"].commits[FIRST]["pytorch_model.bin"] = b"pickle"
        files = {"data/train-0.jsonl": rows(30), "data/train-1.jsonl": rows(30, 30)}
        served.add("datasets", "org/rows", ROWS, {**files, "big.jsonl": b"{}", "README.md": b"x"})
        yield served


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """Return a study whose benchmark rows lie beside it; the machine's own cache is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    file = tmp_path / "study" / "carried.toml"
    file.parent.mkdir()
    file.write_text(STUDY)
    smoke = [json.loads(line) for line in SMOKE.read_text().splitlines()]
    for name in ("xstest", "harmbench"):
        (file.parent / "copies" / name).mkdir(parents=True)
        own = [row for row in smoke if row["benchmark"] == name]
        text = "".join(json.dumps(row) + "\n" for row in own)
        (file.parent / "copies" / name / f"{name}.jsonl").write_text(text)
    return file


@contextmanager
def no_network():
    """Refuse every connection of this process while this lasts."""

    def refuse(*_):
        raise AssertionError("a socket was connected")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def prepared(file: Path, to: Path, hub, **options) -> tuple[Mirror, list[str]]:
    """Return the mirror that `prepare` fills from a hub, and what it said."""
    said: list[str] = []
    one = Preparing(str(file), opened(to), say=said.append, **options)
    one.run()
    return one.mirror, said


def carried(file: Path, mirror: Path) -> Study:
    """Return a study that reads from a mirror, as `--mirror` asks for it."""
    return Study.load(file, Overrides(settings=(f"mirror={json.dumps(str(mirror))}",)))


def cached(weights: Path, cache: Path, files: dict[str, bytes]) -> None:
    """Lay out the model and dataset as the hub's own client keeps them."""
    model = cache / "models--org--tiny" / "snapshots" / FIRST
    shutil.copytree(weights, model)
    for name, content in files.items():
        target = cache / "datasets--org--rows" / "snapshots" / ROWS / name
        blob = cache / "datasets--org--rows" / "blobs" / fake_hub.git_digest(content)
        for folder in (target.parent, blob.parent):
            folder.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        target.symlink_to(blob)


def test_a_study_planned_from_a_mirror_has_the_ids_of_one_planned_from_the_hubs_cache(
    file, hub, tiny_policy_folder, tmp_path, monkeypatch
):
    prepared(file, tmp_path / "mirror", hub)
    shutil.move(file.parent / "copies", tmp_path / "copies")
    with no_network():
        from_mirror = carried(file, tmp_path / "mirror")
        assert preflight(from_mirror) == []
        moved = shutil.copytree(tmp_path / "mirror", tmp_path / "elsewhere")
        assert ids_of(carried(file, moved)) == ids_of(from_mirror)
        cached(
            tiny_policy_folder,
            tmp_path / "empty",
            hub.repositories["datasets/org/rows"].commits[ROWS],
        )
        shutil.move(tmp_path / "copies", file.parent / "copies")
        online = Study.load(file)
        assert ids_of(online) == ids_of(from_mirror)
        assert used(online) == used(from_mirror)
        assert preflight(online) == []


def test_rows_are_read_from_the_hubs_cache_where_files_are_links_to_digests(
    file, hub, tiny_policy_folder, tmp_path
):
    files = hub.repositories["datasets/org/rows"].commits[ROWS]
    cached(tiny_policy_folder, tmp_path / "empty", files)
    file.write_text(STUDY.replace('"main"', f'"{FIRST}"'))
    study = Study.load(file)
    read = [Path(one.path) for one in inputs_of(study) if "train-" in one.path]
    assert all(path.is_symlink() for path in read)
    found = [row for path in read for _, row in rows_of(path)]
    assert found == [json.loads(line) for line in (rows(30) + rows(30, 30)).splitlines()]
    assert used(study)["org/rows/data/train-1.jsonl"]["revision"] == ROWS


@pytest.mark.slow
def test_a_study_runs_from_the_hubs_cache(file, hub, tiny_policy_folder, tmp_path):
    cached(
        tiny_policy_folder, tmp_path / "empty", hub.repositories["datasets/org/rows"].commits[ROWS]
    )
    file.write_text(STUDY.replace('"main"', f'"{FIRST}"'))
    line = ["run", str(file), "--store", str(tmp_path / "store"), "--results", str(tmp_path)]
    with no_network():
        made = CliRunner().invoke(main, [*line, "--workers", "0"])
    assert made.exit_code == 0, made.output
    assert "1 done" in made.output


def test_the_branches_of_a_shipped_study_are_pinned_where_one_works(
    file, hub, tiny_policy_folder, tmp_path, monkeypatch
):
    for module in ("study_file", "study_sources"):
        monkeypatch.setattr(f"harness.{module}.SHIPPED", file.parent)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    cached(
        tiny_policy_folder, tmp_path / "empty", hub.repositories["datasets/org/rows"].commits[ROWS]
    )
    with pytest.raises(StudyError, match=r"--set bases\.x\.revision=COMMIT"):
        Study.load("carried")
    pinned = Overrides(settings=(f"bases.x.revision={FIRST}",))
    prepared("carried", tmp_path / "mirror", hub)
    assert [path.name for path in work.iterdir()] == ["carried.lock"]
    assert not (file.parent / "carried.lock").exists()
    assert ids_of(Study.load("carried")) == ids_of(Study.load("carried", pinned))


def test_an_assistant_and_rows_of_a_cache_given_by_folder_are_carried_along(
    file, hub, tiny_policy_folder, tmp_path
):
    files = hub.repositories["datasets/org/rows"].commits[ROWS]
    cached(tiny_policy_folder, tmp_path / "empty", files)
    write_policy(file.parent / "critic", seed=1)
    snapshot = tmp_path / "empty" / "datasets--org--rows" / "snapshots" / ROWS
    by_folder = f'path = {json.dumps(str(snapshot))}\nassistant = "critic"\nreserved = 0.5'
    text = STUDY.replace(f'revision = "{ROWS}"', by_folder)
    file.write_text(text.replace('plugin = "contains"\nword = "zero"', 'plugin = "fitted"'))
    mirror, said = prepared(file, tmp_path / "mirror", hub)
    assert not [line for line in said if "is read" in line]
    read = mirror.kept["path critic@"].files
    assert {"config.json", "model.safetensors"} <= set(read)
    assert set(tree(mirror.copy_of("critic"))) == set(read)
    shutil.rmtree(file.parent / "critic")
    shutil.rmtree(tmp_path / "empty")
    assert preflight(carried(file, mirror.root)) == []


def test_what_is_read_and_no_path_names_is_a_problem_and_no_complete_mirror(
    file, hub, tmp_path, monkeypatch
):
    monkeypatch.setattr(Search, "place", lambda self, written: self.beside / written)
    with pytest.raises(StudyError, match=r"xstest.jsonl is read, and no `path`"):
        prepared(file, tmp_path / "mirror", hub)


def test_inputs_at_two_commits_are_recorded_as_two(file, hub, tmp_path):
    other = tmp_path / "other"
    write_policy(other, seed=1)
    hub.add_folder("models", "org/tiny", SECOND, other)
    base = f'[bases.y]\nhub = "org/tiny"\nrevision = "{FIRST}"\n\n[datasets.hub]'
    file.write_text(STUDY.replace("[datasets.hub]", base))
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    said = used(carried(file, mirror.root))
    assert said[f"org/tiny@{FIRST}"]["revision"] == FIRST
    assert said[f"org/tiny@{SECOND}"]["revision"] == SECOND
    assert said[f"org/tiny@{FIRST}"]["sha256"] != said[f"org/tiny@{SECOND}"]["sha256"]
    assert "org/tiny" not in said


def test_bytes_that_rot_without_a_trace_are_seen_though_digests_are_remembered(file, hub, tmp_path):
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    rotten = mirror.folder_of("model", "org/tiny", FIRST) / "model.safetensors"
    study = carried(file, mirror.root)
    before, stat = DIGESTS.of(rotten), rotten.stat()
    with rotten.open("r+b") as opened_:
        opened_.seek(stat.st_size - 1)
        opened_.write(bytes([rotten.read_bytes()[-1] ^ 1]))
    os.utime(rotten, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert DIGESTS.of(rotten) == before
    (problem,) = preflight(study)
    assert f"{rotten} has changed" in problem


def test_another_study_of_a_mirror_keeps_its_pins_and_its_files(
    file, hub, tiny_policy_folder, tmp_path
):
    hub.add_folder("models", "org/second", FIRST, tiny_policy_folder)
    first = file.read_text().replace("train-*", "train-0")
    file.write_text(first)
    other = file.with_name("other.toml")
    other.write_text(STUDY.replace("org/tiny", "org/second").replace('"carried"', '"other"'))
    prepared(other, tmp_path / "mirror", hub)
    lock_file(other).unlink()
    prepared(file, tmp_path / "mirror", hub)
    assert set(json.loads(lock_file(file).read_text())["commits"]) == {"model org/tiny@main"}
    mirror, _ = prepared(file, tmp_path / "mirror", hub, update=True)
    assert set(mirror.commits) == {"model org/tiny@main", "model org/second@main"}
    damaged = mirror.folder_of("model", "org/second", FIRST) / "config.json"
    damaged.write_text("{}")
    shared = mirror.folder_of("dataset", "org/rows", ROWS) / "data" / "train-1.jsonl"
    shared.unlink()
    mirror, said = prepared(file, tmp_path / "mirror", hub)
    assert damaged.read_text() == "{}"
    told = (
        f"{damaged} is not as mirror.json lists it; prepare the study that reads model org/second"
    )
    assert any(line.startswith(told) for line in said)
    assert shared.read_bytes() == rows(30, 30)
    assert any("config.json has changed" in line for line in preflight(carried(other, mirror.root)))
    prepared(other, tmp_path / "mirror", hub)
    assert preflight(carried(other, mirror.root)) == []
    assert preflight(carried(file, mirror.root)) == []


def test_only_what_is_read_is_fetched_once_and_the_manifest_has_its_digests(file, hub, tmp_path):
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    assert "pytorch_model.bin" not in hub.fetched
    assert "big.jsonl" not in hub.fetched
    assert len(hub.fetched) == len(set(hub.fetched))
    for one in mirror.kept.values():
        for path, sha256 in mirror.files(one):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    kinds = {(one.kind, one.name, one.licence) for one in mirror.kept.values()}
    assert kinds == {
        ("model", "org/tiny", "mit"),
        ("dataset", "org/rows", "mit"),
        ("path", "copies", "unknown"),
    }
    listed = {path for one in mirror.kept.values() for path, _ in mirror.files(one)}
    there = {path for path in mirror.root.rglob("*") if path.is_file()}
    assert there - listed == {mirror.root / "mirror.json"}
    assert not any(path.is_symlink() for path in there)
    hub.fetched.clear()
    prepared(file, tmp_path / "mirror", hub)
    assert hub.fetched == []


def test_a_prepare_that_was_cut_off_fetches_the_rest_alone(file, hub, tmp_path):
    rows_of = hub.repositories["datasets/org/rows"].commits[ROWS]
    hub.lies["data/train-1.jsonl"] = rows_of["data/train-1.jsonl"][:-5]
    with pytest.raises(StudyError, match=r"train-1\.jsonl"):
        prepared(file, tmp_path / "mirror", hub)
    with pytest.raises(StudyError, match="has no dataset org/rows"):
        carried(file, tmp_path / "mirror")  # not with the part of the rows that came
    hub.lies.clear()
    hub.fetched.clear()
    prepared(file, tmp_path / "mirror", hub)
    assert "data/train-1.jsonl" in hub.fetched
    assert not {"data/train-0.jsonl", "model.safetensors"} & set(hub.fetched)


def test_a_file_that_changed_in_a_mirror_stops_a_run_before_any_work_and_is_fetched_anew(
    file, hub, tmp_path
):
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    folder = mirror.folder_of("model", "org/tiny", FIRST)
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (folder / "tokenizer.json").rename(folder / "other.json")
    store = tmp_path / "store"
    line = ["run", str(file), "--mirror", str(mirror.root), "--store", str(store)]
    refused = CliRunner().invoke(main, [*line, "--results", str(tmp_path), "--workers", "0"])
    assert refused.exit_code == 2
    assert "model.safetensors has changed: sha256" in refused.output
    assert "tokenizer.json is missing, and mirror.json lists it" in refused.output
    assert "other.json is not in mirror.json" in refused.output
    assert not list(store.glob("*-*"))
    (folder / "other.json").unlink()
    hub.fetched.clear()
    prepared(file, mirror.root, hub)
    assert set(hub.fetched) == {"model.safetensors", "tokenizer.json"}
    assert preflight(carried(file, mirror.root)) == []


def test_a_damaged_file_of_the_hubs_cache_is_seen_by_its_name(
    file, hub, tiny_policy_folder, tmp_path
):
    commits = hub.repositories["datasets/org/rows"].commits[ROWS]
    cached(tiny_policy_folder, tmp_path / "empty", commits)
    file.write_text(STUDY.replace('"main"', f'"{FIRST}"'))
    (blob,) = (tmp_path / "empty").rglob(git_digest(commits["data/train-0.jsonl"]))
    blob.write_bytes(rows(29))
    (problem,) = preflight(Study.load(file))
    assert f"{blob} is damaged" in problem


def git_digest(content: bytes) -> str:
    """Return what `git hash-object` prints: the name of a file in the hub's cache."""
    told = subprocess.run(
        ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True
    )
    return told.stdout.decode().strip()


def test_everything_that_is_missing_is_said_at_once_with_the_table_that_names_it(file):
    file.write_text(STUDY.replace('"main"', f'"{FIRST}"'))
    shutil.rmtree(file.parent / "copies" / "harmbench")
    with pytest.raises(StudyError) as refused:
        Study.load(file)
    said = refused.value.problems
    assert [problem.split(":")[0] for problem in said] == [
        "bases.x", "datasets.hub", "evaluation.suites.benchmark_safety",
    ]  # fmt: skip
    assert f"hf download org/tiny --revision {FIRST}" in said[0]
    assert f"hf download org/rows --repo-type dataset --revision {ROWS}" in said[1]
    assert "'harmbench' is not in" in said[2]


def test_what_cannot_be_had_is_said_at_once_and_the_rest_is_kept(file, hub, tmp_path):
    hub.repositories["datasets/org/rows"].gated = True
    shutil.rmtree(file.parent / "copies" / "harmbench")
    with pytest.raises(StudyError) as refused:
        prepared(file, tmp_path / "mirror", hub)
    rows_, benchmark = refused.value.problems
    assert "dataset org/rows@bbbb" in rows_
    assert "accept its terms there" in rows_
    assert "download ../harmbench" not in benchmark
    assert "harmbench_behaviors_text_test.csv from https://github.com" in benchmark
    assert [one.name for one in Mirror.open(tmp_path / "mirror").kept.values()] == ["org/tiny"]


def test_a_branch_is_pinned_to_a_commit_that_later_runs_keep_until_it_is_looked_up_anew(
    file, hub, tiny_policy_folder, tmp_path
):
    with pytest.raises(StudyError, match=r"bases.x: .*needs revision.*prepare"):
        Study.load(file)
    prepared(file, tmp_path / "mirror", hub)
    pinned = json.loads(lock_file(file).read_text())["commits"]
    assert pinned == {"model org/tiny@main": FIRST}
    first = carried(file, tmp_path / "mirror")
    record(first, tmp_path)
    other = tmp_path / "other"
    write_policy(other, seed=1)
    hub.add_folder("models", "org/tiny", SECOND, other)
    prepared(file, tmp_path / "mirror", hub)
    assert ids_of(carried(file, tmp_path / "mirror")) == ids_of(first)
    assert changes(carried(file, tmp_path / "mirror"), tmp_path) == []
    _, said = prepared(file, tmp_path / "mirror", hub, update=True)
    assert f"model org/tiny@main moved from {FIRST[:12]} to {SECOND[:12]}" in said
    assert json.loads(lock_file(file).read_text())["commits"] == {"model org/tiny@main": SECOND}
    (line,) = changes(carried(file, tmp_path / "mirror"), tmp_path)
    assert line.startswith(
        f"org/tiny was {FIRST[:12]} when this study ran last and is {SECOND[:12]}"
    )


def test_a_second_study_adds_files_of_a_dataset_that_the_first_did_not_read(file, hub, tmp_path):
    text = file.read_text()
    file.write_text(text.replace("train-*", "train-0"))
    prepared(file, tmp_path / "mirror", hub)
    file.write_text(text)
    with pytest.raises(StudyError, match=r"no file data/train-\*.jsonl"):
        carried(file, tmp_path / "mirror")
    prepared(file, tmp_path / "mirror", hub)
    assert hub.fetched.count("data/train-0.jsonl") == 1
    assert preflight(carried(file, tmp_path / "mirror")) == []


def test_weights_in_a_pickle_are_refused_before_anything_is_fetched(file, hub, tmp_path):
    files = hub.repositories["models/org/tiny"].commits[FIRST]
    del files["model.safetensors"]
    with pytest.raises(StudyError, match=r"weights in pytorch_model.bin.*save_pretrained"):
        prepared(file, tmp_path / "mirror", hub)
    assert "config.json" not in hub.fetched


@pytest.mark.parametrize("name", ["../../out.json", "/abs.json", "a/../../b.json", "..\\b.json"])
def test_a_hub_that_names_files_outside_is_refused_and_nothing_is_written(
    file, hub, tmp_path, name
):
    hub.repositories["datasets/org/rows"].commits[ROWS][name] = b"x"
    file.write_text(STUDY.replace("data/train-*.jsonl", "**/*.json*"))
    with pytest.raises(StudyError, match="leads out of that folder"):
        prepared(file, tmp_path / "mirror", hub)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("out.json", "b.json")]


@pytest.mark.parametrize(
    "change",
    [
        {"kept": [{"kind": "model", "name": "a", "revision": "b", "folder": "../up", "licence": "",
                   "patterns": [], "files": {}}]},
        {"kept": [{"kind": "model", "name": "a", "revision": "b", "folder": "m", "licence": "",
                   "patterns": [], "files": {"/etc/hosts": {"size": 1, "sha256": ""}}}]},
        {"paths": {"copies": "../../elsewhere"}},
        {"kept": "nothing"},
    ],
)  # fmt: skip
def test_a_manifest_that_leads_out_or_is_torn_is_refused(tmp_path, change):
    said = {"schema": 1, "kept": [], "commits": {}, "paths": {}, **change}
    (tmp_path / "mirror.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"leads out|not what `prepare` writes"):
        Mirror.open(tmp_path)


@pytest.mark.parametrize("revision", ["../../x", "a/../b", "/etc", "a\nb", "main\0", "-x"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_revision_never_becomes_a_path_unchecked(tmp_path, kind, revision):
    key = Wanted(kind, "org/x", revision).key
    refused = pytest.raises(ValueError, match="40 hexadecimal digits")
    with searching(Search(Mirror(tmp_path), {key: "d" * 40})), refused:
        hub_place(kind, "org/x", revision)
    with searching(Search(commits={Wanted(kind, "org/x", "main").key: "../../x"})), refused:
        hub_place(kind, "org/x", "main")


@pytest.mark.parametrize("name", ["../x", "a/../b", "a..b/c", "a--b/c", "a/b\n", "a/b/c", "."])
def test_a_name_never_becomes_a_path_unchecked(name):
    with pytest.raises(ValueError, match="write the name that the hub has"):
        hub_place("dataset", name, "d" * 40)


def test_a_mirror_lies_in_a_folder_of_its_own_and_outside_of_the_store(tmp_path):
    (tmp_path / "store" / ".claims").mkdir(parents=True)
    with pytest.raises(InputError, match="lies in the store"):
        opened(tmp_path / "store" / "mirror")
    with pytest.raises(InputError, match="holds other things"):
        opened(tmp_path)
    opened(tmp_path / "mirror")
    opened(tmp_path / "mirror")


def test_patterns_find_in_a_listing_what_they_find_in_a_folder(tmp_path):
    files = ["a.jsonl", "data/a.jsonl", "data/x/a.jsonl", "data/x/train.jsonl.gz", "b.csv"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("*.jsonl", "data/*.jsonl*", "data/*/train.jsonl*", "data/x/a.jsonl", "*/*"):
        found = {str(f.relative_to(tmp_path)) for f in tmp_path.glob(pattern) if f.is_file()}
        assert {name for name in files if fits(name, pattern)} == found


def test_benchmarks_that_lack_are_fetched_to_the_folder_that_the_study_names(
    file, hub, tmp_path, monkeypatch
):
    copies = file.parent / "copies"
    source = tmp_path / "xstest"
    source.mkdir()
    (source / "train.jsonl").write_bytes((copies / "xstest" / "xstest.jsonl").read_bytes())
    monkeypatch.setitem(SETS, "xstest", replace(SETS["xstest"], hub=str(source)))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    shutil.rmtree(copies / "xstest")
    before = tree(copies)
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    assert tree(copies) == before
    assert mirror.kept["path copies@"].licence == "CC BY 4.0"
    shutil.rmtree(copies)
    with no_network():
        study = carried(file, mirror.root)
        assert preflight(study) == []
    names = [name for name in used(study) if name.startswith("copies/")]
    assert names == ["copies/harmbench/harmbench.jsonl", "copies/xstest/xstest.jsonl"]


def test_a_judge_of_the_hub_is_fetched_and_is_the_same_as_in_a_folder(
    file, hub, tiny_policy_folder, tmp_path
):
    by_name = f'plugin = "guard"\nhub = "org/tiny"\nrevision = "{FIRST}"\nform = "questions"'
    contains = 'plugin = "contains"\nword = "zero"'
    file.write_text(STUDY.replace(contains, by_name))
    prepared(file, tmp_path / "mirror", hub)
    from_mirror = carried(file, tmp_path / "mirror")
    in_folder = by_name.replace(
        f'hub = "org/tiny"\nrevision = "{FIRST}"', f"path = {json.dumps(str(tiny_policy_folder))}"
    )
    file.write_text(STUDY.replace(contains, in_folder))
    assert ids_of(carried(file, tmp_path / "mirror")) == ids_of(from_mirror)
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    copy = mirror.copy_of(str(tiny_policy_folder))
    assert tree(copy) == tree(tiny_policy_folder)
    assert ids_of(carried(file, mirror.root)) == ids_of(from_mirror)
    assert preflight(carried(file, mirror.root)) == []
    for half in ('path = "copies"\n' + by_name, by_name.replace('hub = "org/tiny"\n', "")):
        file.write_text(STUDY.replace(contains, half))
        with pytest.raises(StudyError, match=r"judge: (hub and path both|revision is a commit)"):
            carried(file, mirror.root)


def test_removing_what_no_study_needs_leaves_mirrors_alone(file, hub, tmp_path):
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    before = tree(mirror.root)
    line = ["gc", str(file), "--delete", "--mirror", str(mirror.root)]
    done = CliRunner().invoke(main, [*line, "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    assert tree(mirror.root) == before


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_a_study_runs_from_a_mirror_with_every_socket_blocked(file, hub, tmp_path):
    mirror, _ = prepared(file, tmp_path / "mirror", hub)
    line = ["run", str(file), "--mirror", str(mirror.root), "--store", str(tmp_path / "store")]
    with no_network():
        made = CliRunner().invoke(main, [*line, "--results", str(tmp_path), "--workers", "0"])
    assert made.exit_code == 0, made.output
    assert "1 done" in made.output
    said = json.loads((tmp_path / "carried" / "inputs.json").read_text())
    assert said["org/tiny"]["revision"] == FIRST
    assert said["org/rows/data/train-0.jsonl"]["revision"] == ROWS
