"""The trials of a study: what each row tries, planned as a study with other seeds and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from harness import registry
from harness.artifacts import Preferences
from harness.ranges import declared_ranges, drawn_trials, overridden
from harness.stage import Artifact
from harness.stages.choose import validation_judgements
from harness.study import Cell, Planning, Study, said
from harness.study_file import StudyError, Tune

MARK = "#"  # between label and trial; no label of a study contains it


@dataclass(frozen=True)
class Trial(Cell):
    """A cell with what a trial sets and the judgements that score it."""

    row: str
    number: int
    chosen: Mapping[str, Any]
    judgements: Preferences

    @property
    def targets(self) -> list[Artifact]:
        """The policy and its judgements: no answer to a test prompt, no score."""
        return [self.policy, self.judgements]


@dataclass(frozen=True)
class Trials(Study):
    """The trials of a study's rows, as the rows of a study with the tuning seeds."""

    asked: int
    drawn: Mapping[str, tuple[str, int, Mapping[str, Any]]]

    @cached_property
    def _trials(self) -> list[Trial]:
        """Every trial, but those of rows that no draw changes: their ranges bear on nothing."""
        rows: dict[str, list[Trial]] = {}
        for cell in PlanningTrials(self).cells():
            trial = self.trial(cell)
            rows.setdefault(trial.row, []).append(trial)
        return [trial for trials in rows.values() if changes(trials) for trial in trials]

    def cells(self) -> list[Cell]:
        """Return every trial with every tuning seed, rows outermost."""
        return list(self._trials)

    def trials(self, label: str) -> list[Trial]:
        """Return the trials of one row, seeds innermost."""
        return [trial for trial in self._trials if trial.row == label]

    @property
    def labels(self) -> list[str]:
        """The rows that have something to tune."""
        return list(dict.fromkeys(trial.row for trial in self._trials))

    def trial(self, cell: Cell) -> Trial:
        """Return a cell as a trial; raise StudyError where the dataset has nobody to ask."""
        row, number, chosen = self.drawn[cell.label]
        try:
            judgements = validation_judgements(cell.policy, cell.shared)
        except ValueError as error:
            raise StudyError([f"tune: {error}"]) from None
        parts = {field.name: getattr(cell, field.name) for field in fields(Cell)}
        return Trial(**parts, row=row, number=number, chosen=chosen, judgements=judgements)


class PlanningTrials(Planning):
    """Plans trials: a method that refuses what was drawn costs that trial, not the study."""

    def excuse(self, stand_in: Any, path: str, error: Exception) -> Any:
        """Return an artifact that fails with the reason."""
        if isinstance(error, ValueError):
            return stand_in(plugin=path, reason=said(error))
        return super().excuse(stand_in, path, error)


def changes(trials: list[Trial]) -> bool:
    """Say whether what the trials of a row set changes its policy, where there are several."""
    policies: dict[int, list[str]] = {}
    for trial in trials:
        policies.setdefault(trial.number, []).append(trial.policy.id)
    return len(policies) == 1 or len(set(map(tuple, policies.values()))) > 1


def trials_of(study: Study, count: int | None = None) -> Trials:
    """Return the trials of a study's rows, `count` of each instead of the study's own number.

    The first of each row is the row as it stands. Raises StudyError without a [tune] table.
    """
    declared = study.declared
    if declared.tune is None:
        raise StudyError(["tune: missing; add [tune] with trials = 8 and seeds = [100]"])
    tuning, asked = declared.tune, count or declared.tune.trials
    drawn, methods, problems = {}, {}, []
    for label, table in declared.methods.items():
        name = table.get("method", label)
        try:
            tried = settings_tried(tuning, label, table, asked)
        except ValueError as error:
            problems.append(f"methods.{label}: {error}")
            continue
        for number, chosen in enumerate(tried):
            drawn[f"{label}{MARK}{number}"] = (label, number, chosen)
            methods[f"{label}{MARK}{number}"] = {**table, "method": name, **chosen}
    if problems:
        raise StudyError(problems)
    evaluation = declared.evaluation.model_copy(update={"suites": (), "temperatures": ()})
    sizes = {k: {**table, **tuning.datasets.get(k, {})} for k, table in declared.datasets.items()}
    changed = {"methods": methods, "seeds": tuning.seeds, "evaluation": evaluation}
    parts = {field.name: getattr(study, field.name) for field in fields(Study)}
    parts |= {"declared": declared.model_copy(update={**changed, "datasets": sizes}), "only": ()}
    parts |= {"sft_seed": tuning.seeds[0] if declared.share_sft else None}
    return Trials(**parts, asked=asked, drawn=drawn)


def settings_tried(
    tuning: Tune, label: str, table: Mapping[str, Any], count: int
) -> list[dict[str, Any]]:
    """Return what each trial of a row sets in the place of its own; none without any range."""
    plugin = registry.get("method", table.get("method", label))
    ranges = overridden(plugin, tuning.ranges.get(label, {}))
    if not ranges:
        return []
    return drawn_trials(plugin, label, ranges, count=count, seed=tuning.seeds[0], declared=table)


def tunable(study: Study) -> list[str]:
    """Return the rows of a study that have something to tune.

    Without a [tune] table they are those with ranges of their own; none where trials cannot be
    planned, as on a dataset that has nobody to ask.
    """
    if study.declared.tune is not None:
        try:
            return trials_of(study).labels
        except StudyError:
            return []
    named = {k: table.get("method", k) for k, table in study.declared.methods.items()}
    plugins = {label: registry.PLUGINS.get(("method", name)) for label, name in named.items()}
    return [label for label, plugin in plugins.items() if plugin and declared_ranges(plugin)]


def only(trials: Trials, labels: tuple[str, ...]) -> Trials:
    """Return the trials of the labels given, of all where none is given.

    Raises StudyError where none of them has a range that changes anything.
    """
    tuned = [label for label in trials.labels if not labels or label in labels]
    if not tuned:
        who = f"{', '.join(labels)} has no" if labels else "no row has a"
        problem = f"tune: {who} setting with a range that changes it; add [tune.ranges.<label>]"
        raise StudyError([problem])
    if not labels:
        return trials
    kept = {k: d for k, d in trials.drawn.items() if d[0] in tuned}
    return replace(trials, only=tuple(kept), drawn=kept)
