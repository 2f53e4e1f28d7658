"""Fetch all that a study names into a mirror: models, datasets, judges, benchmarks, at commits.

The study is planned on the mirror, and what the plan lacks is fetched, until it lacks nothing: what
is fetched is what a run will look for. What the study names by path is copied too. One that was
stopped goes on where it was; what is there with its digest is not fetched again. A mirror may hold
what other studies read: that is left as it is, and told of where it is damaged.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.hub_files import fetch_model_or_dataset, resolve
from harness.local import file_digest, lying, model_files
from harness.mirror import MANIFEST, Kept, Mirror, listed, slot
from harness.sources import COMMIT, Search, Wanted
from harness.study import Study
from harness.study_file import InputError, Overrides, StudyError, locate, override, read
from harness.study_sources import Used, inputs_of, is_brought, lock_file, read_lock, write_lock

ROUNDS = 10  # a plan that lacks something new after so many will not come to an end


@dataclass
class Preparing:
    """One prepare: the study and its options, the mirror that is filled, and how it is told.

    With `update` branches are looked up anew, not taken as pinned. `damaged` are files that are
    not as the manifest lists them, with the keys of their inputs, and `dropped` the inputs that are
    fetched anew for that.
    """

    name: str
    mirror: Mirror
    overrides: Overrides = field(default_factory=Overrides)
    plugins: tuple[Path, ...] = ()
    update: bool = False
    say: Callable[[str], None] = print
    damaged: dict[Path, str] = field(default_factory=dict)
    dropped: dict[str, Kept] = field(default_factory=dict)

    def run(self) -> None:
        """Fill the mirror, and pin branches in the study's lock.

        Raises StudyError for what is wrong with the study, or that lists what could not be had and
        how to get it; what could be had is kept.
        """
        file = locate(self.name)
        self.damaged = self.mirror.damaged()
        locked = read_lock(lock_file(file))
        before = {**self.mirror.commits, **locked}
        pinned = {} if self.update else dict(before)
        search = Search(self.mirror, pinned, file.parent, notes=True, anew=self.update)
        study = self.complete(search)
        self.keep_paths(study)
        commits = {key: at.revision for key, at in search.found.items() if key != at.key}
        for key, commit in commits.items():
            if before.get(key, commit) != commit:
                self.say(f"{key} moved from {before[key][:12]} to {commit[:12]}")
        self.mirror.commits |= commits
        self.mirror.write()
        if commits:
            write_lock(lock_file(file), {**locked, **commits})
        self.prove(study)
        for left, key in self.damaged.items():
            self.say(f"{left} is not as {MANIFEST} lists it; prepare the study that reads {key}")

    def complete(self, search: Search) -> Study:
        """Return the study, planned on a mirror that lacks nothing after what is fetched here."""
        failed: dict[str, str] = {}
        for _ in range(ROUNDS):
            self.shelve(search)
            for known in (search.missing, search.found, search.folders, search.read):
                known.clear()
            study, others = self.plan(search)
            if self.is_renewed(study, search):
                continue
            if study is not None:
                return study
            if others:
                raise StudyError(others)
            lost = [one.wanted for key, one in search.missing.items() if key not in failed]
            for wanted in lost:
                try:
                    self.fetch(wanted, search)
                except (ValueError, OSError) as refused:
                    failed[wanted.key] = str(refused)
            if not lost:
                break
        raise StudyError(list(dict.fromkeys(failed.values())) or search.problems())

    def plan(self, search: Search) -> tuple[Study | None, list[str]]:
        """Return the study, or what is wrong with it besides what the mirror lacks."""
        try:
            return Study.load(self.name, self.overrides, self.plugins, search), []
        except StudyError as error:
            ours = StudyError(search.problems()).problems
            return None, [problem for problem in error.problems if problem not in ours]

    def is_renewed(self, study: Study | None, search: Search) -> bool:
        """Delete damaged files that the study reads, for the next plan to lack; False for none."""
        keys = {at.key for at in search.folders.values()}
        read = {Path(one.path) for one in inputs_of(study)} if study else set()
        own = [
            file
            for file, key in self.damaged.items()
            if key in keys or not read.isdisjoint({lying(file), lying(file.parent)})
        ]
        for file in own:
            self.say(f"{file} is not as {MANIFEST} lists it, and is had anew")
            file.unlink(missing_ok=True)
            key = self.damaged.pop(file)
            if key in keys and key in self.mirror.kept:
                self.dropped[key] = self.mirror.kept.pop(key)
        return bool(own)

    def shelve(self, search: Search) -> None:
        """Give the folder of each suite's benchmarks a place in the mirror, for what it lacks."""
        raw = read(locate(self.name))
        override(raw, self.overrides)
        for written in written_paths(raw):
            here = search.beside / written
            if here.exists():  # what lies beside the study is copied from there, at the end
                self.mirror.paths.pop(written, None)
                search.spare = {**search.spare, str(here): str(self.mirror.root / slot(written))}
        settings = raw.get("evaluation", {}).get("settings", {})
        for table in settings.values() if isinstance(settings, dict) else ():
            folder = table.get("path") if isinstance(table, dict) else None
            if isinstance(folder, str) and not (search.beside / folder).exists():
                (self.mirror.root / slot(folder)).mkdir(parents=True, exist_ok=True)
                self.mirror.paths[folder] = slot(folder)

    def fetch(self, wanted: Wanted, search: Search) -> None:
        """Fetch one missing input; raise ValueError or OSError with the remedy."""
        if wanted.kind == "benchmark":
            copies = importlib.import_module("evals.benchmark_copies")  # stands above the harness
            self.say(f"benchmark {wanted.name}")
            lost = [file for file in self.damaged if not file.is_file()]
            copies.fetch([wanted.name], search.spare.get(wanted.revision, wanted.revision))
            for file in lost:
                if file.is_file():
                    del self.damaged[file]
            return
        if not COMMIT.fullmatch(wanted.revision):
            commit = resolve(wanted)
            search.commits = {**search.commits, wanted.key: commit}
            self.mirror.commits[wanted.key] = commit
            self.say(f"{wanted.key} is {commit}")
            wanted = replace(wanted, revision=commit)
        if wanted.key in self.dropped:  # what other studies read of it too
            patterns = (*wanted.patterns, *self.dropped[wanted.key].patterns)
            wanted = replace(wanted, patterns=tuple(dict.fromkeys(patterns)))
        folder = self.mirror.folder_of(wanted.kind, wanted.name, wanted.revision)
        files, licence = fetch_model_or_dataset(wanted, folder, self.say)
        place = str(folder.relative_to(self.mirror.root))
        found = listed(folder, files)
        self.mirror.keep(
            Kept(wanted.kind, wanted.name, wanted.revision, place, licence, wanted.patterns, found)
        )

    def keep_paths(self, study: Study) -> None:
        """Copy what the study names by path, and list it with what was fetched to its shelf.

        Raises StudyError for what is read and that nothing names by path.
        """
        root = self.mirror.root.resolve()
        written = sorted(study.search.placed)
        places = {w: lying(study.search.beside / w) for w in written}
        stray = []
        shelves = {written: root / slot(written) for written in places}
        for one in inputs_of(study):
            path = Path(one.path)
            if any(path.is_relative_to(root / kind) for kind in ("models", "datasets")):
                continue
            owners = [w for w in places if path.is_relative_to(places[w])]
            shelf = next((w for w in shelves if path.is_relative_to(shelves[w])), None)
            for owner in owners:
                self.copy(one, owner, places[owner])
            if owners:
                continue
            if shelf is not None:
                self.note(shelf, [str(path.relative_to(shelves[shelf]))])
                self.mirror.paths.setdefault(shelf, slot(shelf))
            elif not is_brought(path):
                stray.append(f"{path} is read, and no `path` of the study names it, so that a ")
        if stray:
            remedy = "mirror cannot hold it: have its plugin take it by a setting called path"
            raise StudyError([line + remedy for line in stray])
        self.mirror.write()

    def copy(self, one: Used, written: str, place: Path) -> None:
        """Copy a file, or the files of a model's folder, that lies under a path of the study."""
        shelf = self.mirror.root / slot(written)
        below = place if place.is_dir() else place.parent
        files = model_files(Path(one.path)) if one.is_model else [Path(one.path)]
        names = [str(file.relative_to(below)) for file in files]
        for file, name in zip(files, names, strict=True):
            target = shelf / name
            if target.is_file() and file_digest(target) == file_digest(file):
                continue
            if self.damaged.pop(target, None):
                self.say(f"{target} is not as {MANIFEST} lists it, and is copied anew")
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(file, part)
            part.replace(target)
        self.note(written, names)
        whole = slot(written) if place.is_dir() else f"{slot(written)}/{place.name}"
        self.mirror.paths[written] = whole

    def note(self, written: str, names: list[str]) -> None:
        """List files of a shelf in the manifest, with the licence where a source states one."""
        shelf = self.mirror.root / slot(written)
        beside = [shelf / Path(name).parent / "SOURCE.json" for name in names]
        sources = {file for file in beside if file.is_file()}
        said = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(sources)]
        licences = {str(one["licence"]) for source in said for one in source.values()}
        known = self.mirror.kept.get(Kept("path", written, "", "").key)
        licences |= set(known.licence.split("; ")) - {"unknown"} if known else set()
        stated = "; ".join(sorted(licences)) or "unknown"
        self.mirror.keep(Kept("path", written, "", slot(written), stated, (), listed(shelf, names)))

    def prove(self, study: Study) -> None:
        """Plan from the mirror alone; raise InputError where ids would be others than here."""
        file = study.file
        search = Search(self.mirror, read_lock(lock_file(file)), file.parent, notes=True)
        again = Study.load(self.name, self.overrides, self.plugins, search)
        if ids_of(again) != ids_of(study):
            raise InputError(
                f"{self.mirror.root}: a study from it would have other ids than here; what it "
                "reads changed while it was copied, so run the same command again"
            )


def opened(to: Path) -> Mirror:
    """Return the mirror in a folder, or a new one in an empty or new folder.

    Raises InputError for a folder that holds other things, or lies in a store, which `gc` empties.
    """
    if (to / MANIFEST).is_file():
        return Mirror.open(to)
    stores = [above for above in (to, *to.absolute().parents) if (above / ".claims").is_dir()]
    if stores:
        raise InputError(f"{to} lies in the store {stores[0]}; name a folder outside of it")
    if to.exists() and not to.is_dir():
        raise InputError(f"{to} is a file; name a folder")
    if to.is_dir() and any(to.iterdir()):
        raise InputError(f"{to} holds other things and no mirror; name a new or empty folder")
    to.mkdir(parents=True, exist_ok=True)
    made = Mirror(to)
    made.write()
    return made


def written_paths(value: object) -> list[str]:
    """Return every `path` in the tables of a study as written, assistants and constitutions too."""
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("path", "constitution") if isinstance(value.get(key), str)]
    assistant = value.get("assistant")
    if isinstance(assistant, str) and assistant not in ("", "base") and "@" not in assistant:
        own.append(assistant)
    return own + [path for inner in value.values() for path in written_paths(inner)]


def ids_of(study: Study) -> list[str]:
    """Return the ids of all that a study makes a cell of."""
    return [target.id for cell in study.cells() for target in cell.targets]
