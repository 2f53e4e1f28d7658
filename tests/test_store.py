"""The store keeps what was committed, byte by byte, under its own root, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import toy_stages as toys

from harness import disk
from harness.claims import Superseded
from harness.closure import code_digest
from harness.draft import MANIFEST, ContractBroken
from harness.run import run
from harness.store import StaleArtifact, Store

TOYS = Path(toys.__file__)
ONE, TWO = toys.source(number=1), toys.source(number=2)
THREE = toys.add(ONE, TWO)


def made_in(root):
    """Return a store in which THREE and its inputs have been made, in this process."""
    store = Store(root)
    outcomes = run([THREE], store, workers=0, plugins=[TOYS])
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    return store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return made_in(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture
def store(template, tmp_path):
    """A copy of a finished store, to be damaged."""
    shutil.copytree(template.root, tmp_path / "store", symlinks=True)
    return Store(tmp_path / "store")


def attempt(store, artifact=ONE):
    """Return a claim and a fresh attempt at an artifact."""
    claim = store.claims().take(artifact.id)
    return claim, store.begin(claim)


def head(artifact=ONE):
    return {"id": artifact.id, "inputs": {}, "counters": {}, "seconds": 0.0}


def test_a_manifest_says_what_was_made_from_what_and_at_what_cost(store):
    manifest = store.manifest(THREE.id)
    assert manifest["recipe"] == THREE.recipe.to_json()
    assert manifest["inputs"] == {a.id: store.manifest(a.id)["payload"] for a in (ONE, TWO)}
    file = store.path(THREE.id) / "number.json"
    assert manifest["files"] == {
        "number.json": {"size": file.stat().st_size, "sha256": disk.digest(file)[1]}
    }
    assert manifest["kind"] == "Toy"
    assert manifest["numerics"]["device"] == "cpu"
    assert manifest["peak_memory"] > 2**20
    assert store.manifest(ONE.id)["counters"] == {"numbers_written": 1}
    assert manifest["code"] == code_digest(THREE.recipe.stage)


def test_files_in_folders_of_an_artifact_are_kept_and_digested(store):
    assert set(store.manifest(ONE.id)["files"]) == {"nested/note.txt", "number.json"}


def test_contains_open_and_manifests_agree(store):
    assert THREE in store
    assert THREE.id in store
    assert toys.source(number=9) not in store
    assert "number" not in store.manifests()
    assert set(store.manifests()) == {ONE.id, TWO.id, THREE.id}
    assert store.open(THREE).number == 3
    assert store.verify() == []


def test_looking_at_a_store_that_is_not_there_makes_nothing(tmp_path):
    store = Store(tmp_path / "absent")
    assert THREE not in store
    assert store.manifests() == {}
    assert store.failure(THREE.id) is None
    assert not store.claimed(THREE.id)
    assert store.verify() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "unlink", "add", "empty"])
@pytest.mark.parametrize("name", ["number.json", "nested/note.txt", MANIFEST])
def test_any_damage_to_a_committed_file_is_seen_when_it_is_read(store, name, damage):
    file = store.path(ONE.id) / name
    data = file.read_bytes()
    if damage == "add":
        file.with_name("extra").write_text("x")
    elif damage == "unlink":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-2], "empty": b"", "flip": b"#" + data[1:]}[damage])
    with pytest.raises(StaleArtifact, match=ONE.id):
        Store(store.root).open(ONE)
    assert {problem.id for problem in store.verify()} >= {ONE.id}


def test_every_flipped_byte_of_an_artifact_is_seen_or_changes_nothing(store):
    folder = store.path(ONE.id)
    whole = store.manifest(ONE.id)
    trials = 0
    for file in (folder / "number.json", folder / "nested" / "note.txt", folder / MANIFEST):
        data = file.read_bytes()
        for place in range(0, len(data), 3):
            file.write_bytes(data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :])
            fresh = Store(store.root)
            assert fresh.problems(ONE.id) or fresh.manifest(ONE.id) == whole, (file, place)
            trials += 1
        file.write_bytes(data)
    print(f"{trials} flipped bytes")
    assert Store(store.root).problems(ONE.id) == []


def test_an_artifact_made_from_other_bytes_than_its_input_has_now_is_stale(store):
    claim, folder = attempt(store, ONE)
    shutil.rmtree(store.path(ONE.id))
    (folder / "number.json").write_text("5")
    store.commit(folder, head(), claim.guard)
    assert ONE in store
    assert THREE not in store
    assert "other bytes" in store.doubts(THREE.id)[0]
    assert "other bytes" in str(store.verify([THREE.id])[0])


@pytest.mark.parametrize(
    "id",
    [
        "../../x",
        "/etc/passwd",
        "source-13b85daf6652\0",
        "con",
        "a" * 300,
        "ѕource-13b85daf6652",
        "%2e%2e",
        "source#1",
        "source-13b85daf6652/..",
        ".drafts",
        "",
        "source-13B85DAF6652",
    ],
)
def test_what_is_no_artifact_id_never_becomes_a_path(tmp_path, id):
    store = Store(tmp_path)
    for look in (store.path, store.log, store.manifest, store.failure, store.remove):
        with pytest.raises(ValueError, match="no artifact id"):
            look(id)


@pytest.mark.parametrize("place", [".drafts", ".claims", ".failed", ".quarantine", "logs"])
def test_a_link_planted_for_a_folder_of_the_store_is_refused(tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "store"
    root.mkdir()
    (root / place).symlink_to(outside)
    with pytest.raises(OSError, match="in the way"):
        run([ONE], Store(root), workers=0, plugins=[TOYS])
    assert list(outside.iterdir()) == []


def test_links_planted_for_an_artifact_its_draft_and_its_log_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "log").write_text("before")
    store = Store(tmp_path / "store")
    store.claims()
    store.path(ONE.id).symlink_to(outside)
    (store.root / ".drafts" / TWO.id).symlink_to(outside)
    store.log(THREE.id).symlink_to(outside / "log")
    other = toys.source(number=7)
    outcomes = run([THREE, other], store, workers=1, plugins=[TOYS])
    assert sorted(entry.name for entry in outside.iterdir()) == ["log"]
    assert (outside / "log").read_text() == "before"
    assert outcomes[ONE.id].state == outcomes[other.id].state == "done"
    assert not store.path(ONE.id).is_symlink()
    assert "in the way" in outcomes[TWO.id].reason
    assert outcomes[THREE.id].state == "blocked"


def test_commit_refuses_links_foreign_manifests_and_nothing(tmp_path):
    store = Store(tmp_path)
    for number, (spoil, message) in enumerate(
        [
            (lambda folder: None, "wrote no file"),
            (lambda folder: (folder / "l").symlink_to("/etc/hostname"), "not a plain file"),
            (lambda folder: (folder / "d").symlink_to("/etc"), "not a plain file"),
            (lambda folder: os.mkfifo(folder / "pipe"), "not a plain file"),
            (lambda folder: (folder / MANIFEST).write_text("{}"), "the harness's"),
        ]
    ):
        artifact = toys.source(number=number)
        claim, folder = attempt(store, artifact)
        spoil(folder)
        with pytest.raises(ContractBroken, match=message):
            store.commit(folder, head(artifact), claim.guard)
        assert artifact not in store


def test_the_second_of_two_writers_commits_nothing(tmp_path):
    store = Store(tmp_path)
    claim, folder = attempt(store)
    (folder / "number.json").write_text("1")
    late = store.root / ".drafts" / "late"
    shutil.copytree(folder, late)
    (late / "number.json").write_text("2")
    store.commit(folder, head(), claim.guard)
    with pytest.raises(Superseded):
        store.commit(late, head(), lambda: None)
    assert store.open(ONE).number == 1


def test_a_failed_rename_onto_a_full_folder_is_the_fence(tmp_path, monkeypatch):
    store = Store(tmp_path)
    claim, folder = attempt(store)
    (folder / "number.json").write_text("1")

    def other_run_is_first(path):
        shutil.copytree(folder, store.path(ONE.id))
        monkeypatch.setattr(disk, "sync_folder", lambda path: None)

    monkeypatch.setattr(Store, "__contains__", lambda self, id: False)
    monkeypatch.setattr(Store, "quarantine", lambda self, path, reason: path)
    monkeypatch.setattr(disk, "sync_folder", other_run_is_first)
    with pytest.raises(Superseded, match="first"):
        store.commit(folder, head(), claim.guard)


def test_a_guard_that_raises_stops_the_commit(tmp_path):
    store = Store(tmp_path)
    _, folder = attempt(store)
    (folder / "number.json").write_text("1")

    def guard():
        raise Superseded("taken over")

    with pytest.raises(Superseded):
        store.commit(folder, head(), guard)
    assert not store.path(ONE.id).exists()


def test_remove_leaves_nothing_and_refuses_what_is_being_made(store):
    claims = store.claims()
    claim = claims.take(THREE.id)
    with pytest.raises(RuntimeError, match="being made"):
        store.remove(THREE.id)
    claims.release(claim)
    claims.close()
    store.log(THREE.id).write_text("said")
    store.remove(THREE.id)
    assert THREE not in store
    left = [path for path in store.root.rglob("*") if THREE.id in path.name]
    assert left == []


def test_a_torn_manifest_costs_one_artifact_and_never_the_store(store):
    (store.path(TWO.id) / MANIFEST).write_text('{"id": "sou')
    fresh = Store(store.root)
    assert set(fresh.manifests()) == {ONE.id, THREE.id}
    assert TWO not in fresh
    assert [problem.id for problem in fresh.verify()] == [TWO.id]


def test_a_sealed_record_is_read_back_and_an_altered_one_is_not(tmp_path):
    file = tmp_path / "record.json"
    record = {"number": 1.5, "text": "ü", "list": [1, None]}
    file.write_bytes(disk.sealed(record))
    assert disk.unsealed(file) == record
    altered = json.loads(file.read_text())
    altered["number"] = 2.5
    file.write_text(json.dumps(altered))
    assert disk.unsealed(file) is None
    assert disk.unsealed(tmp_path / "absent") is None


def test_equal_files_have_equal_payloads_and_times_do_not_enter(store, tmp_path):
    other = made_in(tmp_path / "other")
    for artifact in (ONE, TWO, THREE):
        assert other.manifest(artifact.id)["payload"] == store.manifest(artifact.id)["payload"]
    assert store.manifest(ONE.id)["payload"] != store.manifest(TWO.id)["payload"]


def test_reading_thousands_of_manifests_takes_less_than_a_second(tmp_path):

    store = Store(tmp_path)
    for number in range(2000):
        id = f"source-{number:012x}"
        (tmp_path / id).mkdir()
        record = {"id": id, "files": {}, "inputs": {}, "payload": "", "counters": {}}
        (tmp_path / id / MANIFEST).write_bytes(disk.sealed(record))
    began = time.process_time()
    assert len(store.manifests()) == 2000
    assert time.process_time() - began < 1.0
