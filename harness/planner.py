"""What a study would make, what is there already, why the rest is not, and what it may cost.

Reads recipes and manifests alone: nothing is opened, imported or written.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.closure import code_digest
from harness.inert_settings import inert_settings
from harness.run import in_order
from harness.stage import Artifact, plain
from harness.store import Store
from harness.study import Cell, Study

State = Literal["cached", "changed", "failed", "new"]
Manifest = Mapping[str, Any]
NEVER = "never made, nor anything else by this stage"
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
WIDEST = 60  # characters of one value in a list of settings


@dataclass(frozen=True)
class Planned:
    """One artifact of a plan: its state in the store, the reason, who needs it, what it may cost.

    `seconds` is the median over the store's artifacts of the same stage, None where there is none.
    """

    artifact: Artifact
    state: State
    reason: str
    cells: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """All artifacts of a study in the order they can be made, each once."""

    study: Study
    cells: Sequence[Cell]
    artifacts: Sequence[Planned]

    @property
    def to_make(self) -> list[Planned]:
        """The artifacts that a run would make."""
        return [planned for planned in self.artifacts if planned.state in ("new", "failed")]


def make_plan(study: Study, store: Store, *, code: bool = True) -> Plan:
    """Return what running the study on this store would do.

    Without `code`, artifacts whose code has changed since count as cached, which a run takes them
    for: to tell them apart, all first-party source is read.
    """
    cells = study.cells()
    needed: Counter[str] = Counter()
    for cell in cells:
        needed.update(artifact.id for artifact in in_order(cell.targets))
    manifests = store.manifests()
    by_stage = defaultdict(list)
    for manifest in manifests.values():
        by_stage[manifest["recipe"]["stage"]].append(manifest)
    planned = []
    for artifact in in_order([target for cell in cells for target in cell.targets]):
        same = by_stage[stage_of(artifact)]
        state, reason = examine(artifact, store, manifests, same, code=code)
        seconds = median(manifest["seconds"] for manifest in same) if same else None
        planned.append(Planned(artifact, state, reason, needed[artifact.id], seconds))
    return Plan(study, cells, planned)


def examine(
    artifact: Artifact,
    store: Store,
    manifests: Mapping[str, Manifest],
    same: Sequence[Manifest],
    *,
    code: bool = True,
) -> tuple[State, str]:
    """Return an artifact's state and why it has it; `same` are the manifests of its stage."""
    manifest = manifests.get(artifact.id)
    if manifest is not None:
        if artifact in store:
            if code and artifact.recipe and manifest["code"] != code_digest(artifact.recipe.stage):
                return "changed", "cached; the stage's code has changed since"
            return "cached", ""
        return "new", "its files are missing or damaged; `verify` names them"
    failure = store.failure(artifact.id)
    if failure is not None:
        return "failed", f"{failure['state']}: {failure['reason']}"
    return "new", nearest_cached(artifact, same)


def nearest_cached(artifact: Artifact, same: Sequence[Manifest]) -> str:
    """Return how a recipe differs from the most similar cached one of its stage."""
    if not same:
        return NEVER
    ours = settings_of(artifact)
    version = artifact.recipe.stage.version if artifact.recipe else 0
    candidates = []
    for manifest in same:
        theirs = flat(manifest["recipe"]["arguments"])
        differences = []
        if manifest["recipe"]["version"] != version:
            differences.append(f"version {manifest['recipe']['version']} -> {version}")
        for key in ours:
            if ours[key] != theirs.get(key):
                before = brief(theirs[key]) if key in theirs else "not a setting"
                differences.append(f"{key} {before} -> {brief(ours[key])}")
        known = {key.split(".")[0] for key in ours}
        gone = [key for key in theirs if key.split(".")[0] not in known]
        differences += [f"{key} {brief(theirs[key])} -> not a setting" for key in gone]
        candidates.append((len(differences), str(manifest["id"]), differences))
    _, id, differences = min(candidates)
    return f"differs from {id} in {', '.join(differences)}"


def stage_of(artifact: Artifact) -> str:
    """Return the full name of the stage that makes an artifact."""
    return artifact.recipe.stage.full_name if artifact.recipe else ""


def settings_of(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact's arguments as flat plain data, as they enter its id."""
    if artifact.recipe is None:
        return {}
    return flat({key: plain(value) for key, value in artifact.recipe.arguments.items()})


def flat(value: object, path: str = "") -> dict[str, Any]:
    """Return nested plain data as one level of dotted keys; an artifact is its id."""
    if isinstance(value, Mapping):
        if "$artifact" in value:
            return {path: value["$artifact"]}
        parts: dict[str, Any] = {}
        for key, item in value.items():
            parts |= flat(item, f"{path}.{key}" if path else str(key))
        return parts
    return {path: value}


def brief(value: object) -> str:
    """Return a plain value as a plan prints it."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def plan_text(plan: Plan, *, every: bool = False) -> str:
    """Return a plan for a reader: cells, artifacts by stage, reasons, expected cost.

    `every` lists all artifacts with their settings; otherwise those with something to explain.
    """
    parts = [cells_text(plan), inert_text(plan), unplanned_text(plan), stages_text(plan)]
    parts += [*artifacts_text(plan, every=every), cost_text(plan)]
    return "\n\n".join(part for part in parts if part)


def cells_text(plan: Plan) -> str:
    """Return the size of the matrix and its rows."""
    declared = plan.study.declared
    axes = [
        f"{len(things)} {noun if len(things) != 1 else noun[:-1]}"
        for noun, things in (
            ("bases", {cell.base for cell in plan.cells}),
            ("datasets", {cell.dataset for cell in plan.cells}),
            ("methods", {cell.label for cell in plan.cells}),
            ("seeds", {cell.seed for cell in plan.cells}),
        )
    ]
    lines = [f"study {plan.study.name}: {len(plan.cells)} cells = {' x '.join(axes)}"]
    if declared.note:
        lines.append(f"note: {declared.note}")
    if len({cell.seed for cell in plan.cells}) == 1:
        lines.append("one seed: supports no claim about methods")
    labels = dict.fromkeys((cell.label, cell.method) for cell in plan.cells)
    width = max(16, *(len(label) for label, _ in labels))
    for label, name in labels:
        settings = {k: v for k, v in declared.methods[label].items() if k != "method"}
        said = ", ".join(f"{key}={brief(value)}" for key, value in settings.items())
        lines.append(f"  {label:<{width}} {name if name != label else '':<12} {said}".rstrip())
    return "\n".join(lines)


def inert_text(plan: Plan) -> str:
    """Return which settings change nothing beside the others of their row; "" for none."""
    found = inert_settings(plan.study, plan.cells)
    lines = [f"  methods.{label}: {', '.join(names)}" for label, names in found.items()]
    return "\n".join(["Set without effect, by the row's other settings:", *lines]) if lines else ""


def unplanned(plan: Plan) -> dict[str, str]:
    """Return which plugins planned nothing, with the error and the last line that was theirs."""
    found = {}
    for planned in plan.artifacts:
        if stage_of(planned.artifact).split(":")[-1].startswith("unplanned_"):
            said = settings_of(planned.artifact)
            *frames, error = str(said["reason"]).rstrip().splitlines()
            where = [frame for frame in map(FRAME.search, frames) if frame]
            line = f" ({where[-1][1]}:{where[-1][2]})" if where else ""
            found[str(said["plugin"])] = f"{error}{line}"
    return found


def unplanned_text(plan: Plan) -> str:
    """Return what no run will make, because its plugin raised; "" where all planned."""
    lines = [f"  {plugin}: {error}" for plugin, error in unplanned(plan).items()]
    return "\n".join(["Planned nothing, so its cells will fail:", *lines]) if lines else ""


def stages_text(plan: Plan) -> str:
    """Return one row a stage: how many artifacts, how many without sharing, their states."""
    rows = [("stage", "artifacts", "unshared", "cached", "changed", "failed", "new")]
    groups = defaultdict(list)
    for planned in plan.artifacts:
        groups[stage_of(planned.artifact).split(":")[-1]].append(planned)
    total = list(plan.artifacts)
    for name, group in [*groups.items(), ("in all", total)]:
        states = Counter(planned.state for planned in group)
        counts = [states[state] for state in ("cached", "changed", "failed", "new")]
        row = [len(group), sum(planned.cells for planned in group), *counts]
        rows.append((name, *map(str, row)))  # type: ignore[arg-type]
    saved = sum(planned.cells - 1 for planned in total)
    return f"{columns(rows)}\nSharing saves {saved} of {saved + len(total)} makings."


def artifacts_text(plan: Plan, *, every: bool) -> list[str]:
    """Return a paragraph that lists artifacts in order, or none when nothing is to be said."""
    lines = []
    for planned in plan.artifacts:
        if every or (planned.reason and planned.reason != NEVER):
            who = "1 cell" if planned.cells == 1 else f"{planned.cells} cells"
            lines.append(f"{planned.artifact.id}  {planned.state}, for {who}")
            lines += [f"    {planned.reason}"] if planned.reason else []
        if every:
            settings = settings_of(planned.artifact)
            lines += [f"    {key} = {brief(value)}" for key, value in settings.items()]
    return ["\n".join(lines)] if lines else []


def cost_text(plan: Plan) -> str:
    """Return what a run would cost by past manifests, and say plainly what is unknown."""
    if not plan.to_make:
        return "Nothing to do: everything is cached."
    known = [planned.seconds for planned in plan.to_make if planned.seconds is not None]
    unknown = [planned for planned in plan.to_make if planned.seconds is None]
    parts = []
    if known:
        parts.append(f"about {duration(sum(known))} of work for {len(known)} artifacts, by the "
                     "median of the same stage")  # fmt: skip
    if unknown:
        stages = dict.fromkeys(stage_of(planned.artifact).split(":")[-1] for planned in unknown)
        parts.append(f"unknown for {len(unknown)} artifacts of stages never timed here "
                     f"({', '.join(stages)})")  # fmt: skip
    return f"Expected cost: {'; '.join(parts)}."


def duration(seconds: float) -> str:
    """Return seconds as people say them: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)
