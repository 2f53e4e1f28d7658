"""What a study reads from outside: where it looks, the commits it is pinned to, what it has used.

Names such as `main` move. `prepare` pins them to commits in a lock: a file beside the study, or in
the folder where one works for a shipped study. A study that names commits itself needs none.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.local import LocalFile, LocalFolder, lying
from harness.mirror import Mirror, write_whole
from harness.run import in_order
from harness.sources import COMMIT, Search
from harness.study_file import SHIPPED, InputError

if TYPE_CHECKING:
    from harness.study import Study

USED = "inputs.json"
PROGRAM = Path(__file__).resolve().parents[1]
BROUGHT = tuple(PROGRAM / name for name in ("harness", "methods", "evals"))


def search_for(file: Path, raw: Mapping[str, Any]) -> Search:
    """Return where a study looks for inputs: in the mirror that it names, else on this machine.

    Raises InputError for a mirror or lock that is none.
    """
    named = raw.get("mirror")
    mirror = Mirror.open(file.parent / named) if isinstance(named, str) else None
    return Search(mirror, read_lock(lock_file(file)), file.parent, notes=True)


def lock_file(file: Path) -> Path:
    """Return where the commits stand that `prepare` pinned a study's names to.

    That is beside the study, and for a shipped one in the current folder.
    """
    shipped = file.parent.resolve() == SHIPPED.resolve()
    return Path(f"{file.stem}.lock") if shipped else file.with_suffix(".lock")


def read_lock(file: Path) -> dict[str, str]:
    """Return the commits of a lock by kind, name and branch; none where there is no lock."""
    try:
        commits = json.loads(file.read_text(encoding="utf-8"))["commits"]
        bad = [commit for commit in commits.values() if not COMMIT.fullmatch(commit)]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file}: not what `prepare` writes ({error}); delete it") from None
    if bad:
        raise InputError(f"{file}: {bad[0]!a} is no commit; delete the file and prepare again")
    return dict(commits)


def write_lock(file: Path, commits: Mapping[str, str]) -> None:
    """Write the commits that names are pinned to, sorted."""
    said = {"schema": 1, "commits": dict(sorted(commits.items()))}
    write_whole(file, json.dumps(said, indent=1) + "\n")


@dataclass(frozen=True)
class Used:
    """A file, or a model's folder, that a study reads: its path here and its digest."""

    sha256: str
    path: str
    is_model: bool


def inputs_of(study: Study) -> list[Used]:
    """Return the files and model folders that a study reads, each once, by path.

    Besides what stands in recipes that is what planning looked up: recipes know bytes and no paths,
    so that of two equal files they name one, and a file whose text enters a setting they do not.
    """
    targets = [target for cell in study.cells() for target in cell.targets]
    recipes = [artifact.recipe for artifact in in_order(targets) if artifact.recipe is not None]
    held = [one for recipe in recipes for one in local_values(recipe.arguments)]
    found = {
        Used(one.sha256, one.path, isinstance(one, LocalFolder))
        for one in (*study.search.read.values(), *held)
    }
    return sorted(found, key=lambda one: (one.path, one.sha256))


def local_values(value: object) -> Iterator[LocalFile | LocalFolder]:
    """Yield every local file and folder that stands in a value, artifacts left out."""
    if isinstance(value, LocalFile | LocalFolder):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from local_values(getattr(value, part.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from local_values(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from local_values(item)


def used(study: Study) -> dict[str, dict[str, str]]:
    """Return what a study reads, by name: the commit, where it is of the hub, and the SHA-256.

    Names say where something comes from and not where it lies, so that a run from a mirror and one
    from the hub's cache say the same. One that is read at two commits is named with them. Raises
    InputError where two files would have one name.
    """
    names = names_of(study.search)
    found: dict[str, dict[str, str]] = {}
    for one in inputs_of(study):
        path = Path(one.path)
        if is_brought(path):
            continue
        name, revision = names.get(path) or (written_name(study.search, path), "")
        if found.setdefault(name, {}).setdefault(revision, one.sha256) != one.sha256:
            raise InputError(
                f"{path}: two inputs with different bytes are both called {name!a} in {USED}; "
                "rename one of them"
            )
    return {
        f"{name}@{revision}" if len(at) > 1 and revision else name: {
            "revision": revision,
            "sha256": sha256,
        }
        for name, at in sorted(found.items())
        for revision, sha256 in sorted(at.items())
    }


def is_brought(path: Path) -> bool:
    """Say whether a file or folder comes with the program or a plugin, whose version is known."""
    installed = (Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib"))
    return any(path.is_relative_to(folder) for folder in (*BROUGHT, *installed))


def names_of(search: Search) -> dict[Path, tuple[str, str]]:
    """Return name and commit of the hub's folders and of the files in them, by where they lie."""
    found = {}
    for folder, at in search.folders.items():
        found[lying(folder)] = (at.name, at.revision)
        for file in folder.rglob("*"):
            found[lying(file)] = (f"{at.name}/{file.relative_to(folder)}", at.revision)
    return found


def written_name(search: Search, path: Path) -> str:
    """Return a local file's name as the study writes it, or its own where it writes none."""
    for written in sorted(search.placed):
        place = lying(search.place(written))
        if path.is_relative_to(place):
            return str(Path(written) / path.relative_to(place))
    return path.name


def recorded(folder: Path) -> dict[str, dict[str, str]]:
    """Return what the last run of a study read, nothing where no run wrote it."""
    try:
        said: dict[str, dict[str, str]] = json.loads((folder / USED).read_text(encoding="utf-8"))
        return {
            name: {key: one[key] for key in ("revision", "sha256")} for name, one in said.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # torn or of other hands: it is written anew


def changes(study: Study, folder: Path) -> list[str]:
    """Return a line for each input that differs from what the last run into a folder read."""
    before, now = recorded(folder), used(study)
    return [
        f"{name} was {as_said(before[name])} when this study ran last and is {as_said(now[name])} "
        "now: what descends from it is made anew"
        for name in now
        if name in before and before[name]["sha256"] != now[name]["sha256"]
    ]


def as_said(one: Mapping[str, str]) -> str:
    """Return a commit, or a digest where there is none, in brief."""
    return one["revision"][:12] or f"sha256 {one['sha256'][:12]}"


def record(study: Study, folder: Path) -> None:
    """Write what a study reads beside its results, unless that stands there already."""
    before, now = recorded(folder), used(study)
    if study.only:
        now = {**before, **now}
    if now != before:
        write_whole(folder / USED, json.dumps(dict(sorted(now.items())), indent=1) + "\n")
