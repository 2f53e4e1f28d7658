"""When a stage should save: now and then, cheaply, and never where nothing keeps checkpoints."""

from __future__ import annotations

import time

import pytest

import harness.draft
from harness.draft import SAVE_SHARE, Checkpoints, Draft, Interrupted


def resumable(folder):
    folder.joinpath("out").mkdir()
    kept = Checkpoints(folder / "kept", lambda: None, lambda aside, _: aside)
    out = Draft(folder / "out", checkpoints=kept)
    out.resume()
    return out


def test_nothing_is_due_before_its_time_and_something_after_it(tmp_path, monkeypatch):
    out = resumable(tmp_path)
    assert not out.save_is_due()
    monkeypatch.setattr(harness.draft, "SAVE_SECONDS", 0.0)
    assert out.save_is_due()


def test_a_draft_without_a_store_never_asks_to_be_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.draft, "SAVE_SECONDS", 0.0)
    out = Draft(tmp_path)
    assert out.resume() is None
    assert not out.save_is_due()
    out.stopping = True
    assert not out.save_is_due()
    with pytest.raises(Interrupted, match="keeps no checkpoints"):
        out.progress("train", 1, 2)


def test_a_dear_checkpoint_waits_until_it_is_a_small_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.draft, "SAVE_SECONDS", 0.0)
    out = resumable(tmp_path)
    out.save(1, lambda folder: time.sleep(0.05))
    assert SAVE_SHARE <= 0.05
    assert not out.save_is_due()  # for 0.05 / SAVE_SHARE seconds
    monkeypatch.setattr(harness.draft, "SAVE_SHARE", float("inf"))
    assert out.save_is_due()


def test_a_run_that_stops_saves_at_once(tmp_path):
    out = resumable(tmp_path)
    out.stopping = True
    assert out.save_is_due()
    with pytest.raises(Interrupted, match="after the checkpoint of step 3"):
        out.save(3, lambda folder: None)
