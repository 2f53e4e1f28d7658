"""Who holds an artifact, how death is told, and why nothing is ever unlocked by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import claims as claims_module
from harness.claims import Claims, Superseded, live_claims, started_at, this_host

ID = "source-0123456789ab"


@pytest.fixture
def run(tmp_path):
    """Return a maker of runs on one folder; their hearts are stopped at the end."""
    folder = tmp_path / ".claims"
    folder.mkdir()
    runs = []

    def start():
        runs.append(Claims(folder))
        return runs[-1]

    yield start
    for claims in runs:
        claims.close()


def write_claim(folder, generation=1, **holder):
    said = {"nonce": "n", "run": "r", "host": "elsewhere", "pid": 1, "started": "1", **holder}
    (folder / f"{ID}.{generation}").write_text(json.dumps(said))


def short_lived():
    """Return the process id of a process that has ended, and when it had started."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = started_at(child.pid)
    child.communicate(b"\n")
    return child.pid, started


def test_only_one_of_many_runs_gets_a_claim(run):
    runs = [run() for _ in range(8)]
    got, gate = [], threading.Barrier(8)

    def grab(claims):
        gate.wait()
        got.append(claims.take(ID))

    threads = [threading.Thread(target=grab, args=(claims,)) for claims in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in got) == 1


def test_a_released_claim_can_be_taken_again_and_leaves_no_file(run):
    first, second = run(), run()
    claim = first.take(ID)
    assert second.take(ID) is None
    first.release(claim)
    again = second.take(ID)
    assert again is not None
    second.release(again)
    assert [path.name for path in first.folder.iterdir() if path.name.startswith("source")] == []


def test_a_holder_on_this_host_that_is_gone_is_dead_at_once(run):
    claims = run()
    pid, started = short_lived()
    write_claim(claims.folder, host=this_host(), pid=pid, started=started)
    assert claims.take(ID).generation == 2


def test_a_reused_process_id_does_not_keep_a_dead_holder_alive(run):
    claims = run()
    write_claim(claims.folder, host=this_host(), pid=os.getpid(), started="1")
    assert claims.take(ID) is not None


def test_a_sleeping_holder_on_this_host_is_never_robbed(run, monkeypatch):
    claims = run()
    monkeypatch.setattr(claims_module, "EXPIRY", 0.05)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        child.send_signal(signal.SIGSTOP)
        started = started_at(child.pid)
        write_claim(claims.folder, host=this_host(), pid=child.pid, started=started)
        for _ in range(3):
            assert claims.take(ID) is None
            time.sleep(0.05)
    finally:
        child.kill()
        child.communicate()


def test_a_holder_elsewhere_lives_while_its_counter_moves_and_dies_when_it_stands(run, monkeypatch):
    claims = run()
    monkeypatch.setattr(claims_module, "EXPIRY", 0.2)
    write_claim(claims.folder)
    beat = claims.folder / "beat-r"
    for count in range(6):
        beat.write_text(str(count))
        assert claims.take(ID) is None
        time.sleep(0.08)
    time.sleep(0.25)
    assert claims.take(ID) is not None


@pytest.mark.parametrize("jump", [10.0**9, -(10.0**9)])
def test_a_jump_of_the_wall_clock_expires_nobody(run, monkeypatch, jump):
    claims = run()
    write_claim(claims.folder)
    os.utime(claims.folder / f"{ID}.1", (0, 0))
    assert claims.take(ID) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert claims.take(ID) is None


def test_another_boot_of_the_same_host_is_believed_by_its_counter_alone(run, monkeypatch):
    claims = run()
    monkeypatch.setattr(claims_module, "EXPIRY", 0.1)
    host, _, rest = this_host().partition("/")
    pid, started = os.getpid(), started_at(os.getpid())
    write_claim(claims.folder, host=f"{host}/other-boot/{rest}", pid=pid, started=started)
    assert claims.take(ID) is None
    time.sleep(0.15)
    assert claims.take(ID) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 1}', "\x00\xff"])
def test_a_torn_claim_expires_like_any_other(run, monkeypatch, text):
    claims = run()
    monkeypatch.setattr(claims_module, "EXPIRY", 0.1)
    (claims.folder / f"{ID}.1").write_text(text)
    assert claims.take(ID) is None
    time.sleep(0.15)
    assert claims.take(ID) is not None


def test_two_runs_that_see_the_same_death_take_over_once(run):
    pid, started = short_lived()
    runs = [run() for _ in range(6)]
    write_claim(runs[0].folder, host=this_host(), pid=pid, started=started)
    got, gate = [], threading.Barrier(len(runs))

    def grab(claims):
        gate.wait()
        got.append(claims.take(ID))

    threads = [threading.Thread(target=grab, args=(claims,)) for claims in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in got) == 1


def test_a_late_writer_finds_itself_superseded(run, monkeypatch):
    first, second = run(), run()
    late = first.take(ID)
    late.guard()
    monkeypatch.setattr(second, "is_dead", lambda path: True)
    heir = second.take(ID)
    with pytest.raises(Superseded, match="taken over"):
        late.guard()
    heir.guard()
    second.release(heir)
    with pytest.raises(Superseded):
        late.guard()
    third = run().take(ID)
    assert third.generation == late.generation
    with pytest.raises(Superseded):
        late.guard()


def test_a_late_release_takes_nothing_from_the_heir(run, monkeypatch):
    first, second = run(), run()
    late = first.take(ID)
    monkeypatch.setattr(second, "is_dead", lambda path: True)
    heir = second.take(ID)
    first.release(late)
    heir.guard()
    assert run().take(ID) is None


def test_sweep_removes_what_dead_runs_here_left_and_nothing_else(run):
    claims = run()
    alive = claims.take("add-0123456789ab")
    pid, started = short_lived()
    write_claim(claims.folder, host=this_host(), pid=pid, started=started)
    dead = {"count": 3, "run": "r", "host": this_host(), "pid": pid, "started": started}
    (claims.folder / "beat-r").write_text(json.dumps(dead))
    (claims.folder / "beat-elsewhere").write_text(json.dumps({**dead, "host": "elsewhere"}))
    claims.sweep()
    names = {path.name for path in claims.folder.iterdir()}
    assert names == {alive.path.name, f"beat-{claims.run}", "beat-elsewhere"}
    assert live_claims(claims.folder) == {"add-0123456789ab"}


def test_a_heart_beats_while_the_run_lives_and_leaves_nothing_behind(run, monkeypatch):
    monkeypatch.setattr(claims_module, "BEAT_EVERY", 0.02)
    claims = run()
    claim = claims.take(ID)
    beat = claims.folder / f"beat-{claims.run}"
    first = json.loads(beat.read_text())["count"]
    time.sleep(0.3)
    assert json.loads(beat.read_text())["count"] > first
    claims.release(claim)
    claims.close()
    assert list(claims.folder.iterdir()) == []


def test_the_start_of_a_process_is_known_while_it_lives():
    assert started_at(os.getpid()) == started_at(os.getpid()) != ""
    pid, _ = short_lived()
    assert started_at(pid) == ""
    assert this_host() == this_host() != ""
    assert Path("/proc/self/stat").exists() == sys.platform.startswith("linux")
