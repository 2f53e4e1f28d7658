"""A reader of a run sees the cells by state, what is running and how fast, and the time left."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import toy_study
from rich.console import Console

from harness import progress
from harness.progress import Bars, Lines, Tally, watch
from harness.run import Blocked, Failed, Finished, Progressed, Started


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now

    def strftime(self, form):
        return "12:00:00"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def plan():
    """Return a plan of two cells: each needs its own finetune, both one base."""
    base = toy_study.toy_base(label="tiny")
    data = toy_study.toy_demonstrations(n=1, seed=0)
    cells = [
        SimpleNamespace(name=f"cell{seed}", targets=[toy_study.toy_finetune(base, data, seed=seed)])
        for seed in (0, 1)
    ]
    ids = [cell.targets[0].id for cell in cells]
    seconds = {base.id: 10.0, data.id: 2.0, ids[0]: 30.0, ids[1]: None}
    made = [
        SimpleNamespace(artifact=SimpleNamespace(id=id), seconds=s) for id, s in seconds.items()
    ]
    return SimpleNamespace(cells=cells, to_make=made, ids=[base.id, data.id, *ids])


def test_cells_are_counted_by_state(plan, clock):
    tally = Tally(plan, workers=1)
    base, data, first, second = plan.ids
    assert tally.cells() == {"pending": 2}
    tally.note(Started(base))
    assert tally.cells() == {"running": 2}
    tally.note(Finished(base, 9.0, {}))
    tally.note(Finished(data, 1.0, {}))
    tally.note(Finished(first, 20.0, {}))
    assert tally.cells() == {"done": 1, "pending": 1}
    tally.note(Failed(second, "oom", "no room", "", "here:1"))
    assert tally.cells() == {"done": 1, "failed": 1}


def test_a_cell_is_blocked_when_only_its_inputs_failed(plan, clock):
    tally = Tally(plan, workers=1)
    for id in plan.ids[2:]:
        tally.note(Blocked(id, f"{plan.ids[0]}: failed"))
    assert tally.cells() == {"blocked": 2}


def test_time_left_is_unknown_until_something_of_unknown_cost_has_a_guess(plan, clock):
    tally = Tally(plan, workers=2)
    assert tally.seconds_left() is None
    assert "time left unknown" in tally.line()
    tally.note(Started(plan.ids[0]))
    clock.now += 8
    tally.note(Finished(plan.ids[0], 8.0, {}))
    # What is left: 2 s and 30 s by past runs, 8 s guessed from this run's mean, two workers.
    assert tally.seconds_left() == pytest.approx((2 + 30 + 8) / 2)
    tally.note(Started(plan.ids[2]))
    clock.now += 5
    assert tally.seconds_left() == pytest.approx((2 + 25 + 8) / 2)
    clock.now += 500
    assert tally.seconds_left() == pytest.approx((2 + 0 + 8) / 2)


def test_lines_say_every_start_and_end_and_loops_every_ten_seconds(plan, clock):
    stream = io.StringIO()
    lines = Lines(Tally(plan, workers=1), stream)
    base = plan.ids[0]
    lines(Started(base))
    for step in range(21):
        lines(Progressed(base, "steps", step, 20, 2.0))
        clock.now += 1
    lines(Finished(base, 21.0, {"tokens_trained": 12345}))
    said = stream.getvalue().splitlines()
    loops = [line for line in said if "steps:" in line]
    assert loops == [f"12:00:00 {base} steps: {step} of 20, 2/s" for step in (0, 10, 20)]
    assert f"12:00:00 {base} started" in said
    assert f"12:00:00 {base} made in 21 s (tokens_trained 12,345)" in said


def test_a_failure_names_state_reason_and_the_line_that_asked(plan, clock):
    stream = io.StringIO()
    Lines(Tally(plan, workers=1), stream)(
        Failed(plan.ids[0], "diverged", "loss is nan at step 3", "traceback", "methods/dpo.py:31")
    )
    assert "diverged: loss is nan at step 3 (asked for at methods/dpo.py:31)" in stream.getvalue()


def test_bars_show_each_running_stage_with_its_own_rate_and_keep_failures_on_the_screen(plan):
    stream = io.StringIO()
    console = Console(file=stream, width=150, force_terminal=False)
    bars = Bars(Tally(plan, workers=2), console)
    base, data, *_ = plan.ids
    bars(Started(base))
    bars(Started(data))
    bars(Progressed(base, "steps", 5, 20, 2.5))
    console.print(bars)
    shown = stream.getvalue()
    assert "cells: 2 running | artifacts: 0 of 4" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith(base)]
    assert "steps" in line
    assert "2.5/s" in line
    bars(Failed(data, "failed", "[bold]broken[/bold]", "", "here:1"))
    assert "failed: [bold]broken[/bold]" in stream.getvalue()
    stream.truncate(0)
    console.print(bars)
    assert data not in stream.getvalue()


def test_without_a_terminal_the_view_is_lines_and_with_one_it_is_bars(plan):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with watch(plan, 1, io.StringIO()) as view:
        assert isinstance(view, Lines)
    with watch(plan, 1, Terminal()) as view:
        assert isinstance(view, Bars)
        view(Started(plan.ids[0]))
