"""Find an artifact by id, by the start of one, or by its cell, and say what is known about it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from inspect import Parameter
from pathlib import Path
from typing import Any

from harness import registry
from harness.artifacts import Policy
from harness.plain_text import clean
from harness.planner import brief, columns, duration, examine, flat, settings_of, stage_of
from harness.run import in_order
from harness.stage import Artifact
from harness.store import Store
from harness.study import Cell, Study
from harness.study_file import SHIPPED, InputError, Overrides, StudyError, from_mirror, shown

POLL = 0.5  # seconds between two looks at a log that is followed
LISTED = 20  # names of candidates that an error shows


class NotFoundError(InputError):
    """Nothing, or more than one thing, has the name that was given."""


class Finder:
    """Looks names up in a store and in studies: those named, else the shipped ones."""

    def __init__(
        self,
        store: Store,
        studies: Sequence[str],
        plugins: tuple[Path, ...] = (),
        mirror: Path | None = None,
    ) -> None:
        self.store = store
        self.studies = studies
        self.plugins = plugins
        self.mirror = mirror

    @cached_property
    def named(self) -> list[Study]:
        """The studies that were named to look in."""
        return [self.load(name) for name in self.studies]

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of the studies looked in; a shipped study that does not load is left out."""
        if self.studies:
            return [cell for study in self.named for cell in study.cells()]
        cells = []
        for file in sorted(SHIPPED.glob("*.toml")):
            try:
                cells += self.load(str(file)).cells()
            except StudyError:
                continue  # it needs a plugin or a file that is not here; `run` says which
        return cells

    @cached_property
    def planned(self) -> dict[str, Artifact]:
        """Every artifact that those studies ask for, by id."""
        return {a.id: a for a in in_order([t for cell in self.cells for t in cell.targets])}

    def load(self, name: str) -> Study:
        """Return a study by path or shipped name."""
        return Study.load(name, Overrides(settings=from_mirror(self.mirror)), self.plugins)

    def called(self, name: str) -> Study:
        """Return the study to look in that has a name, else the one of that path or shipped name.

        A study to look in answers to the name in its file, and to what it was given by.
        """
        matches = [
            study
            for given, study in zip(self.studies, self.named, strict=True)
            if name in (study.name, given)
        ]
        if len(matches) > 1:
            files = ", ".join(str(study.file) for study in matches)
            raise NotFoundError(f"{shown(name)} is the name of {files}; give one of these paths")
        return matches[0] if matches else self.load(name)

    def id(self, given: str) -> str:
        """Return the one id meant; raise NotFoundError naming the candidates otherwise."""
        if ":" in given:
            return self.cell(given).policy.id
        made = self.store.manifests()
        if given in made:
            return given
        failed = (file.stem for file in (self.store.root / ".failed").glob("*.json"))
        ids = sorted({*made, *failed, *self.planned})
        matches = [id for id in ids if id == given] or [id for id in ids if id.startswith(given)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            more = ", ..." if len(matches) > LISTED else ""
            raise NotFoundError(
                f"{shown(given)} begins {len(matches)} ids: {', '.join(matches[:LISTED])}{more}"
            )
        raise NotFoundError(
            f"no artifact {shown(given)} in {self.store.root} or in the studies looked in."
            f"{registry.nearest(given, ids)} Name its study by --study"
        )

    def cell(self, given: str) -> Cell:
        """Return the cell meant by STUDY:LABEL/SEED, or STUDY:BASE/DATASET/LABEL/SEED."""
        study, _, address = given.rpartition(":")
        cells = self.called(study).cells()
        parts = address.split("/")
        matches = [cell for cell in cells if matches_address(cell, parts)]
        if len(matches) == 1:
            return matches[0]
        names = ", ".join(cell.name for cell in (matches or cells)[:LISTED])
        raise NotFoundError(
            f"{shown(address)} names {len(matches) or 'no'} cells of {study}; it has: {names}"
        )

    def policy(self, given: str) -> Policy:
        """Return a policy of the store, by cell or id, bound to its verified folder."""
        id = self.id(given)
        manifest = self.store.manifest(id)
        if manifest is None:
            raise NotFoundError(f"{id} is not made yet; run its study first")
        if manifest["kind"] != "Policy":
            raise NotFoundError(f"{id} is a {manifest['kind']}, not a Policy")
        return self.store.open(Policy(id))

    def show(self, given: str) -> str:
        """Return everything known about an artifact: recipe, inputs, files, cost, dependents."""
        id = self.id(given)
        manifest, planned = self.store.manifest(id), self.planned.get(id)
        if manifest is not None:
            parts = [
                f"{id}: a {manifest['kind']}, made {manifest['made_at']}",
                *made_lines(manifest),
            ]
        else:
            parts = [f"{id}: not made. {self.why(id)}", *planned_lines(planned)]
        needed = sorted(
            other["id"] for other in self.store.manifests().values() if id in other["inputs"]
        )
        cells = [
            f"{c.study}:{c.name}" for c in self.cells if id in {a.id for a in in_order(c.targets)}
        ]
        parts += ["needed by", *(f"  {name}" for name in [*needed, *cells] or ["nothing here"])]
        return "\n".join(parts)

    def why(self, given: str) -> str:
        """Return why an artifact is not cached, or that it is."""
        id = self.id(given)
        artifact, manifests = self.planned.get(id), self.store.manifests()
        if artifact is None and ":" in given:
            artifact = self.cell(given).policy
        if artifact is None:
            failure = self.store.failure(id)
            known = f"failed: {failure['state']}: {failure['reason']}" if failure else "cached"
            return f"{id} is {known}; none of the studies looked in asks for it"
        same = [m for m in manifests.values() if m["recipe"]["stage"] == stage_of(artifact)]
        state, reason = examine(artifact, self.store, manifests, same)
        if state == "cached":
            return f"{id} is cached"
        return f"{id} is {state}: {reason}"

    def log(self, given: str, *, follow: bool) -> Iterator[str]:
        """Yield the text of a stage's log, without terminal escapes; go on while it is followed."""
        id = self.id(given)
        file, at = self.store.log(id), 0
        if not file.is_file() and not follow:
            raise NotFoundError(f"{id} has no log: no stage has tried to make it")
        while True:
            ended = self.store.manifest(id) is not None or self.store.failure(id) is not None
            if file.is_file():
                with file.open("rb") as lines:
                    lines.seek(at)
                    content = lines.read()
                at += len(content)
                yield clean(content.decode("utf-8", "replace"))
            if ended or not follow:
                return
            time.sleep(POLL)


def matches_address(cell: Cell, parts: list[str]) -> bool:
    """Say whether LABEL, LABEL/SEED or BASE/DATASET/LABEL[/SEED] means this cell."""
    whole = [cell.base, cell.dataset, cell.label, str(cell.seed)]
    return parts in (whole, whole[:3], whole[2:], whole[2:3])


def made_lines(manifest: dict[str, Any]) -> list[str]:
    """Return what a manifest says: recipe, inputs, files, cost."""
    recipe = manifest["recipe"]
    size = sum(file["size"] for file in manifest["files"].values())
    return [
        f"stage {recipe['stage']}, version {recipe['version']}, asked for at {recipe['asked_at']}",
        *(f"  {key} = {brief(value)}" for key, value in flat(recipe["arguments"]).items()),
        "inputs, with the digest of what was read",
        *(f"  {id}  {digest[:12]}" for id, digest in manifest["inputs"].items()),
        f"files, {size:,} bytes in all",
        *(f"  {name}  {file['size']:,}" for name, file in manifest["files"].items()),
        f"cost: {duration(manifest['seconds'])}",
        *(f"  {name} = {count:,.0f}" for name, count in manifest["counters"].items()),
    ]


def planned_lines(artifact: Artifact | None) -> list[str]:
    """Return the recipe of an artifact that is only planned."""
    if artifact is None or artifact.recipe is None:
        return []
    return [
        f"stage {stage_of(artifact)}, version {artifact.recipe.stage.version}",
        *(f"  {key} = {brief(value)}" for key, value in settings_of(artifact).items()),
    ]


def list_text(kind: str, files: tuple[Path, ...]) -> str:
    """Return the plugins of one kind as a table, with their settings and defaults."""
    registry.discover(files)
    rows = []
    for plugin in registry.plugins(kind.removesuffix("s")):  # type: ignore[arg-type]
        about = plugin.paper or plugin.axis or ""
        rows.append(f"{plugin.name:<16} {about:<18} {plugin.summary}  [{plugin.distribution}]")
        for setting in plugin.settings.values():
            default = "(needed)" if setting.default is Parameter.empty else repr(setting.default)
            rows.append(f"{'':<16}   {setting.name} = {default}")
    return "\n".join(rows)


def collect_garbage(studies: Iterable[Study], store: Store, *, delete: bool) -> str:
    """Return what no study and none of its trials reaches; remove it where `delete` says so."""
    from harness.tune_trials import trials_of

    loaded = list(studies)
    trials = [trials_of(study) for study in loaded if study.declared.tune]
    kept = {
        artifact.id
        for study in (*loaded, *trials)
        for cell in study.cells()
        for artifact in in_order(cell.targets)
    }
    manifests = store.manifests()
    rows = [("artifact", "bytes")]
    total = 0
    for id in sorted(manifests.keys() - kept):
        size = sum(file["size"] for file in manifests[id]["files"].values())
        total += size
        rows.append((id, f"{size:,}"))
        if delete:
            store.remove(id)
    if len(rows) == 1:
        return f"nothing to remove: the studies reach all {len(manifests)} artifacts"
    done = "removed" if delete else "would be removed; --delete acts"
    return f"{columns(rows)}\n{len(rows) - 1} of {len(manifests)} artifacts, {total:,} bytes {done}"
