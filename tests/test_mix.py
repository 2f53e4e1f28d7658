"""Mixtures of pairs: exact counts, nothing lost and nothing twice."""

from __future__ import annotations

import pytest

from harness.artifacts import Preferences, write_rows
from harness.draft import Draft
from harness.stages.mix import mix


def rows_named(folder, name, n):
    (folder / name).mkdir()
    write_rows(Draft(folder / name), [{"pair_id": f"{name}{i}"} for i in range(n)])
    return Preferences(name, path=folder / name)


def mixed(folder, share, seed=0, n=90, others=200):
    folder.mkdir()
    ours, theirs = rows_named(folder, "a", n), rows_named(folder, "b", others)
    (folder / "out").mkdir()
    mix.body(Draft(folder / "out"), ours, theirs, share=share, seed=seed)
    return [row["pair_id"] for row in Preferences("out", path=folder / "out")]


@pytest.mark.parametrize(("share", "drawn"), [(0.1, 10), (0.5, 90)])
def test_the_others_are_exactly_their_share_and_none_is_drawn_twice(tmp_path, share, drawn):
    found = mixed(tmp_path / "x", share)
    assert found[:90] == [f"a{i}" for i in range(90)]
    assert len(found) == len(set(found)) == 90 + drawn
    assert all(name.startswith("b") for name in found[90:])


def test_the_seed_decides_which_are_drawn(tmp_path):
    one, again, other = (
        mixed(tmp_path / name, 0.1, seed) for name, seed in (("1", 0), ("2", 0), ("3", 1))
    )
    assert one == again != other


def test_a_share_that_the_rows_cannot_fill_is_refused(tmp_path):
    with pytest.raises(ValueError, match="takes 90 others, and b has 89"):
        mixed(tmp_path / "x", 0.5, others=89)
