"""What the rows of a matrix hold equal, what each of them cost, and where every number came from.

Everything is read from recipes and manifests, so from what was done and not from what was asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.artifacts import Preferences, Rankings, Samples, Scores
from harness.control import DIGEST, Control, judge_name, judges_in
from harness.declared_facts import declared_facts
from harness.examples import side_by_side
from harness.judge_conflicts import asks_the_same_model, judges_of, own_rows
from harness.label_budget import KINDS, RATING, LabelBudget
from harness.plain_text import one_line
from harness.reward_facts import reward_models
from harness.run import in_order
from harness.selection import is_validation
from harness.stage import Artifact
from harness.status import cell_states
from harness.store import StaleArtifact, Store

if TYPE_CHECKING:
    from harness.study import Cell, Study

CELL_COLUMNS = (
    "study", "base", "dataset", "method", "label", "seed", "state", "reason", "artifact",
    "seconds_own", "seconds_with_share", "seconds_in_full", "evaluation_seconds",
    "tokens_generated", "tokens_trained", "tokens_forward", "optimiser_steps", "judge_calls",
    "labels_used", "evaluation_tokens_generated", "peak_memory",
    *(f"labels_{kind}" for kind in KINDS),
)  # fmt: skip
COUNTERS = (
    "tokens_generated", "tokens_trained", "tokens_forward", "optimiser_steps", "judge_calls",
)  # fmt: skip
ENDPOINT = ("calls", "tokens_read", "tokens_written", "invalid", "floored")


class Book:
    """The manifests behind one study: its cells' states, costs, and what they hold equal."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study = study
        self.store = store
        self.cells = study.cells()
        self.manifests: Mapping[str, Mapping[str, Any]] = store.manifests()
        self.stale: dict[str, str] = {}
        self.budget = LabelBudget(store)
        self.trained = {cell.name: in_order([cell.policy]) for cell in self.cells}
        self.sharing = Counter(a.id for parts in self.trained.values() for a in parts)

    def opened(self, artifact: Scores) -> Scores | None:
        """Return a score bound to its folder, None where it is not made or fails its digest."""
        if artifact.id not in self.manifests or artifact not in self.store:
            return None
        try:
            return self.store.open(artifact)
        except StaleArtifact as error:
            self.stale[artifact.id] = one_line(str(error))
            return None

    def payload(self, artifact: Artifact) -> str | None:
        """Return the short digest of what an artifact holds, None where it is not made."""
        manifest = self.manifests.get(artifact.id)
        return short(manifest["payload"]) if manifest else None

    def numerics(self, artifact: Artifact) -> str:
        """Return device, dtype, threads and attention an artifact was made with, as JSON."""
        found = self.manifests[artifact.id].get("numerics", {})
        return json.dumps(found, sort_keys=True, separators=(",", ":"))

    def cell_rows(self) -> Iterator[list[object]]:
        """Yield the rows of `cells.csv`: each requested cell with one state, and its cost."""
        for cell, status in zip(self.cells, cell_states(self.cells, self.store), strict=True):
            state, reason = status.state, one_line(status.reason)
            broken = [id for id in self.stale if id in {t.id for t in cell.targets}]
            if broken:
                state, reason = "stale", f"{broken[0]}: {self.stale[broken[0]]}"
            key = [cell.study, cell.base, cell.dataset, cell.method, cell.label, cell.seed]
            yield [*key, state, reason, cell.policy.id, *self.costs(cell)]

    def costs(self, cell: Cell) -> list[object]:
        """Return a cell's cost: its method's, shared stages counted three ways, and evaluation's.

        *Own* counts stages that no other cell needs; *with share* adds 1/k of a stage that k cells
        need; *in full* is what the method costs alone. Counters are in full. Labels are those that
        training read, by kind, and in all with those that chose a checkpoint.
        """
        parts = [
            (self.manifests[a.id], self.sharing[a.id]) for a in self.made(self.trained[cell.name])
        ]
        ids = {a.id for a in self.trained[cell.name]}
        later = [self.manifests[a.id] for a in self.made(in_order(cell.targets)) if a.id not in ids]
        own = sum(m["seconds"] for m, needed in parts if needed == 1)
        share = sum(m["seconds"] / needed for m, needed in parts)
        full = sum(m["seconds"] for m, _ in parts)
        evaluation = sum(m["seconds"] for m in later)
        drawn = [self.manifests[s.id] for s in cell.samples.values() if s.id in self.manifests]
        peaks = [m.get("peak_memory") or 0 for m, _ in parts]
        labels = self.labels(cell)
        spent = self.spent_on_selection(cell)
        known = labels is not None and spent is not None
        total = sum((labels or Counter()).values()) + (spent or 0) if known else None
        return [
            *(round(float(seconds), 1) for seconds in (own, share, full, evaluation)),
            *(counted((m for m, _ in parts), name) for name in COUNTERS),
            total,
            counted(drawn, "tokens_generated"),
            max(peaks, default=0),
            *(None if labels is None else labels[kind] for kind in KINDS),
        ]

    def labels(self, cell: Cell) -> Counter[str] | None:
        """Return what a cell's training read, by who judged; None while some of it is not made.

        Grades by which the labeller rewarded or chose single answers are judgements too.
        """
        found = self.budget.count(self.trained[cell.name])
        rated = [
            artifact
            for artifact in self.trained[cell.name]
            if not isinstance(artifact, Preferences | Rankings)
            and any(asks_the_same_model(j, cell.shared.labeller) for j in judges_of(artifact))
        ]
        if found is None or any(artifact.id not in self.manifests for artifact in rated):
            return None
        grades = counted((self.manifests[artifact.id] for artifact in rated), "judge_calls")
        return found + Counter({RATING: grades})

    def made(self, artifacts: Iterable[Artifact]) -> list[Artifact]:
        """Return those that are made."""
        return [artifact for artifact in artifacts if artifact.id in self.manifests]

    def to_json(self) -> dict[str, Any]:
        """Return everything a report says beside the scores; there is no time in it."""
        declared = self.study.declared
        evaluation = declared.evaluation
        return {
            "study": self.study.name,
            "note": declared.note,
            "seeds": list(declared.seeds),
            "share_sft": declared.share_sft,
            "same_judge": declared.same_judge,
            "parity": evaluation.parity,
            "margin": evaluation.margin,
            "co_primary": list(evaluation.co_primary),
            "samples": evaluation.samples,
            "decodings": list(self.cells[0].samples) if self.cells else [],
            "embedded_world": any(cell.data.truth is not None for cell in self.cells),
            "methods": [self.method(cell) for cell in self.rows],
            "suites": [suite(name) for name in evaluation.suites],
            **declared_facts(declared, self.cells, self.manifests),
            "scores": self.score_ids(),
            "control": list(Control(self).lines()),
            "judges": self.judges(),
            "endpoint": self.endpoint(),
            "reward_models": reward_models(self),
            "provenance": self.provenance(),
            "examples": list(side_by_side(self.drawn())),
        }

    def drawn(self) -> dict[str, Samples]:
        """Return the opened answers of each row's first cell, greedy ones where drawn."""
        found = {}
        for cell in self.rows:
            same = (cell.base, cell.dataset) == (self.cells[0].base, self.cells[0].dataset)
            samples = cell.samples.get("greedy") or next(iter(cell.samples.values()))
            if same and samples in self.store:
                found[cell.label] = self.store.open(samples)
        return found

    @cached_property
    def tunable(self) -> list[str]:
        """The rows that have something to tune."""
        from harness.tune_trials import tunable

        return tunable(self.study)

    @property
    def rows(self) -> list[Cell]:
        """One cell of each label, in the order of the study."""
        return list({cell.label: cell for cell in reversed(self.cells)}.values())[::-1]

    def method(self, cell: Cell) -> dict[str, Any]:
        """Return what a label stands for: method, paper, settings, and whether tuning tries any."""
        declared = self.study.declared.methods.get(cell.label, {})
        settings = {key: value for key, value in declared.items() if key != "method"}
        plugin = registry.PLUGINS.get(("method", cell.method))
        return {
            "label": cell.label,
            "method": cell.method,
            "role": role(cell),
            "paper": plugin.paper if plugin else None,
            "summary": plugin.summary if plugin else "",
            "has_ranges": cell.label in self.tunable,
            "settings": settings,
        }

    def score_ids(self) -> dict[str, str]:
        """Return the id of each score that is made, by base, dataset, label, seed and suite."""
        return {
            f"{cell.name}/{name}": scores.id
            for cell in self.cells
            for name, scores in cell.scores.items()
            if scores.id in self.manifests
        }

    def spent_on_selection(self, cell: Cell) -> int | None:
        """Return how many validation judgements chose a cell's checkpoint; None while unknown."""
        judged = [a for a in self.trained[cell.name] if is_validation(a)]
        if any(a.id not in self.manifests for a in judged):
            return None
        return counted((self.manifests[a.id] for a in judged), "labels_used")

    def judges(self) -> dict[str, dict[str, Any]]:
        """Return each judge by the name that its rows have: who it is, which rows are its own."""
        rows = {cell.label: cell.policy for cell in self.rows}
        return {
            type(judge).__name__: {"judge": judge_name(judge), "own_rows": own_rows(judge, rows)}
            for cell in self.rows
            for judge in judges_in(cell)
        }

    def endpoint(self) -> dict[str, dict[str, int]]:
        """Return what served judges cost the study, by the artifact they labelled or judged for."""
        found = {}
        for artifact in in_order([target for cell in self.cells for target in cell.targets]):
            told = [self.manifests[artifact.id]] if artifact.id in self.manifests else []
            counts = {name: counted(told, f"endpoint_{name}") for name in ENDPOINT}
            if any(counts.values()):
                found[artifact.id] = counts
        return found

    def provenance(self) -> dict[str, Any]:
        """Return ids, stage versions, code digests, wheels and numerics of what is made."""
        everything = in_order([target for cell in self.cells for target in cell.targets])
        stages: dict[str, dict[str, Any]] = {}
        wheels: dict[str, set[str]] = {}
        for artifact in self.made(everything):
            manifest = self.manifests[artifact.id]
            recipe = manifest["recipe"]
            seen = stages.setdefault(
                recipe["stage"], {"version": recipe["version"], "code": set(), "made": 0}
            )
            seen["code"].add(short(manifest.get("code", "")))
            seen["made"] += 1
            for wheel, version in (manifest.get("wheels") or {}).items():
                wheels.setdefault(wheel, set()).add(str(version))
        return {
            "policies": [
                {"cell": c.name, "id": c.policy.id, "payload": self.payload(c.policy)}
                for c in self.cells
            ],
            "stages": {k: {**v, "code": sorted(v["code"])} for k, v in sorted(stages.items())},
            "wheels": {name: sorted(found) for name, found in sorted(wheels.items())},
            "numerics": sorted({self.numerics(a) for a in self.made(everything)}),
        }


def role(cell: Cell) -> str:
    """Return what a row is in the comparison: the bare base, the SFT reference, or a method."""
    if cell.policy == cell.shared.base:
        return "base"
    return "sft" if cell.policy == cell.shared.sft else "method"


def counted(manifests: Iterable[Mapping[str, Any]], name: str) -> int:
    """Return a counter summed over manifests."""
    return int(sum(m.get("counters", {}).get(name, 0) for m in manifests))


def suite(name: str) -> dict[str, Any]:
    """Return what a suite declares about itself."""
    plugin = registry.get("suite", name)
    metrics = [{**asdict(m), "range": list(map(float, m.range))} for m in plugin.metrics]
    return {"suite": name, "axis": plugin.axis, "summary": plugin.summary, "metrics": metrics}


def short(digest: object) -> str:
    """Return the first characters of a digest, as many as a reader sees."""
    return str(digest)[:DIGEST]
